"""What `lehr fit` says about the batch, where the store holds runs at several."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lehr.cli.common import say

if TYPE_CHECKING:
    from lehr.fit.batch import BatchLaw
    from lehr.fit.files import Fits
    from lehr.runs.run import Run


def with_batch(fits: Fits, fitted: tuple[Run, ...], runs: tuple[Run, ...]) -> Fits:
    """Add to every fit what `runs` (all but those kept apart) tell about the batch; say it if they tell nothing."""
    from lehr.fit.batch_check import batch_law_for

    law, reason = batch_law_for(fitted, runs)
    if reason:
        say(f"warning: the runs have several batches, but B_opt is not known: {reason}.")
    if law is None:
        return fits
    return replace(fits, results={name: replace(found, batch=law) for name, found in fits.results.items()})


def batch_json(law: BatchLaw | None) -> dict[str, Any] | None:
    """B_opt at the lowest loss compared, and how it goes with the loss."""
    if law is None:
        return None
    from lehr.fit.batch import TOLERANCE

    low, high = law.interval(law.losses[0])
    return {
        "kind": law.kind,
        "tolerance": TOLERANCE,
        "loss": law.losses[0],
        "optimal": law.optimal(law.losses[0]),
        "optimal_low": low,
        "optimal_high": high,
        "critical": law.critical(law.losses[0]),
        "exponent": law.exponent,
        "exponent_low": law.exponent_interval()[0],
        "exponent_high": law.exponent_interval()[1],
        "floor": law.floor,
        "misfit": law.misfit,
        "losses": list(law.losses),
        "batches": list(law.batches),
        "peak_lr": law.peak_lr,
        "params": law.params,
        "levels": [{"loss": a, "updates_min": b, "critical": c} for a, b, c in law.levels],
        "warnings": list(law.warnings),
    }


def batch_text(law: BatchLaw) -> list[str]:
    """The same in words."""
    from lehr.fit.batch import TOLERANCE
    from lehr.fit.batch_check import describe

    low, high = law.exponent_interval()
    lines = [
        "",
        f"batch: {describe(law, law.losses[0])}; from it on updates are within {TOLERANCE:.0%} of the fewest",
        f"  {len(law.batches)} batches of {law.batches[0]:g} to {law.batches[-1]:g} tokens compared at losses "
        f"{law.losses[0]:.4g} to {law.losses[1]:.4g}, peak LR {law.peak_lr:g}",
    ]
    if law.kind == "measured":
        lines.append(
            f"  critical batch {law.critical(law.losses[0]):.3g} tokens there; both go as loss^-{law.exponent:.3g} "
            f"({low:.3g} to {high:.3g}); updates misfit {law.misfit:.1%}"
        )
    for note in law.warnings:
        say(f"warning: {note}")
    return lines
