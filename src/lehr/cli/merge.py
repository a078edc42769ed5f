"""`lehr merge`: average checkpoints of a constant-LR trunk so that they stand for a decay."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from lehr.cli.common import clean, print_json, progress, show, table
from lehr.errors import InputError, bad


def merge(
    checkpoints: Annotated[
        list[Path], typer.Argument(help="Checkpoints: .safetensors or PyTorch files, or folders of shards.")
    ],
    steps: Annotated[
        str | None,
        typer.Option(help="Updates done at each, such as 8000,9000,10000; default the number in each name."),
    ] = None,
    decay: Annotated[str, typer.Option(help="Decay shape that the average stands for.")] = "linear",
    final: Annotated[float, typer.Option(help="End of the decay as a fraction of the trunk's LR.")] = 0.0,
    out: Annotated[Path | None, typer.Option(help="The .safetensors file to write.")] = None,
    key: Annotated[str | None, typer.Option(help="Entry of PyTorch files that holds the weights.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the weights and write nothing.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Average checkpoints of a constant-LR run, in place of a decay of its LR."""
    from lehr.anneal.merging import decay_of, decay_weights

    if out is None and not dry_run:
        raise InputError("give --out FILE.safetensors for the merged weights, or --dry-run.")
    at = _steps(checkpoints, steps)
    order = sorted(range(len(at)), key=at.__getitem__)
    paths, at = [checkpoints[i] for i in order], [at[i] for i in order]
    weights = decay_weights(at, decay, final)
    rates = [1.0, *decay_of(weights).tolist()]
    written = None if dry_run or out is None else _write(paths, weights.tolist(), out, key, at, decay, final)
    rows = list(zip(map(str, paths), at, weights.tolist(), rates, strict=True))
    if as_json:
        keys = ("checkpoint", "step", "weight", "lr_before")
        print_json(
            {"weights": [dict(zip(keys, row, strict=True)) for row in rows], **(written or {"out": None})}
        )
        return
    shown = [(path, str(step), f"{weight:.6f}", f"{rate:.4f}") for path, step, weight, rate in rows]
    show(table(("checkpoint", "step", "weight", "LR before it / trunk's"), shown))
    if written:
        show(f"\nwrote {written['out']}: {written['averaged']} tensors averaged")
        if written["copied"]:
            show(f"copied from the last checkpoint (integers): {clean(', '.join(written['copied']))}")
        if written["left_out"]:
            show(f"left out: {clean(', '.join(written['left_out']))}")


def _write(
    paths: Sequence[Path], weights: Sequence[float], out: Path, key: str | None, steps: Sequence[int],
    decay: str, final: float,
) -> dict[str, Any]:  # fmt: skip
    """Merge; return what was written in JSON's terms."""
    from lehr.checkpoints.averaging import merge_checkpoints

    text = f"decay={decay}, final={final:g}, steps={','.join(map(str, steps))}"
    with progress(None, "merging") as step:
        done = merge_checkpoints(paths, weights, out, key=key, metadata={"lehr_merge": text}, step=step)
    return {
        "out": str(done.path), "averaged": done.averaged, "copied": list(done.copied),
        "left_out": list(done.left_out), "bytes": done.bytes,
    }  # fmt: skip


def _steps(paths: Sequence[Path], text: str | None) -> list[int]:
    """Updates done at each checkpoint: as given, or the one number in each name.

    A shell lists step-10000 before step-9000; steps that then fit other names are refused.
    """
    numbers = [[int(n) for n in re.findall(r"\d+", path.name or path.resolve().name)] for path in paths]
    if text is None:
        for path, found in zip(paths, numbers, strict=True):
            if len(found) != 1:
                raise InputError(f"{path} has no single number in its name: give --steps.")
        return [found[0] for found in numbers]
    try:
        steps = [int(part) for part in text.split(",")]
    except ValueError:
        raise bad(
            "--steps", "must be whole numbers between commas", text, "such as 8000,9000,10000"
        ) from None
    if len(steps) != len(paths):
        raise bad("--steps", f"must be one for each of the {len(paths)} checkpoints", text, "pair them")
    for path, found, step in zip(paths, numbers, steps, strict=True):
        if step not in found and set(found) & set(steps):
            raise bad(
                "--steps", f"must be in the order of the checkpoints; {path} was given", step, "sort them"
            )
    return steps
