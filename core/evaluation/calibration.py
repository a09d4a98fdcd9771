"""How far a network's confidence is from its accuracy, and the one number that mends most of it."""

import math

import torch
import torch.nn.functional as F
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


def expected_calibration_error(probabilities: Tensor, labels: Tensor, bins: int = BINS) -> float:
    """Mean distance of confidence and accuracy over `bins` equal steps of confidence, by their share.

    Args:
        probabilities: (N, num_classes), rows adding up to 1.
        labels: (N,).
    """
    if len(labels) == 0:
        return 0.0
    confidence, predicted = probabilities.double().max(dim=1)
    correct = (predicted == labels).double()
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1  # bins are (low, high]
    gap = torch.zeros(bins, dtype=torch.float64).index_add_(0, index, correct - confidence)
    return (gap.abs().sum() / len(labels)).item()
