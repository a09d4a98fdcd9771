"""The Results tab: how good a network is, class by class, and the pictures behind every number."""

import csv
import io
from html import escape
from typing import Any, Literal

import gradio as gr
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from core import InputError
from core.checkpoint import CheckpointInfo
from core.data import DataSet
from core.data.cifar10 import CLASSES
from core.evaluation import Report, mcnemar
from core.runs import RunSummary
from demo import charts, text
from demo.lab import DataJob, Lab
from demo.live import png_url
from demo.plot_view import PlotView
from demo.predictions import Predictions, compute_predictions, stored_predictions
from demo.tabs.train import told

PAGE_PICTURES = 24
CLOSE = 0.0005  # a probability below is shown as this
# Accuracy of each class in the course report this project began with, in percent, in CIFAR-10's order.
COURSE_REPORT = {
    "resnet18": (93, 100, 78, 74, 95, 90, 98, 100, 93, 96),
    "densenet121_k12": (96, 96, 89, 80, 94, 91, 92, 93, 98, 96),
}


class Pressed(BaseModel):
    """What the page sends when a bar, a cell or a button is pressed."""

    model_config = ConfigDict(extra="ignore")

    truth: str | None = Field(None, max_length=500)
    prediction: str | None = Field(None, max_length=500)
    action: Literal["cell", "all", "back", "on"] | None = None
    source: str | None = Field(None, max_length=1100)


class ExportRequest(BaseModel):
    """What the page sends to have a report."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(max_length=60)
    what: Literal["report-json", "report-csv"]


def report_of(lab: Lab, name: str) -> Report | None:
    """The figures of a checkpoint on the test images it was tested on; None where it was not."""
    try:
        return Report.model_validate(lab.info(name).metrics)
    except ValidationError:
        return None


def show_results(
    lab: Lab,
    name: str | None,
    other: str | None = None,
    order: str = "class",
    marks: bool = True,
    shares: bool = False,
) -> dict[str, Any]:
    """All numbers of one checkpoint, beside those of a second one if there is one."""
    if not name:
        return _only(text.NO_CHECKPOINTS)
    try:
        info, report = lab.info(name), report_of(lab, name)
    except InputError as error:
        return _only(str(error))
    if report is None:
        return _only(text.NO_REPORT)
    networks = [(_short(info), info.model, report)]
    if other and other != name:
        second, theirs = lab.info(other), report_of(lab, other)
        if theirs is not None and second.classes == info.classes:
            networks.append((_short(second), second.model, theirs))
    classes = list(info.classes)
    if order == "accuracy":
        classes.sort(key=lambda c: report.per_class_accuracy.get(c) or 0)
    known = COURSE_REPORT.get(info.model) if marks and tuple(info.classes) == CLASSES else None
    course = {c: share / 100 for c, share in zip(CLASSES, known, strict=True)} if known else None
    return {
        "key": name,
        "html": {
            "html-head": _headline(lab, name, other, info, networks),
            "html-table": _table(report, classes),
            "html-confused": _confused(report),
            "html-gallery": f'<p class="lab-note">{escape(text.CONFUSION_NOTE)}</p>',
        },
        "figures": {
            "per-class": charts.per_class_figure(name, networks, classes, course),
            "confusion": charts.confusion_figure(name, info.classes, report.confusion_matrix, shares),
            "calibration": charts.calibration_figure(name, info.model, report)
            if report.reliability
            else {"data": [], "layout": {}},
        },
    }


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


def gallery(
    classes: list[str],
    data: DataSet,
    said: Predictions,
    truth: int | None,
    prediction: int | None,
    page: int,
) -> str:
    """Markup of one page of the pictures of a cell, a row, or all; the surest mistakes first."""
    chosen = said.mistakes_first(truth, prediction)
    pages = max(-(-len(chosen) // PAGE_PICTURES), 1)
    page = min(max(page, 1), pages)
    shown = chosen[(page - 1) * PAGE_PICTURES : page * PAGE_PICTURES]
    count = text.count(len(chosen))
    if truth is None:
        title = text.ALL_TITLE.format(count=count)
    elif prediction is None:
        title = text.ROW_TITLE.format(truth=classes[truth], count=count)
    else:
        title = text.CELL_TITLE.format(truth=classes[truth], prediction=classes[prediction], count=count)
    figures = []
    for index in shown.tolist():
        label, guess = int(said.labels[index]), int(said.predicted[index])
        right = label == guess
        figures.append(
            f'<figure class="lab-picture {"" if right else "lab-wrong"}">'
            f'<img src="{_data_url(data.test.images[index])}" alt="test picture {index}">'
            f"<figcaption>{text.TRUTH} <b>{escape(classes[label])}</b><br>"
            f"{'✓' if right else '✗'} {text.PREDICTION} <b>{escape(classes[guess])}</b><br>"
            f"{text.SURE_OF_IT.format(p=text.percent(float(said.probabilities[index, guess])))}"
            "</figcaption></figure>"
        )
    turn = ""
    if pages > 1:
        turn = (
            f'<div class="lab-actions"><button type="button" data-action="back">{text.EARLIER}</button>'
            f'<button type="button" data-action="on">{text.LATER}</button>'
            f"<span>{text.PAGE.format(page=page, pages=pages)}</span></div>"
        )
    return f"<h3>{escape(title)}</h3>{turn}<div class='lab-strip'>{''.join(figures)}</div>"


def _headline(
    lab: Lab, name: str, other: str | None, info: CheckpointInfo, networks: list[tuple[str, str, Report]]
) -> str:
    report = networks[0][2]
    low, high = report.interval
    facts = [f"{text.count(report.count)} test pictures of {escape(info.data)}"]
    if report.accuracy_tta is not None:
        facts.append(f"{text.percent(report.accuracy_tta)} with the mirror image averaged in")
    if report.top2_accuracy is not None and report.top3_accuracy is not None:
        facts.append(f"among its best two {text.percent(report.top2_accuracy)}")
        facts.append(f"three {text.percent(report.top3_accuracy)}")
    facts.append(f"loss {report.loss:.3f}")
    facts.append(f"calibration error {text.percent(report.ece)}")
    facts.append(f"{info.epochs:g} epochs in {text.duration(info.seconds)} on {escape(info.hardware)}")
    plus = f"<small>95%: {low * 100:.1f} to {high * 100:.1f}</small>"
    second = ""
    if len(networks) == 2 and other:
        title, _, theirs = networks[1]
        points = f"{(report.accuracy - theirs.accuracy) * 100:+.1f} points"
        second = (
            f'<p class="lab-second">{escape(title)} {text.percent(theirs.accuracy)} · '
            f"{text.DIFFERENCE.format(points=points)}{_chance(lab, name, other)}</p>"
        )
    buttons = "".join(
        f'<button type="button" class="lab-quiet" data-export="{what}">{escape(words)}</button>'
        for what, words in text.REPORT_EXPORTS.items()
    )
    return (
        f'<div class="lab-big">{text.percent(report.accuracy)}</div>{plus}{second}'
        f'<p class="lab-facts">{" · ".join(facts)}</p><div class="lab-actions">{buttons}</div>'
    )


def _chance(lab: Lab, name: str, other: str) -> str:
    """Whether the difference of two networks is more than chance, if both answered about the same."""
    ours, theirs = stored_predictions(lab, name), stored_predictions(lab, other)
    same = lab.info(name).data_fingerprint == lab.info(other).data_fingerprint
    if ours is None or theirs is None or not same or len(ours.labels) != len(theirs.labels):
        return text.SAME_PICTURES_NEEDED
    first, second = ours.predicted == ours.labels, theirs.predicted == theirs.labels
    p = mcnemar(int((first & ~second).sum()), int((second & ~first).sum()))
    return text.BY_CHANCE.format(p=f"{p:.3f}" if p >= CLOSE else f"below {CLOSE}")


def _table(report: Report, classes: list[str]) -> str:
    def share(value: float | None) -> str:
        return "–" if value is None else text.percent(value)

    rows = []
    for c in classes:
        span = report.per_class_interval.get(c)
        between = f"{span[0] * 100:.1f} – {span[1] * 100:.1f}" if span else "–"
        rows.append(
            f"<tr><th scope='row'>{escape(c)}</th><td>{share(report.per_class_accuracy.get(c))}</td>"
            f"<td>{between}</td><td>{share(report.per_class_precision.get(c))}</td>"
            f"<td>{share(report.per_class_f1.get(c))}</td>"
            f"<td>{text.count(report.per_class_count.get(c, 0))}</td></tr>"
        )
    heads = (text.CLASS, text.ACCURACY, text.INTERVAL, text.PRECISION, text.F1, text.COUNT)
    return (
        "<div class='lab-scroll'><table class='lab-table'><thead><tr>"
        + "".join(f"<th>{head}</th>" for head in heads)
        + f"</tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f"<p class='lab-note'>{text.RECALL_NOTE}</p>"
    )


def _confused(report: Report) -> str:
    """The pairs most often confused, as buttons that show their pictures."""
    names = list(report.per_class_accuracy)
    buttons = "".join(
        f'<button type="button" data-action="cell" data-source="{names.index(a)},{names.index(b)}">'
        f"{escape(text.CONFUSED_PAIR.format(truth=a, prediction=b, count=n))}</button>"
        for a, b, n in report.most_confused
    )
    every = f'<button type="button" data-action="all">{text.SHOW_PICTURES}</button>'
    return f'<div class="lab-actions">{every}{buttons}</div>'


def _only(sentence: str) -> dict[str, Any]:
    empty = f'<p class="lab-empty">{escape(sentence)}</p>'
    nothing = {"data": [], "layout": {}}
    return {
        "html": {"html-head": empty, "html-table": "", "html-confused": "", "html-gallery": ""},
        "figures": {"per-class": nothing, "confusion": nothing, "calibration": nothing},
    }


def _short(info: CheckpointInfo) -> str:
    return f"{info.model} · {info.preset}" if info.preset else info.model


def _data_url(pixels: Tensor) -> str:
    return png_url(Image.fromarray(pixels.permute(1, 2, 0).numpy()))


def _note(name: str, sentence: str) -> dict[str, Any]:
    return _pictures(name, f'<p class="lab-note" role="status">{escape(sentence)}</p>')


def _pictures(name: str, markup: str) -> dict[str, Any]:
    """A change of the view that leaves all but the pictures as it is."""
    return {"key": name, "html": {"html-gallery": markup}}


def build(lab: Lab) -> dict[str, gr.components.Component]:
    """Lay the tab out; returns the parts that the page has to fill when it is opened."""

    def export(request: dict) -> dict:
        """The report as JSON or CSV; for the page's own buttons."""
        return export_report(lab, request)

    with gr.Row():
        choice = gr.Dropdown([], label=text.CHECKPOINT, elem_id="results-choice", elem_classes="lab-choice")
        other = gr.Dropdown([], label=text.COMPARE_WITH, elem_id="results-other", elem_classes="lab-choice")
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
        [
            "html-head",
            "per-class",
            "confusion",
            "html-gallery",
            "html-confused",
            "calibration",
            "html-table",
        ],
        titles={
            "per-class": text.PER_CLASS,
            "confusion": text.CONFUSION,
            "html-confused": text.CONFUSED,
            "calibration": text.CALIBRATION,
        },
        export=export,
        elem_id="results",
    )
    looked_at = gr.State((None, None, 1))  # truth, prediction, page

    def on_choice(name: str | None, second: str | None, by: str, marked: bool, unit: str) -> dict[str, Any]:
        return show_results(lab, name, second, by, marked, unit == "shares")

    def on_press(name: str | None, at: tuple[int | None, int | None, int], event: gr.EventData) -> Any:
        """A bar, a cell, a pair or a page was pressed: show those pictures, with progress."""
        if not name:
            raise gr.Error(text.NO_CHECKPOINTS, print_exception=False)
        info = told(lab.info, name)
        truth, prediction, page = _asked(event, info.classes, at)
        title = lab.title_of(info.data)
        if title is None or not lab.is_at_hand(title):
            yield _note(name, text.STRIP_NEEDS_DATA.format(name=info.data)), at
            return
        job = lab.load_in_background(title)
        yield from ((_note(name, words), at) for words in _waiting(job))
        data = job.data
        if data is None or list(data.classes) != info.classes:
            yield _note(name, job.error or text.STRIP_NEEDS_DATA.format(name=info.data)), at
            return
        said = stored_predictions(lab, name) if data.fingerprint == info.data_fingerprint else None
        if said is None or len(said.labels) != len(data.test):
            answering = lab.in_background(lambda progress: compute_predictions(lab, name, data, progress))
            yield from ((_note(name, words), at) for words in _waiting(answering))
            said = answering.data
            if said is None:
                yield _note(name, answering.error or text.NO_REPORT), at
                return
        markup = gallery(info.classes, data, said, truth, prediction, page)
        yield _pictures(name, markup), (truth, prediction, page)

    private = {"api_visibility": "private", "show_progress": "hidden"}
    fields = [choice, other, order, marks, cells]
    gr.on([field.change for field in fields], on_choice, fields, [view], **private)
    choice.change(lambda: (None, None, 1), None, [looked_at], **private)
    for dropdown in (choice, other):
        dropdown.focus(lambda: gr.Dropdown(choices=checkpoint_choices(lab)), None, [dropdown], **private)
    view.click(on_press, [choice, looked_at], [view, looked_at], concurrency_limit=8, **private)
    return {"choice": choice, "view": view, "other": other}


def _waiting(job: DataJob) -> Any:
    """Yield how far a job is, until it is done."""
    while not job.finished.wait(0.3):
        share = f" {job.done / job.total:.0%}" if job.total else ""
        yield f"{text.STAGES.get(job.stage, '…')}{share}"


def _asked(
    event: gr.EventData, classes: list[str], at: tuple[int | None, int | None, int]
) -> tuple[int | None, int | None, int]:
    """Truth, prediction and page that a press asks for; what makes no sense asks for all pictures."""
    try:
        pressed = Pressed.model_validate(event._data)
    except ValidationError:
        return None, None, 1
    truth, prediction, page = at
    if pressed.action in ("back", "on"):
        return truth, prediction, max(page + (1 if pressed.action == "on" else -1), 1)
    if pressed.action == "cell" and pressed.source:
        numbers = [int(part) for part in pressed.source.split(",") if part.isdigit()]
        if len(numbers) == 2 and max(numbers) < len(classes):
            return numbers[0], numbers[1], 1
    if pressed.truth in classes:
        across = classes.index(pressed.prediction) if pressed.prediction in classes else None
        return classes.index(pressed.truth), across, 1
    return None, None, 1


def checkpoint_choices(lab: Lab, runs: list[RunSummary] | None = None) -> list[tuple[str, str]]:
    """All trained networks as (what is shown, name)."""
    return [(label, name) for name, label in lab.checkpoints(runs).items()]
