"""CSV: one row an update, `update,lr`, and back.

Update k = 0 .. T-1 uses the LR of its row. Numbers are written so that they read back to the same ones.
"""

from __future__ import annotations

import numpy as np

from lehr.errors import InputError, bad
from lehr.schedule.export.export import Export, deviation, target
from lehr.schedule.families import from_array
from lehr.schedule.schedule import Schedule

HEADER = "update,lr"


def code(schedule: Schedule) -> Export:
    """Return the LR of every update as CSV."""
    lr = target(schedule)
    rows = "".join(f"{update},{value!r}\n" for update, value in enumerate(lr.tolist()))
    notes = ("update 0 is the first one; update k uses the LR of row k.",)
    return Export("csv", "code", "csv", f"{HEADER}\n{rows}", lr, deviation(lr, lr), notes)


def read(text: str, name: str) -> Schedule:
    """Return the schedule of a CSV text as `code` writes it.

    Parameters
    ----------
    text : header `update,lr`, then updates 0, 1, ... in order.
    name : of the file, for messages.

    Raises
    ------
    InputError
        If the header, an update or an LR is not as it should be; the line is named.
    """
    lines = text.splitlines()
    header = lines[0].strip() if lines else ""
    if header != HEADER:
        raise bad(f"{name} line 1", f"must be the header {HEADER!r}", header[:80], "write a row an update")
    values = np.empty(len(lines) - 1)
    for update, line in enumerate(lines[1:]):
        place = f"{name} line {update + 2}"
        index, _, lr = line.partition(",")
        if index.strip() != str(update):
            raise bad(
                place, f"must be update {update}", line[:80], "list every update in order, the first is 0"
            )
        try:
            values[update] = float(lr)
        except ValueError:
            raise bad(place, "must hold an LR", line[:80], "write it as a number, such as 3e-4") from None
        if not 0 <= values[update] < np.inf:
            raise bad(place, "must hold a finite LR of at least 0", line[:80], "give the LR of that update")
    if not len(values):
        raise InputError(f"{name} has no update after its header: write a row an update.")
    return from_array(values=values.tolist())
