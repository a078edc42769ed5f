"""Run docs/tutorial.ipynb again and store its outputs, there or in OUT; needs '.[docs]'.

    PYTHONPATH=src python scripts/run_tutorial.py [OUT]

Stored are the outputs alone, without times or counters that differ from run to run.
"""

from __future__ import annotations

import ast
import sys
import tempfile
from pathlib import Path
from typing import Any

NOTEBOOK = Path(__file__).resolve().parents[1] / "docs" / "tutorial.ipynb"
SECONDS = 120  # for a cell


def executed(path: Path = NOTEBOOK) -> Any:
    """The notebook with the outputs of a new run, made in an empty folder."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        client = NotebookClient(notebook, timeout=SECONDS, resources={"metadata": {"path": folder}})
        client.record_timing = False
        client.execute()
    for place, cell in enumerate(notebook.cells):
        cell["id"] = f"cell-{place}"
    return notebook


def numbers(notebook: Any) -> dict[str, Any]:
    """What the cell with the tag "numbers" shows."""
    (cell,) = (one for one in notebook["cells"] if "numbers" in one["metadata"].get("tags", []))
    shown: dict[str, Any] = ast.literal_eval("".join(cell["outputs"][0]["data"]["text/plain"]))
    return shown


if __name__ == "__main__":
    import nbformat

    nbformat.write(executed(), sys.argv[1] if len(sys.argv) > 1 else NOTEBOOK)
