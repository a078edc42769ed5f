"""A model of experts is planned as the dense model of its size, N_active^(1 - s) N_total^s, by every decision."""

from dataclasses import fields, is_dataclass, replace
from functools import cache

import numpy as np
import pytest
from tests.synthetic import BATCH, CASES, PEAK, STEPS, WARMUP, make_runs

from lehr.anneal.branch import recommend_decay
from lehr.anneal.continuation import compare_continuations, compare_wsd_s
from lehr.anneal.costs import ratio_costs
from lehr.anneal.family_search import family_warnings, search_family
from lehr.anneal.optimize import optimize_schedule
from lehr.anneal.plan import plan_run
from lehr.anneal.suggest import suggest_runs
from lehr.errors import InputError
from lehr.fit.fit import FitOptions, fit
from lehr.laws.law import Conditions
from lehr.report.charts.ratios import ratio_band
from lehr.runs.run import Run
from lehr.schedule.families import constant, wsd

CASE = CASES["weight_norm_n, experts"]
ACTIVE, TOTAL = 4e7, 1.2e8
SHARE = CASE.nonlinear[-1]
DENSE = ACTIVE ** (1 - SHARE) * TOTAL**SHARE
PLANNED = {"steps": STEPS, "peak": PEAK}
BASE = wsd(steps=1000, peak=PEAK, warmup=WARMUP, decay=200)


@cache
def fitted():
    """The true law, with draws that differ in the amplitudes and in nothing that says how large a model is."""
    runs = make_runs(CASE)
    result = fit(CASE.law, runs, FitOptions(burn_in=1, starts=2, polished=1))
    vector = np.concatenate([CASE.nonlinear, CASE.linear])
    scale = np.random.default_rng(0).normal(1, 0.02, (24, len(CASE.linear)))
    draws = tuple((*CASE.nonlinear, *(np.array(CASE.linear) * row)) for row in scale)
    return replace(
        result, parameters=dict(zip(result.parameters, vector.tolist(), strict=True)), draws=draws,
        spread=(5e-4, -5e-4), without_peak={}, domain=replace(result.domain, sparsity=(1.0, 4.0)),
    )  # fmt: skip


def run_of(**told):
    step = np.arange(50, 2001, 50)
    plan = constant(steps=STEPS, peak=PEAK, warmup=WARMUP)
    sizes = {key: told[key] for key in ("params", "params_total") if key in told}
    loss = CASE.loss(Conditions(plan, batch_tokens=BATCH, **sizes), step)
    meta = {"experts": 8} if "params_total" in told else {}
    return Run("now", plan, step, loss, batch_tokens=BATCH, meta=meta, **sizes)


ASKED = {
    "plan": lambda **sizes: plan_run(fitted(), **PLANNED, **sizes),
    "costs": lambda **sizes: ratio_costs(
        fitted(), wsd(**PLANNED, warmup=WARMUP, decay=800), (0.1, 0.4), **sizes
    ),
    "family": lambda **sizes: search_family(fitted(), **PLANNED, shapes=("linear",), finals=(0.0,), **sizes),
    "optimum": lambda **sizes: optimize_schedule(fitted(), **PLANNED, knots=4, **sizes),
    "continuations": lambda **sizes: compare_continuations(fitted(), BASE, steps=STEPS, **sizes),
    "horizons": lambda **sizes: compare_wsd_s(fitted(), horizons=(1000, 2500), peak=PEAK, decay=200, **sizes),
    "suggestions": lambda **sizes: suggest_runs(fitted(), **PLANNED, **sizes),
    "band": lambda **sizes: ratio_band(fitted(), **PLANNED, warmup=WARMUP, grid=5, **sizes),
    "decay": lambda **sizes: recommend_decay(fitted(), run_of(**sizes), deadline=STEPS, shapes=("linear",)),
}


def numbers_in(value):
    """All numbers of a value of nested dataclasses, in order."""
    if is_dataclass(value):
        value = [getattr(value, field.name) for field in fields(value)]
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple | np.ndarray):
        return [number for each in value for number in numbers_in(each)]
    return [float(value)] if isinstance(value, int | float) else []


@pytest.mark.parametrize("ask", ASKED.values(), ids=ASKED)
def test_a_model_of_experts_has_the_answer_of_the_dense_model_of_its_size(ask):
    found, dense = (numbers_in(ask(**sizes)) for sizes in (
        {"params": ACTIVE, "params_total": TOTAL}, {"params": DENSE}))  # fmt: skip
    other = numbers_in(ask(params=ACTIVE))
    assert len(found) > 4
    np.testing.assert_allclose(found, dense, rtol=1e-6, atol=1e-9)
    assert len(found) != len(other) or not np.allclose(found, other, rtol=1e-4)


def test_another_share_of_active_parameters_is_warned_of():
    sizes = {"params": ACTIVE, "params_total": 20 * ACTIVE}
    told = "20 times as many parameters as active ones (--params-total) lies outside"
    best = search_family(fitted(), **PLANNED, shapes=("linear",), finals=(0.0,), **sizes)[0]
    for warnings in (
        plan_run(fitted(), **PLANNED, shape="linear", final=0.0, **sizes).best.warnings,
        optimize_schedule(fitted(), **PLANNED, knots=4, **sizes).warnings,
        family_warnings(fitted(), best, **sizes),
    ):
        assert any(told in warning for warning in warnings)
    assert not any("--params-total" in w for w in family_warnings(fitted(), best, ACTIVE, 3 * ACTIVE))


def test_fewer_parameters_than_active_ones_are_refused():
    with pytest.raises(InputError, match="all parameters of a model of experts must be at least the active"):
        plan_run(fitted(), **PLANNED, params=ACTIVE, params_total=ACTIVE / 2)
