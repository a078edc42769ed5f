"""Folds: what is hidden from a fit, by the question that predicting it answers.

| kind | hidden | asks of a law |
| --- | --- | --- |
| run | one run whole | another schedule |
| peak_lr | all runs of one peak LR, where there are two or more | another peak LR |
| horizon | in all runs at once, everything after a share of the longest horizon | a longer training |
| later_part | one run from a share of its points on, where runs are fewer than six | how a run goes on |

Leaving out single runs does not ask for another peak LR or a longer training as long as a sister run
shows the law what happens there; the second and third kind do. The later parts of single runs are hidden
where leaving a whole run out takes away much of what there is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lehr.runs.run import Run

Kind = Literal["run", "peak_lr", "horizon", "later_part"]
KINDS: dict[Kind, str] = {
    "run": "run", "peak_lr": "peak LR", "horizon": "horizon", "later_part": "later part",
}  # fmt: skip

FEW = 6  # below so many runs the later parts of single runs are hidden as well
CUTS = (0.5, 0.75, 0.9)  # share of a run's points that a fold of its later part still shows
HORIZON_CUTS = (0.5, 0.75)  # share of the longest horizon that a fold of the horizon still shows


@dataclass(frozen=True)
class Fold:
    """What is hidden from a fit.

    Parameters
    ----------
    name : unique among the folds of the same runs.
    kind : the question it asks, a key of `KINDS`.
    until : per run, the updates up to which its losses are shown; 0 hides all, infinity none.
    """

    name: str
    kind: Kind
    until: tuple[float, ...]

    def shown(self, runs: tuple[Run, ...]) -> tuple[Run, ...]:
        """Return `runs` without the hidden points; runs of which nothing is left drop out."""
        cut = ((run, (run.step > 0) & (run.step <= end)) for run, end in zip(runs, self.until, strict=True))
        return tuple(run if seen.all() else run.select(seen) for run, seen in cut if seen.any())


@dataclass(frozen=True)
class FinalError:
    """Error at the last hidden point of one run in one fold, and how far the fold made a law reach.

    Parameters
    ----------
    fold, kind : the fold.
    run : whose last hidden point it is.
    error : signed relative error there (prediction too high: positive).
    peak_lr_ratio : peak LR of the run / nearest peak LR shown; 1 within the range of those shown.
    horizon_ratio : last hidden step / longest step shown, at least 1.
    """

    fold: str
    kind: Kind
    run: str
    error: float
    peak_lr_ratio: float
    horizon_ratio: float


def make_folds(runs: tuple[Run, ...], burn_in: int = 0) -> tuple[Fold, ...]:
    """Return every fold of `runs`; points at fewer than `burn_in` updates do not count."""
    return (*_whole(runs), *_peaks(runs), *_horizons(runs), *_later_parts(runs, burn_in))


def reach(run: Run, shown: tuple[Run, ...]) -> tuple[float, float]:
    """How far the end of `run` lies from the runs shown: the two ratios of `FinalError`."""
    peaks = [other.schedule.peak for other in shown]
    nearest = min(max(run.schedule.peak, min(peaks)), max(peaks))
    longest = max(float(other.step[-1]) for other in shown)
    return run.schedule.peak / nearest, max(1.0, float(run.step[-1]) / longest)


def _whole(runs: tuple[Run, ...]) -> list[Fold]:
    if len(runs) < 2:
        return []
    return [Fold(run.name, "run", _hide(runs, {i: 0.0})) for i, run in enumerate(runs)]


def _peaks(runs: tuple[Run, ...]) -> list[Fold]:
    peaks = [f"{run.schedule.peak:.6g}" for run in runs]
    if len(set(peaks)) < 2:
        return []
    return [
        Fold(f"peak LR {peak}", "peak_lr", _hide(runs, {i: 0.0 for i, p in enumerate(peaks) if p == peak}))
        for peak in dict.fromkeys(peaks)
    ]


def _horizons(runs: tuple[Run, ...]) -> list[Fold]:
    """Folds that hide the end in all runs; of a single run its later part says the same."""
    if len(runs) < 2:
        return []
    longest = max(float(run.step[-1]) for run in runs)
    return [
        Fold(
            f"all after step {cut * longest:g}", "horizon",
            _hide(runs, {i: cut * longest for i, run in enumerate(runs) if run.step[-1] > cut * longest}),
        )
        for cut in HORIZON_CUTS
    ]  # fmt: skip


def _later_parts(runs: tuple[Run, ...], burn_in: int) -> list[Fold]:
    """Folds that hide the later part of one run; a run of so few points that nothing would be shown has none."""
    if len(runs) >= FEW:
        return []
    folds = []
    for cut in CUTS:
        for i, run in enumerate(runs):
            step = run.step[run.step >= max(burn_in, 1)]
            count = int(cut * len(step))
            if count:
                until = _hide(runs, {i: float(step[count - 1])})
                folds.append(Fold(f"{run.name} after {cut:.0%}", "later_part", until))
    return folds


def _hide(runs: tuple[Run, ...], until: dict[int, float]) -> tuple[float, ...]:
    """Per run, the updates up to which it is shown: `until` by index, all of the others."""
    return tuple(until.get(i, float(np.inf)) for i in range(len(runs)))
