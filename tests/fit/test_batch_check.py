"""Where a law in updates is taken to another batch, where with a warning, and where that is refused."""

from dataclasses import replace

import pytest
from tests.batch_curves import BATCHES, batch_runs, known_law
from tests.synthetic import BATCH, CASES, PEAK, STEPS, make_runs

from lehr.anneal.ratio import recommend_ratio
from lehr.errors import InputError
from lehr.fit.batch_check import batch_law_among, batch_law_for, check_fitted, check_planned, describe
from lehr.fit.fit import fit
from lehr.fit.held_out import hold_out
from lehr.laws import LAWS
from lehr.laws.law import Conditions
from lehr.predict import predict
from lehr.schedule.families import constant, wsd

PLAN = wsd(steps=STEPS, peak=PEAK, warmup=200, decay=800)
LAW = LAWS["one_power"]
SAFE = known_law(critical=1000.0, losses=(2.0, 3.6))  # B_opt far below BATCH
UNSAFE = known_law(critical=3e5, losses=(2.0, 3.6))
CLOSE = "fit each batch by itself (--train)"
HOW = "run several batches that differ in nothing else (docs/batch-size.md)"


@pytest.fixture(scope="module")
def result():
    case = CASES["tissue"]
    return fit(case.law, make_runs(case, every=200))


def check(result, batch_tokens, loss=3.0, law=None, **more):
    return check_planned(
        replace(result, batch=law), Conditions(PLAN, batch_tokens=batch_tokens, **more), loss
    )


def refusal(*arguments, **more):
    with pytest.raises(InputError) as caught:
        check(*arguments, **more)
    return str(caught.value)


# a planned batch


def test_the_fitted_batch_needs_no_word(result):
    for law in (None, SAFE, UNSAFE):
        assert check(result, None, law=law) == check(result, BATCH, law=law) == ()
        assert check(result, 1.009 * BATCH, law=law) == (), "within a percent it is the same batch"


def test_a_law_in_tokens_takes_any_batch():
    case = CASES["chinchilla"]
    fitted = fit(case.law, make_runs(case, every=200))
    assert check(fitted, BATCH / 10) == ()


def test_a_smaller_batch_is_refused_where_no_b_opt_is_known(result):
    assert refusal(result, 2.5e5) == (
        "batch_tokens 250000 is smaller than the fitted 500000, and this fit knows no B_opt: at a smaller batch a law "
        f"in updates is too low by an unknown amount; fit runs at that batch, or {HOW}."
    )


def test_a_larger_batch_is_warned_of_where_no_b_opt_is_known(result):
    assert check(result, 1e6) == (
        "batch_tokens 1e+06 differs from the fitted 500000, and this fit knows no B_opt: at equal peak LR the loss of "
        f"a larger batch is at most about the one predicted; to know more, {HOW}.",
    )


def test_a_fit_that_does_not_know_its_batch_says_so(result):
    silent = replace(result, domain=replace(result.domain, batch_tokens=None))
    text = "the fitted runs do not tell their batch: the prediction holds for that batch alone."
    assert check(silent, 1e6) == (text,)


@pytest.mark.parametrize("batch", [0, -1.0, float("nan"), float("inf")])
def test_a_batch_without_sense_is_refused(result, batch):
    text = f"batch_tokens must be above 0, got {batch!r}: give the batch size in tokens."
    assert refusal(result, batch) == text


def test_above_b_opt_both_ways_are_allowed(result):
    note = (
        "batch_tokens {:g} differs from the fitted 500000: the updates needed differ by up to 5%, which the band "
        "does not hold."
    )
    for batch in (5e4, 2e6):
        assert check(result, batch, law=SAFE) == (note.format(batch),)


def test_below_b_opt_either_way_is_refused_with_b_opt_its_interval_and_the_cost(result):
    text = (
        "batch_tokens {} differs from the fitted 500000, and at the loss predicted a law in updates holds for both "
        "only from B_opt = 6e+06 tokens (90 %: 5.48e+06 to 6.57e+06) at loss 3 on (there {} takes about {} times the "
        "updates of 500000): fit runs at {} tokens, or predict at the fitted batch."
    )
    assert refusal(result, 1e6, law=UNSAFE) == text.format("1e+06", "1e+06", "0.81", "1e+06")
    assert refusal(result, 1e5, law=UNSAFE) == text.format("100000", "100000", "2.5", "100000")


def test_the_loss_decides(result):
    """B_opt grows as the loss falls: the batch that holds at one loss is refused at a lower one."""
    law = known_law(critical=1e4, losses=(1.0, 3.6))
    assert len(check(result, 3e5, loss=3.0, law=law)) == 1
    assert "at loss 2 on" in refusal(result, 3e5, loss=2.0, law=law)


def test_between_the_number_and_the_end_of_its_interval_it_is_not_certain(result):
    law = known_law(critical=1.95e4, spread=0.3, losses=(2.0, 3.6))
    notes = check(result, 4e5, law=law)
    assert notes[1] == f"whether both batches are at least B_opt is not certain: {describe(law, 3.0)}."
    assert describe(law, 3.0) == "B_opt = 3.9e+05 tokens (90 %: 2.98e+05 to 5.11e+05) at loss 3"


def test_bounds_count_as_bounds(result):
    most = known_law("at_most", critical=1000.0, losses=(2.0, 3.6))
    assert len(check(result, 1e6, law=most)) == 1
    text = refusal(result, 1e4, law=most)
    assert "only from B_opt, at most 2.19e+04 tokens (95 %) at loss 3 on: fit runs at 10000 tokens" in text
    least = known_law("at_least", critical=1000.0, losses=(2.0, 3.6))
    assert "B_opt, at least 1.83e+04 tokens (95 %) at loss 3" in refusal(result, 1e6, law=least)


def test_what_lies_outside_the_measurement_is_told(result):
    law = known_law(critical=10.0, params=1e8, peak_lr=2 * PEAK)
    notes = check(result, 1e6, loss=2.2, law=law, params=2e8)
    assert notes[1:] == (
        "B_opt was measured down to a loss of 2.5: at 2.2 it is extrapolated.",
        "B_opt was measured at peak LR 0.002: at 0.001 it may be another.",
        "B_opt was measured at 1e+08 parameters: at 2e+08 it is another.",
    )


def test_fitted_batches_count_as_well_as_the_planned(result):
    several = replace(result, domain=replace(result.domain, batch_tokens=(5e4, 5e5)))
    text = refusal(several, BATCH, law=known_law(critical=5e3, losses=(2.0, 3.6)))
    assert text.startswith(
        "batch_tokens 500000 differs from the fitted 50000 .. 500000, and at the loss predicted"
    )


def test_predict_and_recommend_ask(result):
    with pytest.raises(InputError, match="batch_tokens 250000 is smaller than the fitted 500000"):
        predict(result, PLAN, batch_tokens=2.5e5)
    with pytest.raises(InputError, match="batch_tokens 250000 is smaller than the fitted 500000"):
        recommend_ratio(result, steps=STEPS, peak=PEAK, batch_tokens=2.5e5)
    told = replace(result, batch=SAFE)
    found = predict(told, PLAN, batch_tokens=1e6)
    assert any("the updates needed differ by up to 5%" in note for note in found.warnings)
    assert found.loss.tolist() == predict(told, PLAN).loss.tolist()
    notes = recommend_ratio(told, steps=STEPS, peak=PEAK, batch_tokens=1e6).warnings
    assert any("the updates needed differ by up to 5%" in note for note in notes)
    lowest = predict(told, PLAN).loss.min()
    edge = known_law(critical=BATCH / 20 * (lowest / 3) ** 4 * 1.001, losses=(2.0, 3.6))
    with pytest.raises(InputError, match=f"at loss {lowest:.4g} on"):
        predict(replace(result, batch=edge), PLAN, batch_tokens=2 * BATCH)


# fitted runs at several batches


def test_one_batch_or_none_told_is_fitted_as_ever():
    runs = batch_runs(BATCHES[:1])
    assert check_fitted(LAW, runs) == (None, [])
    assert check_fitted(LAW, (*runs, replace(runs[0], name="b", batch_tokens=None))) == (None, [])


def test_batches_below_b_opt_are_refused_together():
    runs = batch_runs(BATCHES[1:4])
    for call in (fit, hold_out):
        with pytest.raises(InputError) as caught:
            call(LAW, runs)
        text = str(caught.value)
        assert text.startswith(
            "the runs have batches of 130000 to 520000 tokens, but law one_power counts updates, in which curves lie "
            "on each other only from B_opt = "
        )
        assert text.endswith(f" on: {CLOSE}.") and "tokens (90 %: " in text


def test_batches_above_b_opt_are_fitted_together_and_the_law_is_kept():
    runs = batch_runs((2.6e5, 5.2e5, 1.05e6, 2.1e6), critical=10, noise=1e-3)
    result = fit(LAW, runs)
    assert result.batch is not None and result.batch.kind == "at_most"
    assert result.domain.batch_tokens == (2.6e5, 2.1e6)
    assert result.warnings == (
        "the runs have batches of 260000 to 2.1e+06 tokens, but law one_power counts updates: their curves lie on "
        "each other up to 5% of the updates.",
    )


def test_where_b_opt_cannot_be_told_several_batches_are_refused_too():
    runs = batch_runs(BATCHES[:2])
    other = replace(runs[1], schedule=constant(steps=8000, peak=2e-3, warmup=100))
    with pytest.raises(InputError) as caught:
        fit(LAW, [runs[0], other])
    assert str(caught.value) == (
        "the runs have batches of 65000 to 130000 tokens, but law one_power counts updates, and B_opt is not known (no "
        f"two of the runs differ in the batch alone): {CLOSE}, or {HOW}."
    )


def test_a_law_with_sizes_is_warned_and_one_in_tokens_is_not():
    case = CASES["tissue_n"]
    runs = tuple(replace(r, batch_tokens=r.params / 100) for r in make_runs(case, every=200))
    text = (
        "the runs have batches of 200000 to 5e+06 tokens, but law tissue_n counts updates: what the batch does counts "
        "as an effect of the size."
    )
    assert check_fitted(case.law, runs) == (None, [text])
    assert check_fitted(LAWS["chinchilla"], runs) == (None, [])


def test_the_law_for_fitted_runs_comes_from_runs_like_them():
    fast, slow = (
        batch_runs(BATCHES[1:4]),
        batch_runs(BATCHES[:2], schedule=constant(steps=8000, peak=5e-4, warmup=100)),
    )
    slow = tuple(replace(run, name=f"slow {run.name}") for run in slow)
    law, reason = batch_law_for(fast[:1], (*fast, *slow))
    assert law is not None and law.batches == BATCHES[1:4] and reason == ""
    assert batch_law_for(slow[:1], (*fast, *slow))[0].peak_lr == 5e-4
    assert batch_law_for(fast[:1], (fast[0], *slow)) == (None, ""), "one batch: nothing to ask"
    big = replace(fast[1], params=1e9)
    assert batch_law_for((fast[0], big), (fast[0], big)) == (
        None,
        "no two of the runs differ in the batch alone",
    )


def test_the_reason_of_the_last_group_is_given():
    early = tuple(r.select(r.step <= 400) for r in batch_runs(BATCHES[:2]))
    law, reason = batch_law_among(early)
    assert law is None and reason.startswith("fewer than two batches have 8 losses at constant LR")
