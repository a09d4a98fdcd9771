"""A finished run put among the shipped networks: small, without paths, with figures that can be repeated."""

import json
from pathlib import Path

import pytest

from core import InputError
from core.checkpoint import load_checkpoint
from core.data import load_data
from core.evaluation import evaluate_checkpoint
from core.runs import RunFolder, create_run, execute, list_runs
from core.runs.ship import SHIPPED_STEPS, ship_curves, ship_weights
from core.training.recipe import TrainConfig
from tests.conftest import make_config

MODEL_BYTES = 62_006 * 4


def finished_run(folder: Path, config: TrainConfig) -> RunFolder:
    run = RunFolder(folder)
    create_run(run, config)
    assert execute(run, config, folder.parent / "data") == "finished"
    return run


def test_what_is_shipped_is_small_and_says_what_is_measured_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.runs.ship.HALF_COSTS", 0.01)  # of a barely trained network, more images turn
    config = make_config(epochs=2, train_images=800)
    run = finished_run(tmp_path / "20260101-000000-simple-cnn-abcd", config)
    data, shipped = load_data("synthetic"), tmp_path / "checkpoints"
    report = ship_weights(run, data, shipped, "Shapes, drawn")
    place = ship_curves(run, shipped, report)

    file = shipped / "simple_cnn.safetensors"
    checkpoint = load_checkpoint(file)
    assert checkpoint.info.data_title == "Shapes, drawn"
    assert checkpoint.bank is not None
    bank_bytes = checkpoint.bank.numel() * 2
    assert file.stat().st_size < MODEL_BYTES * 0.55 + bank_bytes + 30_000  # half precision
    again, _ = evaluate_checkpoint(checkpoint, data, tta=True)
    assert again.model_dump(mode="json") == checkpoint.info.metrics == report.model_dump(mode="json")
    assert report.accuracy == pytest.approx(run.read_report().accuracy, abs=0.01)

    monkeypatch.setattr("core.runs.ship.HALF_COSTS", -1.0)  # no rounding is good enough
    ship_weights(run, data, shipped, "Shapes, drawn")
    assert file.stat().st_size > MODEL_BYTES + bank_bytes
    assert load_checkpoint(file).info.metrics["accuracy"] == run.read_report().accuracy

    (listed,) = list_runs(shipped / "runs")
    assert (listed.id, listed.status, listed.epoch) == ("shipped-simple-cnn", "finished", 2)
    assert listed.accuracy == report.accuracy
    everything = "".join(f.read_text("utf-8") for f in place.iterdir() if f.suffix in (".json", ".jsonl"))
    assert str(tmp_path) not in everything
    assert not (place / "samples.png").exists()
    assert not (place / "model.safetensors").exists()


def test_a_long_log_is_thinned(tmp_path: Path) -> None:
    config = make_config().model_copy(update={"data": "/home/someone/pictures.zip"})
    run = RunFolder(tmp_path / "20260101-000000-simple-cnn-abcd")
    create_run(run, config)
    start = {"type": "start", "time": 1.0, "config": config.model_dump(mode="json")}
    steps = [{"type": "step", "time": 1.0, "step": i, "loss": 1 / 3, "lr": 1e-7 / 3} for i in range(1, 7001)]
    run.events_file.write_text("".join(json.dumps(event) + "\n" for event in [start, *steps]))
    place = ship_curves(run, tmp_path / "checkpoints")
    assert place.name == "shipped-20260101-000000-simple-cnn-abcd"  # beside the network's own
    text = (place / "events.jsonl").read_text()
    kept = [e for e in map(json.loads, text.splitlines()) if e["type"] == "step"]
    assert SHIPPED_STEPS * 0.8 < len(kept) <= SHIPPED_STEPS + 1
    assert kept[-1]["step"] == 7000
    assert kept[0]["lr"] == pytest.approx(1e-7 / 3, rel=1e-4)
    assert "/home/someone" not in text + (place / "config.json").read_text()


def test_what_is_not_finished_or_is_of_other_data_is_not_shipped(tmp_path: Path) -> None:
    config = make_config(epochs=1, train_images=200)
    run = RunFolder(tmp_path / "20260101-000000-simple-cnn-abcd")
    create_run(run, config)
    data = load_data("synthetic")
    with pytest.raises(InputError, match="is not finished"):
        ship_weights(run, data, tmp_path / "checkpoints", "t")
    assert execute(run, config, tmp_path / "data") == "finished"
    other = data.__class__(data.train, data.test, data.classes, "others", "0" * 16)
    with pytest.raises(InputError, match="'others' is not the data"):
        ship_weights(run, other, tmp_path / "checkpoints", "t")
    assert not (tmp_path / "checkpoints" / "simple_cnn.safetensors").exists()
