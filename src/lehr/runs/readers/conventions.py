"""What the metrics of known frameworks mean by their steps.

A tracker keeps a number beside each value and does not know what it counts; the framework does, and is told by
the names it logs. Here are those whose source was read:

- Megatron-LM (`megatron/training/training.py`): after k updates `lm loss` is that of the last batch, and
  `learning-rate` is read after the scheduler has moved on, so it is the LR of update k.
- torchtitan 0.3 (`trainer.py`, `components/metrics.py`): in step k, counted from 1, the loss of that step's batch
  and the LR that it uses; `n_tokens_seen` and the validation are taken after it.
- Hugging Face Trainer: see `hugging_face`.
- Lightning 2 (`logger_connector.py`, `lr_monitor.py`): the step counts the updates before the batch whose loss and
  LR are logged; the validation that follows that update is logged under the same step.
- OLMo-core 3 (`train/trainer.py`): in step k, counted from 1, the loss of that step's batch and the LR that it uses;
  evaluations are taken after it.
- Levanter (`trainer.py`, `callbacks.py`): in step k, counted from 0, likewise; evaluations after it.
- litgpt (`pretrain.py`): after the update that makes them `step`, the loss of the last batch and the LR it used. Its
  loggers count micro-batches, `iter` - 1 (see `counted_by_litgpt`).
- nanoGPT (`train.py`): after `iter` updates, losses over many batches of both splits, and the LR of the next.
- nanochat (`scripts/base_train.py`): in step k, counted from 0, a debiased average of decay 0.9 over all batches up
  to that one; `val/bpb` is taken after k updates.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

import numpy as np

from lehr.runs.readers.averages import ema_centre, since_last, window_centre
from lehr.runs.readers.hugging_face import lr_is_next
from lehr.runs.readers.raw import Series
from lehr.runs.readers.settings import Scalar

NANOCHAT_DECAY = 0.9
LITGPT = ("iter_time", "remaining_time", "loss", "step")  # names that together only litgpt logs


@dataclass(frozen=True)
class Convention:
    """What a framework's metrics mean; names may be patterns of `fnmatch`.

    Parameters
    ----------
    framework : its name.
    signs : it is told by metrics that match every pattern of one of these.
    train, val, lr, tokens : metrics by role, the first that is there.
    back : metrics whose step counts the update that was being done: one less had been done before them.
    on : metrics whose step does not count the update that was done before them.
    means : metrics that are means since their previous entry.
    averages : metrics that are debiased exponential averages up to the batch of their step, with their decay.
    bits : losses in bits per byte.
    other_axis : metrics that are logged on another axis.
    """

    framework: str
    signs: tuple[tuple[str, ...], ...]
    train: tuple[str, ...] = ()
    val: tuple[str, ...] = ()
    lr: tuple[str, ...] = ()
    tokens: tuple[str, ...] = ()
    back: tuple[str, ...] = ()
    on: tuple[str, ...] = ()
    means: tuple[str, ...] = ()
    averages: tuple[tuple[str, float], ...] = ()
    bits: tuple[str, ...] = ()
    other_axis: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Meaning:
    """Series on lehr's axis, and what is known of them; fields as in `lehr.runs.readers.raw.Log`."""

    series: Mapping[str, Series]
    roles: Mapping[str, str]
    bits: frozenset[str]
    report: tuple[str, ...]
    batch_tokens: float | None = None


CONVENTIONS = (
    Convention(
        "Megatron-LM", (("lm loss",), ("lm loss validation",)),
        train=("lm loss",), val=("lm loss validation", "lm loss validation*"), lr=("learning-rate",),
        back=("lm loss", "mtp_* loss"), other_axis=("* vs samples",),
    ),
    Convention(
        "torchtitan", (("loss_metrics/global_avg_loss",), ("validation_metrics/loss",)),
        train=("loss_metrics/global_avg_loss",), val=("validation_metrics/loss",), lr=("lr/*",),
        tokens=("n_tokens_seen",), back=("loss_metrics/*", "lr/*", "grad_norm"),
    ),
    Convention(
        "OLMo-core", (("train/CE loss",), ("train/CE loss*",)),
        train=("train/CE loss",), val=("eval/*/CE loss",), lr=("optim/LR (group 0)", "optim/LR*"),
        tokens=("throughput/total tokens",), back=("train/*", "optim/*"),
    ),
    Convention(
        "Levanter", (("run_progress", "train/loss"),),
        train=("train/loss",), val=("eval/loss", "eval/*/loss"), lr=("optim/learning_rate",),
        tokens=("throughput/total_tokens",), on=("eval/*",),
    ),
    Convention(
        "nanochat", (("train/lrm",),), train=("train/loss",), val=("val/bpb",),
        averages=(("train/loss", NANOCHAT_DECAY),), bits=("val/bpb",),
    ),
    Convention(
        "nanoGPT", (("iter", "train/loss", "val/loss", "lr", "mfu"),),
        train=("train/loss",), val=("val/loss",), lr=("lr",),
    ),
    Convention(
        "Hugging Face Trainer",
        (("train/loss", "train/epoch"), ("train/loss", "train/global_step"), ("eval/loss", "train/epoch"),
         ("eval/loss", "train/global_step")),
        train=("train/loss",), val=("eval/loss",), lr=("train/learning_rate",),
        tokens=("train/num_input_tokens_seen",), back=("train/learning_rate",), means=("train/loss",),
    ),
    Convention(
        "litgpt", (LITGPT,), train=("loss",), val=("val_loss",), lr=("learning_rate",), tokens=("total_tokens",),
        back=("loss", "learning_rate"),
    ),
    Convention(
        "Lightning", (("trainer/global_step",), ("epoch", "lr-*"), ("epoch", "hp_metric")),
        train=("train_loss", "train_loss_step", "train/loss", "train/loss_step", "loss", "train_loss_epoch"),
        val=("val_loss", "val/loss", "valid_loss", "val_loss_epoch", "val/loss_epoch"), lr=("lr-*",),
        on=("val_*", "val/*", "valid_*", "valid/*"),
    ),
)  # fmt: skip


def recognise(names: Iterable[str]) -> Convention | None:
    """Tell the framework from the names of its metrics; None if it is none of `CONVENTIONS`."""
    names = list(names)
    for convention in CONVENTIONS:
        if any(all(_first(names, (part,)) for part in sign) for sign in convention.signs):
            return convention
    return None


def interpret(
    series: Mapping[str, Series], config: Mapping[str, Scalar], known: Iterable[str] = ()
) -> Meaning:
    """Move metrics to where they belong, if their framework is told by their names.

    Parameters
    ----------
    series : by name, at the steps they were logged at.
    config : settings of the run.
    known : other names the log has, such as those of step counters.
    """
    convention = recognise([*series, *known])
    if convention is None:
        return Meaning(series, {}, frozenset(), ())
    report = [f"logged by {convention.framework}, as its names tell"]
    kept = {name: part for name, part in series.items() if not _first([name], convention.other_axis)}
    if len(kept) < len(series):
        report.append(
            f"{len(series) - len(kept)} metrics on another axis were left out ({', '.join(convention.other_axis)})"
        )
    if convention.framework == "Hugging Face Trainer":
        convention = _of_version(convention, config, kept, report)
    moved = {name: _moved(name, part, convention) for name, part in kept.items()}
    report += _said(convention, kept)
    roles = {role: _first(kept, getattr(convention, role)) for role in ("train", "val", "lr", "tokens")}
    return Meaning(
        moved, {role: name for role, name in roles.items() if name is not None},
        frozenset(name for name in kept if _first([name], convention.bits)), tuple(report),
        _batch_tokens(convention, config),
    )  # fmt: skip


def counted_by_litgpt(series: Mapping[str, Series]) -> Mapping[str, Series]:
    """Return series that litgpt logged by micro-batches by its count of updates, which it logs as `step`.

    The logger's own step is `iter` - 1, in fine-tuning `iter`, and a whole number of micro-batches makes an update.
    """
    if not all(name in series for name in (*LITGPT, "iter")):
        return series
    updates, micro = series["step"], series["iter"]
    counted = np.isfinite(updates.value) & (updates.value >= 1)
    ahead = micro.value[np.isfinite(micro.value)] - micro.step[np.isfinite(micro.value)]
    if not counted.any() or not ahead.size or np.median(ahead) not in (0.0, 1.0):
        return series
    ratio = (updates.step[counted] + np.median(ahead)) / updates.value[counted]
    each = max(round(float(np.median(ratio))), 1)
    return {
        name: replace(part, step=np.floor((part.step + np.median(ahead)) / each))
        for name, part in series.items()
    }


def _batch_tokens(convention: Convention, config: Mapping[str, Scalar]) -> float | None:
    """Tokens of one update, where the framework's own settings tell."""
    if convention.framework != "Megatron-LM" or config.get("rampup_batch_size") is not None:
        return None
    batch, length = config.get("global_batch_size"), config.get("seq_length")
    if not isinstance(batch, int) or not isinstance(length, int) or min(batch, length) < 1:
        return None
    return float(batch) * float(length)


def _moved(name: str, part: Series, convention: Convention) -> Series:
    """Return a series with its steps where its values belong."""
    step = part.step
    for pattern, decay in convention.averages:
        if fnmatchcase(name, pattern):
            return replace(part, step=ema_centre(step + 1, decay))
    if _first([name], convention.means):
        return replace(part, step=window_centre(step, since_last(step)))
    if _first([name], convention.back):
        return replace(part, step=np.maximum(step - 1, 0.0))
    return replace(part, step=step + 1) if _first([name], convention.on) else part


def _said(convention: Convention, names: Iterable[str]) -> list[str]:
    """Say which metrics were moved, and why."""
    names = list(names)
    reasons = (
        (convention.means, "means since the previous entry: moved to the middle"),
        (tuple(name for name, _ in convention.averages), "exponential averages: moved back by their lag"),
        (convention.back, "of the update that the step counts: moved back by one"),
        (convention.on, "taken after the update that the step begins: moved on by one"),
    )
    told = []
    for patterns, reason in reasons:
        found = [name for name in names if _first([name], patterns)]
        if found:
            listed = ", ".join(found[:4]) + (f" and {len(found) - 4} more" if len(found) > 4 else "")
            told.append(f"{listed}: {reason}")
    return told


def _of_version(
    convention: Convention, config: Mapping[str, Scalar], series: Mapping[str, Series], report: list[str]
) -> Convention:
    """Return what the Trainer's `learning_rate` means in the version that wrote the log."""
    name = _first(series, convention.lr)
    if name is None:
        return convention
    # the settings are no trainer_state.json: of its fields only this one is told
    fields = {"max_steps": config["max_steps"], "best_global_step": None} if "max_steps" in config else {}
    after, why = lr_is_next(config.get("transformers_version"), fields, series[name])
    report.append(why)
    return replace(convention, back=()) if after else convention


def _first(names: Iterable[str], patterns: Iterable[str]) -> str | None:
    """Return the first name that matches the first pattern that any does."""
    names = list(names)
    for pattern in patterns:
        for name in names:
            if fnmatchcase(name, pattern):
                return name
    return None
