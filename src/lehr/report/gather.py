"""Gather a report from fits, the runs they were made of, and a question."""

from __future__ import annotations

from collections.abc import Callable

from lehr.fit.files import Fits
from lehr.report.parts.answer import costs_of, numbers, plan_part, ratio_part, sentence
from lehr.report.parts.evidence import calibration_part, evidence_part
from lehr.report.parts.laws import laws_part
from lehr.report.parts.sensitivity import sensitivity_part
from lehr.report.parts.trust import surer_part, trust_part
from lehr.report.report import Cell, Report
from lehr.report.reproduce import Source, attachments, commands, facts
from lehr.report.study import Question, Study, make_study
from lehr.runs.run import RunSet

TITLE = "How to anneal the planned run"


def gather(
    fits: Fits, question: Question | None = None, runs: RunSet | None = None, *, title: str = TITLE, date: str = "",
    source: Source | None = None, diagnose: bool = False, suggest: bool = False,
    progress: Callable[[str], None] | None = None,
) -> Report:  # fmt: skip
    """Return the report that answers `question` by `fits`.

    Parameters
    ----------
    fits : as `lehr.fit.files.load_fits` gives them.
    question : the planned run; what it leaves open is taken from the fitted runs.
    runs : those that were fitted or kept apart; without them what needs curves is left out, and the report says so.
    title : its heading.
    date : on which it is made, "" for none: the same arguments then give the same report.
    source : how the user named the file of the fits and the store, for the command lines.
    diagnose, suggest : also diagnose the fit, and look for runs to add; seconds each.
    progress : called with the name of each part before it is made.

    Raises
    ------
    InputError
        As `lehr.report.study.make_study`.
    """
    say = progress or (lambda name: None)
    say("recommendation")
    study = make_study(fits, question or Question(), runs)
    costs, plan, parts = costs_of(study), study.plan, []
    if plan is not None:
        say("ratios")
        parts += [ratio_part(study, plan, costs), plan_part(study, plan)]
    say("runs")
    parts += [evidence_part(study), calibration_part(study), laws_part(study)]
    if plan is not None:
        say("other plans")
        parts.append(sensitivity_part(study, plan))
    say("trust")
    parts.append(trust_part(study, diagnose))
    if plan is not None:
        parts.append(surer_part(study, plan, suggest))
    return Report(
        title=title, date=date, question=_asked(study), assumed=study.assumed, answer=sentence(study, costs),
        recommendation=numbers(study), warnings=_warnings(study), parts=tuple(parts),
        commands=commands(study, source or Source()), facts=facts(study), attachments=attachments(study),
    )  # fmt: skip


def _asked(study: Study) -> dict[str, Cell]:
    """The question, as it was answered."""
    asked = study.question
    told: dict[str, Cell] = {
        "family": asked.family, "steps": asked.steps, "peak_lr": asked.peak, "shape": asked.shape,
        "final_lr": asked.final, "warmup": asked.warmup, "params": asked.params, "batch_tokens": asked.batch_tokens,
        "weight_decay": asked.weight_decay, "data": asked.data, "level": asked.level,
    }  # fmt: skip
    return {name: value for name, value in told.items() if value is not None}


def _warnings(study: Study) -> tuple[str, ...]:
    """All that the reader must know first, each once."""
    best = study.plan.best.warnings if study.plan else ()
    return tuple(dict.fromkeys((*study.doubts, *best, *study.fit.warnings)))
