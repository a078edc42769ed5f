"""How long a report of 50 runs takes, given their fit, and how large it is: `python -m benchmarks.report`.

The runs are bundled ones of one size and batch; a fit of one law is made first and not counted. The bar: 5 s and 8 MB.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from lehr import add_runs, bootstrap, get_law, load_examples, load_runs
from lehr.fit.compare import compare
from lehr.fit.files import Fits, from_comparison, load_fits, save_fits
from lehr.report.document import to_json
from lehr.report.gather import gather
from lehr.report.markdown import to_markdown
from lehr.report.page import to_html
from lehr.report.study import Question
from lehr.runs.run import Run

RUNS = 50


def main() -> None:
    """Print seconds and megabytes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--fit", type=Path, help="file of fits of these runs, in place of a new one of weight_norm"
    )
    asked = parser.parse_args()
    runs = [
        r
        for r in load_examples()
        if r.name.startswith("S-") and r.batch_tokens == 1024 and r.meta["seed"] == 1
    ]
    chosen = runs[:RUNS]
    with tempfile.TemporaryDirectory() as folder:
        path, store = Path(folder) / "fit.json", Path(folder) / "store"
        add_runs(store, chosen)
        save_fits(path, load_fits(asked.fit) if asked.fit else _fitted(tuple(chosen)))
        wall, processor = time.perf_counter(), time.process_time()
        report = gather(load_fits(path), Question(steps=4000, peak=1.5e-3), load_runs(store))
        gathered = time.perf_counter()
        page = to_html(report)
        done, used = time.perf_counter(), time.process_time() - processor
    print(f"{len(chosen)} runs, {sum(len(run.step) for run in chosen)} points")
    print(f"report in {done - wall:.1f} s ({gathered - wall:.1f} s gathered; {used:.1f} s of processor)")
    for name, text in (("html", page), ("md", to_markdown(report)), ("json", to_json(report))):
        print(f"{name}: {len(text.encode()) / 1e6:.2f} MB")


def _fitted(runs: tuple[Run, ...]) -> Fits:
    fits = from_comparison(compare([get_law("weight_norm")], runs))
    drawn = bootstrap(fits.get(), runs, draws=100, seed=0)
    return Fits({drawn.law: drawn}, fits.held_out, drawn.law, by_kind=fits.by_kind)


if __name__ == "__main__":
    main()
