"""Hugging Face Llama, Qwen3, Mixtral and Qwen3-MoE: sizes, roles of the parameters, and factors of the forward pass.

Held against transformers 4.57 (one module an expert) and 5.24 (all experts in one tensor). The model's code is not
touched: factors of residual branches and logits are forward hooks, that of the attention is its `scaling`. They are
written into `model.config`, so that `save_pretrained` keeps them; `from_pretrained` knows nothing of them, so
`restore_multipliers` must follow it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

from torch import nn

from lehr.errors import InputError, bad, unknown
from lehr.transfer.roles import NORMS, Kind, Multipliers, Role
from lehr.transfer.sizes import Architecture

IN_CONFIG = "lehr_multipliers"
_HOOKS = "_lehr_multiplier_hooks"
_EXPERT = r"(?:mlp|block_sparse_moe)\.experts\."
# name within a block, or of the whole model, and what it is
BLOCK: Mapping[str, Kind] = {
    r"self_attn\.q_proj\.weight": "attention_query",
    r"self_attn\.k_proj\.weight": "attention_key",
    r"self_attn\.v_proj\.weight": "attention_value",
    r"self_attn\.o_proj\.weight": "attention_output",
    r"self_attn\.[qk]_norm\.weight": "qk_norm",
    r"(?:input|post_attention)_layernorm\.weight": "block_norm",
    r"mlp\.gate_proj\.weight": "ffn_gate",
    r"mlp\.up_proj\.weight": "ffn_up",
    r"mlp\.down_proj\.weight": "ffn_down",
    r"(?:mlp|block_sparse_moe)\.gate\.weight": "router",
    _EXPERT + r"\d+\.(?:gate_proj|w1)\.weight": "expert_gate",
    _EXPERT + r"\d+\.(?:up_proj|w3)\.weight": "expert_up",
    _EXPERT + r"\d+\.(?:down_proj|w2)\.weight": "expert_down",
    _EXPERT + r"gate_up_proj": "expert_up",
    _EXPERT + r"down_proj": "expert_down",
}
WHOLE: Mapping[str, Kind] = {
    "model.embed_tokens.weight": "embedding",
    "model.norm.weight": "final_norm",
    "lm_head.weight": "head",
}


def architecture(config: Any) -> Architecture:
    """Sizes of the model that a Hugging Face configuration describes.

    Raises
    ------
    InputError
        If its `model_type` is none of those known.
    """
    if config.model_type not in _READERS:
        raise unknown("Hugging Face model_type", str(config.model_type), _READERS)
    heads, width = config.num_attention_heads, config.hidden_size
    return Architecture(
        width=width, depth=config.num_hidden_layers, heads=heads,
        head_width=getattr(config, "head_dim", None) or width // heads, tied=bool(config.tie_word_embeddings),
        **_READERS[config.model_type](config),
    )  # fmt: skip


def roles(model: nn.Module, told: Mapping[str, Role] = {}) -> dict[str, Role]:  # noqa: B006  # never changed
    """Name and role of every parameter.

    Parameters
    ----------
    model : a `...ForCausalLM`, not wrapped; sharded by FSDP2 or not.
    told : roles of parameters that are not the family's own, by name.

    Raises
    ------
    InputError
        Naming a parameter that is neither known nor told.
    """
    found = {}
    for name, weight in model.named_parameters():
        if name in told:
            found[name] = told[name]
            continue
        layer, kind = _known(name)
        if kind is None:
            raise InputError(
                f"parameter {name!r} of shape {tuple(weight.shape)} is none that this adapter knows: say what it is, "
                f"such as roles(model, {{{name!r}: Role('ffn_up', shape, fan_in)}})."
            )
        shape = tuple(weight.shape)
        fan_in = 1 if kind in (*NORMS, "embedding") else shape[-1]
        found[name] = Role(kind, shape, fan_in, layer)
    return found


def apply_multipliers(model: Any, multipliers: Multipliers) -> None:
    """Let the model's forward pass use these factors, in place of any that were applied before.

    Parameters
    ----------
    model : a `...ForCausalLM`, not wrapped; sharded by FSDP2 or not.
    multipliers : such as those of a plan; an `attention` of None is 1 / sqrt(head width).

    Raises
    ------
    InputError
        If the model has no head, its attention no `scaling`, or its `model_type` is not known.
    """
    head_width = architecture(model.config).head_width
    if not (hasattr(model, "lm_head") and hasattr(model, "model")):
        raise bad(
            "the model", "must have a head, as a ...ForCausalLM", type(model).__name__, "give the whole model"
        )
    attention = head_width**-0.5 if multipliers.attention is None else multipliers.attention
    for handle in getattr(model, _HOOKS, ()):
        handle.remove()
    scaled = [(model.lm_head, multipliers.output)]
    for block in model.model.layers:
        if not hasattr(block.self_attn, "scaling"):
            raise bad(
                "the model's attention", "must have an attribute `scaling`", type(block.self_attn).__name__,
                "use transformers 4.48 or newer",
            )  # fmt: skip
        block.self_attn.scaling = attention
        feed_forward = block.mlp if hasattr(block, "mlp") else block.block_sparse_moe
        scaled += [(part, multipliers.residual) for part in (block.self_attn, feed_forward)]
    hooks = [part.register_forward_hook(_Times(factor)) for part, factor in scaled if factor != 1]
    setattr(model, _HOOKS, tuple(hooks))
    setattr(model.config, IN_CONFIG, asdict(multipliers))


def restore_multipliers(model: Any) -> None:
    """Apply the factors that the model's configuration was saved with, after `from_pretrained`.

    Raises
    ------
    InputError
        If it was saved with none.
    """
    saved = getattr(model.config, IN_CONFIG, None)
    if not isinstance(saved, dict) or saved.keys() != asdict(Multipliers()).keys():
        raise bad(
            f"config.{IN_CONFIG}", f"must hold {', '.join(asdict(Multipliers()))}", saved,
            "apply the multipliers of a plan, then save",
        )  # fmt: skip
    apply_multipliers(model, Multipliers(**saved))


def _known(name: str) -> tuple[int | None, Kind | None]:
    """Block and kind of a parameter; no kind if it is not known."""
    if name in WHOLE:
        return None, WHOLE[name]
    inside = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", name)
    if inside:
        for pattern, kind in BLOCK.items():
            if re.fullmatch(pattern, inside[2]):
                return int(inside[1]), kind
    return None, None


class _Times:
    """A forward hook that multiplies what a module returns, or the first of it; can be pickled."""

    def __init__(self, factor: float):
        self.factor = factor

    def __call__(self, module: nn.Module, inputs: Any, output: Any) -> Any:
        if isinstance(output, tuple):
            return (output[0] * self.factor, *output[1:])
        return output * self.factor


def _dense(config: Any) -> dict[str, Any]:
    return {"hidden": config.intermediate_size}


def _qwen3(config: Any) -> dict[str, Any]:
    return {"hidden": config.intermediate_size, "qk_norm": True}


def _mixtral(config: Any) -> dict[str, Any]:
    return {
        "experts": config.num_local_experts, "top_k": config.num_experts_per_tok,
        "expert_hidden": config.intermediate_size, "router": "softmax, renormalised",
    }  # fmt: skip


def _qwen3_moe(config: Any) -> dict[str, Any]:
    some_dense = bool(config.mlp_only_layers) or config.decoder_sparse_step > 1
    return {
        "hidden": config.intermediate_size if some_dense else 0, "qk_norm": True,
        "experts": config.num_experts, "top_k": config.num_experts_per_tok,
        "expert_hidden": config.moe_intermediate_size,
        "router": "softmax, renormalised" if config.norm_topk_prob else "softmax",
    }  # fmt: skip


_READERS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "llama": _dense, "qwen3": _qwen3, "mixtral": _mixtral, "qwen3_moe": _qwen3_moe,
}  # fmt: skip
