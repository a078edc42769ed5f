"""`lehr fit`: laws to the runs of a store, compared on hidden losses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import match_names, print_json, progress, say, table
from lehr.errors import InputError

if TYPE_CHECKING:
    from lehr.fit.files import Fits
    from lehr.runs.run import Run


def fit(
    store: Annotated[Path, typer.Argument(help="Folder of the store.")],
    law: Annotated[str, typer.Option(help="Name of a law, or all.")] = "all",
    train: Annotated[
        list[str] | None, typer.Option(help="Runs to fit, as patterns; repeatable. Default: all.")
    ] = None,
    test: Annotated[list[str] | None, typer.Option(help="Runs to score but not fit, as patterns.")] = None,
    out: Annotated[Path | None, typer.Option(help="File to write the fits to.")] = None,
    burn_in: Annotated[int | None, typer.Option(help="Leave out points at fewer updates.")] = None,
    draws: Annotated[int, typer.Option(min=0, help="Bootstrap draws for the chosen law.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    diagnose: Annotated[bool, typer.Option("--diagnose", help="Say how far the fit can be trusted.")] = False,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Say which run to add for a planned one.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Updates of the planned run, for --suggest.")] = None,
    peak_lr: Annotated[float | None, typer.Option(help="Its peak LR, for --suggest.")] = None,
    budget: Annotated[
        int | None, typer.Option(help="Updates that added runs may cost; default: the longest fitted run.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fit one law or all, rank them by their error on hidden losses."""
    from lehr.cli import trust
    from lehr.fit.files import save_fits
    from lehr.fit.fit import FitOptions
    from lehr.laws import LAWS, get_law
    from lehr.runs.store import load_runs

    wanted = trust.Wanted(diagnose, suggest, steps, peak_lr, budget)
    wanted.check(draws)
    laws = list(LAWS.values()) if law == "all" else [get_law(law)]
    if out is not None and not out.parent.is_dir():
        raise InputError(f"the folder of {out} does not exist: create it first.")
    runs = load_runs(store)
    apart = match_names(test or [], runs.names)
    if train:  # asked for by name: a test pattern that matches such a run does not take it away
        chosen = match_names(train, runs.names)
        apart = [name for name in apart if name not in chosen]
    else:
        chosen = [name for name in runs.names if name not in apart]
    fits = fit_all(
        laws, tuple(runs.only(chosen)), tuple(runs.only(apart)), FitOptions(burn_in=burn_in), draws, seed
    )
    if out is not None:
        save_fits(out, fits)
    found = trust.examine(fits.get(), tuple(runs.only(chosen)), wanted)
    if as_json:
        print_json({**to_json(fits), **trust.to_json(found)})
    else:
        print(to_text(fits))
        if found:
            print("\n" + trust.to_text(found))


def fit_all(
    laws: list[Any], train: tuple[Run, ...], test: tuple[Run, ...], options: Any, draws: int, seed: int
) -> Fits:
    """Fit, compare, bootstrap the chosen law and score the runs kept apart."""
    from lehr.fit.compare import compare
    from lehr.fit.files import from_comparison
    from lehr.fit.uncertainty import bootstrap

    with progress(len(laws) + 1, "fitting") as step:
        fits = from_comparison(compare(laws, train, options, step))
        if draws:
            step("bootstrap")
            results = dict(fits.results)
            results[fits.chosen] = bootstrap(results[fits.chosen], train, draws, seed)
            fits = replace(fits, results=results)
    return replace(fits, test_errors=score(fits, test)) if test else fits


def score(fits: Fits, test: tuple[Run, ...]) -> dict[str, dict[str, float]]:
    """Mean absolute relative error of every fitted law on each of the `test` runs."""
    import numpy as np

    from lehr.fit.fit import conditions_of

    errors: dict[str, dict[str, float]] = {}
    for name, result in fits.results.items():
        errors[name] = {}
        for run in test:
            keep = run.step >= max(1, result.domain.burn_in)
            loss = result.evaluate(conditions_of(run), run.step[keep])
            errors[name][run.name] = float(np.mean(np.abs(loss / run.loss[keep] - 1)))
    return errors


def to_json(fits: Fits) -> dict[str, Any]:
    """The contract's keys, and what else the fits know."""
    return {
        "chosen": fits.chosen,
        "laws": {
            name: {
                "parameters": dict(result.parameters),
                "intervals": dict(result.intervals),
                "status": result.status,
                "held_out_error": fits.held_out.get(name),
                "test_errors": fits.test_errors.get(name, {}),
                "warnings": list(result.warnings),
            }
            for name, result in fits.results.items()
        },
        "failed": dict(fits.failed),
    }


def to_text(fits: Fits) -> str:
    """Table of the laws, best first, then the chosen law's parameters."""
    import math

    from lehr.fit.compare import RESOLUTION

    order = sorted(fits.results, key=lambda name: fits.held_out.get(name, math.inf))
    rows = []
    for name in order:
        result, held = fits.results[name], fits.held_out.get(name)
        tested = fits.test_errors.get(name, {})
        rows.append((
            name + (" *" if name == fits.chosen else ""), f"{held:.3%}" if held is not None else "-",
            f"{sum(tested.values()) / len(tested):.3%}" if tested else "-", result.status,
            f"{result.starts_agreeing}/{result.starts_polished}",
        ))  # fmt: skip
    lines = [table(("law", "held-out error", "test error", "status", "starts agreeing"), rows), ""]
    chosen = fits.results[fits.chosen]
    lines.append(f"chosen: {fits.chosen} ({chosen.get_law().title})")
    if fits.held_out and fits.chosen != order[0]:
        lines.append(
            f"  (errors within {RESOLUTION:.1%} of the loss of the smallest are tied; "
            "it is the first of them in the table of laws)"
        )
    for name, value in chosen.parameters.items():
        low, high = chosen.intervals.get(name, (None, None))
        band = f"  [{low:.4g}, {high:.4g}]" if low is not None else ""
        lines.append(f"  {name} = {value:.4g}{band}{'  (at its bound)' if name in chosen.at_bounds else ''}")
    for warning in chosen.warnings:
        say(f"warning: {warning}")
    if fits.failed and not any(result.get_law().needs_anneal for result in fits.results.values()):
        say(
            "warning: no law with an annealing term was fitted: no annealing ratio can be recommended from this."
        )
    for name, reason in fits.failed.items():
        say(f"not fitted: {name}: {reason}")
    return "\n".join(lines)
