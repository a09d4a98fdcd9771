"""Small harms done to a picture, to see when a network gives way."""

import io

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter
from pydantic import BaseModel, ConfigDict, Field

WORK_SIDE = 256  # pixels a side while turning and blurring, so that these are smooth


class Distortion(BaseModel):
    """How much of each; the defaults change nothing. Pixels are those the network sees.

    Attributes:
        noise: standard deviation of normal noise, of 255.
        blur: radius of a Gaussian blur in pixels.
        brightness: factor.
        quality: of a JPEG that is made of it; 100 makes none.
        rotation: degrees, counter-clockwise; corners show white.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    noise: float = Field(0, ge=0, le=128)
    blur: float = Field(0, ge=0, le=8)
    brightness: float = Field(1, ge=0, le=4)
    quality: int = Field(100, ge=1, le=100)
    rotation: float = Field(0, ge=-180, le=180)

    @property
    def changes_nothing(self) -> bool:
        return self == Distortion()


def distort(part: Image.Image, size: int, harm: Distortion) -> Image.Image:
    """An RGB picture of any proportions at the network's `size`, with the harm done, always the same."""
    side = max(WORK_SIDE, size)
    image = part.resize((side, side), Image.Resampling.BICUBIC, reducing_gap=3.0)
    if harm.rotation:
        image = image.rotate(harm.rotation, Image.Resampling.BICUBIC, fillcolor="white")
    if harm.brightness != 1:
        image = ImageEnhance.Brightness(image).enhance(harm.brightness)
    if harm.blur:
        image = image.filter(ImageFilter.GaussianBlur(harm.blur * side / size))
    image = image.resize((size, size), Image.Resampling.BICUBIC)
    if harm.noise:
        noise = np.random.default_rng(0).normal(0, harm.noise, (size, size, 3))
        image = Image.fromarray(np.clip(np.rint(np.asarray(image) + noise), 0, 255).astype(np.uint8))
    if harm.quality < 100:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=harm.quality)
        image = Image.open(buffer).convert("RGB")
    return image
