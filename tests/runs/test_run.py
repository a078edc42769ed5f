import pickle

import numpy as np
import pytest

from lehr.errors import InputError
from lehr.runs.parents import resolve_parents
from lehr.runs.run import Run, RunSet
from lehr.schedule.families import constant, from_array, wsd


def make(name="a", steps=100, step=(0, 50, 100), loss=(10.0, 4.0, 3.0), **more):
    schedule = more.pop("schedule", None) or constant(steps=steps, peak=1e-3, warmup=10)
    return Run(name, schedule, np.array(step), np.array(loss), **more)


def test_points_are_frozen_copies():
    step = np.array([1.0, 2.0])
    run = make(step=step, loss=(2.0, 1.5))
    step[0] = 7
    assert run.step.tolist() == [1, 2]
    assert (run.steps, run.final_loss) == (100, 1.5)
    with pytest.raises(ValueError, match="read-only"):
        run.loss[0] = 1.0
    with pytest.raises(TypeError):
        run.meta["x"] = 1


def test_a_run_can_be_sent_to_another_process():
    run = make(meta={"seed": 1}, params=1e8, parent="b", branch_step=50)
    copy = pickle.loads(pickle.dumps(run))
    assert copy.fingerprint() == run.fingerprint()
    assert (copy.name, copy.parent, copy.meta) == ("a", "b", {"seed": 1})
    with pytest.raises(ValueError, match="read-only"):
        copy.loss[0] = 1.0


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"loss": (3.0,)}, r"run 'a': loss must pair with the \(3,\) steps, got \(1,\)"),
        ({"step": (), "loss": ()}, "it has no loss; give at least one"),
        ({"step": (-1, 2, 3)}, r"strictly increase, got -1\.0"),
        ({"step": (1, 2, 2)}, r"strictly increase, got 2\.0: join the segments"),
        ({"step": (0, 50, 101)}, "last step must not exceed the schedule's 100 updates, got 101"),
        ({"loss": (3.0, np.nan, 2.0)}, "loss at step 50 must be a finite number above 0, got nan: drop"),
        ({"loss": (3.0, -1.0, 2.0)}, "loss at step 50 must be a finite number above 0"),
        ({"parent": "b"}, r"parent and branch_step go together, got \('b', None\)"),
        ({"params": 0}, "params must be above 0, got 0"),
        ({"batch_tokens": float("inf")}, "batch_tokens must be above 0, got inf"),
    ],
)
def test_refusals_name_run_rule_and_value(change, text):
    with pytest.raises(InputError, match=text):
        make(**change)


def test_select_keeps_everything_but_points():
    run = make(params=5.0, meta={"split": "val"})
    assert run.select(run.step > 0).step.tolist() == [50, 100]
    assert run.select(run.step > 0).params == 5.0


def test_fingerprint_depends_on_what_a_fit_depends_on():
    run = make(params=5, batch_tokens=10)
    assert run.fingerprint() == make("other name", params=5.0, batch_tokens=10.0, meta={"x": 1}).fingerprint()
    others = [
        make(params=6, batch_tokens=10), make(params=5, batch_tokens=11), make(params=5, batch_tokens=10, steps=101),
        make(params=5, batch_tokens=10, loss=(10.0, 4.0, 3.1)),
        make(params=5, batch_tokens=10, parent="b", branch_step=0),
        make(params=5, batch_tokens=10, schedule=from_array(values=np.full(100, 1e-3))),
    ]  # fmt: skip
    prints = {run.fingerprint(), *(other.fingerprint() for other in others)}
    assert len(prints) == 7


def test_fingerprint_ignores_the_type_of_equal_numbers():
    whole, real = constant(steps=100, peak=1), constant(steps=100, peak=np.float64(1.0))
    assert make(schedule=whole).fingerprint() == make(schedule=real).fingerprint()


def test_run_set_by_name():
    runs = RunSet([make("a"), make("b"), make("c")])
    assert (len(runs), runs.names, "b" in runs, runs["b"].name) == (3, ("a", "b", "c"), True, "b")
    assert runs.only(["c", "a"]).names == ("c", "a")
    assert runs.without(["a"]).names == ("b", "c")
    with pytest.raises(InputError, match="unknown run 'bb': did you mean 'b'"):
        runs["bb"]
    with pytest.raises(InputError, match="run names must be unique, got 'a'"):
        RunSet([make("a"), make("a")])


def test_curve_joins_ancestors_without_counting_twice():
    trunk = make("trunk", step=(0, 20, 40, 60, 80), loss=(9.0, 5.0, 4.0, 3.9, 3.8))
    child = make("child", step=(50, 70), loss=(3.5, 3.2), parent="trunk", branch_step=40)
    grandchild = make("leaf", step=(60,), loss=(3.3,), parent="child", branch_step=50)
    step, loss = RunSet([trunk, child, grandchild]).curve("leaf")
    assert step.tolist() == [0, 20, 40, 50, 60]
    assert loss.tolist() == [9.0, 5.0, 4.0, 3.5, 3.3]
    alone, _ = RunSet([child]).curve("child")
    assert alone.tolist() == [50, 70]


def test_resolve_parents_links_and_reports_the_absent():
    trunk = make("trunk")
    branch = make("branch", step=(60,), loss=(3.0,), parent="trunk", branch_step=50)
    lost = make("lost", step=(60,), loss=(3.0,), parent="nowhere", branch_step=50)
    lost2 = make("lost2", step=(60,), loss=(3.0,), parent="nowhere", branch_step=50)
    runs, report = resolve_parents([branch, trunk, lost, lost2])
    assert runs.names == ("branch", "trunk", "lost", "lost2")
    assert report[0] == "1 branches linked to their parents"
    assert "parent 'nowhere' of 'lost' and 1 more is absent" in report[1]
    assert resolve_parents([trunk])[1] == ()


def test_resolve_parents_refuses_contradictions():
    trunk = make("trunk")
    other = wsd(steps=100, peak=2e-3, warmup=10, decay=40)
    with pytest.raises(
        InputError, match="its LR at update 1 is not that of 'trunk', from which it branched at step 50"
    ):
        resolve_parents(
            [trunk, make("b", step=(60,), loss=(3.0,), parent="trunk", branch_step=50, schedule=other)]
        )
    with pytest.raises(InputError, match="branch_step must lie within the 100 updates of 'trunk', got 150"):
        resolve_parents(
            [trunk, make("b", steps=200, step=(160,), loss=(3.0,), parent="trunk", branch_step=150)]
        )
    loop = [make(a, step=(60,), loss=(3.0,), parent=b, branch_step=50) for a, b in (("x", "y"), ("y", "x"))]
    with pytest.raises(InputError, match="run 'x' descends from itself"):
        resolve_parents(loop)
