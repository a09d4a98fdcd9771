"""The one image normaliser: any picture file, any mode, to upright RGB on white, to pixels.

A picture is hostile until proven otherwise: its size in bytes and its claimed size in pixels are
checked before anything is decoded.
"""

import contextlib
import io
import math
import re
import struct
import threading
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from core import InputError

MAX_BYTES = 20 * 2**20
# Limits that keep a picture under 300 MB. Decoded, a pixel takes 4 bytes, and as many again once it is RGB.
MAX_PIXELS = 36_000_000
MAX_PIXELS_OF = {
    "JPEG": 175_000_000,  # decoded at down to 1/8 of its size; more is a bomb to Pillow
    "MPO": 175_000_000,
    "WEBP": 16_000_000,  # Pillow's decoder keeps three canvases more
    "AVIF": 18_000_000,  # planes of up to 16 bits and another canvas
    "HEIF": 25_000_000,
}
MAX_SCANNED_PIXELS = 400_000_000  # of a JPEG in several scans: each goes over the whole picture
LARGE = 8_000_000  # pixels; one such picture is decoded at a time
MAX_DECODED = 8 * 2**20  # pixels of a large picture once decoded
MAX_MARKERS = 10_000  # in a JPEG; phones write some dozens
DECODED_SIDE = 1024  # the shorter side of large pictures once decoded: much more than a network sees
BAND = 1_000_000  # pixels of a large picture that are turned to RGB at a time

FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")

try:
    import pillow_heif
except ImportError:
    pass
else:
    pillow_heif.register_heif_opener()
    FORMATS = (*FORMATS, "HEIF")

_DECODE_ERRORS = (
    OSError,
    ValueError,
    TypeError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    struct.error,
    zlib.error,
    RuntimeError,  # libavif
    Image.DecompressionBombError,
)


# Pillow warns about odd metadata; the pixels decide. Once, as a filter set for each picture is not
# safe in threads.
warnings.filterwarnings("ignore", module=r"PIL\.")


GREYS = ("I;16", "I;16L", "I;16B", "I;16N", "I", "F")  # of more than 8 bits
ORIENTATION = ExifTags.Base.Orientation


class PictureError(InputError):
    """This file can't be used as a picture."""


NOT_A_PICTURE = "not a picture; JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF work" + (
    "" if "HEIF" not in FORMATS else ", HEIC too"
)

_one_large = threading.Lock()
# Not FF 00 and FF D0 to FF D7: these are part of a scan's pixels.
_JPEG_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")


def read_picture(source: str | Path | bytes | BinaryIO, side: int = DECODED_SIDE) -> Image.Image:
    """Decode the first frame of a picture, turn it upright (EXIF) and put it on white, as RGB.

    Args:
        side: the shorter side that is needed, in pixels; a large picture may be decoded at down to that.

    Raises:
        PictureError: too large, not a picture, or broken.
    """
    data = _read_bytes(source)
    if not data:
        raise PictureError("the file is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise PictureError(NOT_A_PICTURE) from None
    except Image.DecompressionBombError:
        raise PictureError("the picture has too many pixels; it is too large") from None
    except _DECODE_ERRORS as error:
        raise PictureError(_broken(error)) from None
    pixels = image.width * image.height
    limit = MAX_PIXELS_OF.get(image.format or "", MAX_PIXELS)
    scans = _scans(image, data)
    if scans > 1:  # libjpeg then keeps the whole picture, whatever the size it is decoded at
        limit = min(MAX_PIXELS, MAX_SCANNED_PIXELS // scans)
    if pixels > limit:
        raise PictureError(
            f"{image.width} x {image.height} pixels is too large; "
            f"{limit / 1_000_000:.3g} megapixels is the limit" + (f" with {scans} scans" if scans > 1 else "")
        )
    try:
        image.draft(None, (side, side))
        large = (pixels if scans > 1 else image.width * image.height) > LARGE
        if image.width * image.height > MAX_PIXELS:  # long and narrow: draft could not shrink it
            raise PictureError("the picture has too many pixels; it is too large")
        with _one_large if large else contextlib.nullcontext():
            image.load()
            if not large:
                return _on_white(ImageOps.exif_transpose(image))
            turned = image.getexif().get(ORIENTATION, 1)
            image = _in_bands(image)
            image.getexif()[ORIENTATION] = turned
            ImageOps.exif_transpose(image, in_place=True)
            return image
    except PictureError:
        raise
    except MemoryError:
        raise PictureError("the picture needs too much memory") from None
    except _DECODE_ERRORS as error:
        raise PictureError(_broken(error)) from None


def try_picture(read: Callable[[], bytes | Path], side: int = DECODED_SIDE) -> Image.Image | str:
    """What `read_picture` gives for one file of many, or why it can't be used.

    Args:
        read: gets the file, out of an archive as well.
    """
    try:
        return read_picture(read(), side)
    except PictureError as error:
        return str(error)
    except OSError as error:
        return f"it can't be read ({str(error)[:100]})"
    except Exception as error:  # whatever zipfile and what it unpacks with raise for a broken member
        return f"it can't be unpacked ({type(error).__name__})"


def _scans(image: Image.Image, data: bytes) -> int:
    """In how many scans a JPEG's first picture comes, at least 2 if not all at once; 1 for other formats."""
    if image.format not in ("JPEG", "MPO"):
        return 1
    scans, at = 0, 2
    for _ in range(MAX_MARKERS):
        marker = _JPEG_MARKER.search(data, at)
        if marker is None:
            break
        kind, at = marker[0][1], marker.end()
        if kind == 0xD9:  # the end
            break
        if kind in (0x01, 0xD8):  # stand alone; all others tell how long they are
            continue
        if kind == 0xDA:
            scans += 1
            all_at_once = data[at + 2 : at + 3] == bytes([image.layers])
            if scans == 1 and all_at_once and not image.info.get("progressive"):
                return 1
        at += int.from_bytes(data[at : at + 2])
    else:
        raise PictureError(_broken(ValueError("too many markers")))
    return max(scans, 2)


class Frame(NamedTuple):
    """A part of a picture: its size as a fraction of the longer side, its left and top as fractions of the
    room it can move in. It is a square where the picture is wide enough; at size 1 it is all of it."""

    left: float = 0.5
    top: float = 0.5
    side: float = 1.0


WHOLE = Frame()


def cut(image: Image.Image, frame: Frame) -> Image.Image:
    """Cut a part out; what lies outside the picture is moved inside."""
    side = max(round(max(image.size) * min(max(frame.side, 0), 1)), 1)
    width, height = min(side, image.width), min(side, image.height)
    left = int((image.width - width) * min(max(frame.left, 0), 1))
    top = int((image.height - height) * min(max(frame.top, 0), 1))
    return image.crop((left, top, left + width, top + height))


def to_pixels(image: Image.Image, size: int) -> Tensor:
    """Resize an RGB picture, antialiased, all of it, whatever its proportions: (3, size, size) uint8.

    On photographs this was right more often than the square in the centre (README, "What the network sees").
    A picture that already is `size` by `size` keeps its exact pixels.
    """
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC, reducing_gap=3.0)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _read_bytes(source: str | Path | bytes | BinaryIO) -> bytes:
    if isinstance(source, bytes):
        data = source
    elif isinstance(source, str | Path):
        path = Path(source)
        try:
            there = path.exists()
        except OSError:  # too long a name
            there = False
        if not there:
            raise PictureError("there is no such file")
        if not path.is_file():
            raise PictureError("this is not a file")
        if path.stat().st_size > MAX_BYTES:
            raise PictureError(_too_many_bytes())
        try:
            data = path.read_bytes()
        except OSError as error:
            raise PictureError(f"the file can't be read ({error.strerror})") from None
    else:
        data = source.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise PictureError(_too_many_bytes())
    return data


def _too_many_bytes() -> str:
    return f"the file is too large; {MAX_BYTES // 2**20} MB is the limit"


def _broken(error: BaseException) -> str:
    reason = str(error).splitlines()[0][:100] if str(error) else type(error).__name__
    return f"the picture is broken ({reason})"


def _in_bands(image: Image.Image) -> Image.Image:
    """`_on_white` of a large picture, some rows at a time, its shorter side shrunk to about DECODED_SIDE,
    or more where that leaves too many pixels."""
    times = min(image.size) // DECODED_SIDE
    times = max(times, math.ceil(math.sqrt(image.width * image.height / MAX_DECODED)))
    whole = Image.new("RGB", (-(-image.width // times), -(-image.height // times)))
    span = _grey_span(image) if image.mode in GREYS else None
    for box in _bands(image, times):
        whole.paste(_on_white(image.crop(box), span).reduce(times), (0, box[1] // times))
    return whole


def _bands(image: Image.Image, times: int = 1) -> list[tuple[int, int, int, int]]:
    """Boxes of full rows, about BAND pixels each, and a multiple of `times` rows but for the last."""
    rows = max(BAND // image.width // times, 1) * times
    return [(0, y, image.width, min(y + rows, image.height)) for y in range(0, image.height, rows)]


def _on_white(image: Image.Image, span: tuple[float, float] | None = None) -> Image.Image:
    """Any mode to RGB; what is transparent shows white.

    Args:
        span: the values that become black and white, in greys of more than 8 bits; None: see `_grey_span`.
    """
    if image.mode in GREYS:
        low, high = span or _grey_span(image)
        with np.errstate(over="ignore"):
            scaled = (_grey_values(image) - low) * (255.0 / max(high - low, 1e-12))
        return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _grey_values(image: Image.Image) -> np.ndarray:
    """Greys of more than 8 bits as finite float32."""
    return np.nan_to_num(np.asarray(image, dtype=np.float32), nan=0.0, posinf=0.0, neginf=0.0)


def _grey_span(image: Image.Image) -> tuple[float, float]:
    """What is black and what is white: by the range of the mode, or by their own where that is unknown."""
    extremes = [(v.min(), v.max()) for v in (_grey_values(image.crop(box)) for box in _bands(image))]
    low, high = float(min(lowest for lowest, _ in extremes)), float(max(highest for _, highest in extremes))
    if image.mode == "F" and low >= 0 and high <= 1:
        return 0.0, 1.0
    if low >= 0 and high <= 255 and image.mode in ("I", "F"):
        return 0.0, 255.0
    if low >= 0 and high <= 65535:
        return 0.0, 65535.0
    return low, high
