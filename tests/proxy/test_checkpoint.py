"""Checkpoint files: whole, checked before they are opened, and readable by others."""

import random
from contextlib import ExitStack

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from lehr.checkpoints.opening import open_checkpoint  # noqa: E402
from lehr.errors import InputError, ResultError  # noqa: E402
from lehr.proxy.checkpoint import (  # noqa: E402
    Checkpoint,
    check_disk,
    checkpoint_path,
    drop_after,
    load_checkpoint,
    prune,
    save_checkpoint,
    saved_steps,
)  # fmt: skip


def state(step=5):
    model = {"a": torch.arange(6.0).view(2, 3), "b.weight": torch.ones(3)}
    optimizer = {name: {"step": torch.tensor(2.0), "exp_avg": value + 1} for name, value in model.items()}
    return Checkpoint(step, model, optimizer, "data")


def test_what_is_saved_is_loaded(tmp_path):
    save_checkpoint(tmp_path, state())
    found = load_checkpoint(tmp_path, 5)
    assert (found.step, found.fingerprint) == (5, "data")
    assert found.model.keys() == state().model.keys()
    for name, value in state().model.items():
        assert torch.equal(found.model[name], value)
        assert torch.equal(found.optimizer[name]["exp_avg"], value + 1)
        assert found.optimizer[name]["step"] == 2


def test_torch_loads_it_safely_and_merge_finds_the_weights(tmp_path):
    path = save_checkpoint(tmp_path, state())
    assert torch.load(path, weights_only=True)["step"] == 5
    with ExitStack() as stack:
        found = open_checkpoint(path, stack)
        assert set(found.tensors) == {"a", "b.weight"}
        assert torch.equal(found.get("a"), state().model["a"])


def test_any_flipped_bit_and_any_cut_is_found(tmp_path):
    path = save_checkpoint(tmp_path, state())
    data, rng = path.read_bytes(), random.Random(0)
    for _ in range(200):
        broken = bytearray(data)
        # the last bytes but the digest say how long that is, which only other programs read
        at = rng.choice([rng.randrange(len(data) - 66), rng.randrange(len(data) - 64, len(data))])
        broken[at] ^= 1 << rng.randrange(8)
        path.write_bytes(broken)
        with pytest.raises(InputError, match="step-0000005.pt is damaged: its content is not that"):
            load_checkpoint(tmp_path, 5)
    for length in (0, 1, 65, 66, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(InputError, match="is damaged"):
            load_checkpoint(tmp_path, 5)


def test_an_absent_one_and_another_version_are_refused(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="step-0000005.pt cannot be read: No such file or directory"):
        load_checkpoint(tmp_path, 5)
    monkeypatch.setattr("lehr.proxy.checkpoint.VERSION", 2)
    save_checkpoint(tmp_path, state())
    monkeypatch.undo()
    with pytest.raises(InputError, match="is no checkpoint of version 1: train the run again"):
        load_checkpoint(tmp_path, 5)


def test_the_last_two_and_those_kept_stay_and_leftovers_go(tmp_path):
    for step in (1, 2, 3, 10, 11):
        save_checkpoint(tmp_path, state(step))
    (tmp_path / "checkpoints" / ".step-0000012.pt.x").write_bytes(b"half")
    prune(tmp_path, keep=(2,))
    assert saved_steps(tmp_path) == [2, 10, 11]
    assert {path.name for path in (tmp_path / "checkpoints").iterdir()} == {
        checkpoint_path(tmp_path, step).name for step in (2, 10, 11)
    }
    drop_after(tmp_path, 10)
    assert saved_steps(tmp_path) == [2, 10]


def test_no_room_is_said(tmp_path):
    check_disk(tmp_path, 1000, 3)
    with pytest.raises(
        ResultError, match="GiB free, but 3 checkpoints of 1048576.00 GiB need more: make room"
    ):
        check_disk(tmp_path, 2**50, 3)
