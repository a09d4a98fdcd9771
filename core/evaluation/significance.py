"""How sure a share is, and whether two networks differ by more than chance."""

import math

Z95 = 1.959963984540054  # quantile of the normal distribution that leaves 2.5% on each side


def wilson_interval(hits: int, count: int) -> tuple[float, float] | None:
    """95% interval of a share, `hits` of `count` (Wilson, 1927); None where nothing was counted."""
    if count == 0:
        return None
    share, square = hits / count, Z95**2 / count
    centre = (share + square / 2) / (1 + square)
    half = Z95 * math.sqrt(share * (1 - share) / count + square / (4 * count)) / (1 + square)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def mcnemar(only_first: int, only_second: int) -> float:
    """Probability that two equally good networks differ at least so much on the same images.

    The exact form of McNemar's test (1947): of the images that just one of the two gets right, each is
    as likely to be the first's as the second's.

    Args:
        only_first, only_second: images that the first, or the second, alone gets right.
    """
    count, fewer = only_first + only_second, min(only_first, only_second)
    if count == 0:
        return 1.0
    log_half = count * math.log(2)
    tail = sum(
        math.exp(math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1) - log_half)
        for k in range(fewer + 1)
    )
    return min(2 * tail, 1.0)
