"""A log as its tool wrote it, before anything is chosen from it.

Readers of trackers, of event files and of printed lines all give this value; `lehr.runs.readers.assemble`
makes a `Run` of it. So a reader knows a file format and what its tool means by its numbers, and nothing of
choosing a loss, of resumes, or of schedules that are not written down.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from lehr.schedule.schedule import Schedule

AXES = ("updates", "tokens")


@dataclass(frozen=True, eq=False)
class Series:
    """One metric of one run, in the order of the log.

    Parameters
    ----------
    step : shape (n,), on the log's axis, moved to lehr's convention: a loss stands at the number of updates done
        before it was measured (a mean over several batches at their middle, see `averages`), an LR at the index
        k of the update that used it or is to use it. NaN where an entry has none.
    value : shape (n,), as logged; may be NaN.
    time : shape (n,), seconds, when each was written, NaN where that is not known; None if the log never says.
    line : shape (n,), the line of each in the file, from 1; None for files without lines.
    """

    step: np.ndarray
    value: np.ndarray
    time: np.ndarray | None = None
    line: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Log:
    """What one file tells of one run.

    Parameters
    ----------
    source : the file, as messages name it.
    name : of the run. Logs of one name and origin are parts of one run.
    series : by the tool's own name of the metric.
    config : settings found in or beside the log; keys of nested ones joined by ".", values JSON scalars.
    schedule : where the settings tell it by the conventions of the framework that wrote them.
    total_steps : updates of the whole training, where the settings tell no more of its schedule.
    roles : metrics by role, where the format fixes them: "train" and "val" losses, "lr", "tokens" (so far).
        The other roles are found by usual names.
    axis : what `step` counts: "updates" or "tokens".
    bits : names of losses in bits per byte.
    batch_tokens, params, params_total : where the log tells them; as in `lehr.runs.run.Run`.
    parent, branch_step : where the log tells them; likewise.
    origin : what tells runs of one name apart: the tool's identifier of the run, or a folder; the file's own if empty.
    order : of its segments, if its steps go back and no times tell: "auto", "oldest-first", "newest-first" as for
        `lehr.runs.clean.stitch`, or "ask": it is refused unless the user says that it was resumed.
    locate : names the place of an entry of a series, for files whose lines are costly to count.
    report : what was recognised, corrected and left out, a sentence each.
    """

    source: str
    name: str
    series: Mapping[str, Series]
    config: Mapping[str, str | float | int | bool | None] = field(default_factory=dict)
    schedule: Schedule | None = None
    total_steps: int | None = None
    roles: Mapping[str, str] = field(default_factory=dict)
    axis: str = "updates"
    bits: frozenset[str] = frozenset()
    batch_tokens: float | None = None
    params: float | None = None
    params_total: float | None = None
    parent: str | None = None
    branch_step: int | None = None
    origin: str = ""
    order: str = "auto"
    locate: Callable[[str, int], str] | None = None
    report: tuple[str, ...] = ()

    def place(self, metric: str, row: int) -> str:
        """Name the place of an entry of a series in the file."""
        if self.locate is not None:
            return self.locate(metric, row)
        line = self.series[metric].line
        return f"{self.source}, line {line[row]}" if line is not None else f"{self.source}, {metric}[{row}]"
