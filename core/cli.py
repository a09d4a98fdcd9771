"""The terminal: python -m core train | evaluate | classify | runs | benchmark."""

import json
import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from core import InputError
from core.models import MODELS

CHECKPOINTS = Path(__file__).resolve().parents[1] / "checkpoints"
EXIT_INPUT = 2  # what was given can't be used
EXIT_FAILED = 1  # the work itself failed

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help="Train, evaluate and use image classifiers.",
)


class Preset(StrEnum):
    quick = "quick"
    fast = "fast"
    accurate = "accurate"
    classic = "classic"


class Device(StrEnum):
    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"
    mps = "mps"


class Precision(StrEnum):
    auto = "auto"
    fp32 = "fp32"
    bf16 = "bf16"


class Compile(StrEnum):
    auto = "auto"
    on = "on"
    off = "off"


DataOption = Annotated[
    str,
    typer.Option("--data", help="cifar10, synthetic, or the path of a folder or a zip of images."),
]
DataDirOption = Annotated[Path, typer.Option(help="Where downloads and decoded copies are kept.")]
RunsOption = Annotated[Path, typer.Option("--runs", help="The folder of all runs.")]
CheckpointArgument = Annotated[
    str, typer.Argument(help="A .safetensors file, a shipped name (resnet18) or a run's id.")
]


@app.command()
def train(
    model: Annotated[str, typer.Option(help=f"The network: {', '.join(MODELS)}.")] = "resnet18",
    data: DataOption = "cifar10",
    preset: Annotated[Preset, typer.Option(help="The recipe to start from.")] = Preset.fast,
    epochs: Annotated[int | None, typer.Option(help="Passes over the training images.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Images a step.")] = None,
    lr: Annotated[float | None, typer.Option(help="Learning rate at its highest.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="FIELD=VALUE", help="Change any field of the recipe; repeatable."),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(help="The same seed gives the same run.", show_default="0, or that of --from"),
    ] = None,
    start_from: Annotated[
        str | None,
        typer.Option("--from", metavar="CHECKPOINT", help="Begin with this network's weights."),
    ] = None,
    device: Annotated[Device, typer.Option(help="What to train on.")] = Device.auto,
    subset: Annotated[int | None, typer.Option(help="Train on so many images only.")] = None,
    save_every: Annotated[float, typer.Option(help="Seconds between two saves.")] = 300,
    out: Annotated[
        Path | None, typer.Option(help="The run's folder.", show_default="a new one in runs/")
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with the run in this folder; other options are its own."),
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="Arithmetic; auto is bf16 where the device has it in hardware.")
    ] = Precision.auto,
    compile_: Annotated[
        Compile, typer.Option("--compile", help="torch.compile; auto: where this run pays it back.")
    ] = Compile.auto,
    memory_efficient: Annotated[
        bool, typer.Option("--memory-efficient", help="DenseNet: less memory, more time.")
    ] = False,
    sync_batch_norm: Annotated[
        bool, typer.Option("--sync-batch-norm", help="Several GPUs: BatchNorm over all of them.")
    ] = False,
    predict: Annotated[
        bool, typer.Option("--predict", help="Only say what it would cost on this machine.")
    ] = False,
    data_dir: DataDirOption = Path("data"),
) -> None:
    """Train a network; leaves model.safetensors and report.json in the run's folder."""
    from core.checkpoint import read_info
    from core.data import NAMED_SOURCES, require_source
    from core.device import pick_device
    from core.runs import RunFolder, create_run, execute, new_run_id
    from core.training.distributed import joined
    from core.training.recipe import TrainConfig, preset_recipe, with_changes

    if resume is not None:
        folder = RunFolder(resume)
        config = folder.read_config()
    else:
        recipe = with_changes(
            preset_recipe(preset.value, model, data),
            epochs=epochs,
            batch_size=batch_size,
            peak_lr=lr,
            train_images=subset,
        )
        recipe = with_changes(recipe, **_fields(change or []))
        require_source(data)
        origin = find_checkpoint(start_from, Path("runs")).resolve() if start_from else None
        if seed is None:
            seed = read_info(origin).seed if origin else 0
        config = TrainConfig(
            model=model,
            data=data if data in NAMED_SOURCES else str(Path(data).expanduser().resolve()),
            preset=preset.value,
            recipe=recipe,
            seed=seed,
            start_from=str(origin) if origin else None,
            device=device.value,
            precision=precision.value,
            compile=compile_.value,
            memory_efficient=memory_efficient,
            sync_batch_norm=sync_batch_norm,
            save_every=save_every,
        )
        if predict:
            _print_cost(config, data_dir)
            return
        folder = RunFolder(out or Path("runs") / new_run_id(model))
    with joined(pick_device(config.device)) as ranks:
        if resume is None and ranks.rank == 0:
            create_run(folder, config)
        console = _Console(folder.path)
        try:
            status = execute(folder, config, data_dir, console, ranks)
        except InputError:
            if resume is None and ranks.rank == 0 and not folder.resume_file.exists():
                _discard(folder)
            raise
    if status == "failed":
        _complain(console.failure)
        raise typer.Exit(EXIT_FAILED)


@app.command()
def evaluate(
    checkpoint: CheckpointArgument,
    data: DataOption,
    tta: Annotated[bool, typer.Option("--tta", help="Also average over the mirror image.")] = False,
    json_file: Annotated[
        str | None, typer.Option("--json", help="Write the report as JSON; - is standard output.")
    ] = None,
    device: Annotated[Device, typer.Option(help="What to evaluate on.")] = Device.auto,
    runs: RunsOption = Path("runs"),
    data_dir: DataDirOption = Path("data"),
) -> None:
    """Measure a checkpoint on the test images of a data set."""
    from core.checkpoint import load_checkpoint, read_info
    from core.data import load_data, require_source
    from core.device import pick_device, prepare
    from core.evaluation import evaluate_checkpoint
    from core.files import write_json

    path = find_checkpoint(checkpoint, runs)
    read_info(path)  # before the data, which may take long
    require_source(data)
    target = pick_device(device.value)
    prepare(target)
    loaded = load_checkpoint(path, target)
    bar = _Bar()
    images = load_data(data, data_dir=data_dir, progress=bar.show)
    report, _ = evaluate_checkpoint(
        loaded, images, tta=tta, on_batch=lambda done, total: bar.show("evaluate", done, total)
    )
    bar.clear()
    document = report.model_dump()
    if not tta:
        del document["accuracy_tta"]
    if json_file == "-":
        print(json.dumps(document))
    elif json_file:
        try:
            write_json(Path(json_file), document)
        except OSError as error:
            raise InputError(f"'{json_file}' can't be written ({error.strerror}).") from None
    else:
        print(f"accuracy {report.accuracy:.2%} of {report.count:,} test images")
        if report.accuracy_tta is not None:
            print(f"accuracy {report.accuracy_tta:.2%} with the mirror image averaged in")
        print(f"loss {report.loss:.4f}")
        print(f"ECE {report.ece:.2%} ({report.ece_before_temperature:.2%} before temperature)")
        for name, value in report.per_class_accuracy.items():
            print(f"  {name:<12} {'no images' if value is None else f'{value:.1%}'}")


@app.command()
def classify(
    checkpoint: CheckpointArgument,
    images: Annotated[list[Path], typer.Argument(help="Picture files.")],
    top: Annotated[
        int | None, typer.Option(min=1, help="So many classes.", show_default="5; all with --json")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    runs: RunsOption = Path("runs"),
) -> None:
    """Classify picture files."""
    from core.checkpoint import load_checkpoint
    from core.data.pictures import PictureError, read_picture
    from core.inference import classify as classify_picture

    loaded = load_checkpoint(find_checkpoint(checkpoint, runs))
    results: list[dict[str, Any]] = []
    errors = []
    for image in images:
        try:
            answer = classify_picture(loaded, read_picture(image))
        except PictureError as error:
            results.append({"file": str(image), "error": str(error)})
            errors.append(f"'{image}': {error}")
            continue
        predictions = answer.predictions[: top or (None if as_json else 5)]
        results.append(
            {
                "file": str(image),
                "predictions": [{"class": c, "probability": p} for c, p in predictions],
                "verdict": answer.verdict,
                "in_distribution_score": answer.in_distribution_score,
            }
        )
    if as_json:
        print(json.dumps(results))
    else:
        for result in results:
            if "error" not in result:
                print(f"{result['file']}  ({result['verdict']})")
                for line in result["predictions"]:
                    print(f"  {line['probability']:6.1%}  {line['class']}")
    if errors:
        more = f" (and {len(errors) - 1} more)" if len(errors) > 1 else ""
        raise InputError(errors[0] + more)


@app.command()
def runs(
    runs_dir: RunsOption = Path("runs"),
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List all runs, newest first."""
    from core.runs import list_runs

    if not runs_dir.is_dir() and runs_dir != Path("runs"):
        raise InputError(f"There is no folder '{runs_dir}'.")
    summaries = list_runs(runs_dir)
    if as_json:
        print(json.dumps([summary.model_dump() for summary in summaries]))
        return
    for s in summaries:
        accuracy = "" if s.accuracy is None else f"{s.accuracy:.1%}"
        print(f"{s.id:<44} {s.status:<10} {s.epoch:>3}/{s.epochs:<3} {accuracy:>6}  {s.data}")


@app.command()
def benchmark(
    model: Annotated[str, typer.Option(help=f"The network: {', '.join(MODELS)}.")] = "resnet18",
    data: DataOption = "synthetic",
    device: Annotated[Device, typer.Option(help="What to run on.")] = Device.auto,
    steps: Annotated[int, typer.Option(min=1, help="Steps of each loop in each of three turns.")] = 5,
    batch_size: Annotated[int, typer.Option(min=2, help="Images a step.")] = 128,
    precision: Annotated[Precision, typer.Option(help="Arithmetic of our loop.")] = Precision.auto,
    compile_: Annotated[
        Compile, typer.Option("--compile", help="Compile our loop (on), or not.")
    ] = Compile.off,
    with_profile: Annotated[
        bool, typer.Option("--profile", help="Print where the time of a step goes instead.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    data_dir: DataDirOption = Path("data"),
) -> None:
    """Time our training loop beside the usual script's, in turns, on 32 px images."""
    from core.data import load_data, require_source
    from core.training.benchmark import benchmark as measure
    from core.training.benchmark import profile
    from core.training.recipe import TrainConfig, preset_recipe, with_changes

    require_source(data)
    recipe = with_changes(preset_recipe("classic", model), batch_size=batch_size)
    config = TrainConfig(
        model=model,
        data=data,
        recipe=recipe,
        device=device.value,
        precision=precision.value,
        compile=compile_.value,
    )
    bar = _Bar()
    images = load_data(data, data_dir=data_dir, progress=bar.show)
    if with_profile:
        print(profile(config, images))
        return
    result = measure(config, images, steps, tell=bar.line)
    bar.clear()
    if as_json:
        print(json.dumps(result))
        return
    print(f"{result['model']}, batch {result['batch_size']}, {result['device']}, {result['precision']}")
    print(f"  ours   {result['images_per_second']:8.1f} images/s")
    print(f"  plain  {result['plain_images_per_second']:8.1f} images/s (DataLoader, eager float32)")
    print(f"  bare   {result['bare_images_per_second']:8.1f} images/s (its step alone)")
    print(f"  ratio  {result['ratio']:8.2f}")
    print(f"  peak memory {result['peak_memory_mb']:,.0f} MB, compiled in {result['compile_seconds']:.0f} s")
    for size, seconds in result["seconds_per_image"].items():
        print(f"  batch {size:>4}: {seconds * 1000:.2f} ms an image")


@app.command()
def ship(
    run: Annotated[Path, typer.Argument(help="The folder of a finished run.")],
    data: DataOption = "",
    title: Annotated[str, typer.Option(help="What the checkpoint is to call its data.")] = "",
    to: Annotated[Path, typer.Option(help="Where to put it.")] = CHECKPOINTS,
    curves_only: Annotated[
        bool, typer.Option("--curves-only", help="Leave the weights out; needs no data and no title.")
    ] = False,
    data_dir: DataDirOption = Path("data"),
) -> None:
    """Put a finished run among the networks that come with the program."""
    from core.data import load_data, require_source
    from core.runs import RunFolder
    from core.runs.ship import ship_curves, ship_weights

    folder, bar, report = RunFolder(run), _Bar(), None
    if not curves_only:
        require_source(data)
        if not title.strip():
            raise InputError("Say with --title what the checkpoint is to call its data.")
        images = load_data(data, data_dir=data_dir, progress=bar.show)
        report = ship_weights(
            folder, images, to, title, on_batch=lambda done, total: bar.show("evaluate", done, total)
        )
        bar.clear()
        print(f"accuracy {report.accuracy:.2%}, {report.accuracy_tta:.2%} with the mirror image")
    print(ship_curves(folder, to, report))


def find_checkpoint(name: str, runs_dir: Path) -> Path:
    """A path, a shipped name or a run's id, in this order.

    Raises:
        InputError: there is nothing of that name.
    """
    from core.runs.folder import RUN_ID, RunFolder

    path = Path(name)
    if path.is_file():
        return path
    if path.is_dir() and RunFolder(path).model_file.is_file():
        return RunFolder(path).model_file
    shipped = CHECKPOINTS / f"{name}.safetensors"
    if name.replace("_", "").isalnum() and shipped.is_file():
        return shipped
    if RUN_ID.fullmatch(name) and RunFolder(runs_dir / name).model_file.is_file():
        return RunFolder(runs_dir / name).model_file
    raise InputError(f"There is no checkpoint '{name}': no such file, shipped network or finished run.")


def _fields(changes: list[str]) -> dict[str, Any]:
    """From `--set label_smoothing=0 --set sizes=[[0,16],[0.5,32]]`; the recipe validates the values."""
    fields = {}
    for change in changes:
        name, equals, value = change.partition("=")
        if not equals:
            raise InputError(f"--set takes FIELD=VALUE, not '{change}'.")
        try:
            fields[name] = json.loads(value)
        except json.JSONDecodeError:
            fields[name] = value
    return fields


def _print_cost(config: Any, data_dir: Path) -> None:
    from core.data import load_data
    from core.training.trainer import Trainer

    cost = Trainer(config, load_data(config.data, data_dir=data_dir)).predict_cost()
    print(f"{cost.epoch_seconds:,.1f} s an epoch, {cost.total_seconds:,.0f} s in all")


def _discard(folder: Any) -> None:
    """Leave nothing half-written of a run that was refused before its first step."""
    for file in (folder.config_file, folder.events_file, folder.lock_file):
        file.unlink(missing_ok=True)
    if not any(folder.path.iterdir()):
        folder.path.rmdir()


class _Bar:
    """A line on the terminal that is written over; silent where standard error is a file."""

    def __init__(self) -> None:
        self._on = sys.stderr.isatty()

    def show(self, stage: str, done: int, total: int) -> None:
        if self._on:
            share = f" {done / total:4.0%}" if total else ""
            print(f"\r\x1b[K{stage}{share} ({done:,})", end="", file=sys.stderr, flush=True)

    def line(self, text: str) -> None:
        if self._on:
            print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if self._on:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


class _Console:
    """Tells of a training on standard error: a line an epoch, and a moving one on a terminal."""

    def __init__(self, folder: Path) -> None:
        self._bar = _Bar()
        self._folder = folder
        self.failure = ""

    def __call__(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "progress":
            self._bar.show(event["stage"], event["done"], event["total"])
        elif kind == "step":
            self._bar.line(
                f"epoch {event['epoch']}  step {event['step']}  loss {event['loss']:.4f}  "
                f"{event['images_per_second']:,.0f} images/s"
            )
        elif kind == "epoch":
            self._print(
                f"epoch {event['epoch']:>3}  train loss {event['train_loss']:.4f}  "
                f"accuracy {event['train_accuracy']:.1%}  |  test loss {event['test_loss']:.4f}  "
                f"accuracy {event['test_accuracy']:.1%}  ({event['image_size']} px, "
                f"{event['seconds']:.0f} s)"
            )
        elif kind == "start":
            self._print(f"run folder: {self._folder}")
            self._print(
                f"{event['config']['model']} on {event['data']['name']}, {event['device']}, "
                f"{event['precision']}, {event['steps_total']:,} steps"
            )
        elif kind == "finish":
            tta = f", {event['accuracy_tta']:.2%} with mirror" if event["accuracy_tta"] else ""
            self._print(f"test accuracy {event['accuracy']:.2%}{tta} of {event['count']:,} images")
        elif kind == "status" and event["status"] == "failed":
            self.failure = event["reason"]
        elif kind == "status" and event["reason"] != "preparing":
            reason = f": {event['reason']}" if event["reason"] else ""
            self._print(f"{event['status']}{reason}")

    def _print(self, text: str) -> None:
        self._bar.clear()
        print(text, file=sys.stderr, flush=True)


def main() -> None:
    """Run a command; what the person got wrong becomes one line on standard error and exit code 2."""
    try:
        code = app(standalone_mode=False)
    except InputError as error:
        code = _complain(str(error))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        code = _complain(f"{field}: {first['msg']} (given: {first['input']!r:.60})")
    except typer.TyperException as error:
        code = _complain(getattr(error, "message", "") or str(error))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = EXIT_FAILED
    sys.exit(code or 0)


def _complain(message: str) -> int:
    """Print one line on standard error."""
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return EXIT_INPUT
