"""One contract over every law of the table, with each of its options."""

from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.synthetic import BATCH, CASES, PEAK, STEPS, WARMUP, make_runs, schedules

from lehr.errors import InputError
from lehr.fit.fit import FitOptions, fit
from lehr.fit.result import FitResult
from lehr.laws import LAWS, get_law
from lehr.laws.law import CACHED, Conditions, in_blocks
from lehr.laws.multi_power import MultiPower
from lehr.laws.tissue import Tissue
from lehr.runs.run import Run
from lehr.schedule.families import constant, cyclic, from_array, power_scheduler, rewarm, wsd
from lehr.schedule.pieces import TOLERANCE

P = {"peak": PEAK, "warmup": WARMUP}
MANY = {
    **schedules(),
    "sqrt": wsd(steps=STEPS, decay=1000, shape="sqrt", **P),
    "square": wsd(steps=STEPS, decay=1000, shape="square", **P),
    "exponential": wsd(steps=STEPS, decay=1000, shape="exponential", final=1e-5, **P),
    "cyclic": cyclic(steps=STEPS, low=1e-4, period=1300, **P),
    "rewarm": rewarm(base=wsd(steps=2000, decay=500, **P), steps=2000, peak=5e-4, warmup=100, decay=500),
    "table": from_array(values=wsd(steps=STEPS, decay=1000, shape="sqrt", **P).to_array()),
    "power": power_scheduler(steps=STEPS, a=0.1, batch=128, batch_tokens=524288, decay=400, **P),
}
FALLING = ("constant", "cosine", "wsd", "steps", "sqrt", "square", "exponential", "power")
AFTER = np.unique(
    np.concatenate([np.arange(WARMUP, STEPS + 1, 50), [201, 1201, 2999, 3001, STEPS - 1]])
).astype(float)
SIZE = 1e8
# laws whose slow states are solved part by part; all others sum over a piece of the schedule in closed form
NUMERIC = ("weight_norm", "weight_norm_n")

every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
falling = {n: c for n, c in CASES.items() if getattr(c.law, "warmup", "") != "rise"}
by_update = {n: c for n, c in CASES.items() if getattr(c.law, "grid", "update") == "update"}
sized = pytest.mark.parametrize("law", [a for a in LAWS.values() if a.needs_sizes], ids=lambda a: a.name)


def columns(case, schedule, steps=AFTER, tolerance=TOLERANCE):
    return case.law.bind(Conditions(schedule, SIZE, BATCH), steps, tolerance)(np.array(case.nonlinear))[0]


def inside(law, share):
    """Nonlinear parameters at a share of the way between their bounds, and what a search coordinate is worth."""
    low = np.array([p.to_search(p.low) for p in law.nonlinear])
    high = np.array([p.to_search(p.high) for p in law.nonlinear])
    return low + (high - low) * np.array(share[: len(low)])


def grid_of(law, count, seed):
    """Rows of nonlinear parameters between the bounds, shape (count, K)."""
    share = np.random.default_rng(seed).random((count, len(law.nonlinear)))
    return np.array(
        [[p.from_search(z) for p, z in zip(law.nonlinear, inside(law, row), strict=True)] for row in share]
    ).reshape(count, len(law.nonlinear))


# what a law says of itself


def test_the_table_lists_every_law_once_under_its_name():
    assert len(LAWS) >= 10
    assert all(law.name == name and get_law(name) is law for name, law in LAWS.items())


def test_every_option_of_every_law_has_a_case():
    seen = {
        (type(case.law).__name__, f.name, getattr(case.law, f.name))
        for case in CASES.values()
        for f in fields(case.law)
        if f.name in ("form", "warmup", "grid", "kernel", "sizes")
    }
    for value in ("as_run", "peak", "rise"):
        assert ("Tissue", "warmup", value) in seen
    for value in ("full", "no_gamma", "exponential", "steps", "linear"):
        assert ("MultiPower", "form", value) in seen
    assert {("MultiPower", "warmup", "ignore"), ("MultiPower", "warmup", "rise")} <= seen
    assert {("ForwardMomentum", "grid", "update"), ("ForwardMomentum", "grid", "logged")} <= seen
    assert {("EffectiveTime", "kernel", "area"), ("EffectiveTime", "kernel", "effective_time")} <= seen
    assert any(case.law.decay_factor for case in CASES.values() if isinstance(case.law, Tissue))


def test_an_unknown_law_suggests_the_nearest():
    with pytest.raises(InputError, match=r"unknown law 'tisue': did you mean 'tissue'\? Known: chinchilla, "):
        get_law("tisue")


@every_case
def test_names_bounds_and_signs_are_sane(case):
    law = case.law
    names = [p.name for p in law.nonlinear] + [a.name for a in law.linear]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and name.islower() for name in names)
    assert all(p.symbol and p.meaning for p in law.nonlinear)
    assert all(a.symbol and a.meaning and a.sign in (1, -1) for a in law.linear)
    assert law.linear[0].name == "irreducible_loss" and law.linear[0].sign == 1
    assert law.title and law.reference
    assert law.degenerate is None or len(law.degenerate) > 10
    for p, value in zip(law.nonlinear, case.nonlinear, strict=True):
        assert p.low < value < p.high
        assert not p.log or p.low > 0
        assert p.from_search(p.to_search(value)) == pytest.approx(value, rel=1e-14)
        if p.prior:
            assert p.low < p.from_search(p.prior[0]) < p.high and p.prior[1] > 0


def test_which_laws_are_degenerate():
    for name in ("multi_power", "functional", "effective_time", "effective_time_area"):
        assert LAWS[name].degenerate is None
    for name in ("tissue", "tissue_n"):
        assert "its best schedule is a drop in the last moment" in LAWS[name].degenerate
    for name in ("forward_momentum", "forward_momentum_n"):
        assert "in how many updates the LR falls" in LAWS[name].degenerate
    for name in ("one_power", "chinchilla"):
        assert LAWS[name].degenerate
    for form in ("linear", "steps"):
        assert "last moment" in MultiPower(form=form).degenerate


# shape, limits, signs


@every_case
def test_basis_and_derivatives_have_their_shapes_and_are_finite(case):
    basis = case.law.bind(Conditions(MANY["wsd"], SIZE, BATCH), AFTER)
    phi, slope = basis(np.array(case.nonlinear))
    assert phi.shape == (len(AFTER), len(case.law.linear))
    assert slope.shape == (*phi.shape, len(case.law.nonlinear))
    assert np.all(np.isfinite(phi)) and np.all(np.isfinite(slope))
    assert np.all(phi[:, 0] == 1) and np.all(slope[:, 0] == 0), "the first amplitude is the irreducible loss"


@every_case
@pytest.mark.parametrize("name", MANY)
def test_values_of_many_rows_at_once_are_those_of_each(case, name):
    bound = case.law.bind(Conditions(MANY[name], SIZE, BATCH, params_total=3 * SIZE), AFTER)
    rows = np.concatenate([[case.nonlinear], grid_of(case.law, 6, seed=1)])
    alone = np.stack([bound(row)[0] for row in rows])
    # relative to the largest of a column, as sums of terms of either sign pass through 0
    height = np.abs(alone).max(axis=1, keepdims=True)
    assert np.all(np.abs(bound.values(rows) - alone) <= 1e-9 * height)


def test_rows_are_taken_in_blocks_of_what_stays_in_the_cache():
    taken = []

    def values(rows):
        taken.append(len(rows))
        return 2 * rows[:, None, :]

    rows = np.arange(20.0).reshape(10, 2)
    assert np.array_equal(in_blocks(values, CACHED // 4)(rows), 2 * rows[:, None, :])
    assert taken == [4, 4, 2]
    assert np.array_equal(in_blocks(values, 10 * CACHED)(rows[:2]), 2 * rows[:2, None, :])


@pytest.mark.parametrize("case", falling.values(), ids=falling)
@pytest.mark.parametrize("name", FALLING)
def test_columns_carry_the_sign_of_their_term(case, name):
    """With warmup="rise" they do not: the way up is a negative fall (tested below)."""
    phi = columns(case, MANY[name])
    for column, amplitude in zip(phi.T, case.law.linear, strict=True):
        assert np.all(column * amplitude.sign >= 0)


@every_case
def test_loss_decreases_with_training_at_constant_lr(case):
    loss = case.loss(Conditions(MANY["constant"], SIZE, BATCH), AFTER)
    assert np.all(np.diff(loss) < 0)
    assert np.all(loss > case.linear[0])


@every_case
def test_annealing_at_the_end_lowers_the_loss_of_the_laws_that_know_of_it(case):
    rows = np.arange(10.0, STEPS + 1, 10)
    held, fallen = (case.loss(Conditions(MANY[name], SIZE, BATCH), rows)[-1] for name in ("constant", "wsd"))
    if case.law.needs_anneal:
        assert fallen < held - 0.005
    else:
        assert fallen >= held


@every_case
def test_loss_just_before_the_decay_does_not_know_of_it(case):
    before = np.arange(50.0, 3001, 50)
    held, fallen = (case.loss(Conditions(MANY[name], SIZE, BATCH), before) for name in ("constant", "wsd"))
    np.testing.assert_allclose(fallen, held, rtol=5e-5 if case.law.name in NUMERIC else 1e-12)


@sized
def test_a_larger_model_has_a_lower_loss(law):
    case = CASES[law.name]
    small, large = (case.loss(Conditions(MANY["wsd"], size, BATCH), AFTER) for size in (1e8, 2e8))
    assert np.all(large < small)


def test_options_of_the_warm_up_mean_what_they_say():
    """At a constant LR: peak adds half the warm-up to the area, rise adds the negative area of the way up."""
    schedule, steps = MANY["constant"], np.array([float(STEPS)])
    as_run, peak, rise = (
        columns(CASES[f"tissue{extra}"], schedule, steps, 0.0)[0]
        for extra in ("", ", warm-up at peak", ", warm-up's rise")
    )
    area = schedule.to_array().sum()
    assert as_run[1] == pytest.approx(area**-0.5)
    assert peak[1] == pytest.approx((PEAK * STEPS) ** -0.5)
    assert rise[1] == as_run[1]
    assert as_run[2] == peak[2] == 0
    assert rise[2] == pytest.approx(PEAK * 150, rel=1e-6), (
        "risen by the peak, long ago: - S2 is peak / (1 - lambda)"
    )


def test_multi_power_counts_the_rise_as_a_negative_drop():
    full, rise = (CASES[f"multi_power{extra}"] for extra in ("", ", warm-up's rise"))
    assert np.all(columns(full, MANY["constant"])[:, 2] == 0)
    late = columns(rise, MANY["constant"])[:, 2]
    assert np.all(late > 0) and np.all(late < PEAK)
    assert np.all(np.diff(late) > 0)


def test_a_lr_of_zero_for_a_while_is_no_trouble():
    """Padding with updates at LR 0, and a warm-up that wastes its first update, give finite values."""
    padded = wsd(steps=1000, peak=PEAK, decay=300).then(from_array(values=np.zeros(200)))
    wasted = constant(steps=1200, peak=PEAK, warmup=100, warmup_phase=0)
    steps = np.array([1.0, 2.0, 700.0, 1000.0, 1001.0, 1200.0])
    for case in CASES.values():
        for schedule in (padded, wasted):
            run = Run("r", schedule, steps[2:], case.loss(Conditions(schedule, SIZE, BATCH), steps[2:]))
            assert np.all(np.isfinite(run.loss))
            phi, slope = case.law.bind(Conditions(schedule, SIZE, BATCH), steps)(np.array(case.nonlinear))
            assert not np.any(np.isnan(phi)) and not np.any(np.isnan(slope)), case.law.name


# derivatives


@every_case
@settings(deadline=None, max_examples=12, derandomize=True)
@given(
    share=st.lists(st.floats(0.03, 0.97), min_size=16, max_size=16),
    name=st.sampled_from(["cosine", "wsd", "steps", "cyclic", "rewarm"]),
)
def test_derivatives_match_finite_differences(case, share, name):
    law = case.law
    basis = law.bind(Conditions(MANY[name], SIZE, BATCH), AFTER)
    search = inside(law, share)

    def at(index, shift):
        moved = search.copy()
        moved[index] += shift
        return basis(np.array([p.from_search(z) for p, z in zip(law.nonlinear, moved, strict=True)]))

    phi, slope = at(0, 0.0)
    for i, p in enumerate(law.nonlinear):
        h = 1e-3
        numeric = (8 * (at(i, h)[0] - at(i, -h)[0]) - (at(i, 2 * h)[0] - at(i, -2 * h)[0])) / (12 * h)
        exact = slope[:, :, i] * (p.from_search(search[i]) if p.log else 1.0)
        # relative to the column's largest derivative; below 1e-6 of the column itself nothing is felt
        scale = np.maximum(np.abs(numeric).max(axis=0), 1e-6 * np.abs(phi).max(axis=0)) + 1e-300
        assert np.max(np.abs(exact - numeric) / scale) < 1e-6, p.name


# compression of the schedule, and of the log


@every_case
@pytest.mark.parametrize("name", MANY)
def test_compressed_evaluation_matches_step_by_step(case, name):
    """At most .006 of a column's largest value is lost, .0004 of the loss (.001 while slow states settle); finer
    pieces lose less.

    Straight decays lose least. The worst column is the momentum per update of a power-law decay, whose
    LR is for most of the run a small part of the peak that pieces are measured by.
    """
    exact = columns(case, MANY[name], tolerance=0.0)
    size = np.maximum(np.abs(exact).max(axis=0), 1e-300)
    linear = np.array(case.linear)
    worst = []
    for tolerance in (TOLERANCE, TOLERANCE / 8):
        phi = columns(case, MANY[name], tolerance=tolerance)
        error = np.max(np.abs(phi - exact) / size)
        assert error < 0.016 if name == "power" else error < 0.006
        allowed = np.where((case.law.name in NUMERIC) & (AFTER < 2 * WARMUP), 1e-3, 4e-4)
        assert np.all(np.abs((phi - exact) @ linear) / (exact @ linear) < allowed)
        worst.append(error)
    assert worst[1] <= max(0.5 * worst[0], 1e-5)
    if name in ("wsd", "steps", "constant") and getattr(case.law, "warmup", "") != "rise":
        assert worst[0] < (
            4e-3 if case.law.name in NUMERIC else 5e-4 if case.law.name == "multi_power" else 1e-4
        )


@pytest.mark.parametrize("case", by_update.values(), ids=by_update)
@settings(deadline=None, max_examples=6, derandomize=True)
@given(others=st.sets(st.integers(WARMUP, STEPS), min_size=1, max_size=40))
def test_the_value_at_a_step_does_not_depend_on_what_else_was_logged(case, others):
    """All but Forward-Momentum on logged rows, whose feature is made of the rows (tested below)."""
    common = np.array([700.0, 1500.0, 3300.0])
    steps = np.union1d(common, np.array(sorted(others), float))
    for name in ("wsd", "cyclic"):
        alone = columns(case, MANY[name], common)
        among = columns(case, MANY[name], steps)[np.searchsorted(steps, common)]
        np.testing.assert_allclose(among, alone, rtol=1e-12, atol=1e-300)


def test_forward_momentum_on_logged_rows_depends_on_the_rows():
    case = CASES["forward_momentum, logged"]
    dense = columns(case, MANY["wsd"], np.arange(10.0, STEPS + 1, 10))[-1, 2]
    sparse = columns(case, MANY["wsd"], np.arange(100.0, STEPS + 1, 100))[-1, 2]
    assert abs(dense / sparse - 1) > 0.5


# fits of it


@every_case
def test_a_fit_survives_json_with_its_options(case):
    result = fit(case.law, make_runs(case, noise=1e-4, every=200), FitOptions(starts=4, polished=1))
    again = FitResult.from_json(result.to_json())
    assert again == result
    assert again.get_law() == case.law
    conditions = Conditions(MANY["wsd"], SIZE, BATCH)
    assert np.array_equal(again.evaluate(conditions, AFTER), result.evaluate(conditions, AFTER))
