"""What LitGPT means by the metrics that it logs through Lightning's CSVLogger.

Read in LitGPT 0.5 (pretrain.py `fit`, utils.py `choose_logger`): each row of training has `loss, iter, step, epoch,
iter_time, remaining_time, tokens, total_tokens, learning_rate`, each of validation `val_loss, val_ppl`. The logger
overwrites `step` with its own, iter - 1 (iter in the fine-tuning scripts), so that **steps in the file count
micro-batches**, not updates. An update takes A of them, A = global_batch_size / devices / micro_batch_size:

- `loss` is the mean over the A micro-batches of the update just done, measured before it;
- `learning_rate` is that update's;
- validation is of the weights after it.

A comes from hyperparameters.yaml, which LitGPT writes beside its checkpoints, or from the batch size in tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from lehr.errors import InputError, bad
from lehr.runs.readers import flat_yaml
from lehr.runs.readers.raw import Log, Series
from lehr.runs.readers.reading import ReadOptions

FIELDS = frozenset(("epoch", "iter", "iter_time", "learning_rate", "loss", "step", "tokens", "total_tokens"))
HYPERPARAMETERS = "hyperparameters.yaml"


def is_header(names: list[str]) -> bool:
    """Whether names are those of LitGPT's training rows."""
    return FIELDS <= set(names)


def log(
    path: Path, series: dict[str, Series], config: Mapping[str, flat_yaml.Scalar], options: ReadOptions,
    report: list[str],
) -> Log:  # fmt: skip
    """Make the log of a run from the series of its file, whose steps are as in the file.

    Raises
    ------
    InputError
        If a row of training has no `iter`, or the given batch size is no whole number of micro-batches.
    """
    told = dict(config)
    found = next((place for place in _settings(path) if place.is_file()), None)
    if found is not None:
        told |= flat_yaml.load(found)[0]
    count = series.get("iter")
    if count is None or not np.isfinite(count.value).all():
        raise InputError(f"{path}: iter must be a number in every row of training: mend or remove the row.")
    base = 1.0 if count.value[0] == count.step[0] + 1 else 0.0  # micro-batches beyond `step`
    each = _tokens_of_micro_batch(series)
    micro, why = _micro_batches(series, told, options, each, str(path))
    report.append(why)
    last = float(count.value.max())
    out = {}
    for name, one in series.items():
        at = one.step + base
        if name.startswith("val_") and one.step[-1] == last:
            at[-1] = last  # the validation after training is logged with iter itself
        done = at // micro
        if name == "loss" or (name == "learning_rate" and base):
            done = np.maximum(done - 1, 0.0)
        out[name] = replace(one, step=done)
    roles = {"train": "loss", "val": "val_loss", "lr": "learning_rate", "tokens": "total_tokens"}
    return Log(
        source=str(path), name=_name(path), series=out, config=told, report=tuple(report),
        roles={role: name for role, name in roles.items() if name in out},
        batch_tokens=each * micro if each else None,
    )  # fmt: skip


def _settings(path: Path) -> list[Path]:
    """Where hyperparameters.yaml may lie: beside the file, or in a checkpoint of its output folder."""
    out = _output(path)
    beside = [path.parent / HYPERPARAMETERS]
    if out is None:
        return beside
    return [*beside, out / "final" / HYPERPARAMETERS, *sorted(out.glob(f"step-*/{HYPERPARAMETERS}"))[-1:]]


def _output(path: Path) -> Path | None:
    """Output folder of out/logs/csv/version_k/metrics.csv."""
    above = path.absolute().parents
    return above[3] if len(above) > 3 and (above[1].name, above[2].name) == ("csv", "logs") else None


def _name(path: Path) -> str:
    folder, out = path.absolute().parent, _output(path)
    return f"{(out or folder.parent).name}/{folder.name}"


def _tokens_of_micro_batch(series: Mapping[str, Series]) -> float | None:
    """Tokens of a micro-batch on all devices."""
    tokens, count = series.get("total_tokens"), series["iter"]
    if tokens is None or tokens.value.size != count.value.size or not np.isfinite(tokens.value).all():
        return None
    each = tokens.value / np.maximum(count.value, 1)
    return float(each[-1]) if 1 <= each[-1] and np.ptp(each) <= 1e-6 * each[-1] else None


def _devices(series: Mapping[str, Series]) -> int:
    """Devices of the training: the tokens of all by those of one."""
    tokens, total = series.get("tokens"), series.get("total_tokens")
    if tokens is None or total is None or not 1 <= tokens.value[-1] <= total.value[-1] < float("inf"):
        return 1
    return round(float(total.value[-1] / tokens.value[-1]))


def _micro_batches(
    series: Mapping[str, Series], told: Mapping[str, flat_yaml.Scalar], options: ReadOptions,
    each: float | None, where: str,
) -> tuple[int, str]:  # fmt: skip
    """Micro-batches of an update, and the sentence that says how they are known."""
    if options.batch_tokens and each:
        micro = options.batch_tokens / each
        if abs(micro - round(micro)) > 1e-6 * micro or round(micro) < 1:
            raise bad(
                f"{where}: batch_tokens", f"must be a whole number of micro-batches of {each:g} tokens",
                options.batch_tokens, "give global_batch_size x sequence length",
            )  # fmt: skip
        return round(micro), f"an update is {round(micro)} micro-batches by the given batch size"
    batch, size = told.get("train.global_batch_size"), told.get("train.micro_batch_size")
    if isinstance(batch, int) and isinstance(size, int) and size > 0:
        devices = _devices(series)
        micro = max(1, batch // devices // size)
        return micro, f"an update is {micro} micro-batches by {HYPERPARAMETERS} ({devices} devices)"
    return 1, (
        "steps are micro-batches (LitGPT's iter), taken as updates: if gradients were accumulated, give "
        f"--batch-tokens, or put {HYPERPARAMETERS} of a checkpoint beside the file"
    )
