"""What the benchmarks share: the laws they run, tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lehr.laws import LAWS
from lehr.laws.law import Law


def one_size_laws() -> tuple[Law, ...]:
    """Every law of the table that does without the number of parameters."""
    return tuple(law for law in LAWS.values() if not law.needs_sizes)


def print_table(title: str, rows: Mapping[str, Mapping[str, Any]], columns: tuple[str, ...]) -> None:
    """Print rows by name as a plain table; fractions to five digits."""
    print(f"\n{title}")
    print("  ".join([f"{'law':22s}", *(f"{c:>18s}" for c in columns)]))
    for name, row in rows.items():
        cells = (f"{row[c]:18.5f}" if row.get(c) is not None else f"{'-':>18s}" for c in columns)
        print("  ".join([f"{name:22s}", *cells]))
