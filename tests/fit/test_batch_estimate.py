"""The critical batch from curves: right where it is known, honest where it is not, refused where it cannot be told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.batch_curves import AT, BATCHES, CRITICAL, EXPONENT, STEPS, batch_runs, fewest, true_critical

from lehr.errors import InputError, ResultError
from lehr.fit.batch_estimate import comparable, estimate_batch
from lehr.runs.run import Run
from lehr.schedule.families import constant, cosine, wsd


def test_curves_without_noise_give_back_the_law():
    found = estimate_batch(batch_runs(noise=0, run_noise=0, every=10), draws=20)
    assert found.kind == "measured" and found.warnings == ()
    for loss in (found.losses[0], found.reference_loss, found.losses[1]):
        assert found.critical(loss) == pytest.approx(true_critical(loss), rel=0.03)
    assert found.exponent == pytest.approx(EXPONENT, abs=0.15)
    assert found.misfit < 5e-3 and found.floor < 0.005
    assert found.batches == BATCHES and found.peak_lr == 1e-3 and found.params is None
    assert len(found.draws) == 20
    for loss, updates, critical in found.levels:
        assert updates == pytest.approx(fewest(loss), rel=0.02)
        assert critical == pytest.approx(true_critical(loss), rel=0.05)


def test_the_losses_compared_are_those_all_runs_reach():
    runs = batch_runs(noise=0, run_noise=0, every=10)
    found = estimate_batch(runs, draws=2)
    assert found.losses[0] > max(run.loss[-1] for run in runs)
    assert found.losses[1] < min(run.loss[run.step >= 160][0] for run in runs)


@pytest.mark.parametrize(
    ("batches", "critical", "floor"),
    [(BATCHES, CRITICAL, 0.0), (BATCHES, CRITICAL, 0.05), (BATCHES[1:4], CRITICAL, 0.0), (BATCHES[2:], 2e4, 0.0)],
    ids=["five", "with a floor", "three", "three far above it"],
)  # fmt: skip
def test_the_interval_holds_the_truth_as_often_as_it_says(batches, critical, floor):
    """90 % intervals at the lowest, the middle and the highest loss, over 25 simulated sets of logs: at least 80 %."""
    hits, errors, widths = [], [], []
    for seed in range(25):
        found = estimate_batch(
            batch_runs(batches, critical=critical, floor=floor, seed=seed), draws=80, seed=seed
        )
        for loss in (found.losses[0], found.reference_loss, found.losses[1]):
            truth = true_critical(loss, critical) * (1 / 0.05 + floor)
            low, high = found.interval(loss)
            hits.append(low <= truth <= high)
            errors.append(np.log(found.optimal(loss) / truth))
            widths.append(np.log(high / max(low, 1e-9)) / 2)
    assert np.mean(np.reshape(hits, (-1, 3)), axis=0).min() >= 0.8
    assert abs(np.mean(errors)) < 0.05
    if critical == CRITICAL:
        assert np.std(errors) < 0.1 and np.mean(widths) < 0.2, "and is narrow enough to be of use"


def test_equal_seeds_give_equal_draws():
    runs = batch_runs(BATCHES[1:4])
    one, same, other = (estimate_batch(runs, draws=5, seed=s) for s in (1, 1, 2))
    assert one == same and one.draws != other.draws
    assert one.critical_batch == other.critical_batch


def test_the_order_of_runs_does_not_matter():
    runs = batch_runs(BATCHES[1:4])
    forth, back = estimate_batch(runs, draws=2), estimate_batch(runs[::-1], draws=2)
    assert back.critical_batch == pytest.approx(forth.critical_batch, rel=1e-4)


def test_two_runs_of_a_batch_count_as_two():
    runs = [
        *batch_runs(BATCHES[1:4]),
        *(replace(r, name=r.name + "b") for r in batch_runs(BATCHES[1:4], seed=1)),
    ]
    found = estimate_batch(runs, draws=20)
    assert found.batches == BATCHES[1:4]
    assert found.critical(AT) == pytest.approx(CRITICAL, rel=0.1)


def test_two_batches_come_with_a_warning():
    found = estimate_batch(batch_runs(BATCHES[1:3]), draws=10)
    assert found.warnings == ("two batches cannot test the form of S(B): add a third.",)
    assert found.critical(AT) == pytest.approx(CRITICAL, rel=0.2)


def test_batches_that_all_lie_above_b_opt_give_an_upper_bound():
    found = estimate_batch(batch_runs((2.6e5, 5.2e5, 1.05e6), critical=10, noise=1e-3))
    assert found.kind == "at_most"
    assert found.warnings[0] == "no batch was slower than another beyond the noise: B_opt is an upper bound."
    for loss in found.losses:
        assert true_critical(loss, 10) * 20 < found.optimal(loss) < 2.6e5
        assert found.interval(loss)[0] == 0


def test_batches_far_below_the_critical_give_a_lower_bound():
    """Updates as 1 / batch, whatever the loss: the same curve in tokens."""
    batches = (1e3, 2e3, 4e3)
    step = np.arange(40, 8001, 40)
    rng = np.random.default_rng(0)
    runs = [
        Run(f"run {b:g}", constant(steps=8000, peak=1e-3, warmup=100), step,
            2 + 30 * (step * b / 1e3) ** -0.4 * (1 + 1e-3 * rng.standard_normal(len(step))), batch_tokens=b)
        for b in batches
    ]  # fmt: skip
    found = estimate_batch(runs)
    assert found.kind == "at_least" and found.interval(3.0)[1] == np.inf
    assert found.warnings == (
        "updates fall as 1 / batch throughout: B_opt is a lower bound; add larger batches.",
    )
    assert found.optimal(found.reference_loss) > 20 * 4e3


def test_losses_that_do_not_show_the_growth_are_told():
    found = estimate_batch(batch_runs(BATCHES[1:4], exponent=0.0, seed=1), draws=60)
    text = "these losses do not show that B_opt grows as the loss falls: train longer."
    assert found.kind == "measured" and text in found.warnings
    assert found.exponent_interval()[0] < 0 < found.exponent_interval()[1]


def test_decays_and_cosines_are_not_compared():
    """A branch whose losses fall by its decay changes nothing; a decaying part of a whole run neither."""
    runs = batch_runs(BATCHES[1:4], every=20)
    plain = estimate_batch(runs, draws=2)
    step = np.arange(6100.0, 8001, 20)
    branch = Run("branch", wsd(steps=8000, peak=1e-3, warmup=100, decay=2000), step, np.linspace(2.6, 2.2, len(step)),
                 parent="run 0", branch_step=6000, batch_tokens=1.3e5)  # fmt: skip
    curve = Run("cosine", cosine(steps=8000, peak=1e-3, warmup=100), runs[0].step, runs[0].loss - 0.1,
                batch_tokens=2.6e5)  # fmt: skip
    assert estimate_batch([*runs, branch, curve], draws=2).levels == plain.levels


def test_real_curves():
    """Five real batches: each inner one, left out, is told by the others.

    batch_runs.csv holds the losses on held-out files of five byte-level transformers (3 blocks of width 64) trained on
    the sources of Python's standard library: 2 to 32 sequences of 128 bytes an update, 1,500 updates of AdamW at LR
    3e-3 after a warm-up of 100, one seed and one order of the data.
    """
    table = np.loadtxt(Path(__file__).with_name("batch_runs.csv"), delimiter=",", skiprows=1)
    schedule = constant(steps=1500, peak=3e-3, warmup=100)
    runs = [
        Run(f"run {b:g}", schedule, *table[table[:, 0] == b, 1:].T, batch_tokens=b)
        for b in (256, 512, 1024, 2048, 4096)
    ]
    found = estimate_batch(runs, draws=60)
    assert found.kind == "measured"
    assert 2 < found.exponent < 6 and found.exponent_interval()[0] > 1, "B_opt grows as the loss falls"
    assert found.misfit < 0.06
    loss = found.losses[0]
    measured = {
        run.batch_tokens: np.interp(-loss, -np.minimum.accumulate(run.loss), run.step) for run in runs
    }
    for left_out in (512, 1024, 2048):
        others = estimate_batch([run for run in runs if run.batch_tokens != left_out], draws=2)
        ratio = others.updates_ratio(loss, left_out, 4096)
        assert ratio == pytest.approx(measured[left_out] / measured[4096], rel=0.25)
        assert ratio > 1.2


# groups


def test_groups_share_all_but_the_batch():
    slow = batch_runs(BATCHES[:2], schedule=constant(steps=STEPS, peak=5e-4, warmup=100))
    slow = [replace(run, name=f"slow {run.name}") for run in slow]
    alone = [replace(batch_runs(BATCHES[:1])[0], name="alone", params=1e8)]
    silent = [replace(batch_runs(BATCHES[:1])[0], name="silent", batch_tokens=None)]
    fast = batch_runs(BATCHES[:3])
    groups = comparable([*slow, *alone, *silent, *fast])
    assert groups == (fast, tuple(slow)), "those of most batches first"
    assert comparable([*alone, *slow[:1]]) == ()


# refusals


def refusal(runs, error=InputError):
    with pytest.raises(error) as caught:
        estimate_batch(runs, draws=20)
    return str(caught.value)


def test_no_run():
    assert refusal([]) == "no run to compare by batch: give runs of at least two batches."


def test_a_run_that_does_not_tell_its_batch():
    runs = batch_runs(BATCHES[:2])
    text = "run 'run 1' does not tell its batch: give it with --batch-tokens on import, or leave it out."
    assert refusal([runs[0], replace(runs[1], batch_tokens=None)]) == text


def test_one_batch():
    assert refusal(batch_runs((6.5e4, 6.51e4))) == (
        "all runs have the batch 65000 tokens, which says nothing about another: add runs that differ in the batch "
        "alone."
    )


@pytest.mark.parametrize(
    ("changes", "name", "values"),
    [
        ({"schedule": constant(steps=STEPS, peak=2e-3, warmup=100)}, "peak LR", "0.001 and 0.002"),
        ({"schedule": constant(steps=STEPS, peak=1e-3, warmup=400)}, "warm-up", "100 and 400"),
        ({"params": 1e8}, "number of parameters", "None and 100000000.0"),
        ({"meta": {"weight_decay": 0.1}}, "weight decay", "None and 0.1"),
        ({"meta": {"dataset": "c4"}}, "dataset", "None and c4"),
        ({"meta": {"split": "val"}}, "split", "None and val"),
    ],
)
def test_runs_that_differ_in_more_than_the_batch(changes, name, values):
    runs = batch_runs(BATCHES[:2])
    assert refusal([runs[0], replace(runs[1], **changes)]) == (
        f"runs 'run 0' and 'run 1' differ in the {name} ({values}), so what the batch does cannot be told apart from "
        "it: compare runs that differ in the batch alone."
    )


def test_no_constant_part():
    runs = batch_runs(BATCHES[:2], schedule=cosine(steps=STEPS, peak=1e-3, warmup=100))
    assert refusal(runs) == (
        "fewer than two batches have 8 losses at constant LR, the only part in which batches compare: add constant or "
        "wsd runs with their stable part, or log more often."
    )


def test_no_common_loss():
    runs = batch_runs((6.5e4, 5.2e5), noise=0, run_noise=0)
    late = replace(runs[1], step=runs[1].step[150:], loss=runs[1].loss[150:])
    early = replace(runs[0], step=runs[0].step[:40], loss=runs[0].loss[:40])
    text = refusal([early, late])
    assert text.startswith("no loss is reached by all runs: 'run 0' ends at 3.")
    assert ", 'run 1' begins at 2." in text
    assert text.endswith(" after the warm-up: train the former longer, or leave one out.")


def test_noise_that_hides_everything():
    text = refusal(batch_runs((2.6e5, 2.7e5), noise=0.05, run_noise=0.02, every=400), ResultError)
    assert text == (
        "the critical batch is open to both sides: the noise hides what batches of 260000 to 270000 tokens change; "
        "add batches farther apart, or log more often."
    )
