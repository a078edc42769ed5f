"""Sweeps from logged runs: one recipe, finished runs."""

from dataclasses import replace

import numpy as np
import pytest

from lehr.errors import InputError
from lehr.examples import load_examples
from lehr.peaklr.from_runs import table_of
from lehr.peaklr.valley import fit_valley
from lehr.runs.run import Run
from lehr.schedule.families import constant, wsd


def run(peak=1e-3, steps=100, decay=0.2, **more):
    plan = wsd(steps=steps, peak=peak, warmup=10, decay=round(decay * steps))
    values = {"params": 1e8, "batch_tokens": 1e5, **more}
    return Run(
        f"r{peak:g}-{steps}-{decay}", plan, np.array([steps // 2, steps]), np.array([3.5, 3.0]), **values
    )


def test_peak_length_size_and_batch_may_differ():
    found = table_of([run(), run(2e-3), run(steps=400, params=2e8), run(4e-3, batch_tokens=2e5)])
    assert found.tokens.tolist() == [1e7, 1e7, 4e7, 2e7]
    assert found.batch_tokens.tolist() == [1e5, 1e5, 1e5, 2e5]
    assert found.active_params is None


def test_a_trunk_from_which_others_branch_has_no_row():
    trunk = Run(
        "t", constant(steps=90, peak=1e-3), np.array([90]), np.array([3.6]), params=1e8, batch_tokens=1e5
    )
    fork = replace(run(), step=np.array([100]), loss=np.array([3.0]), parent="t", branch_step=80)
    assert table_of([trunk, fork]).names == (fork.name,)


def test_experts_count_by_all_and_by_active_parameters():
    dense = run(params_total=3e8)  # embeddings
    experts = run(2e-3, params_total=1e9, meta={"experts": 8})
    found = table_of([dense, experts])
    assert found.params.tolist() == [1e8, 1e9]
    assert found.active.tolist() == [1e8, 1e8]


def test_a_final_loss_on_a_larger_set_goes_first():
    assert table_of([run(meta={"final_val_loss": 2.9})]).loss.tolist() == [2.9]


def test_the_bundled_runs_have_a_valley():
    examples = load_examples()
    sweep = table_of(
        examples.only([f"S-{peak}-wsd-r0.2-2000" for peak in ("7.5e-4", "1.5e-3", "3e-3", "6e-3")])
    )
    found = fit_valley(sweep.lr, sweep.loss)
    assert 1.2e-3 < found.lr < 2.5e-3


REFUSED = [
    ([], "there is no run: give at least one."),
    ([run(params=None)], "run 'r0.001-100-0.2' does not tell its params: import it with --params."),
    (
        [run(batch_tokens=None)],
        "run 'r0.001-100-0.2' does not tell its batch_tokens: import it with --batch-tokens.",
    ),
    (
        [run(), run(2e-3, decay=0.4)],
        "the runs are of 2 recipes, such as 'r0.001-100-0.2' (wsd decay 0.2 of the steps) and 'r0.002-100-0.4' "
        "(wsd decay 0.4 of the steps), whose final losses are of different valleys: choose those of one.",
    ),
    (
        [run(meta={"dataset": "a"}), run(2e-3, meta={"dataset": "b"})],
        "(wsd decay 0.2 of the steps, dataset a)",
    ),
    (
        [run(), replace(run(2e-3), schedule=constant(steps=100, peak=1e-3, warmup=10))],
        "and 'r0.002-100-0.2' (constant)",
    ),
    (
        [replace(run(), step=np.array([50, 90]))],
        "run 'r0.001-100-0.2' ends at step 90 of 100: its final loss is not known; leave it out, or finish it.",
    ),
]


@pytest.mark.parametrize(("runs", "text"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_what_makes_no_sweep_is_refused(runs, text):
    with pytest.raises(InputError) as caught:
        table_of(runs)
    assert text in str(caught.value)
