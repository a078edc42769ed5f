"""Diagnosis of a trained proxy from its log and checkpoints: what is large, what learns, what attends, what spikes.

Every checkpoint is measured on the same held-out sequences, and so are the initial weights, which the configuration
makes again. `LIMITS` says beyond what something is remarked on: they are orders of magnitude, not laws.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from torch import Tensor

from lehr.errors import InputError
from lehr.proxy import checkpoint
from lehr.proxy.attention import AttentionStatistics, attention_statistics
from lehr.proxy.config import make_config
from lehr.proxy.coordinates import sites_by_block
from lehr.proxy.data import open_data
from lehr.proxy.distributed import Ranks
from lehr.proxy.experts import RouterStatistics, router_statistics
from lehr.proxy.parameters import describe
from lehr.proxy.runlog import RunLog, read_log
from lehr.proxy.session import Session, open_session, restore
from lehr.runs.spikes import Spike, find_spikes
from lehr.transfer.coordcheck import Observer
from lehr.transfer.roles import group_of
from lehr.transfer.slopes import Measure

SEQUENCES = 16  # held out, on which is measured
SETTLED = 0.1  # of the training: until then activations grow tenfold in sound runs
LIMITS: Mapping[str, float] = {
    "collapsed head": 0.02,  # entropy of attention, as a share of the highest (collapse: arXiv 2303.06296)
    "attention logits": 50.0,  # beyond it a softmax in bfloat16 or float32 is all or nothing
    "starved expert": 0.1,  # load, per that when level
    "crowded expert": 4.0,
    "lazy part": 0.05,  # change of an activation since initialisation, per its size
    "uneven updates": 10.0,  # effect of a matrix's updates, per the median over blocks
    "blow-up": 10.0,  # size of an activation, per that at the checkpoint before
    "large updates": 0.1,  # one update, per the weights
}
BELOW = ("collapsed head", "starved expert", "lazy part")  # all others are remarked on above their limits


@dataclass(frozen=True)
class State:
    """A run at one checkpoint.

    Parameters
    ----------
    step : updates done.
    coordinates : by part, with its block, and measure (`lehr.transfer.slopes`).
    attention : of every block.
    routers : of every block; none if dense.
    updates : root mean square of the last update per that of the weights, by group of parameters; none at step 0.
    """

    step: int
    coordinates: Mapping[tuple[str, Measure], float]
    attention: Sequence[AttentionStatistics]
    routers: Sequence[RouterStatistics]
    updates: Mapping[str, float]


@dataclass(frozen=True)
class Finding:
    """Something beyond its limit.

    Parameters
    ----------
    limit : key of `LIMITS`.
    part : where.
    value : what was measured there, at its worst.
    step : updates done then.
    """

    limit: str
    part: str
    value: float
    step: int

    @property
    def text(self) -> str:
        """In a sentence."""
        side = "below" if self.limit in BELOW else "above"
        return f"{self.limit}: {self.part} at step {self.step}: {self.value:.3g} is {side} {LIMITS[self.limit]:g}"


@dataclass(frozen=True)
class Diagnosis:
    """What became of a run.

    Parameters
    ----------
    name : of the run.
    states : initial weights and every checkpoint, in the order of steps.
    spikes : of its training loss.
    findings : what is beyond its limit.
    """

    name: str
    states: tuple[State, ...]
    spikes: tuple[Spike, ...]
    findings: tuple[Finding, ...]


def diagnose(folder: Path) -> Diagnosis:
    """Diagnose the run in a folder.

    Raises
    ------
    InputError
        If it holds no run or no checkpoint, a checkpoint is damaged, or the data are others.
    """
    log = read_log(folder)
    saved = [step for step in checkpoint.saved_steps(folder) if step <= log.last]
    if not saved:
        raise InputError(
            f"{folder} has no checkpoint to look at: train it to its end, or to a step of training.keep."
        )
    states = tuple(_states(folder, log, saved))
    losses = np.array([(row.step, row.train_loss) for row in log.rows])
    spikes = tuple(find_spikes(losses[:, 0], losses[:, 1]))
    return Diagnosis(str(log.header["name"]), states, spikes, tuple(find_faults(states)))


def _states(folder: Path, log: RunLog, steps: Sequence[int]) -> Iterator[State]:
    """Measure the initial weights and those of every checkpoint."""
    config = make_config(dict(log.header["config"]), str(log.path))
    plain = config.training.model_copy(update={"compile": False})  # hooks do not see into compiled code
    config = config.model_copy(update={"training": plain})
    source = open_data(config.data, config.model.context)
    if source.fingerprint != log.header["data_fingerprint"]:
        raise InputError(f"the data are not those that {folder} was trained on: restore the files.")
    here = Ranks(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    session = open_session(config, source, here)
    session.model.eval()
    tokens = torch.from_numpy(source.validation(SEQUENCES))[:, :-1].to(here.device)
    observer = Observer(session.model, sites_by_block(session.model), lambda: session.model(tokens))
    yield _state(session, observer, tokens)
    for step in steps:
        restore(
            session, checkpoint.load_checkpoint(folder, step), str(checkpoint.checkpoint_path(folder, step))
        )
        yield _state(session, observer, tokens)


@torch.no_grad()
def _state(session: Session, observer: Observer, tokens: Tensor) -> State:
    return State(
        session.step, observer.measure(), attention_statistics(session.model, tokens),
        router_statistics(session.model, tokens), update_ratios(session) if session.step else {},
    )  # fmt: skip


def update_ratios(session: Session) -> dict[str, float]:
    """Last update of Adam, without decay, per the weights it was made to: root mean squares by group of parameters."""
    lr = float(session.lrs[session.step - 1])
    moved: dict[str, float] = defaultdict(float)
    size: dict[str, float] = defaultdict(float)
    of = {id(p): group for group in session.optimizer.param_groups for p in group["params"]}
    roles = describe(session.model)
    for name, p in session.model.named_parameters():
        group, state = of[id(p)], session.optimizer.state[p]
        beta1, beta2 = group["betas"]
        count = float(state["step"])
        first, second = state["exp_avg"] / (1 - beta1**count), state["exp_avg_sq"] / (1 - beta2**count)
        update = lr * group.get("lr_factor", 1.0) * first / (second.sqrt() + group["eps"])
        key = group_of(roles[name].kind)
        moved[key] += float(update.square().sum())
        size[key] += float(p.detach().square().sum())
    return {key: math.sqrt(moved[key] / size[key]) for key in moved}


def find_faults(states: Sequence[State]) -> Iterator[Finding]:
    """Yield what is beyond its limit, each part once, at its worst."""
    worst: dict[tuple[str, str], Finding] = {}
    for before, state in zip((None, *states[:-1]), states, strict=True):
        grown = before if before and before.step >= SETTLED * states[-1].step else None
        for found in _beyond(state, grown):
            sign = -1 if found.limit in BELOW else 1
            held = worst.get((found.limit, found.part))
            if held is None or sign * found.value > sign * held.value:
                worst[found.limit, found.part] = found
    yield from worst.values()


def _beyond(state: State, before: State | None) -> Iterator[Finding]:
    """What is beyond its limit at one checkpoint; the initial weights are blamed for nothing."""
    if not state.step:
        return
    for limit, part, value in (*_of_attention(state), *_of_routers(state), *_of_parts(state, before)):
        if value < LIMITS[limit] if limit in BELOW else value > LIMITS[limit]:
            yield Finding(limit, part, value, state.step)


def _of_attention(state: State) -> Iterator[tuple[str, str, float]]:
    for layer, seen in enumerate(state.attention):
        yield "attention logits", f"block {layer}", seen.largest_logit
        for head, entropy in enumerate(seen.entropy):
            yield "collapsed head", f"block {layer}, head {head}", entropy


def _of_routers(state: State) -> Iterator[tuple[str, str, float]]:
    for layer, router in enumerate(state.routers):
        for expert, load in enumerate(router.load):
            yield "starved expert", f"block {layer}, expert {expert}", load * len(router.load)
            yield "crowded expert", f"block {layer}, expert {expert}", load * len(router.load)


def _of_parts(state: State, before: State | None) -> Iterator[tuple[str, str, float]]:
    updates: dict[str, dict[str, float]] = defaultdict(dict)
    for (part, measure), value in state.coordinates.items():
        if measure == "update" and part[-1].isdigit():
            updates[part.rpartition(" ")[0]][part] = value
        if measure == "change" and (part, "size") in state.coordinates:
            yield "lazy part", part, value / state.coordinates[part, "size"]
        if measure == "size" and before is not None:
            yield "blow-up", part, value / before.coordinates[part, measure]
    for blocks in updates.values():
        for part, value in blocks.items():
            yield "uneven updates", part, value / median(blocks.values())
    for group, ratio in state.updates.items():
        yield "large updates", group, ratio
