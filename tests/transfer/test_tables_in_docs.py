"""docs/transfer.md prints the very tables."""

from pathlib import Path

import pytest

from lehr.transfer.roles import GROUPS
from lehr.transfer.tables import HORIZONS, RULES

PAGE = (Path(__file__).parents[2] / "docs" / "transfer.md").read_text()


def cell(powers):
    return " ".join(f"{name}^{exponent:g}" for name, exponent in powers.items()) or "1"


def rendered(rule):
    """A Markdown table: groups that are treated alike share a row."""
    rows = {}
    for group in GROUPS:
        if group in rule.rows:
            row = rule.rows[group]
            cells = tuple(map(cell, (row.init, row.lr, row.weight_decay, row.epsilon)))
            rows.setdefault(cells, []).append(group)
    lines = ["| parameters | initial std | LR | weight decay | epsilon |", "| --- | --- | --- | --- | --- |"]
    lines += [f"| {', '.join(groups)} | {' | '.join(cells)} |" for cells, groups in rows.items()]
    factors = f"residual {cell(rule.residual)}, attention {cell(rule.attention)}, logits {cell(rule.output)}"
    return "\n".join(lines) + f"\n\nFactors: {factors}."


@pytest.mark.parametrize("name", RULES)
def test_every_rule_is_printed_with_its_source(name):
    rule = RULES[name]
    section = PAGE.partition(f"### {name}\n")[2].partition("\n### ")[0]
    assert rendered(rule) in section
    for text in (rule.source, rule.certainty, *rule.cautions.values()):
        assert text in " ".join(section.split()), text


@pytest.mark.parametrize("name", HORIZONS)
def test_every_rule_for_tokens_is_printed(name):
    horizon = HORIZONS[name]
    cells = map(cell, (horizon.lr, horizon.weight_decay, horizon.epsilon, horizon.one_minus_beta))
    assert f"| `{name}` | {' | '.join(cells)} |" in PAGE
