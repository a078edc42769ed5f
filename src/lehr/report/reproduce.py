"""What makes a report again and goes on from it: command lines, facts about what made it, and files to take along."""

from __future__ import annotations

import glob
import json
import shlex
from collections.abc import Iterable
from dataclasses import dataclass

from lehr.drawing import thin
from lehr.fit.files import fits_text
from lehr.fit.result import versions
from lehr.report.report import Attachment, Cell, Command
from lehr.report.saving import csv_text
from lehr.report.study import Study
from lehr.schedule.export import EXPORTERS, export
from lehr.schedule.spec import to_dict, to_text

LONGEST_TABLE = 50_000  # updates of a schedule that is attached as a table
MOST_POINTS = 60_000  # of all runs together that are attached
LARGEST_FIT = 3_000_000  # characters


@dataclass(frozen=True)
class Source:
    """Where a report was made from: the file of the fits and the store, as the user named them; "" if there is none."""

    fit: str = ""
    store: str = ""
    options: tuple[str, ...] = ()  # of the report, beyond the question

    @property
    def fit_name(self) -> str:
        """File of the fits, or the name to give it."""
        return self.fit or "fit.json"


def commands(study: Study, source: Source) -> tuple[Command, ...]:
    """Command lines, quoted for a shell: fit, recommend, this report, the next run to add, exports."""
    store = source.store or "STORE"
    fit = ["lehr", "fit", store, *_fit_options(study)]
    found = [Command("fit the runs" if source.store else "fit the runs, STORE being the folder that holds them",
                     _line([*fit, "--out", source.fit_name]))]  # fmt: skip
    made = ["lehr", "report", source.fit or store]
    if source.fit and source.store:
        made += ["--store", source.store]
    made += [*source.options, *_asked(study)]
    if study.plan is None:
        return (*found, Command("make this report", _line(made)))
    spec, steps = to_text(study.plan.best.schedule), str(study.plan.best.schedule.steps)
    found += [
        Command("ask for the recommendation alone", _line(["lehr", "recommend", source.fit_name, *_asked(study)])),
        Command("make this report", _line(made)),
        Command("rank the runs to add", _line(
            [*fit, "--suggest", "--steps", steps, "--peak-lr", repr(float(study.plan.peak))])),
        *(Command(f"write the schedule for {name}", _line(["lehr", "export", spec, "--to", name]))
          for name in EXPORTERS),
    ]  # fmt: skip
    return tuple(found)


def _line(words: Iterable[str]) -> str:
    return " ".join(map(shlex.quote, words))


def _asked(study: Study) -> list[str]:
    """Options that ask the question."""
    asked = study.question
    options = {
        "--steps": asked.steps, "--peak-lr": asked.peak, "--shape": asked.shape, "--final": asked.final,
        "--warmup": asked.warmup, "--params": asked.params, "--batch-tokens": asked.batch_tokens,
        "--weight-decay": asked.weight_decay, "--params-total": asked.params_total, "--data": asked.data,
        "--law": asked.law,
    }  # fmt: skip
    words = [word for name, value in options.items() if value is not None for word in (name, str(value))]
    return words if asked.level == 0.9 else [*words, "--level", str(asked.level)]


def _fit_options(study: Study) -> list[str]:
    """Options that choose the runs and the laws again; nothing where that is all runs of the store."""
    fits, fit = study.fits, study.fit
    named, tested = list(fit.residuals), list(fits.test_errors.get(fit.law, {}))
    words = []
    if study.runs is None or set(named) != set(study.runs.names):
        words += [f"--train={glob.escape(name)}" for name in named]
    words += [f"--test={glob.escape(name)}" for name in tested]
    if len(fits.results) == 1:
        words += ["--law", fit.law]
    if fit.options.get("burn_in") is not None:
        words += ["--burn-in", str(fit.options["burn_in"])]
    return words if len(fit.draws) == 100 else [*words, "--draws", str(len(fit.draws))]


def facts(study: Study) -> dict[str, Cell]:
    """Versions, the data's fingerprint, and what the fit was made of."""
    fit, now = study.fit, versions()
    made = ", ".join(f"{name} {number}" for name, number in fit.versions.items())
    here = ", ".join(f"{name} {number}" for name, number in now.items())
    told: dict[str, Cell] = {
        "law": f"{fit.law} ({fit.get_law().title})", "fitted runs": len(fit.residuals), "fitted points": fit.points,
        "bootstrap fits": len(fit.draws), "data fingerprint": fit.fingerprint, "data sets": ", ".join(fit.domain.data),
        "versions of the fit": made, "versions of this report": here,
    }  # fmt: skip
    return {name: value for name, value in told.items() if value != ""}


def attachments(study: Study) -> tuple[Attachment, ...]:
    """The schedule, the points of the runs and the fit as files; what would be too large is left out."""
    found = []
    if study.plan is not None:
        schedule = study.plan.best.schedule
        told = {"schedule": to_dict(schedule), "text": to_text(schedule)}
        found.append(Attachment("schedule.json", "the schedule, for lehr export", "application/json",
                                json.dumps(told, indent=1)))  # fmt: skip
        if schedule.steps <= LONGEST_TABLE:
            found.append(
                Attachment("schedule.csv", "LR of every update", "text/csv", export(schedule, "csv").text)
            )
    if study.fitted:
        found.append(_points(study))
    text = fits_text(study.fits)
    if len(text) <= LARGEST_FIT:
        found.append(
            Attachment("fit.json", "the fits, for lehr predict and its like", "application/json", text)
        )
    return tuple(found)


def _points(study: Study) -> Attachment:
    runs = (*study.fitted, *study.tests)
    total = sum(len(run.step) for run in runs)
    stretches = max(1, MOST_POINTS // (2 * len(runs)))
    rows: list[tuple[str | float, ...]] = []
    for run in runs:
        step, loss = (run.step, run.loss) if total <= MOST_POINTS else thin(run.step, run.loss, stretches)
        part = "fitted" if run.name in study.fit.residuals else "kept apart"
        rows += [(run.name, part, int(s), float(v)) for s, v in zip(step, loss, strict=True)]
    what = "steps and losses of the runs"
    if total > MOST_POINTS:
        what += f", thinned to the lowest and highest of {stretches} stretches each"
    return Attachment("runs.csv", what, "text/csv", csv_text(("run", "part", "step", "loss"), rows))
