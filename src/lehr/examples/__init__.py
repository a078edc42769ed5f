"""The bundled runs: tiny byte-level transformers trained on the Python standard library's sources.

`runs.parquet` holds the logs (run, step, lr, train_loss, val_loss) as written, `manifest.json` how
each was made: schedule, size, batch, seed, data with its hash, versions. `python
scripts/make_examples.py --out DIR` trains them again, scripts/bundle_examples.py bundles them.
"""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from typing import Any, Literal

import numpy as np

from lehr.errors import unknown
from lehr.runs.run import Run, RunSet
from lehr.schedule.spec import parse


def manifest() -> dict[str, Any]:
    """How the bundled runs were made."""
    return json.loads(files(__name__).joinpath("manifest.json").read_text("utf-8"))


def load_examples(split: Literal["val", "train"] = "val") -> RunSet:
    """Read the bundled runs.

    Parameters
    ----------
    split : validation loss every 50 updates, or training loss averaged over windows of 20 updates,
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
            # a window mean belongs to the middle of its window; the first window of a run is cut
            begin = np.concatenate([[float(entry["branch_step"] or 0)], step[:-1]])
            step = np.floor((begin + step + 1) / 2)
        runs.append(
            Run(
                name=entry["name"],
                schedule=parse(entry["spec"]),
                step=step,
                loss=loss,
                parent=entry["parent"],
                branch_step=entry["branch_step"],
                params=entry["params_non_embedding"],
                params_total=entry["params_total"],
                batch_tokens=entry["batch_tokens"],
                meta={
                    "data": entry["data"],
                    "seed": entry["seed"],
                    "split": split,
                    "weight_decay": entry["weight_decay"],
                },
            )
        )
    return RunSet(runs)


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
