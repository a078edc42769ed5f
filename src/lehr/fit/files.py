"""Fits on disk: one JSON file holds the fit of every law, their held-out errors and the choice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from lehr.errors import InputError, unknown
from lehr.files import read_text, write_atomic
from lehr.fit.compare import Comparison
from lehr.fit.result import FitResult, checked

SCHEMA = 1


@dataclass(frozen=True)
class Fits:
    """Fits of several laws to the same runs.

    Parameters
    ----------
    results : fit by law.
    held_out : mean held-out error by law, a fraction of the loss; absent where none could be measured.
    chosen : the law to use unless told otherwise.
    failed : laws the runs do not identify, with the reason.
    test_errors : per law, per test run, mean absolute relative error on runs kept apart by the user.
    """

    results: Mapping[str, FitResult]
    held_out: Mapping[str, float]
    chosen: str
    failed: Mapping[str, str] = field(default_factory=dict)
    test_errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def get(self, law: str | None = None) -> FitResult:
        """Return the fit of `law`, or of the chosen one.

        Raises
        ------
        InputError
            If the file holds no such fit; the nearest name is suggested.
        """
        name = law or self.chosen
        if name not in self.results:
            raise unknown("fitted law", name, self.results)
        return self.results[name]


def from_comparison(comparison: Comparison, fallback: str = "weight_norm") -> Fits:
    """Turn a comparison into fits; without folds the choice falls on `fallback` if it was fitted."""
    names = list(comparison.results)
    chosen = comparison.chosen or (fallback if fallback in names else names[0])
    held_out = {name: comparison.error(name) for name in names} if comparison.folds else {}
    return Fits(comparison.results, held_out, chosen, comparison.failed)


def save_fits(path: Path, fits: Fits) -> None:
    """Write `fits` to `path`, whole or not at all."""
    data = {
        "lehr_fits": SCHEMA,
        "chosen": fits.chosen,
        "held_out_error": dict(fits.held_out),
        "failed": dict(fits.failed),
        "test_errors": {law: dict(errors) for law, errors in fits.test_errors.items()},
        "laws": {name: json.loads(result.to_json()) for name, result in fits.results.items()},
    }
    write_atomic(path, json.dumps(data, indent=1))


def load_fits(path: Path) -> Fits:
    """Read fits back; nothing in the file is executed.

    Raises
    ------
    InputError
        If the file is missing, no fit, or damaged.
    """
    text = read_text(path, "a file made by `lehr fit --out`")
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not a fit: {error}; make one with `lehr fit --out`.") from None
    if (
        not isinstance(data, dict)
        or data.get("lehr_fits") != SCHEMA
        or not isinstance(data.get("laws"), dict)
    ):
        raise InputError(f"{path} is not a fit of schema {SCHEMA}: make one with `lehr fit --out`.")
    results = {
        name: FitResult.from_json(json.dumps(value), f"{path}: {name}")
        for name, value in data["laws"].items()
    }
    chosen = data.get("chosen")
    if not isinstance(chosen, str) or chosen not in results:
        raise InputError(f"{path} is damaged: it chooses {chosen!r}, which it does not hold; make it again.")
    return Fits(
        results,
        checked(dict[str, float], data.get("held_out_error", {}), f"{path}: held_out_error"),
        chosen,
        checked(dict[str, str], data.get("failed", {}), f"{path}: failed"),
        checked(dict[str, dict[str, float]], data.get("test_errors", {}), f"{path}: test_errors"),
    )
