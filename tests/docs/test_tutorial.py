"""The tutorial: its outputs are stored and modest, and a new run gives the same numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from scripts.run_tutorial import NOTEBOOK, numbers

ROOT = Path(__file__).resolve().parents[2]
# another BLAS ends a search elsewhere within the tolerance of its stop; ratios follow losses that hardly differ
LOSS, BAND, RATIO = 1e-3, 0.15, 0.05


def stored():
    return json.loads(NOTEBOOK.read_text(encoding="utf-8"))


def test_every_cell_shows_its_output_and_none_an_error():
    notebook = stored()
    assert NOTEBOOK.stat().st_size < 400_000
    code = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    for cell in code:
        assert cell["outputs"], "".join(cell["source"])
        assert {output["output_type"] for output in cell["outputs"]} <= {
            "stream",
            "display_data",
            "execute_result",
        }
        assert all(output.get("name") != "stderr" for output in cell["outputs"])
        pictures = any("image/png" in output.get("data", {}) for output in cell["outputs"])
        assert not pictures or cell["metadata"]["alt"]
    text = NOTEBOOK.read_text()
    assert "/home/" not in text and "/root/" not in text and "/tmp/" not in text


def test_a_new_run_gives_the_stored_numbers(tmp_path):
    for package in ("nbclient", "ipykernel"):
        pytest.importorskip(package, reason="running the tutorial needs the extra docs")
    out = tmp_path / "again.ipynb"
    command = [sys.executable, "scripts/run_tutorial.py", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    old, new = numbers(stored()), numbers(json.loads(out.read_text()))
    assert new["chosen"] == old["chosen"]
    for name in ("test losses", "final loss", "free form"):
        assert new[name] == pytest.approx(old[name], rel=LOSS), name
    for name in ("hidden error", "test bands"):
        assert new[name] == pytest.approx(old[name], rel=BAND), name
    for name in ("ratio", "ratio interval"):
        assert new[name] == pytest.approx(old[name], abs=RATIO), name
