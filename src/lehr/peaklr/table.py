"""Final losses of trainings over peak LR, size, tokens and batch: the data of every peak-LR law.

A loss that is NaN or infinite is kept: the run diverged, and its LR bounds the valley from above.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError, bad
from lehr.peaklr.levels import SAME, levels_of


@dataclass(frozen=True, eq=False)
class SweepTable:
    """Trainings that ended, one a row.

    Parameters
    ----------
    lr : peak LR, shape (n,), above 0.
    loss : final loss in nats per token, shape (n,); NaN or infinite where the run diverged.
    params : parameters without embeddings, shape (n,); of all experts for MoE.
    tokens : tokens trained on, shape (n,).
    active_params : parameters a token passes through, shape (n,); None if dense.
    batch_tokens : tokens of one update, shape (n,); None if not known.
    names : n names for messages; made from the row if empty.

    Raises
    ------
    InputError
        Naming the row, the rule and the value.
    """

    lr: np.ndarray
    loss: np.ndarray
    params: np.ndarray
    tokens: np.ndarray
    active_params: np.ndarray | None = None
    batch_tokens: np.ndarray | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check the columns and freeze them."""
        count = np.size(self.lr)
        if not count:
            raise InputError("the table has no training: give at least one row.")
        if not self.names:
            object.__setattr__(self, "names", tuple(f"row {row + 1}" for row in range(count)))
        if len(self.names) != count:
            raise bad("names", f"must be one for each of the {count} trainings", len(self.names), "name all")
        for column in ("lr", "loss", "params", "tokens", "active_params", "batch_tokens"):
            value = getattr(self, column)
            if value is None:
                continue
            values = np.array(value, dtype=float)
            if values.shape != (count,):
                raise bad(column, f"must have {count} entries", values.shape, "give one for each training")
            finite = np.isfinite(values) | (column == "loss")
            wrong = np.flatnonzero(~finite | (values <= 0))
            if wrong.size:
                raise bad(
                    f"{self.names[wrong[0]]}: {column}", "must be above 0", float(values[wrong[0]]),
                    "mend the row or leave it out",
                )  # fmt: skip
            values.setflags(write=False)
            object.__setattr__(self, column, values)
        if self.active_params is not None:
            wrong = np.flatnonzero(self.active_params > self.params * (1 + 1e-9))
            if wrong.size:
                raise bad(
                    f"{self.names[wrong[0]]}: active_params",
                    f"must not exceed the {self.params[wrong[0]]:g} parameters",
                    float(self.active_params[wrong[0]]), "params counts all experts, active_params those used",
                )  # fmt: skip

    def __len__(self) -> int:
        return len(self.names)

    @property
    def active(self) -> np.ndarray:
        """Parameters that a token passes through, shape (n,): all of them for a dense model."""
        return self.params if self.active_params is None else self.active_params

    @property
    def diverged(self) -> np.ndarray:
        """Which runs ended without a finite loss, shape (n,)."""
        return ~np.isfinite(self.loss)

    def select(self, rows: np.ndarray) -> SweepTable:
        """Return the trainings at `rows` (indices, or a mask of shape (n,))."""
        places = np.arange(len(self))[rows]

        def cut(values: np.ndarray | None) -> np.ndarray | None:
            return None if values is None else values[places]

        return SweepTable(
            self.lr[places], self.loss[places], self.params[places], self.tokens[places],
            cut(self.active_params), cut(self.batch_tokens), tuple(self.names[place] for place in places),
        )  # fmt: skip

    def at(self, active: float | None = None, batch_tokens: float | None = None) -> SweepTable:
        """Return the trainings of one active size and batch size (tokens), where they are given.

        Raises
        ------
        InputError
            If there is none; the sizes that there are are named.
        """
        keep = np.ones(len(self), dtype=bool)
        for what, column, wanted in (
            ("params", self.active, active),
            ("batch", self.batch_tokens, batch_tokens),
        ):
            if wanted is None:
                continue
            if column is None:
                raise InputError(
                    f"the table does not tell the {what} of its runs, of which {wanted:g} was asked for."
                )
            if not 0 < wanted < np.inf:
                raise bad(what, "must be above 0", wanted, "give a finite count")
            same = np.abs(np.log(column / wanted)) < SAME
            if not same.any():
                known = ", ".join(f"{np.exp(level):.4g}" for level in np.unique(levels_of(column)))
                raise bad(what, f"must be one of those run ({known})", wanted, "choose one")
            keep &= same
        if not keep.any():
            raise InputError(
                f"no run has {active:g} parameters and a batch of {batch_tokens:g} tokens: choose others."
            )
        return self.select(keep)

    def group_numbers(self, by_batch: bool = False) -> np.ndarray:
        """Number of the group that each training belongs to, shape (n,), in the order of `groups`."""
        columns = [self.active, self.tokens, self.params]
        if by_batch and self.batch_tokens is not None:
            columns.append(self.batch_tokens)
        keys = np.stack([levels_of(column) for column in columns], axis=1)
        return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)

    def groups(self, by_batch: bool = False) -> tuple[SweepGroup, ...]:
        """Split into groups of one size, active size and number of tokens (and batch size), smallest first."""
        numbers = self.group_numbers(by_batch)
        return tuple(SweepGroup(self.select(numbers == number)) for number in range(int(numbers.max()) + 1))


@dataclass(frozen=True, eq=False)
class SweepGroup:
    """Trainings of one size on one number of tokens, over LRs (and batch sizes)."""

    table: SweepTable

    @property
    def params(self) -> float:
        """All parameters."""
        return float(np.median(self.table.params))

    @property
    def active(self) -> float:
        """Parameters that a token passes through."""
        return float(np.median(self.table.active))

    @property
    def tokens(self) -> float:
        """Tokens trained on."""
        return float(np.median(self.table.tokens))

    @property
    def batches(self) -> tuple[float, ...]:
        """Batch sizes in tokens, ascending; empty if not known."""
        sizes = self.table.batch_tokens
        if sizes is None:
            return ()
        levels = levels_of(sizes)
        return tuple(float(np.median(sizes[levels == level])) for level in np.unique(levels))

    @property
    def batch_tokens(self) -> float | None:
        """Its batch size, if it is one."""
        return self.batches[0] if len(self.batches) == 1 else None

    @property
    def name(self) -> str:
        """What it is, for messages."""
        size = f"{self.active:.3g}" + (f" of {self.params:.3g}" if self.active < self.params else "")
        batch = f", batch {self.batch_tokens:.3g}" if self.batch_tokens is not None else ""
        return f"{size} parameters, {self.tokens:.3g} tokens{batch}"

    def at_batch(self, batch_tokens: float) -> SweepGroup:
        """Return the trainings at one of its batch sizes."""
        levels = levels_of(np.append(np.asarray(self.table.batch_tokens), batch_tokens))
        return SweepGroup(self.table.select(levels[:-1] == levels[-1]))

    def best_batch(self) -> SweepGroup:
        """Return the trainings at the batch size of the lowest loss; the whole group if sizes are not known.

        Raises
        ------
        InputError
            If every run diverged.
        """
        loss = self.table.loss
        if not np.isfinite(loss).any():
            raise InputError(f"{self.name}: every run diverged: run lower LRs.")
        if self.table.batch_tokens is None:
            return self
        return self.at_batch(
            float(self.table.batch_tokens[np.nanargmin(np.where(np.isfinite(loss), loss, np.nan))])
        )


def merge(tables: Sequence[SweepTable]) -> SweepTable:
    """Put tables under one another; batch sizes must be known in all of them or in none.

    Raises
    ------
    InputError
        If they are known in some only.
    """
    known = [table.batch_tokens is not None for table in tables]
    if any(known) and not all(known):
        first = tables[known.index(False)].names[0]
        raise InputError(
            f"{first}: its batch size is not known but that of other tables is: give all or none."
        )
    moe = any(table.active_params is not None for table in tables)

    def joined(column: str) -> np.ndarray:
        return np.concatenate([getattr(table, column) for table in tables])

    return SweepTable(
        joined("lr"), joined("loss"), joined("params"), joined("tokens"), joined("active") if moe else None,
        joined("batch_tokens") if all(known) else None, tuple(name for table in tables for name in table.names),
    )  # fmt: skip
