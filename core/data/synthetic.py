"""Ten shapes drawn from a seed: for trying the app without a network connection, and for tests.

The class is told by the shape and never by its colour; place, scale, turn, both colours and the
noise are random. Hard enough that a network has to learn it.
"""

import math
import random
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from core.data.image_set import DataSet, ImageSet, make_data_set
from core.data.pictures import to_pixels

CLASSES = (
    "arrow",
    "circle",
    "crescent",
    "cross",
    "heart",
    "hexagon",
    "ring",
    "square",
    "star",
    "triangle",
)
TRAIN_IMAGES = 5000
TEST_IMAGES = 1000
SEED = 10
CANVAS = 128  # pixels drawn before the antialiased resize
NOISE = 22.0  # standard deviation, of 255
MIN_CONTRAST = 70.0  # distance of the two colours' brightness, of 255

Points = list[tuple[float, float]]


def draw(
    size: int = 32,
    train_images: int = TRAIN_IMAGES,
    test_images: int = TEST_IMAGES,
    seed: int = SEED,
    progress: Callable[[str, int, int], None] | None = None,
) -> DataSet:
    """Draw the set: classes in turn, so every class has the same number of images, to one."""
    total = train_images + test_images
    rng = random.Random(seed)
    noise = np.random.default_rng(seed)
    images = torch.empty(total, 3, size, size, dtype=torch.uint8)
    for i in range(total):
        images[i] = _noisy(to_pixels(_picture(i % len(CLASSES), rng), size), noise)
        if progress is not None and (i % 500 == 0 or i + 1 == total):
            progress("draw", i + 1, total)
    labels = torch.arange(total) % len(CLASSES)
    train = ImageSet(images[:train_images], labels[:train_images])
    test = ImageSet(images[train_images:], labels[train_images:])
    return make_data_set(train, test, CLASSES, "Synthetic shapes")


def _noisy(pixels: Tensor, noise: np.random.Generator) -> Tensor:
    values = pixels.numpy() + noise.normal(0, NOISE, pixels.shape)
    return torch.from_numpy(np.clip(np.rint(values), 0, 255).astype(np.uint8))


def _picture(label: int, rng: random.Random) -> Image.Image:
    ink, paper = _two_colours(rng)
    image = Image.new("RGB", (CANVAS, CANVAS), paper)
    canvas = ImageDraw.Draw(image)
    for _ in range(3):  # lines in a third colour, so that one pixel doesn't tell
        ends = [rng.uniform(0, CANVAS) for _ in range(4)]
        canvas.line(ends, fill=_colour(rng), width=rng.randint(2, 6))
    radius = rng.uniform(0.24, 0.44) * CANVAS
    centre = (rng.uniform(radius, CANVAS - radius), rng.uniform(radius, CANVAS - radius))
    turn = rng.uniform(-0.5, 0.5)  # radians

    def place(points: Points) -> Points:
        cos, sin = math.cos(turn) * radius, math.sin(turn) * radius
        return [(centre[0] + x * cos - y * sin, centre[1] + x * sin + y * cos) for x, y in points]

    def blot(colour: tuple[int, int, int], shift: float, scale: float) -> None:
        (x, y), r = place([(shift, 0)])[0], radius * scale
        canvas.ellipse([x - r, y - r, x + r, y + r], fill=colour)

    name = CLASSES[label]
    if name in ("circle", "ring", "crescent"):
        blot(ink, 0, 1)
        if name == "ring":
            blot(paper, 0, 0.55)
        elif name == "crescent":
            blot(paper, 0.45, 0.85)
    else:
        canvas.polygon(place(_OUTLINES[name]), fill=ink)
    return image


def _colour(rng: random.Random) -> tuple[int, int, int]:
    return rng.randint(0, 255), rng.randint(0, 255), rng.randint(0, 255)


def _two_colours(rng: random.Random) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    while True:
        first, second = _colour(rng), _colour(rng)
        if abs(_brightness(first) - _brightness(second)) >= MIN_CONTRAST:
            return first, second


def _brightness(colour: tuple[int, int, int]) -> float:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def _regular(corners: int, inner: float = 1.0, turn: float = -math.pi / 2) -> Points:
    """A regular polygon of radius 1, or a star where every second corner is at `inner`."""
    points = []
    for i in range(corners):
        angle = turn + 2 * math.pi * i / corners
        radius = inner if i % 2 else 1.0
        points.append((radius * math.cos(angle), radius * math.sin(angle)))
    return points


def _heart() -> Points:
    """The well-known curve x = 16 sin^3 t, y = 13 cos t - 5 cos 2t - 2 cos 3t - cos 4t, scaled."""
    points = []
    for i in range(48):
        t = 2 * math.pi * i / 48
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((math.sin(t) ** 3, -y / 16))
    return points


_OUTLINES: dict[str, Points] = {
    "arrow": [
        (1, 0), (0.15, 0.75), (0.15, 0.3), (-1, 0.3), (-1, -0.3), (0.15, -0.3), (0.15, -0.75),
    ],
    "cross": [
        (0.3, 0.3), (0.3, 1), (-0.3, 1), (-0.3, 0.3), (-1, 0.3), (-1, -0.3),
        (-0.3, -0.3), (-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3),
    ],
    "heart": _heart(),
    "hexagon": _regular(6),
    "square": _regular(4, turn=math.pi / 4),
    "star": _regular(10, inner=0.4),
    "triangle": _regular(3),
}  # fmt: skip
