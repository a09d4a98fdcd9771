"""What keeps a run safe: real worker processes that are killed, starved of disk, or several at once."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from core.checkpoint import save_checkpoint
from core.data import DataSet
from core.runs import RunFolder, create_run, execute, read_events, request_stop, summarise, work
from core.runs.log import settle
from core.training.state import load_state, save_state
from core.training.trainer import COMPILE_FROM, Trainer
from tests.conftest import make_config

ROOT = Path(__file__).resolve().parents[2]
TRAIN = [sys.executable, "-m", "core", "train"]
SMALL = ["--model", "simple_cnn", "--data", "synthetic", "--epochs", "3", "--subset", "1000"]
LONGER = [*SMALL[:-3], "60", *SMALL[-2:]]  # several seconds, so that it is saved on its way


def start(*args: object, **options: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [*TRAIN, *map(str, args)], cwd=ROOT, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, **options
    )


def wait_until(true: Callable[[], bool], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def logged(run: RunFolder, kind: str) -> list[dict[str, Any]]:
    return [e for e in settle(read_events(run.events_file)[0]) if e["type"] == kind]


def test_a_run_that_was_killed_goes_on_bit_for_bit(tmp_path: Path) -> None:
    whole, killed = RunFolder(tmp_path / "whole-run"), RunFolder(tmp_path / "killed-run")
    sizes = "sizes=[[0,24],[0.6,32]]"
    assert start(*LONGER, "--set", sizes, "--out", whole.path).wait(200) == 0

    worker = start(*LONGER, "--set", sizes, "--save-every", 1, "--out", killed.path)
    wait_until(killed.resume_file.exists)
    worker.send_signal(signal.SIGKILL)
    worker.wait(20)
    assert not killed.has_worker()
    assert summarise(killed).status == "failed"
    assert "resumed" in summarise(killed).reason
    with open(killed.events_file, "ab") as log:
        log.write(b'{"type":"step","step":4')  # as a power cut may leave it

    assert start("--resume", killed.path).wait(200) == 0
    assert summarise(killed).status == "finished"
    ours, theirs = load_file(killed.model_file), load_file(whole.model_file)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    losses = [[(e["step"], e["loss"]) for e in logged(run, "step")] for run in (killed, whole)]
    assert losses[0] == losses[1]


def test_a_full_disk_keeps_the_last_save_and_the_run_goes_on(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "small-disk")

    def limit() -> None:  # the network (420 kB) fits, the resume state (500 kB) doesn't
        resource.setrlimit(resource.RLIMIT_FSIZE, (450_000, 450_000))

    code = start(*LONGER, "--save-every", 1, "--out", run.path, preexec_fn=limit).wait(200)
    assert code == 0
    told = [e["reason"] for e in logged(run, "status") if "could not save" in e["reason"]]
    assert told
    assert "the last save is kept" in told[0]
    assert summarise(run).status == "finished"
    assert run.read_report() is not None
    assert not list(run.path.glob(".*.part"))


def test_a_disk_too_full_for_the_weights_ends_the_run_with_a_clear_status(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "full-disk")

    def limit() -> None:  # the log fits, the weights (250 kB) don't
        resource.setrlimit(resource.RLIMIT_FSIZE, (150_000, 150_000))

    assert start(*SMALL, "--out", run.path, preexec_fn=limit).wait(200) == 1
    summary = summarise(run)
    assert summary.status == "failed"
    assert "Writing failed (File too large)" in summary.reason
    assert "resume" in summary.reason
    assert not list(run.path.glob(".*.part"))
    assert start("--resume", run.path).wait(200) == 0  # there is room again
    assert summarise(run).status == "finished"


def test_a_save_that_fails_leaves_the_last_good_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "state-kept")
    create_run(run, make_config(epochs=40))
    asked = iter(range(10**6))
    monkeypatch.setattr("core.runs.work.asked_to", lambda _: "pause" if next(asked) > 3 else None)
    assert execute(run, run.read_config(), tmp_path) == "paused"
    before = run.resume_file.read_bytes()

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    asked = iter(range(10**6))
    monkeypatch.setattr("core.runs.work.save_state", full)
    assert execute(run, run.read_config(), tmp_path) == "paused"
    assert run.resume_file.read_bytes() == before
    assert "No space left" in "".join(e["reason"] for e in logged(run, "status"))


def test_a_loss_that_is_no_number_keeps_the_last_good_weights(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "diverges-soon")
    create_run(run, make_config(epochs=40, peak_lr=2.0, momentum=0.99).model_copy(update={"save_every": 1}))
    assert execute(run, run.read_config(), tmp_path) == "failed"
    assert "lower learning rate" in summarise(run).reason
    if run.model_file.exists():
        assert all(torch.isfinite(t).all() for t in load_file(run.model_file).values())
        assert all(torch.isfinite(t).all() for t in load_state(run.resume_file).tensors.values())


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    """simple_cnn has no BatchNorm, so sharing a batch must change nothing but rounding, that of fp32."""
    alone, shared = RunFolder(tmp_path / "alone-run"), RunFolder(tmp_path / "shared-run")
    options = [*SMALL, "--precision", "fp32", "--set", "translate=4", "--set", "cutout=8"]
    assert start(*options, "--out", alone.path).wait(200) == 0
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [*command, "-m", "core", "train", *options, "--out", str(shared.path)],
        cwd=ROOT,
        capture_output=True,
        timeout=250,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    ours = [e["loss"] for e in logged(shared, "step")]
    theirs = [e["loss"] for e in logged(alone, "step")]
    assert len(ours) == len(theirs) > 20
    assert ours[:20] == pytest.approx(theirs[:20], abs=1e-5)
    assert logged(shared, "start")[0]["processes"] == 2
    assert len(logged(shared, "finish")) == 1
    counts = [run.read_report().count for run in (alone, shared)]
    assert counts[0] == counts[1]


@pytest.mark.skipif(not shutil.which("g++"), reason="torch.compile needs a C++ compiler, and there is none")
def test_compiling_is_told_of_and_a_stop_does_not_wait_for_it(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "compiled-run")
    cold = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    worker = start(*SMALL, "--compile", "on", "--out", run.path, env=cold)
    wait_until(lambda: any("compiling" in e["reason"] for e in logged(run, "status")))
    assert len(logged(run, "step")) >= COMPILE_FROM  # there was something to see before
    asked = time.monotonic()
    request_stop(run, "stop")
    assert worker.wait(60) == 0
    assert time.monotonic() - asked < 10
    assert summarise(run).status == "stopped"
    assert start("--resume", run.path, env=cold).wait(250) == 0
    assert summarise(run).status == "finished"
    assert any(e["reason"].startswith("compiled in") for e in logged(run, "status"))


def test_where_nothing_can_be_compiled_the_run_goes_on_without(tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "no-compiler")
    bare = {**os.environ, "CXX": "/nowhere/c++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    assert start(*SMALL, "--compile", "on", "--out", run.path, env=bare).wait(250) == 0
    assert any(e["reason"].startswith("can't compile here") for e in logged(run, "status"))
    assert summarise(run).status == "finished"


@pytest.mark.timing
def test_logging_costs_under_one_percent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    inner, spent = work._Worker.tell, []

    def tell(self: work._Worker, event: dict[str, Any]) -> None:
        begin = time.perf_counter()
        inner(self, event)
        spent.append(time.perf_counter() - begin)

    monkeypatch.setattr(work._Worker, "tell", tell)
    run = RunFolder(tmp_path / "timed-run")
    create_run(run, make_config(epochs=100))
    begin = time.perf_counter()
    execute(run, run.read_config(), tmp_path)
    whole = time.perf_counter() - begin
    print(f"{sum(spent):.3f} s of {whole:.1f} s")
    assert sum(spent) < 0.01 * whole


@pytest.mark.timing
def test_a_save_of_the_largest_network_costs_under_one_percent_of_five_minutes(
    tmp_path: Path, shapes: DataSet
) -> None:
    trainer = Trainer(make_config("resnet18", sizes=((0.0, 16),)), shapes)
    trainer.train_step(*trainer.batches(16).batch(0))
    begin = time.perf_counter()
    save_state(tmp_path / "resume.safetensors", trainer.state())
    save_checkpoint(tmp_path / "model.safetensors", trainer.weights(), trainer.checkpoint_info())
    seconds = time.perf_counter() - begin
    print(f"{seconds:.2f} s")
    assert seconds < 0.01 * trainer.config.save_every


@pytest.mark.timing
@pytest.mark.parametrize(
    ("model", "steps", "least"), [("resnet18", 3, 1.3), ("densenet121_k12", 3, 1.15), ("simple_cnn", 150, 4)]
)
def test_our_loop_is_faster_than_the_usual_one(model: str, steps: int, least: float) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "core", "benchmark", "--model", model, "--steps", str(steps), "--json"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    result = json.loads(done.stdout)
    print(result)
    assert result["ratio"] >= least


@pytest.mark.timing
@pytest.mark.timeout(600)
@pytest.mark.parametrize("model", ["simple_cnn", "resnet18"])
def test_the_predicted_cost_is_right_to_a_quarter(model: str, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "predicted-run")
    args = ["--model", model, "--data", "synthetic", "--preset", "quick", "--epochs", "4"]
    assert start(*args, "--out", run.path).wait(500) == 0
    predicted = logged(run, "start")[0]["predicted_seconds"]["total"]
    actual = logged(run, "finish")[0]["seconds"]
    print(predicted, actual)
    assert predicted == pytest.approx(actual, rel=0.25)
