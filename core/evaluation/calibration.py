"""How far a network's confidence is from its accuracy, and the one number that mends most of it."""

import math

import torch
import torch.nn.functional as F
from pydantic import BaseModel
from torch import Tensor

BINS = 15  # as in Guo et al. 2017
MIN_TEMPERATURE, MAX_TEMPERATURE = 0.05, 20.0
GOLDEN = (math.sqrt(5) - 1) / 2


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """The temperature T for which softmax(logits / T) has the least negative log-likelihood.

    Guo et al., "On Calibration of Modern Neural Networks" (2017). To be fitted on images that were
    neither trained on nor are reported on.

    Args:
        logits: (N, num_classes).
        labels: (N,).

    Returns:
        T between 0.05 and 20; 1 where there is nothing to fit on.
    """
    if len(labels) == 0:
        return 1.0
    logits = logits.double()

    def loss(log_t: float) -> float:
        return F.cross_entropy(logits / math.exp(log_t), labels).item()

    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    for _ in range(60):  # golden section; the interval shrinks below 1e-11
        a, b = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        if loss(a) < loss(b):
            high = b
        else:
            low = a
    return math.exp((low + high) / 2)


class ReliabilityBin(BaseModel):
    """The images whose confidence is above `low` and at most `high`; means are None where there are none."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


def reliability_table(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> list[ReliabilityBin]:
    """Mean confidence and accuracy in `bins` equal steps of confidence.

    Args:
        probabilities: (N, num_classes), rows adding up to 1.
        labels: (N,).
    """
    confidence, predicted = probabilities.double().max(dim=1)
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1  # bins are (low, high]
    counts = torch.bincount(index, minlength=bins).tolist()
    sums = torch.zeros(2, bins, dtype=torch.float64)
    sums.index_add_(1, index, torch.stack([confidence, (predicted == labels).double()]))
    return [
        ReliabilityBin(
            low=i / bins,
            high=(i + 1) / bins,
            count=count,
            confidence=sums[0, i].item() / count if count else None,
            accuracy=sums[1, i].item() / count if count else None,
        )
        for i, count in enumerate(counts)
    ]


def expected_calibration_error(table: list[ReliabilityBin]) -> float:
    """Mean distance of confidence and accuracy over the bins, by their share (Guo et al. 2017)."""
    total = sum(row.count for row in table)
    gaps = (row.count * abs(row.accuracy - row.confidence) for row in table if row.count)
    return sum(gaps) / total if total else 0.0
