"""A short run of the kill benchmark: what lehr writes survives SIGKILL at random moments, a plain write does not."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the benchmark forks")


def kill(*arguments):
    """Run the benchmark in a process of its own: it forks, which this one, with threads, must not."""
    command = [sys.executable, "-m", "benchmarks.kill", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=True)
    return json.loads(done.stdout)


def test_thirty_kills_damage_nothing():
    found = kill("--kills", "30")
    assert found["damaged"] == 0, found
    assert set(found["tasks"]) == {"write", "fits", "store", "watch"}
    assert sum(row["kills"] for row in found["tasks"].values()) >= 30


def test_the_benchmark_sees_damage():
    """Plain writes are torn by some of as many kills, so the kills do fall into writes."""
    assert kill("--kills", "20", "--tasks", "plain")["damaged"] > 0
