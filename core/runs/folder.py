"""A run's folder: what is in it, and what it tells of the run."""

import re
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from core import InputError
from core.evaluation import Report
from core.runs.log import Event, read_events
from core.training.recipe import TrainConfig

RUN_ID = re.compile(r"[a-z0-9-]{8,60}")
START_SECONDS = 30  # a worker that has not taken its lock by then did not start
ENDED = ("stopped", "paused", "finished", "failed", "cancelled")


@dataclass(frozen=True)
class RunFolder:
    """Paths of one run, and readers of what they hold. The folder may be incomplete."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def config_file(self) -> Path:
        return self.path / "config.json"

    @property
    def events_file(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def model_file(self) -> Path:
        return self.path / "model.safetensors"

    @property
    def resume_file(self) -> Path:
        return self.path / "resume.safetensors"

    @property
    def report_file(self) -> Path:
        return self.path / "report.json"

    @property
    def predictions_file(self) -> Path:
        return self.path / "predictions.safetensors"

    @property
    def lock_file(self) -> Path:
        return self.path / "lock"

    @property
    def worker_log(self) -> Path:
        return self.path / "worker.log"

    def lock(self) -> FileLock:
        """The lock its living worker holds."""
        return FileLock(self.lock_file)

    def has_worker(self) -> bool:
        """Whether a worker lives: judged by its lock, never by a process number."""
        if not self.lock_file.exists():
            return False
        try:
            with self.lock().acquire(timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    def read_config(self) -> TrainConfig:
        """The run's config. Raises InputError where there is none that this version can read."""
        try:
            return TrainConfig.model_validate_json(self.config_file.read_text("utf-8"))
        except OSError:
            raise InputError(f"'{self.path}' is not a run's folder: it has no config.json.") from None
        except (ValidationError, UnicodeDecodeError):
            raise InputError(f"The config.json in '{self.path}' can't be read.") from None

    def read_report(self) -> Report | None:
        try:
            return Report.model_validate_json(self.report_file.read_text("utf-8"))
        except (OSError, ValidationError, UnicodeDecodeError):
            return None


class RunSummary(BaseModel):
    """One line of the list of runs.

    Attributes:
        status: queued, running, paused, stopped, finished, failed, or unreadable.
        accuracy: on test images, of the report, else of the last epoch; a fraction.
        created: seconds since 1970.
    """

    id: str
    model: str = ""
    data: str = ""
    preset: str = ""
    status: str
    reason: str = ""
    epoch: int = 0
    epochs: int = 0
    accuracy: float | None = None
    seconds: float = 0
    created: float = 0


def new_run_id(model: str) -> str:
    """An id that sorts by time and doesn't collide: `20261124-093012-resnet18-7f3a`."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    return f"{stamp}-{model.replace('_', '-')}-{secrets.token_hex(2)}"


def find_run(runs_dir: Path, run_id: str) -> RunFolder:
    """The run `run_id`. Raises InputError for an id of another form, or one that isn't there."""
    if not isinstance(run_id, str) or not RUN_ID.fullmatch(run_id):
        raise InputError("That is not the name of a run.")
    folder = RunFolder(runs_dir / run_id)
    if not folder.path.is_dir():
        raise InputError(f"There is no run '{run_id}'.")
    return folder


def summarise(run: RunFolder) -> RunSummary:
    """What a run's folder tells; never raises for a folder that is broken or not ours."""
    try:
        config = run.read_config()
    except InputError as error:
        return RunSummary(id=run.id, status="unreadable", reason=str(error))
    created = run.config_file.stat().st_mtime
    status, reason, epoch, accuracy, seconds = "starting", "", 0, None, 0.0
    for event in _tail(run.events_file):
        if event["type"] == "status":
            status, reason = event.get("status", status), event.get("reason", "")
        elif event["type"] == "epoch":
            epoch, accuracy = event["epoch"], event["test_accuracy"]
            seconds = event["seconds"]
        elif event["type"] == "finish":
            accuracy, seconds = event["accuracy"], event["seconds"]
        elif event["type"] in ("start", "step"):
            status, reason = "running", ""
            epoch = max(epoch, event.get("epoch", 1) - 1)
    alive = run.has_worker()
    if alive and (status in ENDED or status == "starting"):
        status, reason = "running", ""
    elif status == "starting" and time.time() - created < START_SECONDS:
        status = "running"
    elif not alive and status not in ENDED:
        status, reason = "failed", "its worker is gone; it can be resumed"
    return RunSummary(
        id=run.id,
        model=config.model,
        data=Path(config.data).name,
        preset=config.preset,
        status=status,
        reason=reason,
        epoch=epoch,
        epochs=config.recipe.epochs,
        accuracy=accuracy,
        seconds=seconds,
        created=created,
    )


def list_runs(runs_dir: Path) -> list[RunSummary]:
    """All runs in a folder, newest first. What isn't a run is listed as unreadable."""
    try:
        folders = [p for p in runs_dir.iterdir() if p.is_dir() and RUN_ID.fullmatch(p.name)]
    except OSError:
        return []
    return sorted((summarise(RunFolder(p)) for p in folders), key=lambda r: (r.created, r.id), reverse=True)


def _tail(path: Path, window: int = 65_536) -> list[Event]:
    """The last events of a log; enough of them that the last epoch is among them, if there is one."""
    try:
        size = path.stat().st_size
    except OSError:
        return []
    while True:
        start = max(size - window, 0)
        events, _ = read_events(path, start)
        if start == 0 or any(e["type"] == "epoch" for e in events):
            return events
        window *= 8
