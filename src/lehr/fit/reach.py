"""How far each law reaches in peak LR: the error that a doubling beyond the fitted range adds.

Runs at one peak LR do not tell how wrong a law's form is at another: left-out runs, whose errors
widen the bands, lie at the same one. What the form is worth there was measured once, on seven
models of 33M to 208M (two data sets, peak LRs a factor of two apart, arXiv 2501.18965): fitted at
one of the LRs, predicted at the other, the error's root mean square beyond what the band already held.
`python -m benchmarks.reach` measures it again. No run of the 124M model entered.
"""

from __future__ import annotations

import math

from lehr.fit.result import Domain

# relative error for a doubling of the peak LR; .001 is the least allowed
PER_DOUBLING = {
    "weight_norm": 0.001,
    "effective_time": 0.004,
    "effective_time_area": 0.005,
    "multi_power": 0.052,
    "tissue": 0.052,
    "functional": 0.068,
    "forward_momentum": 0.055,
    "one_power": 0.040,
}
OTHERWISE = 0.05  # laws not measured: most forms know nothing of the peak LR


def doublings_outside(domain: Domain, peak: float) -> float:
    """By how many doublings `peak` lies outside the fitted peak LRs; 0 inside."""
    low, high = domain.peak_lr
    return max(0.0, math.log2(low / peak), math.log2(peak / high)) if peak > 0 else 0.0


def reach_error(law: str, domain: Domain, peak: float) -> float:
    """Standard deviation of the relative error that comes from leaving the fitted peak LRs.

    A law fitted to runs at several peak LRs knows more of it than at one, but by how much was not
    measured: the same error is taken, per doubling outside the range.
    """
    outside = doublings_outside(domain, peak)
    return PER_DOUBLING.get(law, PER_DOUBLING.get(law.removesuffix("_n"), OTHERWISE)) * outside
