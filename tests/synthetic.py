"""Runs made by a law with known parameters, and every law with each of its options."""

from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from lehr.laws import LAWS
from lehr.laws.effective_time import EffectiveTime
from lehr.laws.forward_momentum import ForwardMomentum
from lehr.laws.law import Conditions, Law
from lehr.laws.multi_power import MultiPower
from lehr.laws.sized import Sized
from lehr.laws.tissue import Tissue
from lehr.runs.run import Run
from lehr.schedule.families import constant, cosine, multistep, wsd
from lehr.schedule.pieces import TOLERANCE
from lehr.schedule.schedule import Schedule

STEPS, PEAK, WARMUP = 4000, 1e-3, 200
BATCH = 5e5
SIZES = (2e7, 1e8, 5e8)


@dataclass(frozen=True)
class Case:
    """A law with some of its options, and parameters that give curves like real ones."""

    law: Law
    nonlinear: tuple[float, ...]
    linear: tuple[float, ...]

    @property
    def vector(self) -> np.ndarray:
        return np.array(self.nonlinear + self.linear)

    def loss(self, conditions: Conditions, steps: np.ndarray, tolerance: float = TOLERANCE) -> np.ndarray:
        basis = self.law.bind(conditions, steps, tolerance)
        return basis(np.array(self.nonlinear))[0] @ np.array(self.linear)


def guess_case(law: Law) -> Case:
    """A case for a law that has none below: priors or the middle of the bounds, terms of .3 nats at the end."""
    nonlinear = tuple(
        p.from_search(p.prior[0] if p.prior else 0.5 * (p.to_search(p.low) + p.to_search(p.high)))
        for p in law.nonlinear
    )
    ends = [
        law.bind(Conditions(schedules()[name], SIZES[1], BATCH), np.array([float(STEPS)]))(
            np.array(nonlinear)
        )[0][0]
        for name in ("constant", "wsd")
    ]
    return Case(law, nonlinear, (2.5, *(0.3 / np.max(np.abs(ends), axis=0)[1:])))


def sized_case(law: Sized) -> Case:
    """The case of the law's base, its priors' powers of N, and a term in N that outweighs the growth of the others."""
    base = CASES[law.base.name]
    powers = [p.prior[0] for p in law.nonlinear[len(base.nonlinear) :]]
    return Case(law, (*base.nonlinear, *powers), (0.2, 3.2, *base.linear[1:]))


TISSUE = (0.5, 150.0), (2.5, 0.6, 0.4)
POWER = (0.5, 2.0, 0.6, 0.6), (2.5, 0.6, 150.0)
CASES: dict[str, Case] = {
    "one_power": Case(LAWS["one_power"], (0.5,), (2.5, 0.6)),
    "tissue": Case(LAWS["tissue"], *TISSUE),
    "tissue, warm-up at peak": Case(Tissue(warmup="peak"), *TISSUE),
    "tissue, warm-up's rise": Case(Tissue(warmup="rise"), *TISSUE),
    "tissue, fixed memory": Case(Tissue(decay_factor=0.995), (0.5,), (2.5, 0.6, 0.4)),
    "forward_momentum": Case(LAWS["forward_momentum"], (0.5,), (2.5, 0.6, 0.012)),
    "forward_momentum, logged": Case(ForwardMomentum(grid="logged"), (0.5,), (2.5, 0.6, 0.12)),
    "multi_power": Case(LAWS["multi_power"], *POWER),
    "multi_power, warm-up's rise": Case(MultiPower(warmup="rise"), *POWER),
    "multi_power, no gamma": Case(MultiPower(form="no_gamma"), (0.5, 20.0, 0.6), (2.5, 0.6, 150.0)),
    "multi_power, exponential": Case(MultiPower(form="exponential"), (0.5, 10.0), (2.5, 0.6, 120.0)),
    "multi_power, steps": Case(MultiPower(form="steps"), (0.5, 0.02, 0.6), (2.5, 0.6, 150.0)),
    "multi_power, linear": Case(MultiPower(form="linear"), (0.5,), (2.5, 0.6, 100.0)),
    "functional": Case(LAWS["functional"], (0.5, 20.0, 0.8), (2.5, 0.6, 80.0, 40.0)),
    "effective_time": Case(LAWS["effective_time"], (0.5, 0.8, 30.0, 2.0, 0.4), (2.4, 0.25, 8.0)),
    "effective_time_area": Case(LAWS["effective_time_area"], (0.5, 0.8, 30.0, 2.0), (2.4, 0.25, 8.0)),
    "effective_time, kernel of area": Case(
        EffectiveTime(kernel="area"), (0.5, 0.8, 30.0, 2.0), (2.4, 0.25, 8.0)
    ),
    "chinchilla": Case(LAWS["chinchilla"], (0.3, 0.4), (1.8, 2.0, 0.5)),
    "tissue_n": Case(LAWS["tissue_n"], (0.5, 150.0, 0.3, 0.05), (1.6, 0.6, 0.3, 2.5)),
    "forward_momentum_n": Case(LAWS["forward_momentum_n"], (0.5, 0.3), (1.6, 0.6, 0.012, 2.5)),
}


def schedules(peak: float = PEAK) -> dict[str, Schedule]:
    """Schedules of one peak LR that together identify every annealing law of one size."""
    shared = {"steps": STEPS, "peak": peak, "warmup": WARMUP}
    return {
        "constant": constant(**shared),
        "cosine": cosine(**shared, final=0.1 * peak),
        "wsd": wsd(**shared, decay=1000),
        "steps": multistep(**shared, milestones=[1200, 2600], factors=[0.5, 0.1]),
    }


CASES |= {
    name: guess_case(law) for name, law in LAWS.items() if name not in CASES and not isinstance(law, Sized)
}
CASES |= {
    name + extra: sized_case(replace(law, experts=bool(extra)))
    for name, law in LAWS.items()
    if isinstance(law, Sized)
    for extra in ("", ", experts")
}


@cache
def make_runs(case: Case, noise: float = 0.0, seed: int = 0, every: int = 50) -> tuple[Run, ...]:
    """Runs that follow `case` up to white relative noise: two peak LRs or, for a law with sizes, three sizes."""
    rng = np.random.default_rng(seed)
    steps = np.arange(every, STEPS + 1, every)
    experts = {"meta": {"experts": 8}, "params_total": 4 * SIZES[0]}  # of the smallest, for laws that see it
    if case.law.needs_sizes:
        plans = [(f"{n} {size:g}", s, size) for size in SIZES for n, s in schedules().items()]
    else:
        plans = [(f"{n} {peak:g}", s, None) for peak in (PEAK, 2 * PEAK) for n, s in schedules(peak).items()]
    runs = []
    for name, schedule, params in plans:
        more = experts if getattr(case.law, "experts", False) and params == SIZES[0] else {}
        loss = case.loss(Conditions(schedule, params, BATCH, params_total=more.get("params_total")), steps)
        loss = loss * (1 + noise * rng.standard_normal(len(steps)))
        runs.append(Run(name, schedule, steps, loss, params=params, batch_tokens=BATCH, **more))
    return tuple(runs)
