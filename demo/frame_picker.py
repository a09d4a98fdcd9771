"""A picture with a frame on it that a person moves and sizes: the part that counts."""

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from demo import text
from demo.markup import jpeg_url

SHOWN_SIDE = 480  # pixels of the longer side on the page
_SCRIPT = (Path(__file__).parent / "frame_picker.js").read_text("utf-8")


class FramePicker(gr.HTML):
    """Its value is `{"picture": address or None}`; a move is a click with `{"left", "top", "side"}`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(
            value={"picture": None},
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

    def get_block_name(self) -> str:
        return "html"

    def api_info(self) -> dict[str, Any]:
        return {"type": "object"}


def shown_picture(image: Image.Image) -> dict[str, Any]:
    """The component's value for an RGB picture."""
    small = image.copy()
    small.thumbnail((SHOWN_SIDE, SHOWN_SIDE))
    return {"picture": jpeg_url(small)}
