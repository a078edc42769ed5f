"""How large a model is and how long it is trained, and two of them in ratio."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from lehr.errors import InputError, bad
from lehr.transfer.roles import GROUPS, Group

RatioName = Literal[
    "width", "depth", "fan_in", "head_width", "ffn", "expert_width", "experts", "top_k", "active_share",
    "parameters", "batch", "tokens",
]  # fmt: skip
# what a rule cannot carry over: base and target must agree in it
STRUCTURE = {
    "tied": "whether the head is the embedding",
    "qk_norm": "whether queries and keys are normalised",
    "router": "how the router weighs experts",
}


@dataclass(frozen=True)
class Architecture:
    """Sizes of a decoder-only transformer.

    Parameters
    ----------
    width : of the residual stream.
    depth : blocks.
    heads, head_width : of the queries.
    hidden : hidden width of the dense feed-forward, or of all shared experts together; 0 where there is neither.
    experts, top_k, expert_hidden : experts to choose from, experts a token goes to, hidden width of one; 0 if dense.
    tied : whether the head is the embedding.
    qk_norm : whether queries and keys are normalised.
    router : how the router's logits become weights, in words; empty if dense.

    Raises
    ------
    InputError
        If a size is not positive, or there are more experts chosen than there are.
    """

    width: int
    depth: int
    heads: int
    head_width: int
    hidden: int = 0
    experts: int = 0
    top_k: int = 0
    expert_hidden: int = 0
    tied: bool = False
    qk_norm: bool = False
    router: str = ""

    def __post_init__(self) -> None:
        least = {"width": 1, "depth": 1, "heads": 1, "head_width": 1, "hidden": 0, "experts": 0}
        if self.experts:
            least |= {"top_k": 1, "expert_hidden": 1}
        elif not self.hidden:
            raise bad("hidden", "must be positive in a dense model", self.hidden, "give the hidden width")
        for name, lowest in least.items():
            if getattr(self, name) < lowest:
                raise bad(name, f"must be at least {lowest}", getattr(self, name), "correct the size")
        if self.top_k > self.experts:
            raise bad("top_k", f"must be at most the {self.experts} experts", self.top_k, "correct it")

    def fan_in(self, group: Group) -> int:
        """Inputs that one output of a matrix of this group sums over; 1 for embedding, norms and biases."""
        if group in ("embedding", "block_norm", "qk_norm", "final_norm"):
            return 1
        own: dict[Group, int] = {
            "attention_out": self.heads * self.head_width,
            "ffn_down": self.hidden,
            "expert_down": self.expert_hidden,
        }
        return own.get(group, self.width)

    @property
    def groups(self) -> tuple[Group, ...]:
        """Groups of parameters that the model has."""
        absent = set()
        if not self.hidden:
            absent |= {"ffn_in", "ffn_down"}
        if not self.experts:
            absent |= {"router", "expert_in", "expert_down"}
        if not self.qk_norm:
            absent.add("qk_norm")
        if self.tied:
            absent.add("head")
        return tuple(group for group in GROUPS if group not in absent)

    @property
    def block_parameters(self) -> int:
        """Elements of all matrices of all blocks, each head having its own keys and values."""
        attention = 4 * self.heads * self.head_width
        experts = self.experts * (3 * self.expert_hidden + 1)
        return self.depth * self.width * (attention + 3 * self.hidden + experts)


@dataclass(frozen=True)
class Scale:
    """A model and how long it is trained.

    Parameters
    ----------
    architecture : its sizes.
    batch_tokens : tokens an update.
    tokens : of the whole training.

    Raises
    ------
    InputError
        If a number of tokens is not positive.
    """

    architecture: Architecture
    batch_tokens: float
    tokens: float

    def __post_init__(self) -> None:
        for name in ("batch_tokens", "tokens"):
            if not getattr(self, name) > 0:
                raise bad(name, "must be positive", getattr(self, name), "give the number of tokens")


@dataclass(frozen=True)
class Ratios:
    """Target over base, by name.

    Parameters
    ----------
    width, depth, head_width, experts, top_k : of these sizes; 1 where there is none.
    ffn : of hidden over width, of the dense feed-forward or the shared experts.
    expert_width : of expert hidden over width (alpha_ffn of arXiv 2601.20205).
    active_share : of top_k over experts (its kappa).
    parameters : of all elements of the blocks' matrices.
    batch, tokens : of tokens an update, and in all.
    fan_in : by group.
    """

    width: float
    depth: float
    head_width: float
    ffn: float
    expert_width: float
    experts: float
    top_k: float
    active_share: float
    parameters: float
    batch: float
    tokens: float
    fan_in: Mapping[Group, float]

    def of(self, name: RatioName, group: Group | None = None) -> float:
        """The ratio `name`; that of fan-in as a parameter of `group` has it."""
        return self.fan_in[group] if group and name == "fan_in" else getattr(self, name)


def ratios(base: Scale, target: Scale) -> Ratios:
    """Target over base.

    Raises
    ------
    InputError
        If they are of different architectures; the message names what differs.
    """
    a, b = base.architecture, target.architecture
    check_same_structure(a, b)

    def over(name: str) -> float:
        below, above = getattr(a, name), getattr(b, name)
        return above / below if below else 1.0

    width, experts, top_k = over("width"), over("experts"), over("top_k")
    return Ratios(
        width=width, depth=over("depth"), head_width=over("head_width"),
        ffn=over("hidden") / width if a.hidden else 1.0,
        expert_width=over("expert_hidden") / width if a.experts else 1.0,
        experts=experts, top_k=top_k, active_share=top_k / experts,
        parameters=b.block_parameters / a.block_parameters,
        batch=target.batch_tokens / base.batch_tokens, tokens=target.tokens / base.tokens,
        fan_in={group: b.fan_in(group) / a.fan_in(group) for group in b.groups},
    )  # fmt: skip


def check_same_structure(base: Architecture, target: Architecture) -> None:
    """Refuse a base and a target of different architectures.

    Raises
    ------
    InputError
        Naming what differs, on both sides.
    """
    for kind, name in (
        ("a mixture of experts", "experts"),
        ("with a dense or shared feed-forward", "hidden"),
    ):
        has = [bool(getattr(each, name)) for each in (base, target)]
        if has[0] != has[1]:
            which, other = ("target", "base") if has[1] else ("base", "target")
            raise InputError(
                f"base and target must be of one architecture: the {which} is {kind}, the {other} is not. "
                "Train a small base of the target's architecture."
            )
    for name, meaning in STRUCTURE.items():
        ours, theirs = getattr(base, name), getattr(target, name)
        if ours != theirs:
            raise bad(
                f"{name} ({meaning})", f"must be that of the base, {ours!r}", theirs,
                "train a base of the target's architecture",
            )  # fmt: skip
