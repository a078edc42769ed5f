"""Trainings under a rule of transfer: what they start from, what each update does, and what the log keeps."""

import json

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from tests.proxy.tiny import BASE, PLAN, lines, stop_at, tiny  # noqa: E402

from lehr.errors import InputError  # noqa: E402
from lehr.proxy.config import make_config  # noqa: E402
from lehr.proxy.data import open_data  # noqa: E402
from lehr.proxy.distributed import Ranks  # noqa: E402
from lehr.proxy.model import Transformer, initialise  # noqa: E402
from lehr.proxy.optimizer import make_optimizer, set_lr  # noqa: E402
from lehr.proxy.parameters import describe  # noqa: E402
from lehr.proxy.runlog import make_header, read_log  # noqa: E402
from lehr.proxy.session import open_session  # noqa: E402
from lehr.proxy.train import train  # noqa: E402
from lehr.proxy.transferring import plan_of  # noqa: E402
from lehr.transfer.roles import Multipliers, group_of  # noqa: E402

WIDE = {"depth": 3, "width": 64, "heads": 4, "ffn_width": 192}
NARROW = {**BASE, "ffn_width": 48}
EXPERTS = {"experts": {"count": 4, "width": 24}}


def wide(name="wide", rule="completep", optimizer=None, model=None, base=None, transfer=None, **training):
    """Four times as wide and three times as deep as its base, heads twice as wide."""
    table = {"rule": rule, "base": {"model": {**NARROW, **(base or {})}}, **(transfer or {})}
    return tiny(name, model={**WIDE, **(model or {})}, optimizer=optimizer, transfer=table, **training)


def opened(config):
    return open_session(
        config, open_data(config.data, config.model.context), Ranks(0, 1, torch.device("cpu"))
    )


def by_group(session, values):
    """One value a group of parameters, which all its parameters share."""
    found = {}
    for name, role in describe(session.model).items():
        assert found.setdefault(group_of(role.kind), values[name]) == pytest.approx(values[name]), name
    return found


@pytest.mark.parametrize(
    ("rule", "model"),
    [
        ("completep", {}),
        ("completed-p", {}),
        ("sp", EXPERTS),
        ("completep-moe", {"experts": {"count": 4, "shared": 1}}),
    ],
)
def test_with_itself_as_base_a_training_is_the_plain_one_to_the_last_bit(rule, model, tmp_path):
    train(tiny("plain", model=model), tmp_path / "plain")
    table = {"rule": rule, "base": {"model": {**BASE, **model}}}
    train(tiny("same", model=model, transfer=table), tmp_path / "same")
    assert lines(tmp_path / "plain") == lines(tmp_path / "same")


def test_initial_weights_and_multipliers_are_the_planned_ones():
    session = opened(wide(model={"width": 256, "heads": 16, "ffn_width": 768}))
    roles = describe(session.model)
    for name, p in session.model.named_parameters():
        kind = roles[name].kind
        if "norm" in kind:
            assert (p == 1).all()
            continue
        expected = 0.02 if kind in ("embedding", "head") else 0.02 / 4
        if kind in ("attention_output", "ffn_down"):
            expected /= 2**0.5  # the base's single block: sqrt(2 depth)
        assert p.std().item() == pytest.approx(expected, rel=0.05), name
    attention = session.model.blocks[2].attention.scale
    assert attention == pytest.approx(8**-0.5 / 2)  # heads of the base are 8 wide
    assert session.model.multipliers == Multipliers(1 / 3, attention, 1 / 16)


def test_an_update_moves_each_weight_by_its_own_lr():
    """A first update of Adam is LR times the sign of the gradient."""
    session = opened(wide(optimizer={"weight_decay": 0.0}))
    before = {name: p.detach().clone() for name, p in session.model.named_parameters()}
    for p in session.model.parameters():
        p.grad = torch.ones_like(p)
    set_lr(session.optimizer, 0.004)
    session.optimizer.step()
    moved = {name: (before[name] - p.detach()).mean().item() for name, p in session.model.named_parameters()}
    shares = {group: value / 0.004 for group, value in by_group(session, moved).items()}
    matrices = dict.fromkeys(("attention_in", "attention_out", "ffn_in", "ffn_down"), 1 / 4)
    ends = dict.fromkeys(("embedding", "head", "block_norm", "qk_norm", "final_norm"), 1.0)
    assert shares == pytest.approx({**matrices, **ends}, rel=1e-3)


@pytest.mark.parametrize("independent", [False, True])
@pytest.mark.parametrize(
    ("mode", "steps", "matrix"),
    [(None, None, 1.0), ("rule", None, 1.0), ("independent", None, 1.0), ("timescale", 12, 1 / 2)],
)
def test_what_an_update_takes_of_a_weight(independent, mode, steps, matrix):
    """At half the peak: half of peak LR times coefficient, or of the independent coefficient; less in a longer run."""
    coefficient, peak = (0.003, 1e-2) if independent else (0.3, 1e-2)
    table = {"weight_decay": mode, "base": {"model": NARROW, "steps": steps}}
    config = wide(optimizer={"weight_decay": coefficient, "independent": independent}, transfer=table)
    session = opened(config)
    before = {name: p.detach().clone() for name, p in session.model.named_parameters()}
    for p in session.model.parameters():
        p.grad = torch.zeros_like(p)
    set_lr(session.optimizer, peak / 2)
    session.optimizer.step()
    left = {name: (p.detach() / before[name]).mean().item() for name, p in session.model.named_parameters()}
    for group, share in by_group(session, left).items():
        gone = 0 if "norm" in group else 0.003 / 2 * matrix
        assert share == pytest.approx(1 - gone, abs=1e-6), group


def test_epsilon_and_betas_reach_the_optimizer():
    table = {"horizon": "sde", "base": {"model": NARROW, "batch": 2, "steps": 48}}
    session = opened(wide(transfer=table))  # twice the batch, as many tokens
    of = {id(p): group for group in session.optimizer.param_groups for p in group["params"]}
    head, query = (
        of[id(session.model.get_parameter(name))]
        for name in ("head.weight", "blocks.0.attention.query.weight")
    )
    assert head["betas"] == pytest.approx((0.8, 0.9)) == query["betas"]
    assert head["eps"] == pytest.approx(1e-8 / 2**0.5)
    assert query["eps"] == pytest.approx(1e-8 / 2**0.5 / 12)
    assert query["lr_factor"] == pytest.approx(2**0.5 / 4)
    assert query["lr"] == pytest.approx(1e-2 * 2**0.5 / 4)


def test_a_sweep_changes_the_peak_and_nothing_else():
    """What an update does at a peak three times as high: three times the steps, and the planned rest."""
    plans = [plan_of(wide(plan=f"constant(steps=24, peak={peak})")) for peak in (1e-2, 3e-2)]
    for group, own in plans[0].groups.items():
        other = plans[1].groups[group]
        assert (own.lr.factor, own.init_std, own.epsilon) == (other.lr.factor, other.init_std, other.epsilon)
        assert own.weight_decay == other.weight_decay


def test_the_log_has_the_lr_of_the_schedule_and_the_plan(tmp_path):
    done = train(wide(batch=8, transfer={"horizon": "bjorck"}), tmp_path)
    log = read_log(tmp_path)
    lrs = log.header["config"]["training"]["schedule"], [row.lr for row in log.rows]
    assert lrs[0] == PLAN and max(lrs[1]) == 1e-2
    written = json.loads(json.dumps(log.header["transfer"]))
    assert (written["rule"], written["horizon"], written["weight_decay"]) == ("completep", "bjorck", "rule")
    assert written["residual"] == pytest.approx(1 / 3) and written["output"] == 1 / 4
    assert written["groups"]["ffn_in"]["lr_factor"] == 1 / 4
    assert written["groups"]["final_norm"]["init_std"] is None
    assert log.header["config"]["transfer"]["base"]["model"]["width"] == 16
    assert log.header["meta"]["transfer"] == "completep"
    assert make_config(log.header["config"]) == wide(batch=8, transfer={"horizon": "bjorck"})
    assert done.remarks == ()


@pytest.mark.parametrize(("mode", "share"), [("rule", 1.0), ("independent", 1.0), ("timescale", 0.5)])
def test_laws_are_told_the_decay_that_goes_with_the_lr_of_the_log(mode, share):
    config = wide(optimizer={"weight_decay": 0.3}, transfer={
        "weight_decay": mode, "base": {"model": NARROW, "steps": 12}})  # fmt: skip
    header = make_header(
        config, vocab_size=32, fingerprint="f", entropy=None, parent=None, torch="2", ranks=1
    )
    assert header["meta"]["weight_decay"] == pytest.approx(0.3 * share)


def test_warnings_are_remarks_and_stay_in_the_log(tmp_path):
    done = train(wide(rule="mup"), tmp_path)
    assert [text for text in done.remarks if text.startswith("depth changes by a factor 3")]
    assert read_log(tmp_path).header["transfer"]["warnings"] == list(done.remarks)


def test_a_transferred_training_resumes_to_the_last_bit(tmp_path):
    for name in ("whole", "cut"):
        config = wide(name, rule="completep-moe", model=EXPERTS, base=EXPERTS, keep=[12])
        stop = stop_at(10, tmp_path / "cut" / "log.jsonl") if name == "cut" else None
        train(config, tmp_path / name, stop=stop)
    done = train(config, tmp_path / "cut", resume=True)
    assert done.resumed_from == 10 and lines(tmp_path / "whole") == lines(tmp_path / "cut")
    branch = wide(
        "tail", rule="completep-moe", model=EXPERTS, base=EXPERTS, branch={"run": "whole", "step": 12}
    )
    train(branch, tmp_path / "tail")
    assert lines(tmp_path / "tail") == lines(tmp_path / "whole")[12:]


def test_a_branch_has_the_rule_of_its_parent(tmp_path):
    trunk = "constant(steps=24, peak=1e-2, warmup=4)"
    table = {"weight_decay": "timescale"}
    train(wide("trunk", plan=trunk, transfer=table, keep=[12]), tmp_path / "trunk")
    branch = {"run": "trunk", "step": 12}
    with pytest.raises(
        InputError, match="transfer.rule must be that of the run it branches from .*, 'completep', got"
    ):
        train(wide("other", rule="mup", plan=trunk, transfer=table, branch=branch), tmp_path / "other")
    # both horizons are as long as their runs: by default the base is trained as long as the target
    train(wide("short", plan="wsd(steps=18, peak=1e-2, warmup=4, decay=6)", transfer=table, branch=branch),
          tmp_path / "short")  # fmt: skip
    fixed = {"weight_decay": "timescale", "base": {"model": NARROW, "steps": 24}}
    train(wide("trunk2", plan=trunk, transfer=fixed, keep=[12]), tmp_path / "trunk2")
    text = "the rule for tokens gives .*trunk2 of 24 updates other LRs or decays than a run of 18: branch at the same"
    with pytest.raises(InputError, match=text):
        train(
            wide("late", plan="wsd(steps=18, peak=1e-2, warmup=4, decay=6)", transfer=fixed,
                 branch={"run": "trunk2", "step": 12}),
            tmp_path / "late",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"rule": "muq"}, r"^\[transfer\]: unknown rule of transfer 'muq': did you mean 'mup'"),
        ({"model": {"init_std": 0.03}}, r"model.init_std must be that of \[transfer.base.model\], 0.02, from"),
        ({"model": {"tied": True}}, r"^\[transfer\]: tied \(.*\) must be that of the base, False, got True"),
        ({"model": EXPERTS}, r"^\[transfer\]: base and target must be of one architecture: the target is a mixture"),
        ({"model": EXPERTS, "base": EXPERTS}, r"^\[transfer\]: rule 'completep' has no row for router"),
        ({"model": {"experts": {"count": 4, "router": "sigmoid"}}, "base": EXPERTS, "rule": "sp"},
         r"router \(how the router weighs experts\) must be that of the base, 'softmax, renormalised', got 'sigmoid, "),
    ],
)  # fmt: skip
def test_what_cannot_be_transferred_is_refused_before_it_begins(changes, text, tmp_path):
    with pytest.raises(InputError, match=text):
        train(wide(**changes), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_wrong_keys_of_the_table_are_named():
    values = wide().model_dump(mode="json")
    for place, text in (
        ({"ruel": "mup"}, r"unknown key of \[transfer\] 'ruel': did you mean 'rule'"),
        ({"base": {"modle": BASE}}, r"unknown key of \[transfer.base\] 'modle': did you mean 'model'"),
        (
            {"weight_decay": "none"},
            r"transfer.weight_decay must be 'rule', 'independent' or 'timescale', got 'none'",
        ),
    ):
        with pytest.raises(InputError, match=text):
            make_config({**values, "transfer": {**values["transfer"], **place}})


def test_a_plan_of_another_model_is_refused():
    plan = plan_of(wide())
    other = Transformer(tiny(model={**WIDE, **EXPERTS}).model, 32)
    with pytest.raises(InputError, match="must be the target that was planned for, .* got 'expert_gate'"):
        initialise(other, 0, plan)
    with pytest.raises(InputError, match="must be the target that was planned for"):
        make_optimizer(other, tiny().optimizer, 0.1, plan)


def test_without_a_table_there_is_no_plan():
    assert plan_of(tiny()) is None


def test_factors_of_its_own_change_the_lr_of_their_groups_and_no_decay():
    factors = {"embedding": 4.0, "head": 2.0, "block_norm": 0.5}
    base = opened(tiny(optimizer={"lr_factors": factors, "weight_decay": 0.2}))
    for group in base.optimizer.param_groups:
        for weight in group["params"]:
            name = next(name for name, own in base.model.named_parameters() if own is weight)
            own = factors.get(group_of(describe(base.model)[name].kind), 1.0)
            assert group["lr_factor"] == own
            assert group["lr_factor"] * group["weight_decay"] == pytest.approx(0.2 if weight.ndim > 1 else 0)
    plain = opened(tiny(optimizer={"weight_decay": 0.2}))
    for one, other in zip(base.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_the_log_of_a_training_with_factors_names_no_rule():
    config = tiny(optimizer={"lr_factors": {"head": 2.0}})
    header = make_header(config, vocab_size=32, fingerprint="f", entropy=None, parent=None, torch="", ranks=1)
    assert "transfer" not in header["meta"] and header["transfer"]["groups"]["head"]["lr_factor"] == 2.0


def test_a_rule_carries_the_factors_over():
    factors = {"embedding": 4.0, "ffn_in": 0.5}
    tuned = plan_of(wide(optimizer={"lr_factors": factors}))
    plain = plan_of(wide())
    for group, own in tuned.groups.items():
        more = factors.get(group, 1.0)
        assert own.lr.value == pytest.approx(more * plain.groups[group].lr.value)
        decay = plain.groups[group].weight_decay.value
        assert own.weight_decay.value == pytest.approx(decay / more)
    assert tuned.groups["embedding"].lr.why == "tuned" and tuned.groups["ffn_in"].lr.why.startswith(
        "tuned, fan_in"
    )


def test_runs_without_factors_are_what_they_were_and_wrong_ones_are_named():
    assert "lr_factors" not in tiny().model_dump()["optimizer"]
    assert tiny(optimizer={"lr_factors": {"head": 2}}).model_dump()["optimizer"]["lr_factors"] == {
        "head": 2.0
    }
    with pytest.raises(InputError, match=r"optimizer\.lr_factors\.heads?"):
        tiny(optimizer={"lr_factors": {"heads": 2}})
    with pytest.raises(InputError, match=r"optimizer\.lr_factors\.head must be greater than 0"):
        tiny(optimizer={"lr_factors": {"head": 0}})
    with pytest.raises(
        InputError, match=r"lr_factors must be of groups that the model has .*, got 'router': leave it out"
    ):
        plan_of(tiny(optimizer={"lr_factors": {"router": 2}}))
