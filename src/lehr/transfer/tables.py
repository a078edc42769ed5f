"""The rules of transfer, one table a rule, as exponents of ratios (see `lehr.transfer.rule`).

m_N and m_L in remarks are the ratios of width and depth. Where a source has m_N for a hidden matrix, the table has the
ratio of that matrix's fan-in, which is the same as long as all hidden widths grow alike.
"""

from __future__ import annotations

from collections.abc import Mapping

from lehr.errors import unknown
from lehr.transfer.roles import Group
from lehr.transfer.rule import Horizon, Powers, Row, Rule
from lehr.transfer.sizes import RatioName

FIXED = Row()
MATRICES: tuple[Group, ...] = ("attention_in", "attention_out", "ffn_in", "ffn_down")
EXPERTS: tuple[Group, ...] = ("expert_in", "expert_down")
MUP_ATTENTION: Powers = {"head_width": -1.0}
MUP_OUTPUT: Powers = {"width": -1.0}
SEEN, TOLD = "read in notes and in an implementation", "read in summaries of the paper"

HORIZONS: Mapping[str, Horizon] = {
    "bjorck": Horizon("Bjorck et al., arXiv 2409.19913: LR ~ tokens^-.32", {"tokens": -0.32}),
    "zhou": Horizon("Zhou et al., arXiv 2601.05049, eq. 6: LR ~ tokens^-.3509", {"tokens": -0.3509}),
    "sqrt": Horizon("LR ~ tokens^-.5, as in arXiv 2512.22382 at a fixed batch", {"tokens": -0.5}),
    "sde": Horizon(
        "Complete(d)P, arXiv 2512.22382: with r = batch ratio / token ratio, LR and weight decay sqrt(r), "
        "epsilon 1 / sqrt(r), 1 - beta r",
        lr={"batch": 0.5, "tokens": -0.5},
        weight_decay={"batch": 0.5, "tokens": -0.5},
        epsilon={"batch": -0.5, "tokens": 0.5},
        one_minus_beta={"batch": 1.0, "tokens": -1.0},
    ),
}


def _matrices(row: Row) -> dict[Group, Row]:
    return dict.fromkeys(MATRICES, row)


def _ends(head: Row = FIXED, embedding: Row = FIXED) -> dict[Group, Row]:
    return {"embedding": embedding, "final_norm": FIXED, "head": head}


def _norms(row: Row = FIXED) -> dict[Group, Row]:
    return {"block_norm": row, "qk_norm": row}


def _hidden(alpha: float | None = None) -> Row:
    """Hidden matrices of muP, and with residual branches times m_L ** -alpha those of CompleteP's family."""
    lr: dict[RatioName, float] = {"fan_in": -1.0}
    if alpha is None:
        return Row({"fan_in": -0.5}, lr, {"fan_in": 1.0})
    if alpha != 1:
        lr["depth"] = alpha - 1
    return Row({"fan_in": -0.5}, lr, {"fan_in": 1.0}, {"width": -1.0, "depth": -alpha})


def _block_norm(alpha: float) -> Row:
    lr: Powers = {"depth": alpha - 1} if alpha != 1 else {}
    return Row(lr=lr, epsilon={"width": -1.0, "depth": -alpha})


def _with_depth(alpha: float) -> dict[Group, Row]:
    """Rows of CompleteP's table (arXiv 2505.01618, table 1) at any alpha."""
    return {**_matrices(_hidden(alpha)), **_norms(_block_norm(alpha)), **_ends()}


# as an output weight whose factor 1 / m_N is moved into the weight, which Adam does not tell from the original
ABSORBED = Row({"fan_in": -1.0}, {"fan_in": -1.0}, {"fan_in": 1.0})
NO_DEPTH = "the rule says nothing of depth: residual branches and LRs are left as in the base"
FAN_IN: Row = Row(init={"fan_in": -0.5})
WRITES = Row(init={"fan_in": -0.5, "depth": -0.5})
_COMPLETE_EPSILON: Powers = {"width": -1.0, "depth": -1.0}

SP = Rule(
    "sp", "standard parameterisation: initial weights by fan-in, one LR for all",
    "LeCun's initialisation; residual writers by depth^-1/2 (Radford et al. 2019, GPT-2, section 2.3)",
    "a convention, not a result: the best LR is known to fall with width and depth",
    {
        "attention_in": FAN_IN, "attention_out": WRITES, "ffn_in": FAN_IN, "ffn_down": WRITES, "router": FAN_IN,
        "expert_in": FAN_IN, "expert_down": WRITES, **_norms(), **_ends(head=FAN_IN),
    },
)  # fmt: skip

MUP = Rule(
    "mup", "maximal update parameterisation, over width",
    "Yang et al., arXiv 2203.03466, table 8, as in their package `mup`", "equal to the package, which tests run",
    {**_matrices(_hidden()), **_norms(), **_ends()},
    attention=MUP_ATTENTION, output=MUP_OUTPUT, cautions={"depth": NO_DEPTH},
)  # fmt: skip

DEPTH_MUP = Rule(
    "depth-mup", "muP with residual branches by depth^-1/2",
    "Yang et al., arXiv 2310.02244; written as arXiv 2505.01618, table 1, at alpha = 1/2",
    f"the table at any alpha {SEEN}", _with_depth(0.5), residual={"depth": -0.5}, attention=MUP_ATTENTION,
    output=MUP_OUTPUT,
    cautions={"depth": "CompleteP's authors find that the best LR still drifts with depth at alpha = 1/2"},
)  # fmt: skip

COMPLETEP = Rule(
    "completep", "muP with residual branches by depth^-1, over width and depth",
    "Dey et al., arXiv 2505.01618, table 1", SEEN, _with_depth(1.0), residual={"depth": -1.0},
    attention=MUP_ATTENTION, output=MUP_OUTPUT,
)  # fmt: skip

COMPLETEP_LV = Rule(
    "completep-lv", "CompleteP with the embedding's LR by width^-1/2, for vocabularies much larger than the width",
    "Hayou and Liu, arXiv 2506.15025: embedding LR over hidden LR ~ width^1/2; CompleteP's table for all else",
    TOLD, {**_with_depth(1.0), **_ends(embedding=Row(lr={"width": -0.5}, weight_decay={"width": 0.5}))},
    residual={"depth": -1.0}, attention=MUP_ATTENTION, output=MUP_OUTPUT,
)  # fmt: skip

COMPLETED_P = Rule(
    "completed-p", "CompleteP with rules for batch size and training tokens, and the logits' factor in the head",
    "Complete(d)P, arXiv 2512.22382", SEEN,
    {
        **_with_depth(1.0),
        **_ends(head=ABSORBED, embedding=Row(epsilon={"width": -1.0})),
    },
    residual={"depth": -1.0}, attention=MUP_ATTENTION, horizon="sde", largest=144.0,
    untied="it scales the logits by the head's own weights, and a tied head has none",
)  # fmt: skip

MUP_MOE = Rule(
    "mup-moe", "muP with experts as hidden matrices and the router as an output",
    "Malasnicki et al., arXiv 2508.09752; the router's factor 1 / m_N moved into its weights", TOLD,
    {**MUP.rows, **dict.fromkeys(EXPERTS, _hidden()), "router": ABSORBED},
    attention=MUP_ATTENTION, output=MUP_OUTPUT,
    cautions={
        "depth": NO_DEPTH,
        "expert_width": "the source finds that transfer breaks where the granularity of experts changes",
    },
)  # fmt: skip

COMPLETEP_MOE = Rule(
    "completep-moe", "CompleteP with experts and router by the share of width that an expert has",
    "arXiv 2601.20205; CompleteP's table for all else", TOLD,
    {
        **COMPLETEP.rows,
        "router": Row({"fan_in": -1.0}, {"fan_in": -1.0}, {"fan_in": 1.0}, _COMPLETE_EPSILON),
        "expert_in": Row({"width": -0.5}, {"width": -1.0}, {"width": 1.0}, _COMPLETE_EPSILON),
        "expert_down": Row(
            {"expert_width": -1.0, "width": -0.5}, {"expert_width": -1.0, "width": -1.0},
            {"expert_width": 1.0, "width": 1.0}, _COMPLETE_EPSILON,
        ),
    },
    residual={"depth": -1.0}, attention=MUP_ATTENTION, output=MUP_OUTPUT, largest=39.0,
    cautions={
        "active_share": "the rule holds at one share of active experts (top_k / experts), which must stay",
    },
)  # fmt: skip

RULES: Mapping[str, Rule] = {
    rule.name: rule
    for rule in (SP, MUP, DEPTH_MUP, COMPLETEP, COMPLETEP_LV, COMPLETED_P, MUP_MOE, COMPLETEP_MOE)
}


def get_rule(name: str) -> Rule:
    """Return a rule by its name.

    Raises
    ------
    InputError
        If there is none; the nearest name is suggested.
    """
    if name not in RULES:
        raise unknown("rule of transfer", name, RULES)
    return RULES[name]


def get_horizon(name: str) -> Horizon:
    """Return a rule for tokens and batch by its name.

    Raises
    ------
    InputError
        If there is none; the nearest name is suggested.
    """
    if name not in HORIZONS:
        raise unknown("rule for tokens and batch", name, HORIZONS)
    return HORIZONS[name]
