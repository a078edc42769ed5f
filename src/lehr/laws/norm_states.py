"""The two slow states of the weight-norm law, solved along a schedule.

    dW = (eta - K W) eta dt      squared norm of the weights; linear, so W = grown + kept W(0)
    dh = k (eta - h) r dt        LR that the curvature is used to, r = eta / sqrt(W)

The schedule is cut at knots; between two of them eta is a straight line. Parts grow with the time
since the last jump of the LR, because both states relax: what happened long ago changes slowly.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr.laws.recurrence import follow
from lehr.schedule.pieces import Pieces

SHORT, GROWTH = 200.0, 16.0  # times the tolerance: updates of the first part, growth of the parts
FINEST = 1e-3
TINY = 1e-12
USED_AT_START = 0.03  # h(0): matters to the first updates only, but must not be 0


@dataclass(frozen=True, eq=False)
class Knots:
    """P parts of a schedule; every array has shape (P,) but the norm's, (P + 1,).

    Parameters
    ----------
    start, count : first update and number of updates of each part.
    span : the same number in reference units.
    eta, eta_end : LR at its start and at its end, in reference units; the next part may start elsewhere.
    grown, kept : squared norm at each knot is grown + kept W(0).
    """

    start: np.ndarray
    count: np.ndarray
    span: np.ndarray
    eta: np.ndarray
    eta_end: np.ndarray
    grown: np.ndarray
    kept: np.ndarray


def to_knots(
    pieces: Pieces, tolerance: float, forget: float, reference_lr: float, reference_steps: float
) -> Knots:
    """Cut `pieces` at knots and solve the norm, which forgets at the rate `forget` of the LR sum."""
    jumps, end = _ends(pieces)
    start = np.unique(np.concatenate([pieces.start, _marks(pieces, jumps, tolerance)]))
    count = np.diff(np.append(start, pieces.total)).astype(float)
    piece = np.searchsorted(pieces.start, start, side="right") - 1
    done = (start - pieces.start[piece]) / pieces.steps[piece]
    done_end = (start + count - pieces.start[piece]) / pieces.steps[piece]
    change = end - pieces.first
    eta = (pieces.first[piece] + done * change[piece]) / reference_lr
    eta_end = (pieces.first[piece] + done_end * change[piece]) / reference_lr
    span = count / reference_steps
    area = forget * 0.5 * (eta + eta_end) * span
    some = area > 1e-12
    share = np.where(some, -np.expm1(-area) / np.where(some, area, 1.0), 1.0)
    grown = follow(np.exp(-area), (0.5 * (eta + eta_end)) ** 2 * span * share, 0.0)
    kept = np.exp(-np.concatenate([[0.0], np.cumsum(area)]))
    return Knots(start, count, span, eta, eta_end, grown, kept)


def _ends(pieces: Pieces) -> tuple[np.ndarray, np.ndarray]:
    """Which pieces start with a jump, and the LR that each piece runs to."""
    following = np.append(pieces.first[1:], pieces.last[-1])
    rate = (pieces.last - pieces.first) / np.maximum(pieces.steps - 1, 1)
    step = following - pieces.last
    straight = np.abs(step) <= 2 * np.maximum(np.abs(rate), np.abs(np.append(rate[1:], 0.0))) + 1e-15
    straight[-1] = True
    ahead = np.where(straight, following, pieces.last)
    ahead[-1] = pieces.last[-1] + rate[-1] if pieces.last[-1] + rate[-1] > 0 else pieces.last[-1]
    jumps = np.concatenate([[True], ~straight[:-1]])
    if pieces.warm.any() and not pieces.warm.all():
        jumps[int(pieces.warm.sum())] = True  # the end of the warm-up: the LR stops rising
    return jumps, ahead


def _marks(pieces: Pieces, jumps: np.ndarray, tolerance: float) -> np.ndarray:
    """Knots between the edges of the pieces: dense after each jump, then ever further apart."""
    tolerance = max(tolerance, FINEST)  # a flat stretch is one piece however fine the cut
    fresh = pieces.start[jumps]
    longest = float(np.diff(np.append(fresh, pieces.total)).max())
    offset = [max(SHORT * tolerance, 1.0)]
    while offset[-1] < longest:
        offset.append(offset[-1] + max(SHORT * tolerance, 1.0, GROWTH * tolerance * offset[-1]))
    marks = np.round(offset)
    stops = np.append(fresh[1:], pieces.total)
    inside = [a + marks[: int(np.searchsorted(marks, b - a))] for a, b in zip(fresh, stops, strict=True)]
    return np.concatenate(inside).astype(np.int64)


@dataclass(frozen=True, eq=False)
class States:
    """Both states along the parts, at the start and at the end of each; every array has shape (..., P).

    Parameters
    ----------
    speed, speed_end : r.
    used, used_end : h.
    tempo, tempo_end : r / h, the pace of the noise's clock.
    tick : advance of that clock over each part.
    """

    speed: np.ndarray
    speed_end: np.ndarray
    used: np.ndarray
    used_end: np.ndarray
    tempo: np.ndarray
    tempo_end: np.ndarray
    tick: np.ndarray


def solve(knots: Knots, start: np.ndarray, adapt: np.ndarray) -> States:
    """Solve both states for W(0) = `start` and k = `adapt`, each of shape (...)."""
    pull = 1 / np.sqrt(knots.grown + np.asarray(start)[..., None] * knots.kept)
    speed, speed_end = knots.eta * pull[..., :-1], knots.eta_end * pull[..., 1:]
    half = 0.5 * knots.span
    relaxed = _relax(knots, np.asarray(adapt)[..., None] * (half * (speed + speed_end)))
    add = relaxed.base - knots.eta * relaxed.keep
    used = follow(relaxed.keep, add, USED_AT_START)
    if used.min() < TINY:
        used = _floored(relaxed.keep, add)
    low, high = used[..., :-1], used[..., 1:]
    tempo, tempo_end = speed / low, speed_end / high
    return States(speed, speed_end, low, high, tempo, tempo_end, half * (tempo + tempo_end))


def differentiate(knots: Knots, states: States, start: float, adapt: float) -> States:
    """Slopes of the `states`, of shape (P,), that `solve` found for W(0) = `start` and k = `adapt`.

    In the place of each state its slopes by W(0) and k, (P, 2); of the speeds those by W(0) alone, (P,): k leaves them.
    """
    norm = knots.grown + start * knots.kept
    pull_by = -0.5 * knots.kept / (norm * np.sqrt(norm))
    speed, speed_end = knots.eta * pull_by[:-1], knots.eta_end * pull_by[1:]
    half = 0.5 * knots.span
    path = half * (states.speed + states.speed_end)
    relaxed = _relax(knots, adapt * path)
    share_by = np.where(relaxed.small, -0.5 + adapt * path / 3, (relaxed.keep - relaxed.share) / relaxed.safe)
    bent = (knots.eta - knots.eta_end) * share_by - (states.used - knots.eta) * relaxed.keep
    used = np.column_stack(
        [follow(relaxed.keep, bent * by, 0.0) for by in (adapt * half * (speed + speed_end), path)]
    )
    none = np.zeros_like(speed)
    tempo = np.column_stack([speed / states.used, none]) - (states.tempo / states.used)[:, None] * used[:-1]
    tempo_end = (
        np.column_stack([speed_end / states.used_end, none])
        - (states.tempo_end / states.used_end)[:, None] * used[1:]
    )
    return States(
        speed, speed_end, used[:-1], used[1:], tempo, tempo_end, half[:, None] * (tempo + tempo_end)
    )


@dataclass(frozen=True, eq=False)
class _Relaxed:
    """What becomes of h over each part, (..., P): h_end = base + (h_start - eta) keep, exact for a straight eta.

    base = eta_end - change share, share = (1 - e^-g) / g and keep = e^-g for the relaxation exponent g; `small` tells
    where g is so small that share is its series, `safe` is g where it is not.
    """

    keep: np.ndarray
    small: np.ndarray
    safe: np.ndarray
    share: np.ndarray
    base: np.ndarray


def _relax(knots: Knots, gone: np.ndarray) -> _Relaxed:
    """Relaxation over each part for the exponents `gone` (..., P)."""
    keep = np.exp(-gone)
    small = gone < 1e-4
    safe = np.where(small, 1.0, gone)
    share = np.where(small, 1 - 0.5 * gone, (1 - keep) / safe)
    return _Relaxed(keep, small, safe, share, knots.eta_end - (knots.eta_end - knots.eta) * share)


def _floored(keep: np.ndarray, add: np.ndarray) -> np.ndarray:
    """The recurrence of h over the last axis, never below `TINY`."""
    used = np.full((*keep.shape[:-1], keep.shape[-1] + 1), USED_AT_START)
    for i in range(keep.shape[-1]):
        used[..., i + 1] = np.maximum(used[..., i] * keep[..., i] + add[..., i], TINY)
    return used
