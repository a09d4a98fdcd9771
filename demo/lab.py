"""What the server knows: which data, runs and checkpoints there are, by name; loaded once, shared."""

import contextlib
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from core import InputError
from core.checkpoint import MODEL_FILE, Checkpoint, CheckpointInfo, load_checkpoint, read_info
from core.cli import CHECKPOINTS
from core.data import NAMED_SOURCES, ImageSet, Progress, cifar10, load_data, source_title
from core.models import MODELS
from core.runs import RunFolder, RunSummary, find_run, list_runs, start_next
from core.runs.ship import shipped_run
from demo import text
from demo.uploads import Uploads

MAX_LOADED_MODELS = 4
MAX_LOADED_DATA = 2
QUEUE_SECONDS = 2  # between two looks whether a waiting run can start


@dataclass
class DataJob:
    """Work in the background, such as loading images; `data` or `error` is there when it is done."""

    stage: str = ""
    done: int = 0
    total: int = 0
    data: Any = None
    error: str | None = None
    finished: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)

    def so_far(self) -> Iterator[str]:
        """Say how far it is, a few times a second, until it is done."""
        while not self.finished.wait(0.3):
            share = f" {self.done / self.total:.0%}" if self.total else ""
            yield f"{text.STAGES.get(self.stage, '…')}{share}"


class Cancelled(Exception):
    """Whoever asked for a job wants it no longer."""


class Lab:
    """Names to things, for the page and the API, which never pass paths.

    Args:
        runs_dir: the folder of all runs; downloads and decoded data are kept beside it.
        data: a name or path given at the start, offered first.
        can_train: whether visitors may start and stop trainings.
        shipped: the folder of the networks that are there from the start.
    """

    def __init__(
        self,
        runs_dir: Path,
        data: str | None = None,
        can_train: bool = True,
        shipped: Path = CHECKPOINTS,
    ) -> None:
        self.runs_dir = runs_dir
        self.shipped_dir = shipped
        self.data_dir = runs_dir.absolute().parent / "data"
        self.can_train = can_train
        self.uploads = Uploads(self.data_dir / "uploads", self.data_dir)
        self._given = {title: name for name, title in NAMED_SOURCES.items()}
        self.first_source = NAMED_SOURCES["synthetic"]
        if cifar10.is_downloaded(self.data_dir):
            self.first_source = NAMED_SOURCES["cifar10"]
        if data is not None:
            self.first_source = source_title(data)
            if data not in NAMED_SOURCES:
                self._given = {self.first_source: str(Path(data).absolute()), **self._given}
        self._lock = threading.Lock()
        self._models: OrderedDict[tuple[Path, int], Checkpoint] = OrderedDict()
        self._loads: OrderedDict[str, DataJob] = OrderedDict()
        self._jobs: dict[str, DataJob] = {}
        self.beside = ThreadPoolExecutor(os.cpu_count())  # networks that answer the same question
        self.evaluating = threading.Lock()  # one evaluation at a time; each takes all processors

    def watch_queue(self) -> None:
        """Start waiting runs whenever their device is free, for as long as the app runs."""

        def watch() -> None:
            while True:
                with contextlib.suppress(InputError, OSError):  # others decide, or a full disk
                    start_next(self.runs_dir, self.data_dir)
                time.sleep(QUEUE_SECONDS)

        threading.Thread(target=watch, daemon=True).start()

    @property
    def sources(self) -> dict[str, str]:
        """All data sets: what is shown -> what `--data` takes."""
        return self._given | self.uploads.sources()

    def upload_in_background(self, name: str, file: Path) -> DataJob:
        """Start checking an archive that is to become the data set `name`."""
        return self.in_background(lambda told: self.uploads.add(name, file, set(self.sources), told))

    def in_background(
        self, work: Callable[[Progress], Any], cancelled: threading.Event | None = None
    ) -> DataJob:
        """Start work that tells how far it is; what it returns is the job's `data`.

        Args:
            cancelled: ends it at its next sign of progress, once set.
        """
        job = DataJob(cancelled=cancelled or threading.Event())
        threading.Thread(target=self._run, args=(work, job), daemon=True).start()
        return job

    def source(self, title: str) -> str:
        """What `--data` takes for a set of images shown as `title`."""
        if title not in self.sources:
            raise InputError(text.NO_DATA)
        return self.sources[title]

    def checkpoints(self, model: str | None = None) -> dict[str, str]:
        """Names of all trained networks: name -> what is shown. Shipped ones first, the best in front.

        Args:
            model: only networks of this kind.
        """
        found = {
            name: text.SHIPPED_NETWORK.format(title=MODELS[name].title)
            for name in self._shipped()
            if model in (None, name)
        }
        for run in list_runs(self.runs_dir):
            if model not in (None, run.model) or run.model not in MODELS:
                continue
            if RunFolder(self.runs_dir / run.id).model_file.is_file():
                when = run.id[:15] + run.id[-5:]  # with what tells apart those of the same second
                found[run.id] = f"{MODELS[run.model].title} · {run.data} · {run.preset} · {when}"
        return found

    def titles_of(self, names: Sequence[str]) -> list[str]:
        """What to call networks that stand side by side: their kind, or more where that is the same."""
        kinds = [self.info(name).model for name in names]
        titles = [MODELS[kind].title if kind in MODELS else kind for kind in kinds]
        if len(set(titles)) == len(titles):
            return titles
        listed = self.checkpoints()
        return [listed.get(name, name) for name in names]

    def runs(self) -> list[RunSummary]:
        """All runs, newest first, then those of the shipped networks, the best in front."""
        shipped = list_runs(self.shipped_dir / "runs")
        return list_runs(self.runs_dir) + sorted(shipped, key=lambda run: -(run.accuracy or 0))

    def checkpoint_path(self, name: str) -> Path:
        """Where the checkpoint `name` lies. Raises InputError for a name that isn't on the list."""
        shipped = self.shipped_dir / f"{name}.safetensors"
        if name in MODELS and shipped.is_file():
            return shipped
        path = find_run(self.runs_dir, name).model_file
        if not path.is_file():
            raise InputError("This run has no trained network yet.")
        return path

    def info(self, name: str) -> CheckpointInfo:
        return read_info(self.checkpoint_path(name))

    def checkpoint(self, name: str) -> Checkpoint:
        """The network, loaded once and shared; the least used is dropped beyond a few."""
        path = self.checkpoint_path(name)
        key = (path, path.stat().st_mtime_ns)
        with self._lock:
            if key not in self._models:
                self._models[key] = load_checkpoint(path)
                while len(self._models) > MAX_LOADED_MODELS:
                    self._models.popitem(last=False)
            self._models.move_to_end(key)
            return self._models[key]

    def is_at_hand(self, title: str) -> bool:
        """Whether the images can be had without a download."""
        return self.sources.get(title) != "cifar10" or cifar10.is_downloaded(self.data_dir)

    def load_in_background(self, title: str) -> DataJob:
        """Start loading a set of images, or find the loading already under way."""
        source = self.source(title)
        with self._lock:
            job = self._loads.get(title)
            if job is None or job.error is not None:
                job = self._loads[title] = self.in_background(
                    lambda told: load_data(source, data_dir=self.data_dir, progress=told)
                )
            self._loads.move_to_end(title)
            for old in [t for t, j in self._loads.items() if j.data is not None][:-MAX_LOADED_DATA]:
                del self._loads[old]
            return job

    def training_images(self, info: CheckpointInfo) -> ImageSet | None:
        """What a network was trained on, if that is loaded; what lies here is loaded for the next time."""
        title = self.title_of(info.data)
        if title is None or not self.is_at_hand(title):
            return None
        data = self.load_in_background(title).data
        return data.train if data is not None and data.fingerprint == info.data_fingerprint else None

    def shared_job(self, key: str, work: Callable[[Progress], Any]) -> DataJob:
        """Start work, or find the same already under way."""
        with self._lock:
            self._jobs = {k: job for k, job in self._jobs.items() if not job.finished.is_set()}
            if key not in self._jobs:
                self._jobs[key] = self.in_background(work)
            return self._jobs[key]

    def cancel(self, key: str) -> None:
        """End a shared job at its next sign of progress; nothing if there is none."""
        with self._lock:
            if key in self._jobs:
                self._jobs[key].cancelled.set()

    def _run(self, load: Callable[[Progress], Any], job: DataJob) -> None:
        def progress(stage: str, done: int, total: int) -> None:
            job.stage, job.done, job.total = stage, done, total
            if job.cancelled.is_set():
                raise Cancelled

        try:
            job.data = load(progress)
        except InputError as error:
            job.error = str(error)
        except Cancelled:
            job.error = text.CANCELLED
        except Exception as error:
            job.error = text.JOB_FAILED.format(kind=type(error).__name__)
        finally:
            job.finished.set()

    def title_of(self, name: str) -> str | None:
        """The data set on the list that a checkpoint's data name means, if it is there."""
        sources = self.sources
        return next((t for t, source in sources.items() if name in (t, Path(source).name)), None)

    def run(self, run_id: Any) -> RunFolder:
        """A run to look at, one's own or a shipped one. Raises InputError where there is none."""
        try:
            return find_run(self.runs_dir, run_id)
        except InputError:
            return find_run(self.shipped_dir / "runs", run_id)

    def own_run(self, run_id: Any) -> RunFolder:
        """A run to do something with. Raises InputError where there is none."""
        return find_run(self.runs_dir, run_id)

    def run_of(self, name: str) -> RunFolder:
        """The run in which the checkpoint `name` was trained; its folder may be incomplete."""
        path = self.checkpoint_path(name)
        return RunFolder(path.parent) if path.name == MODEL_FILE else shipped_run(path.stem, self.shipped_dir)

    def _shipped(self) -> list[str]:
        """The networks that are there from the start, the best in front."""
        accuracy: dict[str, float] = {}
        for path in self.shipped_dir.glob("*.safetensors"):
            if path.stem in MODELS:
                with contextlib.suppress(InputError):
                    accuracy[path.stem] = read_info(path).metrics.get("accuracy", 0)
        return sorted(accuracy, key=lambda name: (-accuracy[name], name))
