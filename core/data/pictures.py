"""The one image normaliser: any picture file, any mode, to upright RGB on white, to pixels.

A picture is hostile until proven otherwise: its size in bytes and its claimed size in pixels are
checked before anything is decoded.
"""

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from core import InputError

MAX_BYTES = 20 * 2**20
MAX_PIXELS = 36_000_000  # decoded with alpha and premultiplied: about 290 MB
MAX_JPEG_PIXELS = 200_000_000  # a JPEG can be decoded at 1/8 of its size, so more is safe
DECODED_SIDE = 1024  # large JPEGs are decoded at about this size: much more than a network sees

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


class PictureError(InputError):
    """This file can't be used as a picture."""


NOT_A_PICTURE = "not a picture; JPEG, PNG, WebP, GIF, BMP, TIFF and AVIF work"


def read_picture(source: str | Path | bytes | BinaryIO) -> Image.Image:
    """Decode the first frame of a picture, turn it upright (EXIF) and put it on white, as RGB.

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
    limit = MAX_JPEG_PIXELS if image.format in ("JPEG", "MPO") else MAX_PIXELS
    if image.width * image.height > limit:
        raise PictureError(
            f"{image.width} x {image.height} pixels is too large; "
            f"{limit // 1_000_000} megapixels is the limit"
        )
    try:
        image.draft(None, (DECODED_SIDE, DECODED_SIDE))
        if image.width * image.height > MAX_PIXELS:  # long and narrow: draft could not shrink it
            raise PictureError("the picture has too many pixels; it is too large")
        image.load()
        image = ImageOps.exif_transpose(image)
        return _on_white(image)
    except PictureError:
        raise
    except MemoryError:
        raise PictureError("the picture needs too much memory") from None
    except _DECODE_ERRORS as error:
        raise PictureError(_broken(error)) from None


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


def _on_white(image: Image.Image) -> Image.Image:
    """Any mode to RGB; what is transparent shows white."""
    if image.mode in ("I;16", "I;16L", "I;16B", "I;16N", "I", "F"):
        return _grey_to_8_bit(image).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def _grey_to_8_bit(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float greys: by the range of the mode, or by their own where it is unknown."""
    values = np.asarray(image, dtype=np.float32)
    values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(values.min()), float(values.max())
    if image.mode == "F" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    elif low >= 0 and high <= 255 and image.mode in ("I", "F"):
        low, high = 0.0, 255.0
    elif low >= 0 and high <= 65535:
        low, high = 0.0, 65535.0
    with np.errstate(over="ignore"):
        scaled = (values - low) * (255.0 / max(high - low, 1e-12))
    return Image.fromarray(np.clip(np.rint(scaled), 0, 255).astype(np.uint8))
