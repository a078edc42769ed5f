"""Everything that a sweep tells, in one value that is saved as JSON: the chosen law, its rivals' scores, the optima."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from lehr.errors import InputError, unknown
from lehr.files import read_text, write_atomic
from lehr.peaklr.batch import BestBatchLaw, fit_batch_law
from lehr.peaklr.choose import CANDIDATES, choose_law, fit_candidate
from lehr.peaklr.law import DRAWS, LrLaw, LrPrediction
from lehr.peaklr.optima import Optimum, measure_optima
from lehr.peaklr.surface import LrSurface
from lehr.peaklr.table import SweepTable

SCHEMA = 1
STEPS = len(CANDIDATES) + 1


@dataclass(frozen=True)
class SweepFit:
    """What a sweep tells.

    Parameters
    ----------
    chosen : name of the law (`lehr.peaklr.choose.CANDIDATES`).
    law : the law.
    surface : the surface that it is of, if any.
    batch : how the best batch size moves, where the sweep tells.
    held_out : per law, mean excess loss on groups left out one at a time, nats; None where none could be scored.
    failed : per other law, why it could not be fitted to all groups, or to all but one.
    optima : best LR of every group at its best batch size, by the asymmetric valley.
    refused : why each other group has no optimum.
    runs, diverged : number of runs, and of those that diverged.
    """

    chosen: str
    law: LrLaw
    surface: LrSurface | None
    batch: BestBatchLaw | None
    held_out: Mapping[str, float | None]
    failed: Mapping[str, str]
    optima: tuple[Optimum, ...]
    refused: tuple[str, ...]
    runs: int
    diverged: int

    def predict(
        self, params: float, tokens: float, batch: float | None = None, active: float | None = None,
        level: float = 0.9,
    ) -> LrPrediction:  # fmt: skip
        """Best peak LR of a planned run, at `batch` or, where the law needs one and none is given, at the best batch.

        Arguments and errors are those of `LrLaw.predict`.
        """
        if batch is None and self.law.uses_batch and self.batch is not None:
            own = self.batch.predict(params, tokens, active, level)
            found = self.law.predict(params, tokens, own.batch_tokens, active, level)
            remark = f"at a batch of {own.batch_tokens:.3g} tokens, the best one by this sweep"
            return replace(found, remarks=(remark, *dict.fromkeys((*own.remarks, *found.remarks))))
        return self.law.predict(params, tokens, batch, active, level)


def fit_sweep(
    table: SweepTable, law: str | None = None, draws: int = DRAWS, seed: int = 0,
    begun: Callable[[str], None] = lambda name: None,
) -> SweepFit:  # fmt: skip
    """Fit a sweep: score the laws on hidden groups, choose one, and bootstrap it.

    Parameters
    ----------
    table : the runs.
    law : fit this law, one of `lehr.peaklr.choose.CANDIDATES`, and not the best by hidden groups.
    draws : bootstrap draws of the chosen law.
    seed : of the draws.
    begun : called with the name of each step when its turn comes, of which there are `STEPS`.

    Raises
    ------
    InputError
        If the name is unknown or no law can be fitted.
    """
    if law is not None and law not in CANDIDATES:
        raise unknown("peak-LR law", law, CANDIDATES)
    choice = choose_law(table, begun=begun)
    begun("bootstrap")
    chosen = law or choice.chosen
    fitted, surface = fit_candidate(CANDIDATES[chosen], table, draws, seed=seed)
    optima, refused = measure_optima(table)
    batch = None
    if table.batch_tokens is not None:
        try:
            batch = fit_batch_law(table, draws)[0]
        except InputError as error:
            refused = (*refused, str(error))
    held_out = {name: choice.mean(name) for name in choice.excess}
    return SweepFit(
        chosen, fitted, surface, batch, held_out, choice.failed, optima, refused, len(table),
        int(np.sum(table.diverged)),
    )  # fmt: skip


def save_sweep_fit(path: Path, fit: SweepFit) -> None:
    """Write a fit to `path`, whole or not at all."""
    write_atomic(path, json.dumps({"lehr_sweep_fit": SCHEMA, **asdict(fit)}, indent=1))


def load_sweep_fit(path: Path | str) -> SweepFit:
    """Read a fit back; nothing in the file is executed.

    Raises
    ------
    InputError
        If the file is missing, no fit of a sweep, or damaged.
    """
    from pydantic import TypeAdapter, ValidationError  # slow to load

    path = Path(path)
    remedy = "make it with `lehr peak-lr fit --out`"
    try:
        data = json.loads(read_text(path, "a file made by `lehr peak-lr fit --out`"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path} is not a fit of a sweep ({error}): {remedy}.") from None
    if not isinstance(data, dict) or data.pop("lehr_sweep_fit", None) != SCHEMA:
        raise InputError(f"{path} is not a fit of a sweep of schema {SCHEMA}: {remedy}.")
    try:
        fit = TypeAdapter(SweepFit).validate_python(data)
    except ValidationError as error:
        flaw = error.errors()[0]
        place = ".".join(map(str, flaw["loc"])) or "the whole"
        raise InputError(f"{path} is damaged ({place}: {flaw['msg']}): {remedy}.") from None
    check_laws(fit, path)
    return fit


def check_laws(fit: SweepFit, path: Path) -> None:
    """Refuse a law whose numbers do not fit its form."""
    laws: Sequence[LrLaw] = [fit.law] if fit.batch is None else [fit.law, fit.batch.trend]
    for law in laws:
        labels = law.labels
        sizes = {len(law.coefficients), *map(len, law.draws)}
        if sizes != {len(labels)} or not np.isfinite(law.coefficients).all():
            raise InputError(
                f"{path} is damaged: a law of form {law.form!r} has the coefficients {', '.join(labels)}; "
                "make it again with `lehr peak-lr fit --out`."
            )
