import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from core import InputError
from core.checkpoint import CheckpointInfo, load_checkpoint, read_info, save_checkpoint
from core.models import MODELS, create_model


def info(model: str = "simple_cnn") -> CheckpointInfo:
    return CheckpointInfo(
        model=model,
        classes=[f"class {i}" for i in range(4)],
        image_size=32,
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.2, 0.2),
        temperature=1.5,
        metrics={"accuracy": 0.5},
    )


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, create_model("simple_cnn", 4).state_dict(), info())
    return path


@pytest.mark.parametrize("name", MODELS)
def test_a_file_alone_gives_the_network_back(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create_model(name, 4).eval()
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, model.state_dict(), info(name))
    loaded = load_checkpoint(path)
    assert loaded.info == info(name)
    assert not loaded.model.training
    images = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(loaded.model(images), model(images), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("keep", [0, 4, 9, 40, 500, -4])
def test_a_truncated_file_is_refused_in_one_line(saved: Path, keep: int) -> None:
    saved.write_bytes(saved.read_bytes()[:keep])
    with pytest.raises(InputError) as caught:
        load_checkpoint(saved)
    assert "\n" not in str(caught.value)


def test_a_pickle_is_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return (Path.touch, (tmp_path / "ran",))

    for name, write in (
        ("old.pt", lambda p: p.write_bytes(pickle.dumps(Bomb()))),
        ("new.pth", lambda p: torch.save({"a": torch.zeros(1)}, p)),
    ):
        path = tmp_path / name
        write(path)
        with pytest.raises(InputError, match="pickle"):
            load_checkpoint(path)
    assert not (tmp_path / "ran").exists()


def test_a_header_of_any_length_is_read(tmp_path: Path) -> None:
    """The first byte of a file is the low byte of its header's length, here all multiples of 8."""
    path, weights, first = tmp_path / "model.safetensors", create_model("simple_cnn", 4).state_dict(), set()
    for length in range(0, 256, 8):
        named = info().model_copy(update={"data": "x" * length})
        save_checkpoint(path, weights, named)
        assert read_info(path) == named
        first.add(path.read_bytes()[0])
    assert 0x80 in first


def test_foreign_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(InputError, match="not a checkpoint of this program"):
        read_info(path)
    path.write_text("just some text, long enough to be a header")
    with pytest.raises(InputError, match="not a safetensors file"):
        read_info(path)
    path.write_bytes((10**9).to_bytes(8, "little") + b"{" + b" " * 100)
    with pytest.raises(InputError, match="header"):
        read_info(path)
    with pytest.raises(InputError, match="can't be read"):
        read_info(tmp_path / "missing.safetensors")


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_checkpoint(path, create_model("simple_cnn", 5).state_dict(), info())
    with pytest.raises(InputError, match="don't fit"):
        load_checkpoint(path)


def test_a_newer_format_says_so(saved: Path) -> None:
    newer = info().model_copy(update={"format_version": 99})
    save_checkpoint(saved, create_model("simple_cnn", 4).state_dict(), newer)
    with pytest.raises(InputError, match="newer version"):
        read_info(saved)


def test_a_failed_write_leaves_the_old_file(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = saved.read_bytes()

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("core.files.save_file", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(saved, create_model("simple_cnn", 4).state_dict(), info())
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
