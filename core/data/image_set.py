"""What every source of images becomes, and the copy of it that is kept on disk."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from core import InputError
from core.files import save_tensors

CACHE_VERSION = "2"  # 2 sees all of a picture, not the square in its centre


@dataclass(frozen=True)
class ImageSet:
    """Images (N, 3, H, W) uint8 and their labels (N,) int64, in the same order."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: Tensor) -> "ImageSet":
        return ImageSet(self.images[indices], self.labels[indices])


@dataclass(frozen=True)
class DataSet:
    """A named set of images with its standard split.

    Attributes:
        name: the source as a person reads it.
        fingerprint: 16 hex digits that change with any pixel, label or class name.
        skipped: files that could not be decoded and were left out.
    """

    train: ImageSet
    test: ImageSet
    classes: tuple[str, ...]
    name: str
    fingerprint: str
    skipped: int = 0

    @property
    def image_size(self) -> int:
        return self.train.images.shape[-1]


def make_data_set(
    train: ImageSet, test: ImageSet, classes: tuple[str, ...], name: str, skipped: int = 0
) -> DataSet:
    """Put a set together and take its fingerprint."""
    digest = hashlib.sha256(json.dumps(classes).encode())
    for part in (train, test):
        for tensor in (part.images, part.labels):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().data)
    return DataSet(train, test, classes, name, digest.hexdigest()[:16], skipped)


def write_cache(path: Path, data: DataSet, signature: str) -> None:
    """Keep a decoded set, with the `signature` of the source it was made from."""
    header = {
        "version": CACHE_VERSION,
        "signature": signature,
        "classes": json.dumps(data.classes),
        "name": data.name,
        "fingerprint": data.fingerprint,
        "skipped": str(data.skipped),
    }
    tensors = {
        f"{part}.{field}": getattr(getattr(data, part), field).contiguous()
        for part in ("train", "test")
        for field in ("images", "labels")
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(path, tensors, header)


def read_cache(path: Path, signature: str) -> DataSet | None:
    """The set kept at `path`, or None where there is none for this `signature` of the source."""
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            if header.get("version") != CACHE_VERSION or header.get("signature") != signature:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return DataSet(
            train=ImageSet(tensors["train.images"], tensors["train.labels"]),
            test=ImageSet(tensors["test.images"], tensors["test.labels"]),
            classes=tuple(json.loads(header["classes"])),
            name=header["name"],
            fingerprint=header["fingerprint"],
            skipped=int(header["skipped"]),
        )
    except (OSError, SafetensorError, KeyError, ValueError):
        return None


def stratified_split(labels: Tensor, share: float, seed: int) -> tuple[Tensor, Tensor]:
    """Split indices so that each class gives `share` of its images to the second part.

    A class of two or more images gives at least one and keeps at least one. Both parts are sorted.

    Args:
        labels: (N,) int64.
        share: fraction of each class in the second part.
        seed: the same seed gives the same split.
    """
    generator = torch.Generator().manual_seed(seed)
    first, second = [], []
    for label in labels.unique().tolist():
        members = (labels == label).nonzero().flatten()
        members = members[torch.randperm(len(members), generator=generator)]
        count = min(max(round(share * len(members)), 1), len(members) - 1)
        second.append(members[:count])
        first.append(members[count:])
    if not first:
        raise InputError("There are no images to split.")
    return torch.cat(first).sort().values, torch.cat(second).sort().values
