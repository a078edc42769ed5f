"""Many runs: parents first, skipping what is finished, going on after a stop or a failure."""

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from tests.proxy.tiny import lines, tiny  # noqa: E402

from lehr.errors import InputError, ResultError  # noqa: E402
from lehr.proxy.several import parents_first, train_all  # noqa: E402

SHORT = "constant(steps=6, peak=1e-2)"
TRUNK = tiny("trunk", "constant(steps=8, peak=1e-2)", keep=[4])
COOL = [
    tiny(
        f"cool-{decay}",
        f"wsd(steps={4 + decay}, peak=1e-2, decay={decay})",
        branch={"run": "trunk", "step": 4},
    )
    for decay in (2, 3)
]


def test_parents_come_first_and_finished_runs_are_left(tmp_path):
    begun = []
    results = train_all([*COOL, TRUNK], tmp_path, begin=lambda config: begun.append(config.name))
    assert begun == [result.name for result in results] == ["trunk", "cool-2", "cool-3"]
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    again = train_all([TRUNK, *COOL], tmp_path)
    assert [result.finished for result in again] == [True] * 3
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before


def stopped(last, out):
    """Train until `last` rows were written; return where the runs begun stand."""
    rows = []
    results = train_all([TRUNK, *COOL], out, begin=lambda config: rows.append, stop=lambda: len(rows) == last)
    return [(result.name, result.step) for result in results]


def test_a_stop_ends_all_and_the_next_call_goes_on(tmp_path):
    train_all([TRUNK, *COOL], tmp_path / "straight")
    for last, stands in ((9, [("trunk", 8), ("cool-2", 5)]), (1, [("trunk", 8), ("cool-2", 6)])):
        assert stopped(last, tmp_path / "broken") == stands, "the second ends with its run"
    train_all([TRUNK, *COOL], tmp_path / "broken")
    for name in ("trunk", "cool-2", "cool-3"):
        assert lines(tmp_path / "broken" / name) == lines(tmp_path / "straight" / name)


def test_what_diverges_does_not_stop_the_others(tmp_path):
    wild = tiny("wild", "constant(steps=8, peak=1e30)", optimizer={"weight_decay": 0.0})
    child = tiny("child", "constant(steps=9, peak=1e30)", branch={"run": "wild", "step": 4})
    said = []
    with pytest.raises(ResultError, match=r"^2 of 3 runs failed \(wild, child\): run 'wild' diverged"):
        train_all([wild, child, tiny("calm", SHORT)], tmp_path, remark=said.append)
    assert len(lines(tmp_path / "calm")) == 6
    assert said[0].startswith("run 'wild' diverged")


def test_another_configuration_in_a_folder_is_refused(tmp_path):
    train_all([tiny("a", SHORT)], tmp_path)
    with pytest.raises(InputError, match="holds another run: its training.seed is 0, not 1"):
        train_all([tiny("a", SHORT, seed=1)], tmp_path)


def test_names_and_circles_are_refused():
    with pytest.raises(InputError, match="names of runs must be unique, got 'a': rename one of the two"):
        parents_first([tiny("a"), tiny("a")])
    for name in ("x/y", ".."):
        with pytest.raises(InputError, match="name must be the name of a folder"):
            parents_first([tiny(name)])
    circle = [tiny("a", branch={"run": "b", "step": 1}), tiny("b", branch={"run": "a", "step": 1})]
    with pytest.raises(InputError, match="the runs a, b branch from each other in a circle: start one anew"):
        parents_first(circle)
