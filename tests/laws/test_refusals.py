"""What every law refuses: steps outside the schedule, sizes it lacks, and runs that do not identify it."""

from dataclasses import replace

import numpy as np
import pytest
from tests.laws.test_contract import AFTER, MANY, SIZE, sized
from tests.synthetic import BATCH, CASES, PEAK, make_runs

from lehr.errors import InputError
from lehr.fit.fit import fit
from lehr.laws import LAWS
from lehr.laws.law import Conditions

every_law = pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
annealing = pytest.mark.parametrize("law", [a for a in LAWS.values() if a.needs_anneal], ids=lambda a: a.name)
unsized = pytest.mark.parametrize(
    "law", [a for a in LAWS.values() if not a.needs_sizes], ids=lambda a: a.name
)


def test_step_outside_the_schedule_is_refused():
    law, conditions = LAWS["one_power"], Conditions(MANY["wsd"])
    with pytest.raises(
        InputError, match=r"step 0 lies outside 1 \.\. 4000, the steps of the schedule: ask for"
    ):
        law.bind(conditions, np.array([0.0, 10.0]))
    with pytest.raises(InputError, match=r"step 4001 lies outside 1 \.\. 4000"):
        law.bind(conditions, np.array([10.0, 4001.0]))


@every_law
def test_step_zero_is_refused_by_every_law(law):
    with pytest.raises(InputError, match=r"step 0 lies outside 1 \.\. 4000"):
        law.bind(Conditions(MANY["wsd"], SIZE, BATCH), np.array([0.0]))


@sized
def test_laws_with_sizes_need_the_number_of_parameters(law):
    with pytest.raises(
        InputError, match=f"law {law.name} needs the number of parameters: give it for every run"
    ):
        law.bind(Conditions(MANY["wsd"], None, BATCH), AFTER)
    runs = tuple(replace(run, params=None) for run in make_runs(CASES[law.name]))
    with pytest.raises(InputError, match=f"law {law.name} needs the number of parameters"):
        fit(law, runs)


def test_chinchilla_needs_the_batch_size():
    with pytest.raises(
        InputError, match=r"law chinchilla needs the tokens seen: give the batch size in tokens"
    ):
        LAWS["chinchilla"].bind(Conditions(MANY["wsd"], SIZE), AFTER)


@annealing
def test_one_schedule_is_refused(law):
    runs = [
        run for run in make_runs(CASES[law.name]) if run.name.startswith("wsd") and run.schedule.peak == PEAK
    ]
    text = (
        f"law {law.name} has an annealing term, which one schedule cannot identify: add a run with another, "
        r"such as wsd\(steps=4000, peak=0\.001, warmup=200, decay=800\)\."
    )
    with pytest.raises(InputError, match=text):
        fit(law, runs)


@annealing
def test_runs_without_a_decay_are_refused(law):
    text = (
        f"law {law.name} has an annealing term, but no run's LR falls before its last logged step: add a run"
    )
    runs = [run for run in make_runs(CASES[law.name]) if run.name.startswith("constant")]
    with pytest.raises(InputError, match=text):
        fit(law, runs)
    whole = [run for run in make_runs(CASES[law.name]) if run.name.startswith(("constant", "wsd"))]
    early = [run.select(run.step <= 3000) for run in whole]
    with pytest.raises(InputError, match=text):
        fit(law, early)  # the schedules do decay, but only after the last point


@every_law
def test_too_few_points_are_refused(law):
    runs = [run for run in make_runs(CASES[law.name], every=1000) if run.name.startswith(("cosine", "steps"))]
    runs = [run.select(run.step == 3000) for run in runs]
    count = len(law.nonlinear) + len(law.linear)
    while len(runs) > count:
        runs.pop(1)
    text = rf"law {law.name} has {count} parameters, but only {len(runs)} points are left after the burn-in of 200"
    with pytest.raises(InputError, match=text):
        fit(law, runs)


@sized
def test_one_size_is_refused_by_laws_with_sizes(law):
    runs = [run for run in make_runs(CASES[law.name]) if run.params == SIZE]
    text = rf"law {law.name} has a term in the number of parameters, but all runs have the same \(1e\+08\): add runs"
    with pytest.raises(InputError, match=text):
        fit(law, runs)


@unsized
def test_several_sizes_are_refused_by_laws_of_one_size(law):
    first, *rest = make_runs(CASES[law.name])
    runs = [replace(first, params=1e7), *(replace(run, params=SIZE) for run in rest)]
    text = f"law {law.name} is of one size, but the runs have 2: fit each size by itself, or use a law with sizes"
    with pytest.raises(InputError, match=text):
        fit(law, runs)
