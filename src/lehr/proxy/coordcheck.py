"""Coordinate check of a rule of transfer on the proxy: small trainings of several sizes, measured as they begin."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from lehr.errors import InputError, ResultError, bad
from lehr.proxy.config import Base, Model, TrainConfig, Transfer, make_config
from lehr.proxy.coordinates import comparable_sites
from lehr.proxy.data import open_data
from lehr.proxy.distributed import Ranks
from lehr.proxy.memory import check_memory
from lehr.proxy.session import Session, open_session, update
from lehr.proxy.sizing import resized
from lehr.proxy.transferring import plan_of
from lehr.transfer.coordcheck import Observer
from lehr.transfer.slopes import Reading, ScaleName, Verdict, judge
from lehr.transfer.tables import get_rule

STEPS, SEEDS = 8, 2
# of the peak: a warm-up of a hundred updates has moved the weights as far after twenty
LR_SHARE = 1 / 4
Scales = Mapping[ScaleName, Sequence[int]]


@dataclass(frozen=True)
class Check:
    """What a coordinate check found.

    Parameters
    ----------
    rule : that was checked.
    base : name of the base, and its sizes are in `model`.
    model : of the base.
    lr : constant, of the base; each module's is that times its factor.
    steps, seeds : updates of every training; how many of them differ in initial weights alone.
    readings : all that was measured.
    verdicts : one for each scale.
    """

    rule: str
    base: str
    model: Model
    lr: float
    steps: int
    seeds: int
    readings: tuple[Reading, ...]
    verdicts: tuple[Verdict, ...]

    @property
    def holds(self) -> bool:
        """Whether the rule holds over every scale."""
        return all(verdict.holds for verdict in self.verdicts)


@dataclass(frozen=True)
class Case:
    """One training of the check."""

    scale: ScaleName
    size: int
    seed: int
    config: TrainConfig

    @property
    def name(self) -> str:
        """Of what is trained."""
        return f"{self.scale} {self.size}, seed {self.seed}"


def check_rule(
    base: TrainConfig, rule: str, scales: Scales, *, steps: int = STEPS, seeds: int = SEEDS, lr: float | None = None,
    begin: Callable[[str], None] | None = None,
) -> Check:  # fmt: skip
    """Train proxies of several sizes under a rule for a few updates, and judge how their coordinates scale.

    Parameters
    ----------
    base : configuration that the rule carries over: `[model]`, `[data]`, `[optimizer]`, batch and peak LR count.
    rule : its name in `lehr.transfer.tables.RULES`.
    scales : sizes by scale, two or more; of depth even ones. All else is as in the base.
    steps : updates; at least 2.
    seeds : trainings of every size.
    lr : constant LR of the base; None for a third of its peak.
    begin : called with the name of each training before it.

    Raises
    ------
    InputError
        If the sizes or the base cannot be used; as `lehr.transfer.plan.transfer` does.
    ResultError
        If a number is not finite or 0, or memory does not suffice.
    """
    made = cases(base, rule, scales, steps=steps, seeds=seeds, lr=lr)
    readings: list[Reading] = []
    for case in made:
        if begin:
            begin(case.name)
        readings += measure(case)
    peak = made[0].config.training.plan.peak
    verdicts = tuple(judge(readings, scale) for scale in scales)
    return Check(rule, base.name, base.model, peak, steps, seeds, tuple(readings), verdicts)


def cases(
    base: TrainConfig,
    rule: str,
    scales: Scales,
    *,
    steps: int = STEPS,
    seeds: int = SEEDS,
    lr: float | None = None,
) -> list[Case]:
    """List the trainings of a check; raises as `check_rule` does, before anything is trained."""
    if base.transfer is not None or base.branch is not None:
        raise InputError(
            f"{base.name!r} has a table [{'transfer' if base.transfer else 'branch'}]: give the base itself, a "
            "training of its own from the start."
        )
    for name, value, least in (("steps", steps, 2), ("seeds", seeds, 1)):
        if value < least:
            raise bad(name, f"must be at least {least}", value, "give more")
    if not scales:
        raise InputError("there is nothing to vary: give widths, depths or numbers of experts.")
    rate = base.training.plan.peak * LR_SHARE if lr is None else lr
    if not (rate > 0 and math.isfinite(rate)):
        raise bad("lr", "must be positive", rate, "give an LR that the base trains well with")
    same_share = "active_share" in get_rule(rule).cautions
    found = []
    for scale, sizes in scales.items():
        for size in _checked(scale, sizes):
            model = resized(base.model, scale, size, same_share)
            for seed in range(base.training.seed, base.training.seed + seeds):
                config = _config(base, model, rule, f"constant(steps={steps}, peak={rate!r})", seed)
                plan_of(config)  # what cannot be transferred is refused before anything is trained
                found.append(Case(scale, size, seed, config))
    return found


def _checked(scale: ScaleName, sizes: Sequence[int]) -> Sequence[int]:
    if len(set(sizes)) < 2:
        raise bad(f"sizes of {scale}", "must be two or more, to tell a slope", list(sizes), "add sizes")
    if sorted(set(sizes)) != list(sizes):
        raise bad(f"sizes of {scale}", "must rise", list(sizes), "sort them")
    odd = [size for size in sizes if scale == "depth" and size % 2]
    if odd:
        raise bad(
            "sizes of depth",
            "must be even, so that there is a block at half the depth",
            odd[0],
            "take even depths",
        )
    return sizes


def _config(base: TrainConfig, model: Model, rule: str, schedule: str, seed: int) -> TrainConfig:
    training = base.training.model_copy(
        update={
            "schedule": schedule,
            "seed": seed,
            "compile": False,
            "keep": (),
        }  # hooks do not see compiled code
    )
    table = Transfer(rule=rule, base=Base(model=base.model))
    changes = {"model": model, "training": training, "transfer": table}
    return make_config(base.model_copy(update=changes).model_dump(mode="json"), repr(base.name))


def measure(case: Case) -> Iterator[Reading]:
    """Train one case and measure it before the first update and after each, on sequences that it is not trained on.

    Raises
    ------
    ResultError
        If a number is not finite or 0, or memory does not suffice.
    """
    config = case.config
    steps, batch = config.training.plan.steps, config.training.batch
    source = open_data(config.data, config.model.context)
    here = Ranks(0, 1, torch.device("cuda" if torch.cuda.is_available() else "cpu"))
    check_memory(config, source.vocab_size, here)
    session = open_session(config, source, here)
    tokens = torch.from_numpy(source.train(steps * batch, batch))[:, :-1].to(here.device)
    observer = Observer(session.model, comparable_sites(session.model), lambda: evaluate(session, tokens))
    for step in range(steps + 1):
        if step:
            update(session)
        for (part, name), value in observer.measure().items():
            if step == 0 and name not in ("size", "gain"):
                continue  # nothing has changed yet
            if not (0 < value < math.inf):
                raise ResultError(
                    f"the {name} of {part} is {value} after update {step} ({case.name}): lower the LR, or see whether "
                    "the base trains."
                )
            yield Reading(case.scale, case.size, case.seed, step, part, name, value)


@torch.no_grad()
def evaluate(session: Session, tokens: torch.Tensor) -> None:
    """Run the model on `tokens` (B, C) as it is when not trained."""
    session.model.eval()
    session.model(tokens)
    session.model.train()
