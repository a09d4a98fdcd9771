"""The Classify tab: a picture goes in, what the network takes it for comes out."""

from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData
from PIL import Image

from core import InputError
from core.data.pictures import PictureError, read_picture, to_pixels
from core.inference import Answer, classify
from demo import text
from demo.charts import NETWORK_COLOURS, SECOND
from demo.lab import Lab
from demo.markup import as_image, bars, png_url
from demo.tabs.results import checkpoint_choices

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"  # drawn by examples/draw.py
TOP = 5


class PictureInput(gr.Image):
    """A `gr.Image` that hands on the path of the file: our own normaliser is the first to decode it."""

    def preprocess(self, payload: ImageData | None) -> str | None:
        return payload.path if payload is not None else None

    def get_block_name(self) -> str:
        return "image"


def classify_file(lab: Lab, path: str | None, name: str | None, top: int = TOP) -> dict[str, Any]:
    """Classify a picture file with the checkpoint `name`.

    Returns:
        `{"label", "verdict", "probabilities": {class: p, best first}, "in_distribution_score"}`

    Raises:
        InputError: no picture, a bad one, or no such checkpoint.
    """
    answer, _ = _answer(lab, path, name)
    return {
        "label": answer.predictions[0][0],
        "verdict": answer.verdict,
        "probabilities": dict(answer.predictions[: max(int(top), 1)]),
        "in_distribution_score": answer.in_distribution_score,
    }


def _answer(lab: Lab, path: str | None, name: str | None) -> tuple[Answer, Image.Image]:
    if not path:
        raise InputError(text.NO_PICTURE)
    if not name:
        raise InputError(text.NO_CHECKPOINTS)
    checkpoint = lab.checkpoint(name)
    try:
        image = read_picture(path)
    except PictureError as error:
        raise InputError(text.BAD_PICTURE.format(reason=error)) from None
    return classify(checkpoint, image), image


def show_answer(lab: Lab, path: str | None, name: str | None) -> str:
    """Markup: the verdict in words, a bar for each of the best classes, and what the network sees."""
    if not path or not name:
        return f'<p class="lab-empty">{escape(text.EXPLAIN if name else text.NO_CHECKPOINTS)}</p>'
    try:
        answer, image = _answer(lab, path, name)
        info = lab.info(name)
    except InputError as error:
        return f'<p class="lab-error" role="alert">{escape(str(error))}</p>'
    (first, _), (second, _) = answer.predictions[:2]
    sentence = {"sure": text.SURE, "unsure": text.UNSURE, "none": text.NONE}[answer.verdict]
    verdict = escape(sentence.format(a=first, b=second))
    rows = bars(answer.predictions[:TOP], NETWORK_COLOURS.get(info.model, SECOND))
    seen = png_url(as_image(to_pixels(image, info.image_size)))
    caption = escape(text.SEES.format(size=info.image_size))
    return (
        f'<p class="lab-verdict" role="status">{verdict}</p>{rows}'
        f'<figure class="lab-sees"><img src="{seen}" alt="{caption}">'
        f"<figcaption>{caption}</figcaption></figure>"
    )


def build(lab: Lab) -> dict[str, gr.components.Component]:
    """Lay the tab out; returns the parts that the page has to fill when it is opened."""
    with gr.Row(elem_classes="lab-columns"):
        with gr.Column(scale=1, min_width=300):
            picture = PictureInput(
                sources=["upload", "clipboard", "webcam"],
                label=text.PICTURE,
                elem_id="picture",
                height=300,
                buttons=[],
            )
            gr.Examples(
                [[str(path)] for path in sorted(EXAMPLES.glob("*.png"))],
                [picture],
                label=text.EXAMPLES,
                elem_id="examples",
                api_visibility="private",
            )
        with gr.Column(scale=1, min_width=300):
            choice = gr.Dropdown([], label=text.NETWORK, elem_id="classify-choice", elem_classes="lab-choice")
            answer = gr.HTML(elem_id="answer", apply_default_css=False)

    def on_picture(path: str | None, name: str | None) -> str:
        return show_answer(lab, path, name)

    private = {"api_visibility": "private", "show_progress": "minimal", "concurrency_limit": 4}
    gr.on([picture.change, choice.change], on_picture, [picture, choice], [answer], **private)
    choice.focus(
        lambda: gr.Dropdown(choices=checkpoint_choices(lab)), None, [choice], api_visibility="private"
    )
    return {"choice": choice, "answer": answer}
