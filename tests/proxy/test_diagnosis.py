"""Diagnoses of tiny runs: what is measured, and that what is made wrong is found and named."""

import shutil
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from tests.proxy.test_coordcheck import opened  # noqa: E402
from tests.proxy.tiny import tiny  # noqa: E402

from lehr.errors import InputError  # noqa: E402
from lehr.proxy import checkpoint  # noqa: E402
from lehr.proxy.attention import AttentionStatistics  # noqa: E402
from lehr.proxy.checkpoint import checkpoint_path, load_checkpoint  # noqa: E402
from lehr.proxy.diagnosis import State, diagnose, find_faults, update_ratios  # noqa: E402
from lehr.proxy.experts import RouterStatistics  # noqa: E402
from lehr.proxy.session import update  # noqa: E402
from lehr.proxy.train import train  # noqa: E402

EXPERTS = {"experts": {"count": 4}}
CALM = State(
    8, {("query 0", "size"): 1.0, ("query 0", "change"): 0.5}, [AttentionStatistics((0.9,), 3.0)], [], {}
)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "a"
    train(tiny(model={"depth": 2, **EXPERTS}, keep=[6]), folder)
    return folder


def test_every_checkpoint_is_measured_from_the_start(run):
    found = diagnose(run)
    assert found.name == "a" and [state.step for state in found.states] == [0, 6, 18, 24]
    for state in found.states:
        assert len(state.attention) == len(state.routers) == 2
        assert state.coordinates["residual stream", "size"] > 0
        assert all(sum(router.load) == pytest.approx(1) for router in state.routers)
    start, *later = found.states
    assert start.coordinates["logits", "change"] == 0 and start.updates == {}
    assert all(state.coordinates["expert down 1", "update"] > 0 for state in later)
    assert {"router", "expert_in", "expert_down", "embedding", "head", "qk_norm"} <= later[0].updates.keys()
    assert found.spikes == ()


def test_the_last_update_is_what_adam_did():
    session = opened(tiny(optimizer={"weight_decay": 0.0}))
    for _ in range(5):
        before = {name: p.detach().clone() for name, p in session.model.named_parameters()}
        update(session)
    moved = session.model.head.weight.detach() - before["head.weight"]
    expected = moved.norm() / session.model.head.weight.detach().norm()
    assert update_ratios(session)["head"] == pytest.approx(float(expected), rel=1e-4)


def test_a_matrix_made_too_large_in_one_block_is_named(run, tmp_path):
    shutil.copytree(run, tmp_path / "b")
    state = load_checkpoint(tmp_path / "b", 24)
    weights = {
        name: value * (100 if name == "blocks.1.attention.value.weight" else 1)
        for name, value in state.model.items()
    }
    checkpoint_path(tmp_path / "b", 24).unlink()
    checkpoint.save_checkpoint(tmp_path / "b", replace(state, model=weights))
    found = {(each.limit, each.part) for each in diagnose(tmp_path / "b").findings}
    assert ("blow-up", "value 1") in found and ("blow-up", "value 0") not in found
    assert not {limit for limit, part in found if part.startswith(("query", "key"))} & {"blow-up"}


@pytest.mark.parametrize(
    ("changes", "limit", "part", "value"),
    [
        ({"attention": [AttentionStatistics((0.9, 0.01), 3.0)]}, "collapsed head", "block 0, head 1", 0.01),
        ({"attention": [AttentionStatistics((0.9,), 60.0)]}, "attention logits", "block 0", 60.0),
        ({"routers": [RouterStatistics((0.5, 0.48, 0.02), 1.0)]}, "starved expert", "block 0, expert 2", 0.06),
        ({"routers": [RouterStatistics((0.9, *[0.01] * 9), 1.0)]}, "crowded expert", "block 0, expert 0", 9.0),
        ({"coordinates": {("value 1", "size"): 1.0, ("value 1", "change"): 0.01}}, "lazy part", "value 1", 0.01),
        ({"coordinates": {(f"value {i}", "update"): 12.0 if i == 2 else 1.0 for i in range(4)}}, "uneven updates",
         "value 2", 12.0),
        ({"updates": {"router": 0.5}}, "large updates", "router", 0.5),
        ({"coordinates": {("query 0", "size"): 11.0, ("query 0", "change"): 9.0}}, "blow-up", "query 0", 11.0),
    ],
)  # fmt: skip
def test_what_is_beyond_its_limit_is_named(changes, limit, part, value):
    later = replace(CALM, step=16, **changes)
    before = CALM if "coordinates" not in changes or limit == "blow-up" else replace(CALM, step=0)
    found = [each for each in find_faults([before, later]) if each.limit == limit and each.part == part]
    assert [(each.value, each.step) for each in found] == [(pytest.approx(value), 16)]


def test_a_calm_run_has_no_finding_and_initial_weights_are_blamed_for_nothing():
    assert list(find_faults([CALM, replace(CALM, step=16)])) == []
    assert (
        list(find_faults([replace(CALM, step=0, attention=[AttentionStatistics((0.0,), 99.0)]), CALM])) == []
    )


def test_growth_in_the_first_tenth_is_no_blow_up():
    grown = replace(CALM, step=16, coordinates={("query 0", "size"): 11.0})
    assert [each.limit for each in find_faults([CALM, grown])] == ["blow-up"]
    assert list(find_faults([CALM, grown, replace(grown, step=90)])) == []


def test_a_finding_is_told_once_at_its_worst():
    states = [
        replace(CALM, step=s, attention=[AttentionStatistics((e,), 1.0)]) for s, e in ((8, 0.01), (16, 0.005))
    ]
    (found,) = find_faults([*states, replace(CALM, step=24)])
    assert found.text == "collapsed head: block 0, head 0 at step 16: 0.005 is below 0.02"


def test_what_cannot_be_looked_at_is_refused(run, tmp_path):
    with pytest.raises(InputError, match="holds no run: there is no log.jsonl in it"):
        diagnose(tmp_path)
    (tmp_path / "log.jsonl").write_bytes((run / "log.jsonl").read_bytes())
    with pytest.raises(
        InputError, match="has no checkpoint to look at: train it to its end, or to a step of"
    ):
        diagnose(tmp_path)
    text = (run / "log.jsonl").read_text().replace('"data_fingerprint": "', '"data_fingerprint": "x')
    (tmp_path / "log.jsonl").write_text(text)
    (tmp_path / "checkpoints").symlink_to(run / "checkpoints")
    with pytest.raises(InputError, match="the data are not those that .* was trained on: restore the files"):
        diagnose(tmp_path)
