"""Training a study: it ends, can be stopped and repeated, and keeps what diverged."""

import math

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from tests.proxy.test_study import TEXT  # noqa: E402

from lehr.errors import InputError  # noqa: E402
from lehr.proxy import studying  # noqa: E402
from lehr.proxy.diverged import Diverged  # noqa: E402
from lehr.proxy.study import cells, load_study, seeds_of  # noqa: E402

torch.set_num_threads(1)


@pytest.fixture
def study(tmp_path):
    path = tmp_path / "toy.toml"
    path.write_text(TEXT.format(experts=""))
    return load_study(path)


def test_every_valley_is_enclosed_and_nothing_is_trained_twice(study, tmp_path):
    begun = []
    found = studying.run_study(study, tmp_path / "out", begin=lambda config: begun.append(config.name))
    by_cell = {}
    for run in found:
        by_cell.setdefault(run.cell.name, {})[run.lr] = run.loss
    assert set(by_cell) == {"base", "sp-width32", "completep-width32", "sp-steps40"}
    for losses in by_cell.values():
        grid = sorted(losses)
        assert len(grid) >= 4 and grid[0] < min(losses, key=losses.get) < grid[-1]
    assert len(begun) == len(set(begun)) == len(found)
    assert found[-1].tokens == 2 * found[0].tokens
    again = studying.run_study(study, tmp_path / "out")
    assert [run.loss for run in again] == [run.loss for run in found]


def test_the_base_may_have_seeds_of_its_own(study, tmp_path):
    found = studying.run_study(study.model_copy(update={"base_seeds": (1, 2)}), tmp_path, only=("tokens/*",))
    assert {run.seed for run in found if run.cell.level == 0} == {1, 2}
    assert {run.seed for run in found if run.cell.level} == {1}


def test_a_rule_may_have_seeds_of_its_own(tmp_path):
    path = tmp_path / "toy.toml"
    path.write_text(
        TEXT.format(experts="").replace("[axes.tokens]", "seeds = { completep = [1, 2] }\n[axes.tokens]")
    )
    found = studying.run_study(load_study(path), tmp_path / "out", only=("width/*",))
    seeds = {
        rule: {run.seed for run in found if run.cell.rule == rule and run.cell.level}
        for rule in ("sp", "completep")
    }
    assert seeds == {"sp": {1}, "completep": {1, 2}}


def test_a_target_may_have_seeds_of_its_own_whatever_the_rule(tmp_path):
    path = tmp_path / "toy.toml"
    text = TEXT.format(experts="").replace("heads = 4 }", "heads = 4, seeds = [1, 3] }, { width = 48 }")
    path.write_text(text.replace("[axes.tokens]", "seeds = { completep = [1, 2] }\n[axes.tokens]"))
    study = load_study(path)
    seeds = {cell.name: seeds_of(study, cell) for cell in cells(study) if cell.axis == "width"}
    assert seeds == {
        "sp-width32": (1, 3), "completep-width32": (1, 3), "sp-width48": (1,), "completep-width48": (1, 2)
    }  # fmt: skip
    found = studying.run_study(study, tmp_path / "out", only=("width/completep/width32",))
    assert {run.seed for run in found if run.cell.level} == {1, 3}


def test_a_refined_valley_has_more_lrs_at_its_bottom_and_other_levels_begin_as_without(study, tmp_path):
    finer, only = study.model_copy(update={"refine": 2}), ("width/completep/*",)
    plain, refined, again = (studying.run_study(one, tmp_path, only=only) for one in (study, finer, finer))
    for cell in dict.fromkeys(run.cell for run in plain):
        before, after = ({run.lr: run.loss for run in runs if run.cell == cell} for runs in (plain, refined))
        assert before.items() <= after.items() and len(after) == len(before) + 2
        best = min(before, key=before.get)
        assert all(1 / study.factor < lr / best < study.factor for lr in after.keys() - before.keys())
    assert [run.loss for run in again] == [run.loss for run in refined]


def test_it_stops_when_asked_and_goes_on(study, tmp_path):
    asked = []

    def stop():
        asked.append(1)
        return len(asked) > 30

    assert studying.run_study(study, tmp_path / "out", only=("width/sp/*",), stop=stop) is None
    assert studying.run_study(study, tmp_path / "out", only=("width/sp/*",))


def test_a_diverged_run_is_a_result_and_not_trained_again(study, tmp_path, monkeypatch):
    calls = []

    def train(config, folder, **options):
        calls.append(config.name)
        if config.training.plan.peak > 0.015:
            raise Diverged("run diverged: the loss is not finite")
        result = type(
            "Result", (), {"finished": True, "val_loss": 3 + math.log(config.training.plan.peak / 0.01) ** 2}
        )
        return result

    monkeypatch.setattr(studying, "train", train)
    found = studying.run_study(study, tmp_path / "out", only=("tokens/*",))
    lost = [run for run in found if math.isnan(run.loss)]
    assert lost and all(run.lr > 0.015 for run in lost)
    assert "not finite" in (tmp_path / "out" / lost[0].config.name / "diverged.txt").read_text()
    calls.clear()
    studying.run_study(study, tmp_path / "out", only=("tokens/*",))
    assert not set(calls) & {run.config.name for run in lost}


def test_a_pattern_that_matches_nothing_is_refused(study, tmp_path):
    with pytest.raises(InputError, match="--only 'depth/.' matches nothing of study 'toy'.*width/sp/width32"):
        studying.run_study(study, tmp_path / "out", only=("depth/*",))
