"""`lehr coord-check` and `lehr diagnose`: what they print and write, and their messages."""

import json
import sys

import pytest

BASE = """
name = "small"
[model]
depth = 2
width = 16
heads = 2
context = 16
[data]
vocab_size = 32
[training]
schedule = "constant(steps=12, peak=4e-3)"
batch = 4
validate_sequences = 4
"""


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "base.toml"
    path.write_text(BASE)
    return path


def needs_torch():
    torch = pytest.importorskip("torch", reason="needs the [train] extra")
    torch.set_num_threads(1)


def test_it_prints_a_verdict_a_module_and_writes_what_it_measured(lehr, base, tmp_path):
    needs_torch()
    arguments = (
        "coord-check",
        base,
        "--rule",
        "sp",
        "--widths",
        "16,64",
        "--depths",
        "2,4",
        "--steps",
        3,
        "--seeds",
        1,
    )
    outcome = lehr(*arguments, "--out", tmp_path / "made" / "here")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0] == "slopes of ln size against ln scale after 3 updates; level is within 0.1 of 0"
    assert lines[2].split() == ["width", "16", "to", "64", "size", "change", "update", "verdict"]
    (row,) = [line for line in lines[:20] if line.startswith("ffn up ")]
    assert row.split()[-1] == "off" and float(row.split()[4].strip("*")) > 0.5
    assert [line.split()[-1] for line in lines if line.startswith("embedding ")] == ["level", "level"]
    assert any(
        line.startswith("sp does not hold over width: ") and "ffn up (update +" in line for line in lines
    )
    assert any(line.startswith("change of logits grows with updates to the power ") for line in lines)
    assert (
        lines[-1].startswith("wrote ")
        and (tmp_path / "made/here/coord-check.png").read_bytes()[:4] == b"\x89PNG"
    )
    kept = json.loads((tmp_path / "made/here/coord-check.json").read_text())
    assert {each["size"] for each in kept["readings"] if each["scale"] == "width"} == {16, 64}

    told = lehr(*arguments, "--json").json
    assert {key: value for key, value in kept.items() if key != "readings"} == told
    assert (told["holds"], told["lr"], told["steps"], told["seeds"]) == (False, 1e-3, 3, 1)
    assert [each["scale"] for each in told["scales"]] == ["width", "depth"]
    assert told["scales"][0]["growth_with_steps"]["residual stream"]["64"] > 0
    assert {each["part"] for each in told["scales"][0]["begins_with"]} >= {"query", "ffn down", "logits"}


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (("--rule", "mup"), "there is nothing to vary: give --widths, --depths or --experts."),
        (
            ("--rule", "mup", "--widths", "16;32"),
            "--widths must be whole numbers between commas, got '16;32'",
        ),
        (("--rule", "mup", "--experts", "a"), "--experts must be whole numbers between commas, got 'a'"),
        (
            ("--rule", "mup", "--widths", "64"),
            "sizes of width must be two or more, to tell a slope, got [64]",
        ),
        (
            ("--rule", "mup", "--widths", "16,30"),
            "width must be a multiple of the base's head width, 8, got 30",
        ),
        (("--rule", "mup", "--depths", "2,5"), "sizes of depth must be even"),
        (("--rule", "mup", "--experts", "2,4"), "the base is dense, so that it has no experts to vary"),
        (("--rule", "mop", "--widths", "16,32"), "unknown rule of transfer 'mop': did you mean 'mup'"),
        (("--rule", "mup", "--widths", "16,32", "--steps", "1"), "steps must be at least 2, got 1"),
    ],
)
def test_wrong_input_is_refused(lehr, base, arguments, text):
    needs_torch()
    assert text in lehr("coord-check", base, *arguments).refused()


def test_files_in_the_way_are_refused(lehr, base, tmp_path):
    arguments = ("--rule", "mup", "--widths", "16,32")
    text = f"{base} is a file: name a folder."
    assert text in lehr("coord-check", base, *arguments, "--out", base).refused()
    assert "none.toml: No such file" in lehr("coord-check", tmp_path / "none.toml", *arguments).refused()


def test_a_folder_without_a_run_is_refused(lehr, tmp_path):
    needs_torch()
    assert "holds no run" in lehr("diagnose", tmp_path).refused()


@pytest.mark.parametrize(
    ("verb", "text"),
    [
        (
            ("coord-check", "--rule", "mup", "--widths", "16,32"),
            "the check trains, which needs torch: `pip install 'lehr[train]'`.",
        ),
        (("diagnose",), "opening checkpoints needs torch: `pip install 'lehr[train]'`."),
    ],
)  # fmt: skip
def test_what_must_be_installed_is_named(lehr, base, verb, text, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("lehr.proxy.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "torch", None)
    assert text in lehr(verb[0], base, *verb[1:]).refused()


def test_a_run_is_diagnosed(lehr, base, tmp_path):
    needs_torch()
    assert lehr("train", base, "--out", tmp_path / "run").code == 0
    outcome = lehr("diagnose", tmp_path / "run")
    assert outcome.code == 0, outcome.err
    lines = outcome.out.splitlines()
    assert lines[0] == "small" and lines[1].split() == ["step", "0", "step", "12"]
    assert [line.split(",")[0] for line in lines[2:4]] == ["stream", "logits"]
    assert lines[3].split()[2] == "0" and float(lines[3].split()[3]) > 0
    told = lehr("diagnose", tmp_path / "run", "--json").json
    assert [state["step"] for state in told["states"]] == [0, 12] and told["spikes"] == []
    assert len(told["states"][1]["attention"]) == 2 and told["states"][1]["updates"]["head"] > 0
