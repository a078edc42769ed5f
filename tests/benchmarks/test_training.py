"""Short runs of the benchmarks of training: the reference is the same computation, and kills change nothing."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from benchmarks.throughput import compare_experts, compare_loops  # noqa: E402
from tests.proxy.tiny import tiny  # noqa: E402

ROOT = Path(__file__).parents[2]


def test_the_reference_trains_the_same_curve():
    config = tiny(
        plan="wsd(steps=16, peak=1e-2, warmup=4, decay=4)", model={"depth": 2, "heads": 2, "width": 32}
    )
    found = compare_loops(config, rounds=1)
    assert found["difference"] < 1e-4 and 0 < found["noise"] < 1e-4
    assert found["ratio"] == found["ratios"][0] > 0
    assert compare_experts(config, 16)["cost"] > 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the benchmark forks")
def test_a_few_kills_change_nothing():
    command = [sys.executable, "-m", "benchmarks.kill_training", "--kills", "6", "--updates", "100", "--json"]
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    found = json.loads(done.stdout)
    assert found["kills"] == 6 and found["runs"] >= 2
    assert (found["refused"], found["different"], found["passed_over"]) == (0, 0, 0), found
