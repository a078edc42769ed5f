"""How fast the studio answers a move of a control, and how near its quick bands are to the exact ones.

    python benchmarks/studio.py [--points 60] [--moves 200]

Ten bundled runs, the first six laws with 100 draws each; the server runs in a process of its own and is asked over one
connection. Needs the extra `studio`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from lehr.examples import load_examples
from lehr.fit.files import load_fits, save_fits
from lehr.laws import LAWS
from lehr.predict import planned, predict
from lehr.schedule.spec import parse
from lehr.studio.quick import quick_predict
from lehr.studio.state import Memory
from lehr.studio.work import fit_laws

PLANS = {
    "within the fitted lengths": "wsd(steps=2000, peak=1.2e-3, warmup=50, decay={})",
    "four times as long": "wsd(steps=8000, peak=1.2e-3, warmup=50, decay={})",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=60)
    parser.add_argument("--moves", type=int, default=200)
    options = parser.parse_args()
    runs = [run for run in load_examples() if run.name.startswith("S-") and run.name.endswith("000")][:10]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "FIT.json"
        save_fits(path, fit_laws(lambda name: None, list(LAWS)[:6], tuple(runs), 100))
        for words, plan in PLANS.items():
            compare_bands(path, words, plan, options.points)
        for band in ("quick", "exact"):
            times = ask(path, band, options.points, options.moves if band == "quick" else options.moves // 10)
            median, late = np.quantile(times, [0.5, 0.95])
            print(f"{band} answer to a move: median {median:.1f} ms, 95 % within {late:.1f} ms")


def compare_bands(path: Path, words: str, plan: str, points: int) -> None:
    """Print the width of the quick band at the end over that of the exact one."""
    ratios, memory = [], Memory(100)
    for result in load_fits(path).results.values():
        for decay in (200, 600, 1200):
            schedule = parse(plan.format(decay))
            steps = np.unique(np.linspace(100, schedule.steps, points).round())
            quick = quick_predict(result, planned(result, schedule, None, None, None), steps, 0.9, memory)
            exact = predict(result, schedule, steps)
            ratios.append((quick.high[-1] - quick.low[-1]) / (exact.high[-1] - exact.low[-1]))
    low, high = min(ratios), max(ratios)
    print(f"quick band over exact one at the end, {words}: {low:.2f} to {high:.2f}")


def ask(path: Path, band: str, points: int, moves: int) -> list[float]:
    """Milliseconds of each answer, the first ones aside."""
    command = [sys.executable, "-m", "lehr.cli.main", "studio", "--fit", str(path), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        told = json.loads(server.stdout.readline())
        connection = http.client.HTTPConnection("127.0.0.1", int(told["url"].split(":")[2].split("/")[0]))
        headers = {"X-Lehr-Token": told["token"], "Content-Type": "application/json"}
        times = []
        for move in range(moves + 5):
            schedule = f"wsd(steps=2000, peak=1.2e-3, warmup=50, decay={100 + 7 * move})"
            body = {"fit": "given", "schedule": schedule, "band": band, "points": points}
            begin = time.perf_counter()
            connection.request("POST", "/api/predict", json.dumps(body), headers)
            answer = connection.getresponse()
            answer.read()
            times.append(1e3 * (time.perf_counter() - begin))
            assert answer.status == 200
        server.terminate()
    return times[5:]


if __name__ == "__main__":
    main()
