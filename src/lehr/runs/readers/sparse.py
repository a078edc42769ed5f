"""Rows of named values, each row with some of the names, as one array of places and values a name.

Rows of one layout (the same names in the same order) are turned into columns together, so that the work
for each value is done by numpy; values that are no numbers are left out and their names told.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from lehr.errors import bad
from lehr.runs.readers.raw import Series

DEPTH_LIMIT = 20  # of nested objects in a row
_WORDS = {
    "NaN": np.nan,
    "nan": np.nan,
    "Infinity": np.inf,
    "inf": np.inf,
    "-Infinity": -np.inf,
    "-inf": -np.inf,
}
_PLAIN = frozenset((int, float))

Row = Mapping[str, object]


@dataclass
class Columns:
    """Values by name, collected in parts.

    Parameters
    ----------
    parts : name -> parts (place of each value, shape (n,), whole numbers that rise; values, shape (n,)).
    left_out : names with values that are no numbers -> how many.
    """

    parts: dict[str, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)
    left_out: dict[str, int] = field(default_factory=dict)

    def add(self, rows: Sequence[Row], place: np.ndarray, separator: str = "/") -> None:
        """Take the values of rows; `place` (shape (rows,)) is where each stands, such as its line."""
        layouts: dict[tuple[str, ...], list[int]] = {}
        for index, row in enumerate(rows):
            layouts.setdefault(tuple(row), []).append(index)
        for names, members in layouts.items():
            table = zip(*(rows[index].values() for index in members), strict=True)
            where = place if len(members) == len(rows) else place[members]  # one array for all columns
            nested = []
            for name, cells in zip(names, table, strict=True):
                kinds = set(map(type, cells))
                if dict in kinds:
                    nested.append(name)
                else:
                    self._column(name, cells, kinds, where)
            if nested:
                inner = [flat({name: rows[index][name] for name in nested}, separator) for index in members]
                self.add(inner, where, separator)

    def _column(self, name: str, cells: Sequence[object], kinds: set[type], where: np.ndarray) -> None:
        if kinds <= _PLAIN:
            try:
                self.parts.setdefault(name, []).append((where, np.array(cells, dtype=float)))
                return
            except OverflowError:
                pass  # a whole number beyond any float
        values = [_number(cell) for cell in cells]
        known = np.array([value is not None for value in values])
        wrong = sum(value is None and cell is not None for value, cell in zip(values, cells, strict=True))
        if wrong:
            self.left_out[name] = self.left_out.get(name, 0) + wrong
        if known.any():
            numbers = np.array([value for value in values if value is not None])
            self.parts.setdefault(name, []).append((where[known], numbers))

    def columns(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Places and values of each name, in the order of the places, shape (n,) each; the parts are given up."""
        out = {}
        known: dict[
            tuple[int, ...], np.ndarray
        ] = {}  # columns that stand in the same rows share their places
        held = []  # so that no other array gets the id of one that is known
        for name in list(self.parts):
            places, values = zip(*self.parts.pop(name), strict=True)
            own = tuple(map(id, places))
            if own not in known:
                known[own] = np.concatenate(places)
                held.append(places)
            place, value = known[own], np.concatenate(values)
            if np.any(np.diff(place) < 0):  # rows of several layouts
                order = np.argsort(place, kind="stable")
                place, value = place[order], value[order]
            out[name] = place, value
        return out

    def told(self, known: Iterable[str] = ()) -> tuple[str, ...]:
        """Say which names held something else than numbers, but for those that are known to."""
        names = sorted(set(self.left_out) - set(known))
        if not names:
            return ()
        listed = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        return (f"left out, as they are no numbers: {listed}",)


def collect(chunks: Iterable[tuple[Sequence[Row], np.ndarray]], separator: str = "/") -> Columns:
    """Take all rows of some chunks."""
    out = Columns()
    for rows, place in chunks:
        out.add(rows, place, separator)
    return out


def flat(row: Row, separator: str, depth: int = 0) -> dict[str, object]:
    """Nested objects as one, their keys joined; what is nested deeper than any log is dropped."""
    out: dict[str, object] = {}
    for name, value in row.items():
        if not isinstance(value, Mapping):
            out[name] = value
        elif depth < DEPTH_LIMIT:
            inner = flat(value, separator, depth + 1)
            out |= {f"{name}{separator}{key}": cell for key, cell in inner.items()}
    return out


def joined(place: np.ndarray, counter: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Values of a counter at places, shape (n,), and whether it has one there; NaN where not."""
    known, values = counter
    if not known.size:
        return np.full(place.shape, np.nan), np.zeros(place.shape, dtype=bool)
    at = np.minimum(np.searchsorted(known, place), known.size - 1)
    there = known[at] == place
    return np.where(there, values[at], np.nan), there


def series(
    columns: Mapping[str, tuple[np.ndarray, np.ndarray]], counter: str, where: str, lines: bool = True,
    time: tuple[np.ndarray, np.ndarray] | None = None, line_of: np.ndarray | None = None,
) -> tuple[dict[str, Series], int]:  # fmt: skip
    """Series of every column but the counter, at the steps it gives.

    Parameters
    ----------
    columns : as `Columns.columns` gives them; each row has a place of its own.
    counter : name of the one that counts steps.
    where : the file, for messages.
    lines : whether places are lines of the file.
    time : seconds by place.
    line_of : line of each place, shape (places,), where places are rows from 0.

    Returns
    -------
    The series, and how many values were left out because their row has no step.

    Raises
    ------
    InputError
        If a step is no whole number of at least 0.
    """
    steps = columns[counter]
    wrong = np.flatnonzero(~((steps[1] >= 0) & (steps[1] < 2**53) & (steps[1] == np.floor(steps[1]))))
    if wrong.size:
        at = int(wrong[0])
        stands = int(steps[0][at] if line_of is None else line_of[steps[0][at]])
        raise bad(
            f"{where}, {'line' if lines else 'record'} {stands}: {counter}",
            "must be a whole number of at least 0", float(steps[1][at]), "mend or remove the row",
        )  # fmt: skip
    out, lost = {}, 0
    known: dict[
        int, tuple[np.ndarray, np.ndarray, np.ndarray | None]
    ] = {}  # by the places that columns share
    for name, (place, value) in columns.items():
        if name == counter:
            continue
        if id(place) not in known:
            clock = None if time is None else joined(place, time)[0]
            known[id(place)] = *joined(place, steps), clock
        step, there, clock = known[id(place)]
        missing = int((~there).sum())
        lost += missing
        if missing == there.size:
            continue
        if missing:
            step, value, place = step[there], value[there], place[there]
            clock = None if clock is None else clock[there]
        line = place if line_of is None else line_of[place]
        out[name] = Series(step, value, clock, line if lines else None)
    return out, lost


def _number(cell: object) -> float | None:
    """A cell as a number, None if it is none: NaN and infinities may be words."""
    if isinstance(cell, bool) or cell is None:
        return None
    if isinstance(cell, int | float):
        try:
            return float(cell)
        except OverflowError:
            return float("inf") if cell > 0 else float("-inf")
    return _WORDS.get(cell) if isinstance(cell, str) else None
