"""Explicit cleaning of logged points: each function returns new points and says what it did.

Nothing here runs by itself. Every function takes the steps and losses of one log, shape (n,),
and returns a `Cleaned`: the points left, which of the given points they are, and a report that
names the settings and counts whatever was dropped.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError, bad, unknown

ORDERS = ("auto", "oldest-first", "newest-first")
SPACINGS = ("log", "even")


@dataclass(frozen=True, eq=False)
class Cleaned:
    """The m points that a cleaning step leaves; every array has shape (m,).

    Parameters
    ----------
    step : updates done, as given.
    loss : nats per token, as given unless the step says that it smooths.
    chosen : index in the given arrays of each point left; None if all are left.
    report : what was done, with its settings and counts; empty if nothing was.
    """

    step: np.ndarray
    loss: np.ndarray
    chosen: np.ndarray | None
    report: tuple[str, ...] = ()

    @property
    def kept(self) -> np.ndarray:
        """Index in the given arrays of each point left; use it to follow in other columns."""
        return np.arange(self.step.size) if self.chosen is None else self.chosen


def only(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """`values[mask]`, but the array itself, not a copy, where the mask keeps all."""
    return values if mask.all() else values[mask]


def drop_broken(step: np.ndarray, loss: np.ndarray) -> Cleaned:
    """Drop the points whose loss is NaN, infinite or not above 0.

    >>> drop_broken([1, 2, 3], [3.0, float("nan"), 2.5]).report
    ('drop_broken: 1 of 3 points dropped (1 NaN), the first at step 2',)
    """
    step, loss = _points(step, loss)
    good = np.isfinite(loss) & (loss > 0)
    if good.all():
        return Cleaned(step, loss, None)
    kept = np.flatnonzero(good)
    kinds = {
        "NaN": np.isnan(loss), "infinite": np.isinf(loss), "zero or negative": np.isfinite(loss) & (loss <= 0)
    }  # fmt: skip
    counts = ", ".join(f"{int(mask.sum())} {kind}" for kind, mask in kinds.items() if mask.any())
    line = (
        f"drop_broken: {loss.size - kept.size} of {loss.size} points dropped ({counts}), "
        f"the first at step {step[~good][0]:g}"
    )
    return Cleaned(step[kept], loss[kept], kept, (line,))


def stitch(
    step: np.ndarray, loss: np.ndarray, *, order: str = "auto", time: np.ndarray | None = None
) -> Cleaned:
    """Join the segments of a resumed log into the one path that led to the final weights.

    A segment starts wherever the steps do not increase. The segment written last in training is
    kept whole; of each earlier one only the points before the first step of every later one are
    kept, since what lies beyond was given up when training went back.

    Which segment came last is not in the steps, and exporters differ: most logs grow at their
    end, while exports of W&B list the newest segment first. With `order="auto"` the segment that
    reaches furthest is taken to be the last of training: if it ends the log, the log is
    "oldest-first"; if it begins the log and the later ones start no later than it, the log is
    "newest-first"; anything else is refused.

    Parameters
    ----------
    step, loss : shape (n,), in the order of the log.
    order : "auto", "oldest-first" or "newest-first".
    time : shape (n,), when each point was written; settles the order by itself.

    Returns
    -------
    Points with strictly increasing steps. The report says how many segments there were, in which
    order, how many points were dropped, and by how much they differ from those kept.

    Raises
    ------
    InputError
        If the order is unknown or cannot be told.
    """
    step, loss = _points(step, loss)
    if order not in ORDERS:
        raise unknown("order", order, ORDERS)
    cuts = np.flatnonzero(step[1:] <= step[:-1]) + 1
    if not cuts.size:
        return Cleaned(step, loss, None)
    segments = list(zip([0, *cuts.tolist()], [*cuts.tolist(), step.size], strict=True))
    if time is not None:
        moment = np.asarray(time, dtype=float)
        if moment.shape != step.shape:
            raise bad("time", f"must pair with the {step.size} steps", moment.shape, "give one an entry")
        segments.sort(key=lambda segment: moment[segment[0]])
        order, told = "oldest-first", "by time"
    elif order == "auto":
        order = _order(step, segments)
        told = f"{order}, as its {'last' if order == 'oldest-first' else 'first'} segment reaches furthest"
    else:
        told = f"{order}, as given"
    if order == "newest-first":
        segments.reverse()
    kept = _last_path(step, segments)
    line = (
        f"stitch: {len(segments)} segments ({told}); {step.size - kept.size} of {step.size} points dropped "
        f"because a later segment covers them{_disagreement(step, loss, kept)}"
    )
    return Cleaned(step[kept], loss[kept], kept, (line,))


def drop_spikes(step: np.ndarray, loss: np.ndarray, *, window: int = 51, threshold: float = 8.0) -> Cleaned:
    """Drop the points that lie far above the running median of their neighbours.

    A point goes if it exceeds the median of the `window` points centred on it by more than
    `threshold` robust standard deviations (1.4826 times the running median of the absolute
    residuals, but at least that of the whole curve). Near the ends the window shrinks evenly, so
    a steep but steady fall is never taken for a spike.

    Raises
    ------
    InputError
        If the window is not an odd number of at least 3 or the threshold is not above 0.
    """
    step, loss = _points(step, loss)
    half = _half(window)
    if not threshold > 0:
        raise bad(
            "threshold", "must be above 0", threshold, "give a number of standard deviations, such as 8"
        )
    above = loss - _running_median(loss, half)
    whole = float(np.median(np.abs(above)))
    spread = 1.4826 * np.maximum(_running_median(np.abs(above), half), whole)
    kept = np.flatnonzero(~(above > threshold * spread) | (spread == 0))
    if kept.size == loss.size:
        return Cleaned(step, loss, kept)
    line = (
        f"drop_spikes: {loss.size - kept.size} of {loss.size} points dropped "
        f"(window {window} points, threshold {threshold:g})"
    )
    return Cleaned(step[kept], loss[kept], kept, (line,))


def thin(step: np.ndarray, loss: np.ndarray, *, points: int, spacing: str = "log") -> Cleaned:
    """Keep at most `points` of the points, the first and the last among them.

    With spacing "log" they are about evenly spaced in the logarithm of the step, with "even" in
    the step. Points are chosen, never averaged.

    Raises
    ------
    InputError
        If fewer than 2 points are asked for or the spacing is unknown.
    """
    step, loss = _points(step, loss)
    if points != int(points) or points < 2:
        raise bad("points", "must be a whole number of at least 2", points, "the first and last are kept")
    if spacing not in SPACINGS:
        raise unknown("spacing", spacing, SPACINGS)
    if step.size <= points:
        return Cleaned(step, loss, None)
    place = np.log(np.maximum(step, 1.0)) if spacing == "log" else step
    wanted = np.linspace(place[0], place[-1], int(points))
    right = np.clip(np.searchsorted(place, wanted), 1, step.size - 1)
    nearer = np.where(wanted - place[right - 1] < place[right] - wanted, right - 1, right)
    kept = np.unique(np.concatenate([[0], nearer[1:-1], [step.size - 1]]))
    line = f"thin: {kept.size} of {step.size} points kept (at most {points}, spacing {spacing})"
    return Cleaned(step[kept], loss[kept], kept, (line,))


def window_mean(step: np.ndarray, loss: np.ndarray, *, window: int) -> Cleaned:
    """Replace every loss by the mean of the `window` points centred on it.

    Near the ends the window shrinks evenly, so the first and the last loss stay as they are and
    the curve gets no lag.

    Raises
    ------
    InputError
        If the window is not an odd number of at least 3.
    """
    step, loss = _points(step, loss)
    half = _half(window)
    index = np.arange(loss.size)
    reach = np.minimum(np.minimum(index, index[::-1]), half)
    total = np.concatenate([[0.0], np.cumsum(loss)])
    smooth = (total[index + reach + 1] - total[index - reach]) / (2 * reach + 1)
    line = f"window_mean: losses averaged over {window} points centred on each"
    return Cleaned(step, np.where(reach == 0, loss, smooth), index, (line,))


def _points(step: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return both as float arrays after checking that they pair and that every step is a number."""
    step, loss = np.asarray(step, dtype=float), np.asarray(loss, dtype=float)
    if step.ndim != 1 or step.shape != loss.shape:
        raise bad("loss", f"must pair with the {step.shape} steps", loss.shape, "give one an entry")
    wrong = np.flatnonzero(~np.isfinite(step))
    if wrong.size:
        raise bad(f"step of entry {wrong[0]}", "must be a number", float(step[wrong[0]]), "mend the log")
    return step, loss


def _half(window: int) -> int:
    """Return half the width of an odd window, rounded down."""
    if window != int(window) or window < 3 or window % 2 == 0:
        raise bad("window", "must be an odd number of points, 3 or more", window, "use e.g. 51")
    return int(window) // 2


def _order(step: np.ndarray, segments: list[tuple[int, int]]) -> str:
    """Tell the order of the segments of a log from how far each one reaches."""
    starts = [float(step[first]) for first, _ in segments]
    ends = [float(step[end - 1]) for _, end in segments]
    if ends[-1] == max(ends):
        return "oldest-first"
    if ends[0] == max(ends) and all(
        later <= earlier for earlier, later in zip(starts, starts[1:], strict=False)
    ):
        return "newest-first"
    listed = ", ".join(f"{a:g}..{b:g}" for a, b in list(zip(starts, ends, strict=True))[:6])
    raise InputError(
        f"the order of the log's {len(segments)} segments cannot be told from their steps ({listed}"
        f"{', ...' if len(segments) > 6 else ''}): give the order (--order), "
        "'oldest-first' if the log was appended to, or 'newest-first'."
    )


def _last_path(step: np.ndarray, segments: list[tuple[int, int]]) -> np.ndarray:
    """Indices of the points on the path to the end of the last of `segments` (oldest first)."""
    parts: list[np.ndarray] = []
    limit = np.inf
    for first, end in reversed(segments):
        parts.append(first + np.flatnonzero(step[first:end] < limit))
        limit = min(limit, float(step[first]))
    return np.concatenate(parts[::-1])


def _disagreement(step: np.ndarray, loss: np.ndarray, kept: np.ndarray) -> str:
    """Say by how much the dropped losses differ from those kept at the same step."""
    dropped = np.setdiff1d(np.arange(step.size), kept)
    place = np.searchsorted(step[kept], step[dropped])
    shared = place < kept.size
    shared[shared] = step[kept][place[shared]] == step[dropped][shared]
    if not shared.any():
        return "; none at a step that was kept"
    difference = np.abs(loss[dropped][shared] - loss[kept][place[shared]])
    return (
        f"; at the {int(shared.sum())} shared steps they differ by at most {np.fmax.reduce(difference):.2g}"
    )


def _running_median(values: np.ndarray, half: int) -> np.ndarray:
    """Median of the 2 half + 1 values centred on each; windows shrink evenly near the ends."""
    # here, not above: scipy.ndimage costs more to load than all the rest of this module
    from scipy.ndimage import median_filter

    half = min(half, (values.size - 1) // 2)
    out = median_filter(values, size=2 * half + 1, mode="nearest") if values.size else values.copy()
    for index in range(half):
        out[index] = np.median(values[: 2 * index + 1])
        out[values.size - 1 - index] = np.median(values[values.size - 1 - 2 * index :])
    return out
