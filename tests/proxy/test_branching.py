"""Branches: that they go on exactly, and that only a true past is accepted."""

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from tests.proxy.tiny import lines, stop_at, tiny  # noqa: E402

from lehr.errors import InputError  # noqa: E402
from lehr.proxy.branching import differences  # noqa: E402
from lehr.proxy.checkpoint import checkpoint_path  # noqa: E402
from lehr.proxy.runlog import read_log  # noqa: E402
from lehr.proxy.train import train  # noqa: E402

TRUNK = "constant(steps=24, peak=1e-2, warmup=4)"
COOLDOWN = "wsd(steps=20, peak=1e-2, warmup=4, decay=8)"


@pytest.fixture(scope="module")
def trunk(tmp_path_factory):
    folder = tmp_path_factory.mktemp("branches") / "trunk"
    train(tiny("trunk", TRUNK, keep=[12]), folder)
    return folder


def branch(trunk, plan=COOLDOWN, step=12, run="trunk", **more):
    return tiny("cool", plan, branch={"run": run, "step": step}, **more)


def test_a_branch_goes_on_as_if_it_had_trained_all_along(trunk, tmp_path):
    straight = train(tiny("straight", COOLDOWN), tmp_path)
    cool = train(branch(trunk), trunk.parent / "cool")
    assert lines(cool.folder) == lines(straight.folder)[12:]
    log = read_log(cool.folder)
    assert (log.header["parent"], log.header["branch_step"], log.first) == ("trunk", 12, 12)
    assert log.rows[0].step == 13 and log.rows[0].tokens == 13 * 64
    assert cool.tokens == 8 * 64


def test_a_branch_goes_on_exactly(trunk, tmp_path):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    config = branch(trunk, run=str(trunk))
    train(config, straight)
    for step in (2, 4):  # the first before its first checkpoint
        train(config, broken, resume=True, stop=stop_at(step, broken / "log.jsonl"))
        if step == 2:
            checkpoint_path(broken, 14).unlink()
    assert train(config, broken, resume=True).resumed_from == 16
    assert lines(broken) == lines(straight)


def test_a_branch_of_a_branch(trunk, tmp_path):
    first = branch(trunk, run=str(trunk), keep=[16])
    train(first, tmp_path / "cool")
    second = tiny("second", COOLDOWN, branch={"run": "cool", "step": 16})
    result = train(second, tmp_path / "second")
    assert lines(result.folder) == lines(tmp_path / "cool")[4:]


REFUSED = {
    "model": ({"model": {"width": 32}}, "model.width must be that of the run it branches from (.*), 16, got 32"),
    "data": ({"data": {"seed": 3}}, "data.seed must be that of the run it branches from (.*), 0, got 3"),
    "batch": ({"batch": 8}, "training.batch must be that of the run it branches from (.*), 4, got 8"),
    "seed": ({"seed": 1}, "training.seed must be that of"),
    "decay": ({"optimizer": {"weight_decay": 0.2}}, "optimizer.weight_decay must be that of"),
    "schedule": (
        {"plan": "wsd(steps=20, peak=2e-2, warmup=4, decay=8)"},
        "up to the branch at step 12: update 0 uses 0.005 here and 0.0025 there",
    ),
    "decay begun": (
        {"plan": "wsd(steps=20, peak=1e-2, warmup=4, decay=12)"},
        "up to the branch at step 12: update 9 uses 0.00916666667 here and 0.01 there",
    ),
    "missing step": ({"step": 13}, "has no checkpoint of step 13 .it has 12, 18, 24.: branch from one of these"),
    "beyond": ({"step": 20}, "branch.step must lie before the schedule's last update 19, got 20"),
    "not yet": (
        {"plan": "constant(steps=40, peak=1e-2, warmup=4)", "step": 30},
        "branch.step must not exceed the 24 updates done in",
    ),
    "parent": ({"run": "trnk"}, "branch.run names no folder, neither trnk nor .*trnk: train the parent first"),
}  # fmt: skip


@pytest.mark.parametrize(("change", "message"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_its_past_is_refused(trunk, change, message):
    with pytest.raises(InputError, match=message):
        train(branch(trunk, **change), trunk.parent / "refused")
    assert not (trunk.parent / "refused").exists()


def test_an_independent_decay_needs_the_parents_peak(tmp_path):
    own = {"optimizer": {"independent": True}}
    train(tiny("trunk", TRUNK, keep=[12], **own), tmp_path / "trunk")
    rise = "branch(base=constant(steps=24, peak=1e-2, warmup=4), at=12, then=constant(steps=8, peak=2e-2))"
    with pytest.raises(InputError, match=r"must have the parent's peak 0\.01, .*, got 0\.02"):
        train(branch(tmp_path, rise, **own), tmp_path / "cool")
    assert train(branch(tmp_path, **own), tmp_path / "cool").finished


def test_a_damaged_parent_is_refused(trunk, tmp_path):
    train(tiny("trunk", TRUNK, keep=[12]), tmp_path / "trunk")
    checkpoint_path(tmp_path / "trunk", 12).write_bytes(b"PK")
    with pytest.raises(InputError, match="step-0000012.pt is damaged"):
        train(branch(tmp_path), tmp_path / "cool")


def test_differences_are_named_by_their_path():
    ours = {"a": 1, "b": {"c": 2, "d": {"e": 3}}, "f": None}
    theirs = {"a": 1, "b": {"c": 5, "d": {"e": 4}}, "f": {"g": 1}}
    assert differences(ours, theirs) == {"b.c": (2, 5), "b.d.e": (3, 4), "f": (None, {"g": 1})}
    assert differences(ours, ours) == {}
