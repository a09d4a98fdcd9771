"""The queue and the controls: one run at a time on a device, the others wait in order.

A waiting run has a file `queued` in its folder that holds its place; one that has been started but has
no worker yet has a file `launched`. Whoever notices a free device, an app or a worker that ends, starts
the next. What is decided here is decided under one lock of the runs' folder, so that any number of apps
and workers may try at the same moment. Each control may be pressed twice.
"""

import json
import shutil
import time
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from core import InputError
from core.device import pick_device
from core.files import write_json
from core.runs.folder import LOCK_SECONDS, RunFolder, summarise
from core.runs.log import EventLog, status_event
from core.runs.worker import forget_request, launch, request_stop
from core.training.recipe import TrainConfig

DECIDE_SECONDS = 10  # to wait for others who decide about the queue


def device_lock(runs_dir: Path, config: TrainConfig) -> FileLock:
    """The lock of the device that a run of this folder is to be trained on; its worker holds it."""
    try:
        name = pick_device(config.device).type
    except InputError:  # not on this machine: the worker says so
        name = config.device
    return FileLock(runs_dir / f".device-{name}.lock")


def enqueue(run: RunFolder, data_dir: Path) -> None:
    """Let a run wait for its device, last in the order, and start it at once if it can be.

    Does nothing if it waits or is trained already.

    Raises:
        InputError: it is finished, or its config can't be read.
    """
    run.read_config()
    if run.read_report() is not None:
        raise InputError("This run is finished.")
    with _deciding(run.path.parent):
        if run.is_busy():
            return
        with _log(run) as log:
            log.write(status_event("queued"))
        forget_request(run)
        now = time.time()
        write_json(run.queued_file, {"place": now, "since": now})
    start_next(run.path.parent, data_dir)


def waiting(runs_dir: Path) -> list[RunFolder]:
    """The runs that wait, in their order."""
    found = [(_read(path), RunFolder(path.parent)) for path in runs_dir.glob("*/queued")]
    return [run for note, run in sorted(found, key=lambda pair: (pair[0].get("place", 0), pair[1].id))]


def start_next(runs_dir: Path, data_dir: Path) -> None:
    """Start the first waiting run of every device that is free."""
    if not waiting(runs_dir):
        return
    with _deciding(runs_dir):
        taken = {
            device_lock(runs_dir, RunFolder(path.parent).read_config()).lock_file
            for path in runs_dir.glob("*/launched")
            if RunFolder(path.parent).is_launched()
        }
        for run in waiting(runs_dir):
            try:
                device = device_lock(runs_dir, run.read_config())
            except InputError:
                run.queued_file.unlink(missing_ok=True)
                continue
            if device.lock_file in taken or not _is_free(device):
                continue
            taken.add(device.lock_file)
            waited = max(time.time() - _read(run.queued_file).get("since", time.time()), 0)
            write_json(run.launched_file, {"waited": round(waited, 1)})
            run.queued_file.unlink(missing_ok=True)
            launch(run, data_dir)


def move(run: RunFolder, direction: Literal["up", "down"]) -> None:
    """Let a waiting run change places with the one before or after it; at the end nothing happens."""
    with _deciding(run.path.parent):
        order = waiting(run.path.parent)
        ids = [other.id for other in order]
        if run.id not in ids:
            raise InputError("This run is not waiting.")
        at = ids.index(run.id)
        other = at - 1 if direction == "up" else at + 1
        if not 0 <= other < len(order):
            return
        mine, theirs = (_read(order[i].queued_file) for i in (at, other))
        write_json(order[at].queued_file, mine | {"place": theirs["place"]})
        write_json(order[other].queued_file, theirs | {"place": mine["place"]})


def pause_or_stop(run: RunFolder, action: Literal["pause", "stop"]) -> None:
    """Ask a run's worker to save and end; take a waiting run out of the queue. Both can be resumed.

    Raises:
        InputError: it is neither trained nor waiting.
    """
    with _deciding(run.path.parent):
        if run.queued_file.exists():
            started = run.resume_file.exists()
            ended = ("paused" if action == "pause" else "stopped") if started else "cancelled"
            with _log(run) as log:
                log.write(status_event(ended))
            run.queued_file.unlink(missing_ok=True)
        elif run.is_busy():
            request_stop(run, action)
        elif summarise(run).status != ("paused" if action == "pause" else "stopped"):
            raise InputError("This training is not running.")


def delete(run: RunFolder) -> None:
    """Remove a run's folder, for good.

    Raises:
        InputError: it is trained at the moment, or holds files that no run has.
    """
    with _deciding(run.path.parent):
        if run.is_busy() and not run.queued_file.exists():
            raise InputError("This training is running. Stop it first.")
        foreign = run.foreign_files()
        if foreign:
            raise InputError(f"This folder holds '{foreign[0]}', which no run makes. Delete it by hand.")
        for file in run.path.iterdir():  # the config first: what has none is no run any more
            if file.name == "config.json":
                file.unlink()
        shutil.rmtree(run.path)


class _deciding:
    """Hold the lock of the runs' folder, for as long as something is decided."""

    def __init__(self, runs_dir: Path) -> None:
        self._lock = FileLock(runs_dir / ".queue.lock")

    def __enter__(self) -> None:
        try:
            self._lock.acquire(timeout=DECIDE_SECONDS)
        except Timeout:
            raise InputError("The queue is busy. Try again in a moment.") from None

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _log(run: RunFolder) -> EventLog:
    """The log of a run without a worker."""
    return EventLog(run.events_file)


def _is_free(lock: FileLock) -> bool:
    try:
        with lock.acquire(timeout=LOCK_SECONDS / 10):
            return True
    except Timeout:
        return False


def _read(path: Path) -> dict[str, Any]:
    try:
        note = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}
