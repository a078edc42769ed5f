"""Debian's Chromium and two studios, once for all tests of the page; imported when a test asks."""

import shutil

import pytest


@pytest.fixture(scope="session")
def server(fits, sweep_path):
    from tests.studio.browser.opening import bundled, ended

    running = bundled(fits, sweep_path)
    yield running[0]
    ended(*running)


@pytest.fixture(scope="session")
def hostile_server(fits):
    from tests.studio.browser.opening import ended, strange

    running = strange(fits)
    yield running[0]
    ended(*running)


@pytest.fixture(scope="module")  # its event loop would stand in the way of those of other tests
def browser():
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("tests of the page need Debian's chromium")
    with sync_playwright() as play:
        found = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture
def open_page(browser):
    """Opens pages; in the end none has complained, but of refusals, or asked another address."""
    from tests.studio.browser.opening import EXPECTED, Opened

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
