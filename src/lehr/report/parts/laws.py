"""Every law on one footing: errors on losses hidden within the fitted runs, by what was hidden, and on test runs."""

from __future__ import annotations

import math

from lehr.fit.compare import RESOLUTION
from lehr.fit.folds import KINDS
from lehr.report.charts.laws import law_comparison
from lehr.report.report import Cell, Column, Part, Table
from lehr.report.study import Study

ASKS = {
    "run": "single runs (another schedule)", "peak_lr": "all runs of one peak LR (another peak LR)",
    "horizon": "all that comes after a share of the longest run (a longer training)",
    "later_part": "the later part of one run",
}  # fmt: skip


def laws_part(study: Study) -> Part:
    """Tables of the laws' errors and which was chosen."""
    fits = study.fits
    left_out = [f"{name}: {reason}" for name, reason in fits.failed.items()]
    if not fits.held_out:
        left_out.insert(
            0, "the comparison on hidden losses: these runs have none that can be hidden in turn."
        )
        return Part("laws", "Every law on one footing", tables=_tested(study), left_out=tuple(left_out))
    kinds = [kind for kind in KINDS if any(kind in errors for errors in fits.by_kind.values())]
    tests = {name: sum(each.values()) / len(each) for name, each in fits.test_errors.items() if each}
    rows: list[tuple[Cell, ...]] = []
    for name in sorted(fits.results, key=lambda name: fits.held_out.get(name, math.inf)):
        result, by_kind = fits.results[name], fits.by_kind.get(name, {})
        rows.append((
            name, name == fits.chosen, fits.held_out.get(name), *(by_kind.get(kind) for kind in kinds),
            tests.get(name), result.status.replace("_", " "),
            f"{result.starts_agreeing} of {result.starts_polished}"))  # fmt: skip
    columns = (
        Column("law", "law"), Column("chosen", "chosen"), Column("held_out_error", "hidden, all", ".3%"),
        *(Column(f"held_out_{kind}", f"hidden: {KINDS[kind]}", ".3%") for kind in kinds),
        Column("test_error", "test runs", ".3%"), Column("status", "fit"),
        Column("starts_agreeing", "starts agreeing"))  # fmt: skip
    text = [
        "Mean error, as a share of the loss, on losses hidden within the fitted runs. Hidden were "
        + "; ".join(ASKS[kind] for kind in kinds)
        + f". The first column is the geometric mean over these; laws within {RESOLUTION:.1%} of the smallest are "
        "tied, and the first of them in lehr's table is chosen. Test runs have no say."
    ]
    if study.fit.law != fits.chosen:
        text.append(f"This report uses {study.fit.law}, as was asked, not the chosen {fits.chosen}.")
    chart = law_comparison(fits.held_out, fits.chosen, {n: e for n, e in tests.items() if n in fits.held_out})
    table = Table("laws", "Errors of the laws", columns, tuple(rows))
    tables = (table, *_hidden(study), *_tested(study))
    return Part("laws", "Every law on one footing", tuple(text), (chart,), tables, tuple(left_out))


def _hidden(study: Study) -> tuple[Table, ...]:
    """Errors of the laws at the end of each run that was hidden whole."""
    found: dict[str, dict[str, float]] = {}
    for name, result in study.fits.results.items():
        for each in result.final_errors:
            if each.kind == "run":
                found.setdefault(each.run, {})[name] = each.error
    return _by_run(
        "hidden_runs", "Error of the last loss of each run, predicted by fits without it", found, "+.2%"
    )


def _tested(study: Study) -> tuple[Table, ...]:
    """Mean absolute errors of the laws on each test run."""
    found: dict[str, dict[str, float]] = {}
    for name, errors in study.fits.test_errors.items():
        for run, error in errors.items():
            found.setdefault(run, {})[name] = error
    return _by_run("test_runs", "Mean error on each run kept apart", found, ".3%")


def _by_run(key: str, caption: str, found: dict[str, dict[str, float]], form: str) -> tuple[Table, ...]:
    if not found:
        return ()
    laws = list(dict.fromkeys(law for errors in found.values() for law in errors))
    columns = (Column("run", "run"), *(Column(law, law, form) for law in laws))
    rows = tuple((run, *(errors.get(law) for law in laws)) for run, errors in found.items())
    return (Table(key, caption, columns, rows),)
