"""How far a fit can be trusted: resampling of runs and blocks, and the error on left-out runs.

Parameters: a weighted bootstrap. Each draw gives every run, and every block of successive points
within it, a random weight (exponential, mean 1) and refits from the optimum. Unlike drawing
runs with replacement it never drops the only decaying run of three. Each draw also moves the means
of the priors at random by their own spread, or parameters that only a prior tells would look certain.

Curves: the spread of the draws says how well these runs pin the parameters; it does not say
whether the law's form is right. That shows on left-out runs, whose errors (`FitResult.spread`)
widen every band. See `lehr.predict`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import numpy as np

from lehr.errors import InputError
from lehr.fit.fit import FitOptions, prepare
from lehr.fit.held_out import hold_out, with_held_out
from lehr.fit.parallel import importable, map_tasks
from lehr.fit.projection import Problem, natural, polish
from lehr.fit.result import FitResult
from lehr.runs.run import Run

BLOCKS = 8  # blocks a run is cut into: errors along a curve are correlated over about this share


def bootstrap(
    result: FitResult, runs: Iterable[Run], draws: int = 100, seed: int = 0, level: float = 0.9
) -> FitResult:
    """Return `result` with parameter draws, intervals and, if it had none, held-out errors.

    Parameters
    ----------
    result : a fit of these very runs.
    runs : the runs it was fitted to.
    draws : number of refits.
    seed : of the random weights; equal seeds give equal draws.
    level : probability of the intervals.

    Raises
    ------
    InputError
        If `result` was moved to other runs (`lehr.fit.adapt`), which draws by itself.
    """
    if result.adapted:
        raise InputError(
            "a fit that was moved to other runs is not fitted to them alone: give draws to lehr.fit.adapt.adapt."
        )
    runs = tuple(runs)
    table = draw(result, runs, 0, draws, seed)
    if not result.spread:
        held = hold_out(result.get_law(), runs, FitOptions(**result.options), result)
        result = with_held_out(result, held)
    return with_draws(result, table, level)


def draw(result: FitResult, runs: tuple[Run, ...], first: int, end: int, seed: int = 0) -> np.ndarray:
    """Refit under random weights: draws `first` to `end` - 1 of those of a seed, shape (end - first, K + L).

    A draw is the same whichever block it is drawn in.
    """
    law, options = result.get_law(), FitOptions(**result.options)
    start = np.array([p.to_search(v) for p, v in zip(law.nonlinear, result.vector, strict=False)])
    problem = prepare(law, runs, options).remembering(start[None, :])
    rng = np.random.default_rng(seed)
    rows = []
    with np.errstate(all="ignore"):
        for number in range(end):
            weight, shift = random_weight(problem, rng), rng.standard_normal(len(start))
            if number < first:
                continue
            drawn = replace(problem, weight=weight, prior_shift=shift)
            point, _ = polish(drawn, start, most=10, close=1e-3)
            rows.append(np.concatenate([natural(law, point.search), point.linear]))
    return np.array(rows)


def with_draws(result: FitResult, table: np.ndarray, level: float = 0.9) -> FitResult:
    """Return the fit with draws of shape (m, K + L) and the intervals that they give."""
    return replace(
        result,
        draws=tuple(map(tuple, table.tolist())),
        intervals=intervals_of(result.parameters, table, level),
    )


def intervals_of(
    parameters: Mapping[str, float], table: np.ndarray, level: float = 0.9
) -> dict[str, tuple[float, float]]:
    """Interval of each parameter by name, from draws of shape (m, K + L)."""
    low, high = np.quantile(table, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return {n: (float(a), float(b)) for n, a, b in zip(parameters, low, high, strict=True)}


def bootstrap_all(
    results: Mapping[str, FitResult], runs: Iterable[Run], draws: int = 100, seed: int = 0,
    workers: int | None = None, progress: Callable[[str], None] | None = None,
) -> dict[str, FitResult]:  # fmt: skip
    """Bootstrap several fits of the same runs, as `bootstrap` does each.

    Parameters
    ----------
    workers : processes that share the fits among them (`lehr.fit.parallel`); the result is the same
        for any number.
    progress : called with the name of each fit before it is waited for.
    """
    runs = tuple(runs)
    workers = workers if all(importable(result.get_law()) for result in results.values()) else 1
    tasks = {name: (result, runs, draws, seed) for name, result in results.items()}
    return map_tasks(bootstrap, tasks, workers, progress)


def random_weight(problem: Problem, rng: np.random.Generator) -> np.ndarray:
    """One draw of weights, shape (n,): the problem's own times exponential ones by run and by block."""
    weight = np.empty(len(problem.loss))
    for rows in problem.rows:
        count = rows.stop - rows.start
        block = np.arange(count) * BLOCKS // max(count, 1)
        weight[rows] = rng.exponential() * rng.exponential(size=BLOCKS)[block]
    weight *= problem.weight
    return weight / weight.mean()
