"""Whether a picture is like those a network was trained on, or "none of these".

Two signs are added, each measured in standard deviations of held-out images: the energy of the logits
(Liu et al., "Energy-based Out-of-distribution Detection", 2020), and the distance to the nearest
neighbours in a bank of features of training images (Sun et al., "Out-of-Distribution Detection with
Deep Nearest Neighbors", 2022). Alone, the first did better on weakly trained networks and the second
on well trained ones; the sum was never far from the better.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.checkpoint import NoveltyScale

NEIGHBOUR = 20  # the distance to this one, nearest first, counts
SIMILAR = 3  # training images that are shown as most similar
MAX_BANK = 1000  # images
MAX_BANK_BYTES = 900_000
PASSING = 0.95  # share of held-out images that are to pass
MIN_HELD_OUT = 20  # with fewer images no threshold can be told


def bank_size(dimensions: int) -> int:
    """How many features of so many dimensions are kept in a checkpoint, in half precision."""
    return min(MAX_BANK_BYTES // (2 * dimensions), MAX_BANK)


def logits_and_features(model: nn.Module, batch: Tensor) -> Tensor:
    """Logits, then what the last layer reads, side by side: (N, num_classes + D)."""
    maps = model.forward_features(batch)
    return torch.cat([model.forward_head(maps), model.forward_head(maps, pre_logits=True)], dim=1)


def make_bank(features: Tensor) -> Tensor:
    """Features (N, D) of training images as they are kept: unit length, half precision."""
    return F.normalize(features.float(), dim=1).half()


def energy(logits: Tensor) -> Tensor:
    """(N,) of logits (N, num_classes): higher where some class is plain."""
    return torch.logsumexp(logits.double(), dim=1)


def distances(features: Tensor, bank: Tensor) -> Tensor:
    """(N, K): how far features (N, D) are from those of the bank (K, D), at unit length."""
    return torch.cdist(
        F.normalize(features.float(), dim=1),
        bank.float().to(features.device),
        compute_mode="donot_use_mm_for_euclid_dist",  # which rounds away what is very near
    )


def nearness(away: Tensor) -> Tensor:
    """(N,) of `distances` (N, K): minus the 20th smallest."""
    return -away.kthvalue(min(NEIGHBOUR, away.shape[1]), dim=1).values


def most_similar(away: Tensor) -> Tensor:
    """Rows (N, 3) of the bank by `distances` (N, K), the nearest first."""
    return away.topk(min(SIMILAR, away.shape[1]), dim=1, largest=False).indices


def familiarity(logits: Tensor, away: Tensor, scale: NoveltyScale) -> Tensor:
    """Scores (N,) of logits (N, num_classes) and `distances` (N, K): higher is more like the training
    images; about 0 for the average held-out one."""
    by_energy = (energy(logits) - scale.energy_mean) / scale.energy_std
    return by_energy + (nearness(away) - scale.nearness_mean) / scale.nearness_std


def fit_novelty(logits: Tensor, features: Tensor, bank: Tensor) -> tuple[NoveltyScale, float] | None:
    """The scale of both signs on held-out images, and the score that 95% of these reach.

    None where there are too few images to tell.
    """
    if len(logits) < MIN_HELD_OUT or len(bank) == 0:
        return None
    away = distances(features, bank)
    signs = energy(logits), nearness(away)
    (e_mean, e_std), (n_mean, n_std) = ((s.mean().item(), max(s.std().item(), 1e-6)) for s in signs)
    scale = NoveltyScale(energy_mean=e_mean, energy_std=e_std, nearness_mean=n_mean, nearness_std=n_std)
    scores = familiarity(logits, away, scale)
    return scale, torch.quantile(scores, 1 - PASSING).item()
