"""Tokens of one update, told by a count of tokens beside the steps."""

from __future__ import annotations

import numpy as np

from lehr.errors import bad


def batch_of_tokens(
    step: np.ndarray, tokens: np.ndarray, given: float | None, where: str, report: list[str]
) -> float | None:
    """Return tokens of one update; None if neither they nor `given` tell.

    Parameters
    ----------
    step, tokens : shape (n,), updates done and tokens seen, finite.
    given : what the user says it is.
    where : the log, as messages name it.
    report : what was found is added to it.

    Raises
    ------
    InputError
        If the counts contradict `given` by more than a hundredth.
    """
    if step.size < 2 or step.min() == step.max():
        return given
    slope, start = np.polyfit(step, tokens, 1)
    misfit = np.abs(start + slope * step - tokens).max() / np.ptp(tokens) if np.ptp(tokens) else np.inf
    if not (slope > 0 and misfit <= 1e-3):
        report.append("tokens are not proportional to steps: no batch size was taken from them")
        return given
    if given is not None and abs(slope / given - 1) > 0.01:
        raise bad(
            f"{where}: batch_tokens", f"must agree with the tokens column, {slope:.6g} an update", given,
            "correct it or leave it out",
        )  # fmt: skip
    report.append(f"batch size from the tokens column: {slope:.6g} tokens an update")
    return given if given is not None else float(slope)
