"""What a network said of every test image: read where a run left it, else computed once and kept."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor

from core.data import DataSet
from core.evaluation import predict
from core.files import save_tensors
from demo.lab import Lab

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Predictions:
    """Of N test images: labels (N,) int64 and calibrated probabilities (N, num_classes) float32."""

    labels: Tensor
    probabilities: Tensor

    @property
    def predicted(self) -> Tensor:
        return self.probabilities.argmax(dim=1)

    def mistakes_first(self, truth: int | None, prediction: int | None) -> Tensor:
        """Indices of the images of a cell, a row or a column of the confusion matrix.

        Wrong ones come first, the surest of them at the very front; then right ones, the least sure first.
        """
        chosen = torch.ones_like(self.labels, dtype=torch.bool)
        if truth is not None:
            chosen &= self.labels == truth
        if prediction is not None:
            chosen &= self.predicted == prediction
        indices = chosen.nonzero().flatten()
        confidence = self.probabilities.max(dim=1).values[indices]
        wrong = self.predicted[indices] != self.labels[indices]
        rank = torch.where(wrong, -confidence - 1, confidence)
        return indices[rank.argsort(stable=True)]


def stored_predictions(lab: Lab, name: str) -> Predictions | None:
    """What is kept of the checkpoint `name`; None where nothing is."""
    info = lab.info(name)
    for file in (_beside(lab, name), _kept(lab, name, info.data_fingerprint)):
        try:
            with safe_open(file, "pt") as tensors:
                labels = tensors.get_tensor("labels").long()
                probabilities = tensors.get_tensor("probabilities").float()
        except (OSError, SafetensorError):
            continue
        if len(labels) == len(probabilities) and probabilities.shape[1] == len(info.classes):
            return Predictions(labels, probabilities)
    return None


def compute_predictions(lab: Lab, name: str, data: DataSet, progress: Progress) -> Predictions:
    """Ask the network about every test image of `data`, and keep the answers."""
    checkpoint = lab.checkpoint(name)
    info = checkpoint.info
    logits = predict(
        checkpoint.model,
        data.test.images,
        info.mean,
        info.std,
        size=info.image_size,
        device=next(checkpoint.model.parameters()).device,
        on_batch=lambda done, total: progress("evaluate", done, total),
    )
    found = Predictions(data.test.labels, F.softmax(logits / info.temperature, dim=1))
    file = _kept(lab, name, data.fingerprint)
    file.parent.mkdir(parents=True, exist_ok=True)
    save_tensors(file, {"labels": found.labels.short(), "probabilities": found.probabilities.half()})
    return found


def _beside(lab: Lab, name: str) -> Path:
    """Where a run leaves them."""
    path = lab.checkpoint_path(name)
    return path.parent / ("predictions.safetensors" if path.stem == "model" else f"{path.stem}-predictions")


def _kept(lab: Lab, name: str, fingerprint: str) -> Path:
    """Where they are kept for a checkpoint that came without; another file means another network."""
    state = lab.checkpoint_path(name).stat()
    return lab.data_dir / "predictions" / f"{name}-{fingerprint}-{state.st_mtime_ns:x}.safetensors"
