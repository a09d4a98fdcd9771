import io
import math
import os
import random
import struct
import subprocess
import sys
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile, features

from core.data import pictures
from core.data.pictures import MAX_BYTES, MAX_DECODED, PictureError, read_picture, to_pixels

ROOT = Path(__file__).parents[2]
WHITE = (255, 255, 255)
FORMATS = ("JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF", "AVIF", "MPO")

# From each EXIF orientation to the transposition that undoes what a viewer does for it.
STORED_AS = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def encode(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def noise(width: int = 40, height: int = 24) -> Image.Image:
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(values)


def one_row(mode: str, *values: object) -> Image.Image:
    image = Image.new(mode, (len(values), 1))
    image.putdata(list(values))
    return image


def row_of(data: bytes) -> list[tuple[int, ...]]:
    image = read_picture(data)
    assert image.mode == "RGB"
    return [image.getpixel((x, 0)) for x in range(image.width)]


def greys_of(data: bytes) -> list[int]:
    row = row_of(data)
    assert all(len(set(pixel)) == 1 for pixel in row)
    return [pixel[0] for pixel in row]


def one_short_line(error: PictureError) -> str:
    message = str(error)
    assert len(message.splitlines()) == 1
    assert len(message) < 300
    return message


def refusal(source: str | Path | bytes) -> str:
    with pytest.raises(PictureError) as caught:
        read_picture(source)
    return one_short_line(caught.value)


def assert_read_or_refused(data: bytes) -> None:
    try:
        image = read_picture(data)
    except PictureError as error:
        one_short_line(error)
    else:
        assert image.mode == "RGB"


def png_of_size(width: int, height: int) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def jpeg_of_size(width: int, height: int) -> bytes:
    data = bytearray(encode(Image.new("L", (64, 64)), "JPEG"))
    frame = data.index(b"\xff\xc0")
    data[frame + 5 : frame + 9] = struct.pack(">HH", height, width)
    return bytes(data)


@pytest.fixture
def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(image: ImageFile.ImageFile) -> None:
        raise AssertionError(f"{image.format} was decoded")

    monkeypatch.setattr(ImageFile.ImageFile, "load", load)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", STORED_AS)
def test_every_exif_orientation_comes_out_upright(orientation: int, kind: str) -> None:
    corners = np.array([[0, 60, 120], [180, 220, 255]], dtype=np.uint8)
    upright = Image.fromarray(np.kron(corners, np.ones((16, 16), np.uint8))).convert("RGB")
    turn = STORED_AS[orientation]
    stored = upright if turn is None else upright.transpose(turn)
    exif = Image.Exif()
    exif[0x0112] = orientation
    result = read_picture(encode(stored, kind, exif=exif))
    assert result.size == upright.size
    np.testing.assert_allclose(np.asarray(result, int), np.asarray(upright, int), atol=4)


@pytest.mark.parametrize("exif", [b"rubbish", b"Exif\0\0rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff"])
def test_rubbish_in_exif_does_not_matter(exif: bytes) -> None:
    assert read_picture(encode(noise(), "JPEG", exif=exif)).size == (40, 24)


def test_transparent_rgba_is_put_on_white() -> None:
    image = one_row("RGBA", (255, 0, 0, 0), (255, 0, 0, 128), (255, 0, 0, 255))
    assert row_of(encode(image, "PNG")) == [WHITE, (255, 127, 127), (255, 0, 0)]


def test_transparent_grey_is_put_on_white() -> None:
    assert greys_of(encode(one_row("LA", (0, 0), (0, 128), (0, 255)), "PNG")) == [255, 127, 0]


@pytest.mark.parametrize("kind", ["PNG", "GIF"])
def test_a_transparent_palette_entry_is_put_on_white(kind: str) -> None:
    image = one_row("P", 0, 1)
    image.putpalette([255, 0, 0, 0, 0, 255])
    assert row_of(encode(image, kind, transparency=1)) == [(255, 0, 0), WHITE]


def test_a_palette_with_alpha_is_put_on_white() -> None:
    image = Image.new("PA", (2, 1))
    image.putpalette([255, 0, 0, 0, 0, 255])
    image.putdata([(0, 255), (1, 0)])
    data = encode(image, "TIFF")
    assert Image.open(io.BytesIO(data)).mode == "PA"
    assert row_of(data) == [(255, 0, 0), WHITE]


@pytest.mark.parametrize(("mode", "clear", "other"), [("L", 7, 200), ("RGB", (7, 8, 9), (1, 2, 3))])
def test_a_transparent_colour_is_put_on_white(mode: str, clear: object, other: object) -> None:
    data = encode(one_row(mode, clear, other), "PNG", transparency=clear)
    assert row_of(data) == [WHITE, other if isinstance(other, tuple) else (other,) * 3]


def test_transparent_webp_is_put_on_white() -> None:
    image = Image.new("RGBA", (16, 16), (0, 0, 255, 0))
    assert read_picture(encode(image, "WEBP", lossless=True)).getpixel((8, 8)) == WHITE


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_keeps_its_colours(kind: str) -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    image.paste((0, 0, 0, 255), (8, 0, 16, 16))
    result = read_picture(encode(image, kind, **({"quality": 100} if kind == "JPEG" else {})))
    np.testing.assert_allclose(result.getpixel((2, 8)), (255, 0, 0), atol=4)
    np.testing.assert_allclose(result.getpixel((13, 8)), (0, 0, 0), atol=4)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_keeps_black_middle_and_white(kind: str) -> None:
    data = encode(Image.fromarray(np.array([[0, 32768, 65535]], dtype=np.uint16)), kind)
    assert Image.open(io.BytesIO(data)).mode == "I;16"
    assert greys_of(data) == [0, 128, 255]


@pytest.mark.parametrize(
    ("values", "greys"),
    [
        ((0, 128, 255), [0, 128, 255]),
        ((0, 32768, 65535), [0, 128, 255]),
        ((-100, 0, 100), [0, 128, 255]),
        ((0, 2**30, 2**31 - 1), [0, 128, 255]),
    ],
)
def test_32_bit_grey_is_seen_over_its_range(values: tuple[int, ...], greys: list[int]) -> None:
    data = encode(Image.fromarray(np.array([values], dtype=np.int32)), "TIFF")
    assert Image.open(io.BytesIO(data)).mode == "I"
    assert greys_of(data) == greys


@pytest.mark.parametrize(
    ("values", "greys"),
    [
        ((0.0, 0.5, 1.0), [0, 128, 255]),
        ((0.0, 128.0, 255.0), [0, 128, 255]),
        ((-1.0, 0.0, 1.0), [0, 128, 255]),
        ((float("nan"), 0.0, 1.0), [0, 0, 255]),
        ((float("inf"), 0.0, 1.0), [0, 0, 255]),
        ((-3e38, 0.0, 3e38), [0, 128, 255]),
    ],
)
def test_float_grey_is_seen_over_its_range(values: tuple[float, ...], greys: list[int]) -> None:
    data = encode(Image.fromarray(np.array([values], dtype=np.float32)), "TIFF")
    assert Image.open(io.BytesIO(data)).mode == "F"
    assert greys_of(data) == greys


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_one_bit_is_black_and_white(kind: str) -> None:
    assert greys_of(encode(one_row("1", 0, 255), kind)) == [0, 255]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "TIFF"])
def test_an_animation_shows_its_first_frame(kind: str) -> None:
    first, second = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
    data = encode(first, kind, save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(data)).n_frames == 2
    np.testing.assert_allclose(read_picture(data).getpixel((8, 8)), (255, 0, 0), atol=6)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_lossless_formats_keep_their_pixels(kind: str) -> None:
    assert read_picture(encode(noise(), kind)).tobytes() == noise().tobytes()


def test_lossless_webp_keeps_its_pixels() -> None:
    assert read_picture(encode(noise(), "WEBP", lossless=True)).tobytes() == noise().tobytes()


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow has no AVIF")
def test_avif_opens() -> None:
    assert read_picture(encode(noise(), "AVIF")).size == (40, 24)


def test_a_multi_picture_jpeg_shows_its_first_picture() -> None:
    first, second = Image.new("RGB", (16, 16), "red"), Image.new("RGB", (16, 16), "blue")
    data = encode(first, "MPO", save_all=True, append_images=[second])
    assert Image.open(io.BytesIO(data)).format == "MPO"
    np.testing.assert_allclose(read_picture(data).getpixel((8, 8)), (255, 0, 0), atol=4)


def test_every_format_opens_in_a_fresh_process(tmp_path: Path) -> None:
    kinds = [kind for kind in FORMATS if kind != "AVIF" or features.check("avif")]
    for kind in kinds:
        more = {"save_all": True, "append_images": [noise()]} if kind == "MPO" else {}
        (tmp_path / kind).write_bytes(encode(noise(), kind, **more))
    code = "import sys; from core.data.pictures import read_picture as r; [r(p) for p in sys.argv[1:]]"
    paths = [str(tmp_path / kind) for kind in kinds]
    done = subprocess.run([sys.executable, "-c", code, *paths], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_path_its_bytes_and_a_stream_give_the_same(tmp_path: Path) -> None:
    path, data = tmp_path / "a.png", encode(noise(), "PNG")
    path.write_bytes(data)
    for source in (path, str(path), data, io.BytesIO(data)):
        assert read_picture(source).tobytes() == noise().tobytes()


def test_the_content_decides_and_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "really-a-png.jpg"
    path.write_bytes(encode(noise(), "PNG"))
    assert read_picture(path).size == (40, 24)


def test_a_large_jpeg_is_decoded_smaller_but_larger_than_needed() -> None:
    result = read_picture(encode(Image.new("RGB", (4000, 3000), "red"), "JPEG"))
    assert 1024 <= result.height < 3000
    assert result.width / result.height == pytest.approx(4 / 3, rel=0.01)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.png"
    path.touch()
    assert "empty" in refusal(path)
    assert "empty" in refusal(b"")


def test_a_text_named_jpg_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text.jpg"
    path.write_text("This is not a picture.\n" * 50)
    assert "not a picture" in refusal(path)


def test_a_format_that_is_not_promised_is_refused() -> None:
    assert "not a picture" in refusal(encode(noise(), "PPM"))
    assert "not a picture" in refusal(encode(noise(), "PDF"))


def test_a_directory_is_refused(tmp_path: Path) -> None:
    assert "not a file" in refusal(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.timeout(20)
def test_a_pipe_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    assert "not a file" in refusal(tmp_path / "pipe.png")


@pytest.mark.parametrize("name", ["missing.png", "missing/a.png", "x" * 5000, "a\0b"])
def test_a_missing_file_is_refused(name: str, tmp_path: Path) -> None:
    refusal(str(tmp_path / name))


def test_a_file_over_20_mb_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "huge.png"
    with open(path, "wb") as file:
        file.write(encode(noise(), "PNG"))
        file.truncate(MAX_BYTES + 1)

    def read_bytes(path: Path) -> bytes:
        raise AssertionError(f"{path} was read")

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    assert "20 MB" in refusal(path)


def test_bytes_and_streams_over_20_mb_are_refused() -> None:
    class Endless(io.RawIOBase):
        asked = 0

        def read(self, count: int = -1) -> bytes:
            assert 0 <= count <= MAX_BYTES + 1
            self.asked += count
            return bytes(count)

    stream = Endless()
    with pytest.raises(PictureError, match="20 MB"):
        read_picture(stream)
    assert stream.asked <= MAX_BYTES + 1
    assert "20 MB" in refusal(bytes(MAX_BYTES + 1))


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize("side", [7_000, 12_000, 60_000])
def test_a_pixel_bomb_is_refused_before_it_is_decoded(side: int) -> None:
    refusal(png_of_size(side, side))


@pytest.mark.usefixtures("no_decoding")
@pytest.mark.parametrize(("make", "side"), [(png_of_size, 60_000), (jpeg_of_size, 14_500)])
def test_a_pixel_bomb_is_called_too_large_and_not_broken(make: Callable[..., bytes], side: int) -> None:
    assert "too large" in refusal(make(side, side))


@pytest.mark.usefixtures("no_decoding")
def test_a_long_jpeg_that_can_only_be_decoded_whole_is_refused() -> None:
    assert "too large" in refusal(jpeg_of_size(1_500, 40_000))


LARGEST = {  # at the limit of its kind; deflate and others make little of one colour
    "rgba": lambda: encode(Image.new("RGBA", (6000, 6000), (9, 200, 30, 128)), "PNG", compress_level=1),
    "wide": lambda: encode(Image.new("RGBA", (36_000, 1000), (9, 200, 30, 128)), "PNG", compress_level=1),
    "grey": lambda: encode(Image.new("I;16", (6000, 6000), 40_000), "PNG", compress_level=1),
    "scans": lambda: encode(Image.new("RGB", (6000, 5900)), "JPEG", progressive=True, subsampling=0),
    "webp": lambda: encode(Image.new("RGBA", (4000, 4000), (9, 200, 30, 9)), "WEBP", lossless=True, method=0),
}


@pytest.mark.parametrize("kind", LARGEST)
def test_the_largest_pictures_take_less_than_300_mb(kind: str, tmp_path: Path) -> None:
    (tmp_path / "picture").write_bytes(LARGEST[kind]())
    code = (
        "import resource, sys, threading\n"
        "from core.data.pictures import read_picture as r\n"
        "from core.inference.classifier import view\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024\n"
        "before = peak(); image = r(sys.argv[1])\n"
        "two = [threading.Thread(target=view, args=(image, 32)) for _ in range(2)]\n"
        "[t.start() for t in two]; [t.join() for t in two]; print(peak() - before)"
    )
    asked = [sys.executable, "-c", code, str(tmp_path / "picture")]
    done = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) < 300


def test_a_long_picture_is_not_kept_at_its_full_size() -> None:
    assert math.prod(read_picture(LARGEST["wide"]()).size) <= MAX_DECODED


def test_a_jpeg_of_millions_of_markers_takes_no_time() -> None:
    markers = b"\xff\x01" * 5_000_000
    image = Image.new("RGB", (8, 8))
    begin = time.monotonic()
    assert "markers" in refusal(encode(image, "JPEG", progressive=True)[:-2] + markers)
    read_picture(encode(image, "JPEG")[:-2] + markers)  # what follows the one scan is not looked at
    assert time.monotonic() - begin < 1


def test_a_second_picture_in_a_jpeg_file_is_no_scan() -> None:
    """Phones keep a gain map behind the picture, as MPO; the picture may be as large as any other."""
    buffer = io.BytesIO()
    large, map_ = Image.new("RGB", (8000, 6000), "red"), Image.new("RGB", (400, 300))
    large.save(buffer, "MPO", save_all=True, append_images=[map_])
    assert Image.open(io.BytesIO(buffer.getvalue())).format == "MPO"
    assert read_picture(buffer.getvalue()).getpixel((0, 0))[0] > 250


def test_an_end_among_the_tables_hides_no_scans() -> None:
    data = encode(Image.new("RGB", (4000, 3000)), "JPEG", progressive=True)
    start = data.index(b"\xff\xda")
    comment = b"\xff\xfe\x00\x04\xff\xd9"
    assert "scans" in refusal(data[:start] + comment + (data[start:-2] + comment) * 60 + data[-2:])


def test_a_jpeg_of_many_scans_is_refused_by_the_work_it_makes() -> None:
    data = encode(Image.new("RGB", (2000, 1000), "red"), "JPEG", progressive=True)
    start = data.rfind(b"\xff\xda")
    assert read_picture(data).size == (2000, 1000)
    assert "scans" in refusal(data[:start] + data[start:-2] * 250 + data[-2:])


@pytest.mark.usefixtures("no_decoding")
def test_a_progressive_jpeg_can_not_be_as_large_as_a_plain_one() -> None:
    data = bytearray(jpeg_of_size(8000, 8000))
    at = data.find(b"\xff\xc0")
    assert at > 0
    data[at + 1] = 0xC2
    assert "too large" in refusal(bytes(data))


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA", "P", "I;16", "I", "1"])
@pytest.mark.parametrize("turn", [1, 6])
def test_a_large_picture_in_bands_is_the_same_picture(
    mode: str, turn: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    clear = {"transparency": 7} if mode == "P" else {}
    small = noise(90, 70)
    if mode in ("I;16", "I"):
        values = np.random.default_rng(0).integers(1000, 60_000, (70, 90))
        small = Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.int32))
    elif mode != "RGB":
        small = small.convert(mode)
    exif = Image.Exif()
    exif[0x0112] = turn
    data = encode(small, "TIFF" if mode == "I" else "PNG", exif=exif, **clear)
    at_once = read_picture(data)
    monkeypatch.setattr(pictures, "LARGE", 1000)
    monkeypatch.setattr(pictures, "BAND", 1000)
    assert read_picture(data).tobytes() == at_once.tobytes()
    monkeypatch.setattr(pictures, "DECODED_SIDE", 23)  # three times smaller
    shrunk = read_picture(data)
    assert shrunk.size == tuple(-(-side // 3) for side in at_once.size)
    if turn == 1:
        assert shrunk.tobytes() == at_once.reduce(3).tobytes()


def test_pictures_read_at_once_leave_the_warning_filters_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    data, original = encode(noise(), "PNG"), Image.open
    second = threading.Thread(target=read_picture, args=(data,))
    second_began, first_ended = threading.Event(), threading.Event()

    def staged(*args: object, **options: object) -> Image.Image:
        if threading.current_thread() is second:
            second_began.set()
            assert first_ended.wait(10)
        else:
            second.start()
            assert second_began.wait(10)
        return original(*args, **options)

    monkeypatch.setattr(pictures.Image, "open", staged)
    before = list(warnings.filters)
    read_picture(data)
    first_ended.set()
    second.join()
    assert list(warnings.filters) == before


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP", "TIFF"])
def test_a_truncated_picture_is_read_or_refused(kind: str) -> None:
    data = encode(noise(), kind)
    for keep in sorted({*range(1, len(data), len(data) // 40), *range(1, 40), len(data) - 1}):
        assert_read_or_refused(data[:keep])


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_half_a_picture_is_refused_as_broken(kind: str) -> None:
    data = encode(noise(), kind)
    assert "broken" in refusal(data[: len(data) // 2])


@pytest.mark.parametrize("kind", FORMATS)
def test_corrupted_bytes_are_read_or_refused(kind: str) -> None:
    if kind == "AVIF" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    exif = Image.Exif()
    exif[0x0112] = 6
    more = {"exif": exif} if kind in ("JPEG", "PNG", "WEBP") else {}
    if kind == "MPO":
        more = {"save_all": True, "append_images": [noise()]}
    good, rng = encode(noise(), kind, **more), random.Random(kind)
    for _ in range(40):
        data = bytearray(good)
        for _ in range(rng.choice([1, 1, 2, 4, 16])):
            at = rng.randrange(len(data) if rng.random() < 0.4 else min(len(data), 200))
            data[at] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
        assert_read_or_refused(bytes(data))


@pytest.mark.parametrize("size", [(1, 1), (1, 2000), (2000, 1), (3, 2)])
def test_odd_shapes_work(size: tuple[int, int]) -> None:
    image = read_picture(encode(Image.new("RGB", size, (10, 200, 30)), "PNG"))
    assert image.size == size
    pixels = to_pixels(image, 32)
    assert pixels.shape == (3, 32, 32)
    assert pixels.dtype == torch.uint8
    assert pixels.flatten(1).unique(dim=1).flatten().tolist() == [10, 200, 30]


def test_a_picture_of_the_right_size_keeps_its_exact_pixels() -> None:
    image = noise(32, 32)
    pixels = to_pixels(read_picture(encode(image, "PNG")), 32)
    assert pixels.is_contiguous()
    assert torch.equal(pixels, torch.from_numpy(np.array(image)).permute(2, 0, 1))


@pytest.mark.parametrize("side", [32, 100])
@pytest.mark.parametrize("tall", [False, True])
def test_all_of_a_picture_is_seen(tall: bool, side: int) -> None:
    image = Image.new("RGB", (side, 4 * side) if tall else (4 * side, side), "red")
    image.paste((0, 255, 0), (0, 0, side, 2 * side) if tall else (0, 0, 2 * side, side))
    green = to_pixels(image, 32)[1].float() / 255
    along = green.mean(dim=1 if tall else 0)
    assert along[:15].min() > 0.95
    assert along[17:].max() < 0.05


def test_shrinking_is_antialiased() -> None:
    stripes = np.zeros((128, 128, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    pixels = to_pixels(Image.fromarray(stripes), 32)
    assert int(pixels.min()) > 100
    assert int(pixels.max()) < 155
