"""What the page is told of one run: all of it once, then only what is new, from the files of the run."""

import base64
import csv
import io
import json
import shlex
from html import escape
from typing import Any, Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core import InputError
from core.models import MODELS
from core.runs import RunFolder, RunSummary, read_events, summarise, waiting
from core.runs.folder import ENDED
from core.runs.log import Event, settle
from core.runs.ship import SHIPPED
from demo import charts, text
from demo.lab import Lab
from demo.markup import png_url, progress_bar

CHART_POINTS = 1500  # of a curve when a run is opened; a screen has no more
SPEED_POINTS = 400
EPOCH_POINTS = 200  # of each class's curve
NEW_POINTS = 50  # of one update
WAIT_LIVE, WAIT_ENDED = 0.5, 2.0  # seconds until the page asks again
SYMBOLS = {"running": "●", "finished": "✓", "failed": "✗", "queued": "◦", "paused": "‖"}
CHARTS = ("loss", "accuracy", "classes", "map", "speed")
CURVES = ("time", "step", "epoch", "loss", "lr", "images_per_second", "train_loss", "train_accuracy",
          "test_loss", "test_accuracy", "seconds")  # fmt: skip


class ReadRequest(BaseModel):
    """What the page sends to follow a run."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(max_length=60)
    cursor: int = Field(ge=0, le=2**53)


class ExportRequest(BaseModel):
    """What the page sends to have a run's curves, settings or command."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(max_length=60)
    what: Literal["csv", "json", "command"]


def read_run(lab: Lab, request: Any) -> dict[str, Any]:
    """Answer the page that follows a run: all of it at cursor 0, after that only what is new."""
    try:
        asked = ReadRequest.model_validate(request)
        folder = lab.run(asked.source)
    except (ValidationError, InputError):
        return {"cursor": 0, "wait": WAIT_ENDED}
    events, cursor = read_events(folder.events_file, asked.cursor)
    summary = summarise(folder)
    resumed = any(event.get("from_step") is not None for event in events)
    whole = asked.cursor == 0 or resumed or any(event["type"] == "start" for event in events)
    if asked.cursor and whole:  # what the page has drawn may be void: draw it all again
        events, cursor = read_events(folder.events_file, 0)
    answer: dict[str, Any] = {
        "cursor": cursor,
        "wait": WAIT_LIVE if summary.status == "running" else WAIT_ENDED,
        "html": {},
    }
    if whole or summary.status != "running" or _of(events, "status"):
        answer["html"]["html-actions"] = _actions(lab, summary)
    if asked.cursor == 0 or events or summary.status != "running":
        answer["html"]["html-head"] = _head(lab, summary, settle(_recent(folder, cursor)))
    if whole:
        events = settle(events)
        answer["figures"] = _whole(folder, events, summary)
        answer["html"] |= {"html-samples": _samples(folder, events), "html-filters": _filters(folder)}
    elif events:
        answer["append"] = _new(events)
        epochs = _of(events, "epoch")
        if epochs:
            answer["parts"] = _said(folder, epochs[-1])
            answer["html"]["html-filters"] = _filters(folder)
    return answer


def export_run(lab: Lab, request: Any) -> dict[str, str]:
    """A run's curves as CSV, its settings as JSON, or the command that would repeat it."""
    try:
        asked = ExportRequest.model_validate(request)
        folder = lab.run(asked.source)
        config = folder.read_config()
    except (ValidationError, InputError):
        return {"name": "", "text": ""}
    if asked.what == "json":
        return {"name": f"{folder.id}.json", "text": config.model_dump_json(indent=1)}
    if asked.what == "command":
        return {"name": "", "text": command_of(config)}
    table = io.StringIO()
    writer = csv.DictWriter(table, ["type", *CURVES], extrasaction="ignore")
    writer.writeheader()
    events = settle(read_events(folder.events_file)[0])
    writer.writerows(event for event in events if event["type"] in ("step", "epoch"))
    return {"name": f"{folder.id}.csv", "text": table.getvalue()}


def command_of(config: Any) -> str:
    """The terminal command that would train the same again."""
    command = ["python", "-m", "core", "train", "--model", config.model, "--data", config.data]
    command += ["--preset", config.preset, "--seed", str(config.seed), "--device", config.device]
    if config.start_from:
        command += ["--from", config.start_from]
    for name, value in config.recipe.model_dump(mode="json").items():
        if value is not None:
            command += ["--set", f"{name}={json.dumps(value, separators=(',', ':'))}"]
    return shlex.join(command)


def show_run(run_id: str | None) -> dict[str, Any]:
    """The value of the live view for this run."""
    if run_id:
        return {"source": run_id}
    return {"html": {"html-head": f'<p class="lab-empty">{escape(text.NO_RUNS)}</p>'}}


def compare_runs(lab: Lab, ids: list[str], unit: str) -> dict[str, Any]:
    """Curves of several runs over one another, against steps, epochs or seconds of work."""
    return {"figures": charts_of_runs([lab.run(run_id) for run_id in ids], unit)}


def charts_of_runs(runs: list[RunFolder], unit: str) -> dict[str, Any]:
    """The figures of `compare_runs` by slot; empty ones where there is no run."""
    losses, accuracies = [], []
    for run in runs:
        summary = summarise(run)
        epochs = _of(settle(read_events(run.events_file)[0]), "epoch")
        which = text.SHIPPED if is_shipped(run.id) else run.id[4:15]
        name = f"{title_of(summary.model)} · {summary.preset} · {which}"
        at = [e[unit] for e in epochs]
        losses.append((name, summary.model, at, [round(e["train_loss"], 4) for e in epochs]))
        accuracies.append((name, summary.model, at, [round(e["test_accuracy"], 4) for e in epochs]))
    if not runs:
        empty = {"data": [], "layout": {}}
        return {"compare-loss": empty, "compare-accuracy": empty}
    key, words = f"{unit}-{'-'.join(run.id for run in runs)}", text.UNITS[unit]
    return {
        "compare-loss": charts.overlay_figure(key, words, losses, rangemode="tozero"),
        "compare-accuracy": charts.overlay_figure(key, words, accuracies, tickformat=".0%"),
    }


def is_shipped(run_id: str) -> bool:
    return run_id.startswith(SHIPPED)


def title_of(model: str) -> str:
    return MODELS[model].title if model in MODELS else model


def _recent(folder: RunFolder, cursor: int, window: int = 16_384) -> list[Event]:
    """The start event and the last ones: enough to tell how far a run is."""
    first, _ = read_events(folder.events_file, 0, limit=8_192)
    last, _ = read_events(folder.events_file, max(cursor - window, 0))
    return [e for e in first if e["type"] == "start"] + [e for e in last if e["type"] != "start"]


def _thin(values: list[Any], most: int) -> list[Any]:
    stride = -(-len(values) // most) if values else 1
    return values[::stride]


def _of(events: list[Event], kind: str) -> list[Event]:
    return [event for event in events if event["type"] == kind]


def _per_class(epochs: list[Event], names: list[str]) -> dict[str, list[float | None]]:
    return {
        name: [None if (a := e["per_class_accuracy"][name]) is None else round(a, 3) for e in epochs]
        for name in names
    }


def _whole(folder: RunFolder, events: list[Event], summary: RunSummary) -> dict[str, Any]:
    starts = _of(events, "start")
    if not starts:  # nothing to draw yet
        return {chart: {"data": [], "layout": {}} for chart in CHARTS}
    steps, epochs = _of(events, "step"), _thin(_of(events, "epoch"), EPOCH_POINTS)
    classes = _per_class(epochs, starts[-1]["classes"])
    some = _thin(steps, SPEED_POINTS)
    steps = _thin(steps, CHART_POINTS)
    key, model = folder.id, summary.model
    numbers = [e["epoch"] for e in epochs]
    return {
        "loss": charts.loss_figure(
            key,
            model,
            [e["step"] for e in steps],
            [round(e["loss"], 4) for e in steps],
            [e["step"] for e in epochs],
            [round(e["test_loss"], 4) for e in epochs],
        ),
        "accuracy": charts.accuracy_figure(
            key,
            model,
            numbers,
            [round(e["train_accuracy"], 4) for e in epochs],
            [round(e["test_accuracy"], 4) for e in epochs],
        ),
        "classes": charts.classes_figure(key, numbers, classes),
        "map": charts.heat_figure(key, numbers, classes),
        "speed": charts.speed_figure(
            key,
            model,
            [e["step"] for e in some],
            [float(f"{e['lr']:.3g}") for e in some],
            [round(e["images_per_second"], 1) for e in some],
        ),
    }


def _new(events: list[Event]) -> dict[str, Any]:
    """New points by slot and trace."""
    steps, epochs = _thin(_of(events, "step"), NEW_POINTS), _of(events, "epoch")
    append: dict[str, dict[str, Any]] = {}
    if steps:
        points = {"x": [e["step"] for e in steps], "y": [round(e["loss"], 4) for e in steps]}
        append["loss"] = {"0": points}
        last = steps[-1]
        append["speed"] = {
            "0": {"x": [last["step"]], "y": [float(f"{last['lr']:.3g}")]},
            "1": {"x": [last["step"]], "y": [round(last["images_per_second"], 1)]},
        }
    if epochs:
        at = [e["epoch"] for e in epochs]
        classes = _per_class(epochs, list(epochs[0]["per_class_accuracy"]))
        append.setdefault("loss", {})["2"] = {
            "x": [e["step"] for e in epochs],
            "y": [round(e["test_loss"], 4) for e in epochs],
        }
        append["accuracy"] = {
            "0": {"x": at, "y": [round(e["train_accuracy"], 4) for e in epochs]},
            "1": {"x": at, "y": [round(e["test_accuracy"], 4) for e in epochs]},
        }
        append["classes"] = {str(i): {"x": at, "y": values} for i, values in enumerate(classes.values())}
        rows = [list(row) for row in zip(*classes.values(), strict=True)]
        append["map"] = {"0": {"x": at, "z": rows}}
    return append


def _head(lab: Lab, run: RunSummary, events: list[Event]) -> str:
    """The lines above the charts: what runs, how far it is, how fast, how long still."""
    name = " · ".join(escape(part) for part in (title_of(run.model), run.data, run.preset) if part)
    starts, steps = _of(events, "start"), _of(events, "step")
    total = starts[-1]["steps_total"] if starts else 0
    step = steps[-1]["step"] if steps else 0
    running = run.status == "running"
    facts = [text.PREPARING] if running and not starts else []
    progress = _of(events, "progress")
    share = step / total if total else 0.0
    if running and progress and events[-1]["type"] == "progress":
        last = progress[-1]
        share = last["done"] / last["total"] if last["total"] else 0.0
        stage = text.STAGES.get(last["stage"], last["stage"])
        facts = [f"{escape(stage)}: {text.count(last['done'])} of {text.count(last['total'])}"]
        facts += _time_left([e for e in progress if e["stage"] == last["stage"]])
    elif steps:
        facts.append(f"epoch {steps[-1]['epoch']}/{run.epochs}")
        facts.append(f"step {text.count(step)} of {text.count(total)}")
        if running:
            rate = steps[-1]["images_per_second"]
            facts.append(f"{text.count(rate)} images/s")
            batch = starts[-1]["config"]["recipe"]["batch_size"] if starts else 0
            if rate > 0 and step < total:
                facts.append(text.LEFT.format(time=text.duration((total - step) * batch / rate)))
            elif step >= total:
                facts.append(text.STAGES["evaluate"])
    if starts:
        facts.append(escape(str(starts[-1]["device"])))
    if run.accuracy is not None:
        facts.append(f"test accuracy {text.percent(run.accuracy)}")
    if run.status == "queued":
        order = [other.id for other in waiting(lab.runs_dir)]
        if run.id in order:
            facts.append(text.IN_LINE.format(place=order.index(run.id) + 1))
    if run.status == "finished":
        share = 1.0
        facts.append(text.duration(run.seconds))
    if run.waited >= 1:
        facts.append(text.WAITED.format(time=text.duration(run.waited)))
    reason = ""
    if run.reason and (not running or "compil" in run.reason or "could not" in run.reason):
        reason = f'<p class="lab-reason lab-reason-{escape(run.status)}">{escape(run.reason)}</p>'
    return (
        f'<div class="lab-head"><strong>{name}</strong>'
        f'<span class="lab-status lab-{escape(run.status)}">{SYMBOLS.get(run.status, "◦")} '
        f"{escape(text.STATUS.get(run.status, run.status))}</span></div>"
        f"{progress_bar(share)}"
        f'<p class="lab-facts" aria-live="off">{" · ".join(facts)}</p>{reason}'
    )


def _time_left(progress: list[Event]) -> list[str]:
    """How long a stage goes on, judged by its last events; nothing while that can't be told."""
    since, last = progress[-10:][0], progress[-1]
    done, seconds = last["done"] - since["done"], last["time"] - since["time"]
    if done <= 0 or seconds <= 0:
        return []
    return [text.LEFT.format(time=text.duration((last["total"] - last["done"]) * seconds / done))]


def _actions(lab: Lab, run: RunSummary) -> str:
    """Buttons for what can be done with a run, in its state."""
    possible = {
        "running": ["pause", "stop"],
        "queued": ["up", "down", "stop"],
        "finished": [],
        "unreadable": [],
    }.get(run.status, ["resume"])
    possible = possible if lab.can_train else []
    if lab.can_train and run.status != "unreadable":
        possible = [*possible, "clone"]
    if lab.can_train and run.status in (*ENDED, "unreadable") and not is_shipped(run.id):
        possible = [*possible, "delete"]
    buttons = [
        f'<button type="button" data-action="{action}"'
        + (f' data-sure="{escape(text.SURE_DELETE)}"' if action == "delete" else "")
        + f">{escape(text.ACTIONS[action])}</button>"
        for action in possible
    ]
    if run.status != "unreadable":
        buttons += [
            f'<button type="button" class="lab-quiet" data-export="{what}">{escape(words)}</button>'
            for what, words in text.EXPORTS.items()
        ]
    return f'<div class="lab-actions">{"".join(buttons)}</div><code data-part="command"></code>'


def _samples(folder: RunFolder, events: list[Event]) -> str:
    """The fixed test pictures with their truth; what is said of them are parts that change."""
    starts, epochs = _of(events, "start"), _of(events, "epoch")
    if not starts or not starts[-1].get("samples"):
        return ""
    labels, classes = starts[-1]["samples"], starts[-1]["classes"]
    try:
        with Image.open(folder.samples_file) as row:
            row.load()
            side = row.height
            tiles = [row.crop((i * side, 0, (i + 1) * side, side)) for i in range(len(labels))]
    except OSError:
        return ""
    said = _said(folder, epochs[-1], starts[-1]) if epochs else {}
    return "<div class='lab-strip'>" + "".join(
        f'<figure class="lab-picture"><img src="{png_url(tile)}" alt=""><figcaption>{text.TRUTH} '
        f'<b>{escape(classes[label])}</b><br><span data-part="s{i}">{said.get(f"s{i}", "–")}</span>'
        "</figcaption></figure>"
        for i, (tile, label) in enumerate(zip(tiles, labels, strict=True))
    ) + "</div>"  # fmt: skip


def _said(folder: RunFolder, epoch: Event, start: Event | None = None) -> dict[str, str]:
    """For each fixed picture what the network takes it for, by part."""
    if start is None:
        starts = _of(read_events(folder.events_file, 0, limit=8_192)[0], "start")
        start = starts[-1] if starts else {}
    labels, classes = start.get("samples", []), start.get("classes", [])
    return {
        f"s{i}": f"{'✓' if guess == label else '✗'} <b>{escape(classes[guess])}</b> "
        f"<span class='lab-whole'>{text.percent(p)}</span>"
        for i, ((guess, p), label) in enumerate(zip(epoch.get("samples", []), labels, strict=False))
        if guess < len(classes)
    }


def _filters(folder: RunFolder) -> str:
    try:
        data = folder.filters_file.read_bytes()
        width = Image.open(io.BytesIO(data)).width
    except OSError:
        return ""
    url = base64.b64encode(data).decode()
    note = escape(text.FILTERS_NOTE)
    return (
        f'<img class="lab-filters" style="width:{min(width * 8, 480)}px" alt="{note}" '
        f'src="data:image/png;base64,{url}"><p class="lab-note">{note}</p>'
    )
