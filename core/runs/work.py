"""What a worker does: drive one training and keep its folder true, whatever happens."""

import contextlib
import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import torch
from filelock import FileLock, Timeout
from PIL import Image

from core import InputError
from core.checkpoint import save_checkpoint
from core.data import load_data
from core.evaluation import prediction_tensors
from core.files import replace_atomically, save_tensors, write_json
from core.runs.folder import LOCK_SECONDS, RunFolder
from core.runs.glimpse import filter_sheet, side_by_side
from core.runs.log import Event, EventLog, status_event
from core.runs.queue import device_lock, start_next
from core.runs.worker import asked_to, forget_request
from core.training.distributed import ALONE, Ranks
from core.training.recipe import TrainConfig
from core.training.state import TrainingState, load_state, save_state
from core.training.trainer import DivergedError, Trainer

EPOCH_SAVE_SECONDS = 60  # an epoch's end is saved if so long has passed since the last save
POLL_SECONDS = 0.2  # between two looks whether a stop was asked for
COMPILE_PATIENCE = 2  # seconds a stop waits for compiling to end by itself
PROGRESS_SECONDS = 1.0

Listener = Callable[[Event], None]


def create_run(folder: RunFolder, config: TrainConfig) -> None:
    """Make a run's folder with its config in it.

    Raises:
        InputError: the folder can't be written, or holds a run already.
    """
    if folder.config_file.exists():
        raise InputError(
            f"'{folder.path}' already holds a run. Use --resume to go on with it, or another --out."
        )
    try:
        folder.path.mkdir(parents=True, exist_ok=True)
        write_json(folder.config_file, config.model_dump(mode="json"))
    except OSError as error:
        raise InputError(f"The folder '{folder.path}' can't be written ({error.strerror}).") from None


def execute(
    folder: RunFolder,
    config: TrainConfig,
    data_dir: Path,
    listener: Listener = lambda event: None,
    ranks: Ranks = ALONE,
) -> str:
    """Train the run in `folder`, from its saved state if there is one; returns its final status.

    Of several processes only the first one writes; the others work along and return "followed".

    Raises:
        InputError: another worker has the run, it is finished, or it can't be run on this data.
    """
    if folder.read_report() is not None:
        raise InputError(f"The run in '{folder.path}' is finished.")
    if ranks.rank > 0:
        return _follow(folder, config, data_dir, ranks)
    try:
        held = folder.lock().acquire(timeout=LOCK_SECONDS)
    except Timeout:
        raise InputError(f"The run in '{folder.path}' is already being trained.") from None
    device = device_lock(folder.path.parent, config)
    launched = folder.launched_file.exists()  # by the queue; else by a person, who need not wait
    try:
        with held, EventLog(folder.events_file) as log, _if_free(device):
            worker = _Worker(folder, config, log, listener, ranks)
            with worker.signals():
                return worker.run(data_dir, launched)
    finally:
        start_next(folder.path.parent, data_dir)


@contextmanager
def _if_free(device: FileLock) -> Iterator[None]:
    """Hold the device's lock; where a person's own training has it already, go on beside it."""
    try:
        device.acquire(timeout=LOCK_SECONDS)
    except Timeout:
        yield
        return
    try:
        yield
    finally:
        device.release()


def _follow(folder: RunFolder, config: TrainConfig, data_dir: Path, ranks: Ranks) -> str:
    """The part of every process but the first: the same steps, and nothing written."""
    ranks.wait()  # the first one decodes the data and keeps it for all
    data = load_data(config.data, data_dir=data_dir)
    trainer = Trainer(config, data, _saved_state(folder), ranks=ranks)
    for signal_number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signal_number, signal.SIG_IGN)  # the first one says when to stop
    for _ in trainer.events():
        pass
    return "followed"


def _saved_state(folder: RunFolder) -> TrainingState | None:
    return load_state(folder.resume_file) if folder.resume_file.exists() else None


class _Worker:
    def __init__(
        self, folder: RunFolder, config: TrainConfig, log: EventLog, listener: Listener, ranks: Ranks
    ) -> None:
        self.folder, self.config, self.log, self.listener = folder, config, log, listener
        self.ranks = ranks
        self._signal = False
        self._request: str | None = None
        self._looked = 0.0
        self._saved = time.monotonic()
        self._told = 0.0
        self._compiled = threading.Event()

    def run(self, data_dir: Path, launched: bool = False) -> str:
        if not launched:
            forget_request(self.folder)
        self.tell(status_event("running", "preparing") | self.waited())
        self.folder.queued_file.unlink(missing_ok=True)
        self.folder.launched_file.unlink(missing_ok=True)
        try:
            trainer = self.prepare(data_dir)
            if trainer is not None:
                self.train(trainer)
                if trainer.report is not None:
                    self.finish(trainer)
                    return self.end("finished")
                self.save(trainer)
        except InputError as error:
            self.end("failed", str(error))
            raise
        except DivergedError as error:
            return self.end("failed", str(error))
        except torch.OutOfMemoryError:
            half = max(self.config.recipe.batch_size // 2, 2)
            return self.end("failed", f"The device is out of memory. Try --batch-size {half}.")
        except OSError as error:
            reason = f"Writing failed ({error.strerror}). The last save is kept: make room, then resume."
            return self.end("failed", reason)
        except Exception as error:
            traceback.print_exc()
            return self.end("failed", f"{type(error).__name__}: {error}"[:300])
        return self.end("paused" if self._request == "pause" else "stopped")

    def waited(self) -> dict[str, float]:
        """How long it was in the queue."""
        try:
            return json.loads(self.folder.launched_file.read_text("utf-8"))
        except (OSError, ValueError):
            return {}

    def prepare(self, data_dir: Path) -> Trainer | None:
        """Load the data and build the trainer; None if a stop was asked for meanwhile."""
        data = load_data(self.config.data, data_dir=data_dir, progress=self.progress)
        if self.should_stop() and self.ranks.world == 1:
            return None
        state = _saved_state(self.folder)
        self.ranks.wait()
        return Trainer(
            self.config,
            data,
            state,
            should_stop=self.should_stop,
            on_evaluate=lambda done, total: self.progress("evaluate", done, total),
            ranks=self.ranks,
        )

    def train(self, trainer: Trainer) -> None:
        """Log every event; save the state when it is time."""
        self._saved = time.monotonic()
        for event in trainer.events():
            if event["type"] == "start":
                self.picture(self.folder.samples_file, side_by_side(trainer.sample_images))
            elif event["type"] == "epoch":
                self.picture(self.folder.filters_file, filter_sheet(trainer.first_filters()))
            self.tell(event)
            self.guard_compiling(trainer, event)
            since = time.monotonic() - self._saved
            limit = self.config.save_every
            if event["type"] == "epoch":
                limit = min(limit, EPOCH_SAVE_SECONDS)
            if since >= limit:
                self.save(trainer)

    def picture(self, path: Path, image: Image.Image) -> None:
        """Write a picture for the page; a training never fails for it."""
        with contextlib.suppress(OSError):
            replace_atomically(path, lambda part: image.save(part, "PNG", optimize=True))

    def guard_compiling(self, trainer: Trainer, event: Event) -> None:
        """Compiling can't be interrupted: save before it, and leave from another thread if asked to."""
        if event["type"] != "status" or "compil" not in event["reason"]:
            return
        if "seconds" in event:
            self._compiled.set()
            return
        self.save(trainer)
        self._compiled.clear()
        threading.Thread(target=self.leave_if_asked, daemon=True).start()

    def leave_if_asked(self) -> None:
        while not self._compiled.wait(POLL_SECONDS):
            if self.should_stop():
                if self._compiled.wait(COMPILE_PATIENCE):
                    return
                self.end("paused" if self._request == "pause" else "stopped")
                self.log.sync()
                os._exit(0)

    def save(self, trainer: Trainer) -> None:
        """Write resume state and weights. A full disk leaves the last good ones; training goes on."""
        try:
            self.log.sync()
            save_state(self.folder.resume_file, trainer.state())
            save_checkpoint(self.folder.model_file, trainer.weights(), trainer.checkpoint_info())
        except OSError as error:
            self.tell(status_event("running", f"could not save: {error.strerror}; the last save is kept"))
        self._saved = time.monotonic()

    def finish(self, trainer: Trainer) -> None:
        """Write what a finished run leaves; the saved state is no longer needed."""
        info = trainer.checkpoint_info()
        weights = trainer.weights()
        save_checkpoint(self.folder.model_file, weights, info, trainer.bank, trainer.bank_images)
        tensors = prediction_tensors(trainer.test_logits, trainer.data.test.labels, trainer.temperature)
        save_tensors(self.folder.predictions_file, tensors)
        write_json(self.folder.report_file, trainer.report.model_dump())
        self.folder.resume_file.unlink(missing_ok=True)

    def end(self, status: str, reason: str = "") -> str:
        try:
            self.tell(status_event(status, reason))
        except OSError:  # a full disk; the worker's output says it, if anything can
            print(reason, flush=True)
        return status

    def tell(self, event: Event) -> None:
        self.log.write(event)
        self.log.flush()
        self.listener(event)

    def progress(self, stage: str, done: int, total: int) -> None:
        """Log how far the data is, not too often."""
        now = time.monotonic()
        if now - self._told >= PROGRESS_SECONDS:
            self._told = now
            self.tell(
                {
                    "type": "progress",
                    "time": time.time(),
                    "stage": stage,
                    "done": done,
                    "total": total,
                }
            )

    def should_stop(self) -> bool:
        """Whether a signal or a request for pause or stop has come."""
        now = time.monotonic()
        if now - self._looked >= POLL_SECONDS:
            self._looked = now
            self._request = asked_to(self.folder) or self._request
        return self._signal or self._request is not None

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Ctrl-C and SIGTERM end the training between two steps, with its state saved."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handler(number: int, frame: FrameType | None) -> None:
            self._signal = True

        before = {s: signal.signal(s, handler) for s in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, old in before.items():
                signal.signal(number, old)
