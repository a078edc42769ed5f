"""`lehr peak-lr compare`: fitting against transfer on one's own proxies, trained or from a table."""

from __future__ import annotations

from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import print_json, say, show, table
from lehr.errors import InputError, ResultError

if TYPE_CHECKING:
    from lehr.peaklr.comparison import Comparison
    from lehr.peaklr.study_table import StudyRow
    from lehr.proxy.config import TrainConfig


def compare(
    source: Annotated[
        list[Path] | None,
        typer.Argument(
            help="TOML files of studies to train, or CSV files of trained ones; default: bundled."
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder for trainings, results.csv and report.html.")] = Path(
        "lehr-peak-lr"
    ),
    only: Annotated[
        list[str] | None, typer.Option(help="Train these cells alone; a pattern of AXIS/RULE/TARGET.")
    ] = None,
    known: Annotated[
        Path | None, typer.Option(help="results.csv of trainings made elsewhere, which are not repeated.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compare ways to the largest model's peak LR: laws fitted to small ones, and rules of transfer.

    A study's file says what to train; what is trained already is kept, so that the command can be stopped and repeated.
    """
    from lehr.files import make_folder, write_atomic
    from lehr.peaklr.comparison import compare_ways
    from lehr.peaklr.study_table import to_csv
    from lehr.report.comparison import conclusion, page

    rows = _rows(source or [], out, tuple(only or ("*",)), known)
    found = compare_ways(rows)
    make_folder(out)
    write_atomic(out / "results.csv", to_csv(rows))
    named = " ".join(path.name for path in source or ())
    write_atomic(out / "report.html", page(found, f"lehr peak-lr compare {named}".strip()))
    if as_json:
        print_json({**to_json(found), "conclusion": conclusion(found), "out": str(out)})
        return
    show(to_text(found))
    show(f"\n{conclusion(found)}")
    say(f"written to {out}: report.html, results.csv")


def _rows(source: list[Path], out: Path, only: tuple[str, ...], known: Path | None) -> list[StudyRow]:
    from lehr.peaklr.study_table import read_study

    if not source:
        bundled = files("lehr.examples").joinpath("peak_lr_study.csv")
        return read_study(Path(str(bundled)))
    made = read_study(known) if known else []
    rows: list[StudyRow] = []
    for path in source:
        rows += _trained(path, out, only, made) if path.suffix == ".toml" else read_study(path)
    names = [(row.study, row.axis, row.rule, row.target, row.lr, row.seed) for row in rows]
    if len(set(names)) < len(names):
        raise InputError("a training is in the tables twice: give each study once.")
    return rows


def _trained(path: Path, out: Path, only: tuple[str, ...], made: list[StudyRow]) -> list[StudyRow]:
    """Train what of a study is not made yet."""
    from lehr.cli.train import import_train, stopping
    from lehr.peaklr.study_table import StudyRow
    from lehr.proxy.study import load_study, run_name

    study = load_study(path)
    losses = {run_name(row.study, row.cell, row.lr, row.seed): row.loss for row in made}
    import_train()
    from lehr.proxy.studying import run_study

    with stopping() as stop:
        found = run_study(study, out, only=only, known=losses, begin=_told, stop=stop)
    if found is None:
        raise ResultError("stopped and saved: the same command goes on.")
    return [
        StudyRow(
            study.name, each.cell.axis, each.cell.rule, each.cell.target.label, each.cell.level,
            each.params, each.tokens, each.lr, each.loss, each.seed, each.config.batch_tokens,
        )
        for each in found
    ]  # fmt: skip


def _told(config: TrainConfig) -> None:
    say(f"training {config.name}")


def to_json(found: Comparison) -> dict[str, Any]:
    """The comparison in JSON's terms."""
    return {
        "axes": [
            {
                "study": axis.study, "axis": axis.axis,
                "optima": [
                    {"rule": rule, "target": level.target, "params": level.params, "tokens": level.tokens,
                     **({"lr": v.lr, "low": v.low, "high": v.high, "lowest_loss": v.lowest_loss}
                        if (v := level.valley) else {"refused": level.refused})}
                    for rule, chain in axis.levels.items() for level in chain
                ],
                "shifts": [{**asdict(shift), "size": shift.size} for shift in axis.shifts],
                "forecasts": [asdict(each) for each in axis.forecasts],
            }
            for axis in found.axes
        ],
        "standings": [asdict(each) for each in found.standings()],
    }  # fmt: skip


def to_text(found: Comparison) -> str:
    """Optima, how far they shift and costs, axis by axis."""
    parts = []
    for axis in found.axes:
        rows = [
            (f"{rule} {level.target}", *((f"{v.lr:.4g}", f"{v.low:.4g}", f"{v.high:.4g}", f"{v.lowest_loss:.4f}")
             if (v := level.valley) else ("-", "-", "-", "-")))
            for rule, chain in axis.levels.items() for level in chain
        ]  # fmt: skip
        parts.append(f"{axis.study}: {axis.axis}")
        parts.append(table(("optima", "LR", "from", "to", "loss"), rows))
        moved = [(s.rule, f"{s.factor:.2f}", f"{s.low:.2f}", f"{s.high:.2f}") for s in axis.shifts]
        parts.append(table(("base to largest, the best LR", "times", "from", "to"), moved))
        ways = [
            (f"{e.rule} {e.way}", f"{e.lr:.4g}", f"{e.excess:.4f}", f"{e.excess_low:.4f}", f"{e.excess_high:.4f}",
             f"{e.above_best:+.4f}")
            for e in sorted(axis.forecasts, key=lambda each: each.above_best)
        ]  # fmt: skip
        header = ("the largest, predicted", "LR", "excess", "from", "to", "above best")
        parts.append(table(header, ways))
        parts.append("")
    return "\n".join(parts).rstrip()
