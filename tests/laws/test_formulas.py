"""Every law but Tissue's against its formula, summed update by update; and none sound rewards padding."""

import numpy as np
import pytest
from tests.synthetic import BATCH, CASES, SIZES, make_runs

from lehr.fit.fit import fit
from lehr.laws import LAWS
from lehr.laws.law import Conditions
from lehr.schedule.families import cyclic, from_array, multistep, wsd

# every other law against its formula, summed update by update

FORMULA = {
    "linear": wsd(steps=1500, peak=1e-3, warmup=100, decay=500),
    "to a floor": wsd(steps=1500, peak=1e-3, warmup=100, decay=500, shape="cosine", final=2e-4),
    "cyclic": cyclic(steps=1500, peak=1e-3, low=1e-4, period=400, warmup=100),
    "steps": multistep(steps=1500, peak=1e-3, milestones=[600, 1000], factors=[0.3, 0.1], warmup=100),
}
AT = np.array([150, 601, 999, 1001, 1250, 1499, 1500])
formulas = pytest.mark.parametrize("schedule", FORMULA.values(), ids=FORMULA)


def column(case, schedule, index=2):
    basis = case.law.bind(Conditions(schedule), AT.astype(float), 0.0)
    return basis(np.array(case.nonlinear))[0][:, index]


def falls(lr, warmup=100):
    """LR lost before each update, from the top of the warm-up on."""
    fall = -np.diff(lr, prepend=lr[0])
    fall[:warmup] = 0
    return fall


@formulas
@pytest.mark.parametrize(
    "name",
    [
        "multi_power",
        "multi_power, no gamma",
        "multi_power, exponential",
        "multi_power, steps",
        "multi_power, linear",
    ],
)
def test_multi_power_is_its_formula(name, schedule):
    case, lr = CASES[name], schedule.to_array()
    alpha, *shape = case.nonlinear
    fall, total = falls(lr), np.concatenate([[0], np.cumsum(lr)])

    def loss_drop(s):
        k = np.arange(s)
        since = (s - k) if case.law.form == "steps" else total[s] - total[k]
        gamma = shape[2] if case.law.form == "full" else 0.0
        x = shape[0] * np.maximum(lr[k], 1e-10) ** -gamma * since if shape else since
        gone = {"exponential": lambda: 1 - np.exp(-x), "linear": lambda: 1.0}
        return np.sum(fall[k] * gone.get(case.law.form, lambda: 1 - (1 + x) ** -shape[1])())

    np.testing.assert_allclose(column(case, schedule), [-loss_drop(s) for s in AT], rtol=1e-9, atol=1e-15)
    np.testing.assert_allclose(column(case, schedule, 1), total[AT] ** -alpha, rtol=1e-12)


def test_multi_power_with_the_rise_sums_over_the_warm_up_too():
    case, lr = CASES["multi_power, warm-up's rise"], FORMULA["linear"].to_array()
    _, rate, beta, gamma = case.nonlinear
    fall, total = -np.diff(lr, prepend=0.0), np.concatenate([[0], np.cumsum(lr)])
    expected = [
        -np.sum(fall[:s] * (1 - (1 + rate * lr[:s] ** -gamma * (total[s] - total[:s])) ** -beta)) for s in AT
    ]
    np.testing.assert_allclose(column(case, FORMULA["linear"]), expected, rtol=1e-9)


@formulas
def test_the_functional_law_is_its_formula(schedule):
    case, lr = CASES["functional"], schedule.to_array()
    exponent, rate, relax = case.nonlinear
    fall, total = falls(lr), np.concatenate([[0], np.cumsum(lr)])
    for index, weight in ((2, np.ones(1500)), (3, np.maximum(total[:-1], 1e-300) ** -exponent)):
        gone = [1 - (1 + rate * (total[s] - total[:s])) ** -relax for s in AT]
        expected = [-np.sum(fall[:s] * weight[:s] * g) for s, g in zip(AT, gone, strict=True)]
        np.testing.assert_allclose(column(case, schedule, index), expected, rtol=1e-9, atol=1e-15)


@formulas
@pytest.mark.parametrize("name", ["effective_time", "effective_time_area"])
def test_effective_time_is_its_formula(name, schedule):
    """The sum over updates, each taken at its middle: the law integrates over it."""
    case, eta = CASES[name], schedule.to_array() / 1e-3
    alpha, p, rate, beta = case.nonlinear[:4]
    tick = eta**p / 1e4
    tau = np.concatenate([[0], np.cumsum(tick)])
    area = case.law.kernel == "area"
    clock = np.concatenate([[0], np.cumsum(eta / 1e4)]) if area else tau
    middle = 0.5 * (clock[1:] + clock[:-1])
    source = eta**p * (eta / 1e4) if area else eta ** case.nonlinear[4] * tick
    expected = [np.sum(source[:s] * (1 + rate * (clock[s] - middle[:s])) ** -beta) for s in AT]
    np.testing.assert_allclose(column(case, schedule), expected, rtol=1e-5)
    np.testing.assert_allclose(column(case, schedule, 1), tau[AT] ** -alpha, rtol=1e-10)


@pytest.mark.parametrize("name", ["tissue_n", "forward_momentum_n"])
def test_laws_with_sizes_add_powers_of_millions_of_parameters(name):
    one, sized = CASES[name.removesuffix("_n")], CASES[name]
    steps, conditions = AT.astype(float), Conditions(FORMULA["linear"], 2e8)
    plain = one.law.bind(conditions, steps)(np.array(one.nonlinear))[0]
    found = sized.law.bind(conditions, steps)(np.array(sized.nonlinear))[0]
    np.testing.assert_allclose(found[:, :2], plain[:, :2], rtol=1e-12)
    gain = 200.0 ** sized.nonlinear[-1] if name == "tissue_n" else 1.0
    np.testing.assert_allclose(found[:, 2], plain[:, 2] * gain, rtol=1e-12)
    np.testing.assert_allclose(found[:, 3], 200.0**-(0.3), rtol=1e-12)


def test_chinchilla_is_its_formula():
    found = CASES["chinchilla"].law.bind(Conditions(FORMULA["linear"], 2e8, 5e5), AT.astype(float))(
        np.array([0.3, 0.4])
    )[0]
    np.testing.assert_allclose(found[:, 1], 200.0**-0.3, rtol=1e-12)
    np.testing.assert_allclose(found[:, 2], (AT * 5e5 / 1e9) ** -0.4, rtol=1e-12)


def padded(schedule, steps=5000):
    return schedule.then(from_array(values=np.zeros(steps)))


@pytest.mark.parametrize("name", ["effective_time", "effective_time_area"])
def test_zero_padding_does_not_lower_the_loss_of_effective_time(name):
    """Both fitted to the same runs, made by Tissue's law, so that the difference is the form's."""
    runs = make_runs(CASES["tissue"], noise=1e-3, every=100)
    plan = wsd(steps=4000, peak=1e-3, warmup=200, decay=800)

    def gain(law):
        result = fit(LAWS[law], runs)
        before, after = (
            result.evaluate(Conditions(s), np.array([float(s.steps)])) for s in (plan, padded(plan, 500))
        )
        return float(before[0] - after[0])

    assert gain("tissue") > 1e-3
    assert gain(name) == pytest.approx(0, abs=1e-12), "at LR 0 nothing moves"


def test_no_law_without_a_warning_gains_from_zero_padding_after_a_full_decay():
    """A sound law may still gain a little while its noise relaxes, but nothing in the long run."""
    plan = wsd(steps=4000, peak=1e-3, warmup=200, decay=1600)
    for name, law in LAWS.items():
        if law.degenerate is None and name in CASES:
            case = CASES[name]
            before, after = (
                case.loss(Conditions(s, SIZES[0], BATCH), np.array([float(s.steps)]))[0]
                for s in (plan, padded(plan, 4000))
            )
            assert after >= before - 1e-9, name
