"""What the benchmarks share: the laws they run, stacks of them, tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lehr.errors import InputError
from lehr.fit.compare import Comparison
from lehr.fit.result import FitResult
from lehr.fit.stack import Stack, learn_weights, score
from lehr.laws import LAWS
from lehr.laws.law import Law


def one_size_laws() -> tuple[Law, ...]:
    """Every law of the table that does without the number of parameters."""
    return tuple(law for law in LAWS.values() if not law.needs_sizes)


def held_out(choice: Comparison, law: str) -> dict[str, Any]:
    """Errors of `law` on losses hidden within the training runs."""
    return {"held_out_error": choice.error(law), "held_out_by_kind": choice.by_kind(law)}


def stack(choice: Comparison, members: Mapping[str, FitResult]) -> tuple[Stack, dict[str, Any]] | None:
    """The stack that the hidden losses give, and its cross-validated error beside that of one law; or None."""
    try:
        weights = learn_weights(choice.held_out, choice.folds)
        judged = score(choice.held_out, choice.folds)
    except InputError:
        return None
    return Stack(weights, {law: members[law] for law in weights}), {
        "weights": weights,
        "held_out_error": judged and judged.stack,
        "single_held_out_error": judged and judged.single,
    }


def print_table(title: str, rows: Mapping[str, Mapping[str, Any]], columns: tuple[str, ...]) -> None:
    """Print rows by name as a plain table; fractions to five digits."""
    print(f"\n{title}")
    print("  ".join([f"{'law':22s}", *(f"{c:>18s}" for c in columns)]))
    for name, row in rows.items():
        cells = (f"{row[c]:18.5f}" if row.get(c) is not None else f"{'-':>18s}" for c in columns)
        print("  ".join([f"{name:22s}", *cells]))
