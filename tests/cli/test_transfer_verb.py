"""`lehr transfer`: the plan between two files, or of a file's own table, as text and as JSON. No torch."""

import re

import pytest

TOML = """
name = "{name}"
[model]
depth = {depth}
width = {width}
heads = {heads}
context = 32
ffn_width = {ffn_width}
{experts}
[optimizer]
weight_decay = {decay}
[training]
schedule = "wsd(steps={steps}, peak={peak}, warmup=100, decay=200)"
batch = 8
"""
BASE = {"name": "base", "depth": 2, "width": 64, "heads": 4, "ffn_width": 176, "experts": "", "steps": 1000,
        "decay": 0.1, "peak": 3e-3}  # fmt: skip
WIDE = {
    **BASE,
    "name": "wide",
    "depth": 6,
    "width": 256,
    "heads": 8,
    "ffn_width": 704,
    "decay": 0.7,
    "peak": 9.0,
}
EXPERTS = "experts = { count = 4 }"
TABLE = """
[transfer]
rule = "mup"
[transfer.base.model]
depth = 2
width = 64
heads = 4
context = 32
ffn_width = 176
"""


def write(folder, more="", **values):
    path = folder / f"{values['name']}.toml"
    path.write_text(TOML.format(**values) + more)
    return path


@pytest.fixture
def files(tmp_path):
    return write(tmp_path, **BASE), write(tmp_path, **WIDE)


def test_text(lehr, files):
    outcome = lehr("transfer", "--from", files[0], "--to", files[1])
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith(
        "completep: muP with residual branches by depth^-1, over width and depth (Dey et al."
    )
    assert "\ntarget over base: width x 4, depth x 3, head_width x 2\n" in outcome.out
    for row in (
        r"parameters +initial std +peak LR +weight decay +epsilon",
        r"embedding +0.02 +0.003 +0.1 +1e-08",
        r"attention_out +0.005 +0.00075 +0.4 +8.333e-10",
        r"block_norm +- +0.003 +0 +8.333e-10",
        r"residual branches x 0.333333 = 1 x depth 3 \^ -1",
        r"queries times keys x 0.125 = 0.25 x head_width 2 \^ -1",
        r"logits x 0.25 = 1 x width 4 \^ -1",
        r"beta1 0.9, beta2 0.95",
        r"ffn_in: blocks\.\*\.ffn\.gate\.weight, blocks\.\*\.ffn\.up\.weight\n    initial std 0.02 x fan_in 4 ",
        r"embedding: embedding.weight\n    as in the base",
    ):
        assert re.search(rf"^{row}", outcome.out, re.M), row
    assert outcome.out.count("blocks.*.attention.query.weight") == 1  # six layers are one row
    assert outcome.err == ""


def test_json(lehr, files):
    found = lehr(
        "transfer", "--from", files[0], "--to", files[1], "--rule", "mup", "--horizon", "sde", "--weight-decay",
        "independent", "--json",
    ).json  # fmt: skip
    assert (found["rule"], found["horizon"], found["weight_decay"]) == ("mup", "sde", "independent")
    assert found["source"] and found["certainty"]
    assert found["ratios"]["depth"] == 3 and found["ratios"]["tokens"] == 1
    assert found["groups"]["attention_in"]["lr"] == {
        "value": 0.00075, "base": 0.003, "factor": 0.25, "why": "fan_in 4 ^ -1, batch 1 ^ 0.5, tokens 1 ^ -0.5",
    }  # fmt: skip
    assert found["groups"]["attention_in"]["parameters"] == [
        f"blocks.*.attention.{name}.weight" for name in ("query", "key", "value")
    ]
    assert found["groups"]["final_norm"]["init_std"] is None
    assert found["groups"]["head"]["beta1"] == 0.9
    assert found["multipliers"]["output"]["value"] == 0.25
    assert found["warnings"] == ["depth changes by a factor 3: the rule says nothing of depth: residual branches and "
                                 "LRs are left as in the base"]  # fmt: skip


def test_warnings_are_on_stderr(lehr, files, tmp_path):
    longer = write(tmp_path, **{**WIDE, "name": "longer", "steps": 4000})
    outcome = lehr("transfer", "--from", files[0], "--to", longer)
    assert "warning: training tokens change by a factor 4, of which completep says nothing" in outcome.err
    assert "warning" not in outcome.out


def test_the_table_of_a_file_is_shown_as_it_will_be_trained(lehr, tmp_path):
    """Then the peak and the decay are the file's own."""
    own = write(tmp_path, TABLE, **{**WIDE, "decay": 0.2, "peak": 4e-3})
    found = lehr("transfer", "--to", own, "--json").json
    assert found["rule"] == "mup"
    assert found["groups"]["ffn_in"]["lr"]["value"] == pytest.approx(1e-3)
    assert found["groups"]["ffn_in"]["weight_decay"]["value"] == pytest.approx(0.8)


def test_experts_under_a_rule_for_them_and_under_one_that_must_be_told(lehr, tmp_path):
    base = write(tmp_path, **{**BASE, "experts": EXPERTS})
    wide = write(tmp_path, **{**WIDE, "experts": EXPERTS})
    message = lehr("transfer", "--from", base, "--to", wide).refused()
    assert (
        "rule 'completep' has no row for router: choose one that has (sp, mup-moe, completep-moe)" in message
    )
    found = lehr("transfer", "--from", base, "--to", wide, "--rule", "completep-moe", "--json").json
    assert found["groups"]["router"]["parameters"] == ["blocks.*.ffn.router.weight"]
    told = [f"--treat={pair}" for pair in ("router=ffn_in", "expert_in=ffn_in", "expert_down=ffn_down")]
    found = lehr("transfer", "--from", base, "--to", wide, *told, "--json").json
    assert found["groups"]["router"]["lr"]["factor"] == 0.25


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--rule", "completeq"], "unknown rule of transfer 'completeq': did you mean 'completep'?"),
        (["--horizon", "bjork"], "unknown rule for tokens and batch 'bjork': did you mean 'bjorck'?"),
        (["--weight-decay", "rules"], "unknown way to carry weight decay over 'rules': did you mean 'rule'?"),
        (["--treat", "router"], "--treat must be GROUP=GROUP, got 'router': such as --treat router=head."),
        (["--treat", "ruter=head"], "unknown group of parameters 'ruter': did you mean 'router'?"),
    ],
)
def test_wrong_options_are_named(lehr, files, arguments, text):
    assert text in lehr("transfer", "--from", files[0], "--to", files[1], *arguments).refused()


def test_options_without_a_base(lehr, files, tmp_path):
    message = lehr("transfer", "--to", files[1]).refused()
    assert "wide.toml has no [transfer] table: give the tuned training by --from." in message
    path = tmp_path / "wide.toml"
    path.write_text(path.read_text().replace("[optimizer]", "[optimizer]\nlr_factors = { head = 2 }"))
    assert lehr("transfer", "--to", path).refused() == message
    assert (
        "--rule needs --from: the [transfer] table of "
        in lehr("transfer", "--to", files[1], "--rule", "mup").refused()
    )
    assert (
        "cannot read nowhere.toml" in lehr("transfer", "--from", "nowhere.toml", "--to", files[1]).refused()
    )
