"""Hundreds of hostile or odd files, made from a seed: each gets an answer or one plain sentence."""

import io
import random
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from PIL import Image

from core import InputError
from core.checkpoint import CheckpointInfo, save_checkpoint
from core.models import create_model
from demo.answers import Question
from demo.lab import Lab
from demo.many import classify_files
from demo.tabs import classify

NAME = "simple_cnn"
SECONDS, MEGABYTES = 5, 300  # that one file may take
ODD_NAMES = (
    "quote'\".png", "<b>bold<b>.png", "&amp;.png", "=cmd.png", "-rf.png", "a\tb.png", "line\nbreak.png",
    "\x1b[31m.png", "%2e%2e%2f.png", "..png", ".png", " .png", "CON.png", "ünïcode☃.png", "\u202egnp.png",
    "x" * 240 + ".png", "noend", "many.dots.in.it.png", "`id`.png", "$(id).png", "{0}.png", "a;b.png",
)  # fmt: skip


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """An app with one network, with random weights."""
    lab = Lab(tmp_path / "runs", shipped=tmp_path / "checkpoints")
    lab.shipped_dir.mkdir()
    torch.manual_seed(0)
    info = CheckpointInfo(
        model=NAME, classes=[f"class {i}" for i in range(10)], image_size=32, mean=(0.5,) * 3, std=(0.2,) * 3
    )
    save_checkpoint(lab.shipped_dir / f"{NAME}.safetensors", create_model(NAME).state_dict(), info)
    return lab


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: object) -> bytes:
    out = io.BytesIO()
    noise = random.Random(f"{kind}{mode}{size}").randbytes(size[0] * size[1] * 3)
    Image.frombytes("RGB", size, noise).convert(mode).save(out, kind, **options)
    return out.getvalue()


def png(width: int, height: int, data: bytes = b"", depth: int = 8, colour: int = 2) -> bytes:
    """A PNG that claims a size, whatever its data."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(data))
        + chunk(b"IEND", b"")
    )


def hostile_files() -> Iterator[tuple[str, bytes]]:
    """Name and content of each."""
    chance = random.Random(20261124)
    kinds = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF")
    for kind in kinds:
        whole = encoded(kind)
        for i in range(16):  # cut off at every sixteenth
            yield f"cut-{i}.{kind.lower()}", whole[: len(whole) * i // 16]
        for i in range(12):
            broken = bytearray(whole)
            for _ in range(8):
                broken[chance.randrange(len(broken))] = chance.randrange(256)
            yield f"broken-{i}.{kind.lower()}", bytes(broken)
        for other in kinds:
            if other != kind:
                yield f"really-{kind}.{other.lower()}", whole
    for size in ((1, 1), (1, 20_000), (20_000, 1), (3, 2)):
        yield f"{size[0]}x{size[1]}.png", encoded("PNG", size=size)
    for width, height in (
        (60_000, 60_000),
        (2**31 - 1, 2**31 - 1),
        (2**31 - 1, 1),
        (0, 0),
        (0, 5),
        (1, 2**30),
    ):
        yield f"claims-{width}x{height}.png", png(width, height)
    yield "bomb.png", png(30_000, 30_000, bytes(30_000))
    yield "too-little-data.png", png(500, 500, bytes(1000))
    yield "too-much-data.png", png(4, 4, bytes(5_000_000))
    for depth, colour in ((16, 0), (16, 2), (16, 6), (1, 0), (3, 2), (8, 7)):
        yield f"depth-{depth}-{colour}.png", png(8, 8, bytes(8 * 8 * 8 + 8), depth, colour)
    for mode in ("L", "1", "P", "LA", "PA", "RGBA", "I", "I;16", "F", "CMYK", "YCbCr", "LAB"):
        for kind in ("PNG", "TIFF", "JPEG", "WEBP"):
            try:
                yield f"{mode.replace(';', '')}.{kind.lower()}", encoded(kind, mode)
            except (OSError, ValueError):
                continue  # no such pair
    for turn in range(0, 10):
        exif = Image.Exif()
        exif[0x0112] = turn
        yield f"turned-{turn}.jpg", encoded("JPEG", exif=exif)
    for rubbish in (b"", b"Exif\0\0", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"):
        yield f"exif-{len(rubbish)}.jpg", encoded("JPEG", exif=rubbish)
    frames = [Image.new("P", (300, 300), i) for i in range(60)]
    out = io.BytesIO()
    frames[0].save(out, "GIF", save_all=True, append_images=frames[1:])
    yield "many-frames.gif", out.getvalue()
    claims = bytearray(encoded("GIF"))
    claims[6:10] = struct.pack("<HH", 65_535, 65_535)
    yield "huge.gif", bytes(claims)
    yield "drawing.svg", b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
    yield "entities.svg", b'<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]><svg>&a;</svg>'
    yield "text.png", b"not a picture\n" * 50
    yield "zeros.jpg", bytes(10_000)
    yield "ones.jpg", b"\xff" * 10_000
    yield "page.html", b"<html><script>alert(1)</script></html>"
    yield "archive.png", b"PK\x03\x04" + chance.randbytes(200)
    yield "program.png", b"\x7fELF" + chance.randbytes(200)
    yield "script.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(/etc/passwd) run\n"
    yield "paper.pdf", b"%PDF-1.4\n1 0 obj <<>> endobj\n"
    yield "both.png", encoded("PNG") + b"PK\x05\x06" + bytes(18)
    yield "both.gif", encoded("GIF") + b"<script>alert(1)</script>"
    yield "both.jpg", b"\xff\xd8\xff\xe0\0\x10JFIF" + b"<?php system('id'); ?>" + encoded("JPEG")
    for name in ODD_NAMES:
        yield name, encoded("PNG")


def test_there_are_enough_of_them() -> None:
    assert len(list(hostile_files())) >= 200


@pytest.mark.timeout(300)
def test_every_hostile_file_gets_an_answer_or_one_sentence(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    folder.mkdir()
    answered = refused = 0
    for name, content in hostile_files():
        path = folder / name
        path.write_bytes(content)
        before, start = forget_peak(), time.monotonic()
        try:
            said = classify.classify_file(lab, str(path), NAME)
            answered += 1
            assert sum(said["probabilities"].values()) <= 1.0001, name
        except InputError as error:
            refused += 1
            sentence = str(error)
            assert 10 < len(sentence) < 200, name
            assert sentence.isprintable(), name
            assert "Traceback" not in sentence, name
            assert str(folder) not in sentence, name
        shown, _ = classify.show_answer(lab, str(path), Question((NAME,)))
        assert "<script" not in shown.lower(), name
        assert "lab-error" in shown or "lab-verdict" in shown, name
        assert time.monotonic() - start < SECONDS, name
        assert peak_mb() - before < MEGABYTES, name
        path.unlink()
    assert list(folder.iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoints", "uploads"]
    assert answered > 60
    assert refused > 60


def test_many_files_at_once_survive_the_hostile_ones(lab: Lab, tmp_path: Path) -> None:
    folder = tmp_path / "uploads"
    folder.mkdir()
    files = []
    for i, (name, content) in enumerate(hostile_files()):
        path = folder / str(i) / name
        path.parent.mkdir()
        path.write_bytes(content)
        files.append(str(path))
    out = tmp_path / "answers.csv"
    shown = classify_files(lab, [NAME], files, out, lambda *_: None)
    assert "<b>bold" not in shown
    assert "<script" not in shown
    table = out.read_text("utf-8")
    assert table.count("class ") > 60
    assert "\n=cmd" not in table


def forget_peak() -> float:
    """Megabytes that this process has now; `peak_mb` counts anew from here (Linux; see proc(5))."""
    Path("/proc/self/clear_refs").write_text("5")
    return peak_mb()


def peak_mb() -> float:
    """The most megabytes that this process has had since `forget_peak`."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024
