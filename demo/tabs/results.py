"""The Results tab: how good a network is, class by class, with test pictures under the numbers."""

import base64
import io
from html import escape
from typing import Any

import gradio as gr
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open

from core import InputError
from core.checkpoint import CheckpointInfo
from core.data import DataSet
from core.evaluation import predict
from demo import charts, text
from demo.lab import Lab
from demo.plot_view import PlotView

STRIP_PICTURES = 16


def show_results(lab: Lab, name: str | None) -> dict[str, Any]:
    """The numbers of one checkpoint, for the view: a headline, bars and a table."""
    if not name:
        return _only(text.NO_CHECKPOINTS)
    try:
        info = lab.info(name)
    except InputError as error:
        return _only(str(error))
    metrics = info.metrics
    if "per_class_accuracy" not in metrics:
        return _only(text.NO_REPORT)
    accuracy, counts = metrics["per_class_accuracy"], metrics.get("per_class_count", {})
    rows = "".join(
        f"<tr><th scope='row'>{escape(c)}</th><td>{'–' if a is None else text.percent(a)}</td>"
        f"<td>{text.count(counts.get(c, 0))}</td></tr>"
        for c, a in accuracy.items()
    )
    table = (
        f"<table class='lab-table'><thead><tr><th>{text.CLASS}</th><th>{text.ACCURACY}</th>"
        f"<th>{text.COUNT}</th></tr></thead><tbody>{rows}</tbody></table>"
    )
    return {
        "html": {"html-head": _headline(info), "html-table": table},
        "figures": {"per-class": charts.per_class_figure(name, info.model, accuracy, counts)},
    }


def _only(sentence: str) -> dict[str, Any]:
    empty = f'<p class="lab-empty">{escape(sentence)}</p>'
    return {
        "html": {"html-head": empty, "html-table": ""},
        "figures": {"per-class": {"data": [], "layout": {}}},
    }


def _headline(info: CheckpointInfo) -> str:
    metrics = info.metrics
    facts = [f"{text.count(metrics['count'])} test pictures of {escape(info.data)}"]
    if metrics.get("accuracy_tta") is not None:
        facts.append(f"{text.percent(metrics['accuracy_tta'])} with the mirror image averaged in")
    facts.append(f"loss {metrics['loss']:.3f}")
    facts.append(f"calibration error {text.percent(metrics['ece'])}")
    facts.append(f"{info.epochs:g} epochs in {text.duration(info.seconds)} on {escape(info.hardware)}")
    return (
        f'<div class="lab-big">{text.percent(metrics["accuracy"])}</div>'
        f'<p class="lab-facts">{" · ".join(facts)}</p>'
    )


def picture_strip(lab: Lab, name: str) -> Any:
    """Yield progress, then markup: fixed test pictures with the truth and what the network says."""
    info = lab.info(name)
    title = lab.title_of(info.data)
    if title is None or not lab.is_at_hand(title):
        yield _note(text.STRIP_NEEDS_DATA.format(name=info.data))
        return
    job = lab.load_in_background(title)
    while not job.finished.wait(0.3):
        share = f" {job.done / job.total:.0%}" if job.total else ""
        yield _note(f"{text.STAGES.get(job.stage, '…')}{share}")
    if job.data is None or list(job.data.classes) != info.classes:
        yield _note(job.error or text.STRIP_NEEDS_DATA.format(name=info.data))
        return
    count = min(STRIP_PICTURES, len(job.data.test))
    step = len(job.data.test) / count
    chosen = torch.tensor([int((i + 0.5) * step) for i in range(count)])
    predicted = _predictions(lab, name, job.data, chosen)
    labels = job.data.test.labels[chosen].tolist()
    figures = []
    for index, truth, said in zip(chosen.tolist(), labels, predicted, strict=True):
        right = truth == said
        mark = "✓" if right else "✗"
        figures.append(
            f'<figure class="lab-picture {"" if right else "lab-wrong"}">'
            f'<img src="{_data_url(job.data.test.images[index])}" alt="test picture {index}">'
            f"<figcaption>{text.TRUTH} <b>{escape(info.classes[truth])}</b><br>"
            f"{mark} {text.PREDICTION} <b>{escape(info.classes[said])}</b></figcaption></figure>"
        )
    yield f"<h3>{text.STRIP}</h3><div class='lab-strip'>{''.join(figures)}</div>"


def _predictions(lab: Lab, name: str, data: DataSet, chosen: torch.Tensor) -> list[int]:
    """From the run's stored predictions, else by asking the network."""
    if data.fingerprint == lab.info(name).data_fingerprint:
        try:
            with safe_open(lab.checkpoint_path(name).parent / "predictions.safetensors", "pt") as file:
                return file.get_tensor("probabilities")[chosen].argmax(dim=1).tolist()
        except (OSError, SafetensorError, IndexError):
            pass  # a stopped run or a shipped checkpoint has none
    checkpoint = lab.checkpoint(name)
    info = checkpoint.info
    logits = predict(
        checkpoint.model,
        data.test.images[chosen],
        info.mean,
        info.std,
        size=info.image_size,
        device=torch.device("cpu"),
    )
    return logits.argmax(dim=1).tolist()


def _data_url(pixels: torch.Tensor) -> str:
    buffer = io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _note(sentence: str) -> str:
    return f'<p class="lab-note">{escape(sentence)}</p>'


def build(lab: Lab) -> dict[str, gr.components.Component]:
    """Lay the tab out; returns the parts that the page has to fill when it is opened."""
    choice = gr.Dropdown([], label=text.CHECKPOINT, elem_id="results-choice", elem_classes="lab-choice")
    view = PlotView(
        ["html-head", "per-class", "html-table"],
        titles={"per-class": text.PER_CLASS},
        elem_id="results",
    )
    more = gr.Button(text.SHOW_PICTURES, size="sm", elem_id="show-strip")
    strip = gr.HTML(elem_id="strip", apply_default_css=False)

    def on_strip(name: str | None) -> Any:
        if not name:
            raise gr.Error(text.NO_CHECKPOINTS, print_exception=False)
        try:
            yield from picture_strip(lab, name)
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from None

    private = {"api_visibility": "private", "show_progress": "hidden"}
    choice.change(lambda name: (show_results(lab, name), ""), [choice], [view, strip], **private)
    choice.focus(lambda: gr.Dropdown(choices=checkpoint_choices(lab)), None, [choice], **private)
    more.click(on_strip, [choice], [strip], concurrency_limit=8, **private)
    return {"choice": choice, "view": view}


def checkpoint_choices(lab: Lab) -> list[tuple[str, str]]:
    """All trained networks as (what is shown, name)."""
    return [(label, name) for name, label in lab.checkpoints().items()]
