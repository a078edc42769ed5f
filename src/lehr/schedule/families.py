"""Families of schedules: plain functions that return a `Schedule`.

Lengths are in updates and include nothing twice: `steps` is all of training, warm-up included;
`decay` is the number of decaying updates at the end; the annealing ratio R is decay / steps.
LRs are as the optimiser sees them; `final` is an LR, not a share of the peak.

Every family takes the same warm-up: `warmup` updates from `warmup_start` (an LR) to `peak`.
With `warmup_phase=1` update k uses start + (peak - start) (k + 1) / warmup, and no update is
wasted at the start value; `warmup_phase=0` is the convention of HF and Megatron, whose first
update uses the start value itself.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from numbers import Real
from typing import Any

import numpy as np

from lehr.errors import bad
from lehr.schedule.schedule import Schedule, Segment, Table, check_lr
from lehr.schedule.shapes import check_shape

# a schedule may come from untrusted text: bounds on what it can make lehr build
MOST_CYCLES, MOST_LISTED = 10_000, 50_000_000

FAMILIES: dict[str, Callable[..., Schedule]] = {}


def _family(make: Callable[..., tuple[Segment | Table, ...]]) -> Callable[..., Schedule]:
    """Register `make` under its name and record the call that made each schedule."""
    signature = inspect.signature(make)

    def build(**arguments: Any) -> Schedule:
        bound = {
            name: _typed(name, str(signature.parameters[name].annotation), value)
            for name, value in signature.bind(**arguments).arguments.items()
        }
        kept = tuple(
            (name, value) for name, value in bound.items() if value != signature.parameters[name].default
        )
        return Schedule(make(**bound), call=(make.__name__, kept))

    build.__name__ = build.__qualname__ = make.__name__
    build.__doc__ = make.__doc__
    build.__signature__ = signature.replace(return_annotation="Schedule")  # type: ignore[attr-defined]
    FAMILIES[make.__name__] = build
    return build


def _typed(name: str, kind: str, value: Any) -> Any:
    """Return `value` as the annotation `kind` asks: equal calls then have equal texts."""
    if kind.startswith("Sequence["):
        if isinstance(value, np.ndarray):
            plain = kind == "Sequence[float]" and value.dtype == float and value.ndim == 1
            if plain and np.all(np.abs(value) < 1e300):  # logs are read as millions of LRs
                return tuple(value.tolist())
            value = value.tolist()
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise bad(name, "must be a list", value, "write it as [first, second, ...]")
        return tuple(_typed(name, kind[9:-1], item) for item in value)
    if kind in ("Schedule", "str"):
        if not isinstance(value, Schedule if kind == "Schedule" else str):
            rule = "must be a schedule" if kind == "Schedule" else "must be a name"
            raise bad(name, rule, value, "see the arguments of the family")
        return value
    if isinstance(value, bool) or not isinstance(value, (float, int, Real)):
        raise bad(name, "must be a number", value, "see the arguments of the family")
    number: Any = value.item() if isinstance(value, np.generic) else value
    if not abs(number) < 1e300:
        raise bad(name, "must be a finite number", value, "see the arguments of the family")
    if kind == "float":
        return float(number)
    if number % 1 != 0:
        raise bad(name, "must be a whole number", value, "lengths and positions are counted in updates")
    return int(number)


def _length(name: str, value: float, low: int, high: float, why: str) -> int:
    if value != int(value) or not low <= value <= high:
        upper = f" .. {int(high)}" if high < float("inf") else " or more"
        raise bad(name, f"must be a whole number of updates, {low}{upper}", value, why)
    return int(value)


def _rise(steps: int, peak: float, warmup: int, start: float, phase: float) -> tuple[Segment, ...]:
    """Return the warm-up, shared by every family, after checking the arguments they share."""
    _length("steps", steps, 1, float("inf"), "give the length of training in updates")
    if not check_lr("peak", peak) > 0:
        raise bad("peak", "must be above 0", peak, "give the peak LR")
    _length("warmup", warmup, 0, steps, "warm-up is part of the steps")
    if not check_lr("warmup_start", start) <= peak:
        raise bad("warmup_start", f"must not exceed the peak {peak:g}", start, "give an LR below it")
    if phase not in (0, 1):
        raise bad("warmup_phase", "must be 0 or 1", phase, "use 1, or 0 for the HF and Megatron convention")
    return (Segment(warmup, start, peak, phase=phase),) if warmup else ()


def _hold(steps: int, lr: float) -> tuple[Segment, ...]:
    return (Segment(steps, lr, lr),) if steps else ()


def _check_final(final: float, peak: float) -> None:
    if check_lr("final", final) > peak:
        raise bad("final", f"must not exceed the peak {peak:g}", final, "it is an LR that the decay ends at")


@_family
def constant(
    *, steps: int, peak: float, warmup: int = 0, warmup_start: float = 0.0, warmup_phase: float = 1
) -> tuple[Segment, ...]:
    """Warm-up, then the peak LR until the end.

    >>> constant(steps=4, peak=1.0, warmup=2).to_array().tolist()
    [0.5, 1.0, 1.0, 1.0]
    """
    rise = _rise(steps, peak, warmup, warmup_start, warmup_phase)
    return rise + _hold(steps - warmup, peak)


@_family
def wsd(
    *, steps: int, peak: float, warmup: int = 0, decay: int, shape: str = "linear", final: float = 0.0,
    warmup_start: float = 0.0, warmup_phase: float = 1,
) -> tuple[Segment, ...]:  # fmt: skip
    """Warm-up, stable, decay: the last `decay` updates go from the peak towards `final`.

    The first decaying update still uses the peak, the value after the last one would be `final`.

    >>> wsd(steps=6, peak=1.0, decay=4).to_array().tolist()
    [1.0, 1.0, 1.0, 0.75, 0.5, 0.25]
    """
    rise = _rise(steps, peak, warmup, warmup_start, warmup_phase)
    _length("decay", decay, 0, steps - warmup, "warm-up and decay must fit into the steps")
    _check_final(final, peak)
    fall = (Segment(decay, peak, final, check_shape(shape)),) if decay else ()
    return rise + _hold(steps - warmup - decay, peak) + fall


@_family
def cosine(
    *, steps: int, peak: float, warmup: int = 0, final: float = 0.0, cycle: int = 0,
    warmup_start: float = 0.0, warmup_phase: float = 1,
) -> tuple[Segment, ...]:  # fmt: skip
    """Warm-up, then a half cosine from the peak to `final`.

    `cycle` is the step at which the cosine reaches `final`, counted from the start of training
    (0: the last step); past it the LR stays at `final`.

    >>> [round(v, 4) for v in cosine(steps=4, peak=1.0).to_array().tolist()]
    [1.0, 0.8536, 0.5, 0.1464]
    """
    rise = _rise(steps, peak, warmup, warmup_start, warmup_phase)
    _check_final(final, peak)
    cycle = _length("cycle", cycle or steps, warmup + 1, float("inf"), "it counts from the start of training")
    if warmup == steps:
        return rise
    falling = min(steps, cycle) - warmup
    fall = Segment(falling, peak, final, "cosine", 0.0, cycle - warmup)
    return (*rise, fall, *_hold(steps - warmup - falling, final))


@_family
def one_cycle(
    *, steps: int, peak: float, warmup: int, start: float, final: float = 0.0
) -> tuple[Segment, ...]:
    """Cosine up from `start` to the peak, then cosine down to `final`: torch's OneCycleLR.

    The peak is used by update `warmup - 1` and `final` by the last one, as in that class with
    pct_start = warmup / steps and two phases.
    """
    _rise(steps, peak, 0, 0.0, 1)
    _length("warmup", warmup, 2, steps - 2, "both halves need at least two updates")
    _check_final(final, peak)
    rise = Segment(warmup - 1, check_lr("start", start), peak, "cosine")
    fall = Segment(steps - warmup + 1, peak, final, "cosine", 0.0, steps - warmup)
    return (rise, fall)


@_family
def wsd_s(
    *, periods: Sequence[int], peak: float, warmup: int = 0, decay: int, shape: str = "linear",
    final: float = 0.0, warmup_start: float = 0.0, warmup_phase: float = 1,
) -> tuple[Segment | Table, ...]:  # fmt: skip
    """WSD-S: several periods, each of `decay` updates of decay at its end, then the peak again.

    `periods` are lengths in updates; the first includes the warm-up.
    """
    parts: tuple[Segment | Table, ...] = ()
    for index, period in enumerate(periods):
        up = warmup if index == 0 else 0
        parts += wsd(
            steps=period, peak=peak, warmup=up, decay=decay, shape=shape, final=final,
            warmup_start=warmup_start, warmup_phase=warmup_phase,
        ).segments  # fmt: skip
    return parts


@_family
def multistep(
    *, steps: int, peak: float, milestones: Sequence[int], factors: Sequence[float], warmup: int = 0,
    warmup_start: float = 0.0, warmup_phase: float = 1,
) -> tuple[Segment, ...]:  # fmt: skip
    """LR peak times `factors[i]` from update `milestones[i]` on.

    >>> multistep(steps=4, peak=1.0, milestones=[2], factors=[0.1]).to_array().tolist()
    [1.0, 1.0, 0.1, 0.1]
    """
    parts = _rise(steps, peak, warmup, warmup_start, warmup_phase)
    if len(milestones) != len(factors):
        rule = f"must be as many as the {len(milestones)} milestones"
        raise bad("factors", rule, len(factors), "pair them")
    edges = [warmup, *milestones, steps]
    if any(b <= a for a, b in zip(edges[1:], edges[2:], strict=False)) or edges[1] < warmup:
        raise bad("milestones", "must increase between warm-up and steps", list(milestones), "sort them")
    for first, end, factor in zip(edges, edges[1:], [1.0, *factors], strict=False):
        parts += _hold(end - first, check_lr("factor", factor) * peak)
    return parts


@_family
def cyclic(
    *, steps: int, peak: float, low: float, period: int, warmup: int = 0, shape: str = "cosine",
    warmup_start: float = 0.0, warmup_phase: float = 1,
) -> tuple[Segment, ...]:  # fmt: skip
    """Fall from peak to `low` over `period` updates, jump back, again until the end."""
    parts = _rise(steps, peak, warmup, warmup_start, warmup_phase)
    _length("period", period, 1, float("inf"), "give the length of a cycle")
    _check_final(low, peak)
    left = steps - warmup
    if left > MOST_CYCLES * period:
        raise bad("period", f"must leave at most {MOST_CYCLES} cycles", period, "give a longer period")
    while left > 0:
        parts += (Segment(min(left, period), peak, low, check_shape(shape), 0.0, period),)
        left -= period
    return parts


@_family
def power_scheduler(
    *, steps: int, peak: float, warmup: int = 0, a: float, b: float = -0.51, batch: int, batch_tokens: int,
    decay: int = 0, warmup_start: float = 0.0, warmup_phase: float = 1,
) -> tuple[Segment | Table, ...]:  # fmt: skip
    """Power scheduler: min(peak, batch a n^b) of the tokens n seen, then exponential decay to 1 %.

    `batch` is in sequences, `batch_tokens` in tokens (Shen et al., arXiv 2408.13359; the shape
    of the final decay is ours).
    """
    rise = _rise(steps, peak, warmup, warmup_start, warmup_phase)
    _length("decay", decay, 0, steps - warmup - 1, "leave at least one update before it")
    if steps > MOST_LISTED:
        raise bad("steps", f"must not exceed {MOST_LISTED} for a listed LR", steps, "use a family of pieces")
    tokens = (np.arange(warmup, steps - decay) + 1.0) * batch_tokens
    middle = Table(np.minimum(peak, batch * a * tokens**b))
    last = float(middle.values[-1])
    fall = (Segment(decay, last, 0.01 * last, "exponential"),) if decay else ()
    return (*rise, middle, *fall)


@_family
def rewarm(
    *, base: Schedule, steps: int, peak: float, warmup: int, decay: int, shape: str = "linear",
    final: float = 0.0,
) -> tuple[Segment | Table, ...]:  # fmt: skip
    """Continue after `base`: warm up from its last LR to `peak`, hold, decay; `steps` more updates."""
    low = float(base.lr(np.array([base.steps - 1]))[0])
    more = wsd(
        steps=steps, peak=peak, warmup=warmup, decay=decay, shape=shape, final=final,
        warmup_start=min(low, peak),
    )  # fmt: skip
    return base.segments + more.segments


@_family
def branch(*, base: Schedule, at: int, then: Schedule) -> tuple[Segment | Table, ...]:
    """Follow the first `at` updates of `base`, then `then`."""
    _length("at", at, 1, base.steps, "branch within the base")
    return base.first(at).segments + then.segments


@_family
def from_array(*, values: Sequence[float]) -> tuple[Table, ...]:
    """Return the schedule whose update k uses `values[k]`."""
    return (Table(np.asarray(values, dtype=float)),)


@_family
def ramp(
    *, steps: int, start: float, end: float, shape: str = "linear", phase: float = 0.0, span: float = 0.0
) -> tuple[Segment, ...]:
    """One segment of a schedule, in the raw terms of `lehr.schedule.Segment`."""
    return (Segment(steps, start, end, shape, phase, span),)


@_family
def join(*, parts: Sequence[Schedule]) -> tuple[Segment | Table, ...]:
    """Run the given schedules one after the other."""
    return tuple(segment for part in parts for segment in part.segments)
