"""Branches are found by the losses they share to the last digit."""

import numpy as np

from lehr.runs.branches import find_branches
from lehr.runs.run import Run
from lehr.schedule.families import constant, wsd

STEP = np.arange(0, 1000, 10)
LOSS = 3 + 5 / np.sqrt(STEP + 10)
TRUNK = constant(steps=1000, peak=1e-3, warmup=100)


def cooldown(decay, steps=1000):
    return wsd(steps=steps, peak=1e-3, warmup=100, decay=decay)


def run(name, schedule=TRUNK, until=np.inf, step=STEP, **values):
    """A run whose losses are the trunk's up to a step, and lower afterwards by an amount of its own."""
    lower = (step > until) * (0.01 + len(name) / 1000)
    return Run(name, schedule, step, 3 + 5 / np.sqrt(step + 10) - lower, **values)


def test_a_cooldown_is_a_branch_of_its_trunk():
    (trunk, branch), report = find_branches([run("trunk"), run("cool", cooldown(200), 800)])
    assert trunk.parent is None and trunk.step.size == 100
    assert (branch.parent, branch.branch_step) == ("trunk", 800)
    assert branch.step.tolist() == STEP[81:].tolist()
    assert report == (
        "'cool' branched from 'trunk' after 800 updates: 81 losses up to there are equal and were left to 'trunk'",
    )


def test_the_trunk_is_the_one_that_keeps_its_lr_even_if_shorter():
    short = run("trunk", TRUNK.first(900), step=np.arange(0, 900, 10))
    runs, _ = find_branches([run("cool", cooldown(200), 800), short])
    assert [each.parent for each in runs] == ["trunk", None]


def test_a_branch_of_a_branch_belongs_to_the_one_it_shares_most_with():
    first, second = cooldown(400), cooldown(400).first(800).then(constant(steps=200, peak=1e-5))
    a = run("a", first, 600)
    b = Run("b", second, STEP, np.where(STEP > 800, a.loss - 0.1, a.loss))
    runs, _ = find_branches([run("trunk"), a, b])
    assert [(each.parent, each.branch_step) for each in runs] == [(None, None), ("trunk", 600), ("a", 800)]


def test_runs_that_only_look_alike_stay_apart():
    early = run("early", cooldown(200), 20)  # two losses beyond step 0 are equal: may be chance
    other = run("other", constant(steps=1000, peak=2e-3, warmup=100), 500)
    batch = run("batch", cooldown(200), 800, batch_tokens=4096)
    named = run("named", cooldown(200), 800, parent="elsewhere", branch_step=0)
    given = [run("trunk"), early, other, batch, named]
    runs, report = find_branches(given)
    assert list(runs) == given
    assert report == ("'trunk' has the losses of 'other' up to step 500, but not its LRs: not joined",)


def test_a_past_that_is_an_update_apart_is_the_same():
    """As where of one log the LR is taken for that of the next update, and of the other for that of the last."""
    late = constant(steps=1000, peak=1e-3, warmup=20)
    early = wsd(steps=1000, peak=1e-3, warmup=20, decay=200, warmup_phase=0)
    _, branch = find_branches([run("trunk", late), run("cool", early, 800)])[0]
    assert (branch.parent, branch.branch_step) == ("trunk", 800)
    slower = constant(steps=1000, peak=1e-3, warmup=24)
    _, report = find_branches([run("trunk", slower), run("cool", early, 800)])
    assert report == ("'cool' has the losses of 'trunk' up to step 800, but not its LRs: not joined",)


def test_a_beginning_is_told_and_left():
    part = run("part", step=STEP[:40])
    runs, report = find_branches([run("trunk"), part])
    assert runs[1] is part
    assert report == ("'part' is the beginning of 'trunk', up to step 390",)
