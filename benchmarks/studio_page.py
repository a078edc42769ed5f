"""How long a move of a slider takes in the browser, from the input event to the painted answer.

    python benchmarks/studio_page.py [--moves 100]

Ten bundled runs and six laws with 100 draws each; Debian's Chromium by Playwright. Needs the extra `studio`, the
packages playwright and chromium, and an otherwise idle machine for figures that mean something.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from lehr.examples import load_examples
from lehr.fit.files import save_fits
from lehr.laws import LAWS
from lehr.studio.work import fit_laws

# the answer changes the headline; the frame after the one that sees it has been painted
MOVES = """async (moves) => {
  const slide = document.querySelector("#ratio-slide"), told = document.querySelector("#summary"), times = [];
  const frame = () => new Promise((done) => requestAnimationFrame(done));
  for (let i = 0; i < moves; i += 1) {
    await new Promise((done) => setTimeout(done, 20));
    let seen = 0;
    const watch = new MutationObserver(() => { seen ||= performance.now(); });
    watch.observe(told, { childList: true, characterData: true, subtree: true });
    const begin = performance.now();
    slide.value = String(0.05 + 0.9 * ((i * 37) % moves) / moves);
    slide.dispatchEvent(new Event("input", { bubbles: true }));
    while (!seen && performance.now() - begin < 2000) await new Promise((done) => setTimeout(done, 1));
    await frame();
    const painted = new MessageChannel();
    await new Promise((done) => { painted.port1.onmessage = done; painted.port2.postMessage(0); });
    times.push(performance.now() - begin);
    watch.disconnect();
  }
  return times;
}"""


def main() -> None:
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--moves", type=int, default=100)
    options = parser.parse_args()
    runs = [run for run in load_examples() if run.name.startswith("S-") and run.name.endswith("000")][:10]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "FIT.json"
        save_fits(path, fit_laws(lambda name: None, list(LAWS)[:6], tuple(runs), 100))
        command = [sys.executable, "-m", "lehr.cli.main", "studio", "--fit", str(path), "--json"]
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server,
            sync_playwright() as play,
        ):
            assert server.stdout is not None
            told = json.loads(server.stdout.readline())
            browser = play.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.goto(told["url"])
            page.wait_for_selector("html[data-ready]", state="attached", timeout=30_000)
            page.wait_for_timeout(3000)
            first = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime")
            print(f"first page after {first:.0f} ms")
            median, late = np.quantile(page.evaluate(MOVES, options.moves), [0.5, 0.95])
            print(f"a move of a slider: median {median:.0f} ms, 95 % within {late:.0f} ms")
            browser.close()
            server.terminate()


if __name__ == "__main__":
    main()
