"""The outcome of a fit: a frozen value with parameters, status, residuals and provenance."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy

from lehr import __version__
from lehr.errors import InputError, bad, unknown
from lehr.fit import showing
from lehr.fit.batch import BatchLaw
from lehr.fit.folds import FinalError
from lehr.fit.pooling import UNNAMED, data_of, sparsity_of
from lehr.fit.projection import Point, Problem, natural, search_box
from lehr.laws import get_law
from lehr.laws.grouped import Grouped, find_group
from lehr.laws.law import Conditions, Law
from lehr.runs.run import Run
from lehr.schedule.pieces import TOLERANCE, warmup_steps

if TYPE_CHECKING:
    from lehr.fit.fit import FitOptions

SCHEMA = 1


@dataclass(frozen=True)
class Domain:
    """What the runs covered: predictions outside it are extrapolations.

    Parameters
    ----------
    steps : the longest fitted horizon, updates.
    peak_lr : lowest and highest peak LR.
    warmup : longest warm-up, updates.
    burn_in : points at fewer updates were left out.
    params : smallest and largest N, or None.
    batch_tokens : smallest and largest batch in tokens, or None.
    weight_decay : smallest and largest that runs told of, or None.
    sparsity : smallest and largest ratio of all to active parameters, 1 for dense models, or None.
    data : data sets that the losses were measured on, "unnamed" where runs do not tell.
    """

    steps: int
    peak_lr: tuple[float, float]
    warmup: int
    burn_in: int
    params: tuple[float, float] | None = None
    batch_tokens: tuple[float, float] | None = None
    weight_decay: tuple[float, float] | None = None
    sparsity: tuple[float, float] | None = None
    data: tuple[str, ...] = ()

    @property
    def one_batch(self) -> float | None:
        """The batch in tokens, if the runs tell one and the same."""
        low, high = self.batch_tokens or (None, None)
        return low if low == high else None


@dataclass(frozen=True)
class Evidence:
    """What a fitted run was: recommendations name the nearest.

    Parameters
    ----------
    name : of the run.
    peak : peak LR.
    steps : updates logged.
    family : of its schedule, or "table".
    ratio : share of its updates at a falling LR.
    final_loss : its last logged loss, nats per token.
    """

    name: str
    peak: float
    steps: int
    family: str
    ratio: float
    final_loss: float

    def describe(self) -> str:
        """The run in a few words."""
        what = f"decay {self.ratio:.0%}" if self.ratio else "no decay"
        end = f"loss {self.final_loss:.4f}"
        return f"{self.name} ({self.family}, peak {self.peak:g}, {self.steps} updates, {what}, {end})"


@dataclass(frozen=True)
class FitResult:
    """A fitted law.

    Parameters
    ----------
    law : name in the table of laws; `law_options` the options that differ from its entry.
    parameters : value of every parameter by name, nonlinear ones first.
    intervals : 90 % interval of each, once `lehr.fit.uncertainty` has run.
    status : "converged", "at_bound" (converged, with the parameters of `at_bounds` at their bounds)
        or "not_converged".
    starts_agreeing : how many of the polished starts ended at the same cost.
    residuals : per run, mean absolute, mean and largest relative residual.
    draws : parameter vectors of the bootstrap, shape (m, K + L) as nested tuples.
    spread : relative errors of left-out runs, by which bands are widened; empty before they are measured.
    evidence : what the fitted runs were.
    batch : critical batch and B_opt, where runs at several batches told them, or None.
    final_errors : errors at the ends of hidden runs, with how far each was from what was shown; as `spread`.
    without_peak : parameters of the law fitted without the runs at one peak LR, by what was hidden; shape (K + L,).
    groups : data sets of a fit to several, the first of them the one that scales are relative to.
    adapted : how the fit was moved to other runs (`lehr.fit.adapt`); empty if it was not.
    """

    law: str
    law_options: Mapping[str, Any]
    parameters: Mapping[str, float]
    status: str
    at_bounds: tuple[str, ...]
    starts_agreeing: int
    starts_polished: int
    cost: float
    points: int
    residuals: Mapping[str, Mapping[str, float]]
    warnings: tuple[str, ...]
    domain: Domain
    options: Mapping[str, Any]
    fingerprint: str
    versions: Mapping[str, str]
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    draws: tuple[tuple[float, ...], ...] = ()
    spread: tuple[float, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    batch: BatchLaw | None = None
    final_errors: tuple[FinalError, ...] = ()
    without_peak: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    groups: tuple[str, ...] = ()
    adapted: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<FitResult of {showing.in_words(self)}>"

    def _repr_html_(self) -> str:
        """The fit as notebooks show it."""
        return showing.to_html(self)

    def get_law(self) -> Law:
        """Return the law with its options, over the data sets of the fit."""
        law = get_law(self.law)
        if self.law_options:
            law = replace(law, **self.law_options)  # type: ignore[type-var]
        return Grouped(law, self.groups) if self.groups else law

    @property
    def vector(self) -> np.ndarray:
        """Nonlinear parameters, then amplitudes; shape (K + L,)."""
        return np.array(list(self.parameters.values()))

    def evaluate(
        self, conditions: Conditions, steps: np.ndarray, vector: np.ndarray | None = None,
        tolerance: float = TOLERANCE,
    ) -> np.ndarray:  # fmt: skip
        """Loss at `steps` (shape (n,)), for the fitted parameters or for the given `vector`.

        With `vector` of shape (m, K + L) the result has shape (m, n).
        """
        law = self.get_law()
        basis = law.bind(conditions, steps, tolerance)
        rows = np.atleast_2d(self.vector if vector is None else vector)
        count = len(law.nonlinear)
        out = (basis.values(rows[:, :count]) @ rows[:, count:, None])[..., 0]
        return out if vector is not None and np.ndim(vector) == 2 else out[0]

    def to_json(self) -> str:
        """Return the result as JSON text."""
        return json.dumps({"lehr_fit": SCHEMA, **asdict(self)}, indent=1)

    @classmethod
    def from_json(cls, text: str, source: str = "fit") -> FitResult:
        """Read a result back; nothing in the file is executed.

        Raises
        ------
        InputError
            If the text is not a fit, or one of another schema.
        """
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{source}: not a fit: {error}; make one with `lehr fit`.") from None
        if not isinstance(data, dict) or data.get("lehr_fit") != SCHEMA:
            found = data.get("lehr_fit") if isinstance(data, dict) else type(data).__name__
            raise bad(
                f"{source}: lehr_fit", f"must be {SCHEMA}", found, "make the file again with `lehr fit`"
            )
        known = {f.name for f in fields(cls)}
        optional = {
            f.name for f in fields(cls) if f.default is not MISSING or f.default_factory is not MISSING
        }
        missing = known - data.keys() - optional
        if missing:
            raise InputError(
                f"{source}: the fit lacks {', '.join(sorted(missing))}; make it again with `lehr fit`."
            )
        result: FitResult = checked(cls, {name: data[name] for name in known & data.keys()}, source)
        law = get_law(result.law)
        fixed = _fixed(law)
        options = [f.name for f in fields(law) if f.name not in fixed]  # type: ignore[arg-type]
        strange = result.law_options.keys() - set(options)
        if strange:
            raise unknown(f"option of law {law.name}", min(strange), options)
        checked(type(law), {**fixed, **result.law_options}, f"{source}: law_options")
        law = result.get_law()
        names = [p.name for p in law.nonlinear] + [a.name for a in law.linear]
        if list(result.parameters) != names:
            raise bad(
                f"{source}: parameters", f"must be {names}", list(result.parameters), "make the fit again"
            )
        flaw = None if np.all(np.isfinite(result.vector)) else "a parameter is not a finite number"
        if any(len(row) != len(names) for row in result.draws):
            flaw = f"a draw does not hold {len(names)} parameters"
        if any(len(row) != len(names) for row in result.without_peak.values()):
            flaw = f"a fit without a peak LR does not hold {len(names)} parameters"
        if flaw:
            raise InputError(f"{source}: the fit is damaged ({flaw}); make it again with `lehr fit`.")
        return result


def checked(kind: Any, data: Any, source: str) -> Any:
    """Return `data`, as read from JSON, as the type `kind`.

    Raises
    ------
    InputError
        If it is not of that type; the message names the place.
    """
    from pydantic import TypeAdapter, ValidationError  # slow to load

    try:
        return TypeAdapter(kind).validate_python(data)
    except ValidationError as error:
        flaw = error.errors()[0]
        place = ".".join(map(str, flaw["loc"])) or "the whole"
        raise InputError(
            f"{source}: the fit is damaged ({place}: {flaw['msg']}); make it again with `lehr fit`."
        ) from None


def build_result(
    problem: Problem, point: Point, runs: tuple[Run, ...], options: FitOptions, converged: bool, agreeing: int,
    warnings: list[str], burn_in: int,
) -> FitResult:  # fmt: skip
    """Put the best point of a search into a result."""
    law = problem.law
    low, high = search_box(law)
    at_bounds = tuple(
        p.name
        for p, z, a, b in zip(law.nonlinear, point.search, low, high, strict=True)
        if min(z - a, b - z) < 1e-6 * (b - a)
    )
    zero = [a.name for a, value in zip(law.linear, point.linear, strict=True) if value == 0]
    if zero:
        warnings = [*warnings, f"{', '.join(zero)} came out as 0: these runs show no such effect."]
    names = [p.name for p in law.nonlinear] + [a.name for a in law.linear]
    vector = np.concatenate([natural(law, point.search), point.linear])
    plain, groups = (law.law, law.groups) if isinstance(law, Grouped) else (law, ())
    return FitResult(
        law=law.name,
        law_options=_changed(plain),
        parameters=dict(zip(names, vector.tolist(), strict=True)),
        status="not_converged" if not converged else "at_bound" if at_bounds else "converged",
        at_bounds=at_bounds,
        starts_agreeing=agreeing,
        starts_polished=min(options.polished, options.starts),
        cost=point.cost,
        points=len(problem.loss),
        residuals={
            run.name: summarise(point.residual[rows]) for run, rows in zip(runs, problem.rows, strict=True)
        },
        warnings=tuple(warnings),
        domain=domain_of(runs, burn_in),
        options=asdict(options),
        fingerprint=fingerprint_of(runs),
        versions=versions(),
        groups=groups,
        evidence=tuple(_evidence(run) for run in runs),
    )


def _evidence(run: Run) -> Evidence:
    last = int(run.step[-1])
    seen = run.schedule.first(max(last, 1)).to_array()
    top = int(
        np.flatnonzero(seen >= seen.max() * (1 - 1e-9))[-1]
    )  # what falls after the last update at the peak
    family = run.schedule.call[0] if run.schedule.call else "table"
    ratio = round((len(seen) - 1 - top) / len(seen), 3) if seen[-1] < seen[top] else 0.0
    return Evidence(run.name, run.schedule.peak, last, family, ratio, run.final_loss)


def _changed(law: Law) -> dict[str, Any]:
    """Options of `law` that differ from those of its entry in the table."""
    base = get_law(law.name)
    return {
        f.name: getattr(law, f.name)
        for f in fields(law)  # type: ignore[arg-type]
        if getattr(law, f.name) != getattr(base, f.name)
    }


def _fixed(law: Law) -> dict[str, Any]:
    """Fields of `law` that make it the law it is: those without a default, which no fit changes."""
    return {
        f.name: getattr(law, f.name)
        for f in fields(law)  # type: ignore[arg-type]
        if f.default is MISSING and f.default_factory is MISSING
    }


def summarise(residual: np.ndarray) -> dict[str, float]:
    """Mean absolute, mean and largest of a run's relative residuals."""
    return {
        "mean_absolute": float(np.mean(np.abs(residual))),
        "mean": float(np.mean(residual)),
        "largest": float(np.max(np.abs(residual))),
    }


def fingerprint_of(runs: tuple[Run, ...]) -> str:
    """Hash of all that a fit to `runs` depends on, whatever their order."""
    return hashlib.sha256("".join(sorted(run.fingerprint() for run in runs)).encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of what made a result."""
    return {
        "lehr": __version__,
        "numpy": np.__version__,
        "scipy": scipy.__version__,
        "python": platform.python_version(),
    }


def domain_of(runs: tuple[Run, ...], burn_in: int) -> Domain:
    """What `runs`, fitted from `burn_in` updates on, cover."""

    def span(values: list[float | None]) -> tuple[float, float] | None:
        known = [v for v in values if v is not None]
        return (min(known), max(known)) if known else None

    peaks = [run.schedule.peak for run in runs]
    return Domain(
        steps=max(int(run.step[-1]) for run in runs),
        peak_lr=(min(peaks), max(peaks)),
        warmup=max(warmup_steps(run.schedule) for run in runs),
        burn_in=burn_in,
        params=span([run.params for run in runs]),
        batch_tokens=span([run.batch_tokens for run in runs]),
        weight_decay=span([weight_decay_of(run) for run in runs]),
        sparsity=span([sparsity_of(run) for run in runs]),
        data=tuple(sorted({data_of(run) for run in runs})),
    )


def weight_decay_of(run: Run) -> float | None:
    """Weight decay that the meta data of `run` tell, or None."""
    value = run.meta.get("weight_decay")
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def check_data(result: FitResult, data: str | None) -> None:
    """Refuse a data set that a fit to one data set, or to runs that do not tell theirs, was not made on.

    Raises
    ------
    InputError
        If it was not; `data` of None passes.
    """
    known = result.domain.data
    if data is None or result.groups or not known:
        return
    if known == (UNNAMED,):
        raise bad(
            "data", "must be left out: the fitted runs do not tell their data set", data, "leave it out"
        )
    find_group(known, data)
