"""Quantiles of distributions, without `scipy.stats`, which takes a second to load."""

from __future__ import annotations

from functools import lru_cache


@lru_cache(256)
def normal_half(level: float) -> float:
    """Standard deviations on either side of the mean that hold a normal variable with probability `level`."""
    from scipy.special import ndtri  # slow to load

    return float(ndtri(0.5 + level / 2))


@lru_cache(256)
def student_half(level: float, freedom: float) -> float:
    """The same for a variable of Student's t with `freedom` degrees of freedom."""
    from scipy.special import stdtrit  # slow to load

    return float(stdtrit(freedom, 0.5 + level / 2))


def normal_below(value: float) -> float:
    """Probability that a normal variable lies below `value` standard deviations."""
    from scipy.special import ndtr  # slow to load

    return float(ndtr(value))


def share_interval(hits: int, tries: int, level: float) -> tuple[float, float]:
    """Interval of a share of which `hits` of `tries` were seen (Clopper and Pearson, Biometrika 26, 1934)."""
    from scipy.special import betaincinv  # slow to load

    beyond = (1 - level) / 2
    low = float(betaincinv(hits, tries - hits + 1, beyond)) if hits else 0.0
    high = float(betaincinv(hits + 1, tries - hits, 1 - beyond)) if hits < tries else 1.0
    return low, high
