"""`lehr merge`: steps from names or as given, weights, what it prints; refusals without a traceback."""

import sys

import pytest

TABLE = """checkpoint              step    weight  LR before it / trunk's
step-800.safetensors     800  0.247500                  1.0000
step-900.safetensors     900  0.500000                  0.7525
step-1000.safetensors   1000  0.252500                  0.2525
"""
NAMES = ["step-1000.safetensors", "step-800.safetensors", "step-900.safetensors"]  # as a shell lists them


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def files(folder):
    torch = pytest.importorskip("torch", reason="checkpoints need torch")
    save_file = pytest.importorskip("safetensors.torch", reason="checkpoints need safetensors").save_file
    for name, value in zip(NAMES, (10.0, 2.0, 4.0), strict=True):
        save_file({"w": torch.full((3,), value), "n": torch.tensor(int(value))}, folder / name)
    return folder


def test_a_dry_run_prints_the_weights_in_the_order_of_the_steps(lehr, folder):
    outcome = lehr("merge", *NAMES, "--dry-run")
    assert (outcome.code, outcome.err) == (0, "")
    assert [line.split() for line in outcome.out.splitlines()] == [
        line.split() for line in TABLE.splitlines()
    ]
    assert list(folder.iterdir()) == []
    given = lehr("merge", "a", "b", "c", "--steps", "1000,800,900", "--dry-run", "--json").json
    assert [row["checkpoint"] for row in given["weights"]] == ["b", "c", "a"] and given["out"] is None


def test_shape_and_final_change_the_weights(lehr, folder):
    def weights(*options):
        rows = lehr("merge", *NAMES, "--dry-run", "--json", *options).json["weights"]
        return [row["weight"] for row in rows]

    assert weights("--decay", "sqrt") == pytest.approx([0.467725, 0.392739, 0.139536], abs=1e-6)
    assert weights("--final", 1) == pytest.approx([0, 0, 1], abs=1e-12)
    assert weights("--decay", "exponential", "--final", 0.1)[2] > 0.1


def test_it_writes_the_average_and_says_so(lehr, files):
    from safetensors.torch import load_file

    outcome = lehr("merge", *NAMES, "--out", "m.safetensors")
    assert outcome.code == 0, outcome.err
    assert outcome.out.endswith(
        "\nwrote m.safetensors: 1 tensors averaged\ncopied from the last checkpoint (integers): n\n"
    )
    found = load_file("m.safetensors")
    assert found["w"].tolist() == pytest.approx([0.2475 * 2 + 0.5 * 4 + 0.2525 * 10] * 3, rel=1e-6)
    assert found["n"] == 10
    told = lehr("merge", *NAMES, "--out", "m.safetensors", "--json").json
    assert {k: v for k, v in told.items() if k != "weights"} == {
        "out": "m.safetensors", "averaged": 1, "copied": ["n"], "left_out": [], "bytes": 20,
    }  # fmt: skip


def test_the_header_says_where_it_comes_from(lehr, files):
    from safetensors import safe_open

    assert lehr("merge", *NAMES, "--decay", "sqrt", "--out", "m.safetensors").code == 0
    with safe_open("m.safetensors", "pt") as file:
        assert file.metadata()["lehr_merge"] == "decay=sqrt, final=0, steps=800,900,1000"


def test_what_pytorch_files_hold_beside_the_weights_is_named(lehr, folder):
    torch = pytest.importorskip("torch", reason="checkpoints need torch")
    pytest.importorskip("safetensors", reason="checkpoints need safetensors")
    for step in (10, 20):
        content = {"model": {"w": torch.ones(2), "n\x1b[2J": torch.tensor(1)}, "opt\x1b[2J": {"lr": 0.1}}
        torch.save(content, folder / f"{step}.pt")
    outcome = lehr("merge", "10.pt", "20.pt", "--out", "m.safetensors")
    lines = outcome.out.splitlines()[-3:]
    assert lines[0] == "wrote m.safetensors: 1 tensors averaged"
    assert lines[1:] == ["copied from the last checkpoint (integers): n?[2J", "left out: opt?[2J"]


def test_wrong_input_is_refused(lehr, folder):
    def refused(*arguments):
        return lehr("merge", *arguments).refused()

    assert "error: give --out FILE.safetensors for the merged weights, or --dry-run." in refused(*NAMES)
    assert "a.pt has no single number in its name: give --steps." in refused("a.pt", "b.pt", "--dry-run")
    assert "model-7b-100.pt has no single" in refused("model-7b-100.pt", "200.pt", "--dry-run")
    assert "--steps must be whole numbers between commas, got '8;9': such as 8000,9000,10000." in refused(
        "a.pt", "b.pt", "--steps", "8;9", "--dry-run"
    )
    assert "--steps must be one for each of the 2 checkpoints, got '8': pair them." in refused(
        "a.pt", "b.pt", "--steps", "8", "--dry-run"
    )
    assert "steps must be whole numbers of at least 0 that increase, got [8, 8]" in refused(
        "a.pt", "b.pt", "--steps", "8,8", "--dry-run"
    )
    assert "steps must be those of at least two checkpoints, got [8]" in refused("8.pt", "--dry-run")
    assert "unknown decay shape 'lin': did you mean 'linear'?" in refused(
        *NAMES, "--decay", "lin", "--dry-run"
    )
    assert "final must not exceed the peak 1, got 2.0" in refused(*NAMES, "--final", 2, "--dry-run")


def test_steps_in_the_order_of_time_for_files_in_the_order_of_names_are_refused(lehr, folder):
    text = "--steps must be in the order of the checkpoints; step-1000.safetensors was given, got 800: sort them."
    assert text in lehr("merge", *NAMES, "--steps", "800,900,1000", "--dry-run").refused()


def test_damaged_and_missing_files_are_refused(lehr, files):
    (files / NAMES[0]).write_bytes(b"no")
    out = ("--out", "m.safetensors")
    assert (
        "step-1000.safetensors is damaged or no safetensors file (" in lehr("merge", *NAMES, *out).refused()
    )
    assert (
        "none-1.pt does not exist: give a checkpoint." in lehr("merge", "none-1.pt", "2.pt", *out).refused()
    )
    assert not (files / "m.safetensors").exists()


@pytest.mark.parametrize("module", ["torch", "safetensors"])
def test_what_must_be_installed_is_named(lehr, files, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    text = f"merging checkpoints needs {module}: install it with `pip install 'lehr[train]'`."
    assert text in lehr("merge", *NAMES, "--out", "m.safetensors").refused()
