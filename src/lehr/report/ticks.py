"""Where the ticks of an axis stand and how their numbers are written."""

from __future__ import annotations

import math

MOST = 5  # ticks of a linear axis, about
NARROW = 1.6  # decades of a logarithmic axis below which 2 and 5 are ticks too


def linear_ticks(low: float, high: float, most: int = MOST) -> list[float]:
    """Multiples of 1, 2 or 5 times a power of ten within `low` .. `high`, about `most` of them.

    >>> linear_ticks(0.0, 1.0)
    [0.0, 0.2, 0.4, 0.6, 0.8, 1.0]
    """
    rough = (high - low) / most
    if not (math.isfinite(rough) and rough > 0):
        return [low]
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next((unit * part for part in (1, 2, 5) if unit * part >= 0.85 * rough), 10 * unit)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{i * step:.12g}") for i in range(first, last + 1)]


def log_ticks(low: float, high: float, most: int = MOST) -> list[float]:
    """Powers of ten within `low` .. `high`, and 2 and 5 times them where the axis is narrow; `low` is above 0.

    >>> log_ticks(0.0005, 0.003)
    [0.0005, 0.001, 0.002]
    """
    span = math.log10(high / low)
    parts = (1.0, 2.0, 5.0) if span < NARROW else (1.0,)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks = [float(f"{part * 10.0**power:.12g}") for power in powers for part in parts]
    ticks = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
    if len(ticks) < 2:
        return linear_ticks(low, high, 3)
    return ticks[:: max(1, math.ceil(len(ticks) / (most + 1)))]


def tick_text(value: float, ticks: list[float]) -> str:
    """`value` with as many digits as tell `ticks` apart.

    >>> tick_text(3.2, [3.15, 3.2, 3.25]), tick_text(20000.0, [0.0, 20000.0]), tick_text(3e-4, [1e-4, 3e-4])
    ('3.20', '20,000', '0.0003')
    """
    largest = max(abs(tick) for tick in ticks)
    if largest >= 1e6:
        return f"{value / 1e6:g}M" if largest < 1e9 else f"{value:.3g}"
    if 0 < largest < 1e-4:
        return f"{value:.2g}"
    decimals = [len(f"{tick:.10f}".rstrip("0").partition(".")[2]) for tick in ticks]
    ordered = sorted(ticks)
    alike = len(ordered) < 3 or math.isclose(ordered[1] - ordered[0], ordered[-1] - ordered[-2], rel_tol=1e-6)
    return f"{value:,.{max(decimals)}f}" if alike else f"{value:g}"
