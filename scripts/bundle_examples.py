"""Bundle the logs that scripts/make_examples.py wrote into src/lehr/examples.

    python scripts/bundle_examples.py RAW_FOLDER

All logs go into one Parquet file (run, step, lr, train_loss, val_loss; losses as logged) beside a copy
of the manifest that says how they were made.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import duckdb

TARGET = Path(__file__).parent.parent / "src" / "lehr" / "examples"


def main(raw: Path) -> None:
    """Write runs.parquet and manifest.json from the CSVs and the manifest in `raw`."""
    manifest = json.loads((raw / "manifest.json").read_text())
    names = sorted(run["name"] for run in manifest["runs"])
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE logs (run VARCHAR, step BIGINT, lr DOUBLE, train_loss DOUBLE, val_loss DOUBLE)"
    )
    for name in names:
        connection.execute(
            "INSERT INTO logs SELECT ?, step, lr, train_loss, val_loss FROM read_csv(?, header = true, "
            "columns = {'step': 'BIGINT', 'lr': 'DOUBLE', 'train_loss': 'DOUBLE', 'val_loss': 'DOUBLE'})",
            [name, str(raw / f"{name}.csv")],
        )
    target = TARGET / "runs.parquet"
    connection.execute(
        f"COPY (SELECT * FROM logs ORDER BY run, step) TO '{target}' (FORMAT parquet, COMPRESSION zstd)"
    )
    (TARGET / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
    print(f"{len(names)} runs, {target.stat().st_size} bytes")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
