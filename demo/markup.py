"""Pieces of markup that several tabs show; everything that is not ours is escaped here."""

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image
from torch import Tensor

from demo import text


def png_url(image: Image.Image) -> str:
    """A picture as an address that holds it."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def jpeg_url(image: Image.Image) -> str:
    """A photograph as an address that holds it; smaller than a PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def as_image(pixels: Tensor) -> Image.Image:
    """(3, H, W) uint8 as a picture."""
    return Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())


def bars(predictions: Sequence[tuple[str, float]], colour: str, truth: str | None = None) -> str:
    """A bar for each (class, probability); the truth, if it is known and among them, is marked."""
    items = "".join(
        f'<li{" class=lab-truth" if label == truth else ""}><span class="lab-class">{escape(label)}</span>'
        f'<span class="lab-bar"><i style="width:{p * 100:.1f}%;background:{colour}"></i></span>'
        f'<span class="lab-number">{text.percent(p)}</span></li>'
        for label, p in predictions
    )
    return f'<ol class="lab-bars">{items}</ol>'


def progress_bar(share: float) -> str:
    percent = min(max(share, 0), 1) * 100
    return (
        f'<div class="lab-progress" role="progressbar" aria-valuenow="{percent:.0f}" aria-valuemin="0" '
        f'aria-valuemax="100"><i style="width:{percent:.1f}%"></i></div>'
    )


def button(action: str, words: str) -> str:
    """A button that arrives as a click event with this action."""
    return f'<button type="button" data-action="{action}">{escape(words)}</button>'
