"""A run's folder: what is in it, and what it tells of the run."""

import re
import secrets
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import BaseModel, ValidationError

from core import InputError
from core.checkpoint import MODEL_FILE
from core.evaluation import Report
from core.runs.log import Event, read_events
from core.training.recipe import TrainConfig

RUN_ID = re.compile(r"[a-z0-9-]{8,60}")
START_SECONDS = 60  # a worker that has not taken its lock by then did not start
LOCK_SECONDS = 3  # to wait for a lock that others hold for a moment only, to see whether a worker lives
HEAD = 4_096  # bytes of a log that hold how long it waited
LAST_LINES = 300  # characters of a dead worker's output that are shown
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
        return self.path / MODEL_FILE

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

    @property
    def request_file(self) -> Path:
        return self.path / "request"

    @property
    def queued_file(self) -> Path:
        return self.path / "queued"

    @property
    def launched_file(self) -> Path:
        return self.path / "launched"

    @property
    def samples_file(self) -> Path:
        """The fixed test pictures, side by side, as a PNG."""
        return self.path / "samples.png"

    @property
    def filters_file(self) -> Path:
        """The first layer's filters, as a PNG; made anew after each epoch."""
        return self.path / "filters.png"

    def foreign_files(self) -> list[str]:
        """Names of what lies here and no run makes."""
        ours = {getattr(self, name).name for name in vars(RunFolder) if name.endswith(("_file", "_log"))}
        return sorted(
            path.name
            for path in self.path.iterdir()
            if path.name not in ours and not (path.name.startswith(".") and path.name.endswith(".part"))
        )

    def lock(self) -> FileLock:
        """The lock its living worker holds."""
        return FileLock(self.lock_file)

    def has_worker(self) -> bool:
        """Whether a worker lives: judged by its lock, never by a process number."""
        if not self.lock_file.exists():
            return False
        try:
            # Not at once: someone else may hold it for a moment, to ask the same.
            with self.lock().acquire(timeout=0.03, poll_interval=0.01):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    def is_launched(self) -> bool:
        """Whether it was started and its worker may still come."""
        try:
            return time.time() - self.launched_file.stat().st_mtime < START_SECONDS
        except OSError:
            return False

    def is_busy(self) -> bool:
        """Whether it waits, is being started, or is trained."""
        return self.queued_file.exists() or self.is_launched() or self.has_worker()

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
        status: queued, running, paused, stopped, finished, failed, cancelled, or unreadable.
        accuracy: on test images, of the report, else of the last epoch; a fraction.
        seconds: of work so far.
        waited: seconds in the queue.
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
    waited: float = 0
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
    summary = _read_summary(run.path, _state(run.config_file), _state(run.events_file))
    if summary.status in ("finished", "unreadable"):
        return summary
    status, reason = _as_it_is(run, summary.status, summary.reason, summary.created)
    return summary.model_copy(update={"status": status, "reason": reason})


def _state(path: Path) -> tuple[int, int]:
    """Changes whenever the file does."""
    try:
        found = path.stat()
    except OSError:
        return 0, 0
    return found.st_mtime_ns, found.st_size


@lru_cache(maxsize=4096)
def _read_summary(path: Path, config_state: tuple[int, int], log_state: tuple[int, int]) -> RunSummary:
    """What config and log say. The states are part of the question: a changed file is read anew."""
    run = RunFolder(path)
    try:
        config = run.read_config()
    except InputError as error:
        return RunSummary(id=run.id, status="unreadable", reason=str(error))
    status, reason, epoch, accuracy, seconds, waited = "starting", "", 0, None, 0.0, 0.0
    events = _tail(run.events_file)
    for event in events:
        if event["type"] == "status":
            status, reason = event.get("status", status), event.get("reason", "")
            waited = event.get("waited", waited)
        elif event["type"] == "epoch":
            epoch, accuracy = event["epoch"], event["test_accuracy"]
            seconds = event["seconds"]
        elif event["type"] == "finish":
            accuracy, seconds = event["accuracy"], event["seconds"]
        elif event["type"] in ("start", "step"):
            status, reason = "running", ""
            epoch = max(epoch, event.get("epoch", 1) - 1)
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
        waited=waited,
        created=_first_time(events) or config_state[0] / 1e9,
    )


def _first_time(events: list[Event]) -> float:
    """When the first event was logged; 0 where that can't be told."""
    when = events[0].get("time") if events else None
    return when if isinstance(when, float) else 0.0


def _as_it_is(run: RunFolder, status: str, reason: str, created: float) -> tuple[str, str]:
    """Status and reason, set right by who holds its lock and which files are there."""
    if run.has_worker():
        return ("running", "") if status in ENDED or status in ("starting", "queued") else (status, reason)
    if run.queued_file.exists():
        return "queued", ""
    if run.is_launched() or (status == "starting" and time.time() - created < START_SECONDS):
        return "running", "starting"
    if status in ENDED:
        return status, reason
    return "failed", " ".join(["Its worker is gone; it can be resumed.", *_last_words(run)])


def _last_words(run: RunFolder) -> list[str]:
    """What its worker printed last, if anything."""
    try:
        lines = run.worker_log.read_text("utf-8", "replace")[-LAST_LINES:].split("\n")
    except OSError:
        return []
    return ["Its last lines:", *lines[-5:]] if any(lines) else []


def list_runs(runs_dir: Path) -> list[RunSummary]:
    """All runs in a folder, newest first. What isn't a run is listed as unreadable."""
    try:
        folders = [p for p in runs_dir.iterdir() if p.is_dir() and RUN_ID.fullmatch(p.name)]
    except OSError:
        return []
    return sorted((summarise(RunFolder(p)) for p in folders), key=lambda r: (r.created, r.id), reverse=True)


def _tail(path: Path, window: int = 8_192) -> list[Event]:
    """The first events of a log, and the last: so many that the last epoch is among them."""
    size = _state(path)[1]
    while True:
        start = max(size - window, 0)
        events, _ = read_events(path, start)
        if start == 0:
            return events
        if any(e["type"] == "epoch" for e in events):
            return read_events(path, 0, limit=HEAD)[0] + events
        window *= 8
