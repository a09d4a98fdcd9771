"""Many pictures, one after the other, in memory that does not grow with their number."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor

from core.checkpoint import Checkpoint
from core.data.pictures import Frame, cut, to_pixels, try_picture
from core.inference.classifier import Answer, classify_views, view

BATCH = 64
THUMBNAIL = 32  # pixels a side
OVERSIZE = 4  # a JPEG is decoded at no less than so many times the pixels a side that a network sees


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

    Each is looked at once, without its mirror image, and large JPEGs are decoded at a part of their size, so
    probabilities differ a little from `classify`. While the networks look at some, the next ones are decoded.
    """
    waiting = iter(pictures)
    pool = ThreadPoolExecutor(os.cpu_count())

    def start_some() -> list[tuple[str, Future[list[Tensor] | str]]]:
        return [(name, pool.submit(_open, read, checkpoints)) for name, read in islice(waiting, BATCH)]

    try:
        ahead = start_some()
        while ahead:
            some, ahead = ahead, start_some()
            opened = [views.result() for _, views in some]
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
    finally:  # also where nobody asks for more
        pool.shutdown(cancel_futures=True)


def _open(read: Callable[[], bytes | Path], checkpoints: list[Checkpoint]) -> list[Tensor] | str:
    """What each network is to see, then a thumbnail; or why there is nothing to see."""
    largest = max([THUMBNAIL, *(c.info.image_size for c in checkpoints)])
    image = try_picture(read, OVERSIZE * largest)
    if isinstance(image, str):
        return image
    seen = [view(image, c.info.image_size) for c in checkpoints]
    square = cut(image, Frame(side=min(image.size) / max(image.size)))
    return [*seen, to_pixels(square, THUMBNAIL)]
