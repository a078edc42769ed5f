"""`lehr peak-lr published`: what published laws say of a planned run, side by side."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import print_json, show, table
from lehr.errors import InputError, bad

if TYPE_CHECKING:
    from lehr.peaklr.published import Anchor, PublishedLr

ANCHOR = ("lr", "params", "tokens", "active")


def published(
    params: Annotated[float, typer.Option(help="All parameters of the planned run, but embeddings.")],
    tokens: Annotated[float, typer.Option(help="Tokens it trains on.")],
    batch: Annotated[
        float | None, typer.Option(help="Tokens of one update, compared with the laws' own.")
    ] = None,
    active_params: Annotated[
        float | None, typer.Option(help="Parameters a token passes through, for a model of experts.")
    ] = None,
    anchor: Annotated[
        str | None,
        typer.Option(
            help="A measured optimum that laws are carried over from: lr=LR,params=N,tokens=D (and active=N)."
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the peak LR of a planned run by published laws, with what each holds for."""
    from lehr.peaklr.published import LAWS, published_lrs

    found = published_lrs(params, tokens, active_params, batch, read_anchor(anchor) if anchor else None)
    if as_json:
        print_json(to_json(found))
        return
    header = ("law", "peak LR", "anchored", "its batch", "outside of its range")
    rows = [
        (
            told.name, "-" if told.lr is None else f"{told.lr:.3g}",
            "-" if told.anchored_lr is None else f"{told.anchored_lr:.3g}",
            "-" if told.batch is None else f"{told.batch:.3g}", "; ".join(told.outside) or "no",
        )
        for told in found
    ]  # fmt: skip
    show(table(header, rows))
    for told in found:
        law = LAWS[told.name]
        show(f"\n{told.name}: {law.source} ({law.certainty}); N: {law.params_unit}; batch: {law.batch_rule}")
        for remark in told.remarks:
            show(f"  {remark}")


def to_json(found: Iterable[PublishedLr]) -> dict[str, Any]:
    """What each law says, with its source and what it counts."""
    from lehr.peaklr.published import LAWS

    return {
        "laws": {
            told.name: {
                **asdict(told), "source": LAWS[told.name].source, "certainty": LAWS[told.name].certainty,
                "batch_rule": LAWS[told.name].batch_rule, "params_unit": LAWS[told.name].params_unit,
            }
            for told in found
        }
    }  # fmt: skip


def read_anchor(text: str) -> Anchor:
    """Read lr=LR,params=N,tokens=D[,active=N].

    Raises
    ------
    InputError
        If it is not of that form.
    """
    from lehr.peaklr.published import Anchor, Planned

    values: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        try:
            values[name] = float(value)
        except ValueError:
            raise bad(
                "--anchor", f"must be NAME=NUMBER pairs of {', '.join(ANCHOR)}", text, "mend it"
            ) from None
    missing = [name for name in ANCHOR[:3] if name not in values]
    extra = [name for name in values if name not in ANCHOR]
    if missing or extra:
        told = f"lacks {', '.join(missing)}" if missing else f"has an unknown {extra[0]}"
        raise InputError(f"--anchor {text!r} {told}: give lr=LR,params=N,tokens=D (and active=N).")
    return Anchor(values["lr"], Planned(values["params"], values["tokens"], values.get("active")))
