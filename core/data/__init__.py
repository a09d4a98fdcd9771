"""Image sets: from a name or a path to uint8 tensors, from any source in the same form."""

from collections.abc import Callable
from pathlib import Path

from core import InputError, shown
from core.data.image_set import DataSet, ImageSet

__all__ = [
    "IMAGE_SIZE",
    "NAMED_SOURCES",
    "DataSet",
    "ImageSet",
    "Progress",
    "load_data",
    "require_source",
    "source_title",
]

IMAGE_SIZE = 32  # pixels; what all sources are resized to unless told otherwise

NAMED_SOURCES = {"cifar10": "CIFAR-10", "synthetic": "Synthetic shapes"}

# How far along: (what is being done, done, total); total may be 0 while it is unknown.
Progress = Callable[[str, int, int], None]


def source_title(source: str) -> str:
    """The name a person reads: 'CIFAR-10' for `cifar10`, the file's name for a path."""
    return NAMED_SOURCES.get(source) or Path(source).name


def load_data(
    source: str,
    *,
    size: int = IMAGE_SIZE,
    data_dir: Path = Path("data"),
    progress: Progress | None = None,
) -> DataSet:
    """Load a set of images.

    Args:
        source: `cifar10`, `synthetic`, or the path of a folder or a .zip laid out
            `train/<class>/*` and `test/<class>/*`, or only `<class>/*`.
        size: height and width to resize to, in pixels.
        data_dir: where downloads and decoded copies are kept.
        progress: called now and then with what is being done, how many are done and the total.

    Raises:
        InputError: there is no such source, or it can't be used.
    """
    from core.data import cifar10, folders, synthetic

    def report(stage: str, done: int, total: int) -> None:
        if progress is not None:
            progress(stage, done, total)

    if source == "synthetic":
        return synthetic.draw(size=size, progress=report)
    if source == "cifar10":
        return cifar10.load(data_dir, size, report)
    return folders.load(require_source(source), data_dir, size, report)


def require_source(source: str) -> Path:
    """Refuse, before anything else is done, a source that isn't there; returns its path.

    A named source is always there: its path means nothing.

    Raises:
        InputError: no such name, file or folder.
    """
    path = Path(source)
    try:
        path = path.expanduser()
        usable = source in NAMED_SOURCES or (bool(source.strip()) and (path.is_dir() or path.is_file()))
    except (OSError, RuntimeError):  # too long a name; RuntimeError: no such home folder
        usable = False
    if not usable:
        raise InputError(
            f"There is no data {shown(source)}. Give cifar10, synthetic, or the path of a folder or a zip."
        )
    return path
