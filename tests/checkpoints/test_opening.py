"""Damaged and malicious checkpoints: refused with a message, and nothing in them is run."""

import json
import os
import pickle
import random
import warnings
import zipfile
from contextlib import ExitStack

import pytest

from lehr.checkpoints.opening import open_checkpoint
from lehr.errors import InputError

torch = pytest.importorskip("torch", reason="checkpoints need torch")
save_file = pytest.importorskip("safetensors.torch", reason="checkpoints need safetensors").save_file


def opened(path, key=None):
    with ExitStack() as stack:
        found = open_checkpoint(path, stack, key)
        for name, info in found.tensors.items():
            assert tuple(found.get(name).shape) == info.shape
        return found


class Malicious:
    """Unpickling it makes a folder."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return (os.mkdir, (str(self.target),))


@pytest.mark.parametrize("where", ["weights", "optimiser", "whole"])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, where):
    mark = tmp_path / "run"
    evil = Malicious(mark)
    content = {
        "weights": {"w": torch.ones(2), "evil": evil}, "whole": evil,
        "optimiser": {"model": {"w": torch.ones(2)}, "optimizer": evil},
    }[where]  # fmt: skip
    torch.save(content, tmp_path / "evil.pt")
    text = (
        r"evil\.pt holds more than tensors and was not loaded: it asks for posix\.mkdir, and running what a file "
        r"asks for is not safe\. Save the state_dict alone, or as safetensors\.$"
    )
    with pytest.raises(InputError, match=text):
        opened(tmp_path / "evil.pt")
    assert not mark.exists()
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert mark.exists()  # it would have


def test_a_bare_pickle_is_not_run(tmp_path):
    for name in ("evil.pt", "evil.safetensors"):
        (tmp_path / name).write_bytes(pickle.dumps(Malicious(tmp_path / "run")))
        with pytest.raises(
            InputError, match=r"(is empty or of the format before torch 1\.6|is damaged or no safet)"
        ):
            opened(tmp_path / name)
    assert not (tmp_path / "run").exists()


def test_an_unsafe_torch_is_refused(tmp_path, monkeypatch):
    torch.save({"w": torch.ones(2)}, tmp_path / "a.pt")
    monkeypatch.setattr(torch, "__version__", "2.5.1+cu124")
    text = r"^torch must be 2\.6 or later to read PyTorch files safely, got '2\.5\.1\+cu124': upgrade torch, or save"
    with pytest.raises(InputError, match=text):
        opened(tmp_path / "a.pt")


@pytest.mark.parametrize("suffix", ["pt", "safetensors"])
def test_truncated_files_are_refused(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    state = {"w": torch.ones(300, 30), "b": torch.ones(3)}
    (torch.save if suffix == "pt" else save_file)(state, path)
    whole = path.read_bytes()
    for size in (0, 5, 40, 1000, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(
            InputError, match=r"a\.(pt|safetensors) is (damaged or|empty or of the format before)"
        ):
            opened(path)


def test_bytes_changed_at_random_give_a_message_or_a_checkpoint(tmp_path):
    state = {f"l{i}.w": torch.ones(5, 7) for i in range(3)} | {"n": torch.tensor(3)}
    torch.save({"model": state, "opt": {"state": {0: {"m": torch.zeros(3)}}}}, tmp_path / "a.pt")
    save_file(state, tmp_path / "a.safetensors")
    with zipfile.ZipFile(tmp_path / "a.pt") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    pickled = next(name for name in parts if name.endswith("data.pkl"))
    chance, refused = random.Random(0), 0
    for turn in range(300):
        kind = ("pt", "safetensors", "pickle")[turn % 3]
        content = bytearray(parts[pickled] if kind == "pickle" else (tmp_path / f"a.{kind}").read_bytes())
        for _ in range(chance.randint(1, 4)):
            content[chance.randrange(min(len(content), 600))] = chance.randrange(256)
        target = tmp_path / f"z.{'safetensors' if kind == 'safetensors' else 'pt'}"
        if kind == "pickle":
            with zipfile.ZipFile(target, "w") as archive:
                for name, value in parts.items():
                    archive.writestr(name, bytes(content) if name == pickled else value)
        else:
            target.write_bytes(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, on what it half understands
            try:
                opened(target)
            except InputError as error:
                assert str(target) in str(error) and str(error).endswith(".")
                refused += 1
    assert 200 < refused < 300


# kinds


def test_unknown_kinds_are_refused(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"")
    with pytest.raises(InputError, match=r"none\.pt does not exist: give a checkpoint\.$"):
        opened(tmp_path / "none.pt")
    with pytest.raises(
        InputError, match=r"a\.npz is no known kind of checkpoint: give a \.safetensors file, a PyT"
    ):
        opened(tmp_path / "a.npz")
    with pytest.raises(
        InputError, match=r"holds neither model\.safetensors nor model\.safetensors\.index\.json: name"
    ):
        opened(tmp_path)
    (tmp_path / ".metadata").write_bytes(b"")
    with pytest.raises(
        InputError, match=r": convert it with torch\.distributed\.checkpoint\.format_utils\.dcp_to"
    ):
        opened(tmp_path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([torch.ones(1)], r"a\.pt holds no state_dict but a list: save a state_dict\.$"),
        (
            {"step": 3, "lr": 0.1},
            r"a\.pt holds no state_dict of tensors alone among step, lr: name one with --key\.$",
        ),
        (
            {"w": torch.ones(1), "extra": 3},
            r"a\.pt holds no state_dict of tensors alone among w, extra: name one",
        ),
        ({}, r"a\.pt holds no state_dict of tensors alone among : name one"),
    ],
    ids=str,
)
def test_files_without_weights_are_refused(tmp_path, content, text):
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(InputError, match=text):
        opened(tmp_path / "a.pt")


def test_an_empty_safetensors_file_is_refused(tmp_path):
    save_file({}, tmp_path / "a.safetensors")
    with pytest.raises(
        InputError, match=r"a\.safetensors holds no tensors: give a checkpoint with weights\.$"
    ):
        opened(tmp_path / "a.safetensors")


# shards


def index(folder, content):
    (folder / "model.safetensors.index.json").write_text(
        content if isinstance(content, str) else json.dumps(content)
    )


@pytest.mark.parametrize(
    "file",
    ["../out.safetensors", "/etc/out.safetensors", "a/b.safetensors", "..", "a\\b.safetensors", "w.pt", ""],
)
def test_an_index_cannot_lead_out_of_its_folder(tmp_path, file):
    save_file({"w": torch.ones(1)}, tmp_path / "out.safetensors")
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    index(folder, {"weight_map": {"w": file}})
    with pytest.raises(
        InputError, match=r"index\.json names '.*', which is no \.safetensors file beside it: save"
    ):
        opened(folder)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("{", r"index\.json has no weight_map: save the checkpoint again\.$"),
        ("[1]", r"index\.json has no weight_map"),
        ({"weight_map": ["w"]}, r"index\.json: weight_map must name a file for each tensor: save"),
        ({"weight_map": {"w": 3}}, r"index\.json: weight_map must name a file for each tensor"),
        (
            {"weight_map": {"w": "b.safetensors"}},
            r"b\.safetensors does not exist: give all shards of the checkpoint",
        ),
        (
            {"weight_map": {"v": "a.safetensors"}},
            r"a\.safetensors lacks v, which model\.safetensors\.index\.json pla",
        ),
        ({"weight_map": {}}, r"checkpoint holds no tensors"),
    ],
    ids=str,
)
def test_wrong_indices_are_refused(tmp_path, content, text):
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    save_file({"w": torch.ones(1)}, folder / "a.safetensors")
    index(folder, content)
    with pytest.raises(InputError, match=text):
        opened(folder)
