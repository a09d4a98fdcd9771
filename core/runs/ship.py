"""Put a finished run among the networks that come with the program.

The weights become `<model>.safetensors`; what shows how they were trained becomes a run's folder without
weights, `runs/shipped-<model>`, small enough to be kept with the program. A run of which only the curves are
shipped keeps the name of its folder behind `shipped-`.
"""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from core import InputError
from core.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from core.data import DataSet
from core.evaluation import Report, evaluate_checkpoint, prediction_tensors
from core.files import replace_atomically, save_tensors, write_json
from core.runs.folder import RunFolder
from core.runs.log import Event, read_events, settle

SHIPPED = "shipped-"  # ids of shipped runs begin so
SHIPPED_STEPS = 600  # step events that are kept
HALF_COSTS = 0.0005  # of accuracy, plain or mirrored, that half precision may change
DIGITS = 5  # of the numbers in the shipped curves that are below 1; after the point of others


def shipped_run(name: str, folder: Path) -> RunFolder:
    """Where the curves of a shipped network are, or of the run of this name."""
    return RunFolder(folder / "runs" / f"{SHIPPED}{name.replace('_', '-')}")


def ship_weights(
    run: RunFolder,
    data: DataSet,
    folder: Path,
    title: str,
    on_batch: Callable[[int, int], None] | None = None,
) -> Report:
    """Write `<model>.safetensors` into `folder`, with all figures counted anew on what is written.

    The weights are rounded to half precision, unless that changes the accuracy by more than 0.05 points.

    Args:
        title: what the checkpoint is to call its data.

    Raises:
        InputError: the run is not finished, or these are not the images it was trained on.
    """
    before = run.read_report()
    if before is None:
        raise InputError(f"The run in '{run.path}' is not finished.")
    if before.data_fingerprint != data.fingerprint:
        raise InputError(f"'{data.name}' is not the data this run was trained on.")
    checkpoint = load_checkpoint(run.model_file)
    full = {name: tensor.clone() for name, tensor in checkpoint.model.state_dict().items()}
    half = {name: t.half() if t.is_floating_point() else t for name, t in full.items()}
    weights, report, logits = half, *_measure(checkpoint, half, data, on_batch)
    changes = (report.accuracy - before.accuracy, (report.accuracy_tta or 0) - (before.accuracy_tta or 0))
    if before.accuracy_tta is None or max(map(abs, changes)) > HALF_COSTS:
        weights, report, logits = full, *_measure(checkpoint, full, data, on_batch)
    info = checkpoint.info.model_copy(update={"data_title": title, "metrics": report.model_dump()})
    place = shipped_run(info.model, folder)
    place.path.mkdir(parents=True, exist_ok=True)
    answers = prediction_tensors(logits, data.test.labels, info.temperature)
    save_tensors(place.predictions_file, answers)
    write_json(place.report_file, report.model_dump())
    save_checkpoint(
        folder / f"{info.model}.safetensors", weights, info, checkpoint.bank, checkpoint.bank_images
    )
    return report


def ship_curves(run: RunFolder, folder: Path, report: Report | None = None) -> Path:
    """Copy config, curves and filters of a run, thinned and without paths; returns the new folder.

    The test pictures stay behind: they are not the program's to give away.

    Args:
        report: the figures of the weights as they are shipped, which the curves are to end with; None where
            no weights are shipped.

    Raises:
        InputError: it is not a run's folder.
    """
    config = run.read_config()
    place = shipped_run(run.path.resolve().name if report is None else config.model, folder)
    place.path.mkdir(parents=True, exist_ok=True)
    origin = Path(config.start_from).name if config.start_from else None
    config = config.model_copy(update={"data": Path(config.data).name, "start_from": origin})
    write_json(place.config_file, config.model_dump(mode="json"))
    events = _thinned(run)
    for event in events:
        if event["type"] == "finish" and report is not None:
            event |= report.model_dump(include=event.keys())
    lines = [json.dumps(event, separators=(",", ":")) for event in events]
    replace_atomically(place.events_file, lambda part: part.write_text("\n".join(lines) + "\n", "utf-8"))
    if run.filters_file.exists():
        shutil.copyfile(run.filters_file, place.filters_file)
    return place.path


def _measure(
    checkpoint: Checkpoint,
    weights: dict[str, Tensor],
    data: DataSet,
    on_batch: Callable[[int, int], None] | None,
) -> tuple[Report, Tensor]:
    floats = {name: t.float() if t.is_floating_point() else t for name, t in weights.items()}
    checkpoint.model.load_state_dict(floats)
    return evaluate_checkpoint(checkpoint, data, tta=True, on_batch=on_batch)


def _thinned(run: RunFolder) -> list[Event]:
    """A run's events: all but `progress`, some of the steps, numbers rounded, paths shortened."""
    events = [e for e in settle(read_events(run.events_file)[0]) if e["type"] != "progress"]
    steps = sum(event["type"] == "step" for event in events)
    stride, seen, kept = -(-steps // SHIPPED_STEPS) or 1, 0, []
    for event in events:
        if event["type"] == "step":
            seen += 1
            if seen % stride and seen != steps:
                continue
        if event["type"] == "start":
            config = event["config"]
            for field in ("data", "start_from"):
                if config.get(field):
                    config[field] = Path(config[field]).name
        kept.append(_rounded(event))
    return kept


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return round(value, DIGITS) if abs(value) >= 1 else float(f"{value:.{DIGITS}g}")
    if isinstance(value, dict):
        return {key: _rounded(part) for key, part in value.items()}
    return [_rounded(part) for part in value] if isinstance(value, list) else value
