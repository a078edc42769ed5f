"""`lehr report`: one page for the team, with the answer, its evidence and what reproduces it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lehr.cli.common import match_names, print_json, progress, say, show
from lehr.cli.recommend import number
from lehr.errors import InputError, unknown

if TYPE_CHECKING:
    from lehr.fit.files import Fits
    from lehr.report.report import Report
    from lehr.report.study import Question
    from lehr.runs.run import RunSet

FORMATS = {".html": "html", ".htm": "html", ".md": "md", ".markdown": "md", ".json": "json"}
SHOWN = ("png", "svg")  # pictures that Markdown shows


def report(
    source: Annotated[Path, typer.Argument(help="Folder of a store, or a file made by lehr fit --out.")],
    out: Annotated[Path, typer.Option(help="File to write: .html, .md or .json.")] = Path("report.html"),
    format: Annotated[
        str | None, typer.Option(help="html, md or json; default by the name of --out.")
    ] = None,
    store: Annotated[Path | None, typer.Option(help="Store of the runs of a FIT.json, for curves.")] = None,
    steps: Annotated[
        int | None, typer.Option(help="Updates of the planned run; default: longest fitted.")
    ] = None,
    peak_lr: Annotated[str, typer.Option(help="Its peak LR, or auto: the best fitted one.")] = "auto",
    family: Annotated[str, typer.Option(help="Family of schedules.")] = "wsd",
    shape: Annotated[str, typer.Option(help="Decay shape, or auto.")] = "linear",
    final: Annotated[str, typer.Option(help="LR at the end of the decay, or auto.")] = "0",
    warmup: Annotated[int | None, typer.Option(help="Warm-up updates; default as fitted.")] = None,
    params: Annotated[float | None, typer.Option(help="Parameters, for laws with sizes.")] = None,
    params_total: Annotated[
        float | None, typer.Option(help="All parameters but embeddings, for a model of experts.")
    ] = None,
    batch_tokens: Annotated[
        float | None, typer.Option(help="Tokens of an update; default as fitted.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(help="AdamW weight decay; default as fitted.")] = None,
    data: Annotated[str | None, typer.Option(help="Data set, for a fit to several.")] = None,
    law: Annotated[str | None, typer.Option(help="Law to use; default the chosen one.")] = None,
    level: Annotated[float, typer.Option(help="Probability of the intervals.")] = 0.9,
    train: Annotated[list[str] | None, typer.Option(help="Of a store: runs to fit, as patterns.")] = None,
    test: Annotated[
        list[str] | None, typer.Option(help="Of a store: runs to keep apart, as patterns.")
    ] = None,
    draws: Annotated[
        int | None, typer.Option(min=0, help="Of a store: bootstrap draws; default 100.")
    ] = None,
    diagnose: Annotated[bool, typer.Option("--diagnose", help="Also say what the residuals tell.")] = False,
    suggest: Annotated[bool, typer.Option("--suggest", help="Also say which run to add.")] = False,
    title: Annotated[str | None, typer.Option(help="Heading of the report.")] = None,
    figures: Annotated[
        Path | None, typer.Option(help="Folder for its figures as files of their own, and their numbers.")
    ] = None,
    figure_format: Annotated[
        str, typer.Option(help="Of --figures: pdf, svg, png, or json for plotly.")
    ] = "pdf",
    theme: Annotated[str, typer.Option(help="Of --figures: light or dark.")] = "light",
    columns: Annotated[str, typer.Option(help="Of --figures: one or two columns of a paper.")] = "two",
    as_json: Annotated[bool, typer.Option("--json", help="Also print the JSON report.")] = False,
) -> None:
    """Write a report: recommendation, evidence, comparison of laws, warnings, and how to make it again."""
    from datetime import UTC, datetime

    from lehr.files import write_atomic
    from lehr.report.document import to_data
    from lehr.report.gather import TITLE, gather
    from lehr.report.reproduce import Source
    from lehr.report.study import Question, check

    kind = format_of(out, format)
    if not out.parent.is_dir():
        raise InputError(f"the folder of {out} does not exist: create it first.")
    question = Question(
        steps, number("--peak-lr", peak_lr), None if shape == "auto" else shape, number("--final", final), family,
        warmup, params, batch_tokens, weight_decay, data, params_total, law, level,
    )  # fmt: skip
    check(question)
    check_figures(figure_format, theme, columns)
    fits, runs = opened(source, store, question, train, test, draws)
    options = ["--diagnose"] * diagnose + ["--suggest"] * suggest + (["--title", title] if title else [])
    made = Source("" if source.is_dir() else str(source), str(source if source.is_dir() else store or ""),
                  (*options, "--out", str(out)))  # fmt: skip
    with progress(None, "report") as step:
        found = gather(
            fits, question, runs, title=title or TITLE, date=datetime.now(UTC).date().isoformat(), source=made,
            diagnose=diagnose, suggest=suggest, progress=step,
        )  # fmt: skip
    drawn = write_figures(found, figures, figure_format, theme, columns) if figures else {}
    write_atomic(out, rendered(found, kind, seen_from(out, drawn, figure_format)))
    for warning in found.warnings:
        say(f"warning: {warning}")
    if as_json:
        print_json({**to_data(found), "out": str(out)})
    else:
        show(found.answer)
        show(f"written to {out}")


def check_figures(kind: str, theme: str, columns: str) -> None:
    """Refuse what figures cannot be drawn as, before anything is computed.

    Raises
    ------
    InputError
        Naming what there is.
    """
    from lehr.report.draw_matplotlib import WIDTHS
    from lehr.report.palette import THEMES
    from lehr.report.saving import ENDINGS

    for what, value, known in (
        ("format of figures", kind, [ending[1:] for ending in ENDINGS if ending != ".csv"]),
        ("theme", theme, THEMES), ("width of figures in columns", columns, WIDTHS),
    ):  # fmt: skip
        if value not in known:
            raise unknown(what, value, known)


def write_figures(
    found: Report, folder: Path, kind: str, theme: str, columns: str
) -> dict[tuple[str, int], Path]:
    """Write each figure of a report, and its numbers as CSV, by the names of its part and of what it is.

    Returns
    -------
    Files of the figures, by the key of their part and their number in it.
    """
    from lehr.files import make_folder
    from lehr.report.saving import save_chart

    make_folder(folder)
    made: dict[tuple[str, int], Path] = {}
    for part in found.parts:
        for nth, chart in enumerate(part.charts, 1):
            again = f"-{nth}" if sum(each.kind == chart.kind for each in part.charts) > 1 else ""
            place = folder / f"{part.key}-{chart.kind}{again}"
            for ending in (f".{kind}", ".csv"):
                save_chart(chart, place.with_name(place.name + ending), theme, columns)
            made[part.key, nth - 1] = place.with_name(f"{place.name}.{kind}")
    return made


def seen_from(out: Path, drawn: Mapping[tuple[str, int], Path], kind: str) -> dict[tuple[str, int], str]:
    """Paths of figures from the report's folder; none where Markdown cannot show them (PDF, plotly's JSON)."""
    if kind not in SHOWN:
        return {}
    here = out.parent.resolve()
    return {key: Path(os.path.relpath(path.resolve(), here)).as_posix() for key, path in drawn.items()}


def format_of(out: Path, asked: str | None) -> str:
    """Format of the report: the one asked for, or that of the file's name.

    Raises
    ------
    InputError
        If there is no such format.
    """
    kinds = sorted(set(FORMATS.values()))
    if asked is not None:
        if asked not in kinds:
            raise unknown("format of a report", asked, kinds)
        return asked
    ending = out.suffix.lower()
    if ending not in FORMATS:
        raise InputError(f"--out {out} must end in .html, .md or .json: rename it, or name the --format.")
    return FORMATS[ending]


def opened(
    source: Path, store: Path | None, question: Question, train: list[str] | None, test: list[str] | None,
    draws: int | None,
) -> tuple[Fits, RunSet | None]:  # fmt: skip
    """Fits and runs: read from a file and its store, or fitted to those of a store."""
    from lehr.cli.batch import with_batch
    from lehr.cli.fit import fit_all, other_batches
    from lehr.fit.files import load_fits
    from lehr.fit.fit import FitOptions
    from lehr.laws import LAWS, get_law
    from lehr.runs.store import list_runs, load_runs

    if not source.is_dir():
        given = {"--train": train, "--test": test, "--draws": draws}
        for name, value in given.items():
            if value is not None:
                raise InputError(f"{name} goes with a store, but {source} is no folder: leave {name} out.")
        fits = load_fits(source)
        return fits, load_runs(store) if store else None
    if store is not None:
        raise InputError(f"--store goes with a FIT.json, but {source} is a store itself: leave --store out.")
    runs = load_runs(source)
    apart = match_names(test or [], runs.names)
    chosen = match_names(train, runs.names) if train else [name for name in runs.names if name not in apart]
    apart = [name for name in apart if name not in chosen]
    laws = [get_law(question.law)] if question.law else list(LAWS.values())
    fitted = tuple(runs.only(chosen))
    fits = fit_all(laws, fitted, tuple(runs.only(apart)), FitOptions(), 100 if draws is None else draws, 0)
    batches = other_batches(list_runs(source), set(chosen), set(apart))
    return with_batch(fits, fitted, tuple(runs.only(batches)) or fitted), runs


def rendered(found: Report, kind: str, pictures: Mapping[tuple[str, int], str]) -> str:
    """The report as the text of its file; Markdown shows the pictures."""
    if kind == "html":
        from lehr.report.page import to_html

        return to_html(found)
    if kind == "md":
        from lehr.report.markdown import to_markdown

        return to_markdown(found, pictures)
    from lehr.report.document import to_json

    return to_json(found)
