"""Which peak-LR law to use: each candidate is fitted without a group and scored on it, group after group.

The score is the excess loss of following the law (`lehr.peaklr.score`), the mean over the batch sizes near the
group's best; what is chosen has the smallest mean over the groups, ties going to the simpler one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError, unknown
from lehr.peaklr.law import LrLaw, fit_lr_law
from lehr.peaklr.optima import Optimum, check_unmixed, measure_optima
from lehr.peaklr.score import Rule, mean_excess
from lehr.peaklr.surface import LrSurface, fit_surface
from lehr.peaklr.table import SweepGroup, SweepTable

TIE = 1e-4  # nats: means closer than this are tied


@dataclass(frozen=True)
class Candidate:
    """A way to a law: from the optima of groups by a form of valley, or from one surface."""

    name: str
    form: str
    valley: str | None = None  # None: a surface


# the simplest first: ties go to it
CANDIDATES: dict[str, Candidate] = {
    candidate.name: candidate
    for candidate in (
        Candidate("constant", "constant", "parabola"),
        Candidate("parabola", "size", "parabola"),
        Candidate("parabola_batch", "batch", "parabola"),
        Candidate("valley", "size", "asymmetric"),
        Candidate("valley_batch", "batch", "asymmetric"),
        Candidate("surface_tokens", "tokens"),
        Candidate("surface_size", "size"),
        Candidate("surface_batch", "batch"),
        Candidate("surface_surge", "surge"),
        Candidate("surface_size_sparsity", "size+sparsity"),
        Candidate("surface_batch_sparsity", "batch+sparsity"),
        Candidate("surface_surge_sparsity", "surge+sparsity"),
    )
}
# tried in this order where the groups are too few to leave one out
FALLBACK = ("surface_size", "surface_tokens", "constant")


@dataclass(frozen=True)
class Choice:
    """Candidates scored on hidden groups.

    Parameters
    ----------
    chosen : name of the best.
    excess : per candidate, excess loss on each group when it was hidden, shape (groups,), nats; NaN where a group
        encloses no optimum. A candidate that could not be fitted without some group is absent.
    failed : per other candidate, why it could not be fitted.
    """

    chosen: str
    excess: Mapping[str, np.ndarray]
    failed: Mapping[str, str]

    def mean(self, name: str) -> float | None:
        """Mean excess of a candidate on hidden groups, nats; None if it was not scored."""
        values = self.excess.get(name)
        return None if values is None or np.isnan(values).all() else float(np.nanmean(values))


def fit_candidate(
    candidate: Candidate,
    table: SweepTable,
    draws: int = 0,
    optima: Sequence[Optimum] | None = None,
    seed: int = 0,
) -> tuple[LrLaw, LrSurface | None]:
    """Fit one candidate.

    Parameters
    ----------
    candidate : one of `CANDIDATES`.
    table : the runs.
    draws : bootstrap draws.
    optima : those of the table's groups by the candidate's valley, if measured already.
    seed : of the draws.

    Returns
    -------
    The law, and the surface it is of, if any.

    Raises
    ------
    InputError
        If the groups do not identify it.
    """
    if candidate.valley is None:
        surface = fit_surface(table, candidate.form, draws, seed)
        return surface.law, surface
    if optima is None:
        optima, refused = measure_optima(table, candidate.valley)
        if not optima:
            raise InputError(refused[0])
    return fit_lr_law(optima, candidate.form, draws, seed), None


def rule_of(law: LrLaw) -> Rule:
    """Return the law as a rule for groups of runs."""

    def rule(group: SweepGroup) -> float:
        return law.predict(group.params, group.tokens, group.batch_tokens, group.active).lr

    return rule


def choose_law(
    table: SweepTable,
    names: Sequence[str] = tuple(CANDIDATES),
    begun: Callable[[str], None] = lambda name: None,
) -> Choice:
    """Score candidates on groups left out one at a time, and choose.

    Parameters
    ----------
    table : the runs.
    names : candidates to try.
    begun : called with the name of each candidate when its turn comes.

    Raises
    ------
    InputError
        If a name is unknown, no candidate can be fitted, or runs of one group, batch size and LR differ by what is no
        noise.
    """
    for name in names:
        if name not in CANDIDATES:
            raise unknown("peak-LR law", name, CANDIDATES)
    check_unmixed(table)
    groups = table.groups()
    measured = {
        valley: [_optimum(group.table, valley) for group in groups]
        for valley in {CANDIDATES[name].valley for name in names}
        if valley is not None
    }
    excess: dict[str, np.ndarray] = {}
    failed: dict[str, str] = {}
    fitted = []
    for name in names:
        begun(name)
        candidate = CANDIDATES[name]
        optima = measured.get(candidate.valley) if candidate.valley else None
        try:
            fit_candidate(candidate, table)
            fitted.append(name)
            laws = [_fit_without(candidate, table, optima, left) for left in range(len(groups))]
        except InputError as error:
            failed[name] = str(error)
            continue
        excess[name] = np.array([mean_excess(g, rule_of(law)) for g, law in zip(groups, laws, strict=True)])
    if not fitted:
        raise InputError(f"no peak-LR law can be fitted: {next(iter(failed.values()))}")
    return Choice(_best(excess, fitted), excess, failed)


def _best(excess: Mapping[str, np.ndarray], fitted: Sequence[str]) -> str:
    """Return the name with the smallest mean, the simplest among tied ones; a fallback where none is scored."""
    means = {name: float(np.nanmean(values)) for name, values in excess.items() if not np.isnan(values).all()}
    if means:
        lowest = min(means.values())
        return next(name for name, value in means.items() if value <= lowest + TIE)
    return next((name for name in FALLBACK if name in fitted), fitted[0])


def _optimum(part: SweepTable, valley: str) -> Optimum | None:
    """Return the optimum of one group, or None if its runs tell none."""
    found, _ = measure_optima(part, valley)
    return found[0] if found else None


def _fit_without(
    candidate: Candidate, table: SweepTable, optima: Sequence[Optimum | None] | None, left: int
) -> LrLaw:
    """Fit to all groups but number `left`."""
    if optima is not None:
        kept = [optimum for number, optimum in enumerate(optima) if number != left and optimum is not None]
        if not kept:
            raise InputError("no group's LRs enclose an optimum: run lower or higher LRs.")
        return fit_candidate(candidate, table, optima=kept)[0]
    rows = table.group_numbers() != left
    if not rows.any():
        raise InputError("there is one group only: none can be left out.")
    return fit_candidate(candidate, table.select(rows))[0]
