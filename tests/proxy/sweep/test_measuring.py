"""How long a sweep will take: which shapes are timed, and how the times of others follow."""

import pytest
from tests.proxy.sweep.made import MODEL, TRAINING, commands, planned

from lehr.proxy.sweep.measuring import Speed, expected_seconds, measure
from lehr.proxy.sweep.planning import plan_sweep
from lehr.proxy.sweep.spec import load_sweep

WIDTHS = {"peak_lr": (1e-2, 2e-2), "model": {"width": (16, 32, 48, 64)}}


def test_seconds_are_straight_lines_in_the_cost_between_the_measured():
    plan = planned(grid={"peak_lr": (1e-2,), "model": {"width": (16, 32, 48, 64)}})
    a, b, _, d = plan.jobs
    speeds = [Speed(a.cost, 1.0, 0.01, 0.1), Speed(d.cost, 2.0, 0.04, 0.1)]
    share = (b.cost - a.cost) / (d.cost - a.cost)
    assert expected_seconds([a], speeds) == pytest.approx(1.0 + 24 * 0.01 + 0.1)
    assert expected_seconds([b], speeds) == pytest.approx(1 + share + 24 * (0.01 + 0.03 * share) + 0.1)
    assert expected_seconds([a, d], speeds) == pytest.approx(1.34 + 2.0 + 24 * 0.04 + 0.1)
    assert expected_seconds([b], speeds[:1]) == expected_seconds([a], speeds[:1]), "never below the smallest"
    assert expected_seconds([d], [speeds[0], Speed(b.cost, 1, 0.02, 0)]) > expected_seconds([b], speeds)
    assert expected_seconds([a], []) is None


def test_a_branch_counts_its_own_updates_and_validations():
    training = {**TRAINING, "validate_every": 5}
    trunk, branch = planned(grid={"peak_lr": (1e-2,)}, training=training, cooldowns={"ratios": (0.5,)}).jobs
    speeds = [Speed(trunk.cost, 0.0, 0.0, 1.0)]
    assert expected_seconds([trunk], speeds) == 5, "at 5, 10, 15, 20 and the end"
    assert expected_seconds([branch], speeds) == 3, "at 15, 20 and the end"


def test_commands_are_not_measured(tmp_path):
    jobs = plan_sweep(load_sweep(commands(tmp_path, "true {lr}")), "S.toml").plan.jobs
    assert measure(jobs) == [] and expected_seconds(jobs, [Speed(1.0, 1.0, 1.0, 1.0)]) is None


def test_the_cheapest_the_dearest_and_a_middle_shape_are_measured_and_nothing_is_written(
    tmp_path, monkeypatch
):
    torch = pytest.importorskip("torch", reason="needs the [train] extra")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("lehr.proxy.sweep.measuring.ENOUGH", 0.0)
    plan = planned(grid=WIDTHS, model=MODEL, cooldowns={"ratios": (0.5,)})
    told, before = [], torch.get_num_threads()
    speeds = measure(plan.jobs, 1, told.append)
    assert told == ["s-peak_lr0.01-width16", "s-peak_lr0.01-width48", "s-peak_lr0.01-width64"]
    assert [speed.flops for speed in speeds] == sorted(speed.flops for speed in speeds)
    assert all(speed.update > 0 and speed.validation > 0 and speed.start >= 0 for speed in speeds)
    assert expected_seconds(plan.jobs, speeds) > 0 and list(tmp_path.iterdir()) == []
    assert torch.get_num_threads() == before
    short = planned(grid={}, training={**TRAINING, "schedule": "constant(steps=2, peak=1e-2)"})
    assert len(measure(short.jobs)) == 1, "a schedule shorter than what is timed"
