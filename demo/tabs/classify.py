"""The Classify tab: a picture goes in, what the networks take it for comes out, with the reason."""

import contextlib
import tempfile
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from gradio.data_classes import ImageData

from core import InputError
from core.data.pictures import WHOLE, Frame
from core.inference import Distortion, classify
from demo import text
from demo.answers import TOP, Question, as_record, read_file, show_answers
from demo.frame_picker import FramePicker, shown_picture
from demo.lab import Lab
from demo.many import classify_files
from demo.tabs.results import checkpoint_choices

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"  # drawn by examples/draw.py
FILE_TYPES = ["image", ".zip"]
SAID = ""  # among the classes: the one that the network says; no class is called so


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
    if not name:
        raise InputError(text.NO_CHECKPOINTS)
    return as_record(classify(lab.checkpoint(name), read_file(path)), int(top))


def show_answer(lab: Lab, path: str | None, question: Question) -> str:
    """Markup: what each network says of the picture in a file, or one sentence."""
    if not path or not question.names:
        return f'<p class="lab-empty">{escape(text.EXPLAIN if question.names else text.NO_CHECKPOINTS)}</p>'
    try:
        return show_answers(lab, read_file(path), question)
    except InputError as error:
        return f'<p class="lab-error" role="alert">{escape(str(error))}</p>'


def build(lab: Lab) -> dict[str, gr.components.Component]:
    """Lay the tab out; returns the parts that the page has to fill when it is opened."""
    with gr.Row(elem_classes=["lab-columns", "lab-classify"]):
        with gr.Column(scale=0, min_width=320, elem_classes="lab-side"):
            picture = PictureInput(
                sources=["upload", "clipboard", "webcam"],
                label=text.PICTURE,
                elem_id="picture",
                height=260,
                buttons=[],
            )
            gr.Examples(
                [[str(path)] for path in sorted(EXAMPLES.glob("*.png"))],
                [picture],
                label=text.EXAMPLES,
                elem_id="examples",
                api_visibility="private",
            )
            with gr.Accordion(text.FRAME, open=False):
                picker = FramePicker(elem_id="frame")
            with gr.Accordion(text.BREAK_IT, open=False):
                gr.Markdown(text.BREAK_NOTE, elem_classes="lab-note")
                sliders = [
                    gr.Slider(0, 128, 0, step=1, label=text.NOISE),
                    gr.Slider(0, 8, 0, step=0.1, label=text.BLUR),
                    gr.Slider(0, 4, 1, step=0.05, label=text.BRIGHTNESS),
                    gr.Slider(1, 100, 100, step=1, label=text.QUALITY),
                    gr.Slider(-180, 180, 0, step=1, label=text.ROTATION),
                ]
                reset = gr.Button(text.RESET, size="sm")
        with gr.Column(min_width=320, elem_classes="lab-main"):
            with gr.Row():
                choice = gr.Dropdown(
                    [], label=text.NETWORK, elem_id="classify-choice", elem_classes="lab-choice"
                )
                other = gr.Dropdown(
                    [], label=text.BESIDE, elem_id="classify-other", elem_classes="lab-choice"
                )
                reason = gr.Dropdown(
                    [], label=text.HEAT_OF, elem_id="classify-class", elem_classes="lab-choice"
                )
            answer = gr.HTML(elem_id="answer", apply_default_css=False)
    with gr.Accordion(text.MANY, open=False):
        files = gr.File(
            file_count="multiple", file_types=FILE_TYPES, label=text.MANY_FILES, elem_id="many-files"
        )
        gr.Markdown(text.MANY_NOTE, elem_classes="lab-note")
        with gr.Row():
            folder = gr.UploadButton(
                text.MANY_FOLDER, file_count="directory", size="sm", elem_id="many-folder"
            )
            start = gr.Button(text.MANY_START, size="sm", elem_id="many-start")
        table = gr.HTML(elem_id="many", apply_default_css=False)
        download = gr.DownloadButton(text.MANY_CSV, visible=False, size="sm", elem_id="many-csv")
    frame = gr.State(WHOLE)

    def on_question(
        path: str | None,
        name: str | None,
        second: str | None,
        label: str | None,
        part: Frame,
        *harm: float,
    ) -> str:
        names = ("noise", "blur", "brightness", "quality", "rotation")
        question = Question(
            tuple(dict.fromkeys(n for n in (name, second) if n)),
            Frame(*part),
            Distortion(**dict(zip(names, harm, strict=True))),
            label,
        )
        return show_answer(lab, path, question)

    def on_picture(path: str | None, *rest: Any) -> tuple[Any, ...]:
        """A new picture: the frame is all of it again."""
        shown: dict[str, Any] = {"picture": None}
        if path:
            with contextlib.suppress(InputError):  # the answer says it
                shown = shown_picture(read_file(path))
        return on_question(path, *rest[:3], WHOLE, *rest[4:]), shown, WHOLE

    def on_frame(
        path: str | None,
        name: str | None,
        second: str | None,
        label: str | None,
        part: Frame,
        noise: float,
        blur: float,
        brightness: float,
        quality: float,
        rotation: float,
        event: gr.EventData,
    ) -> tuple[str, Frame]:
        """The frame was moved."""
        part = _frame(event)
        return on_question(path, name, second, label, part, noise, blur, brightness, quality, rotation), part

    def on_network(name: str | None) -> Any:
        classes = lab.info(name).classes if name else []
        return gr.Dropdown(choices=[(text.HEAT_OF_SAID, SAID), *((c, c) for c in classes)], value=SAID)

    def on_reset() -> list[float]:
        return [0, 0, 1, 100, 0]

    def on_many(paths: list[str] | None, name: str | None, second: str | None) -> Iterator[tuple[Any, Any]]:
        names = list(dict.fromkeys(n for n in (name, second) if n))
        if not names:
            raise gr.Error(text.NO_CHECKPOINTS, print_exception=False)
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / text.MANY_FILE
            job = lab.in_background(lambda told: classify_files(lab, names, paths or [], out, told))
            while not job.finished.wait(0.3):
                share = f" {text.count(job.done)} / {text.count(job.total)}" if job.total else ""
                yield f'<p class="lab-note">{text.STAGES.get(job.stage, "…")}{share}</p>', gr.skip()
            if job.error is None:
                yield job.data, gr.DownloadButton(value=str(out), visible=True)
                return
        sentence = f'<p class="lab-error" role="alert">{escape(job.error)}</p>'
        yield sentence, gr.DownloadButton(visible=False)

    private = {"api_visibility": "private", "concurrency_limit": 4}
    quiet = {"show_progress": "hidden", "trigger_mode": "always_last", **private}
    asked = [picture, choice, other, reason, frame, *sliders]
    picture.change(on_picture, asked, [answer, picker, frame], show_progress="minimal", **private)
    gr.on([choice.change, other.input, reason.input], on_question, asked, [answer], **quiet)
    gr.on([slider.change for slider in sliders], on_question, asked, [answer], **quiet)

    picker.click(on_frame, asked, [answer, frame], **quiet)
    choice.change(on_network, [choice], [reason], show_progress="hidden", **private)
    reset.click(on_reset, None, sliders, show_progress="hidden", **private)
    folder.upload(lambda paths: paths, [folder], [files], api_visibility="private")
    start.click(on_many, [files, choice, other], [table, download], show_progress="hidden", **private)
    for dropdown in (choice, other):
        dropdown.focus(
            lambda: gr.Dropdown(choices=checkpoint_choices(lab)), None, [dropdown], api_visibility="private"
        )
    return {"choice": choice, "other": other, "answer": answer, "reason": reason}


def _frame(event: gr.EventData) -> Frame:
    """What the page says of the frame; the whole where it makes no sense."""
    try:
        return Frame(*(min(max(float(event._data[name]), 0.0), 1.0) for name in Frame._fields))
    except (KeyError, TypeError, ValueError):
        return WHOLE
