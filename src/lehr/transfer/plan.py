"""Carry hyperparameters over from a base to a target by a rule: every group's value, and why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from lehr.errors import InputError, bad, unknown
from lehr.transfer.roles import GROUPS, NORMS, WRITES_TO_RESIDUAL, Group, Kind, Multipliers, group_of
from lehr.transfer.rule import Factor, Horizon, Row, Rule, factor
from lehr.transfer.sizes import Architecture, RatioName, Ratios, Scale, ratios
from lehr.transfer.tables import RULES, get_horizon, get_rule

DecayMode = Literal["rule", "independent", "timescale"]
NO_HORIZON = Horizon("", {})


@dataclass(frozen=True)
class Settings:
    """Hyperparameters that the base was trained with.

    Parameters
    ----------
    lr : peak LR.
    init_std : standard deviation of the initial weights.
    residual_init_std : of those that write to the residual stream; None for `init_std` / sqrt(2 depth).
    weight_decay : AdamW's coefficient, as PyTorch has it: an update takes LR times coefficient of every matrix.
    epsilon, beta1, beta2 : of Adam.
    lr_factors : of the LR by group, 1 for those that are not named; decay takes as much of their weights as without.
    """

    lr: float
    init_std: float = 0.02
    residual_init_std: float | None = None
    weight_decay: float = 0.1
    epsilon: float = 1e-8
    beta1: float = 0.9
    beta2: float = 0.95
    lr_factors: Mapping[Group, float] = field(default_factory=dict)

    def std(self, group: Group, depth: int) -> float:
        """Initial standard deviation of a group of matrices in a base of `depth` blocks."""
        if group not in WRITES_TO_RESIDUAL:
            return self.init_std
        return (
            self.init_std / math.sqrt(2 * depth) if self.residual_init_std is None else self.residual_init_std
        )


@dataclass(frozen=True)
class Value:
    """A hyperparameter of the target: `base` times `factor`, and the ratios that made the factor, in words."""

    base: float
    factor: float
    why: str

    @property
    def value(self) -> float:
        """Of the target."""
        return self.base * self.factor


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of one group of parameters.

    Parameters
    ----------
    init_std : None for norms (gain 1) and biases (0).
    lr : at the peak; its factor is that of every LR of the schedule.
    weight_decay : AdamW's coefficient, as PyTorch has it.
    epsilon : of Adam.
    beta1, beta2 : of Adam.
    """

    init_std: Value | None
    lr: Value
    weight_decay: Value
    epsilon: Value
    beta1: float
    beta2: float


@dataclass(frozen=True)
class Transfer:
    """Hyperparameters of a target.

    Parameters
    ----------
    base, target : the two architectures.
    rule : by which they were found.
    horizon : the rule for tokens and batch; None if none was applied.
    weight_decay : how the decay was carried over.
    ratios : target over base.
    groups : by group.
    residual, attention, output : factors of the forward pass.
    one_minus_beta : factor of 1 - beta1 and 1 - beta2.
    warnings : what the reader should know.
    """

    base: Architecture
    target: Architecture
    rule: Rule
    horizon: str | None
    weight_decay: DecayMode
    ratios: Ratios
    groups: Mapping[Group, Hyperparameters]
    residual: Value
    attention: Value
    output: Value
    one_minus_beta: Factor
    warnings: tuple[str, ...] = ()

    def of(self, kind: Kind) -> Hyperparameters:
        """Hyperparameters of a parameter of this kind.

        Raises
        ------
        InputError
            If the target has no such parameter.
        """
        group = group_of(kind)
        if group not in self.groups:
            raise bad(
                "the model", "must be the target that was planned for, which has no such part", kind,
                "plan for its architecture",
            )  # fmt: skip
        return self.groups[group]

    @property
    def multipliers(self) -> Multipliers:
        """Factors of the forward pass, for the model."""
        return Multipliers(self.residual.value, self.attention.value, self.output.value)


def transfer(
    base: Scale, target: Scale, rule: str, settings: Settings, *, weight_decay: DecayMode = "rule",
    horizon: str | None = None, treat: Mapping[Group, Group] = {},  # noqa: B006  # never changed
) -> Transfer:  # fmt: skip
    """Carry the hyperparameters of `base` over to `target`.

    Parameters
    ----------
    base, target : models of one architecture, and how long they are trained.
    rule : its name in `lehr.transfer.tables.RULES`.
    settings : of the base.
    weight_decay : "rule" multiplies PyTorch's coefficient as the rule says; "independent" keeps what an update takes of
        a weight (LR times coefficient) as in the base, whatever the factor of the module's LR; "timescale" keeps the
        time scale batch / (LR * coefficient * tokens) of every module's weights as a share of the training
        (arXiv 2405.13698; 2505.13738).
    horizon : name in `lehr.transfer.tables.HORIZONS` of the rule for tokens and batch; None for the rule's own, if any.
    treat : groups that the rule does not know, or that should be treated otherwise, and as which group.

    Raises
    ------
    InputError
        If base and target are of different architectures, a name is unknown, the rule knows no row for a group of the
        target, or 1 - beta would reach 1.
    """
    if weight_decay not in get_args(DecayMode):
        raise unknown("way to carry weight decay over", weight_decay, get_args(DecayMode))
    chosen, over = get_rule(rule), ratios(base, target)
    if chosen.untied and target.architecture.tied:
        raise bad(
            "tied", f"must be false under rule {rule!r} ({chosen.untied})", True, "use completep, or untie it"
        )
    if absent := [group for group in settings.lr_factors if group not in target.architecture.groups]:
        raise bad(
            "lr_factors", f"must be of groups that the model has ({', '.join(target.architecture.groups)})", absent[0],
            "leave it out",
        )  # fmt: skip
    named = horizon or chosen.horizon
    length = get_horizon(named) if named else NO_HORIZON
    betas = factor(length.one_minus_beta, over)
    groups = {
        group: _hyperparameters(
            group, _row(chosen, group, treat), length, over, settings, base.architecture.depth, weight_decay,
            betas,
        )
        for group in target.architecture.groups
    }  # fmt: skip
    usual = 1 / math.sqrt(base.architecture.head_width)
    return Transfer(
        base.architecture, target.architecture, chosen, named, weight_decay, over, groups,
        residual=_value(1.0, factor(chosen.residual, over)),
        attention=_value(usual, factor(chosen.attention, over)),
        output=_value(1.0, factor(chosen.output, over)),
        one_minus_beta=betas, warnings=tuple(_warnings(chosen, length, over, groups.values())),
    )  # fmt: skip


def _row(rule: Rule, group: Group, treat: Mapping[Group, Group]) -> Row:
    """The rule's row for a group.

    Raises
    ------
    InputError
        If it has none, or `treat` names a group that is none.
    """
    for name in (*treat, *treat.values()):
        if name not in GROUPS:
            raise unknown("group of parameters", name, GROUPS)
    known = treat.get(group, group)
    if known not in rule.rows:
        others = ", ".join(other.name for other in RULES.values() if known in other.rows)
        raise InputError(
            f"rule {rule.name!r} has no row for {known}: choose one that has ({others}), or say as which group to "
            f"treat it, such as treat = {{ {known} = 'ffn_in' }}."
        )
    return rule.rows[known]


def _hyperparameters(
    group: Group, row: Row, length: Horizon, over: Ratios, settings: Settings, depth: int, mode: DecayMode,
    betas: Factor,
) -> Hyperparameters:  # fmt: skip
    own = settings.lr_factors.get(group, 1.0)
    tuned, back = (Factor(own, "tuned"), Factor(1 / own, "tuned ^ -1")) if own != 1 else (Factor(), Factor())
    lr = tuned * factor(row.lr, over, group) * factor(length.lr, over, group)
    decay = Factor(1.0, "norms and biases do not decay")
    if group not in NORMS:
        decay = back * _decay(group, row, length, over, mode)
    beta1, beta2 = (
        _beta(name, value, betas) for name, value in (("beta1", settings.beta1), ("beta2", settings.beta2))
    )
    return Hyperparameters(
        None if group in NORMS else _value(settings.std(group, depth), factor(row.init, over, group)),
        _value(settings.lr, lr),
        _value(0.0 if group in NORMS else settings.weight_decay, decay),
        _value(settings.epsilon, factor(row.epsilon, over, group) * factor(length.epsilon, over, group)),
        beta1, beta2,
    )  # fmt: skip


def _decay(group: Group, row: Row, length: Horizon, over: Ratios, mode: DecayMode) -> Factor:
    """Factor of PyTorch's coefficient of weight decay."""
    if mode == "rule":
        return factor(row.weight_decay, over, group) * factor(length.weight_decay, over, group)
    kept = factor(row.lr, over, group, inverse=True) * factor(length.lr, over, group, inverse=True)
    if mode == "timescale":
        kept *= factor({"batch": 1.0, "tokens": -1.0}, over, group)
    return kept


def _beta(name: str, base: float, over: Factor) -> float:
    """Beta of the target.

    Raises
    ------
    InputError
        If 1 - beta would reach 1.
    """
    if over.value == 1:
        return base
    rest = (1 - base) * over.value
    if rest >= 1:
        raise bad(
            f"1 - {name}", f"must stay below 1, and the rule multiplies it by {over.value:g} ({over.why})", rest,
            "take a batch nearer to the base's, or another rule for tokens and batch",
        )  # fmt: skip
    return 1 - rest


def _value(base: float, over: Factor) -> Value:
    return Value(base, over.value, over.why)


def _warnings(rule: Rule, length: Horizon, over: Ratios, groups: Iterable[Hyperparameters]) -> list[str]:
    """What the rule does not cover, of what changes from base to target."""
    found = []
    for name, text in rule.cautions.items():
        ratio = over.of(name)
        if ratio != 1:
            found.append(f"{name} changes by a factor {ratio:.4g}: {text}")
    if rule.largest is not None and over.parameters > rule.largest:
        found.append(
            f"parameters grow by a factor {over.parameters:.4g}; {rule.name} was measured up to {rule.largest:g}"
        )
    left: tuple[tuple[RatioName, str], ...] = (("tokens", "training tokens"), ("batch", "the batch"))
    for name, words in left:
        ratio = over.of(name)
        if ratio != 1 and name not in length.covers:
            found.append(
                f"{words} change{'' if name == 'tokens' else 's'} by a factor {ratio:.4g}, of which {rule.name} says "
                "nothing: the LR is left alone; name a rule for tokens and batch, such as "
                f"{'zhou or sde' if name == 'tokens' else 'sde'}"
            )
    scales = sorted(_time_scale(each, over) for each in groups if each.weight_decay.base)
    if scales and max(abs(scales[0] - 1), abs(scales[-1] - 1)) > 0.01:
        span = f"{scales[0]:.4g}" if scales[-1] / scales[0] < 1.01 else f"{scales[0]:.4g} to {scales[-1]:.4g}"
        found.append(
            f"the time scale of weight decay, as a share of the training, changes by a factor {span}: "
            "weight decay 'timescale' would keep it"
        )
    return found


def _time_scale(each: Hyperparameters, over: Ratios) -> float:
    """Factor of batch / (LR * coefficient * tokens)."""
    return over.batch / over.tokens / (each.lr.factor * each.weight_decay.factor)
