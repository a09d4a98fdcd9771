"""Many pictures, one after the other, in memory that does not grow with their number."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from core.checkpoint import Checkpoint
from core.data.pictures import Frame, PictureError, cut, read_picture, to_pixels
from core.inference.classifier import Answer, classify_views, view

BATCH = 64
THUMBNAIL = 32  # pixels a side


@dataclass(frozen=True)
class Classified:
    """One picture of many: what each network says, or why it can't be used.

    Attributes:
        thumbnail: the square in the centre, (3, 32, 32) uint8, or None.
    """

    file: str
    answers: list[Answer]
    thumbnail: Tensor | None = None
    error: str | None = None


def classify_many(
    checkpoints: list[Checkpoint], pictures: Iterable[tuple[str, Callable[[], bytes | Path]]]
) -> Iterator[Classified]:
    """Classify pictures, given by name and a way to read them, in their order.

    Each is looked at once, without its mirror image, so probabilities differ a little from `classify`.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        waiting = iter(pictures)
        while some := list(islice(waiting, BATCH)):
            opened = list(pool.map(lambda entry: _open(entry[1], checkpoints), some))
            good = [views for views in opened if not isinstance(views, str)]
            answers: list[list[Answer]] = []
            if good:
                answers = [
                    classify_views(checkpoint, torch.stack([views[i] for views in good]), mirror=False)
                    for i, checkpoint in enumerate(checkpoints)
                ]
            nth = 0
            for (name, _), views in zip(some, opened, strict=True):
                if isinstance(views, str):
                    yield Classified(name, [], error=views)
                    continue
                yield Classified(name, [each[nth] for each in answers], thumbnail=views[-1])
                nth += 1


def _open(read: Callable[[], bytes | Path], checkpoints: list[Checkpoint]) -> list[Tensor] | str:
    """What each network is to see, then a thumbnail; or why there is nothing to see."""
    try:
        image: Image.Image = read_picture(read())
    except PictureError as error:
        return str(error)
    except Exception as error:  # out of a broken archive
        return f"it can't be unpacked ({type(error).__name__})"
    seen = [view(image, c.info.image_size) for c in checkpoints]
    square = cut(image, Frame(side=min(image.size) / max(image.size)))
    return [*seen, to_pixels(square, THUMBNAIL)]
