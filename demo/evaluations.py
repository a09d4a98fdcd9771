"""What networks said of test images: read where a run left it, else asked once and kept."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import Tensor

from core import InputError
from core.data import DataSet, Progress
from core.evaluation import Report, evaluate_checkpoint, prediction_tensors
from core.files import save_tensors
from demo import text
from demo.lab import DataJob, Lab

KEY = "report"  # of the header's metadata


@dataclass(frozen=True)
class Predictions:
    """Of N test images: labels (N,) int64 and calibrated probabilities (N, num_classes) float32."""

    labels: Tensor
    probabilities: Tensor

    @property
    def predicted(self) -> Tensor:
        return self.probabilities.argmax(dim=1)

    @property
    def right(self) -> Tensor:
        return self.predicted == self.labels

    def mistakes_first(self, chosen: Tensor) -> Tensor:
        """Indices of the images for which `chosen` (N,) is true.

        Wrong ones come first, the surest of them at the very front; then right ones, the least sure first.
        """
        indices = chosen.nonzero().flatten()
        confidence = self.probabilities.max(dim=1).values[indices]
        rank = torch.where(self.right[indices], confidence, -confidence - 1)
        return indices[rank.argsort(stable=True)]


def report_of(lab: Lab, name: str, title: str = "") -> Report | None:
    """The figures of a checkpoint on the test images of a data set; None where it was not tested on it.

    Args:
        title: the data set; empty for the one it was trained on.
    """
    info = lab.info(name)
    own = lab.title_of(info.data)
    if not title or title == own:
        try:
            return Report.model_validate(info.metrics)
        except ValidationError:
            title = own or ""
    try:
        with safe_open(_kept(lab, name, title), "pt") as file:
            return Report.model_validate_json(file.metadata()[KEY])
    except (OSError, SafetensorError, ValidationError, InputError, KeyError, TypeError):
        return None


def stored_predictions(lab: Lab, name: str, title: str = "") -> Predictions | None:
    """What is kept of the checkpoint `name` on a data set (empty: its own); None where nothing is."""
    info = lab.info(name)
    own = lab.title_of(info.data)
    places = [lab.run_of(name).predictions_file] if not title or title == own else []
    if title or own:
        places.append(_kept(lab, name, title or own))
    for file in places:
        try:
            with safe_open(file, "pt") as tensors:
                labels = tensors.get_tensor("labels").long()
                probabilities = tensors.get_tensor("probabilities").float()
        except (OSError, SafetensorError):
            continue
        if len(labels) == len(probabilities) and probabilities.shape[1] == len(info.classes):
            return Predictions(labels, probabilities)
    return None


def evaluate_in_background(lab: Lab, name: str, title: str) -> DataJob:
    """Ask the network about every test image of a data set, and keep the report and the answers.

    Whoever asks for the same while it goes on gets the same job; `lab.cancel` with `job_key` ends it.
    """
    lab.source(title)

    def work(told: Progress) -> None:
        loading = lab.load_in_background(title)
        while not loading.finished.wait(0.2):
            told(loading.stage, loading.done, loading.total)
        if loading.data is None:
            raise InputError(loading.error or text.NO_DATA)
        with lab.evaluating:
            _evaluate(lab, name, title, loading.data, told)

    return lab.shared_job(job_key(name, title), work)


def job_key(name: str, title: str) -> str:
    return f"evaluate {name} {title}"


def _evaluate(lab: Lab, name: str, title: str, data: DataSet, told: Progress) -> None:
    checkpoint = lab.checkpoint(name)
    if list(data.classes) != checkpoint.info.classes:
        raise InputError(text.OTHER_CLASSES.format(data=title))
    if len(data.test) == 0:
        raise InputError(text.NO_TEST_IMAGES.format(data=title))
    report, logits = evaluate_checkpoint(
        checkpoint, data, on_batch=lambda done, total: told("evaluate", done, total)
    )
    report = report.model_copy(update={"data": title})
    answers = prediction_tensors(logits, data.test.labels, report.temperature)
    file = _kept(lab, name, title)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(file, answers, {KEY: report.model_dump_json()})


def _kept(lab: Lab, name: str, title: str) -> Path:
    """Where they are kept; a changed checkpoint or a changed source is another file."""
    source = lab.source(title)
    changed: Any = Path(source).stat().st_mtime_ns if Path(source).exists() else ""
    digest = hashlib.sha256(f"{source} {changed}".encode()).hexdigest()[:12]
    state = lab.checkpoint_path(name).stat()
    return lab.data_dir / "evaluations" / f"{name}-{state.st_mtime_ns:x}-{digest}.safetensors"
