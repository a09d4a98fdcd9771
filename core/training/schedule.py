"""Learning rates as plain functions of the step."""

import math


def one_cycle(step: int, steps_total: int, peak: float, rise: float) -> float:
    """Straight up from peak/5 to `peak` over the share `rise` of the steps, then straight to 0.

    The triangle of KellerJordan/cifar10-zoo. The last step still has a rate above 0.
    """
    top = max(round(rise * steps_total), 1)
    if step < top:
        return peak * (0.2 + 0.8 * step / top)
    return peak * (steps_total - step) / max(steps_total - top, 1)


def cosine(step: int, steps_total: int, peak: float) -> float:
    """Half a cosine from `peak` to 0 (Loshchilov & Hutter 2016, without restarts)."""
    return peak * 0.5 * (1 + math.cos(math.pi * step / steps_total))
