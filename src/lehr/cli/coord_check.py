"""`lehr coord-check`: whether a rule of transfer keeps every module's scale over width, depth and experts."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import clean, print_json, progress, show, table
from lehr.errors import InputError, bad

if TYPE_CHECKING:
    from lehr.proxy.coordcheck import Check
    from lehr.transfer.slopes import ScaleName, Trend, Verdict

FIGURES = (".png", ".svg", ".pdf", ".csv")


def coord_check(
    base: Annotated[Path, typer.Argument(help="TOML file of the base training, as for lehr train.")],
    rule: Annotated[str, typer.Option(help="Rule of transfer to check, such as completep.")],
    widths: Annotated[str | None, typer.Option(help="Widths, such as 64,128,256,512.")] = None,
    depths: Annotated[str | None, typer.Option(help="Even depths, such as 2,4,8,16.")] = None,
    experts: Annotated[str | None, typer.Option(help="Numbers of experts, such as 4,8,16.")] = None,
    steps: Annotated[int, typer.Option(help="Updates of every training.")] = 8,
    seeds: Annotated[int, typer.Option(help="Trainings of every size.")] = 2,
    lr: Annotated[
        float | None, typer.Option(help="Constant LR of the base; default a quarter of its peak.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the figure and the readings.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train proxies of several sizes for a few updates under a rule; say which modules keep their scale."""
    from lehr.files import make_folder, write_atomic
    from lehr.proxy.config import load_config

    wanted = load_config(base)
    named = {"width": widths, "depth": depths, "experts": experts}
    scales: Any = {
        scale: _sizes(f"--{scale.rstrip('s')}s", text) for scale, text in named.items() if text is not None
    }
    if not scales:
        raise InputError("there is nothing to vary: give --widths, --depths or --experts.")
    if out is not None:
        make_folder(out)
    try:
        from lehr.proxy.coordcheck import cases, check_rule
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        raise InputError("the check trains, which needs torch: `pip install 'lehr[train]'`.") from None
    asked: Any = {"steps": steps, "seeds": seeds, "lr": lr}
    with progress(len(cases(wanted, rule, scales, **asked)), "training") as begin:
        found = check_rule(wanted, rule, scales, **asked, begin=begin)
    if out is not None:
        from lehr.report.charts.coordinates import coordinate_check
        from lehr.report.saving import save_chart

        readings = {**to_json(found), "readings": [asdict(each) for each in found.readings]}
        write_atomic(out / "coord-check.json", json.dumps(readings, indent=1, allow_nan=False))
        chart = coordinate_check(found.verdicts, found.readings, f"{rule}, base {wanted.name}")
        for ending in FIGURES:
            save_chart(chart, out / f"coord-check{ending}")
    if as_json:
        print_json(to_json(found))
    else:
        show(to_text(found))
        if out is not None:
            show(f"\nwrote {clean(str(out / 'coord-check.json'))}, and as a figure {', '.join(FIGURES)}")


def _sizes(option: str, text: str) -> list[int]:
    """Read whole numbers between commas.

    Raises
    ------
    InputError
        If they are none.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise bad(option, "must be whole numbers between commas", text, "such as 64,128,256") from None


def to_json(check: Check) -> dict[str, Any]:
    """The verdicts, in JSON's terms."""
    return {
        "rule": check.rule, "base": check.base, "lr": check.lr, "steps": check.steps, "seeds": check.seeds,
        "holds": check.holds, "scales": [_scale_json(check, verdict) for verdict in check.verdicts],
    }  # fmt: skip


def _scale_json(check: Check, verdict: Verdict) -> dict[str, Any]:
    return {
        "scale": verdict.scale, "sizes": list(verdict.trends[0].sizes), "holds": verdict.holds, "text": verdict.text,
        "begins_with": [asdict(each) for each in verdict.origins],
        "growth_with_steps": _growth(check, verdict.scale),
        "trends": [
            {
                "part": each.part, "measure": each.measure, "slope": each.slope, "error": each.error,
                "values": list(each.values), "judged": each.judged, "level": each.level,
            }
            for each in verdict.trends
        ],
    }  # fmt: skip


def to_text(check: Check) -> str:
    """One table of slopes with a verdict a module, and the verdict over each scale."""
    from lehr.transfer.slopes import JUDGED, TOLERANCE

    lines = [
        f"slopes of ln size against ln scale after {check.steps} updates; level is within {TOLERANCE:g} of 0"
    ]
    for verdict in check.verdicts:
        by = {(each.part, each.measure): each for each in verdict.trends}
        sizes = verdict.trends[0].sizes
        rows = []
        for part in dict.fromkeys(each.part for each in verdict.trends):
            mine = [by.get((part, measure)) for measure in JUDGED]
            holds = all(each.level for each in mine if each)
            rows.append((part, *map(_cell, mine), "level" if holds else "off"))
        over = f"{verdict.scale} {sizes[0]} to {sizes[-1]}"
        lines += ["", table((over, *JUDGED, "verdict"), rows)]
        for part, by_size in _growth(check, verdict.scale).items():
            lines.append(
                f"change of {part} grows with updates to the power {by_size[sizes[0]]:.2f} at {sizes[0]}, "
                f"{by_size[sizes[-1]]:.2f} at {sizes[-1]}"
            )
        lines.append(f"{clean(check.rule)} {verdict.text}")
    return "\n".join(lines)


def _growth(check: Check, scale: ScaleName) -> dict[str, dict[int, float]]:
    """Exponents in the number of updates by which stream and logits change, by size."""
    from lehr.transfer.slopes import STREAM, growth

    return {part: growth(check.readings, scale, part, "change") for part in (STREAM, "logits")}


def _cell(trend: Trend | None) -> str:
    return "-" if trend is None else f"{trend.slope:+.3f}{' ' if trend.level else '*'}"
