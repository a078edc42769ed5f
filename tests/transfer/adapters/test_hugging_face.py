"""The adapters held against transformers' own models; skipped where those are not installed."""

import copy
import json
import re
from pathlib import Path

import pytest
from tests.export_cases import load, require

require("torch", "transformers")
pytestmark = pytest.mark.filterwarnings("ignore")
torch = load("torch")
load("transformers")

from lehr.errors import InputError  # noqa: E402
from lehr.transfer.adapters.hugging_face import (  # noqa: E402
    apply_multipliers,
    architecture,
    restore_multipliers,
    roles,
)
from lehr.transfer.apply import initialise, parameter_groups  # noqa: E402
from lehr.transfer.plan import Settings, transfer  # noqa: E402
from lehr.transfer.roles import NORMS, Multipliers, Role, group_of  # noqa: E402
from lehr.transfer.sizes import Architecture, Scale  # noqa: E402

VOCABULARY = 60
FAMILIES = {
    "Llama": {},
    "Qwen3": {"head_dim": 16},
    "Mixtral": {"num_local_experts": 4, "num_experts_per_tok": 2},
    "Qwen3Moe": {
        "head_dim": 8, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 24,
        "mlp_only_layers": [0], "norm_topk_prob": True,
    },
}  # fmt: skip
RULES = {"Llama": "completep", "Qwen3": "completed-p", "Mixtral": "mup-moe", "Qwen3Moe": "completep-moe"}
TOKENS = torch.arange(24).reshape(2, 12) % VOCABULARY
each_family = pytest.mark.parametrize("family", FAMILIES)


def config(family, scale=1, depth=2, **more):
    import transformers

    own = dict(FAMILIES[family])
    if "moe_intermediate_size" in own:
        own["moe_intermediate_size"] *= scale
    return getattr(transformers, f"{family}Config")(
        **{
            "hidden_size": 32 * scale, "num_hidden_layers": depth, "num_attention_heads": 4 * scale,
            "num_key_value_heads": 2, "intermediate_size": 64 * scale, "vocab_size": VOCABULARY,
            "max_position_embeddings": 32, "tie_word_embeddings": False, **own, **more,
        }
    )  # fmt: skip


def build(made):
    import transformers

    names = {"llama": "Llama", "qwen3": "Qwen3", "mixtral": "Mixtral", "qwen3_moe": "Qwen3Moe"}
    return getattr(transformers, f"{names[made.model_type]}ForCausalLM")(made).eval()


def plan(family, rule=None, **more):
    """To four times the width and twice the depth."""
    base, target = (
        Scale(architecture(made), 1e3, 1e6) for made in (config(family), config(family, 4, 4, **more))
    )
    return transfer(base, target, rule or RULES[family], Settings(lr=0.004))


def ready(family, **more):
    made = plan(family, **more)
    model = build(config(family, 4, 4, **more))
    known = roles(model)
    initialise(model, known, made, seed=0)
    apply_multipliers(model, made.multipliers)
    return model, known, made


def logits(model):
    with torch.no_grad():
        return model(TOKENS).logits


def test_sizes():
    assert architecture(config("Llama")) == Architecture(32, 2, 4, 8, hidden=64)
    assert architecture(config("Qwen3", tie_word_embeddings=True)) == Architecture(
        32, 2, 4, 16, hidden=64, qk_norm=True, tied=True
    )
    sizes = Architecture(32, 2, 4, 8, 0, 4, 2, expert_hidden=64, router="softmax, renormalised")
    assert architecture(config("Mixtral")) == sizes
    found = architecture(config("Qwen3Moe"))
    assert (found.hidden, found.expert_hidden, found.router) == (64, 24, "softmax, renormalised")
    plain = architecture(config("Qwen3Moe", mlp_only_layers=[], norm_topk_prob=False))
    assert (plain.hidden, plain.router) == (0, "softmax")


@each_family
def test_every_parameter_has_the_role_and_the_fan_in_of_the_sizes(family):
    model = build(config(family))
    sizes, known = architecture(model.config), roles(model)
    assert {group_of(role.kind) for role in known.values()} == set(sizes.groups)
    for name, p in model.named_parameters():
        role = known[name]
        assert role.shape == tuple(p.shape), name
        assert role.fan_in == sizes.fan_in(group_of(role.kind)), name
        inside = name.startswith("model.layers.")
        assert role.layer == (int(name.split(".")[2]) if inside else None)


@each_family
def test_a_large_model_starts_and_steps_as_planned(family):
    model, known, made = ready(family)
    for name, p in model.named_parameters():
        role = known[name]
        if role.kind in NORMS:
            assert (p == 1).all(), name
        else:
            expected = made.of(role.kind).init_std.value
            assert p.std().item() == pytest.approx(expected, rel=0.15), name
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.AdamW(parameter_groups(model, known, made))
    for p in model.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    for name, p in model.named_parameters():
        own = made.of(known[name].kind)
        kept = before[name] * (1 - own.lr.value * own.weight_decay.value)
        assert (kept - p).mean().item() == pytest.approx(own.lr.value, rel=1e-3), name


@each_family
def test_multipliers_are_as_weights_multiplied_by_them(family):
    """Residual: what writes to the stream; attention: queries, or the gain of their norm; output: the head."""
    factors = Multipliers(residual=0.3, attention=0.05, output=0.5)
    model = build(config(family))
    initialise(model, roles(model), transfer(*[Scale(architecture(model.config), 1, 1)] * 2, RULES[family], Settings(
        0.1, init_std=0.2)), seed=1)  # fmt: skip
    folded, plain = copy.deepcopy(model), logits(model)
    attention = factors.attention * architecture(model.config).head_width ** 0.5
    with torch.no_grad():
        for name, p in folded.named_parameters():
            kind = roles(folded)[name].kind
            if kind in ("attention_output", "ffn_down", "expert_down"):
                p *= factors.residual
            if kind == "head":
                p *= factors.output
            if "q_norm" in name or (kind == "attention_query" and "Qwen" not in family):
                p *= attention
    apply_multipliers(model, factors)
    torch.testing.assert_close(logits(model), logits(folded), rtol=1e-4, atol=1e-5)
    assert not torch.allclose(logits(model), plain, atol=1e-3)


@each_family
def test_applied_anew_they_replace_what_was_there(family):
    model = build(config(family))
    plain = logits(model)
    for _ in range(2):
        apply_multipliers(model, Multipliers(0.3, 0.05, 0.5))
        scaled = logits(model)
    apply_multipliers(model, Multipliers())
    torch.testing.assert_close(logits(model), plain)
    apply_multipliers(model, Multipliers(0.3, 0.05, 0.5))
    torch.testing.assert_close(logits(model), scaled)


@each_family
def test_a_model_that_was_saved_and_loaded_is_the_same(family, tmp_path):
    model, _, made = ready(family)
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())["lehr_multipliers"]
    assert saved == {
        "residual": made.residual.value, "attention": made.attention.value, "output": made.output.value,
    }  # fmt: skip
    loaded = type(model).from_pretrained(tmp_path).eval()
    restore_multipliers(loaded)
    torch.testing.assert_close(logits(loaded), logits(model))
    restore_multipliers(loaded)
    torch.testing.assert_close(logits(loaded), logits(model))


def test_the_example_of_the_docs_runs(tmp_path, monkeypatch):
    page = Path(__file__).parents[3] / "docs" / "transfer.md"
    (block,) = re.findall(r"^```py\n(.*?)^```", page.read_text(), flags=re.S | re.M)
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "page"}
    exec(compile(block, page.name, "exec", dont_inherit=True), names)
    tokens = TOKENS[:, :4]
    with torch.no_grad():
        again, model = names["again"].eval()(tokens), names["model"].eval()(tokens)
    torch.testing.assert_close(again.logits, model.logits)


def test_without_restoring_a_loaded_model_is_another(tmp_path):
    model = ready("Llama")[0]
    model.save_pretrained(tmp_path)
    loaded = type(model).from_pretrained(tmp_path).eval()
    assert not torch.allclose(logits(loaded), logits(model), atol=1e-4)
    with pytest.raises(
        InputError, match=r"config.lehr_multipliers must hold residual, attention, output, got None: ap"
    ):
        restore_multipliers(build(config("Llama")))


def test_a_tied_head_is_scaled_too():
    tied = build(config("Llama", tie_word_embeddings=True))
    plain = logits(tied)
    apply_multipliers(tied, Multipliers(output=0.25))
    torch.testing.assert_close(logits(tied), plain / 4)
    assert "lm_head.weight" not in roles(tied)


def test_gradients_pass_the_multipliers():
    model = ready("Mixtral")[0].train()
    model(TOKENS, labels=TOKENS).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_a_parameter_that_is_not_known_is_named_unless_told():
    model = build(config("Llama", attention_bias=True))
    name = "model.layers.0.self_attn.q_proj.bias"
    with pytest.raises(
        InputError, match=rf"parameter '{name}' of shape \(32,\) is none that this adapter knows: say"
    ):
        roles(model)
    told = {n: Role("bias", tuple(p.shape), 1) for n, p in model.named_parameters() if n.endswith("bias")}
    known = roles(model, told)
    assert known[name] is told[name]
    made = transfer(*[Scale(architecture(model.config), 1, 1)] * 2, "completep", Settings(0.1))
    assert sum(len(group["params"]) for group in parameter_groups(model, known, made)) == len(known)


def test_other_models_are_refused():
    import transformers

    with pytest.raises(
        InputError, match="unknown Hugging Face model_type 'gpt2': .*Known: llama, mixtral, qwen3, qwen3"
    ):
        architecture(transformers.GPT2Config())
    bare = transformers.LlamaModel(config("Llama"))
    with pytest.raises(InputError, match="must have a head, as a ...ForCausalLM, got 'LlamaModel'"):
        apply_multipliers(bare, Multipliers())
    model = build(config("Llama"))
    del model.model.layers[0].self_attn.scaling
    with pytest.raises(InputError, match="must have an attribute `scaling`, got 'LlamaAttention'"):
        apply_multipliers(model, Multipliers())


def test_a_plan_of_other_sizes_is_refused():
    model = build(config("Llama"))
    with pytest.raises(
        InputError, match="fan-in of 'model.layers.0.self_attn.q_proj.weight' must be .* 128, got 32"
    ):
        initialise(model, roles(model), plan("Llama"), seed=0)


def test_families_are_not_mixed():
    with pytest.raises(
        InputError, match="one architecture: the target is a mixture of experts, the base is not"
    ):
        transfer(
            *(Scale(architecture(config(family)), 1, 1) for family in ("Llama", "Mixtral")),
            "sp",
            Settings(0.1),
        )
