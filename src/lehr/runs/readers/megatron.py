"""Megatron-LM as printed: training lines, validation lines and the block of arguments.

What the numbers mean, in megatron/training/training.py:

- `iteration k` is printed after k iterations (`iteration += 1` comes before `training_log`); some of them may have been
  skipped: they count as iterations but change neither weights nor LR.
- `learning rate` is read from the optimiser after `opt_param_scheduler.step`: it is the LR of update k, the next one.
- `lm loss` and the other losses are means over the iterations since the last line that were not skipped, so since
  --log-interval iterations. Newer versions also print the first iteration of a job and do not begin anew after it. A
  mean that is NaN is not printed at all (`if avg >= 0.0`): a training line without the loss stands here with NaN.
- ` validation loss at iteration k | lm loss value: ...` is measured after k iterations; of several validation sets each
  has a line `validation-INDEX loss`. `... on test set` and `at the end of training` measure after the last iteration.
- `consumed samples` counts sequences; times the seq_length of the arguments they are the tokens so far.

GPT-NeoX and Megatron-DeepSpeed print lines of the same form, with `lm_loss` or further fields.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lehr.runs.readers import printed
from lehr.runs.readers.averages import window_centre
from lehr.runs.readers.megatron_lines import HEAD, STEP, TIME, TOTAL, Rows, training_rows
from lehr.runs.readers.megatron_schedule import Value, schedule_of
from lehr.runs.readers.raw import Log, Series
from lehr.runs.readers.reading import ReadOptions, check_file

LOSSES = ("lm loss", "lm_loss", "loss", "lm-loss-training")
EXAMPLE = "iteration       10/    1000 | consumed samples: ... | lm loss: 1.083420E+01 |"
TOKENS = "consumed tokens"
_KNOWN = re.compile(rb"\| *(?:consumed samples|elapsed time per iteration|learning rate|lm.loss|loss):? ")
_VALIDATION = re.compile(
    rb"validation(-[\w.-]{1,100})? (?:loss|results) at "
    rb"(?:iteration (\d{1,15})|the end of training)([^|\r\n]{0,100})\|([^\r\n]{0,5000})"
)
_VALUE = re.compile(rb"(?:\A|\|) *([^|:]{1,100}?) value: (" + printed.NUMBER + rb") *\|")
_BLOCK = re.compile(rb"(?<!-)-{6,200} (end of )?(?:\w+ )?arguments -{6,}")
_ARGUMENT = re.compile(rb"(?<![\w.])(\w{1,100}) \.{2,} ([^\r\n]*)")
_PARAMETERS = re.compile(
    rb"number of parameters on \(tensor, pipeline\) model parallel rank \((\d+), (\d+)\): (\d{1,18})\b"
)
_MOST_ARGUMENTS = 5000
_MOST_FIELDS = 500  # kinds of them; more are debris of other lines


@dataclass
class _Seen:
    """What the passes over the chunks have found so far."""

    rows: list[Rows] = field(default_factory=list)
    validations: list[tuple[str, float, float, int]] = field(default_factory=list)  # metric, step, loss, line
    config: dict[str, Value] = field(default_factory=dict)
    parameters: dict[tuple[int, int], float] = field(default_factory=dict)
    inside: bool = False  # of a block of arguments


def sniff(path: Path) -> bool:
    """Whether a file holds training lines of Megatron-LM."""
    head = printed.peek(path)
    found = HEAD.search(head)
    return found is not None and _KNOWN.search(head, found.end() - 1) is not None


def logs(path: Path, options: ReadOptions | None = None) -> Iterator[Log]:
    """Read the run that a log holds; one that was resumed into the same log stays one, with steps that go back.

    Raises
    ------
    InputError
        If there is no training line.
    """
    check_file(path, streamed=True)
    seen, report = _Seen(), list[str]()
    for chunk in printed.chunks(path):
        if not chunk.ended:
            printed.note_tail(chunk, report)
            break
        rows, rest, lines = training_rows(chunk)
        seen.rows += rows
        _read_settings(rest, seen)
        _read_validations(rest, lines, seen)
    if not seen.rows:
        raise printed.nothing_found(path, "Megatron-LM", EXAMPLE)
    yield _log(path, seen, report)


def _log(path: Path, seen: _Seen, report: list[str]) -> Log:
    columns = _Columns(seen.rows)
    step = columns.step
    loss = next((name for name in LOSSES if name in columns.names), None)
    report.insert(
        0, f"{len(step)} training lines and {len(seen.validations)} validation losses of Megatron-LM"
    )
    window = windows(step, _interval(seen.config, step))
    middle = window_centre(step, window)
    series = {
        name: columns.take(name, middle if _is_loss(name) else step, whole=name == loss)
        for name in columns.names
    }
    if columns.left_out:
        report.append(f"{columns.left_out} kinds of fields beyond the first {_MOST_FIELDS} were left out")
    if loss is not None:
        usual = int(np.median(window))
        report.append(f"{loss!r} is a mean over {usual} iterations and was moved to their middle")
        missing = int(np.isnan(series[loss].value).sum())
        if missing:
            report.append(
                f"{missing} training lines hold no {loss!r} (a NaN is not printed): they stay as NaN"
            )
    tokens = _tokens(series, seen.config)
    if tokens is not None:
        series[TOKENS] = tokens
    validations, last = _validations(seen.validations, float(step.max()))
    series.update(validations)
    skipped = series.get("number of skipped iterations")
    if skipped is not None and np.any(skipped.value > 0):
        count = float(np.nansum(skipped.value))
        report.append(f"{count:.0f} iterations were skipped: they changed neither weights nor LR")
    schedule, sentence = schedule_of(seen.config, columns.total)
    report.append(sentence)
    if seen.config.get("load") and seen.config.get("use_checkpoint_opt_param_scheduler"):
        report.append("the run was to take the LRs and lengths of a checkpoint: the logged LR must agree")
    roles = {"train": loss, "val": last, "lr": "learning rate", "tokens": TOKENS}
    return Log(
        source=str(path), name=printed.run_name(path), series=series, config=seen.config, schedule=schedule,
        roles={role: name for role, name in roles.items() if name in series},
        batch_tokens=_batch_tokens(series.get("global batch size"), seen.config, report),
        params_total=_parameters(seen, report), report=tuple(report),
    )  # fmt: skip


class _Columns:
    """Training lines of all layouts as columns in the order of the log; columns share what they can."""

    def __init__(self, rows: list[Rows]) -> None:
        self._rows = rows
        line = np.concatenate([some.line for some in rows])
        order = np.argsort(line, kind="stable")
        self._line = line[order]
        self._place = np.empty(len(line), dtype=np.int64)
        self._place[order] = np.arange(len(line))
        self.total = int(rows[-1].values[TOTAL][-1])
        self.step = self._column(STEP)[0]
        self._time = self._column(TIME)[0] if any(TIME in some.values for some in rows) else None
        keys = dict.fromkeys(key for some in rows for key in some.values)
        names = tuple(key for key in keys if key != TOTAL)
        self.names, self.left_out = names[:_MOST_FIELDS], len(names[_MOST_FIELDS:])

    def _column(self, name: str) -> tuple[np.ndarray, np.ndarray | None]:
        """Take a field out of the rows: its numbers, NaN where it is missing, and where it is not; shape (n,)."""
        out = np.full(len(self._line), np.nan)
        kept = None if all(name in some.values for some in self._rows) else np.zeros(len(out), dtype=bool)
        first = 0
        for some in self._rows:
            places = self._place[first : first + len(some.line)]
            first += len(some.line)
            if name in some.values:
                out[places] = some.values.pop(name)  # what is taken need not be kept twice
                if kept is not None:
                    kept[places] = True
        return out, kept

    def take(self, name: str, step: np.ndarray, whole: bool) -> Series:
        """Numbers of a field at `step`; a `whole` one keeps the lines that lack it."""
        values, kept = self._column(name)
        if whole or kept is None:
            return Series(step, values, self._time, self._line)
        time = None if self._time is None else self._time[kept]
        return Series(step[kept], values[kept], time, self._line[kept])


def windows(step: np.ndarray, interval: int) -> np.ndarray:
    """Iterations in the mean that each training line holds, shape (n,).

    Parameters
    ----------
    step : shape (n,), iterations; a job begins where they do not increase.
    interval : --log-interval.
    """
    begins = np.append(True, np.diff(step) <= 0)
    off = begins & (step % interval != 0)  # the first iteration of a job, after which the mean goes on
    before = np.append(0.0, step[:-1])
    before[1:] -= off[:-1]
    alone = np.where(off, step - 1, np.maximum(step - interval, 0))
    return np.maximum(step - np.where(begins, alone, before), 1.0)


def _interval(config: Mapping[str, Value], step: np.ndarray) -> int:
    told = config.get("log_interval")
    if isinstance(told, int) and not isinstance(told, bool) and told > 0:
        return told
    gaps = np.diff(step)
    gaps, counts = np.unique(gaps[gaps > 0], return_counts=True)
    return int(gaps[np.argmax(counts)]) if gaps.size else 1


def _is_loss(name: str) -> bool:
    return "loss" in name.lower() and "scale" not in name.lower()


def _read_settings(chunk: printed.Chunk, seen: _Seen) -> None:
    """Take the arguments that are printed between two rules, and counts of parameters."""
    data, place = chunk.data, 0
    if seen.inside or b" arguments ---" in data:
        for rule in [*_BLOCK.finditer(data), None]:
            if seen.inside:
                stop = len(data) if rule is None else rule.start()
                for name, value in _ARGUMENT.findall(data, place, stop):
                    if len(seen.config) < _MOST_ARGUMENTS:
                        seen.config[name.decode("ascii", "replace")] = printed.scalar(
                            value.decode("utf-8", "replace").strip()
                        )
            if rule is not None:
                seen.inside, place = rule[1] is None, rule.end()
    if b"number of parameters on" in data:
        for tensor, pipeline, count in _PARAMETERS.findall(data):
            if len(seen.parameters) < _MOST_ARGUMENTS:
                seen.parameters[int(tensor[:9]), int(pipeline[:9])] = float(count)


def _read_validations(chunk: printed.Chunk, lines: np.ndarray, seen: _Seen) -> None:
    """Take validation losses; `lines` are those of the lines of the chunk."""
    matches, place = [], -1
    while (
        place := chunk.data.find(b"validation", place + 1)
    ) >= 0:  # much faster than a search by the pattern
        match = _VALIDATION.match(chunk.data, place)
        if match is not None:
            matches.append(match)
    rows = printed.line_numbers(chunk, [match.start() for match in matches]) - chunk.line
    for match, line in zip(matches, lines[rows], strict=True):
        where = b"test" if b"test" in match[3] else b"validation"
        suffix = (where + (match[1] or b"")).decode("utf-8", "replace")
        step = np.inf if match[2] is None else float(match[2])
        for key, value in _VALUE.findall(match[4].partition(b"validation")[0]):
            name = key.decode("utf-8", "replace").strip()
            seen.validations.append((f"{name} {suffix}", step, float(value), int(line)))


def _validations(
    seen: list[tuple[str, float, float, int]], end: float
) -> tuple[dict[str, Series], str | None]:
    """Return validation losses by metric, and the one to take for the validation loss."""
    by_name: dict[str, list[tuple[float, float, int]]] = {}
    for name, step, loss, line in seen:
        by_name.setdefault(name, []).append((end if np.isinf(step) else step, loss, line))
    series = {}
    for name, rows in by_name.items():
        table = np.array(rows, dtype=float)  # lines are far below 2^53
        series[name] = Series(table[:, 0], table[:, 1], line=table[:, 2].astype(np.int64))
    plain = [name for name in series if name.rpartition(" ")[2] == "validation"]
    several = [name for name in series if " validation-" in name]
    return series, next((name for name in plain + several if name.startswith(LOSSES)), None)


def _tokens(series: Mapping[str, Series], config: Mapping[str, Value]) -> Series | None:
    samples, length = series.get("consumed samples"), config.get("seq_length")
    if samples is None or TOKENS in series or not isinstance(length, int) or length <= 0:
        return None
    with np.errstate(over="ignore"):
        tokens = samples.value * length
    return Series(samples.step, tokens, samples.time, samples.line)


def _batch_tokens(sequences: Series | None, config: Mapping[str, Value], report: list[str]) -> float | None:
    """Tokens of an update, where the batch is the same throughout and the length of a sequence is known."""
    batch = np.zeros(0) if sequences is None else sequences.value[np.isfinite(sequences.value)]
    length = config.get("seq_length")
    if batch.size and batch.min() < batch.max():
        report.append(
            f"the global batch grows from {batch.min():g} to {batch.max():g} sequences: no one batch size"
        )
        return None
    if not batch.size or not isinstance(length, int) or length <= 0 or batch[0] <= 0:
        return None
    return float(batch[0]) * length


def _parameters(seen: _Seen, report: list[str]) -> float | None:
    """Parameters of the model, where one rank holds all of them."""
    if set(seen.parameters) == {(0, 0)}:
        return seen.parameters[0, 0]
    if seen.parameters:
        report.append(
            f"{len(seen.parameters)} ranks share the model: its parameters are not told; give --params"
        )
    return None
