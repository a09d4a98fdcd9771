"""A picture with a frame on it that a person moves and sizes: the part that counts."""

import math
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

import gradio as gr
from PIL import Image

from core.data.pictures import WHOLE, Frame
from demo import text
from demo.markup import jpeg_url

SHOWN_SIDE = 480  # pixels of the longer side on the page
_SCRIPT = (Path(__file__).parent / "frame_picker.js").read_text("utf-8")


class Framed(NamedTuple):
    """A frame, and the picture that it was chosen for."""

    of: str | None
    frame: Frame = WHOLE


class FramePicker(gr.HTML):
    """Its value is what `shown_picture` makes; what comes back is `Framed`, with a click for a move."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            value=shown_picture(None, None),
            html_template=(
                f'<p class="lab-note">{escape(text.FRAME_NOTE)}</p><div class="lab-frame">'
                f'<img alt="{escape(text.YOUR_PICTURE)}" draggable="false">'
                f'<div class="lab-frame-box" tabindex="0" role="application" '
                f'aria-label="{escape(text.FRAME_MOVE)}"></div></div>'
                f'<label class="lab-note">{escape(text.FRAME_SIZE)} '
                '<input type="range" min="0.1" max="1" step="0.01" value="1"></label>'
            ),
            js_on_load=_SCRIPT,
            apply_default_css=False,
            **options,
        )

    def preprocess(self, payload: Any) -> Framed:
        """What the page says of the frame; the whole where it makes no sense."""
        of = payload.get("of") if isinstance(payload, dict) else None
        try:
            values = [float(payload["frame"][name]) for name in Frame._fields]
        except (KeyError, TypeError, ValueError, OverflowError):
            return Framed(of)
        if not all(map(math.isfinite, values)):
            return Framed(of)
        return Framed(of, Frame(*(min(max(v, 0.0), 1.0) for v in values)))

    def get_block_name(self) -> str:
        return "html"

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


def shown_picture(image: Image.Image | None, of: str | None) -> dict[str, Any]:
    """The component's value for an RGB picture, or for none; `of` is what to know it by again."""
    if image is None:
        return {"picture": None, "of": of}
    small = image.copy()
    small.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    return {"picture": jpeg_url(small), "of": of}
