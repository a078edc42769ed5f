"""Where a law in updates holds at another batch than it was fitted to, and where that is refused.

Most laws count updates. Curves of two batches lie on each other in updates only if both are at least B_opt
at the losses concerned (`lehr.fit.batch`); what lies below it is refused. Without a known B_opt a
smaller batch is refused too: its loss is higher, by nobody knows how much. A larger one comes with a
warning: at equal peak LR its loss is not higher, so that the prediction errs to the safe side.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from lehr.errors import InputError, LehrError
from lehr.fit.batch import SAME, TOLERANCE, BatchLaw, distinct
from lehr.fit.batch_estimate import comparable, estimate_batch
from lehr.fit.result import FitResult
from lehr.laws.law import Conditions, Law, counts_tokens
from lehr.runs.run import Run

HOW = "run several batches that differ in nothing else (docs/batch-size.md)"


@lru_cache(maxsize=8)
def batch_law_among(runs: tuple[Run, ...]) -> tuple[BatchLaw | None, str]:
    """The law of the largest group of `runs` that differ in the batch alone, or None and the reason."""
    groups = comparable(runs)
    reason = "no two of the runs differ in the batch alone"
    for group in groups:
        try:
            return estimate_batch(group), ""
        except LehrError as error:
            reason = str(error).rstrip(".")
    return None, reason


def batch_law_for(fitted: Iterable[Run], runs: Iterable[Run]) -> tuple[BatchLaw | None, str]:
    """The law that those of `runs` tell which share the size and the peak LR of a `fitted` one, or why none.

    The reason is empty where these runs have one batch, so that there is nothing to ask.
    """
    like = {(run.params, float(f"{run.schedule.peak:.6g}")) for run in fitted}
    chosen = tuple(run for run in runs if (run.params, float(f"{run.schedule.peak:.6g}")) in like)
    if len(distinct(run.batch_tokens for run in chosen if run.batch_tokens is not None)) < 2:
        return None, ""
    return batch_law_among(chosen)


def check_fitted(law: Law, runs: tuple[Run, ...]) -> tuple[BatchLaw | None, list[str]]:
    """Refuse runs of several batches that a law in updates cannot describe together.

    Returns what they say about the batch, if there are several, and warnings.

    Raises
    ------
    InputError
        If a batch lies below B_opt at the lowest loss of the runs, or B_opt is not known. Laws with sizes
        are only warned of the latter, since larger models usually have larger batches.
    """
    batches = distinct(run.batch_tokens for run in runs if run.batch_tokens is not None)
    if counts_tokens(law) or len(batches) < 2:
        return None, []
    found, reason = batch_law_among(runs)
    several = f"the runs have batches of {batches[0]:g} to {batches[-1]:g} tokens, but law {law.name} counts updates"
    if found is None:
        if law.needs_sizes and len({run.params for run in runs}) > 1:
            return None, [f"{several}: what the batch does counts as an effect of the size."]
        raise InputError(
            f"{several}, and B_opt is not known ({reason}): fit each batch by itself (--train), or {HOW}."
        )
    loss = min(float(run.loss.min()) for run in runs)
    if batches[0] < found.optimal(loss) or found.kind == "at_least":
        raise InputError(
            f"{several}, in which curves lie on each other only from {describe(found, loss)} on: "
            "fit each batch by itself (--train)."
        )
    notes = [f"{several}: their curves lie on each other up to {TOLERANCE:.0%} of the updates."]
    if batches[0] < found.interval(loss)[1]:
        notes.append(f"whether all batches are at least B_opt is not certain: {describe(found, loss)}.")
    return found, notes


def check_planned(result: FitResult, planned: Conditions, loss: float) -> tuple[str, ...]:
    """Refuse a planned batch at which the fitted law does not hold; return warnings.

    Parameters
    ----------
    result : a fit, with its `batch` if B_opt was measured.
    planned : the planned run; a batch of None stands for that of the fitted runs.
    loss : the lowest loss predicted, where B_opt is largest.

    Raises
    ------
    InputError
        See the module's text.
    """
    batch_tokens = planned.batch_tokens
    if batch_tokens is None or counts_tokens(result.get_law()):
        return ()
    if not 0 < batch_tokens < float("inf"):
        raise InputError(
            f"batch_tokens must be above 0, got {batch_tokens!r}: give the batch size in tokens."
        )
    if result.domain.batch_tokens is None:
        return ("the fitted runs do not tell their batch: the prediction holds for that batch alone.",)
    low, high = result.domain.batch_tokens
    if len(distinct([low, high, batch_tokens])) == 1:
        return ()
    fitted = _span((low, high))
    if result.batch is None:
        if batch_tokens < low:
            raise InputError(
                f"batch_tokens {batch_tokens:g} is smaller than the fitted {fitted}, and this fit knows no B_opt: at a "
                f"smaller batch a law in updates is too low by an unknown amount; fit runs at that batch, or {HOW}."
            )
        return (
            f"batch_tokens {batch_tokens:g} differs from the fitted {fitted}, and this fit knows no B_opt: at equal "
            f"peak LR the loss of a larger batch is at most about the one predicted; to know more, {HOW}.",
        )
    return _known(result.batch, (low, high), planned, batch_tokens, loss)


def _known(
    law: BatchLaw, fitted: tuple[float, float], planned: Conditions, batch: float, loss: float
) -> tuple[str, ...]:
    """Refuse or warn where B_opt is known."""
    smallest = min(batch, *fitted)
    differs = f"batch_tokens {batch:g} differs from the fitted {_span(fitted)}"
    if smallest < law.optimal(loss) or law.kind == "at_least":
        raise InputError(
            f"{differs}, and at the loss predicted a law in updates holds for both only from "
            f"{describe(law, loss)} on{_cost(law, fitted, batch, loss)}: fit runs at {batch:g} tokens, or "
            "predict at the fitted batch."
        )
    notes = [f"{differs}: the updates needed differ by up to {TOLERANCE:.0%}, which the band does not hold."]
    if smallest < law.interval(loss)[1]:
        notes.append(f"whether both batches are at least B_opt is not certain: {describe(law, loss)}.")
    if not law.losses[0] * (1 - SAME) <= loss:
        notes.append(
            f"B_opt was measured down to a loss of {law.losses[0]:.4g}: at {loss:.4g} it is extrapolated."
        )
    peak = planned.schedule.peak
    if abs(peak / law.peak_lr - 1) > SAME:
        notes.append(f"B_opt was measured at peak LR {law.peak_lr:g}: at {peak:g} it may be another.")
    if planned.params and law.params and abs(planned.params / law.params - 1) > SAME:
        notes.append(f"B_opt was measured at {law.params:g} parameters: at {planned.params:g} it is another.")
    return tuple(notes)


def _cost(law: BatchLaw, fitted: tuple[float, float], planned: float, loss: float) -> str:
    """How the updates of the planned batch compare, where that was measured."""
    nearest = fitted[0] if planned < fitted[0] else fitted[1]
    ratio = law.updates_ratio(loss, planned, nearest)
    if law.kind != "measured" or not 0 < ratio < float("inf"):
        return ""
    return f" (there {planned:g} takes about {ratio:.2g} times the updates of {nearest:g})"


def _span(batches: tuple[float, float]) -> str:
    low, high = batches
    return f"{low:g}" if low == high else f"{low:g} .. {high:g}"


def describe(law: BatchLaw, loss: float) -> str:
    """B_opt at `loss` in words."""
    low, high = law.interval(loss)
    value = law.optimal(loss)
    if law.kind != "measured":
        word = "at most" if law.kind == "at_most" else "at least"
        return f"B_opt, {word} {value:.3g} tokens (95 %) at loss {loss:.4g}"
    return f"B_opt = {value:.3g} tokens (90 %: {low:.3g} to {high:.3g}) at loss {loss:.4g}"
