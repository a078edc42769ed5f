"""Merged files: the average itself, of every kind of file, whole or not at all, in little memory."""

import errno
import json
import shutil
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from lehr.errors import InputError, ResultError

torch = pytest.importorskip("torch", reason="checkpoints need torch")
pytest.importorskip("safetensors", reason="checkpoints need safetensors")

from safetensors import safe_open  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from tests.checkpoints.made import average, weights  # noqa: E402

from lehr.checkpoints import averaging  # noqa: E402
from lehr.checkpoints.averaging import merge_checkpoints  # noqa: E402

SHARES = [0.2475, 0.5, 0.2525]


def same(found, wanted):
    """Bit by bit, dtypes and shapes included."""
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name].dtype == value.dtype and found[name].shape == value.shape, name
        assert torch.equal(found[name], value), name


@pytest.mark.parametrize("portion", [1 << 22, 7])
def test_it_is_the_average(safe, states, tmp_path, portion, monkeypatch):
    monkeypatch.setattr(averaging, "PORTION", portion)
    done = merge_checkpoints(safe, SHARES, tmp_path / "m.safetensors", metadata={"lehr_merge": "linear"})
    same(load_file(done.path), average(states, SHARES))
    assert done.averaged == 6 and done.copied == ("ids", "mask", "steps") and done.left_out == ()
    with safe_open(done.path, "pt") as file:
        assert file.metadata() == {"format": "pt", "lehr_merge": "linear"}
    assert done.path.stat().st_mode & 0o777 == 0o644
    values = load_file(done.path).values()
    assert done.bytes == sum(value.numel() * value.element_size() for value in values)


def test_pytorch_files_give_the_same_and_leave_the_optimiser_out(pickled, states, tmp_path):
    done = merge_checkpoints(pickled, SHARES, tmp_path / "m.safetensors")
    same(load_file(done.path), average(states, SHARES))
    assert done.left_out == ("optimizer", "step")


def test_plain_state_dicts_and_named_entries(states, tmp_path):
    for i, state in enumerate(states):
        torch.save(state, tmp_path / f"plain{i}.pth")
        torch.save({"model": weights(9), "ema": state}, tmp_path / f"both{i}.ckpt")
    out = tmp_path / "m.safetensors"
    merge_checkpoints([tmp_path / f"plain{i}.pth" for i in range(3)], SHARES, out)
    same(load_file(out), average(states, SHARES))
    out.unlink()
    both = [tmp_path / f"both{i}.ckpt" for i in range(3)]
    with pytest.raises(
        InputError, match=r"both0\.ckpt holds several sets of weights \(model, ema\) among model, "
    ):
        merge_checkpoints(both, SHARES, out)
    with pytest.raises(
        InputError, match=r"both0\.ckpt: key must be one of \['model', 'ema'\], got 'emma': name"
    ):
        merge_checkpoints(both, SHARES, out, key="emma")
    assert not out.exists()
    merge_checkpoints(both, SHARES, out, key="ema")
    same(load_file(out), average(states, SHARES))


def test_views_and_tied_weights_are_written_whole(tmp_path):
    for i in range(2):
        base = torch.randn(6, 4)
        torch.save({"a": base.t(), "b": base, "c": base[1:3]}, tmp_path / f"{i}.pt")
    out = tmp_path / "m.safetensors"
    merge_checkpoints([tmp_path / "0.pt", tmp_path / "1.pt"], [0.5, 0.5], out)
    found = load_file(out)
    assert torch.equal(found["a"], found["b"].t()) and torch.equal(found["c"], found["b"][1:3])


def shard(state, folder):
    """Write a state as two shards and an index, as transformers does."""
    folder.mkdir()
    names = sorted(state)
    parts = {"model-00001-of-00002.safetensors": names[:4], "model-00002-of-00002.safetensors": names[4:]}
    for file, part in parts.items():
        save_file({name: state[name] for name in part}, folder / file)
    where = {name: file for file, part in parts.items() for name in part}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    return folder


def test_folders_of_shards_and_of_one_file(states, tmp_path):
    folders = [shard(state, tmp_path / f"checkpoint-{i}") for i, state in enumerate(states[:2])]
    folders.append(tmp_path / "checkpoint-2")
    folders[-1].mkdir()
    save_file(states[2], folders[-1] / "model.safetensors")
    out = tmp_path / "m.safetensors"
    merge_checkpoints(folders, SHARES, out)
    same(load_file(out), average(states, SHARES))


def test_weights_on_one_checkpoint_return_it_bit_by_bit(safe, states, tmp_path):
    done = merge_checkpoints(safe, [0, 1, 0], tmp_path / "m.safetensors")
    same(load_file(done.path), average(states, [0, 1, 0]))
    assert torch.equal(load_file(done.path)["embed"], states[1]["embed"])


# what differs


def save_pair(tmp_path, second, first=None):
    first = weights(1) if first is None else first
    paths = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for state, path in zip((first, second), paths, strict=True):
        save_file(state, path)
    return paths


DIFFERENT = {
    "lacks": ({"scale": None}, r"b\.safetensors lacks scale, against \S+a\.safetensors: merge checkpoints of one"),
    "adds": ({"more": torch.ones(1)}, r"b\.safetensors adds more, against "),
    "renamed": ({"scale": None, "more": torch.ones(1)}, r"b\.safetensors lacks scale and adds more, against "),
    "shape": ({"norm": torch.ones(7, 1).double()}, r"b\.safetensors: norm is F64 7x1, in \S+ it is F64 7: merge"),
    "dtype": ({"scale": torch.tensor(1.0).half()}, r"b\.safetensors: scale is F16 scalar, in \S+ it is F32 scalar"),
    "integers": ({"ids": torch.zeros(5).long()}, r"a\.safetensors: ids is I64 5 and differs from \S+b\.safetensors: "
                 r"integers cannot be averaged; if they are quantised weights, merge the originals\."),
    "nan": ({"norm": torch.full((7,), float("nan")).double()}, r"^norm is not finite in \S+b\.safetensors: merge"),
    "fp8": ({"norm": torch.ones(7).to(torch.float8_e4m3fn)}, r"b\.safetensors: norm of dtype F8_E4M3 cannot be aver"),
}  # fmt: skip


@pytest.mark.parametrize("kind", DIFFERENT)
def test_checkpoints_that_do_not_fit_are_refused(tmp_path, kind):
    change, text = DIFFERENT[kind]
    second = {name: value for name, value in {**weights(2), **change}.items() if value is not None}
    out = tmp_path / "m.safetensors"
    with pytest.raises(InputError, match=text):
        merge_checkpoints(save_pair(tmp_path, second), [0.5, 0.5], out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.safetensors", "b.safetensors"]


def test_complex_and_sparse_values_are_refused(tmp_path):
    for name, value, text in (
        (
            "c.pt",
            torch.ones(2, dtype=torch.complex64),
            r"c\.pt: w of dtype torch\.complex64 cannot be averaged: con",
        ),
        (
            "s.pt",
            torch.eye(3).to_sparse(),
            r"s\.pt: w is a torch\.sparse_coo tensor on cpu: save plain values\.",
        ),
    ):
        torch.save({"w": value}, tmp_path / name)
        with pytest.raises(InputError, match=text):
            merge_checkpoints([tmp_path / name] * 2, [0.5, 0.5], tmp_path / "m.safetensors")


def test_a_few_bytes_cannot_claim_a_huge_tensor(tmp_path):
    torch.save({"w": torch.ones(1).expand(10**6, 10**6)}, tmp_path / "h.pt")
    with pytest.raises(
        InputError, match=r"h\.pt: w claims more values than the file holds: save it again, unexp"
    ):
        merge_checkpoints([tmp_path / "h.pt"] * 2, [0.5, 0.5], tmp_path / "m.safetensors")


def test_a_reserved_name_is_refused(tmp_path):
    for name in ("a.pt", "b.pt"):
        torch.save({"__metadata__": torch.ones(1)}, tmp_path / name)
    with pytest.raises(
        InputError, match=r"a\.pt: a tensor is named __metadata__, which safetensors reserves: ren"
    ):
        merge_checkpoints([tmp_path / "a.pt", tmp_path / "b.pt"], [0.5, 0.5], tmp_path / "m.safetensors")


# arguments


def test_wrong_arguments_are_refused(safe, tmp_path):
    out = tmp_path / "m.safetensors"
    with pytest.raises(
        InputError, match=r"^weights must be one for each of two or more checkpoints \(3\), got \[1"
    ):
        merge_checkpoints(safe, [1.0], out)
    with pytest.raises(
        InputError, match=r"^weights must be at least 0 and sum to 1, got \[0\.5, 0\.5, 0\.5\]: div"
    ):
        merge_checkpoints(safe, [0.5, 0.5, 0.5], out)
    with pytest.raises(
        InputError, match=r"^weights must be at least 0 and sum to 1, got \[1\.5, 0\.0, -0\.5\]"
    ):
        merge_checkpoints(safe, [1.5, 0, -0.5], out)
    with pytest.raises(
        InputError, match=r"^out must end in \.safetensors, got .*: merged weights are written as"
    ):
        merge_checkpoints(safe, SHARES, tmp_path / "m.pt")
    for wrong in (tmp_path / "none" / "m.safetensors", tmp_path / "folder.safetensors"):
        (tmp_path / "folder.safetensors").mkdir(exist_ok=True)
        with pytest.raises(
            InputError, match="is a folder, or the folder it should be in does not exist: name a"
        ):
            merge_checkpoints(safe, SHARES, wrong)
    with pytest.raises(InputError, match=r"^key is for PyTorch files, got 'model': leave it out for "):
        merge_checkpoints(safe, SHARES, out, key="model")
    assert not out.exists()


def test_no_checkpoint_is_overwritten_or_counted_twice(safe, tmp_path):
    before = safe[2].read_bytes()
    alias = tmp_path / "alias.safetensors"
    alias.hardlink_to(safe[2])
    for out in (safe[2], alias):
        with pytest.raises(InputError, match=r"is one of the checkpoints to merge: write to another file\.$"):
            merge_checkpoints(safe, SHARES, out)
    with pytest.raises(
        InputError, match=r"alias\.safetensors is the same as \S+step-300\.safetensors: name each"
    ):
        merge_checkpoints([*safe[1:], alias], SHARES, tmp_path / "m.safetensors")
    assert safe[2].read_bytes() == before


# writing


def test_a_full_disk_is_told_before_and_leaves_what_was_there(safe, tmp_path, monkeypatch):
    out = tmp_path / "m.safetensors"
    out.write_text("before")
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10))
    with pytest.raises(
        ResultError, match=r"m\.safetensors needs [\d,]+ bytes and its disk has 10: make room\.$"
    ):
        merge_checkpoints(safe, SHARES, out)
    monkeypatch.undo()

    def full(file, *rest):
        file.write(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(averaging, "write_stream", full)
    text = r"^could not write \S+m\.safetensors: No space left on device; what was there is untouched\.$"
    with pytest.raises(ResultError, match=text):
        merge_checkpoints(safe, SHARES, out)
    assert out.read_text() == "before" and len(list(tmp_path.iterdir())) == 4


KILLED = """
import os, signal, sys
from pathlib import Path
from lehr.checkpoints import averaging
seen = []
def step(name):
    seen.append(name)
    if len(seen) == 5:
        os.kill(os.getpid(), signal.SIGKILL)
*paths, out = map(Path, sys.argv[1:])
averaging.merge_checkpoints(paths, [0.25, 0.5, 0.25], out, step=step)
"""


@pytest.mark.parametrize("before", [None, b"an older file"])
def test_a_killed_merge_leaves_no_half_file(safe, states, tmp_path, before):
    out = tmp_path / "m.safetensors"
    if before:
        out.write_bytes(before)
    done = subprocess.run([sys.executable, "-c", KILLED, *map(str, safe), str(out)], timeout=120)
    assert done.returncode == -signal.SIGKILL
    assert (out.read_bytes() if out.exists() else None) == before
    left = [path for path in tmp_path.iterdir() if path not in (*safe, out)]
    assert [path.name.startswith(".m.safetensors.") for path in left] == [True]  # all it leaves
    merge_checkpoints(safe, [0.25, 0.5, 0.25], out)
    same(load_file(out), average(states, [0.25, 0.5, 0.25]))


MEASURED = """
import sys
from pathlib import Path

import safetensors.torch
import torch

from lehr.checkpoints import averaging, checkpoint, opening, pickled, safe

averaging.PORTION = 1 << 17
torch.ones(8).to(torch.float64).mul_(2).add_(1)  # what torch sets up at its first sums


def private_memory():
    # that of this process which is not a view of a file, in bytes
    text = Path("/proc/self/status").read_text()
    return int(text.partition("RssAnon:")[2].split()[0]) * 1024


*paths, out = sys.argv[1:]
before, seen = private_memory(), []
done = averaging.merge_checkpoints(
    [Path(path) for path in paths], [0.2475, 0.5, 0.2525], Path(out), step=lambda name: seen.append(private_memory())
)
print(done.averaged, len(seen), max(seen) - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux's account of memory")
@pytest.mark.parametrize("suffix", ["safetensors", "pt"])
def test_memory_is_that_of_a_tensor_not_of_a_model(tmp_path, suffix):
    size = 1 << 19  # 2 MiB a tensor, 32 MiB a checkpoint
    paths = [tmp_path / f"{i}.{suffix}" for i in range(3)]
    for path in paths:
        state = {f"w{j:02}": torch.randn(size) for j in range(16)}
        (save_file if suffix == "safetensors" else torch.save)(state, path)
    # in a process of its own: what tests before this one left to the allocator would count otherwise
    run = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, paths), str(tmp_path / "m.safetensors")],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    averaged, steps, grown = map(int, run.stdout.split())
    assert averaged == steps == 16
    assert grown < 10 << 20
    for path in (*paths, tmp_path / "m.safetensors"):
        path.unlink()
