"""3x3 convolutions with a quarter of the multiplications, for training in float32 on a CPU.

Winograd's minimal filtering F(4x4, 3x3) (Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks",
2016): four by four outputs are made from a tile of six by six inputs, which overlaps its neighbours by two.
Tiles and filters are transformed, multiplied as 36 matrices, and transformed back. The result differs from
the direct one by rounding only (a few millionths).

Measured with ResNet-18's layers, 2 cores (AVX2): 1.7 times as fast with 128 channels at 16 px, 1.9 with 256
at 8 px, 2.4 with 512 at 4 px. With 64 channels moving the tiles costs as much as it saves (0.8 to 1.1 for
batches of 128), until the batch outgrows the cache: 1.5 at 32 px, batch 256.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

OUT, TILE = 4, 6  # pixels a side
# Tiles a batch from which it pays, for so many channels and more. With fewer tiles transforming the filters
# costs too much.
MIN_TILES = {128: 64, 64: 16_384}
MIN_FILLED = 0.5  # share of the tiles' outputs that lies inside the image

# The matrices of Lavin & Gray, for the points 0, 1, -1, 2, -2 and infinity.
_INPUT = [
    [4, 0, -5, 0, 1, 0],
    [0, -4, -4, 1, 1, 0],
    [0, 4, -4, -1, 1, 0],
    [0, -2, -1, 2, 1, 0],
    [0, 2, -1, -2, 1, 0],
    [0, 4, 0, -5, 0, 1],
]
_FILTER = [
    [1 / 4, 0, 0],
    [-1 / 6, -1 / 6, -1 / 6],
    [-1 / 6, 1 / 6, -1 / 6],
    [1 / 24, 1 / 12, 1 / 6],
    [1 / 24, -1 / 12, 1 / 6],
    [0, 0, 1],
]
_OUTPUT = [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]


class Conv3x3(nn.Conv2d):
    """A 3x3 convolution with padding 1 and no bias; in training by Winograd's way where that is faster."""

    def __init__(self, in_channels: int, out_channels: int, stride: int = 1) -> None:
        super().__init__(in_channels, out_channels, 3, stride, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        if self.training and self.stride == (1, 1) and pays(x, self.weight):
            return conv3x3(x, self.weight)
        return super().forward(x)


def pays(x: Tensor, weight: Tensor) -> bool:
    """Whether Winograd's way is faster for images (N, C, H, W) and filters (K, C, 3, 3)."""
    if x.device.type != "cpu" or x.dtype != torch.float32 or torch.is_autocast_enabled("cpu"):
        return False
    count, _, height, width = x.shape
    tiles = count * _tiles(height) * _tiles(width)
    filled = count * height * width / (tiles * OUT * OUT)
    enough = next((least for c, least in MIN_TILES.items() if min(weight.shape[:2]) >= c), None)
    return enough is not None and tiles >= enough and filled >= MIN_FILLED


def conv3x3(x: Tensor, weight: Tensor) -> Tensor:
    """What `F.conv2d(x, weight, padding=1)` gives, (N, K, H, W) channels-last; differentiable once.

    Args:
        x: (N, C, H, W).
        weight: (K, C, 3, 3).
    """
    return _Winograd.apply(x, weight)


class _Winograd(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        y, tiles = _convolve(x, weight.permute(2, 3, 1, 0))
        ctx.save_for_backward(tiles, weight)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        tiles, weight = ctx.saved_tensors
        out_channels, channels = weight.shape[:2]
        # The images' gradient is a convolution of the output's with the filters turned by half a turn.
        grad_x, _ = _convolve(grad, weight.flip(2, 3).permute(2, 3, 0, 1))
        grads = _matrix(_OUTPUT, grad).t() @ _blocks(grad)  # (36, tiles * K)
        grad_filters = torch.bmm(tiles.transpose(1, 2), grads.view(TILE**2, -1, out_channels))
        grad_weight = _matrix(_FILTER, grad).t() @ grad_filters.view(TILE**2, -1)
        return grad_x, grad_weight.view(3, 3, channels, out_channels).permute(3, 2, 0, 1)


def _convolve(x: Tensor, filters: Tensor) -> tuple[Tensor, Tensor]:
    """Images (N, C, H, W) with filters (3, 3, C, K): (N, K, H, W), and the transformed tiles (36, T, C)."""
    channels, out_channels = filters.shape[2:]
    filters = (_matrix(_FILTER, x) @ filters.reshape(9, -1)).view(TILE**2, channels, out_channels)
    tiles = (_matrix(_INPUT, x) @ _overlapping(x)).view(TILE**2, -1, channels)
    products = torch.bmm(tiles, filters).view(TILE**2, -1)
    return _joined(_matrix(_OUTPUT, x) @ products, x.shape, out_channels), tiles


def _matrix(one_way: list[list[float]], like: Tensor) -> Tensor:
    """The transform of rows and columns at once: (out * out, in * in)."""
    matrix = like.new_tensor(one_way)
    return torch.kron(matrix, matrix)


def _tiles(side: int) -> int:
    return -(-side // OUT)


def _overlapping(x: Tensor) -> Tensor:
    """Tiles of (N, C, H, W) with the zeros around: (36, T * C), the pixels of a tile along the first."""
    count, channels, height, width = x.shape
    down, across = _tiles(height), _tiles(width)
    room = (0, 0, 1, across * OUT + 1 - width, 1, down * OUT + 1 - height)
    padded = F.pad(x.permute(0, 2, 3, 1), room)
    n, h, w, c = padded.stride()
    shape = (TILE, TILE, count, down, across, channels)
    return padded.as_strided(shape, (h, w, n, OUT * h, OUT * w, c)).reshape(TILE**2, -1)


def _blocks(y: Tensor) -> Tensor:
    """(N, K, H, W) cut into blocks of four by four: (16, T * K)."""
    count, channels, height, width = y.shape
    down, across = _tiles(height), _tiles(width)
    y = F.pad(y.permute(0, 2, 3, 1), (0, 0, 0, across * OUT - width, 0, down * OUT - height))
    return y.reshape(count, down, OUT, across, OUT, channels).permute(2, 4, 0, 1, 3, 5).reshape(OUT**2, -1)


def _joined(blocks: Tensor, shape: torch.Size, channels: int) -> Tensor:
    """The other way round: (16, T * K) to (N, K, H, W), of images of `shape`."""
    count, _, height, width = shape
    down, across = _tiles(height), _tiles(width)
    y = blocks.view(OUT, OUT, count, down, across, channels).permute(2, 3, 0, 4, 1, 5)
    y = y.reshape(count, down * OUT, across * OUT, channels)[:, :height, :width].contiguous()
    return y.permute(0, 3, 1, 2)
