"""The Classify tab: a picture goes in, what the networks take it for comes out, with the reason."""

import contextlib
import shutil
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from html import escape
from pathlib import Path
from typing import Any

import gradio as gr
from PIL import Image

from core import InputError
from core.inference import Distortion, classify
from core.models import MAX_CLASSES
from demo import text
from demo.answers import TOP, Question, as_record, read_file, show_answers
from demo.frame_picker import Framed, FramePicker, shown_picture
from demo.inputs import Choice, Dial, FilesInput, FolderButton, PictureInput
from demo.lab import Lab
from demo.many import classify_files
from demo.tabs.results import checkpoint_choices, first_two
from demo.tabs.train import told

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"  # drawn by examples/draw.py
FILE_TYPES = ["image", ".zip"]
MAX_BATCHES = 2  # at once; others wait their turn
AT_REST = tuple(Distortion().model_dump().values())  # where the sliders stand, in their order
ALONE = ""  # among the networks beside: none; no network is called so
SAID = ""  # among the classes: the one that the network says; no class is called so

# What is to be read out is put where screen readers have been told to listen: what comes together with such a
# place is not read by all. A moment later, so that of quick answers the last is read, and the same one again.
SPEAK = """const spoken = document.querySelector('.lab-spoken') ?? document.createElement('div');
spoken.className = 'lab-spoken';
spoken.setAttribute('role', 'status');
document.body.append(spoken);
let later;
new MutationObserver(() => {
  const said = element.querySelector('.lab-say')?.textContent;
  if (said === undefined) return;  // how far another one is cuts nothing short
  clearTimeout(later);
  spoken.textContent = '';
  later = setTimeout(() => { spoken.textContent = said; }, 200);
}).observe(element, { childList: true, subtree: true, characterData: true });
"""
# A pressed picture is shown in a dialog as large as it is, until a click or Escape.
ENLARGE = """element.addEventListener('click', (event) => {
  const image = event.target.closest('.lab-enlarge')?.querySelector('img');
  if (!image) return;
  const dialog = document.createElement('dialog');
  dialog.className = `lab-dialog lab-enlarged ${image.closest('.lab-sees') ? 'lab-sees' : ''}`;
  dialog.append(image.cloneNode());
  dialog.addEventListener('click', () => dialog.close());
  dialog.addEventListener('close', () => dialog.remove());
  document.body.append(dialog);
  dialog.showModal();
});"""


def classify_file(lab: Lab, path: str | None, name: str | None, top: float | None = TOP) -> dict[str, Any]:
    """Classify a picture file with the checkpoint `name`.

    Returns:
        `{"label", "verdict", "probabilities": {class: p, best first}, "in_distribution_score"}`

    Raises:
        InputError: no picture, a bad one, no such checkpoint, or no number of classes.
    """
    if not name:
        raise InputError(text.NO_CHECKPOINTS)
    if not isinstance(top, int | float) or not top >= 1:
        raise InputError(text.BAD_TOP)
    return as_record(classify(lab.checkpoint(name), read_file(path)), int(min(top, MAX_CLASSES)))


def show_answer(lab: Lab, path: str | None, question: Question) -> tuple[str, Image.Image | None]:
    """Markup: what each network says of the picture in a file, or one sentence; and the picture."""
    if not path or not question.names:
        words = text.EXPLAIN if question.names or lab.checkpoints() else text.NO_CHECKPOINTS
        return f'<p class="lab-empty">{escape(words)}</p>', None
    image = None
    try:
        image = read_file(path)
        return show_answers(lab, image, question), image
    except InputError as error:
        return _refusal(str(error)), image


def networks_now(lab: Lab, name: str | None, second: str | None) -> tuple[gr.Dropdown, gr.Dropdown]:
    """Both choices of networks, as they are, but for one that is gone or was never made."""
    networks, beside = checkpoint_choices(lab), _beside(lab)
    first, other = first_two(networks)
    return (
        gr.Dropdown(choices=networks, value=name if name in _names(networks) else first),
        gr.Dropdown(choices=beside, value=second if second in _names(beside) else other),
    )


def _chosen(name: str | None, second: str | None) -> tuple[str, ...]:
    """The networks that are asked: one or two, each once."""
    return tuple(dict.fromkeys(n for n in (name, second) if n))


def _names(choices: list[tuple[str, str]]) -> list[str]:
    return [name for _, name in choices]


def _beside(lab: Lab) -> list[tuple[str, str]]:
    return [(text.NOTHING, ALONE), *checkpoint_choices(lab)]


@dataclass(eq=False)
class Batch:
    """Many pictures that were asked for, from the press of Start on.

    Gradio hands the last one to whichever event's turn it is, so it has to be begun once only; and Cancel may
    be pressed before that.
    """

    names: tuple[str, ...]  # of networks
    paths: list[str]
    cancelled: threading.Event = field(default_factory=threading.Event)
    _begun: bool = False
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def begin(self) -> bool:
        """Whether it is still wanted and has not been begun; now it has."""
        with self._lock:
            first = not self._begun and not self.cancelled.is_set()
            self._begun |= first
            return first

    def cancel(self) -> bool:
        """Whether it has been begun: the one that began it then says how it ends."""
        with self._lock:
            self.cancelled.set()
            return self._begun


def classify_in_background(lab: Lab, batch: Batch) -> Iterator[tuple[str, str | None]]:
    """Classify many files; yields markup of how far it is and, once it is done, of the table.

    The second of each pair is where the table is as CSV, until the iterator is closed. Closing it ends the
    work and waits for nothing: Gradio does so on its event loop.
    """
    folder = tempfile.mkdtemp()
    out = Path(folder) / text.MANY_FILE
    job = lab.in_background(
        lambda told: classify_files(lab, list(batch.names), batch.paths, out, told), batch.cancelled
    )
    try:
        while not job.finished.wait(0.3):
            share = f" {text.count(job.done)} / {text.count(job.total)}" if job.total else ""
            yield _note(f"{text.STAGES.get(job.stage, '…')}{share}"), None
        if job.cancelled.is_set():
            yield _note(text.CANCELLED, "lab-say"), None
        else:
            yield (_refusal(job.error), None) if job.error else (job.data, str(out))
    finally:
        job.cancelled.set()
        lab.in_background(lambda _: job.finished.wait() and shutil.rmtree(folder))


def build(lab: Lab, page: gr.Blocks, tab: gr.Tab) -> None:
    """Lay the tab out; it fills itself when the page or the tab is opened."""
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
                ranges = [
                    (0, 128, 1, text.NOISE),
                    (0, 8, 0.1, text.BLUR),
                    (0, 4, 0.05, text.BRIGHTNESS),
                    (1, 100, 1, text.QUALITY),
                    (-180, 180, 1, text.ROTATION),
                ]
                sliders = [
                    Dial(low, high, value, step=step, precision=0 if step == 1 else None, label=label)
                    for (low, high, step, label), value in zip(ranges, AT_REST, strict=True)
                ]
                reset = gr.Button(text.RESET, size="sm")
        with gr.Column(min_width=320, elem_classes="lab-main"):
            with gr.Row():
                choice = Choice([], label=text.NETWORK, elem_id="classify-choice", elem_classes="lab-choice")
                other = Choice([], label=text.BESIDE, elem_id="classify-other", elem_classes="lab-choice")
                reason = Choice([], label=text.HEAT_OF, elem_id="classify-class", elem_classes="lab-choice")
            answer = gr.HTML(elem_id="answer", apply_default_css=False, js_on_load=SPEAK + ENLARGE)
    with gr.Accordion(text.MANY, open=False):
        files = FilesInput(
            file_count="multiple", file_types=FILE_TYPES, label=text.MANY_FILES, elem_id="many-files"
        )
        gr.Markdown(text.MANY_NOTE, elem_classes="lab-note")
        with gr.Row():
            folder = FolderButton(text.MANY_FOLDER, file_count="directory", size="sm", elem_id="many-folder")
            start = gr.Button(text.MANY_START, size="sm", elem_id="many-start")
            cancel = gr.Button(text.CANCEL, visible=False, size="sm", elem_id="many-cancel")
        batch = gr.State(None)  # the Batch that waits or runs
        table = gr.HTML(elem_id="many", apply_default_css=False, js_on_load=SPEAK)
        download = gr.DownloadButton(text.MANY_CSV, visible=False, size="sm", elem_id="many-csv")

    def on_question(
        path: str | None,
        name: str | None,
        second: str | None,
        label: str | None,
        framed: Framed,
        *harm: float,
    ) -> tuple[Any, ...]:
        """What the networks say; of a new picture all counts, and nothing harms it."""
        new = framed.of != path
        if new:
            framed, harm = Framed(path), AT_REST
        question = Question(
            _chosen(name, second),
            framed.frame,
            Distortion(**dict(zip(Distortion.model_fields, harm, strict=True))),
            label,
        )
        said, image = show_answer(lab, path, question)
        if not new:
            return said, *[gr.skip()] * (1 + len(AT_REST))
        return said, shown_picture(image, path), *AT_REST

    def on_network(name: str | None, label: str | None) -> gr.Dropdown:
        classes = told(lab.info, name).classes if name else []
        choices = [(text.HEAT_OF_SAID, SAID), *((c, c) for c in classes)]
        return gr.Dropdown(choices=choices, value=label if label in classes else SAID)

    def on_many(wanted: Batch | None) -> Iterator[tuple[Any, ...]]:
        """The only one that writes from when a batch is begun until it ends."""
        if wanted is None:  # the page's session was given up for others
            yield _note(text.CANCELLED, "lab-say"), gr.skip(), *swap(False)
            return
        if not wanted.begin():
            yield (gr.skip(),) * 4
            return
        if not wanted.names:
            yield _refusal(text.NO_CHECKPOINTS), gr.skip(), *swap(False)
            return
        with contextlib.closing(classify_in_background(lab, wanted)) as steps:
            for markup, out in steps:
                found = gr.skip() if out is None else gr.DownloadButton(value=out, visible=True)
                yield markup, found, gr.skip(), gr.skip()
        yield gr.skip(), gr.skip(), *swap(False)

    def on_start(paths: list[str], name: str | None, second: str | None) -> tuple[Any, ...]:
        wanted = Batch(_chosen(name, second), paths)
        return _note(text.WAITING), gr.DownloadButton(visible=False), *swap(True), wanted

    def on_cancel(wanted: Batch | None) -> tuple[Any, ...]:
        if wanted is not None and wanted.cancel():
            return (gr.skip(),) * 4
        return _note(text.CANCELLED, "lab-say"), gr.skip(), *swap(False)

    def swap(running: bool) -> tuple[gr.Button, gr.Button]:
        """Start or Cancel, whichever there is to do."""
        return gr.Button(visible=not running), gr.Button(visible=running)

    quiet = {"api_visibility": "private", "show_progress": "hidden"}
    gr.on(  # all that asks is one event: answers of two could come in the wrong order
        [
            page.load,
            *(part.change for part in (picture, choice, other, *sliders)),
            reason.input,
            picker.click,
        ],
        on_question,
        [picture, choice, other, reason, picker, *sliders],
        [answer, picker, *sliders],
        trigger_mode="always_last",
        concurrency_limit=4,
        api_visibility="private",
        show_progress="minimal",
        show_progress_on=[answer],
    )
    networks = [choice, other]
    gr.on([page.load, tab.select], partial(networks_now, lab), networks, networks, **quiet)
    choice.focus(lambda: gr.Dropdown(choices=checkpoint_choices(lab)), None, [choice], **quiet)
    other.focus(lambda: gr.Dropdown(choices=_beside(lab)), None, [other], **quiet)
    choice.change(on_network, [choice, reason], [reason], **quiet)
    reset.click(lambda: AT_REST, None, sliders, **quiet)
    folder.upload(lambda paths: paths, [folder], [files], api_visibility="private")
    shown = [table, download, start, cancel]
    # Gradio's own way to cancel closes its stream before the answer to the click has come, now and then.
    started = start.click(on_start, [files, choice, other], [*shown, batch], queue=False, **quiet)
    started.then(on_many, [batch], shown, trigger_mode="multiple", concurrency_limit=MAX_BATCHES, **quiet)
    cancel.click(on_cancel, [batch], shown, queue=False, **quiet)


def _note(words: str, kind: str = "") -> str:
    return f'<p class="lab-note {kind}">{escape(words)}</p>'


def _refusal(sentence: str) -> str:
    return f'<p class="lab-error" role="alert">{escape(sentence)}</p>'
