"""The dictionaries that the Trainer of HF transformers prints: recognised, and refused.

`PrinterCallback` and `ProgressCallback` (src/transformers/trainer_callback.py) print `{'loss': 2.3, 'grad_norm': 1.2,
'learning_rate': 1e-4, 'epoch': 0.1}`: there is no step in it, and `epoch` is rounded. The same rows with their steps
are in trainer_state.json of every checkpoint.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lehr.errors import InputError
from lehr.runs.readers import printed
from lehr.runs.readers.raw import Log
from lehr.runs.readers.reading import ReadOptions, check_file

_N = printed.NUMBER
ROW = printed.entry(
    b"'epoch': ",
    rb"\{'(?:loss|eval_loss)': '?(?:" + _N + rb")'?, (?:'[\w/]{1,60}': '?(?:" + _N + rb")'?, ){0,20}"
    rb"'epoch': '?(?:" + _N + rb")'?\}",
)


def sniff(path: Path) -> bool:
    """Whether a file holds such rows."""
    return ROW.within(printed.peek(path))


def logs(path: Path, options: ReadOptions | None = None) -> Iterator[Log]:
    """Refuse the log and say what to give instead.

    Raises
    ------
    InputError
        Always: naming the line of the first such row.
    """
    found = printed.find(check_file(path), {"row": ROW}, [])["row"]
    where = f"{path}, line {found.line[0]}," if len(found) else f"{path}"
    raise InputError(
        f"{where} holds what the Trainer of HF transformers prints, rows such as {{'loss': 2.3, 'epoch': 0.1}} without "
        "their step: give trainer_state.json of the last checkpoint instead."
    )
    yield  # a generator as the other readers
