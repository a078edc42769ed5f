"""Short runs of the benchmark of sweeps: nothing is lost, doubled or different, and the engine costs little."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs the [train] extra")
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="the benchmark forks and reads /proc"
)
ROOT = Path(__file__).parents[2]


def test_a_few_kills_and_commands():
    command = [sys.executable, "-m", "benchmarks.sweep", "--kills", "6", "--noop", "30", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["kills"] == 6 and found["runs"] >= 8
    assert (found["lost"], found["twice"], found["different"], found["wrong"]) == (0, 0, 0, 0), found
    assert (
        0 < found["command_ms"] < found["run_ms"] and found["status_inside_seconds"] < found["status_seconds"]
    )
