"""Studios on a port and pages opened on them; imported by tests that need playwright."""

import re
import threading
import time

import numpy as np
from playwright import sync_api as sync
from tests.studio.asking import TOKEN

from lehr.cli.studio import encoders, sources_of
from lehr.peaklr.sweep_fit import load_sweep_fit
from lehr.runs.run import Run, RunSet
from lehr.schedule.families import constant, wsd
from lehr.studio.serve import Address, prepare
from lehr.studio.state import Sources, Studio

HOSTILE = "<script>window.bad=1</script><img src=x onerror=window.bad=1>"
EXPECTED = (
    "Failed to load resource: the server responded with a status of 4"  # of refusals that a test asks for
)


def served(studio):
    prepared = prepare(studio, Address(token=TOKEN))
    thread = threading.Thread(target=prepared.run)
    thread.start()
    while not prepared.server.started:
        time.sleep(0.01)
    return prepared, thread


def ended(prepared, thread):
    prepared.stop()
    thread.join(20)
    assert not thread.is_alive()


def live_and_hostile():
    step = np.arange(10.0, 601, 10)
    loss = 3 + 1.5 * step**-0.3
    return RunSet([
        Run(HOSTILE, constant(steps=600, peak=1e-3, warmup=20), step, loss),
        Run("in progress", wsd(steps=2000, peak=1e-3, warmup=20, decay=400), step, loss),
    ])  # fmt: skip


class Opened:
    """A page, what it complained of, and which addresses it asked."""

    def __init__(self, context, server, fragment=""):
        self.complaints, self.foreign = [], []
        self.page = context.new_page()
        self.page.on(
            "console", lambda m: self.complaints.append(m.text) if m.type in ("error", "warning") else None
        )
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on(
            "request", lambda r: None if r.url.startswith(server.url) else self.foreign.append(r.url)
        )
        self.page.goto(f"{server.url}?token={TOKEN}{fragment}")
        self.expect("html").to_have_attribute("data-ready", "yes", timeout=30_000)

    def expect(self, selector):
        return sync.expect(self.page.locator(selector))

    def settled(self):
        """The headline, once its band is exact."""
        self.expect("#summary").to_have_text(re.compile(r"90 % band \d"), timeout=30_000)
        return self.page.text_content("#summary")


def bundled(fits, sweep_path):
    """A studio over the bundled runs, with a fitted sweep of peak LRs."""
    held = Studio(sources_of(None, ()), encoders(), sweep=load_sweep_fit(sweep_path))
    held.fits["given"] = fits
    return served(held)


def strange(fits):
    """A studio over a run with a hostile name and one in progress."""
    held = Studio(Sources("<b>store</b>", live_and_hostile), encoders())
    held.fits["given"] = fits
    return served(held)
