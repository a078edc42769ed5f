"""Move a fit to another data set, validation split or size: keep the curve's shape, re-fit its level and scale.

    L'(s) = E' + c (L(s) - E)

E is the fit's irreducible loss; E' and c are fitted to one or more runs, by the same robust loss as every fit
(`lehr.fit.projection`), with c near 1 by a prior of .05. All nonlinear parameters stay, and so do the ratios of the
other amplitudes. By trials on public runs (docs/diary.md) this beats a shift alone and one factor of everything;
an amplitude of progress or noise of its own is worse by far, as one run does not tell them apart.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np

from lehr.errors import InputError
from lehr.fit.files import Fits
from lehr.fit.fit import FitOptions, bind_runs, resolve_burn_in
from lehr.fit.folds import CUTS, FinalError, Kind
from lehr.fit.held_out import HeldOut
from lehr.fit.pooling import data_of
from lehr.fit.projection import POINTS_A_RUN, Problem
from lehr.fit.result import Domain, FitResult, check_data, domain_of, fingerprint_of, summarise, versions
from lehr.fit.uncertainty import intervals_of, random_weight
from lehr.laws.grouped import SCALE_SPREAD, Grouped
from lehr.runs.run import Run

SWEEPS = 50  # reweightings at most
POOR, HOPELESS = (
    0.01,
    0.05,
)  # mean error, as a share of the loss, above which the shape is doubted, or refused
WEAK = 0.7  # share of the prior's spread above which the scale is told by the prior rather than by the runs


def adapt(
    result: FitResult, runs: Iterable[Run], draws: int = 100, seed: int = 0, burn_in: int | None = None
) -> FitResult:
    """Move `result` to `runs` of another data set, validation split or size.

    Parameters
    ----------
    result : a fit; with draws (`lehr.fit.uncertainty.bootstrap`) the new bands count how well it was known.
    runs : at least one run, all of one data set and split.
    draws : refits under random weights, each to another draw of `result`.
    seed : of the random weights.
    burn_in : points at fewer updates are left out; by default as in the fit.

    Returns
    -------
    The fit with its new irreducible loss and scaled amplitudes. `adapted` tells from what (`from`, a
    fingerprint), on which runs, and the shift and scale; `spread` gains the errors on losses hidden from the re-fit.

    Raises
    ------
    InputError
        If there is no run or no point, the runs are of several data sets, or their loss does not fall as fitted.
    """
    return _adapt(result, tuple(runs), draws, seed, burn_in)[0]


def _adapt(
    result: FitResult, runs: tuple[Run, ...], draws: int, seed: int, burn_in: int | None
) -> tuple[FitResult, HeldOut]:
    data = _one_data_set(runs)
    source = of_data(result, data if data in result.groups else result.groups[0]) if result.groups else result
    law, options = source.get_law(), FitOptions(**source.options)
    if burn_in is None:
        burn_in = max(resolve_burn_in(runs, options), source.domain.burn_in)
    problem = bind_runs(law, runs, options, burn_in)
    if not len(problem.loss):
        raise InputError(f"no point is left after the burn-in of {burn_in} updates: add later losses.")
    rest, own = _rest(problem, source.vector), domain_of(runs, burn_in)
    level, scale = refit(problem, rest)
    residual = (level + scale * rest) / problem.loss - 1
    typical = float(np.average(np.abs(residual), weights=problem.weight))
    if scale <= 0 or typical > HOPELESS:
        raise InputError(
            f"the losses given do not follow the fit's curve: it is off by {typical:.1%} on average after the move. "
            "A run diverged, or its schedule is not the one it is stored with; leave it out, or fit anew."
        )
    held = _hold_out(problem, rest, runs)
    moved = replace(
        source,
        parameters=_named(source, _moved(source, source.vector, level, scale)),
        intervals={},
        draws=(),
        without_peak={},
        points=len(problem.loss),
        residuals={r.name: summarise(residual[rows]) for r, rows in zip(runs, problem.rows, strict=True)},
        warnings=(*source.warnings, *_warnings(problem, rest, typical, source, own)),
        domain=_domain(source.domain, own, law.needs_sizes),
        fingerprint=fingerprint_of(runs),
        versions=versions(),
        spread=(*source.spread, *held.spread()),
        final_errors=(*source.final_errors, *held.finals),
        adapted={
            "from": source.adapted.get("from", result.fingerprint), "runs": [run.name for run in runs], "data": data,
            "shift": level - source.parameters[law.linear[0].name], "scale": scale,
        },
    )  # fmt: skip
    return (_with_draws(moved, problem, source, draws, seed) if draws else moved), held


def adapt_fits(
    fits: Fits, runs: Iterable[Run], law: str | None = None, draws: int = 100, seed: int = 0,
    burn_in: int | None = None, progress: Callable[[str], None] | None = None,
) -> Fits:  # fmt: skip
    """Move the fits of a file, all or that of `law`, to `runs`; the choice of a law stays that of the file.

    Raises
    ------
    InputError
        As `adapt` for the chosen law; other laws that cannot be moved are listed as failed.
    """
    runs = tuple(runs)
    chosen = law or fits.chosen
    fits.get(chosen)
    results, held_out, by_kind, failed = {}, {}, {}, {}
    for name in [law] if law else fits.results:
        if progress:
            progress(name)
        try:
            results[name], held = _adapt(fits.get(name), runs, draws if name == chosen else 0, seed, burn_in)
        except InputError as error:
            if name == chosen:
                raise
            failed[name] = str(error)
            continue
        if held.errors:
            held_out[name], by_kind[name] = held.mean(), held.by_kind()
    return Fits(results, held_out, chosen, failed, by_kind=by_kind)


def of_data(result: FitResult, data: str | None) -> FitResult:
    """Return a fit to several data sets as one to the data set `data` alone; any other as it is.

    Raises
    ------
    InputError
        If `data` is none of the fit's, or None where the fit is of several.
    """
    law = result.get_law()
    if not isinstance(law, Grouped):
        check_data(result, data)
        return result
    vector, draws = law.of_group(result.vector, data), np.array(result.draws)
    plain = replace(
        result,
        groups=(),
        intervals={},
        without_peak={},
        parameters=_named(replace(result, groups=()), vector),
    )
    plain = replace(plain, at_bounds=tuple(name for name in result.at_bounds if name in plain.parameters))
    if not draws.size:
        return plain
    table = law.of_group(draws, data)
    return replace(
        plain, draws=tuple(map(tuple, table.tolist())), intervals=intervals_of(plain.parameters, table)
    )


def refit(
    problem: Problem, rest: np.ndarray, weight: np.ndarray | None = None, mean: float = 1.0
) -> tuple[float, float]:
    """Level E' (at least 0) and scale c that bring E' + c rest closest to the losses under the Huber loss.

    Parameters
    ----------
    problem : the runs.
    rest : shape (n,), the fit's loss above its irreducible loss at every point.
    weight : shape (n,), of the points; by default the problem's own.
    mean : of the prior of c.
    """
    weight = problem.weight if weight is None else weight
    design = np.column_stack([1 / problem.loss, rest / problem.loss])
    stiff = _stiffness(problem, weight)
    pull, last = weight, np.zeros(2)
    for _ in range(SWEEPS):
        gram, right = design.T @ (design * pull[:, None]), design.T @ pull
        gram[1, 1] += stiff
        right[1] += stiff * mean
        now = np.linalg.solve(gram, right)
        if now[0] < 0:
            now = np.array([0.0, right[1] / gram[1, 1]])
        if np.allclose(now, last, rtol=1e-9, atol=1e-12):
            break
        last, size = now, np.abs(design @ now - 1)
        pull = weight * np.minimum(1.0, problem.huber / np.maximum(size, 1e-30))
    return float(now[0]), float(now[1])


def _stiffness(problem: Problem, weight: np.ndarray) -> float:
    """Weight of the prior of the scale in the objective: a run says as much as so many free points."""
    seen = sum(bool(np.any(weight[rows] > 0)) for rows in problem.rows)
    return float(problem.huber**2 * weight.sum() / (POINTS_A_RUN * seen) / SCALE_SPREAD**2)


def _one_data_set(runs: tuple[Run, ...]) -> str:
    if not runs:
        raise InputError("no run to move the fit to: import at least one log.")
    names = sorted({data_of(run) for run in runs})
    if len(names) > 1:
        raise InputError(
            f"the runs are of {len(names)} data sets or splits ({', '.join(names)}): move the fit to one at a time, "
            "choosing runs with --train."
        )
    return names[0]


def _rest(problem: Problem, vector: np.ndarray) -> np.ndarray:
    """Loss above the irreducible one at every point, shape (n,)."""
    shape = len(problem.law.nonlinear)
    return np.concatenate([basis(vector[:shape])[0][:, 1:] @ vector[shape + 1 :] for basis in problem.bases])


def _moved(source: FitResult, vector: np.ndarray, level: float, scale: float) -> np.ndarray:
    """Parameters with the new irreducible loss and scaled amplitudes, shape (K + L,)."""
    shape = len(source.get_law().nonlinear)
    return np.concatenate([vector[:shape], [level], scale * vector[shape + 1 :]])


def _named(result: FitResult, vector: np.ndarray) -> dict[str, float]:
    law = result.get_law()
    names = [p.name for p in law.nonlinear] + [a.name for a in law.linear]
    return dict(zip(names, vector.tolist(), strict=True))


def _hold_out(problem: Problem, rest: np.ndarray, runs: tuple[Run, ...]) -> HeldOut:
    """Errors on losses hidden from the re-fit: each run left out, or the later parts of the only one."""
    kind: Kind = "run" if len(runs) > 1 else "later_part"
    errors: dict[str, float] = {}
    finals: list[FinalError] = []
    skipped: dict[str, str] = {}
    for run, name, hidden in _folds(problem, runs):
        weight = problem.weight.copy()
        weight[hidden] = 0.0
        if not np.any(weight > 0) or hidden.start == hidden.stop:
            skipped[name] = "no point would be left to fit or to predict"
            continue
        level, scale = refit(problem, rest, weight)
        residual = (level + scale * rest[hidden]) / problem.loss[hidden] - 1
        errors[name] = float(np.average(np.abs(residual), weights=problem.weight[hidden]))
        finals.append(
            FinalError(name, kind, run.name, float(residual[-1]), 1.0, 1.0)
        )  # the shape reached nowhere
    return HeldOut(problem.law.name, errors, dict.fromkeys(errors, kind), tuple(finals), skipped)


def _folds(problem: Problem, runs: tuple[Run, ...]) -> list[tuple[Run, str, slice]]:
    if len(runs) > 1:
        return [(run, run.name, rows) for run, rows in zip(runs, problem.rows, strict=True)]
    count = len(problem.loss)
    return [(runs[0], f"{runs[0].name} after {cut:.0%}", slice(int(cut * count), count)) for cut in CUTS]


def _warnings(
    problem: Problem, rest: np.ndarray, typical: float, source: FitResult, own: Domain
) -> list[str]:
    count = len(problem.rows)
    notes = [
        f"the shape of the curve is that of a fit to other runs ({source.fingerprint}); only the irreducible loss "
        f"and the scale of all other terms were fitted to {count} run{'s' * (count > 1)}."
    ]
    design = np.column_stack([1 / problem.loss, rest / problem.loss])
    gram = design.T @ (design * problem.weight[:, None])
    told = gram[1, 1] - gram[0, 1] ** 2 / gram[0, 0]
    stiff = _stiffness(problem, problem.weight)
    if (stiff / (stiff + told)) ** 0.5 > WEAK:
        notes.append(
            f"these losses hardly tell the scale, which a prior of 1 +- {SCALE_SPREAD:g} decides: log more of the run."
        )
    if typical > POOR:
        notes.append(
            f"the moved fit is off by {typical:.1%} on average on the runs it was moved to: its shape is not theirs; "
            "fit them anew."
        )
    batches, batch = source.domain.batch_tokens, own.batch_tokens
    if batches and batch and not batches[0] <= batch[0] <= batch[1] <= batches[1]:
        notes.append(
            f"the runs' batch of {batch[0]:g} tokens is not the fitted one ({batches[0]:g} .. {batches[1]:g}): curves "
            "have one shape in updates only above B_opt."
        )
    fitted, here = source.domain.params, own.params
    if source.get_law().needs_sizes and fitted and here and not fitted[0] <= here[0] <= here[1] <= fitted[1]:
        notes.append(
            f"the runs' {here[0]:g} .. {here[1]:g} parameters lie outside the fitted {fitted[0]:g} .. {fitted[1]:g}: "
            "an error of the fit there goes into the new level and scale; use a run of a fitted size."
        )
    return notes


def _domain(source: Domain, own: Domain, sized: bool) -> Domain:
    """The schedules that the fit covered, as its shape is kept; a law without sizes is now of the runs' size."""
    return replace(
        source,
        burn_in=own.burn_in,
        params=source.params if sized else own.params,
        batch_tokens=own.batch_tokens or source.batch_tokens,
        weight_decay=own.weight_decay or source.weight_decay,
        data=own.data,
    )


def _with_draws(moved: FitResult, problem: Problem, source: FitResult, draws: int, seed: int) -> FitResult:
    """Refit under random weights, each time to another of the source's draws (or to its optimum, if it has none)."""
    rng = np.random.default_rng(seed)
    vectors = np.array(source.draws) if source.draws else source.vector[None, :]
    rows = []
    for i in range(draws):
        vector = vectors[i % len(vectors)]
        weight, mean = random_weight(problem, rng), 1 + SCALE_SPREAD * rng.standard_normal()
        level, scale = refit(problem, _rest(problem, vector), weight, mean)
        rows.append(_moved(source, vector, level, scale))
    table = np.array(rows)
    return replace(
        moved, draws=tuple(map(tuple, table.tolist())), intervals=intervals_of(moved.parameters, table)
    )
