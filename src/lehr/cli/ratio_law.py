"""`lehr ratio-law`: how the best annealing ratio moves with peak LR and steps, from measured runs."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import match_names, print_json, progress, say, show, table
from lehr.errors import InputError

if TYPE_CHECKING:
    from lehr.anneal.ratio_law import RatioLaw
    from lehr.anneal.ratio_transfer import Transfer
    from lehr.anneal.valley import Valley


def ratio_law(
    store: Annotated[Path, typer.Argument(help="Folder of the store.")],
    runs: Annotated[
        list[str] | None, typer.Option(help="Runs to use, as patterns; repeatable. Default: all.")
    ] = None,
    form: Annotated[str | None, typer.Option(help="logistic, logistic_free or power. Default: best.")] = None,
    steps: Annotated[int | None, typer.Option(help="Updates of a planned run, for its ratio.")] = None,
    peak_lr: Annotated[float | None, typer.Option(help="Its peak LR.")] = None,
    fit: Annotated[Path | None, typer.Option(help="Fit whose trends to check against the runs.")] = None,
    law: Annotated[str | None, typer.Option(help="Law of that fit; default the chosen one.")] = None,
    transfer: Annotated[
        list[str] | None, typer.Option(help="Other runs of the store to check the ratio law on, as patterns.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fit the best annealing ratio against peak LR and steps; check that it holds elsewhere."""
    from lehr.anneal.ratio_law import fit_ratio_law
    from lehr.anneal.ratio_transfer import check_transfer
    from lehr.anneal.valley import measure_valleys
    from lehr.runs.store import load_runs

    if (steps is None) != (peak_lr is None):
        raise InputError("--steps and --peak-lr go together: give both to get the ratio of a planned run.")
    if (steps is not None and steps < 1) or (peak_lr is not None and not peak_lr > 0):
        raise InputError(f"--steps and --peak-lr must be above 0, got {steps} and {peak_lr}.")
    held = load_runs(store)
    other = match_names(transfer or [], held.names)
    own = match_names(runs, held.names) if runs else [n for n in held.names if n not in other]
    valleys = measure_valleys(held.only(own))
    one_kind(valleys)
    found = fit_ratio_law(valleys, form)
    checked = check_transfer(found, measure_valleys(held.only(other))) if other else None
    notes = law_notes(fit, law, valleys, found) if fit else ()
    planned = found.ratio(peak_lr, steps) if peak_lr is not None and steps is not None else None
    if as_json:
        print_json(to_json(found, valleys, planned, checked, notes))
    else:
        show(to_text(found, valleys, planned, checked, notes))


def one_kind(valleys: tuple[Valley, ...]) -> None:
    """Refuse groups that differ in more than peak LR and length.

    Raises
    ------
    InputError
        Naming what differs.
    """
    for name in ("params", "dataset", "shape", "final"):
        values = sorted({getattr(v, name) for v in valleys}, key=str)
        if len(values) > 1:
            raise InputError(
                f"the runs differ in {name} ({', '.join(map(str, values))}), which a ratio law does not know: "
                "choose those of one with --runs, and check the others with --transfer."
            )


def law_notes(path: Path, law: str | None, valleys: tuple[Valley, ...], found: RatioLaw) -> tuple[str, ...]:
    """Where the trends of a fitted law contradict the runs."""
    from lehr.anneal.ratio_law import fit_ratio_law, law_points
    from lehr.anneal.ratio_transfer import contradictions
    from lehr.fit.files import load_fits

    result = load_fits(path).get(law)
    places = [(v.peak, v.steps) for v in valleys if not v.at_edge]
    with progress(1, "asking the law") as step:
        step(result.law)
        told = law_points(
            result, places, shape=valleys[0].shape, final=valleys[0].final, params=valleys[0].params
        )
    return contradictions(found, fit_ratio_law(told, found.form))


def to_json(
    found: RatioLaw, valleys: tuple[Valley, ...], planned: tuple[float, float, float] | None,
    checked: Transfer | None, notes: tuple[str, ...],
) -> dict[str, Any]:  # fmt: skip
    """Everything found, by name."""
    names = ("ratio", "ratio_low", "ratio_high")
    return {
        "law": {**asdict(found), "trends": found.trends()},
        "valleys": [asdict(valley) for valley in valleys],
        "planned": dict(zip(names, planned, strict=True)) if planned else None,
        "transfer": asdict(checked) if checked else None,
        "warnings": list(notes),
    }


def to_text(
    found: RatioLaw, valleys: tuple[Valley, ...], planned: tuple[float, float, float] | None,
    checked: Transfer | None, notes: tuple[str, ...],
) -> str:  # fmt: skip
    """Measured and fitted ratios, the trends, then the planned run and the transfer."""
    for note in notes:
        say(f"warning: {note}")
    rows = []
    for v in valleys:
        told, low, high = found.ratio(v.peak, v.steps)
        measured = f"{v.ratio:.3f}" + (" (edge)" if v.at_edge else "")
        rows.append((f"{v.peak:g}", str(v.steps), measured, f"{told:.3f}", f"{low:.3f} to {high:.3f}"))
    lines = [
        table(("peak LR", "steps", "measured ratio", "fitted", "interval"), rows),
        "",
        f"form {found.form}; error on hidden groups {found.held_out_error:.3f}",
        *(
            f"  with ln {name.replace('_', ' ')}: {value:+.3f}  [{low:+.3f}, {high:+.3f}]"
            for name, (value, low, high) in found.trends().items()
        ),
    ]
    if planned:
        lines.append(f"planned run: ratio {planned[0]:.3f}, interval {planned[1]:.3f} to {planned[2]:.3f}")
    if checked:
        lines.append(
            f"transfer: {checked.verdict} ({len(checked.rows)} groups, mean error {checked.mean_error:.3f})"
        )
    return "\n".join(lines)
