"""`lehr fit`: laws to the runs of a store, compared on hidden losses."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.batch import batch_json, batch_text, with_batch
from lehr.cli.common import match_names, print_json, progress, say, show, table
from lehr.cli.fit_jobs import Jobs, jobs_of
from lehr.cli.sweep_file import BASE_HELP, SWEEP_HELP, target_of, write_suggestion
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
    source: Annotated[
        Path | None,
        typer.Option("--from", help="Fits to keep the shape of, with a new level and scale from these runs."),
    ] = None,
    burn_in: Annotated[int | None, typer.Option(help="Leave out points at fewer updates.")] = None,
    draws: Annotated[int, typer.Option(min=0, help="Bootstrap draws for the chosen law.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the bootstrap.")] = 0,
    stack: Annotated[
        bool, typer.Option("--stack", help="Also average the laws by weights learned on hidden losses.")
    ] = False,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes that share the laws; default that of the cores.")
    ] = None,
    jobs: Annotated[
        Path | None, typer.Option(help="Folder to compare in by jobs, which workers anywhere share.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(help="Of --jobs: local (the default), or slurm or ray, a cluster.")
    ] = None,
    engine_options: Annotated[
        Path | None, typer.Option(help="TOML file with [engine.slurm] or [engine.ray], such as a SWEEP.toml.")
    ] = None,
    diagnose: Annotated[bool, typer.Option("--diagnose", help="Say how far the fit can be trusted.")] = False,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="Say which run to add for a planned one.")
    ] = False,
    steps: Annotated[int | None, typer.Option(help="Updates of the planned run, for --suggest.")] = None,
    peak_lr: Annotated[float | None, typer.Option(help="Its peak LR, for --suggest.")] = None,
    budget: Annotated[
        int | None, typer.Option(help="Updates that added runs may cost; default: the longest fitted run.")
    ] = None,
    sweep: Annotated[Path | None, typer.Option(help=SWEEP_HELP)] = None,
    base: Annotated[Path | None, typer.Option(help=BASE_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fit one law or all, rank them by their error on hidden losses."""
    from lehr.cli import trust
    from lehr.fit.files import save_fits
    from lehr.fit.fit import FitOptions
    from lehr.laws import LAWS, get_law
    from lehr.runs.store import list_runs, load_runs

    _check_together(law, stack, source, jobs)
    shared = jobs_of(jobs, store, workers, engine, engine_options)
    wanted = trust.Wanted(diagnose, suggest, steps, peak_lr, budget)
    wanted.check(draws)
    target = target_of(sweep, base, suggest)
    laws = list(LAWS.values()) if law == "all" else [get_law(law)]
    if out is not None and not out.parent.is_dir():
        raise InputError(f"the folder of {out} does not exist: create it first.")
    records = list_runs(store)  # a store may hold many runs: only those needed are loaded
    names = [record["name"] for record in records]
    apart = match_names(test or [], names)
    if train:  # asked for by name: a test pattern that matches such a run does not take it away
        chosen = match_names(train, names)
        apart = [name for name in apart if name not in chosen]
    else:
        chosen = [name for name in names if name not in apart]
    batches = other_batches(records, set(chosen), set(apart))
    runs = load_runs(store, dict.fromkeys([*chosen, *apart, *batches]))
    fitted, scored = tuple(runs.only(chosen)), tuple(runs.only(apart))
    if source is not None:
        fits = move_all(source, None if law == "all" else law, fitted, scored, burn_in, draws, seed)
    else:
        options = FitOptions(burn_in=burn_in)
        fits = fit_all(laws, fitted, scored, options, draws, seed, stack, workers, shared)
        fits = with_batch(fits, fitted, tuple(runs.only(batches)) or fitted)
    if out is not None:
        save_fits(out, fits)
    found = trust.examine(fits.get(), tuple(runs.only(chosen)), wanted)
    write_suggestion(found.get("suggestions"), fits.get().domain, target, store)
    if as_json:
        print_json({**to_json(fits), **trust.to_json(found)})
    else:
        show(to_text(fits))
        if found:
            show("\n" + trust.to_text(found))


def _check_together(law: str, stack: bool, source: Path | None, jobs: Path | None) -> None:
    """Refuse options that do not go together."""
    from lehr.fit.stack import STACK

    if law == STACK:
        raise InputError("a stack averages the laws that are fitted: use --law all --stack.")
    if stack and source is not None:
        raise InputError("--stack learns its weights from fits of its own: leave it out with --from.")
    if jobs is not None and source is not None:
        raise InputError("--jobs shares a comparison of fits: leave it out with --from.")


def other_batches(records: list[dict[str, Any]], chosen: set[str], apart: set[str]) -> list[str]:
    """Names of the runs of a size and peak LR that was `chosen`, if they have several batches; else none."""
    from lehr.fit.batch import distinct

    def kind(record: dict[str, Any]) -> tuple[float | None, str]:
        return record["params"], f"{record['peak_lr']:.6g}"

    like = {kind(record) for record in records if record["name"] in chosen}
    peers = [record for record in records if kind(record) in like and record["name"] not in apart]
    several = len(distinct(r["batch_tokens"] for r in peers if r["batch_tokens"] is not None)) > 1
    return [record["name"] for record in peers] if several else []


def fit_all(
    laws: list[Any], train: tuple[Run, ...], test: tuple[Run, ...], options: Any, draws: int, seed: int,
    stack: bool = False, workers: int | None = None, jobs: Jobs | None = None,
) -> Fits:  # fmt: skip
    """Fit, compare, bootstrap the chosen law and those of the stack, score the runs kept apart."""
    from lehr.fit.compare import compare
    from lehr.fit.files import from_comparison
    from lehr.fit.stack import learn_weights
    from lehr.fit.stack import score as score_stack
    from lehr.fit.uncertainty import bootstrap_all

    with progress(len(laws) + 1, "fitting") as step:
        if jobs:
            found, plan = jobs.compare(laws, train, options)
        else:
            found, plan = compare(laws, train, options, step, workers), None
        fits = from_comparison(found)
        if stack:
            fits = replace(
                fits, stack_weights=learn_weights(found.held_out, found.folds),
                stack_score=score_stack(found.held_out, found.folds),
            )  # fmt: skip
        if draws:
            step("bootstrap")
            wanted = {name: fits.results[name] for name in (fits.chosen, *fits.stack_weights)}
            drawn = (
                jobs.bootstrap(plan, wanted, draws, seed)
                if jobs and plan
                else bootstrap_all(wanted, train, draws, seed, workers)
            )
            fits = replace(fits, results={**fits.results, **drawn})
    return replace(fits, test_errors=score(fits, test)) if test else fits


def move_all(
    source: Path, law: str | None, train: tuple[Run, ...], test: tuple[Run, ...], burn_in: int | None, draws: int,
    seed: int,
) -> Fits:  # fmt: skip
    """Move the fits of a file to the runs given and score those kept apart."""
    from lehr.fit.adapt import adapt_fits
    from lehr.fit.files import load_fits

    stored = load_fits(source)
    with progress(len(stored.results), "moving") as step:
        fits = adapt_fits(stored, train, law, draws, seed, burn_in, step)
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
                "held_out_by_kind": dict(fits.by_kind.get(name, {})),
                "test_errors": fits.test_errors.get(name, {}),
                "warnings": list(result.warnings),
                **({"adapted": dict(result.adapted)} if result.adapted else {}),
            }
            for name, result in fits.results.items()
        },
        "failed": dict(fits.failed),
        "batch": batch_json(fits.get().batch),
        "stack": {
            "weights": dict(fits.stack_weights),
            "score": fits.stack_score and asdict(fits.stack_score),
        },
    }


def to_text(fits: Fits) -> str:
    """Table of the laws, best first, then the chosen law's parameters."""
    from lehr.fit.compare import RESOLUTION

    lines = [*_ranking(fits), ""]
    chosen = fits.results[fits.chosen]
    lines.append(f"chosen: {fits.chosen} ({chosen.get_law().title})")
    if fits.held_out and fits.held_out[fits.chosen] > min(fits.held_out.values()):
        lines.append(
            f"  (errors within {RESOLUTION:.1%} of the loss of the smallest are tied; "
            "it is the first of them in the table of laws)"
        )
    for name, value in chosen.parameters.items():
        low, high = chosen.intervals.get(name, (None, None))
        band = f"  [{low:.4g}, {high:.4g}]" if low is not None else ""
        lines.append(f"  {name} = {value:.4g}{band}{'  (at its bound)' if name in chosen.at_bounds else ''}")
    if chosen.batch:
        lines += batch_text(chosen.batch)
    lines += _stack(fits)
    for warning in chosen.warnings:
        say(f"warning: {warning}")
    if fits.failed and not any(result.get_law().needs_anneal for result in fits.results.values()):
        say(
            "warning: no law with an annealing term was fitted: no annealing ratio can be recommended from this."
        )
    for name, reason in fits.failed.items():
        say(f"not fitted: {name}: {reason}")
    return "\n".join(lines)


def _ranking(fits: Fits) -> list[str]:
    """Table of the laws with their errors, overall and by kind of fold; what the kinds are."""
    import math

    from lehr.fit.folds import KINDS

    kinds = [kind for kind in KINDS if any(kind in errors for errors in fits.by_kind.values())]
    rows = []
    for name in sorted(fits.results, key=lambda name: fits.held_out.get(name, math.inf)):
        result, held, by_kind = fits.results[name], fits.held_out.get(name), fits.by_kind.get(name, {})
        tested = fits.test_errors.get(name, {})
        rows.append((
            name + (" *" if name == fits.chosen else ""), f"{held:.3%}" if held is not None else "-",
            *(f"{by_kind[kind]:.3%}" if kind in by_kind else "-" for kind in kinds),
            f"{sum(tested.values()) / len(tested):.3%}" if tested else "-", result.status,
            f"{result.starts_agreeing}/{result.starts_polished}",
        ))  # fmt: skip
    columns = (
        "law",
        "held-out error",
        *(KINDS[kind] for kind in kinds),
        "test error",
        "status",
        "starts agreeing",
    )
    lines = [table(columns, rows)]
    if len(kinds) > 1:
        lines.append(
            "held-out error: the geometric mean of those by what was hidden "
            f"({', '.join(KINDS[kind] for kind in kinds)})"
        )
    return lines


def _stack(fits: Fits) -> list[str]:
    """The stack's weights and whether it pays, if there is one; errors tie as in the choice of a law."""
    from lehr.fit.compare import RESOLUTION

    if not fits.stack_weights:
        return []
    weights = sorted(fits.stack_weights.items(), key=lambda pair: -pair[1])
    lines = ["", "stack: " + " + ".join(f"{weight:.3f} {name}" for name, weight in weights)]
    if fits.stack_score is None:
        return [*lines, "  (too few hidden losses to tell whether it predicts better than one law)"]
    stack, single = fits.stack_score.stack, fits.stack_score.single
    tied = abs(stack - single) <= RESOLUTION
    verdict = "a tie: prefer the chosen law" if tied else "it pays" if stack < single else "it does not pay"
    lines.append(
        f"  error on hidden losses that had no part in the weights: {stack:.3%}; of one law chosen so: {single:.3%} "
        f"({verdict})"
    )
    return lines
