"""Whether a picture is like those a network was trained on, or "none of these".

Nearest neighbours in the space of features (Sun et al., "Out-of-Distribution Detection with Deep
Nearest Neighbors", 2022): a picture is as familiar as the nearest of a bank of training images.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NEIGHBOUR = 5  # the distance to this one, nearest first, is the score
MAX_BANK_BYTES = 900_000
PASSING = 0.95  # share of held-out images that are to pass
MIN_HELD_OUT = 20  # with fewer images no threshold can be told


def bank_size(dimensions: int) -> int:
    """How many features of so many dimensions fit into a checkpoint, in half precision."""
    return MAX_BANK_BYTES // (2 * dimensions)


def logits_and_features(model: nn.Module, batch: Tensor) -> Tensor:
    """Logits, then what the last layer reads, side by side: (N, num_classes + D)."""
    maps = model.forward_features(batch)
    return torch.cat([model.forward_head(maps), model.forward_head(maps, pre_logits=True)], dim=1)


def make_bank(features: Tensor) -> Tensor:
    """Features (N, D) of training images as they are kept: unit length, half precision."""
    return F.normalize(features.float(), dim=1).half()


def familiarity(features: Tensor, bank: Tensor) -> Tensor:
    """Scores (N,) of features (N, D): higher is more like the training images; 0 is the most.

    It is minus the distance to the fifth nearest of the bank (K, D), between features of unit length.
    """
    distances = torch.cdist(F.normalize(features.float(), dim=1), bank.float().to(features.device))
    k = min(NEIGHBOUR, bank.shape[0])
    return -distances.kthvalue(k, dim=1).values


def fit_threshold(scores: Tensor) -> float | None:
    """The score that 95% of held-out images reach; None with too few of them."""
    return torch.quantile(scores.float(), 1 - PASSING).item() if len(scores) >= MIN_HELD_OUT else None
