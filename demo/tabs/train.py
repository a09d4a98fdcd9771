"""The Train tab: start a training, watch it live, and see what all the others do."""

import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import gradio as gr
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from core import InputError
from core.models import MODELS
from core.runs import (
    RunFolder,
    RunSummary,
    create_run,
    delete,
    enqueue,
    move,
    new_run_id,
    pause_or_stop,
    summarise,
)
from core.training.recipe import PRESETS, SMALL_SOURCES, Recipe, TrainConfig, preset_recipe, with_changes
from demo import text
from demo.inputs import ArchiveInput, Choice
from demo.lab import Lab
from demo.live import compare_runs, export_run, read_run, show_run
from demo.plot_view import PlotView
from demo.run_table import Rows, RunTable

MAX_COMPARED = 8
RANDOM = ""  # among what a training can begin with: random weights


class Pressed(BaseModel):
    """What the page sends when a button of a run or a row of the table is pressed."""

    model_config = ConfigDict(extra="ignore")

    action: Literal["pause", "stop", "resume", "up", "down", "clone", "delete"] | None = None
    source: str | None = Field(None, max_length=60)
    run: str | None = Field(None, max_length=60)


class Ticked(BaseModel):
    """What the table's value says."""

    model_config = ConfigDict(extra="ignore")

    ticked: list[Annotated[str, Field(max_length=60)]] = Field([], max_length=10_000)


def start_training(
    lab: Lab,
    model: str,
    data: str,
    preset: str = "fast",
    epochs: int | None = None,
    batch_size: int | None = None,
    lr: float | None = None,
    seed: int = 0,
    start_from: str | None = None,
) -> str:
    """Make a run and put it in line for its device; returns its id.

    Args:
        start_from: the trained network, by name, whose weights it begins with; none: random weights.

    Raises:
        InputError: training is not allowed here, or a value can't be used.
    """
    _require_training(lab)
    source = lab.source(data)
    try:
        recipe = with_changes(
            preset_recipe(preset, model, source),
            epochs=epochs or None,  # an emptied field comes as 0
            batch_size=batch_size or None,
            peak_lr=lr or None,
        )
        config = TrainConfig(
            model=model,
            data=source,
            preset=preset,
            recipe=recipe,
            seed=seed or 0,
            start_from=str(lab.checkpoint_path(start_from).absolute()) if start_from else None,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{'.'.join(map(str, first['loc']))}: {first['msg']}.") from None
    folder = RunFolder(lab.runs_dir / new_run_id(model))
    create_run(folder, config)
    enqueue(folder, lab.data_dir)
    return folder.id


def control(lab: Lab, action: str, run_id: Any) -> str:
    """Do `action` with a run: pause, stop, resume, up, down or delete; returns its id.

    Raises:
        InputError: training is not allowed here, there is no such run, or it can't be done now.
    """
    _require_training(lab)
    run = lab.own_run(run_id)
    if action in ("pause", "stop"):
        pause_or_stop(run, action)
    elif action in ("up", "down"):
        move(run, action)
    elif action == "resume":
        enqueue(run, lab.data_dir)
    elif action == "delete":
        delete(run)
    return run.id


def _require_training(lab: Lab) -> None:
    if not lab.can_train:
        raise InputError(text.LOOK_ONLY)


def origin_choices(lab: Lab, model: str) -> list[tuple[str, str]]:
    """What a training of `model` can begin with, as (what is shown, name)."""
    trained = lab.checkpoints(model=model)
    return [(text.RANDOM_WEIGHTS, RANDOM), *((shown, name) for name, shown in trained.items())]


def _origin_name(lab: Lab, path: str | None) -> str:
    """The name of the checkpoint at `path`, if it is on the list."""
    names = lab.checkpoints() if path else {}
    return next((n for n in names if str(lab.checkpoint_path(n).absolute()) == path), RANDOM)


def usual_settings(lab: Lab) -> str:
    """JavaScript: for (network, data, preset) the preset's note, epochs, batch size and learning rate.

    Looked up in the browser: an answer that came later would replace what a person has typed meanwhile.
    """
    small = [title for title, source in lab.sources.items() if source in SMALL_SOURCES]
    usual = {
        preset: {
            model: [_settings(preset_recipe(preset, model, source)) for source in ("cifar10", *SMALL_SOURCES)]
            for model in MODELS
        }
        for preset in PRESETS
    }
    return f"""(network, data, preset) => [
      {json.dumps(text.PRESET_NOTES)}[preset],
      ...{json.dumps(usual)}[preset][network][{json.dumps(small)}.includes(data) ? 1 : 0],
    ]"""


def _settings(recipe: Recipe) -> tuple[int, int, float]:
    return recipe.epochs, recipe.batch_size, recipe.peak_lr


def newest_run(runs: list[RunSummary]) -> str | None:
    """The run to show first: the newest that can be read."""
    return next((run.id for run in runs if run.status != "unreadable"), None)


def build(lab: Lab) -> dict[str, gr.components.Component]:
    """Lay the tab out; returns the parts that the page has to fill when it is opened."""

    def read(request: dict) -> dict:
        """New events of a run since a cursor; for the page's own charts."""
        return read_run(lab, request)

    def export(request: dict) -> dict:
        """A run's curves, settings or command; for the page's own buttons."""
        return export_run(lab, request)

    table_rows = Rows(lab)

    def rows(request: dict) -> dict:
        """What has changed in the list of runs; for the page's own table."""
        return table_rows.read(request)

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
            origin = Choice(
                origin_choices(lab, "resnet18"), value=RANDOM, label=text.START_FROM, elem_id="origin"
            )
            data = Choice(list(lab.sources), value=lab.first_source, label=text.DATA)
            note = gr.Markdown(_data_note(lab, lab.first_source), elem_classes="lab-note")
            download = gr.Button(text.DOWNLOAD, visible=not lab.is_at_hand(lab.first_source), size="sm")
            about = gr.HTML(
                lab.uploads.describe(lab.first_source), elem_id="about-data", apply_default_css=False
            )
            remove = gr.Button(text.UPLOAD_REMOVE, visible=False, size="sm", elem_id="remove-data")
            with gr.Accordion(text.YOUR_DATA, open=False, visible=lab.can_train):
                archive = ArchiveInput(
                    file_types=[".zip"], label=text.UPLOAD, type="filepath", height=120, elem_id="archive"
                )
                gr.Markdown(text.UPLOAD_NOTE, elem_classes="lab-note")
                kept_as = gr.Textbox(label=text.UPLOAD_AS, max_length=40)
                add = gr.Button(text.UPLOAD_ADD, size="sm", elem_id="add-data")
                added = gr.Markdown(elem_classes="lab-note", elem_id="added")
            preset = gr.Radio(list(PRESETS), value="quick", label=text.PRESET, elem_classes="lab-pills")
            preset_note = gr.Markdown(text.PRESET_NOTES["quick"], elem_classes="lab-note")
            with gr.Accordion(text.MORE, open=False):
                usual = preset_recipe("quick", "resnet18", lab.source(lab.first_source))
                epochs = gr.Number(usual.epochs, label=text.EPOCHS, info=text.EPOCHS_INFO, precision=0)
                batch = gr.Number(usual.batch_size, label=text.BATCH, info=text.BATCH_INFO, precision=0)
                rate = gr.Number(usual.peak_lr, label=text.RATE, info=text.RATE_INFO)
                seed = gr.Number(0, label=text.SEED, info=text.SEED_INFO, precision=0)
            start = gr.Button(text.START, variant="primary", elem_id="start", interactive=lab.can_train)
            if not lab.can_train:
                gr.Markdown(text.LOOK_ONLY, elem_classes="lab-note")
        with gr.Column(min_width=320, elem_classes="lab-main"):
            live = PlotView(
                [
                    "html-head",
                    "html-actions",
                    "loss",
                    "accuracy",
                    "classes",
                    "map",
                    "html-samples",
                    "html-filters",
                    "speed",
                ],
                titles={
                    "loss": text.LOSS,
                    "accuracy": text.ACCURACY,
                    "classes": text.EACH_CLASS,
                    "map": text.CLASS_MAP,
                    "html-samples": text.SEES_NOW,
                    "html-filters": text.FILTERS,
                    "speed": text.SPEED,
                },
                tools=["loss"],
                read=read,
                export=export,
                elem_id="live",
            )
    table = RunTable(rows, elem_id="runs")
    with gr.Column(elem_classes="lab-compared"):  # hidden by style while there is nothing to compare
        unit = gr.Radio(
            [(words, name) for name, words in text.UNITS.items()],
            value="epoch",
            label=text.AGAINST,
            elem_classes="lab-pills",
        )
        overlay = PlotView(
            ["compare-loss", "compare-accuracy"],
            titles={"compare-loss": text.LOSS, "compare-accuracy": text.ACCURACY},
            elem_id="compare",
        )
    ticked = gr.State([])

    def on_start(*values: Any) -> tuple[Any, Any]:
        run_id = told(start_training, lab, *values)
        waits = summarise(lab.run(run_id)).status == "queued"
        gr.Info(text.QUEUED if waits else text.STARTED)
        return show_run(run_id), {"shown": run_id}

    def on_press(event: gr.EventData) -> dict[Any, Any]:
        """A button of the run that is shown."""
        pressed = _pressed(event)
        if pressed.action == "clone":
            config = told(lambda: lab.run(pressed.source).read_config())
            gr.Info(text.CLONED)
            titles = {source: title for title, source in lab.sources.items()}
            recipe = config.recipe
            return {
                network: config.model,
                data: titles.get(config.data, gr.skip()),
                preset: config.preset,
                epochs: recipe.epochs,
                batch: recipe.batch_size,
                rate: recipe.peak_lr,
                seed: config.seed,
                origin: gr.Dropdown(
                    choices=origin_choices(lab, config.model), value=_origin_name(lab, config.start_from)
                ),
            }
        if pressed.action is None:
            return {live: gr.skip()}
        told(control, lab, pressed.action, pressed.source)
        words = {"pause": text.PAUSING, "stop": text.STOPPING, "resume": text.RESUMED, "delete": text.DELETED}
        if pressed.action in words:
            gr.Info(words[pressed.action])
        if pressed.action == "delete":
            newest = newest_run(lab.runs())
            return {live: show_run(newest), table: {"shown": newest}}
        return {live: gr.skip()}

    def on_row(event: gr.EventData) -> dict[Any, Any]:
        """A row that is to be shown."""
        run_id = told(lambda: lab.run(_pressed(event).run).id)
        return {live: show_run(run_id), table: {"shown": run_id}}

    def on_ticks(value: Any, against: str) -> dict[Any, Any]:
        """The runs that are ticked."""
        try:
            ids = Ticked.model_validate(value).ticked
        except ValidationError:
            ids = []
        if len(ids) > MAX_COMPARED:
            raise gr.Error(text.MAX_COMPARED.format(count=MAX_COMPARED), print_exception=False)
        return {ticked: ids, overlay: told(compare_runs, lab, ids, against)}

    def on_unit(ids: list[str], against: str) -> dict[str, Any]:
        return told(compare_runs, lab, ids, against)

    def on_data(title: str) -> tuple[Any, ...]:
        mine = lab.can_train and title in lab.uploads.sources()
        return (
            _data_note(lab, title),
            gr.Button(visible=not lab.is_at_hand(title)),
            lab.uploads.describe(title),
            gr.Button(visible=mine),
        )

    def on_archive(path: str | None) -> str:
        """A name to start from: the file's own."""
        return re.sub(r"[^A-Za-z0-9 _-]+", "-", Path(path).stem)[:40].strip("-_ ") if path else ""

    def on_add(path: str | None, name: str) -> Any:
        told(_require_training, lab)
        if not path:
            raise gr.Error(text.UPLOAD_NONE, print_exception=False)
        job = lab.upload_in_background(name, Path(path))
        for words in job.so_far():
            yield gr.skip(), words, gr.skip()
        if job.error is not None:
            yield gr.skip(), job.error, gr.skip()
            return
        name = name.strip()
        yield gr.Dropdown(choices=list(lab.sources), value=name), text.UPLOAD_DONE.format(name=name), None

    def on_remove(title: str) -> Any:
        told(_require_training, lab)
        told(lab.uploads.remove, title)
        gr.Info(text.SURE_REMOVE)
        return gr.Dropdown(choices=list(lab.sources), value=lab.first_source)

    def on_download(title: str) -> Any:
        job = lab.load_in_background(title)
        for words in job.so_far():
            yield words, gr.Button(interactive=False)
        failed = job.error is not None
        yield job.error or text.DATA_READY, gr.Button(visible=failed, interactive=True)

    private = {"api_visibility": "private", "show_progress": "hidden"}
    fields = [network, data, preset, epochs, batch, rate, seed, origin]
    # The first of what an input sets off: the page waits for the server before it goes on to the next.
    choices, settings = [network, data, preset], [preset_note, epochs, batch, rate]
    gr.on([c.input for c in choices], None, choices, settings, js=usual_settings(lab), **private)
    start.click(on_start, fields, [live, table], **private)
    live.click(on_press, None, [live, table, *fields], **private)
    table.click(on_row, None, [live, table], **private)
    table.input(on_ticks, [table, unit], [ticked, overlay], trigger_mode="always_last", **private)
    unit.input(on_unit, [ticked, unit], [overlay], **private)
    data.change(on_data, [data], [note, download, about, remove], **private)
    origin.focus(
        lambda model: gr.Dropdown(choices=origin_choices(lab, model)), [network], [origin], **private
    )
    network.input(
        lambda model: gr.Dropdown(choices=origin_choices(lab, model), value=RANDOM),
        [network],
        [origin],
        **private,
    )
    data.focus(lambda: gr.Dropdown(choices=list(lab.sources)), None, [data], **private)
    archive.change(on_archive, [archive], [kept_as], **private)
    add.click(on_add, [archive, kept_as], [data, added, archive], concurrency_limit=4, **private)
    remove.click(on_remove, [data], [data], **private)
    download.click(on_download, [data], [note, download], concurrency_limit=8, **private)
    return {"live": live, "table": table, "data": data}


def _pressed(event: gr.EventData) -> Pressed:
    try:
        return Pressed.model_validate(event._data)
    except ValidationError:
        return Pressed()


def told(function: Any, *args: Any, **kwargs: Any) -> Any:
    """Call; what the person got wrong goes back to them as one sentence."""
    try:
        return function(*args, **kwargs)
    except InputError as error:
        raise gr.Error(str(error), print_exception=False) from None


def _data_note(lab: Lab, title: str) -> str:
    if not lab.is_at_hand(title):
        return text.CIFAR_MISSING
    if lab.sources.get(title) == "synthetic":
        return text.SYNTHETIC_NOTE
    if title in lab.uploads.sources():
        return ""
    return text.DATA_LATER
