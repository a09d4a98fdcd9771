"""The Train tab: start and stop a training, and watch it live from the files of its run."""

from html import escape
from typing import Any

import gradio as gr
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core import InputError
from core.models import MODELS
from core.runs import (
    RunSummary,
    create_run,
    launch,
    list_runs,
    new_run_id,
    read_events,
    request_stop,
    summarise,
)
from core.runs.folder import ENDED, RunFolder
from core.runs.log import Event, settle
from core.training.recipe import PRESETS, TrainConfig, preset_recipe, with_changes
from demo import charts, text
from demo.lab import Lab
from demo.plot_view import PlotView

CHART_POINTS = 2000  # of the loss curve when a run is opened; a screen has no more
NEW_POINTS = 200  # of one update
WAIT_LIVE, WAIT_ENDED = 0.5, 3.0  # seconds until the page asks again
SYMBOLS = {"running": "●", "finished": "✓", "failed": "✗", "queued": "◦"}


class ReadRequest(BaseModel):
    """What the page sends to follow a run."""

    model_config = ConfigDict(extra="forbid")

    source: str = Field(max_length=60)
    cursor: int = Field(ge=0, le=2**53)


def start_training(
    lab: Lab,
    model: str,
    data: str,
    preset: str = "fast",
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int = 0,
) -> str:
    """Make a run and start its worker; returns its id.

    Raises:
        InputError: training is not allowed here, one is running, or a value can't be used.
    """
    if not lab.can_train:
        raise InputError(text.LOOK_ONLY)
    source = lab.source(data)
    if any(run.status == "running" for run in list_runs(lab.runs_dir)):
        raise InputError(text.ALREADY_RUNNING)
    try:
        recipe = with_changes(
            preset_recipe(preset, model, source),
            epochs=epochs or None,  # an emptied field comes as 0
            batch_size=batch_size or None,
            peak_lr=lr or None,
        )
        config = TrainConfig(model=model, data=source, preset=preset, recipe=recipe, seed=seed or 0)
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    folder = RunFolder(lab.runs_dir / new_run_id(model))
    create_run(folder, config)
    launch(folder, lab.data_dir)
    return folder.id


def stop_training(lab: Lab, run_id: str) -> str:
    """Ask the run's worker to save and end; returns the run's id."""
    if not lab.can_train:
        raise InputError(text.LOOK_ONLY)
    folder = lab.run(run_id)
    if not folder.has_worker():
        raise InputError(text.NOT_RUNNING)
    request_stop(folder, "stop")
    return folder.id


def read_run(lab: Lab, request: Any) -> dict[str, Any]:
    """Answer the page that follows a run: all of it at cursor 0, after that only what is new."""
    try:
        asked = ReadRequest.model_validate(request)
        folder = lab.run(asked.source)
    except (ValidationError, InputError):
        return {"cursor": 0, "wait": WAIT_ENDED}
    events, cursor = read_events(folder.events_file, asked.cursor)
    summary = summarise(folder)
    wait = WAIT_LIVE if summary.status == "running" else WAIT_ENDED
    resumed = any(event.get("from_step") is not None for event in events)
    if asked.cursor and resumed:  # what the page has drawn may be void: draw it all again
        events, cursor = read_events(folder.events_file, 0)
    answer: dict[str, Any] = {"cursor": cursor, "wait": wait}
    if asked.cursor == 0 or resumed:
        answer["figures"] = _whole(folder, settle(events), summary)
    elif events:
        answer["append"] = _new(events)
    if asked.cursor == 0 or events or summary.status in ENDED:
        answer["html"] = {"html-head": _head(summary, settle(_recent(folder, cursor)))}
    return answer


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


def _whole(folder: RunFolder, events: list[Event], summary: RunSummary) -> dict[str, Any]:
    steps, epochs = _thin(_of(events, "step"), CHART_POINTS), _of(events, "epoch")
    return {
        "loss": charts.loss_figure(
            folder.id,
            summary.model,
            [e["step"] for e in steps],
            [round(e["loss"], 4) for e in steps],
            [e["step"] for e in epochs],
            [round(e["test_loss"], 4) for e in epochs],
        ),
        "accuracy": charts.accuracy_figure(
            folder.id,
            summary.model,
            [e["epoch"] for e in epochs],
            [round(e["train_accuracy"], 4) for e in epochs],
            [round(e["test_accuracy"], 4) for e in epochs],
        ),
    }


def _new(events: list[Event]) -> dict[str, Any]:
    """New points by slot and trace."""
    steps, epochs = _thin(_of(events, "step"), NEW_POINTS), _of(events, "epoch")
    append: dict[str, dict[str, Any]] = {}
    if steps:
        points = {"x": [e["step"] for e in steps], "y": [round(e["loss"], 4) for e in steps]}
        append.setdefault("loss", {})["0"] = points
    if epochs:
        at = [e["epoch"] for e in epochs]
        append.setdefault("loss", {})["2"] = {
            "x": [e["step"] for e in epochs],
            "y": [round(e["test_loss"], 4) for e in epochs],
        }
        append["accuracy"] = {
            "0": {"x": at, "y": [round(e["train_accuracy"], 4) for e in epochs]},
            "1": {"x": at, "y": [round(e["test_accuracy"], 4) for e in epochs]},
        }
    return append


def _head(run: RunSummary, events: list[Event]) -> str:
    """The lines above the charts: what runs, how far it is, how fast, how long still."""
    title = MODELS[run.model].title if run.model in MODELS else run.model
    name = " · ".join(escape(part) for part in (title, run.data, run.preset) if part)
    starts, steps = _of(events, "start"), _of(events, "step")
    total = starts[-1]["steps_total"] if starts else 0
    step = steps[-1]["step"] if steps else 0
    facts = [text.PREPARING] if run.status == "running" and not starts else []
    progress = _of(events, "progress")
    share = step / total if total else 0.0
    if run.status == "running" and progress and not steps and events[-1]["type"] == "progress":
        last = progress[-1]
        share = last["done"] / last["total"] if last["total"] else 0.0
        stage = text.STAGES.get(last["stage"], last["stage"])
        facts = [f"{stage}: {text.count(last['done'])} of {text.count(last['total'])}"]
    elif steps:
        facts.append(f"epoch {steps[-1]['epoch']}/{run.epochs}")
        facts.append(f"step {text.count(step)} of {text.count(total)}")
        if run.status == "running":
            rate = steps[-1]["images_per_second"]
            facts.append(f"{text.count(rate)} images/s")
            batch = starts[-1]["config"]["recipe"]["batch_size"] if starts else 0
            if rate > 0 and step < total:
                facts.append(f"{text.duration((total - step) * batch / rate)} left")
            elif step >= total:
                facts.append(text.STAGES["evaluate"])
    if starts:
        facts.append(escape(str(starts[-1]["device"])))
    if run.accuracy is not None:
        facts.append(f"test accuracy {text.percent(run.accuracy)}")
    if run.status == "finished":
        share = 1.0
        facts.append(text.duration(run.seconds))
    reason = ""
    if run.reason and run.status != "running":
        reason = f'<p class="lab-reason">{escape(run.reason)}</p>'
    return (
        f'<div class="lab-head"><strong>{name}</strong>'
        f'<span class="lab-status lab-{escape(run.status)}">{SYMBOLS.get(run.status, "◦")} '
        f"{escape(text.STATUS.get(run.status, run.status))}</span></div>"
        f'<div class="lab-progress" role="progressbar" aria-valuenow="{share * 100:.0f}" '
        f'aria-valuemin="0" aria-valuemax="100"><i style="width:{share * 100:.1f}%"></i></div>'
        f'<p class="lab-facts" aria-live="off">{" · ".join(facts)}</p>{reason}'
    )


def run_choices(lab: Lab) -> list[tuple[str, str]]:
    """All readable runs as (what is shown, id), newest first."""
    choices = []
    for run in list_runs(lab.runs_dir):
        if run.model not in MODELS:
            continue
        accuracy = "" if run.accuracy is None else f" {text.percent(run.accuracy)}"
        status = text.STATUS.get(run.status, run.status)
        label = f"{SYMBOLS.get(run.status, '◦')} {MODELS[run.model].title} · {run.data} · {status}{accuracy}"
        choices.append((label, run.id))
    return choices


def show_run(run_id: str | None) -> dict[str, Any]:
    """The value of the live view for this run."""
    if run_id:
        return {"source": run_id}
    return {"html": {"html-head": f'<p class="lab-empty">{escape(text.NO_RUNS)}</p>'}}


def build(lab: Lab) -> dict[str, gr.components.Component]:
    """Lay the tab out; returns the parts that the page has to fill when it is opened."""

    def read(request: dict) -> dict:
        """New events of a run since a cursor; for the page's own charts."""
        return read_run(lab, request)

    with gr.Row(elem_classes="lab-columns"):
        with gr.Column(scale=0, min_width=320, elem_classes="lab-side"):
            network = gr.Radio(
                [
                    (f"{spec.title} · {text.short_count(spec.parameters)}", name)
                    for name, spec in MODELS.items()
                ],
                value="resnet18",
                label=text.NETWORK,
                elem_classes="lab-list",
            )
            data = gr.Dropdown(list(lab.sources), value=lab.first_source, label=text.DATA)
            note = gr.Markdown(_data_note(lab, lab.first_source), elem_classes="lab-note")
            download = gr.Button(text.DOWNLOAD, visible=not lab.is_at_hand(lab.first_source), size="sm")
            preset = gr.Radio(list(PRESETS), value="quick", label=text.PRESET, elem_classes="lab-pills")
            preset_note = gr.Markdown(text.PRESET_NOTES["quick"], elem_classes="lab-note")
            with gr.Accordion(text.MORE, open=False):
                usual = preset_recipe("quick", "resnet18", lab.source(lab.first_source))
                epochs = gr.Number(usual.epochs, label=text.EPOCHS, info=text.EPOCHS_INFO, precision=0)
                batch = gr.Number(usual.batch_size, label=text.BATCH, info=text.BATCH_INFO, precision=0)
                rate = gr.Number(usual.peak_lr, label=text.RATE, info=text.RATE_INFO)
                seed = gr.Number(0, label=text.SEED, info=text.SEED_INFO, precision=0)
            start = gr.Button(text.START, variant="primary", elem_id="start", interactive=lab.can_train)
            stop = gr.Button(text.STOP, elem_id="stop", interactive=lab.can_train)
            if not lab.can_train:
                gr.Markdown(text.LOOK_ONLY, elem_classes="lab-note")
            runs = gr.Dropdown([], value=None, label=text.RUNS, elem_id="runs")
        with gr.Column(min_width=320, elem_classes="lab-main"):
            live = PlotView(
                ["html-head", "loss", "accuracy"],
                titles={"loss": text.LOSS, "accuracy": text.ACCURACY},
                read=read,
                elem_id="live",
            )

    def on_start(*values: Any) -> tuple[Any, Any]:
        try:
            run_id = start_training(lab, *values)
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from None
        gr.Info(text.STARTED)
        return gr.Dropdown(choices=run_choices(lab), value=run_id), show_run(run_id)

    def on_stop(run_id: str | None) -> None:
        try:
            stop_training(lab, run_id)
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from None
        gr.Info(text.STOPPING)

    def on_choice(model: str, title: str, name: str) -> tuple[Any, ...]:
        try:
            usual = preset_recipe(name, model, lab.source(title))
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from None
        return text.PRESET_NOTES[name], usual.epochs, usual.batch_size, usual.peak_lr

    def on_data(title: str) -> tuple[Any, Any]:
        return _data_note(lab, title), gr.Button(visible=not lab.is_at_hand(title))

    def on_download(title: str) -> Any:
        job = lab.load_in_background(title)
        while not job.finished.wait(0.5):
            stage = text.STAGES.get(job.stage, "…")
            share = f" {job.done / job.total:.0%}" if job.total else ""
            yield f"{stage}{share}", gr.Button(interactive=False)
        failed = job.error is not None
        yield job.error or text.DATA_READY, gr.Button(visible=failed, interactive=True)

    private = {"api_visibility": "private", "show_progress": "hidden"}
    fields = [network, data, preset, epochs, batch, rate, seed]
    start.click(on_start, fields, [runs, live], **private)
    stop.click(on_stop, [runs], None, **private)
    runs.input(show_run, [runs], [live], **private)
    runs.focus(lambda: gr.Dropdown(choices=run_choices(lab)), None, [runs], **private)
    data.change(on_data, [data], [note, download], **private)
    download.click(on_download, [data], [note, download], concurrency_limit=8, **private)
    choices, settings = [network, data, preset], [preset_note, epochs, batch, rate]
    gr.on([c.change for c in choices], on_choice, choices, settings, **private)
    return {"runs": runs, "live": live}


def _data_note(lab: Lab, title: str) -> str:
    if not lab.is_at_hand(title):
        return text.CIFAR_MISSING
    if lab.sources.get(title) == "synthetic":
        return text.SYNTHETIC_NOTE
    return text.DATA_LATER
