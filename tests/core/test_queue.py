"""The queue and the controls, with real workers."""

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from core import InputError
from core.runs import (
    RunFolder,
    create_run,
    delete,
    enqueue,
    list_runs,
    move,
    new_run_id,
    pause_or_stop,
    start_next,
    summarise,
    waiting,
)
from core.runs.folder import START_SECONDS
from tests.conftest import make_config
from tests.core.test_runs import logged, wait_until

ROOT = Path(__file__).resolve().parents[2]
LONG = 100_000  # steps enough that no run ends by itself
SHORT = 6


@pytest.fixture
def runs(tmp_path: Path) -> Iterator[Path]:
    """A folder of runs; whatever still trains in it at the end is stopped."""
    folder = tmp_path / "runs"
    folder.mkdir()
    yield folder
    for run in waiting(folder):
        run.queued_file.unlink()
    living = [RunFolder(path) for path in folder.iterdir() if path.is_dir()]
    for run in living:
        if run.has_worker() or run.is_launched():
            run.request_file.write_text("stop")
    wait_until(lambda: not any(run.has_worker() or run.is_launched() for run in living))


def new_run(runs: Path, epochs: int = LONG // 10, **changes: object) -> RunFolder:
    run = RunFolder(runs / new_run_id("simple_cnn"))
    config = make_config(epochs=min(epochs, 10_000), train_images=500, epoch_test_images=100)
    create_run(run, config.model_copy(update=changes))
    return run


def is_training(run: RunFolder) -> bool:
    return bool(logged(run, "step")) and summarise(run).status == "running"


def status(run: RunFolder) -> str:
    return summarise(run).status


def test_one_run_at_a_time_and_the_next_one_follows(runs: Path, tmp_path: Path) -> None:
    first, second, third = new_run(runs), new_run(runs, SHORT), new_run(runs, SHORT)
    for run in (first, second, third):
        enqueue(run, tmp_path)
        enqueue(run, tmp_path)  # pressed twice
    wait_until(lambda: is_training(first))
    assert [run.id for run in waiting(runs)] == [second.id, third.id]
    assert status(second) == "queued"
    move(third, "up")
    move(third, "up")  # it is the first already
    assert [run.id for run in waiting(runs)] == [third.id, second.id]

    pause_or_stop(first, "pause")
    pause_or_stop(first, "pause")
    wait_until(lambda: status(third) == status(second) == "finished")
    assert status(first) == "paused"
    assert logged(third, "start")[0]["time"] < logged(second, "start")[0]["time"]
    assert summarise(second).waited > summarise(third).waited > 0
    ends = [logged(run, "finish")[0]["time"] for run in (third, second)]
    assert logged(second, "start")[0]["time"] > ends[0]


def test_a_paused_run_goes_on_and_a_stopped_one_has_a_checkpoint(runs: Path, tmp_path: Path) -> None:
    run = new_run(runs)
    enqueue(run, tmp_path)
    wait_until(lambda: is_training(run))
    asked = time.monotonic()
    pause_or_stop(run, "pause")
    wait_until(lambda: not run.has_worker())
    assert time.monotonic() - asked < 5
    assert status(run) == "paused"
    steps = logged(run, "step")[-1]["step"]
    enqueue(run, tmp_path)
    wait_until(lambda: is_training(run) and logged(run, "step")[-1]["step"] > steps)
    pause_or_stop(run, "stop")
    wait_until(lambda: status(run) == "stopped")
    assert load_file(run.model_file)
    pause_or_stop(run, "stop")  # once more does no harm
    numbers = [e["step"] for e in logged(run, "step")]
    assert numbers == sorted(set(numbers))


def test_a_waiting_run_can_be_cancelled_and_started_again(runs: Path, tmp_path: Path) -> None:
    first, second = new_run(runs), new_run(runs)
    enqueue(first, tmp_path)
    enqueue(second, tmp_path)
    pause_or_stop(second, "stop")
    assert status(second) == "cancelled"
    assert waiting(runs) == []
    enqueue(second, tmp_path)
    assert status(second) == "queued"
    with pytest.raises(InputError, match="not waiting"):
        move(first, "up")


def test_delete_takes_all_but_never_a_living_run(runs: Path, tmp_path: Path) -> None:
    run = new_run(runs)
    enqueue(run, tmp_path)
    with pytest.raises(InputError, match="running"):
        delete(run)
    wait_until(lambda: is_training(run))
    with pytest.raises(InputError, match="running"):
        delete(run)
    pause_or_stop(run, "stop")
    wait_until(lambda: not run.has_worker())
    (run.path / "my-notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"my-notes\.txt"):
        delete(run)
    (run.path / "my-notes.txt").unlink()
    delete(run)
    assert not run.path.exists()
    assert list_runs(runs) == []


def test_many_who_start_the_next_at_once_start_it_once(runs: Path, tmp_path: Path) -> None:
    first, second = new_run(runs), new_run(runs)
    (first.path / "queued").write_text(json.dumps({"place": 1, "since": time.time()}))
    (second.path / "queued").write_text(json.dumps({"place": 2, "since": time.time()}))
    noticing = [threading.Thread(target=start_next, args=(runs, tmp_path)) for _ in range(8)]
    for thread in noticing:
        thread.start()
    for thread in noticing:
        thread.join()
    wait_until(lambda: is_training(first))
    assert status(second) == "queued"
    assert len([e for e in logged(first, "status") if e["reason"] == "preparing"]) == 1


def test_a_worker_that_was_killed_is_noticed_and_the_queue_goes_on(runs: Path, tmp_path: Path) -> None:
    first, second = new_run(runs), new_run(runs, SHORT)
    enqueue(first, tmp_path)
    enqueue(second, tmp_path)
    wait_until(lambda: is_training(first))
    kill_worker(first)
    wait_until(lambda: status(first) == "failed", 5)
    assert "can be resumed" in summarise(first).reason
    start_next(runs, tmp_path)  # as any app does, every second or two
    wait_until(lambda: status(second) == "finished")


def test_a_start_that_came_to_nothing_is_shown_as_failed(runs: Path) -> None:
    run = new_run(runs)
    run.launched_file.write_text("{}")
    assert status(run) == "running"
    long_ago = time.time() - START_SECONDS - 1
    os.utime(run.launched_file, (long_ago, long_ago))
    os.utime(run.config_file, (long_ago, long_ago))
    run.worker_log.write_text("Illegal instruction\n")
    assert status(run) == "failed"
    assert "Illegal instruction" in summarise(run).reason


def kill_worker(run: RunFolder) -> None:
    subprocess.run(["pkill", "-KILL", "-f", f"core train --resume .*{run.id}"], check=True)


@pytest.mark.parametrize("moments", [3, pytest.param(20, marks=pytest.mark.timing)])
@pytest.mark.timeout(900)
def test_killed_at_random_moments_it_ends_bit_identical(tmp_path: Path, moments: int) -> None:
    """Killed and resumed again and again, at whatever it was doing, saving included."""
    data = ["--data", "synthetic", "--model", "simple_cnn", "--epochs", "60", "--subset", "1000"]
    train = [sys.executable, "-m", "core", "train"]
    quiet = {"cwd": ROOT, "stderr": subprocess.DEVNULL}
    whole, killed = RunFolder(tmp_path / "whole-run"), RunFolder(tmp_path / "killed-run")
    subprocess.run([*train, *data, "--out", str(whole.path)], check=True, **quiet)
    chance = random.Random(4)
    command = [*train, *data, "--save-every", "1", "--out", str(killed.path)]
    for _ in range(moments):
        worker = subprocess.Popen(command, **quiet)
        command = [*train, "--resume", str(killed.path)]
        wait_until(lambda worker=worker: killed.has_worker() or worker.poll() is not None)
        time.sleep(chance.uniform(0.3, 3))
        worker.send_signal(signal.SIGKILL)
        worker.wait(20)
    if killed.read_report() is None:
        subprocess.run(command, check=True, **quiet)
    ours, theirs = load_file(killed.model_file), load_file(whole.model_file)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    steps: Callable[[RunFolder], list[tuple[int, float]]] = lambda run: [  # noqa: E731
        (e["step"], e["loss"]) for e in logged(run, "step")
    ]
    assert steps(killed) == steps(whole)
    assert killed.read_report() == whole.read_report()
