"""Labelled folders of images, on disk or inside a zip, which is read without unpacking it.

Laid out `train/<class>/*` and `test/<class>/*`, or only `<class>/*`: then a fixed fifth of each
class becomes the test set. An archive is hostile until proven otherwise.
"""

import contextlib
import hashlib
import mmap
import os
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch
from torch import Tensor

from core import InputError, shown
from core.data.image_set import (
    DataSet,
    ImageSet,
    make_data_set,
    read_cache,
    stratified_split,
    write_cache,
)
from core.data.pictures import MAX_BYTES, to_pixels, try_picture
from core.models import MAX_CLASSES

MAX_MEMBERS = 1_000_000
MAX_MEAN_ENTRY = 1000  # bytes that an archive says about a member: its name, a comment and the like
MAX_RATIO = 200  # pictures hardly shrink in a zip; a claim beyond this is a bomb
MAX_SKIPPED = 0.01  # share of files that may be undecodable
TEST_SHARE = 0.2
SPLIT_SEED = 0
CHUNK = 256  # files decoded between two reports of progress

Report = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Listing:
    """What a folder or an archive holds.

    Attributes:
        files: (path parts below the root, key to read it by), for every file.
        folders: path parts of every folder.
        signature: changes when any file is added, removed or changed.
        read: from a key to the file's bytes.
    """

    files: list[tuple[tuple[str, ...], str]]
    folders: set[tuple[str, ...]]
    signature: str
    read: Callable[[str], bytes]


@dataclass(frozen=True)
class Layout:
    """Where each image belongs: part ("train", "test" or "all") -> [(key, label)]."""

    classes: tuple[str, ...]
    parts: dict[str, list[tuple[str, int]]]


def load(path: Path, data_dir: Path, size: int, report: Report) -> DataSet:
    """Load a folder or a zip of labelled images, from the decoded copy if it is still true.

    Raises:
        InputError: not a folder or a zip, unsafe, wrongly laid out, or too many broken files.
    """
    _refuse_odd_name(str(path.resolve()))
    opener = _list_folder(path) if path.is_dir() else list_zip(path)
    with opener as listing:
        where = hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:12]
        cache = data_dir / "cache" / f"{where}-{size}.safetensors"
        cached = read_cache(cache, listing.signature)
        if cached is not None:
            return cached
        data = _decode(listing, path.name, size, report)
    with contextlib.suppress(OSError):  # the copy only saves time
        write_cache(cache, data, listing.signature)
    return data


def _decode(listing: Listing, name: str, size: int, report: Report) -> DataSet:
    layout = _find_layout(listing, name)
    total = sum(len(entries) for entries in layout.parts.values())
    done, skipped, first_reason = 0, 0, ""
    parts: dict[str, ImageSet] = {}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for part, entries in layout.parts.items():
            images = torch.empty(len(entries), 3, size, size, dtype=torch.uint8)
            kept = torch.ones(len(entries), dtype=torch.bool)
            report("decode", done, total)
            for start in range(0, len(entries), CHUNK):
                keys = [key for key, _ in entries[start : start + CHUNK]]
                results = pool.map(lambda key: _try_decode(listing, key, size), keys)
                for i, (key, result) in enumerate(zip(keys, results, strict=True), start):
                    if isinstance(result, Tensor):
                        images[i] = result
                    else:
                        kept[i] = False
                        skipped += 1
                        first_reason = first_reason or f"{shown(key)}: {result}"
                done += len(keys)
                report("decode", done, total)
            labels = torch.tensor([label for _, label in entries], dtype=torch.int64)
            parts[part] = ImageSet(images, labels) if kept.all() else ImageSet(images, labels).take(kept)
    if skipped > MAX_SKIPPED * total:
        raise InputError(
            f"'{name}' has {skipped} files of {total} that can't be read as pictures "
            f"(at most 1% may fail). The first: {first_reason}"
        )
    if "all" in parts:
        everything = parts["all"]
        train, test = stratified_split(everything.labels, TEST_SHARE, SPLIT_SEED)
        parts = {"train": everything.take(train), "test": everything.take(test)}
    missing = set(range(len(layout.classes))) - set(parts["train"].labels.unique().tolist())
    if missing:
        raise InputError(
            f"Class {shown(layout.classes[min(missing)])} in '{name}' has no training images left."
        )
    return make_data_set(parts["train"], parts["test"], layout.classes, name, skipped)


def _try_decode(listing: Listing, key: str, size: int) -> Tensor | str:
    image = try_picture(lambda: listing.read(key))
    return image if isinstance(image, str) else to_pixels(image, size)


def _find_layout(listing: Listing, name: str) -> Layout:
    files, folders = listing.files, listing.folders
    tops = {parts[0] for parts, _ in files} | {parts[0] for parts in folders}
    if len(tops) == 1 and tops.isdisjoint({"train", "test"}) and any(len(p) >= 3 for p, _ in files):
        files = [(parts[1:], key) for parts, key in files]  # one wrapping folder
        folders = {parts[1:] for parts in folders if len(parts) > 1}
        tops = {parts[0] for parts, _ in files} | {parts[0] for parts in folders}
    split = "train" in tops
    if not split and "test" in tops and any(len(parts) >= 3 for parts, _ in files):
        raise InputError(f"'{name}' has a test folder but no train folder.")
    groups: dict[tuple[str, str], list[str]] = {}
    depth = 2 if split else 1
    for parts in folders:
        if len(parts) == depth and (not split or parts[0] in ("train", "test")):
            groups[(parts[0] if split else "all", parts[-1])] = []
    for parts, key in sorted(files):
        if len(parts) == depth + 1 and (not split or parts[0] in ("train", "test")):
            groups.setdefault((parts[0] if split else "all", parts[-2]), []).append(key)
    main = "train" if split else "all"
    classes = tuple(sorted(label for part, label in groups if part == main))
    if not classes:
        raise InputError(
            f"'{name}' has no class folders. Lay images out as train/<class>/* and test/<class>/*, "
            "or as <class>/*."
        )
    if not 2 <= len(classes) <= MAX_CLASSES:
        raise InputError(f"'{name}' has {len(classes)} class folder(s); 2 to {MAX_CLASSES} are needed.")
    for label in classes:
        if not groups[(main, label)]:
            raise InputError(f"Class folder {shown(label)} in '{name}' has no images.")
    strangers = sorted({label for _, label in groups} - set(classes))
    if strangers:
        raise InputError(f"Class {shown(strangers[0])} in '{name}' is in test but not in train.")
    wanted = ("train", "test") if split else ("all",)
    return Layout(
        classes,
        {
            part: [
                (key, index) for index, label in enumerate(classes) for key in groups.get((part, label), [])
            ]
            for part in wanted
        },
    )


def _refuse_odd_name(name: str) -> None:
    try:
        name.encode()
    except UnicodeEncodeError:
        raise InputError(f"The name {shown(name)} is not in UTF-8; rename it.") from None


def is_hidden(parts: Iterable[str]) -> bool:
    """Whether it is something that a system left there."""
    return any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db", "desktop.ini") for part in parts)


@contextlib.contextmanager
def _list_folder(root: Path) -> Iterator[Listing]:
    files, folders, digest = [], set(), hashlib.sha256()

    def walk(folder: str, parts: tuple[str, ...]) -> None:
        for entry in sorted(os.scandir(folder), key=lambda e: e.name):
            here = (*parts, entry.name)
            if is_hidden([entry.name]):
                continue
            _refuse_odd_name(entry.name)
            if entry.is_dir(follow_symlinks=False):
                if len(here) <= 3:
                    folders.add(here)
                    walk(entry.path, here)
            elif entry.is_file():
                info = entry.stat()
                files.append((here, "/".join(here)))
                digest.update(repr((here, info.st_size, info.st_mtime_ns)).encode())
            if len(files) > MAX_MEMBERS:
                raise InputError(f"'{root.name}' has more than {MAX_MEMBERS:,} files.")

    try:
        walk(str(root), ())
    except OSError as error:
        raise InputError(f"The folder '{root}' can't be read ({error.strerror}).") from None
    if not files:
        raise InputError(f"The folder '{root}' has no images.")

    def read(key: str) -> bytes:
        with open(root / key, "rb") as file:
            return file.read(MAX_BYTES + 1)

    yield Listing(files, folders, digest.hexdigest(), read)


@contextlib.contextmanager
def list_zip(path: Path, max_members: int | None = None) -> Iterator[Listing]:
    """What a zip holds, which stays open for as long as the context.

    Args:
        max_members: how many files and folders it may have; None: MAX_MEMBERS.

    Raises:
        InputError: not a readable zip, or none that an honest person makes.
    """
    _refuse_too_many_members(path, max_members or MAX_MEMBERS)
    try:
        archive = zipfile.ZipFile(path)
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        raise InputError(f"'{path.name}' is not a readable zip file.") from None
    with archive:
        files, folders, digest, claimed = [], set(), hashlib.sha256(), 0
        for info in archive.infolist():
            parts = _safe_parts(info, path.name)
            claimed += info.file_size
            digest.update(repr((info.filename, info.file_size, info.CRC)).encode())
            if not parts or is_hidden(parts):
                continue
            for depth in range(1, len(parts)):
                folders.add(parts[:depth])
            if info.is_dir():
                folders.add(parts)
            else:
                files.append((parts, info.filename))
        if claimed > MAX_RATIO * max(path.stat().st_size, 2**20):
            raise InputError(f"'{path.name}' claims to unpack to {claimed:,} bytes; it is refused.")

        def read(key: str) -> bytes:
            with archive.open(key) as member:
                return member.read(MAX_BYTES + 1)

        yield Listing(files, folders, digest.hexdigest(), read)


def _safe_parts(info: zipfile.ZipInfo, archive: str) -> tuple[str, ...]:
    """The member's path, taken apart; raises InputError for one that no honest archive has."""
    name = info.filename
    shown = name[:80]
    if name.startswith(("/", "\\")) or "\\" in name or ":" in name.split("/")[0]:
        raise InputError(f"'{archive}' has a member with an absolute path ({shown!r}); it is refused.")
    parts = PurePosixPath(name).parts
    if ".." in parts:
        raise InputError(f"'{archive}' has a member outside of itself ({shown!r}); it is refused.")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise InputError(f"'{archive}' has a link ({shown!r}); it is refused.")
    if info.flag_bits & 0x1:
        raise InputError(f"'{archive}' is encrypted.")
    if info.file_size > MAX_BYTES:
        raise InputError(
            f"'{archive}' has a member of {info.file_size:,} bytes ({shown!r}); "
            f"{MAX_BYTES // 2**20} MB is the limit."
        )
    return parts


def _refuse_too_many_members(path: Path, most: int) -> None:
    """Look at the central directory before zipfile reads all of it into memory."""
    try:
        with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view:
            count, size, at = 0, 0, view.find(b"PK\x01\x02")
            while at >= 0:
                count += 1
                if count > most:
                    raise InputError(f"'{path.name}' has more than {most:,} members.")
                # Name, extra field and comment have two bytes each that tell how long they are.
                size += sum(int.from_bytes(view[at + i : at + i + 2], "little") for i in (28, 30, 32))
                at = view.find(b"PK\x01\x02", at + 46)
            if size > MAX_MEAN_ENTRY * (count + 100):
                raise InputError(f"'{path.name}' says {size:,} bytes about its members; it is refused.")
    except InputError:
        raise
    except (OSError, ValueError):  # ValueError: an empty file can't be mapped
        raise InputError(f"'{path.name}' is not a readable zip file.") from None
