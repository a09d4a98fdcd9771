"""CIFAR-10 itself, downloaded once by torchvision, which checks it against its checksum."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from PIL import Image
from torchvision.datasets import CIFAR10, utils

from core import InputError
from core.data.image_set import DataSet, ImageSet, make_data_set, read_cache, write_cache
from core.data.pictures import to_pixels

DOWNLOAD_MB = 170
CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


def is_downloaded(data_dir: Path) -> bool:
    """Whether CIFAR-10 is at hand, downloaded or already decoded (not checked byte by byte)."""
    return (data_dir / CIFAR10.base_folder).is_dir() or any(data_dir.glob("cache/cifar10-*"))


def load(data_dir: Path, size: int, report: Callable[[str, int, int], None]) -> DataSet:
    """Load CIFAR-10, from the decoded copy if there is one, else downloading it.

    Raises:
        InputError: it is not here and can't be downloaded.
    """
    cache = data_dir / "cache" / f"cifar10-{size}.safetensors"
    signature = CIFAR10.tgz_md5
    cached = read_cache(cache, signature)
    if cached is not None:
        return cached
    parts = []
    for train in (True, False):
        source = _open(data_dir, train, report)
        images = torch.from_numpy(source.data).permute(0, 3, 1, 2).contiguous()
        if size != images.shape[-1]:
            images = torch.stack([to_pixels(Image.fromarray(i), size) for i in source.data])
        parts.append(ImageSet(images, torch.tensor(source.targets)))
    data = make_data_set(*parts, tuple(source.classes), "CIFAR-10")
    with contextlib.suppress(OSError):  # the copy only saves time
        write_cache(cache, data, signature)
    return data


def _open(data_dir: Path, train: bool, report: Callable[[str, int, int], None]) -> CIFAR10:
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        with _download_progress(report):
            return CIFAR10(data_dir, train=train, download=True)
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a bad checksum RuntimeError
        reason = str(error).splitlines()[0][:120] if str(error) else type(error).__name__
        raise InputError(
            f"CIFAR-10 ({DOWNLOAD_MB} MB) can't be downloaded here ({reason}). "
            "Use synthetic, or the path of a folder or a zip of images."
        ) from None


@contextlib.contextmanager
def _download_progress(report: Callable[[str, int, int], None]) -> Iterator[None]:
    """Have torchvision's download tell `report` instead of drawing a bar on the terminal."""

    class Reporter:
        def __init__(self, total: int | None = None, **_: object) -> None:
            self.total, self.done = total or 0, 0

        def __enter__(self) -> "Reporter":
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def update(self, count: int) -> None:
            self.done += count
            report("download", self.done, self.total)

        def close(self) -> None:
            pass

    original = getattr(utils, "tqdm", None)
    utils.tqdm = Reporter
    try:
        yield
    finally:
        utils.tqdm = original
