"""Batches on the device: the whole set stays there as uint8, a batch is one gather.

Choosing the images, translating, flipping and turning to channels-last are one indexed read; cutout
is one mask. All choices of an epoch are drawn at once on the CPU from (seed, epoch), so that any
step can be repeated from these two numbers alone, on any device and in any process.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from core.data.image_set import ImageSet

BASE_SIZE = 32  # pixels; translation and cutout are given for images of this size


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """What is done to training images.

    Attributes:
        flip: mirror left-right: "random" for half of the images, "alternating" for one half in even
            epochs and the other half in odd ones (Jordan, airbench), or "none".
        translate: shift by up to so many pixels each way, edges reflected; for 32 px images,
            less for smaller ones in proportion.
        cutout: side of a square that is greyed out (DeVries & Taylor 2017), for 32 px, likewise.
    """

    flip: Literal["random", "alternating", "none"] = "random"
    translate: int = 0
    cutout: int = 0


def resize_set(images: Tensor, size: int) -> Tensor:
    """Resize (N, 3, H, W) uint8 to (N, 3, size, size) uint8, antialiased, on their device."""
    if images.shape[-1] == size:
        return images
    parts = [
        F.interpolate(part.float(), size=(size, size), mode="bilinear", antialias=True)
        .round_()
        .clamp_(0, 255)
        .to(torch.uint8)
        for part in images.split(4096)
    ]
    return torch.cat(parts)


def normalise(pixels: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """(N, 3, H, W) uint8 to float32 with mean 0 and deviation 1 for each channel, channels-last."""
    x = pixels.to(torch.float32, memory_format=torch.channels_last)
    scale, offset = 1 / (255 * std), -mean / std
    return torch.addcmul(offset.view(1, 3, 1, 1), x, scale.view(1, 3, 1, 1))  # one pass over memory


@dataclass(eq=False)
class EpochBatches:
    """The shuffled, augmented batches of one epoch, each of the same size; the short rest is left.

    Attributes:
        data: images on the device, already at the size wanted.
        batch_size: images a batch, over all processes.
        rank, world: this process takes its slice of each batch; choices are drawn for the whole.
    """

    data: ImageSet
    mean: Tensor
    std: Tensor
    batch_size: int
    augmentation: Augmentation
    seed: int
    epoch: int
    rank: int = 0
    world: int = 1
    _order: Tensor = field(init=False)
    _flip: Tensor | None = field(init=False, default=None)
    _shift: Tensor | None = field(init=False, default=None)
    _hole: Tensor | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        count, size = len(self.data), self.data.images.shape[-1]
        device = self.data.labels.device
        aug = self.augmentation
        draw = torch.Generator().manual_seed(_mix(self.seed, self.epoch + 1))
        self._order = torch.randperm(count, generator=draw).to(device)
        flips = torch.randint(0, 2, (count,), generator=draw, dtype=torch.bool)
        if aug.flip == "alternating":
            first = torch.Generator().manual_seed(_mix(self.seed, 0))
            flips = torch.randint(0, 2, (count,), generator=first, dtype=torch.bool)
            flips ^= bool(self.epoch % 2)
        if aug.flip != "none":
            self._flip = flips.to(device)
        reach = round(aug.translate * size / BASE_SIZE)
        if reach:
            shift = torch.randint(-reach, reach + 1, (2, count), generator=draw)
            self._shift = shift.to(device)
        if aug.cutout:
            self._hole = torch.randint(0, size, (2, count), generator=draw).to(device)
        self._hole_side = max(round(aug.cutout * size / BASE_SIZE), 1)
        # (N, H, W) int32, the bytes of a pixel side by side: one value to gather instead of three.
        padded = F.pad(self.data.images.permute(0, 2, 3, 1), (0, 1))
        self._pixels = padded.contiguous().view(torch.int32)[..., 0]
        self._axis = torch.arange(size, device=device)

    def __len__(self) -> int:
        return len(self.data) // self.batch_size

    def batch(self, index: int) -> tuple[Tensor, Tensor]:
        """Batch `index`: images (B, 3, H, W) float32 normalised and channels-last, labels (B,)."""
        share = self.batch_size // self.world
        start = index * self.batch_size + self.rank * share
        chosen = self._order[start : start + share]
        size = len(self._axis)
        rows = cols = self._axis.expand(share, size)  # (B, S)
        if self._shift is not None:
            rows = _reflect(rows + self._shift[0, chosen, None], size)
            cols = _reflect(cols + self._shift[1, chosen, None], size)
        if self._flip is not None:
            cols = torch.where(self._flip[chosen, None], size - 1 - cols, cols)
        pixels = self._pixels[chosen[:, None, None], rows[:, :, None], cols[:, None, :]]
        pixels = pixels[..., None].view(torch.uint8)[..., :3]  # (B, S, S, 3)
        images = normalise(pixels.permute(0, 3, 1, 2), self.mean, self.std)
        if self._hole is not None:
            images = images * self._cutout_mask(chosen)
        return images, self.data.labels[chosen]

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        return (self.batch(index) for index in range(len(self)))

    def _cutout_mask(self, chosen: Tensor) -> Tensor:
        """(B, 1, S, S): 0 inside each image's square, which may reach over the edge, else 1."""
        before = (self._hole_side - 1) // 2
        start = self._hole[:, chosen, None] - before  # (2, B, 1)
        inside = (self._axis >= start) & (self._axis < start + self._hole_side)  # (2, B, S)
        return ~(inside[0, :, :, None] & inside[1, :, None, :])[:, None]


def _reflect(position: Tensor, size: int) -> Tensor:
    """Positions outside 0..size-1 mirrored at the edges, without repeating the edge itself."""
    position = position.abs()
    return size - 1 - (size - 1 - position).abs()


def _mix(seed: int, stream: int) -> int:
    """One seed from two numbers, different for any two pairs met in practice."""
    return (seed * 1_000_003 + stream * 7_919 + 12_345) % 2**63


def channel_statistics(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, in 0..1, from (N, 3, H, W) uint8.

    About 10,000 evenly spaced images (sets may be sorted by class) tell them to a thousandth.
    """
    sample = images[:: -(-len(images) // 10_000)].double() / 255
    std, mean = torch.std_mean(sample, dim=(0, 2, 3), correction=0)
    return mean.tolist(), std.clamp_min(1e-3).tolist()
