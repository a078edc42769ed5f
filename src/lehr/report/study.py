"""What a report is about: fits, their runs where these are at hand, a question, and the plan that answers it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from lehr.anneal.plan import Plan, plan_run
from lehr.errors import bad, unknown
from lehr.fit.adapt import of_data
from lehr.fit.files import Fits
from lehr.fit.fit import conditions_of
from lehr.fit.pooling import data_of
from lehr.fit.result import FitResult, fingerprint_of
from lehr.predict import Prediction, predict
from lehr.runs.run import Run, RunSet

FEW_DRAWS = 24  # of the bootstrap, by which bands of runs already made are drawn: many runs stay quick


@dataclass(frozen=True)
class Question:
    """The planned run; None is filled in from the fitted runs, and the report says so.

    Parameters
    ----------
    steps, peak : its updates and peak LR.
    shape, final : of the decay; None lets the predicted loss choose.
    family : of the schedule; wsd is the one with an annealing ratio.
    warmup, params, batch_tokens, weight_decay, params_total, level : as in `lehr.anneal.plan.plan_run`.
    data : data set, for a fit to several.
    law : to use instead of the chosen one.
    """

    steps: int | None = None
    peak: float | None = None
    shape: str | None = "linear"
    final: float | None = 0.0
    family: str = "wsd"
    warmup: int | None = None
    params: float | None = None
    batch_tokens: float | None = None
    weight_decay: float | None = None
    data: str | None = None
    params_total: float | None = None
    law: str | None = None
    level: float = 0.9

    @property
    def sizes(self) -> dict[str, Any]:
        """What `predict` and its like are told beside the schedule."""
        return {
            "params": self.params, "batch_tokens": self.batch_tokens, "weight_decay": self.weight_decay,
            "params_total": self.params_total,
        }  # fmt: skip


@dataclass(frozen=True, eq=False)
class Study:
    """A question with its answer.

    Parameters
    ----------
    fits : all that was fitted.
    fit : the law used, over all data sets it was fitted to.
    result : the same for the data set asked for.
    question : with what was left open filled in.
    assumed : what was filled in, in words.
    plan : the answer, or None; then `refused` says why.
    fitted, tests : runs the fit was made of and runs kept apart, where they are at hand.
    runs : all runs at hand, for the pasts of branches.
    doubts : what does not agree between the fit and the runs at hand.
    """

    fits: Fits
    fit: FitResult
    result: FitResult
    question: Question
    assumed: tuple[str, ...]
    plan: Plan | None
    refused: str
    fitted: tuple[Run, ...]
    tests: tuple[Run, ...]
    runs: RunSet | None
    doubts: tuple[str, ...]

    def predicted(self, run: Run, steps: Any = None) -> Prediction:
        """What the law says of a run already made, by few draws."""
        few = replace(self.fit, draws=self.fit.draws[:FEW_DRAWS])
        told = conditions_of(run)
        return predict(
            few, run.schedule, steps, params=run.params, batch_tokens=run.batch_tokens, level=self.question.level,
            weight_decay=told.weight_decay, params_total=told.params_total, data=data_of(run) if few.groups else None,
        )  # fmt: skip


def make_study(fits: Fits, question: Question, runs: RunSet | None = None) -> Study:
    """Answer `question` by `fits`.

    Parameters
    ----------
    runs : those the fits were made of, and more; without them what needs curves is left out of the report.

    Raises
    ------
    InputError
        If the question cannot be asked (a number out of range, a law, family or data set that is not there), or as
        `plan_run`. That the law cannot tell annealing ratios apart is an answer instead.
    """
    check(question)
    fit = fits.get(question.law)
    result = of_data(fit, question.data)
    refused, plan = "", None
    filled, assumed = _filled(question, result)
    law = result.get_law()
    if law.needs_anneal:
        assert filled.steps is not None
        plan = plan_run(
            result, steps=filled.steps, peak=filled.peak, shape=filled.shape, final=filled.final,
            warmup=filled.warmup, level=filled.level, **filled.sizes,
        )  # fmt: skip
        filled = replace(filled, peak=plan.peak, shape=plan.shape, final=plan.final)
    else:
        able = [name for name, each in fits.results.items() if each.get_law().needs_anneal]
        remedy = (
            f"name one that has with --law: {', '.join(able)}"
            if able
            else "fit runs that decay, at several LRs"
        )
        refused = (
            f"the law {law.name} has no annealing term, so it cannot tell annealing ratios apart: {remedy}."
        )
    fitted, tests, doubts = _match(fits, fit, runs)
    return Study(fits, fit, result, filled, assumed, plan, refused, fitted, tests, runs, doubts)


def check(question: Question) -> None:
    """Refuse what no fit could answer."""
    if question.family != "wsd":
        raise unknown("family with an annealing ratio", question.family, ["wsd"])
    if question.steps is not None and question.steps < 2:
        raise bad("steps", "must be at least 2", question.steps, "give the updates of the planned run")
    if question.peak is not None and not 0 < question.peak < float("inf"):
        raise bad("peak LR", "must be above 0", question.peak, "give the highest LR, e.g. 1e-3")
    if not 0 < question.level < 1:
        raise bad("level", "must lie between 0 and 1", question.level, "use e.g. 0.9")


def _filled(question: Question, result: FitResult) -> tuple[Question, tuple[str, ...]]:
    """The question with its defaults, and which they are."""
    assumed, domain = [], result.domain
    if question.steps is None:
        question = replace(question, steps=domain.steps)
        assumed.append(f"{domain.steps} updates, those of the longest fitted run (--steps asks for others)")
    if question.peak is None:
        low, high = domain.peak_lr
        if low == high:
            question = replace(question, peak=low)
            assumed.append(f"peak LR {low:g}, that of all fitted runs (--peak-lr asks for another)")
        else:
            assumed.append(
                f"the peak LR with the lowest predicted loss of the fitted {low:g} to {high:g} (--peak-lr)"
            )
    if question.warmup is None:
        assert question.steps is not None
        question = replace(question, warmup=min(domain.warmup, question.steps // 10))
        assumed.append(
            f"{question.warmup} updates of warm-up, as the fitted runs, at most a tenth (--warmup)"
        )
    return question, tuple(assumed)


def _match(
    fits: Fits, fit: FitResult, runs: RunSet | None
) -> tuple[tuple[Run, ...], tuple[Run, ...], tuple[str, ...]]:
    """The fitted and the test runs among `runs`, and what is amiss with them."""
    if runs is None:
        return (), (), ()
    named = [each.name for each in fit.evidence] or list(fit.residuals)
    lacking = [name for name in named if name not in runs]
    fitted = tuple(runs.only(name for name in named if name in runs))
    tests = tuple(runs.only(name for name in fits.test_errors.get(fit.law, {}) if name in runs))
    if lacking:
        more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
        return fitted, tests, (
            f"the store lacks {len(lacking)} of the {len(named)} fitted runs ({', '.join(lacking[:3])}{more}): what "
            "is shown of runs is that of the others.",
        )  # fmt: skip
    if fingerprint_of(fitted) != fit.fingerprint:
        return fitted, tests, (
            "the runs in the store are not those that were fitted, though their names are (another fingerprint): "
            "fit them again with lehr fit.",
        )  # fmt: skip
    return fitted, tests, ()
