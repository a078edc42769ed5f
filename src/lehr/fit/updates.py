"""Fit S(B, L), the form of `lehr.fit.batch`, to the updates in which runs at several batches reach losses.

Least squares in ln S, S_min free at each loss, by Levenberg-Marquardt within bounds, for many sets of
updates at once: the draws of a bootstrap cost little more than one fit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

TINY, HUGE = 1e-3, 1e3  # B_c is sought between so many times the smallest and the largest batch
EXPONENTS = (-10.0, 30.0)
LARGEST_FLOOR = 0.5
CLOSEST = 1e-4  # of 1 - B_min / B: a batch below B_min never arrives, but the search must turn back
STARTS = (-4.0, 0.0, 2.0, 4.0)  # ln(B_c / middle batch) at which it begins


@dataclass(frozen=True, eq=False)
class Updates:
    """The form fitted to one set of updates.

    Parameters
    ----------
    search : shape (3,), ln B_c at the middle loss, its exponent, and the floor B_min / B_c.
    residual : shape (R, J), of ln S.
    log_fewest : shape (J,), ln S_min.
    """

    search: np.ndarray
    residual: np.ndarray
    log_fewest: np.ndarray


def middle(losses: np.ndarray) -> float:
    """Geometric mean of `losses`."""
    return float(np.exp(np.log(losses).mean()))


def bounds(batch: np.ndarray, floor: bool) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest value of each of the three numbers searched, shape (3,)."""
    low = [np.log(TINY * batch.min()), EXPONENTS[0], 0.0]
    high = [np.log(HUGE * batch.max()), EXPONENTS[1], LARGEST_FLOOR if floor else 0.0]
    return np.array(low), np.array(high)


def fit_updates(log_updates: np.ndarray, batch: np.ndarray, losses: np.ndarray, floor: bool) -> Updates:
    """Fit the form to one set of updates.

    Parameters
    ----------
    log_updates : shape (R, J), ln of the updates in which run r reaches loss j.
    batch : shape (R,), tokens.
    losses : shape (J,), nats per token.
    floor : fit B_min / B_c too, rather than take 0.
    """
    center = float(np.log(batch).mean())
    begins = np.array([[center + shift, 4.0, 1e-3] for shift in STARTS])
    box = bounds(batch, floor)
    ratio = np.log(middle(losses) / losses)
    ends, cost = _search(np.repeat(log_updates[None], len(begins), axis=0), batch, ratio, begins, box)
    best = ends[np.argmin(cost)]
    gap = log_updates - _excess(best[None], batch, ratio)[0][0]
    return Updates(best, gap - gap.mean(axis=0), gap.mean(axis=0))


def refit(
    log_updates: np.ndarray, batch: np.ndarray, losses: np.ndarray, floor: bool, start: Updates
) -> np.ndarray:
    """Fit the form to m sets of updates (shape (m, R, J)) from `start`; shape (m, 3) as `Updates.search`."""
    begins = np.repeat(start.search[None], len(log_updates), axis=0)
    ratio = np.log(middle(losses) / losses)
    return _search(log_updates, batch, ratio, begins, bounds(batch, floor))[0]


def fit_levels(log_updates: np.ndarray, batch: np.ndarray, start: Updates) -> np.ndarray:
    """B_c of each loss by itself, under the floor of `start`; tokens, shape (J,)."""
    low, high = bounds(batch, False)
    fixed = (np.array([low[0], 0.0, start.search[2]]), np.array([high[0], 0.0, start.search[2]]))
    apart = log_updates.T[:, :, None]
    begins = np.tile([start.search[0], 0.0, start.search[2]], (len(apart), 1))
    return np.exp(_search(apart, batch, np.zeros(1), begins, fixed)[0][:, 0])


def _excess(search: np.ndarray, batch: np.ndarray, ratio: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of ln(S / S_min), shape (m, R, J), and their derivatives, shape (m, R, J, 3)."""
    log_critical, exponent, floor = (column[:, None, None] for column in search.T)
    x = np.exp(log_critical + exponent * ratio) / batch[:, None]
    room = 1 - floor * x
    open_ = room > CLOSEST
    room = np.maximum(room, CLOSEST)
    slope = x / (np.where(open_, room, 1.0) * (room + x))
    return np.log1p(x / room), np.stack([slope, slope * ratio, open_ * slope * x], axis=-1)


def _search(
    log_updates: np.ndarray, batch: np.ndarray, ratio: np.ndarray, begins: np.ndarray,
    box: tuple[np.ndarray, np.ndarray], most: int = 60,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Levenberg-Marquardt for m problems at once: the ends, shape (m, 3), and their costs, shape (m,)."""
    low, high = box
    search = np.clip(begins, low, high)
    damping = np.full(len(search), 1e-2)

    def evaluate(at: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        value, slope = _excess(at, batch, ratio)
        gap = log_updates - value
        gap = gap - gap.mean(axis=1, keepdims=True)
        slope = slope - slope.mean(axis=1, keepdims=True)
        return np.einsum("mrj,mrj->m", gap, gap), gap, slope

    cost, gap, slope = evaluate(search)
    for _ in range(most):
        pull = np.einsum("mrjk,mrj->mk", slope, gap)
        normal = np.einsum("mrjk,mrjl->mkl", slope, slope)
        held = ((search <= low) & (pull <= 0)) | ((search >= high) & (pull >= 0))
        pull = np.where(held, 0.0, pull)
        normal = np.where(held[:, :, None] | held[:, None, :], 0.0, normal)
        diagonal = np.einsum("mkk->mk", normal)
        # the small constant keeps a direction without any slope solvable
        normal = normal + np.eye(3) * (damping[:, None] * diagonal + held + 1e-12)[:, :, None]
        trial = np.clip(search + np.linalg.solve(normal, pull[:, :, None])[:, :, 0], low, high)
        found = evaluate(trial)
        better = found[0] < cost
        settled = np.where(better, cost - found[0] <= 1e-9 * cost, damping > 1e6)
        search = np.where(better[:, None], trial, search)
        cost, gap, slope = (
            np.where(better.reshape(-1, *[1] * (new.ndim - 1)), new, old)
            for new, old in zip(found, (cost, gap, slope), strict=True)
        )
        damping = np.clip(np.where(better, damping * 0.2, damping * 8), 1e-9, 1e9)
        if np.all(settled | (cost < 1e-18)):
            break
    return search, cost
