"""What a run shows while it learns: fixed test pictures, and the filters of its first layer."""

import math

import torch
from PIL import Image
from torch import Tensor

GAP = 1  # pixels between two filters
COLOURS = 192  # of the sheet, which is sent after every epoch and is to stay small


def side_by_side(pixels: Tensor) -> Image.Image:
    """Pictures (K, 3, H, W) uint8 in one row, K * W pixels wide."""
    return Image.fromarray(torch.cat(list(pixels), dim=2).permute(1, 2, 0).contiguous().numpy())


def filter_sheet(weight: Tensor) -> Image.Image:
    """Filters (N, 3, H, W), any scale, in a grid that is about twice as wide as high, on transparent.

    One scale for all filters of the sheet: its largest weight is the brightest, 0 is mid-grey.
    """
    count, _, height, width = weight.shape
    columns = min(math.ceil(math.sqrt(2 * count)), count)
    rows = math.ceil(count / columns)
    scaled = 127.5 + 127.5 * weight / weight.abs().max().clamp_min(1e-12)
    tiles = scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()
    sheet = Image.new("RGBA", (columns * (width + GAP) - GAP, rows * (height + GAP) - GAP))
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        sheet.paste(Image.fromarray(tile.numpy()), (column * (width + GAP), row * (height + GAP)))
    return sheet.quantize(COLOURS, method=Image.Quantize.FASTOCTREE)  # the method that keeps transparency
