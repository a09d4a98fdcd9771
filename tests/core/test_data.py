import contextlib
import io
import os
import random
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor
from torchvision.datasets import CIFAR10, utils

from core import InputError
from core.data import DataSet, ImageSet, cifar10, folders, load_data, source_title, synthetic
from core.data.batches import Augmentation, EpochBatches, channel_statistics, resize_set
from core.data.image_set import make_data_set, stratified_split
from tests.conftest import CIFAR10_IMAGES, needs_cifar10

Files = dict[str, bytes]
Edit = Callable[[zipfile.ZipFile], None]

NOWHERE = Path(os.devnull) / "data"  # where nothing can be written
KINDS = ("folder", "zip")
both_kinds = pytest.mark.parametrize("kind", KINDS)
CIFAR10_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """Torch's threads only wait for each other on images this small; conftest sets them back."""
    torch.set_num_threads(1)


def png(*colour: int, size: tuple[int, int] = (8, 8)) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def class_files(count: int = 10) -> Files:
    """`count` images of each of two classes, each in a colour of its own."""
    return {
        f"{name}/{i:04}.png": png(i % 256, i // 256, shade)
        for name, shade in (("dog", 200), ("cat", 100))
        for i in range(count)
    }


def split_files() -> Files:
    """Three images of each of two classes to train on, two to test on."""
    return {
        f"{part}/{name}/{i}.png": png(i, start, shade)
        for part, start, count in (("train", 0, 3), ("test", 50, 2))
        for name, shade in (("dog", 200), ("cat", 100))
        for i in range(count)
    }


LAYOUTS = {"split": split_files, "classes": class_files}


def make_folder(root: Path, files: Files) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def make_zip(path: Path, files: Files, *, deflate: bool = False, edit: Edit | None = None) -> Path:
    """Write `files`; `edit` may change what the archive's directory then claims about them."""
    method = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", method, compresslevel=1) as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
        if edit is not None:
            edit(archive)
    return path


def make(kind: str, tmp_path: Path, files: Files, name: str = "animals") -> Path:
    if kind == "folder":
        return make_folder(tmp_path / name, files)
    return make_zip(tmp_path / f"{name}.zip", files)


def load(path: Path, *, size: int = 32, data_dir: str = "data") -> DataSet:
    return load_data(str(path), size=size, data_dir=path.parent / data_dir)


def refusal(source: Path | str, data_dir: Path = NOWHERE) -> str:
    with pytest.raises(InputError) as caught:
        load_data(str(source), data_dir=data_dir)
    return one_short_line(caught.value)


def one_short_line(error: InputError) -> str:
    message = str(error)
    assert len(message.splitlines()) == 1
    assert len(message) < 500
    return message


def assert_equal_sets(one: DataSet, other: DataSet) -> None:
    for part in ("train", "test"):
        ours, theirs = getattr(one, part), getattr(other, part)
        assert torch.equal(ours.images, theirs.images)
        assert torch.equal(ours.labels, theirs.labels)
    for field in ("classes", "name", "fingerprint", "skipped"):
        assert getattr(one, field) == getattr(other, field)


def colours(images: ImageSet) -> list[tuple[int, ...]]:
    return [tuple(colour) for colour in images.images[:, :, 0, 0].tolist()]


def tree(root: Path) -> dict[str, tuple[int, int]]:
    """Every file below `root` with its size and time of change."""
    infos = {path: path.lstat() for path in root.rglob("*")}
    return {str(path): (info.st_size, info.st_mtime_ns) for path, info in infos.items() if path.is_file()}


def no_decoding(*_: object) -> DataSet:
    raise AssertionError("the source was decoded")


@both_kinds
def test_a_train_test_layout_keeps_its_split(kind: str, tmp_path: Path) -> None:
    data = load(make(kind, tmp_path, split_files()))
    assert data.classes == ("cat", "dog")
    assert data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert data.test.labels.tolist() == [0, 0, 1, 1]
    assert colours(data.train) == [(i, 0, shade) for shade in (100, 200) for i in range(3)]
    assert colours(data.test) == [(i, 50, shade) for shade in (100, 200) for i in range(2)]
    assert data.skipped == 0


@both_kinds
def test_only_class_folders_give_a_fifth_of_each_class_to_test(kind: str, tmp_path: Path) -> None:
    data = load(make(kind, tmp_path, class_files(10)))
    assert data.classes == ("cat", "dog")
    assert data.train.labels.bincount().tolist() == [8, 8]
    assert data.test.labels.bincount().tolist() == [2, 2]
    for part in (data.train, data.test):
        shades = [100 if label == 0 else 200 for label in part.labels.tolist()]
        assert [colour[2] for colour in colours(part)] == shades


@both_kinds
def test_the_fixed_split_is_the_same_twice_disjoint_and_complete(kind: str, tmp_path: Path) -> None:
    path = make(kind, tmp_path, class_files(23))
    first, second = load(path), load(path, data_dir="another")
    assert_equal_sets(first, second)
    train, test = set(colours(first.train)), set(colours(first.test))
    assert train.isdisjoint(test)
    assert len(train | test) == 46


@both_kinds
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_wrapping_folder_makes_no_difference(layout: str, kind: str, tmp_path: Path) -> None:
    files = LAYOUTS[layout]()
    wrapped = {f"my animals/{name}": data for name, data in files.items()}
    plain, inside = make(kind, tmp_path, files), make(kind, tmp_path, wrapped, "wrapped")
    assert load(plain).fingerprint == load(inside).fingerprint


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_folder_and_its_zip_are_the_same_set(layout: str, tmp_path: Path) -> None:
    folder, archive = (make(kind, tmp_path, LAYOUTS[layout]()) for kind in KINDS)
    assert load(folder).fingerprint == load(archive).fingerprint


def test_a_zip_with_entries_for_folders_works(tmp_path: Path) -> None:
    files = {"animals/": b"", "animals/cat/": b"", "animals/dog/": b""}
    files |= {f"animals/{name}": data for name, data in class_files().items()}
    data = load(make_zip(tmp_path / "animals.zip", files))
    assert data.fingerprint == load(make_zip(tmp_path / "plain.zip", class_files())).fingerprint


@both_kinds
def test_class_names_are_sorted(kind: str, tmp_path: Path) -> None:
    names = ["zebra", "Ant", "ñandú", "bee 2", "bee 10"]
    files = {f"{name}/{i}.png": png(10 * n, i, 0) for n, name in enumerate(names) for i in range(5)}
    data = load(make(kind, tmp_path, files))
    assert data.classes == tuple(sorted(names))
    for (red, _, _), label in zip(colours(data.train), data.train.labels.tolist(), strict=True):
        assert names[red // 10] == data.classes[label]


@both_kinds
@pytest.mark.parametrize("layout", LAYOUTS)
def test_hidden_files_and_macosx_copies_are_ignored(layout: str, kind: str, tmp_path: Path) -> None:
    files = {f"set/{name}": data for name, data in LAYOUTS[layout]().items()}
    rubbish = {f"__MACOSX/{Path(name).parent}/._{Path(name).name}": b"\0\5\x16\7" for name in files}
    rubbish |= {f"{Path(name).parent}/.DS_Store": b"\0\0\0\1Bud1" for name in files}
    rubbish |= {f"{Path(name).parent}/Thumbs.db": b"\xd0\xcf\x11\xe0" for name in files}
    rubbish |= {".git/objects/pack/x": b"x", "set/.cache/a.png": b"x"}
    clean, dirty = make(kind, tmp_path, files), make(kind, tmp_path, rubbish | files, "dirty")
    assert load(clean).fingerprint == load(dirty).fingerprint
    assert load(dirty).skipped == 0


@both_kinds
def test_files_outside_of_class_folders_are_ignored(kind: str, tmp_path: Path) -> None:
    extra = {"README.txt": b"About", "train/labels.csv": b"a,b", "raw/cat/deep/x.png": b"x"}
    plain = make(kind, tmp_path, split_files())
    more = make(kind, tmp_path, split_files() | extra, "more")
    assert load(plain).fingerprint == load(more).fingerprint


def encoded(mode: str, size: tuple[int, int]) -> bytes:
    buffer = io.BytesIO()
    if mode == "I;16":
        image = Image.fromarray(np.full(size[::-1], 40_000, dtype=np.uint16))
    else:
        image = Image.new("RGB", size, (200, 100, 50)).convert(mode)
    image.save(buffer, "JPEG" if mode == "CMYK" else "PNG")
    return buffer.getvalue()


@both_kinds
@pytest.mark.parametrize("size", [32, 20])
def test_any_mode_and_size_becomes_squares_of_the_size_asked(size: int, kind: str, tmp_path: Path) -> None:
    modes = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16")
    shapes = ((32, 32), (7, 90), (300, 31), (1, 1))
    files = {
        f"{name}/{mode}-{width}x{height}.img".replace(";", ""): encoded(mode, (width, height))
        for name in ("a", "b")
        for mode in modes
        for width, height in shapes
    }
    data = load(make(kind, tmp_path, files), size=size)
    assert data.skipped == 0
    assert data.image_size == size
    assert len(data.train) + len(data.test) == len(files)
    for part in (data.train, data.test):
        assert part.images.shape == (len(part), 3, size, size)
        assert part.images.dtype == torch.uint8
        assert part.labels.dtype == torch.int64


@both_kinds
def test_pictures_of_the_right_size_keep_their_exact_pixels(kind: str, tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 256, (4, 32, 32, 3), dtype=np.uint8)
    files = {}
    for i, name in enumerate(("train/a/0", "train/b/0", "test/a/0", "test/b/0")):
        buffer = io.BytesIO()
        Image.fromarray(values[i]).save(buffer, "PNG")
        files[f"{name}.png"] = buffer.getvalue()
    data = load(make(kind, tmp_path, files))
    pixels = torch.from_numpy(values).permute(0, 3, 1, 2)
    assert torch.equal(torch.cat([data.train.images, data.test.images]), pixels)


def test_progress_rises_to_the_total(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    path = make("zip", tmp_path, class_files(150))
    load_data(str(path), data_dir=tmp_path / "data", progress=lambda *call: calls.append(call))
    assert {(stage, total) for stage, _, total in calls} == {("decode", 300)}
    done = [count for _, count, _ in calls]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == 300
    assert len(calls) > 2


def test_titles_are_what_a_person_reads() -> None:
    assert source_title("cifar10") == "CIFAR-10"
    assert source_title("/some/where/animals.zip") == "animals.zip"


def test_every_class_of_two_or_more_gives_an_image_and_keeps_one() -> None:
    sizes = (2, 3, 4, 7, 100, 1000)
    labels = torch.cat([torch.full((size,), label) for label, size in enumerate(sizes)])
    for share in (0.001, 0.2, 0.999):
        first, second = stratified_split(labels, share, seed=0)
        assert torch.equal(torch.cat([first, second]).sort().values, torch.arange(len(labels)))
        for part in (first, second):
            assert torch.equal(part, part.sort().values)
            assert labels[part].bincount(minlength=len(sizes)).min() >= 1
    _, second = stratified_split(labels, 0.2, seed=0)
    assert labels[second].bincount().tolist() == [1, 1, 1, 1, 20, 200]


def test_the_seed_decides_the_split() -> None:
    labels = torch.arange(200) % 4
    first = stratified_split(labels, 0.2, seed=0)[1]
    assert torch.equal(first, stratified_split(labels, 0.2, seed=0)[1])
    assert not torch.equal(first, stratified_split(labels, 0.2, seed=1)[1])


def test_nothing_can_not_be_split() -> None:
    with pytest.raises(InputError):
        stratified_split(torch.empty(0, dtype=torch.int64), 0.2, seed=0)


def only_copy(data_dir: Path) -> Path:
    (copy,) = (data_dir / "cache").iterdir()
    return copy


@both_kinds
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_second_load_needs_no_decoding(
    layout: str, kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = LAYOUTS[layout]()
    path = make(kind, tmp_path, files)
    first = load(path)
    monkeypatch.setattr(folders, "_decode", no_decoding)
    assert_equal_sets(load(path), first)


def test_the_copy_remembers_what_was_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make("zip", tmp_path, class_files(100) | {"cat/broken.png": b"x"})
    first = load(path)
    monkeypatch.setattr(folders, "_decode", no_decoding)
    assert load(path).skipped == first.skipped == 1


@both_kinds
def test_each_size_has_its_own_copy(kind: str, tmp_path: Path) -> None:
    path = make(kind, tmp_path, class_files())
    assert [load(path, size=size).image_size for size in (32, 16, 32)] == [32, 16, 32]


def update(path: Path, before: Files, after: Files) -> None:
    """Change only what differs, as far as the kind of source allows."""
    if path.is_file():
        make_zip(path, after)
        return
    for name in before.keys() - after.keys():
        (path / name).unlink()
    changed = {name: data for name, data in after.items() if before.get(name) != data}
    make_folder(path, changed)
    for name in changed:
        os.utime(path / name, ns=(0, 12_345))


LAST = "dog/0009.png"
CHANGES: dict[str, Files] = {
    "a pixel": {LAST: png(9, 1, 200)},
    "one more": {LAST: png(9, 0, 200), "dog/0010.png": png(10, 0, 200)},
    "one less": {},
    "a name": {"dog/0000-too.png": png(9, 0, 200)},
    "a class": {"cat/0000-too.png": png(9, 0, 200)},
}


@both_kinds
@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_source_is_decoded_again(change: str, kind: str, tmp_path: Path) -> None:
    before = class_files()
    path = make(kind, tmp_path, before)
    first = load(path)
    after = {name: data for name, data in before.items() if name != LAST} | CHANGES[change]
    update(path, before, after)
    second = load(path)
    assert second.fingerprint != first.fingerprint
    assert_equal_sets(second, load(path, data_dir="another"))


@both_kinds
def test_a_rewritten_file_of_the_same_length_is_noticed(kind: str, tmp_path: Path) -> None:
    before = class_files()
    after = before | {LAST: png(200, 0, 9)}
    assert len(after[LAST]) == len(before[LAST])
    path = make(kind, tmp_path, before)
    first = load(path)
    update(path, before, after)
    assert load(path).fingerprint != first.fingerprint


def without_a_tensor(copy: Path) -> None:
    with safe_open(copy, framework="pt") as file:
        header = file.metadata()
        tensors = {name: file.get_tensor(name).clone() for name in ("train.images", "train.labels")}
    save_file(tensors, copy, metadata=header)


def with_header(copy: Path, **changes: str | None) -> None:
    with safe_open(copy, framework="pt") as file:
        header = file.metadata() | changes
        names = [f"{part}.{field}" for part in ("train", "test") for field in ("images", "labels")]
        tensors = {name: file.get_tensor(name).clone() for name in names}
    save_file(tensors, copy, metadata={key: text for key, text in header.items() if text is not None})


def as_folder(copy: Path) -> None:
    copy.unlink()
    copy.mkdir()


DAMAGES: dict[str, Callable[[Path], object]] = {
    "empty": lambda copy: copy.write_bytes(b""),
    "text": lambda copy: copy.write_text("This is not a safetensors file.\n" * 99),
    "ones": lambda copy: copy.write_bytes(b"\xff" * 5000),
    "cut in its header": lambda copy: os.truncate(copy, 20),
    "cut at its end": lambda copy: os.truncate(copy, copy.stat().st_size - 1),
    "without a tensor": without_a_tensor,
    "without its classes": lambda copy: with_header(copy, classes=None),
    "with broken classes": lambda copy: with_header(copy, classes="{"),
    "of another version": lambda copy: with_header(copy, version="0"),
    "a folder": as_folder,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_corrupt_copy_is_made_again(damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make("zip", tmp_path, class_files())
    first = load(path)
    DAMAGES[damage](only_copy(tmp_path / "data"))
    assert_equal_sets(load(path), first)
    if damage != "a folder":
        monkeypatch.setattr(folders, "_decode", no_decoding)
        assert_equal_sets(load(path), first)


def test_where_no_copy_can_be_kept_the_set_still_loads(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    assert len(load(make("zip", tmp_path, class_files())).train) == 16


def test_on_a_full_disk_the_set_still_loads(tmp_path: Path) -> None:
    resource = pytest.importorskip("resource")
    path = make("zip", tmp_path, class_files())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        data = load(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert len(data.train) == 16
    assert list((tmp_path / "data" / "cache").iterdir()) == []


def small_set() -> DataSet:
    images = torch.arange(6 * 3 * 4 * 4, dtype=torch.int64).remainder(251).to(torch.uint8)
    everything = ImageSet(images.view(6, 3, 4, 4), torch.tensor([0, 1, 0, 1, 0, 1]))
    train, test = everything.take(torch.arange(4)), everything.take(torch.arange(4, 6))
    return make_data_set(train, test, ("cat", "dog"), "small")


@pytest.mark.parametrize("part", ["train", "test"])
def test_the_fingerprint_changes_with_any_pixel_and_label(part: str) -> None:
    first = small_set().fingerprint
    assert len(first) == 16
    int(first, 16)
    assert small_set().fingerprint == first
    for field in ("images", "labels"):
        data = small_set()
        getattr(getattr(data, part), field).view(-1)[-1] ^= 1
        assert make_data_set(data.train, data.test, data.classes, "small").fingerprint != first


def test_the_fingerprint_changes_with_a_class_name_and_the_split() -> None:
    data = small_set()
    for classes in (("cat", "Dog"), ("dog", "cat"), ("cat", "dog", "emu")):
        assert make_data_set(data.train, data.test, classes, "small").fingerprint != data.fingerprint
    assert make_data_set(data.test, data.train, data.classes, "small").fingerprint != data.fingerprint


def test_the_fingerprint_does_not_depend_on_the_name_or_memory_layout() -> None:
    data = small_set()
    images = data.train.images.to(memory_format=torch.channels_last)
    other = make_data_set(ImageSet(images, data.train.labels), data.test, data.classes, "other", skipped=3)
    assert other.fingerprint == data.fingerprint


@pytest.mark.parametrize(
    "name",
    [
        *("/etc/cat.png", "//cat/x.png", "\\cat\\x.png", "cat\\x.png", "cat/..\\..\\x.png", "C:/cat/x.png"),
        *("../x.png", "cat/../../x.png", "cat/..", "cat/../x.png", "./../cat/x.png"),
    ],
)
def test_a_zip_with_an_absolute_or_parent_path_is_refused(name: str, tmp_path: Path) -> None:
    message = refusal(make_zip(tmp_path / "evil.zip", class_files() | {name: png(0, 0, 0)}))
    assert "absolute" in message or "outside" in message


def test_a_zip_with_a_link_is_refused(tmp_path: Path) -> None:
    def link(archive: zipfile.ZipFile) -> None:
        archive.infolist()[-1].external_attr = 0o120777 << 16

    files = class_files() | {"dog/x.png": b"/etc/passwd"}
    assert "has a link" in refusal(make_zip(tmp_path / "evil.zip", files, edit=link))


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    def encrypt(archive: zipfile.ZipFile) -> None:
        archive.infolist()[3].flag_bits |= 1

    assert "encrypted" in refusal(make_zip(tmp_path / "secret.zip", class_files(), edit=encrypt))


def test_a_member_of_absurd_size_is_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_zip(tmp_path / "big.zip", class_files() | {"cat/big.png": bytes(25_000_000)}, deflate=True)
    monkeypatch.setattr(folders, "_decode", no_decoding)
    message = refusal(path)
    assert "20 MB" in message
    assert "cat/big.png" in message


def test_a_zip_that_claims_200_times_its_size_is_refused(tmp_path: Path) -> None:
    def inflate(archive: zipfile.ZipFile) -> None:
        for info in archive.infolist()[:12]:
            info.file_size = 19_000_000

    message = refusal(make_zip(tmp_path / "bomb.zip", class_files(), edit=inflate))
    assert "228,00" in message


def test_a_member_that_unpacks_to_more_than_it_claims_is_not_trusted(tmp_path: Path) -> None:
    def shrink(archive: zipfile.ZipFile) -> None:
        archive.infolist()[-1].file_size = 100

    files = class_files(100) | {"dog/last.png": png(0, 0, 0) + bytes(10_000_000)}
    assert load(make_zip(tmp_path / "liar.zip", files, deflate=True, edit=shrink)).skipped == 1


@both_kinds
def test_more_members_than_the_limit_are_refused(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folders, "MAX_MEMBERS", 20)
    assert len(load(make(kind, tmp_path, class_files(10))).train) == 16
    path = make(kind, tmp_path, class_files(11), "more")
    monkeypatch.setattr(folders, "_decode", no_decoding)
    assert "more than 20 " in refusal(path)


def test_an_archive_that_says_too_much_about_its_members_is_refused(tmp_path: Path) -> None:
    def comment(archive: zipfile.ZipFile) -> None:
        for member in archive.infolist():
            member.comment = bytes(60_000)

    assert "bytes about its members" in refusal(make_zip(tmp_path / "a.zip", class_files(20), edit=comment))


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.99, 0.9999])
def test_a_truncated_zip_is_refused(share: float, tmp_path: Path) -> None:
    path = make_zip(tmp_path / "cut.zip", class_files())
    os.truncate(path, int(share * path.stat().st_size))
    assert "not a readable zip" in refusal(path)


def test_a_text_named_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.zip"
    path.write_text("This is not a zip.\n" * 99)
    assert "not a readable zip" in refusal(path)


def test_an_empty_zip_is_refused(tmp_path: Path) -> None:
    assert "no class folders" in refusal(make_zip(tmp_path / "empty.zip", {}))
    refusal(make_zip(tmp_path / "hollow.zip", {"cat/": b"", "dog/": b""}))


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no images" in refusal(tmp_path / "empty")
    (tmp_path / "hollow" / "cat").mkdir(parents=True)
    assert "no images" in refusal(tmp_path / "hollow")


@both_kinds
def test_images_without_class_folders_are_refused(kind: str, tmp_path: Path) -> None:
    files = {f"{i}.png": png(i, 0, 0) for i in range(9)}
    assert "<class>" in refusal(make(kind, tmp_path, files))


@both_kinds
@pytest.mark.parametrize("prefix", ["", "train/"])
def test_one_class_only_is_refused(prefix: str, kind: str, tmp_path: Path) -> None:
    files = {f"{prefix}cat/{i}.png": png(i, 0, 0) for i in range(9)}
    assert "1 class folder" in refusal(make(kind, tmp_path, files))


def test_too_many_classes_are_refused(tmp_path: Path) -> None:
    files = {f"{i}/x.png": b"" for i in range(1001)}
    assert "1001 class folder" in refusal(make_zip(tmp_path / "many.zip", files))


@both_kinds
def test_a_test_class_that_is_not_in_train_is_refused(kind: str, tmp_path: Path) -> None:
    message = refusal(make(kind, tmp_path, split_files() | {"test/emu/0.png": png(0, 0, 0)}))
    assert "'emu'" in message


@both_kinds
def test_a_test_folder_without_train_is_refused(kind: str, tmp_path: Path) -> None:
    files = {name: data for name, data in split_files().items() if name.startswith("test/")}
    assert "no train folder" in refusal(make(kind, tmp_path, files | {"notes/a.txt": b"x"}))


@both_kinds
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_class_folder_without_images_is_refused(layout: str, kind: str, tmp_path: Path) -> None:
    files = LAYOUTS[layout]() | {("train/" if layout == "split" else "") + "emu/deep/x.png": png(0, 0, 0)}
    assert "'emu'" in refusal(make(kind, tmp_path, files))


def test_an_empty_class_folder_is_refused(tmp_path: Path) -> None:
    path = make("folder", tmp_path, class_files())
    (path / "emu").mkdir()
    assert "'emu'" in refusal(path)
    assert "'emu'" in refusal(make_zip(tmp_path / "a.zip", class_files() | {"emu/": b""}))


@both_kinds
def test_less_than_1_percent_of_broken_files_are_skipped_and_counted(kind: str, tmp_path: Path) -> None:
    data = load(make(kind, tmp_path, class_files(100) | {"cat/0050-broken.png": b"not a picture"}))
    assert data.skipped == 1
    assert len(data.train) + len(data.test) == 200
    assert data.fingerprint == load(make(kind, tmp_path, class_files(100), "whole")).fingerprint


@both_kinds
def test_more_than_1_percent_of_broken_files_name_the_first(kind: str, tmp_path: Path) -> None:
    broken = {"cat/0050-broken.png": b"not a picture", "dog/0001-broken.png": b"", "dog/z.png": b""}
    message = refusal(make(kind, tmp_path, class_files(100) | broken))
    assert "3 files of 203" in message
    assert "'cat/0050-broken.png': not a picture" in message


def test_a_class_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    files = class_files(150) | {"emu/0.png": b"x", "emu/1.png": b"x"}
    assert "'emu'" in refusal(make_zip(tmp_path / "animals.zip", files))


def corrupt(path: Path, name: str, at: int, count: int = 1) -> None:
    """Invert bytes of the stored data of a member, counted from its start or its end."""
    with zipfile.ZipFile(path) as archive:
        info = archive.getinfo(name)
        start = info.header_offset + 30 + len(info.filename)
        size = info.compress_size
    data = bytearray(path.read_bytes())
    first = start + (at if at >= 0 else size + at)
    for place in range(first, first + count):
        data[place] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize(("deflate", "at", "count"), [(True, 0, 8), (True, 20, 8), (False, -1, 1)])
def test_a_member_that_can_not_be_unpacked_is_skipped_and_counted(
    deflate: bool, at: int, count: int, tmp_path: Path
) -> None:
    path = make_zip(
        tmp_path / "animals.zip", class_files(100) | {"dog/bad.png": png(1, 2, 3)}, deflate=deflate
    )
    corrupt(path, "dog/bad.png", at, count)
    data = load(path)
    assert data.skipped == 1
    assert len(data.train) + len(data.test) == 200


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 97])
def test_a_member_of_another_or_unknown_compression_is_skipped_and_counted(
    method: int, tmp_path: Path
) -> None:
    def claim(archive: zipfile.ZipFile) -> None:
        archive.infolist()[-1].compress_type = method

    files = class_files(100) | {"dog/bad.png": png(1, 2, 3)}
    assert load(make_zip(tmp_path / "animals.zip", files, edit=claim)).skipped == 1


def test_a_member_whose_own_header_disagrees_is_told_in_one_short_line(tmp_path: Path) -> None:
    def rename(archive: zipfile.ZipFile) -> None:
        archive.infolist()[-1].filename = "dog/y.png"

    files = class_files(3) | {"dog/" + "x" * 60_000: png(1, 2, 3)}
    assert "dog/y.png" in refusal(make_zip(tmp_path / "a.zip", files, edit=rename))


@pytest.mark.parametrize(
    "name", ["dog/" + "x" * 60_000, "dog/a\nb.png", "e" * 60_000 + "/deep/x.png", "e\nmu/deep/x.png"]
)
def test_strange_names_are_told_in_one_short_line(name: str, tmp_path: Path) -> None:
    refusal(make_zip(tmp_path / "a.zip", class_files(3) | {name: b"x"}))


def test_corrupted_zips_are_read_or_refused(tmp_path: Path) -> None:
    path = make_zip(tmp_path / "a.zip", class_files(3), deflate=True)
    good, rng, outcomes = path.read_bytes(), random.Random(0), set()
    directory = good.index(b"PK\1\2")
    for _ in range(300):
        data = bytearray(good)
        for _ in range(rng.choice([1, 1, 2, 4])):
            at = rng.randrange(0 if rng.random() < 0.3 else directory, len(data))
            data[at] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        path.write_bytes(data)
        try:
            outcomes.add(load(path, size=8).classes)
        except InputError as error:
            outcomes.add(len(str(error).splitlines()))
    assert outcomes >= {1, ("cat", "dog")}
    assert 2 not in outcomes


@both_kinds
def test_nothing_is_written_outside_of_data_dir(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, here = make(kind, tmp_path, split_files()), tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    before = tree(tmp_path)
    for _ in range(2):
        load_data(str(path), data_dir=tmp_path / "data")
    after = tree(tmp_path)
    written = {Path(name).relative_to(tmp_path).parts[:2] for name in after.keys() - before.keys()}
    assert written == {("data", "cache")}
    assert {name: after[name] for name in before} == before


def test_a_refused_zip_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    evil = {"../x.png": png(0, 0, 0), "../../y.png": png(0, 0, 0), f"{tmp_path}/z.png": png(0, 0, 0)}
    path = make_zip(tmp_path / "evil.zip", class_files() | evil)
    refusal(path, tmp_path / "data")
    assert tree(tmp_path).keys() == {str(path)}


@pytest.mark.parametrize(
    "source", ["no/such/place", "imagenet", "CIFAR10", "a\0b", "x" * 5000, "~nobody-here/x"]
)
def test_a_source_that_does_not_exist_is_refused(source: str) -> None:
    refusal(source)


def test_an_unknown_source_is_told_the_choices() -> None:
    message = refusal("imagenet")
    assert "cifar10" in message
    assert "synthetic" in message


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.timeout(5)
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.zip")
    refusal(tmp_path / "pipe.zip")


@pytest.mark.parametrize("place", ["above", "set", "class"])
def test_names_that_are_not_utf8_are_read_or_refused(place: str, tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    try:
        (tmp_path / name).mkdir()
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    files = class_files() | ({f"{name}/{i}.png": png(i, 0, 0) for i in range(9)} if place == "class" else {})
    root = tmp_path / (name if place == "above" else "plain") / (name if place == "set" else "animals")
    try:
        data = load_data(str(make_folder(root, files)), data_dir=tmp_path / "data")
    except InputError as error:
        one_short_line(error).encode()
    else:
        "".join((data.name, *data.classes)).encode()


def random_images(count: int = 64, size: int = 32) -> ImageSet:
    """Random images, each labelled by its place, so that a batch tells what it holds."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (count, 3, size, size), generator=generator, dtype=torch.uint8)
    return ImageSet(images, torch.arange(count))


def make_batches(data: ImageSet, augmentation: Augmentation, **choices: int) -> EpochBatches:
    fields = {"batch_size": 16, "seed": 1, "epoch": 0} | choices
    return EpochBatches(
        data=data, mean=torch.zeros(3), std=torch.ones(3), augmentation=augmentation, **fields
    )


def everything(batches: EpochBatches) -> tuple[Tensor, Tensor]:
    """All of an epoch, as uint8 images (N, 3, H, W) and labels (N,)."""
    images, labels = zip(*batches, strict=True)
    return torch.cat(images).mul(255).round().to(torch.uint8), torch.cat(labels)


PLAIN = Augmentation(flip="none")
FULL = Augmentation(flip="alternating", translate=4, cutout=8)


def test_batches_are_repeated_by_seed_and_epoch_alone() -> None:
    data = random_images()
    images, labels = everything(make_batches(data, FULL, seed=3, epoch=5))
    again, same_labels = everything(make_batches(data, FULL, seed=3, epoch=5))
    assert torch.equal(images, again)
    assert torch.equal(labels, same_labels)
    for choices in ({"seed": 3, "epoch": 6}, {"seed": 4, "epoch": 5}):
        assert not torch.equal(labels, everything(make_batches(data, FULL, **choices))[1])


def test_any_batch_can_be_had_without_those_before() -> None:
    data = random_images()
    images, labels = list(make_batches(data, FULL))[2]
    alone, same_labels = make_batches(data, FULL).batch(2)
    assert torch.equal(images, alone)
    assert torch.equal(labels, same_labels)


def test_two_processes_share_the_batch_of_one() -> None:
    data = random_images()
    whole = make_batches(data, FULL)
    halves = [make_batches(data, FULL, rank=rank, world=2) for rank in (0, 1)]
    assert len(whole) == len(halves[0]) == len(halves[1]) == 4
    for one, first, second in zip(whole, *halves, strict=True):
        assert len(first[0]) == len(second[0]) == 8
        for field in (0, 1):
            assert torch.equal(torch.cat([first[field], second[field]]), one[field])


def test_an_epoch_sees_each_image_at_most_once_and_leaves_the_rest() -> None:
    data = random_images(70)
    batches = make_batches(data, FULL)
    assert len(batches) == 4
    labels = everything(batches)[1].tolist()
    assert len(labels) == len(set(labels)) == 64
    left = {
        label
        for epoch in range(20)
        for label in everything(make_batches(data, FULL, epoch=epoch))[1].tolist()
    }
    assert left == set(range(70))


def test_images_and_labels_stay_together() -> None:
    data = random_images()
    images, labels = everything(make_batches(data, PLAIN))
    assert torch.equal(images, data.images[labels])
    assert not torch.equal(labels, labels.sort().values)


@pytest.mark.parametrize("augmentation", [PLAIN, FULL])
def test_batches_are_channels_last_float32(augmentation: Augmentation) -> None:
    images, labels = make_batches(random_images(), augmentation).batch(0)
    assert images.shape == (16, 3, 32, 32)
    assert images.dtype == torch.float32
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert labels.shape == (16,)
    assert labels.dtype == torch.int64


def test_batches_are_normalised_for_each_channel() -> None:
    data = random_images()
    scaled = data.images * torch.tensor([1.0, 0.5, 0.25]).view(1, 3, 1, 1)
    data = ImageSet(scaled.to(torch.uint8), data.labels)
    mean, std = map(torch.tensor, channel_statistics(data.images))
    batches = EpochBatches(data, mean, std, 64, PLAIN, seed=0, epoch=0)
    deviation, average = torch.std_mean(batches.batch(0)[0], dim=(0, 2, 3), correction=0)
    torch.testing.assert_close(average, torch.zeros(3), atol=1e-4, rtol=0)
    torch.testing.assert_close(deviation, torch.ones(3), atol=1e-4, rtol=0)


def test_the_images_are_left_as_they_were() -> None:
    data = random_images()
    before = data.images.clone()
    everything(make_batches(data, FULL))
    assert torch.equal(data.images, before)


def flipped_ones(data: ImageSet, augmentation: Augmentation, epoch: int) -> Tensor:
    """For each image by its label, whether it was mirrored; every other change is refused."""
    images, labels = everything(make_batches(data, augmentation, epoch=epoch))
    images = images[labels.argsort()]
    same = (images == data.images).flatten(1).all(1)
    mirrored = (images == data.images.flip(3)).flatten(1).all(1)
    assert torch.equal(same, ~mirrored)
    return mirrored


def test_alternating_flip_shows_the_two_sides_in_turn() -> None:
    data = random_images(256)
    epochs = [flipped_ones(data, Augmentation(flip="alternating"), epoch) for epoch in range(4)]
    assert 90 < int(epochs[0].sum()) < 166
    assert torch.equal(epochs[1], ~epochs[0])
    assert torch.equal(epochs[2], epochs[0])
    assert torch.equal(epochs[3], epochs[1])


def test_random_flip_mirrors_half_each_epoch_anew() -> None:
    data = random_images(256)
    epochs = [flipped_ones(data, Augmentation(flip="random"), epoch) for epoch in range(2)]
    for flips in epochs:
        assert 90 < int(flips.sum()) < 166
    assert 90 < int((epochs[0] ^ epochs[1]).sum()) < 166


def find_shift(image: Tensor, original: Tensor, reach: int) -> tuple[int, int]:
    """The one crop of the reflected `original` that `image` is."""
    size = image.shape[-1]
    padded = F.pad(original[None].float(), (reach,) * 4, mode="reflect")[0].to(torch.uint8)
    windows = padded.unfold(1, size, 1).unfold(2, size, 1)
    ((row, column),) = (windows == image[:, None, None]).all(-1).all(-1).all(0).nonzero().tolist()
    return row - reach, column - reach


@pytest.mark.parametrize(("size", "translate", "reach"), [(32, 4, 4), (32, 2, 2), (16, 4, 2), (24, 4, 3)])
@pytest.mark.parametrize("flip", ["none", "alternating"])
def test_translation_reflects_and_reaches_so_many_pixels(
    flip: str, size: int, translate: int, reach: int
) -> None:
    data = random_images(96, size)
    images, labels = everything(make_batches(data, Augmentation(flip=flip, translate=translate)))
    sides = data.images[labels]
    if flip == "alternating":
        mirrored = flipped_ones(data, Augmentation(flip=flip), 0)[labels]
        sides = torch.where(mirrored[:, None, None, None], sides.flip(3), sides)
    shifts = [find_shift(image, side, reach) for image, side in zip(images, sides, strict=True)]
    for axis in (0, 1):
        assert {shift[axis] for shift in shifts} == set(range(-reach, reach + 1))
    assert len(set(shifts)) > 2 * reach + 1


@pytest.mark.parametrize(("size", "cutout", "side"), [(32, 8, 8), (32, 5, 5), (16, 8, 4), (32, 1, 1)])
def test_cutout_greys_a_square_and_nothing_else(size: int, cutout: int, side: int) -> None:
    data, mean = random_images(160, size), torch.full((3,), 0.3333)
    fields = {"data": data, "mean": mean, "std": torch.full((3,), 0.25), "seed": 0, "epoch": 0}
    whole, labels = EpochBatches(batch_size=160, augmentation=PLAIN, **fields).batch(0)
    holed, same_labels = EpochBatches(
        batch_size=160, augmentation=Augmentation(flip="none", cutout=cutout), **fields
    ).batch(0)
    assert torch.equal(labels, same_labels)
    assert (whole != 0).all()
    hole = holed == 0
    assert torch.equal(holed[~hole], whole[~hole])
    assert torch.equal(hole, hole[:, :1].expand_as(hole))
    full = 0
    for mask in hole[:, 0]:
        rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
        assert 1 <= len(rows) <= side
        assert 1 <= len(columns) <= side
        assert mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()
        assert int(mask.sum()) == len(rows) * len(columns)
        for line in (rows, columns):
            assert len(line) == side or line[0] == 0 or line[-1] == size - 1
        full += len(rows) == len(columns) == side
    assert full > 40


def test_cutout_may_hide_any_pixel() -> None:
    data = ImageSet(torch.full((640, 3, 8, 8), 255, dtype=torch.uint8), torch.arange(640))
    images, _ = everything(make_batches(data, Augmentation(flip="none", cutout=4)))
    assert (images == 0).any(0).all()


def test_channel_statistics_are_exact_for_a_small_set() -> None:
    images = random_images(200).images
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, images.numpy().mean((0, 2, 3)) / 255, rtol=1e-6)
    np.testing.assert_allclose(std, images.numpy().std((0, 2, 3)) / 255, rtol=1e-6)


def test_channel_statistics_hold_for_a_large_set_sorted_by_class() -> None:
    shades = torch.arange(10, dtype=torch.uint8).mul(25).repeat_interleave(3000)
    images = shades.view(-1, 1, 1, 1).expand(-1, 3, 2, 2).contiguous()
    mean, std = channel_statistics(images)
    np.testing.assert_allclose(mean, images.numpy().mean((0, 2, 3)) / 255, atol=1e-3)
    np.testing.assert_allclose(std, images.numpy().std((0, 2, 3)) / 255, atol=1e-3)


def test_one_colour_does_not_give_a_zero_deviation() -> None:
    _, std = channel_statistics(torch.full((20, 3, 4, 4), 77, dtype=torch.uint8))
    assert min(std) > 0


def test_resizing_a_set_keeps_flat_colours_and_the_same_size_is_free() -> None:
    images = torch.tensor([0, 1, 128, 255], dtype=torch.uint8).view(4, 1, 1, 1).repeat(1, 3, 32, 32)
    assert resize_set(images, 32) is images
    for size in (8, 24, 48):
        resized = resize_set(images, size)
        assert resized.shape == (4, 3, size, size)
        assert resized.dtype == torch.uint8
        assert torch.equal(resized, images[:, :, :1, :1].expand_as(resized))


def test_the_same_seed_draws_the_same_shapes() -> None:
    first, second, other = (synthetic.draw(train_images=40, test_images=20, seed=seed) for seed in (1, 1, 2))
    assert_equal_sets(first, second)
    assert other.fingerprint != first.fingerprint


def test_a_longer_set_begins_with_the_shorter_one() -> None:
    short, long = (synthetic.draw(train_images=count, test_images=0) for count in (20, 40))
    assert torch.equal(long.train.images[:20], short.train.images)


def test_synthetic_loads_by_its_name_and_is_balanced() -> None:
    calls: list[tuple[str, int, int]] = []
    data = load_data("synthetic", size=16, progress=lambda *call: calls.append(call))
    assert data.train.images.shape == (5000, 3, 16, 16)
    assert data.train.labels.bincount().tolist() == [500] * 10
    assert data.test.labels.bincount().tolist() == [100] * 10
    assert data.classes == tuple(sorted(synthetic.CLASSES))
    assert data.name == source_title("synthetic")
    assert calls[-1] == ("draw", 6000, 6000)


def test_no_synthetic_image_is_drawn_twice() -> None:
    data = synthetic.draw(train_images=300, test_images=100)
    images = torch.cat([data.train.images, data.test.images])
    assert len(images.flatten(1).unique(dim=0)) == 400


def test_the_shape_is_not_told_by_its_colour() -> None:
    data = synthetic.draw(train_images=1500, test_images=500)
    train, test = (part.images.float().mean((2, 3)) for part in (data.train, data.test))
    centroids = torch.stack([train[data.train.labels == label].mean(0) for label in range(10)])
    guesses = torch.cdist(test, centroids).argmin(1)
    assert float((guesses == data.test.labels).float().mean()) < 0.25


@needs_cifar10
def test_the_cifar10_images_load_and_load_again_at_once(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    first = load_data(CIFAR10_IMAGES, data_dir=tmp_path, progress=lambda *call: calls.append(call))
    assert first.train.labels.bincount().tolist() == [5000] * 10
    assert first.test.labels.bincount().tolist() == [1000] * 10
    assert first.classes == CIFAR10_CLASSES
    assert first.skipped == 0
    assert calls[-1] == ("decode", 60_000, 60_000)
    assert len(calls) > 100
    mean, std = channel_statistics(first.train.images)
    np.testing.assert_allclose(mean, (0.4914, 0.4822, 0.4465), atol=2e-3)
    np.testing.assert_allclose(std, (0.2470, 0.2435, 0.2616), atol=3e-3)
    start = time.monotonic()
    second = load_data(CIFAR10_IMAGES, data_dir=tmp_path)
    assert time.monotonic() - start < 2
    assert_equal_sets(first, second)


@pytest.mark.parametrize(
    "error",
    [
        URLError("Name or service not known"),
        RuntimeError("File not found or corrupted.\nTry again."),
        OSError(),
        ConnectionResetError(104, "x" * 5000),
    ],
)
def test_without_a_network_cifar10_names_the_alternatives(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unreachable(CIFAR10):
        def __init__(self, *_: object, **__: object) -> None:
            raise error

    monkeypatch.setattr(cifar10, "CIFAR10", Unreachable)
    message = refusal("cifar10", tmp_path)
    assert "synthetic" in message
    assert "zip" in message
    assert not cifar10.is_downloaded(tmp_path)


def test_where_nothing_can_be_written_cifar10_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    monkeypatch.setattr(cifar10, "CIFAR10", FakeCifar10)
    refusal("cifar10", tmp_path / "data")


class FakeCifar10(CIFAR10):
    """What torchvision's class offers once it has downloaded, without downloading."""

    opened = 0

    def __init__(self, root: Path, train: bool, download: bool) -> None:
        type(self).opened += 1
        with contextlib.closing(utils.tqdm(total=10)) as bar:
            bar.update(4)
            bar.update(6)
        generator = np.random.default_rng(int(train))
        self.data = generator.integers(0, 256, (40 if train else 20, 32, 32, 3), dtype=np.uint8)
        self.targets = [i % 10 for i in range(len(self.data))]
        self.classes = list(CIFAR10_CLASSES)


@pytest.fixture
def fake_cifar10(monkeypatch: pytest.MonkeyPatch) -> type[FakeCifar10]:
    monkeypatch.setattr(cifar10, "CIFAR10", FakeCifar10)
    monkeypatch.setattr(FakeCifar10, "opened", 0)
    return FakeCifar10


def test_a_downloaded_cifar10_is_decoded_once(fake_cifar10: type[FakeCifar10], tmp_path: Path) -> None:
    assert not cifar10.is_downloaded(tmp_path)
    first = load_data("cifar10", data_dir=tmp_path)
    assert cifar10.is_downloaded(tmp_path)
    assert first.classes == CIFAR10_CLASSES
    assert first.train.labels.tolist() == [i % 10 for i in range(40)]
    pixels = fake_cifar10(tmp_path, train=False, download=False).data
    assert torch.equal(first.test.images, torch.from_numpy(pixels).permute(0, 3, 1, 2))
    opened = fake_cifar10.opened
    assert_equal_sets(load_data("cifar10", data_dir=tmp_path), first)
    assert fake_cifar10.opened == opened
    assert load_data("cifar10", data_dir=tmp_path, size=24).train.images.shape == (40, 3, 24, 24)


@pytest.mark.usefixtures("fake_cifar10")
def test_the_download_tells_how_far_it_is_and_no_one_elses_bar_changes(tmp_path: Path) -> None:
    calls: list[tuple[str, int, int]] = []
    bar = utils.tqdm
    load_data("cifar10", data_dir=tmp_path, progress=lambda *call: calls.append(call))
    assert calls == [("download", 4, 10), ("download", 10, 10)] * 2
    assert utils.tqdm is bar
