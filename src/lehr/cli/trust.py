"""`lehr fit --diagnose` and `--suggest`: how far the chosen law's fit can be trusted, and what run to add."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from lehr.cli.common import progress, table
from lehr.errors import InputError, bad

if TYPE_CHECKING:
    from lehr.anneal.suggest import Suggestion, Suggestions
    from lehr.fit.diagnose import Diagnosis
    from lehr.fit.profile import Interval
    from lehr.fit.result import FitResult
    from lehr.runs.run import Run

KINDS = {"step": "steps", "lr": "LR", "phase": "phase"}


@dataclass(frozen=True)
class Wanted:
    """What was asked for beside the fit."""

    diagnose: bool
    suggest: bool
    steps: int | None
    peak_lr: float | None
    budget: int | None

    def check(self, draws: int) -> None:
        """Refuse options that do not go together, before anything is fitted.

        Raises
        ------
        InputError
            Naming the option.
        """
        from lehr.anneal.outlook import FEWEST

        if not self.suggest:
            given = {"--steps": self.steps, "--peak-lr": self.peak_lr, "--budget": self.budget}
            for name, value in given.items():
                if value is not None:
                    raise InputError(
                        f"{name} goes with --suggest, which is not given: add it, or leave {name} out."
                    )
            return
        if self.steps is None or self.peak_lr is None:
            missing = "--steps" if self.steps is None else "--peak-lr"
            raise InputError(f"--suggest needs {missing} of the run you plan: add it.")
        if self.steps < 2:
            raise bad("--steps", "must be at least 2", self.steps, "give the updates of the planned run")
        if draws < FEWEST:
            raise bad("--draws", f"must be at least {FEWEST} with --suggest", draws, "leave it out")


def examine(result: FitResult, runs: tuple[Run, ...], wanted: Wanted) -> dict[str, Diagnosis | Suggestions]:
    """Diagnose `result`, a fit of `runs`, and look for runs to add, as wanted."""
    found: dict[str, Diagnosis | Suggestions] = {}
    if wanted.diagnose:
        from lehr.fit.diagnose import diagnose

        with progress(1, "diagnosing") as step:
            step(result.law)
            found["diagnostics"] = diagnose(result, runs)
    if wanted.suggest and wanted.steps is not None and wanted.peak_lr is not None:
        found["suggestions"] = _suggest(result, wanted.steps, wanted.peak_lr, wanted.budget)
    return found


def _suggest(result: FitResult, steps: int, peak: float, budget: int | None) -> Suggestions:
    from lehr.anneal.plans import make_plans
    from lehr.anneal.suggest import suggest_runs

    law, decays = result.get_law(), result.domain.weight_decay
    if law.needs_sizes:
        raise InputError(
            f"--suggest is for runs of one size, but law {law.name} has several: choose the runs of one with --train."
        )
    if result.groups:
        raise InputError(
            f"--suggest is for runs of one data set, but these are of {len(result.groups)} "
            f"({', '.join(result.groups)}): choose the runs of one with --train."
        )
    if law.uses_weight_decay and decays and decays[0] != decays[1]:
        raise InputError(
            f"--suggest is for runs of one weight decay, but these had {decays[0]:g} to {decays[1]:g}: "
            "choose the runs of one with --train."
        )
    budget = result.domain.steps if budget is None else budget
    plans = make_plans(result.domain, steps, peak, budget)
    with progress(len(plans), "looking for a run to add") as step:
        return suggest_runs(
            result, steps=steps, peak=peak, budget=budget, plans=plans, progress=lambda: step(result.law)
        )


def to_json(found: dict[str, Any]) -> dict[str, Any]:
    """Keys `diagnostics` and `suggestions`, where they were asked for."""
    out: dict[str, Any] = {}
    if "diagnostics" in found:
        out["diagnostics"] = asdict(found["diagnostics"])
    if "suggestions" in found:
        s: Suggestions = found["suggestions"]
        out["suggestions"] = {
            "budget": s.budget,
            "now": {
                "ratio": s.now.ratio, "ratio_low": s.now.ratio_low, "ratio_high": s.now.ratio_high,
                "final_loss": s.now.final_loss, "final_loss_low": s.now.final_loss_low,
                "final_loss_high": s.now.final_loss_high,
            },
            "before": _suggestion(s.before),
            "best": [_suggestion(each) for each in s.best],
            "per_cost": [_suggestion(each) for each in s.per_cost],
        }  # fmt: skip
    return out


def _suggestion(each: Suggestion) -> dict[str, Any]:
    values = {name: value for name, value in asdict(each).items() if name != "plan"}
    runs = [
        {"schedule": text, "branch_step": part.first or None}
        for text, part in zip(each.plan.specs, each.plan.parts, strict=True)
    ]
    return {"runs": runs, "cost": each.plan.cost, **values}


def to_text(found: dict[str, Any]) -> str:
    """Both as text, one below the other."""
    parts = []
    if "diagnostics" in found:
        parts.append(_diagnosis_text(found["diagnostics"]))
    if "suggestions" in found:
        parts.append(_suggestions_text(found["suggestions"]))
    return "\n\n".join(parts)


def _diagnosis_text(d: Diagnosis) -> str:
    blocks = []
    for kind, rows in d.biases.items():
        cells = [
            (row.part, str(row.points), str(row.runs), f"{row.bias:+.3%}", f"{row.rms:.3%}",
             f"{row.deviations:+.1f}{' !' if row.significant else ''}")
            for row in rows
        ]  # fmt: skip
        blocks.append(table((KINDS[kind], "points", "runs", "bias", "rms", "deviations"), cells))
    known = [
        (p.name, f"{p.value:.4g}", _interval(p.interval), _interval(p.data), f"{p.prior_share:.0%}")
        for p in d.profiles
    ]
    blocks.append(table(("parameter", "value", "90 % interval", "by the runs alone", "from priors"), known))
    weakest = " ".join(f"{load:+.2f} {name}" for name, load in d.weakest.items())
    lines = [
        f"residuals of {d.law}: white noise {d.noise.white:.3%}, wander {d.noise.slow:.3%} over "
        f"{d.noise.length:.0%} of a run; correlation of successive ones {d.autocorrelation:.2f}",
        f"condition number {d.condition:.0f}; told least: {weakest}",
        *(f"nearly collinear: {a}, {b} (correlation {r:+.3f})" for a, b, r in d.pairs),
        *(f"note: {note}" for note in d.notes),
    ]
    return "\n\n".join([*blocks, "\n".join(lines)])


def _interval(interval: Interval | None) -> str:
    if interval is None:
        return "0"
    low = "open" if interval.open_low else f"{interval.low:.4g}"
    high = "open" if interval.open_high else f"{interval.high:.4g}"
    return f"{low} .. {high}"


def _suggestions_text(s: Suggestions) -> str:
    now, known = s.now, s.before
    lines = [
        f"ratio {now.ratio:.2f}, final loss {now.final_loss:.4f}; known so far: {_known(known)}",
    ]
    for title, rows in (("by gain", s.best), ("by gain per update", s.per_cost)):
        lines += ["", f"runs to add for at most {s.budget} updates, {title}:"]
        for each in rows:
            lines.append(f"  {each.plan.cost} updates, gain {each.gain:.0%}: {_known(each)}")
            for text, part in zip(each.plan.specs, each.plan.parts, strict=True):
                lines.append(
                    f"    {text}" + (f"  from update {part.first} of the first" if part.first else "")
                )
    return "\n".join(lines)


def _known(each: Suggestion) -> str:
    return (
        f"ratio {each.ratio_low:.2f} to {each.ratio_high:.2f}, final loss {each.final_loss_low:.4f} to "
        f"{each.final_loss_high:.4f}, expected loss from a wrong ratio {each.regret:.5f}"
    )
