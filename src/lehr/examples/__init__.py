"""The bundled runs: small dense and mixture-of-experts transformers trained on lehr's synthetic language.

`runs.parquet` holds the logs (run, step, lr, train_loss, val_loss, grad_norm; a row an update) as written,
`manifest.json` how each was made, with the floor of the validation loss, which is known. `lehr.examples.configs`
lists the trainings; `python scripts/make_examples.py --out DIR --only NAME` repeats one.
"""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from typing import Any, Literal

import numpy as np

from lehr.errors import unknown
from lehr.runs.run import Run, RunSet
from lehr.schedule.spec import parse

WINDOW = 20  # updates that the training loss is averaged over


def manifest() -> dict[str, Any]:
    """How the bundled runs were made."""
    return json.loads(files(__name__).joinpath("manifest.json").read_text("utf-8"))


def floor_of(run: Run) -> float:
    """Lowest validation loss that any model can reach on a bundled run's language, nats per token."""
    return float(manifest()["datasets"][run.meta["dataset"]]["floor"])


def load_examples(split: Literal["val", "train"] = "val") -> RunSet:
    """Read the bundled runs.

    Parameters
    ----------
    split : validation loss, or training loss averaged over windows of 20 updates,
        placed at the middle of the window.

    Raises
    ------
    InputError
        If `split` is neither.
    """
    if split not in ("val", "train"):
        raise unknown("split", split, ["val", "train"])
    table = _read(f"{split}_loss")
    runs = []
    for entry in manifest()["runs"]:
        step, loss = table[entry["name"]]
        if split == "train":
            step, loss = _windows(step, loss)
        runs.append(
            Run(
                name=entry["name"], schedule=parse(entry["schedule"]), step=step, loss=loss, parent=entry["parent"],
                branch_step=entry["branch_step"], params=entry["params"], params_total=entry["params_total"],
                batch_tokens=entry["batch_tokens"], meta={**entry["meta"], "split": split},
            )
        )  # fmt: skip
    return RunSet(runs)


def _windows(step: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Means over whole windows; the loss of row s was measured before its update, so after s - 1."""
    count = len(step) // WINDOW
    whole = slice(0, count * WINDOW)
    return (
        np.floor(step[whole].reshape(count, WINDOW).mean(axis=1) - 1),
        loss[whole].reshape(count, WINDOW).mean(axis=1),
    )


def _read(column: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Steps and losses of every run, where `column` was logged."""
    import duckdb  # slow to load

    with as_file(files(__name__).joinpath("runs.parquet")) as path:
        rows = duckdb.execute(
            f"SELECT run, step, {column} FROM read_parquet(?) WHERE {column} IS NOT NULL ORDER BY run, step",
            [str(path)],
        ).fetchnumpy()
    names = np.asarray(rows["run"]).astype(str)
    step, loss = np.asarray(rows["step"], dtype=float), np.asarray(rows[column], dtype=float)
    return {str(name): (step[names == name], loss[names == name]) for name in np.unique(names)}
