"""SGD with Nesterov momentum for everything, or Muon for the filters and SGD for the rest."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from core import InputError
from core.training.recipe import Recipe

# Coefficients of the quintic iteration, and their number (Jordan et al., "Muon", 2024).
QUINTIC = (3.4445, -4.7750, 2.0315)
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Momentum, made orthogonal: every direction of a filter bank moves by the same amount.

    Jordan et al., "Muon: An optimizer for hidden layers in neural networks" (2024), as in
    KellerJordan/cifar10-airbench: filters (K, C, h, w) are seen as matrices (K, C*h*w) and kept at the norm
    sqrt(K), which a BatchNorm after them makes free; so the learning rate is the relative change of a step.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        for group in self.param_groups:
            for filters in group["params"]:
                if filters.grad is None:
                    continue
                state = self.state[filters]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(filters)
                buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(filters.grad)
                ahead = filters.grad.add(buffer, alpha=group["momentum"])
                filters.mul_(len(filters) ** 0.5 / filters.norm())
                filters.sub_(group["lr"] * orthogonal(ahead.flatten(1)).view_as(filters))


def orthogonal(matrix: Tensor) -> Tensor:
    """About the nearest matrix of its shape (M, N) whose singular values are all alike, near 1.

    The Newton-Schulz iteration X <- (a + b A + c A^2) X with A = X X^T. All its factors are polynomials of
    the first A, so they are multiplied among themselves, smaller than X, and X is multiplied once.
    """
    if matrix.shape[0] > matrix.shape[1]:
        return orthogonal(matrix.t()).t()
    a, b, c = QUINTIC
    x = matrix / (matrix.norm() + 1e-7)
    gram = x @ x.t()
    eye = torch.eye(len(gram), device=gram.device, dtype=gram.dtype)
    factors = eye
    for _ in range(ITERATIONS):
        factor = torch.addmm(a * eye + b * gram, gram, gram, alpha=c)
        factors = factor @ factors
        gram = factor @ gram @ factor
    return factors @ x


def make_optimizers(model: nn.Module, recipe: Recipe, device: torch.device) -> list[torch.optim.Optimizer]:
    """The optimizers of a training; each group's `peak` is its learning rate at the top of the schedule.

    Weight decay is on weights only (Page; He et al. 2018).

    Raises:
        InputError: Muon for a network without BatchNorm.
    """
    if recipe.optimizer == "muon" and not any(isinstance(m, _BatchNorm) for m in model.modules()):
        raise InputError("The optimizer muon is for networks with BatchNorm. Use sgd.")
    filters = [p for p in model.parameters() if p.ndim == 4] if recipe.optimizer == "muon" else []
    taken = {id(p) for p in filters}
    rest = [p for p in model.parameters() if id(p) not in taken]
    fused = device.type in ("cpu", "cuda")
    sgd = torch.optim.SGD(
        [
            {"params": [p for p in rest if p.ndim > 1], "weight_decay": recipe.weight_decay},
            {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
        ],
        lr=recipe.peak_lr,
        momentum=recipe.momentum,
        nesterov=recipe.momentum > 0,
        fused=fused,
        foreach=not fused,
    )
    optimizers = [sgd, Muon(filters, recipe.filter_lr, recipe.momentum)] if filters else [sgd]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    return optimizers
