"""The Results tab: how good a network is, class by class, and the pictures behind every number."""

import csv
import io
import time
from collections.abc import Iterator
from html import escape
from typing import Any, Literal

import gradio as gr
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core import InputError
from core.checkpoint import CheckpointInfo
from core.data import NAMED_SOURCES, DataSet
from core.data.cifar10 import CLASSES
from core.evaluation import images_per_second
from core.models import MODELS
from demo import text
from demo.evaluations import Predictions, evaluate_in_background, job_key, report_of, stored_predictions
from demo.gallery import Look, close_look, gallery
from demo.inputs import Choice
from demo.lab import Lab
from demo.markup import button, progress_bar
from demo.plot_view import PlotView
from demo.report_view import SLOTS, change, costs_table, only_a_sentence, show_results

OWN = "."  # among the data sets: the one a network was trained on; no title is like that


class Pressed(BaseModel):
    """What the page sends when a bar, a cell or a button is pressed."""

    model_config = ConfigDict(extra="ignore")

    truth: str | None = Field(None, max_length=500)
    prediction: str | None = Field(None, max_length=500)
    action: (
        Literal["cell", "all", "back", "on", "first", "second", "picture", "evaluate", "cancel", "measure"]
        | None
    ) = None
    source: str | None = Field(None, max_length=1100)


class ExportRequest(BaseModel):
    """What the page sends to have a report."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(max_length=60)
    what: Literal["report-json", "report-csv"]


def export_report(lab: Lab, request: Any) -> dict[str, str]:
    """The whole report as JSON, or a line a class as CSV."""
    try:
        asked = ExportRequest.model_validate(request)
        report = report_of(lab, asked.source)
    except (ValidationError, InputError):
        report = None
    if report is None:
        return {"name": "", "text": ""}
    if asked.what == "report-json":
        return {"name": f"{asked.source}-report.json", "text": report.model_dump_json(indent=1)}
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["class", "images", "accuracy", "low", "high", "precision", "f1"])
    for c, accuracy in report.per_class_accuracy.items():
        low, high = report.per_class_interval.get(c) or ("", "")
        numbers = [accuracy, low, high, report.per_class_precision.get(c), report.per_class_f1.get(c)]
        writer.writerow([c, report.per_class_count.get(c, 0), *("" if n is None else n for n in numbers)])
    return {"name": f"{asked.source}-classes.csv", "text": out.getvalue()}


def _note(name: str, sentence: str) -> dict[str, Any]:
    return change(name, "html-gallery", f'<p class="lab-note" role="status">{escape(sentence)}</p>')


def _prepare(lab: Lab, names: list[str], title: str) -> Iterator[str | tuple[DataSet, list[Predictions]]]:
    """Sentences on how far it is, then the pictures and what each network says of them.

    Raises:
        InputError: the pictures can't be had, or their classes are not the networks'.
    """
    info = lab.info(names[0])
    known = title or lab.title_of(info.data)
    if known is None or not lab.is_at_hand(known):
        raise InputError(_missing(info, title))
    job = lab.load_in_background(known)
    yield from job.so_far()
    data = job.data
    if data is None or list(data.classes) != info.classes:
        raise InputError(job.error or _missing(info, title))
    answers = []
    for name in names:
        own = not title and data.fingerprint == lab.info(name).data_fingerprint
        said = stored_predictions(lab, name, "" if own else known)
        if said is None or not said.labels.equal(data.test.labels):
            answering = evaluate_in_background(lab, name, known)
            yield from answering.so_far()
            said = stored_predictions(lab, name, known)
            if said is None:
                raise InputError(answering.error or text.NO_REPORT)
        answers.append(said)
    yield data, answers


def _missing(info: CheckpointInfo, title: str) -> str:
    """That the pictures are not here, and which can be had instead."""
    sentence = text.STRIP_NEEDS_DATA.format(name=title or info.data_title or info.data)
    cifar10 = NAMED_SOURCES["cifar10"]
    if tuple(info.classes) == CLASSES and title != cifar10:
        sentence += " " + text.STRIP_INSTEAD.format(data=cifar10, choice=text.TESTED_ON)
    return sentence


def build(lab: Lab, tab: gr.Tab) -> dict[str, gr.components.Component]:
    """Lay the tab out; returns the parts that the page has to fill when it is opened."""

    def export(request: dict) -> dict:
        """The report as JSON or CSV; for the page's own buttons."""
        return export_report(lab, request)

    with gr.Row():
        choice = Choice([], label=text.CHECKPOINT, elem_id="results-choice", elem_classes="lab-choice")
        other = Choice([], label=text.COMPARE_WITH, elem_id="results-other", elem_classes="lab-choice")
        tested_on = Choice([], label=text.TESTED_ON, elem_id="results-data", elem_classes="lab-choice")
    with gr.Row(elem_classes="lab-switches"):
        order = gr.Radio(
            [(text.BY_CLASS, "class"), (text.BY_ACCURACY, "accuracy")],
            value="class", label=text.ORDER, elem_classes="lab-pills",
        )  # fmt: skip
        cells = gr.Radio(
            [(text.COUNTS, "counts"), (text.SHARES, "shares")],
            value="counts", label=text.CELLS, elem_classes="lab-pills",
        )  # fmt: skip
        marks = gr.Checkbox(True, label=text.SHOW_COURSE_REPORT)
    view = PlotView(
        list(SLOTS),
        titles={
            "per-class": text.PER_CLASS,
            "confusion": text.CONFUSION,
            "html-confused": text.CONFUSED,
            "calibration": text.CALIBRATION,
            "html-costs": text.COSTS,
            "compare-loss": text.HOW_LOSS,
            "compare-accuracy": text.HOW_ACCURACY,
        },
        export=export,
        elem_id="results",
    )
    looked_at = gr.State(Look())

    def on_choice(
        name: str | None, second: str | None, by: str, marked: bool, unit: str, title: str | None
    ) -> dict[str, Any]:
        return show_results(lab, name, second, by, marked, unit == "shares", _title(title))

    def on_press(
        name: str | None,
        second: str | None,
        by: str,
        marked: bool,
        unit: str,
        title: str | None,
        look: Look,
        event: gr.EventData,
    ) -> Iterator[tuple[Any, Look]]:
        """A bar, a cell, a picture or a button was pressed: do it, with progress."""
        if not name:
            raise gr.Error(text.NO_CHECKPOINTS, print_exception=False)
        try:
            for update, now in pressed_on(lab, _pressed(event), name, second, _title(title), look):
                anew = update is None
                yield (on_choice(name, second, by, marked, unit, title) if anew else update), now
        except InputError as error:
            yield _note(name, str(error)), look

    def on_network(
        name: str | None, second: str | None, by: str, marked: bool, unit: str, title: str | None
    ) -> tuple[Any, ...]:
        choices = data_choices(lab, name)
        kept = title if title in [value for _, value in choices] else OWN
        update = on_choice(name, second, by, marked, unit, kept)
        return update, gr.Dropdown(choices=choices, value=kept), Look()

    def on_tab(name: str | None, second: str | None, *rest: Any) -> tuple[Any, ...]:
        """The tab is opened: if what was looked at is gone, or nothing was, what there is first."""
        networks = checkpoint_choices(lab)
        names = [each for _, each in networks]
        if name in names and (not second or second in names):
            return gr.Dropdown(choices=networks), gr.skip(), *(gr.skip() for _ in shown)
        first, beside = first_two(networks)
        name, second = (name if name in names else first), (second if second in names else beside)
        pair = (gr.Dropdown(choices=networks, value=each) for each in (name, second))
        return *pair, *on_network(name, second, *rest)

    private = {"api_visibility": "private", "show_progress": "hidden"}
    fields = [choice, other, order, marks, cells, tested_on]
    shown = [view, tested_on, looked_at]
    # Not on change: as the page opens, that comes before the other choices have their values.
    choice.input(on_network, fields, shown, **private)
    tab.select(on_tab, fields, [choice, other, *shown], **private)
    gr.on([field.input for field in fields[1:]], on_choice, fields, [view], **private)
    for dropdown in (choice, other):
        dropdown.focus(lambda: gr.Dropdown(choices=checkpoint_choices(lab)), None, [dropdown], **private)
    tested_on.focus(
        lambda name: gr.Dropdown(choices=data_choices(lab, name)), [choice], [tested_on], **private
    )
    view.click(
        on_press,
        [*fields, looked_at],
        [view, looked_at],
        concurrency_limit=8,
        trigger_mode="multiple",  # so that what goes on can be cancelled
        **private,
    )
    return {"choice": choice, "view": view, "other": other, "data": tested_on}


def data_choices(lab: Lab, name: str | None) -> list[tuple[str, str]]:
    """Data sets to test the checkpoint on as (what is shown, title); its own comes first."""
    if not name:
        return []
    info = lab.info(name)
    own = lab.title_of(info.data)
    return [(text.ITS_OWN.format(data=info.data), OWN)] + [(t, t) for t in lab.sources if t != own]


def _title(choice: str | None) -> str:
    return "" if choice in (None, OWN) else choice


def pressed_on(
    lab: Lab, pressed: Pressed, name: str, second: str | None, title: str, look: Look
) -> Iterator[tuple[dict[str, Any] | None, Look]]:
    """What follows from a press: changes of the view (None: all of it anew), with the pictures looked at.

    Raises:
        InputError: it can't be done.
    """
    info = lab.info(name)
    if pressed.action in ("evaluate", "cancel"):
        known = title or lab.title_of(info.data) or ""
        if pressed.action == "cancel":
            lab.cancel(job_key(name, known))
            return
        job = evaluate_in_background(lab, name, known)
        for words in job.so_far():
            share = progress_bar(job.done / job.total if job.total else 0)
            cancel = f'<div class="lab-actions">{button("cancel", text.CANCEL)}</div>'
            yield change(name, "html-head", f'<p class="lab-facts">{escape(words)}</p>{share}{cancel}'), look
        if job.error is not None:
            yield only_a_sentence(job.error, "evaluate", name), look
        else:
            yield None, look
        return
    beside = second if second and second != name and lab.info(second).classes == info.classes else None
    if pressed.action == "measure":
        names = [name, beside] if beside else [name]
        with lab.evaluating:
            rates = {each: images_per_second(lab.checkpoint(each)) for each in names}
        yield change(name, "html-costs", costs_table(lab, names, rates)), look
        return
    if pressed.action != "picture":
        look = _asked(pressed, info.classes, look)
    if look.only is not None and beside is None:
        look = Look()
    names = [name, beside] if beside and (look.only is not None) else [name]
    for step in _prepare(lab, names, title):
        if isinstance(step, str):
            yield _note(name, step), look
            continue
        data, said = step
        if pressed.action == "picture":
            number = pressed.source or ""
            if not number.isdigit() or int(number) >= len(data.test):
                return
            names = [name, beside] if beside else [name]
            networks = zip(lab.titles_of(names), map(lab.checkpoint, names), strict=True)
            opened = {"opened": time.time_ns()}  # so that the same picture can be opened again
            yield change(name, "html-picture", close_look(networks, data, int(number))) | opened, look
        else:
            markup = gallery(info.classes, data, look, said[0], said[1] if len(said) == 2 else None)
            if look.only is not None and pressed.action in ("first", "second") and look.page == 1:
                yield None, look  # the numbers of both are known now
            yield change(name, "html-gallery", markup), look


def _pressed(event: gr.EventData) -> Pressed:
    try:
        return Pressed.model_validate(event._data)
    except ValidationError:
        return Pressed()


def _asked(pressed: Pressed, classes: list[str], look: Look) -> Look:
    """The pictures that a press asks for; what makes no sense asks for all."""
    if pressed.action in ("back", "on"):
        return look.turned(1 if pressed.action == "on" else -1)
    if pressed.action in ("first", "second"):
        return Look(only=pressed.action)
    if pressed.action == "cell" and pressed.source:
        numbers = [int(part) for part in pressed.source.split(",") if part.isdigit()]
        if len(numbers) == 2 and max(numbers) < len(classes):
            return Look(*numbers)
    if pressed.truth in classes:
        across = classes.index(pressed.prediction) if pressed.prediction in classes else None
        return Look(classes.index(pressed.truth), across)
    return Look()


def checkpoint_choices(lab: Lab) -> list[tuple[str, str]]:
    """All trained networks as (what is shown, name)."""
    return [(label, name) for name, label in lab.checkpoints().items()]


def first_two(networks: list[tuple[str, str]]) -> tuple[str | None, str | None]:
    """The network to show first, and beside it the second shipped one, if there are two."""
    names = [name for _, name in networks]
    shipped = [name for name in names if name in MODELS]
    return (names[0] if names else None), (shipped[1] if len(shipped) > 1 else None)
