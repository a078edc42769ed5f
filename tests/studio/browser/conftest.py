"""A studio on a port and Debian's Chromium, once for all tests of the page."""

import re
import shutil
import threading
import time

import numpy as np
import pytest
from tests.studio.conftest import TOKEN

pytest.importorskip("uvicorn", reason="the studio needs uvicorn")
sync = pytest.importorskip("playwright.sync_api", reason="tests of the page need playwright")

from lehr.cli.studio import encoders, sources_of  # noqa: E402
from lehr.runs.run import Run, RunSet  # noqa: E402
from lehr.schedule.families import constant, wsd  # noqa: E402
from lehr.studio.serve import Address, prepare  # noqa: E402
from lehr.studio.state import Sources, Studio  # noqa: E402

CHROMIUM = shutil.which("chromium")
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


@pytest.fixture(scope="session")
def server(fits):
    held = Studio(sources_of(None, ()), encoders())
    held.fits["given"] = fits
    running = served(held)
    yield running[0]
    ended(*running)


def live_and_hostile():
    step = np.arange(10.0, 601, 10)
    loss = 3 + 1.5 * step**-0.3
    return RunSet([
        Run(HOSTILE, constant(steps=600, peak=1e-3, warmup=20), step, loss),
        Run("in progress", wsd(steps=2000, peak=1e-3, warmup=20, decay=400), step, loss),
    ])  # fmt: skip


@pytest.fixture(scope="session")
def hostile_server(fits):
    held = Studio(Sources("<b>store</b>", live_and_hostile), encoders())
    held.fits["given"] = fits
    running = served(held)
    yield running[0]
    ended(*running)


@pytest.fixture(scope="module")  # its event loop would stand in the way of those of other tests
def browser():
    if CHROMIUM is None:
        pytest.skip("tests of the page need Debian's chromium")
    with sync.sync_playwright() as play:
        found = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


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


@pytest.fixture
def open_page(browser):
    """Opens pages; in the end none has complained, but of refusals, or asked another address."""
    opened, contexts = [], []

    def open_one(server, fragment="", **options):
        contexts.append(browser.new_context(**{"viewport": {"width": 1400, "height": 900}, **options}))
        opened.append(Opened(contexts[-1], server, fragment))
        return opened[-1]

    yield open_one
    for one in opened:
        assert not [text for text in one.complaints if not text.startswith(EXPECTED)]
        assert not [url for url in one.foreign if not url.startswith(("data:", "blob:"))]
    for context in contexts:
        context.close()
