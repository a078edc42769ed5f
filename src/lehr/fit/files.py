"""Fits on disk: one JSON file holds the fit of every law, their held-out errors and the choice."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from lehr.errors import InputError, unknown
from lehr.files import read_text, write_atomic
from lehr.fit.compare import Comparison
from lehr.fit.folds import Kind
from lehr.fit.result import FitResult, checked
from lehr.fit.stack import STACK, Stack, StackScore

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
    by_kind : held-out error by law and kind of fold (`lehr.fit.folds`); empty in files of older versions.
    stack_weights : weight by law of a stack (`lehr.fit.stack`), empty without one.
    stack_score : its cross-validated error, None where none could be measured.
    """

    results: Mapping[str, FitResult]
    held_out: Mapping[str, float]
    chosen: str
    failed: Mapping[str, str] = field(default_factory=dict)
    test_errors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    by_kind: Mapping[str, Mapping[Kind, float]] = field(default_factory=dict)
    stack_weights: Mapping[str, float] = field(default_factory=dict)
    stack_score: StackScore | None = None

    def get(self, law: str | None = None) -> FitResult:
        """Return the fit of `law`, or of the chosen one.

        Raises
        ------
        InputError
            If the file holds no such fit; the nearest name is suggested. Or if the stack is asked for,
            which is no law: it predicts curves alone.
        """
        name = law or self.chosen
        if name == STACK:
            raise InputError(
                "the stack of laws predicts curves (lehr predict) and answers nothing else: name one law, "
                "or none for the chosen one."
            )
        if name not in self.results:
            raise unknown("fitted law", name, self.results)
        return self.results[name]

    def get_stack(self) -> Stack:
        """Return the stack of laws.

        Raises
        ------
        InputError
            If none was made.
        """
        if not self.stack_weights:
            raise InputError("these fits hold no stack of laws: make them with `lehr fit --stack`.")
        return Stack(self.stack_weights, {name: self.results[name] for name in self.stack_weights})


def from_comparison(comparison: Comparison, fallback: str = "weight_norm") -> Fits:
    """Turn a comparison into fits; without folds the choice falls on `fallback` if it was fitted."""
    names = list(comparison.results)
    chosen = comparison.chosen or (fallback if fallback in names else names[0])
    held_out = {name: comparison.error(name) for name in names} if comparison.folds else {}
    by_kind = {name: comparison.by_kind(name) for name in held_out}
    return Fits(comparison.results, held_out, chosen, comparison.failed, by_kind=by_kind)


def fits_text(fits: Fits) -> str:
    """Return `fits` as the text of their file."""
    data = {
        "lehr_fits": SCHEMA,
        "chosen": fits.chosen,
        "held_out_error": dict(fits.held_out),
        "held_out_by_kind": {law: dict(errors) for law, errors in fits.by_kind.items()},
        "stack_weights": dict(fits.stack_weights),
        "stack_score": asdict(fits.stack_score) if fits.stack_score else None,
        "failed": dict(fits.failed),
        "test_errors": {law: dict(errors) for law, errors in fits.test_errors.items()},
        "laws": {name: json.loads(result.to_json()) for name, result in fits.results.items()},
    }
    return json.dumps(data, indent=1)


def save_fits(path: Path, fits: Fits) -> None:
    """Write `fits` to `path`, whole or not at all."""
    write_atomic(path, fits_text(fits))


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
    weights = checked(dict[str, float], data.get("stack_weights", {}), f"{path}: stack_weights")
    if weights and not (
        weights.keys() <= results.keys()
        and min(weights.values()) > 0
        and abs(sum(weights.values()) - 1) < 1e-6
    ):
        raise InputError(
            f"{path} is damaged: its stack_weights are not above 0 with the sum 1 over laws it holds; make it again."
        )
    return Fits(
        results,
        checked(dict[str, float], data.get("held_out_error", {}), f"{path}: held_out_error"),
        chosen,
        checked(dict[str, str], data.get("failed", {}), f"{path}: failed"),
        checked(dict[str, dict[str, float]], data.get("test_errors", {}), f"{path}: test_errors"),
        checked(dict[str, dict[Kind, float]], data.get("held_out_by_kind", {}), f"{path}: held_out_by_kind"),
        weights,
        checked(StackScore | None, data.get("stack_score"), f"{path}: stack_score"),
    )
