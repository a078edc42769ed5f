"""A comparison of laws as jobs of a sweep's folder: the results of one process, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
from tests.proxy.sweep.made import worked
from tests.synthetic import CASES, make_runs

from lehr.errors import InputError, ResultError
from lehr.fit.compare import compare
from lehr.fit.fit import FitOptions
from lehr.fit.uncertainty import bootstrap_all
from lehr.laws import get_law
from lehr.proxy.sweep import fitting
from lehr.proxy.sweep.jobs import write_plan
from lehr.proxy.sweep.queue import Queue
from lehr.proxy.sweep.results import write_table
from lehr.runs.store import add_runs, load_runs

LAWS = ("tissue", "one_power", "chinchilla")  # the last is refused: the runs tell no sizes
OPTIONS = FitOptions(starts=4, polished=1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder in which the comparison has been worked off, with its store, plan and runs."""
    base = tmp_path_factory.mktemp("fit")
    add_runs(base / "store", make_runs(CASES["tissue"], noise=1e-3, every=200)[:4])
    runs = tuple(load_runs(base / "store"))
    plan = fitting.comparison_plan(base / "store", LAWS, runs, OPTIONS)
    plan = fitting.with_draws_of(plan, ["tissue"], 13, 5)
    queue = Queue(base / "jobs")
    queue.make()
    write_plan(queue.folder, plan)
    outcomes = worked(queue, plan)
    assert {each.state for each in outcomes.values()} == {"done"}, outcomes
    return base, queue, plan, runs


def test_it_is_cut_into_fits_blocks_of_folds_and_blocks_of_draws(folder):
    _, _, plan, _ = folder
    names = [job.name for job in plan.jobs]
    assert names[:2] == ["tissue", "tissue-folds0"] and names[-2:] == ["tissue-draws0", "tissue-draws10"]
    assert len(names) == len(set(names)) == len({job.address for job in plan.jobs}) > 3 * 3


def test_the_results_are_those_of_one_process_bit_for_bit(folder):
    _, queue, plan, runs = folder
    here = compare([get_law(name) for name in LAWS], runs, OPTIONS, workers=1)
    there = fitting.gather(queue, plan, runs, OPTIONS)
    assert there == here and set(there.failed) == {"chinchilla"} and there.chosen == "tissue"
    for law, held in here.held_out.items():
        assert held.residuals.keys() == there.held_out[law].residuals.keys()
        for name, residual in held.residuals.items():
            np.testing.assert_array_equal(there.held_out[law].residuals[name], residual)
        np.testing.assert_array_equal(there.held_out[law].weight, held.weight)
    only = {"tissue": here.results["tissue"]}
    assert fitting.gather_draws(queue, plan, only) == bootstrap_all(only, runs, 13, 5, workers=1)


def test_it_has_no_final_losses_and_goes_on_where_it_stands(folder):
    base, queue, plan, runs = folder
    write_table(queue.folder, plan.jobs, {})
    assert len((queue.folder / "results.csv").read_text().splitlines()) == 1
    again = fitting.with_draws_of(
        fitting.comparison_plan(base / "store", LAWS, runs, OPTIONS), ["tissue"], 13, 5
    )
    assert again == plan and worked(queue, again).keys() == {job.name for job in plan.jobs}


def test_other_runs_other_options_and_other_seeds_are_other_jobs(folder):
    base, _, plan, runs = folder
    known = {job.address for job in plan.jobs}
    shifted = (replace(runs[0], loss=runs[0].loss + 1e-9), *runs[1:])
    for other in (
        fitting.comparison_plan(base / "store", LAWS, shifted, OPTIONS),
        fitting.comparison_plan(base / "store", LAWS, runs, replace(OPTIONS, huber=2e-3)),
    ):
        assert not known & {job.address for job in other.jobs}
    seeded = fitting.with_draws_of(
        fitting.comparison_plan(base / "store", LAWS, runs, OPTIONS), ["tissue"], 13, 6
    )
    assert len(known & {job.address for job in seeded.jobs}) == len(known) - 2


def test_a_store_that_was_changed_is_told(folder, tmp_path):
    base, _, plan, runs = folder
    add_runs(tmp_path / "store", [replace(runs[0], loss=runs[0].loss + 1e-9), *runs[1:]])
    queue, job = Queue(tmp_path / "jobs"), plan.jobs[0]
    queue.make()
    moved = replace(plan, jobs=(replace(job, payload={**job.payload, "store": str(tmp_path / "store")}),))
    assert "are not those that were asked about: ask again." in worked(queue, moved)["tissue"].reason
    with pytest.raises(ResultError, match="tissue: the runs in .*: `lehr sweep retry .*` lets it wait again"):
        fitting.gather(queue, moved, runs, OPTIONS)
    with pytest.raises(ResultError, match="tissue: it has not ended: `lehr sweep retry"):
        fitting.gather(Queue(tmp_path / "none"), moved, runs, OPTIONS)


def test_no_law_at_all_is_refused_as_in_one_process(folder):
    base, queue, plan, runs = folder
    only = replace(plan, jobs=tuple(job for job in plan.jobs if job.payload["law"] == "chinchilla"))
    with pytest.raises(InputError, match="chinchilla"):
        fitting.gather(queue, only, runs, OPTIONS)
