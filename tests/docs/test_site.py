"""The site: every page is in the navigation, every public name in the API; and, where MkDocs is installed, a build."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

import lehr

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
SETTINGS = (ROOT / "mkdocs.yml").read_text()
NAV = re.findall(r"^ +- (?:[^:\n]+: )?(\S+\.md)$", SETTINGS[SETTINGS.index("\nnav:") :], re.M)
MADE = {
    "index.md",
    "tutorial.md",
    "contributing.md",
    "security.md",
    "changelog.md",
}  # by scripts/docs_hooks.py


def test_every_page_is_in_the_navigation_once():
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert sorted(NAV) == sorted(pages | MADE)


def test_every_public_name_is_on_an_api_page_under_its_own_name():
    shown = {}
    for page in sorted((DOCS / "api").glob("*.md")):
        for path, name in re.findall(
            r"^::: (\S+)\n    options:\n      heading: lehr\.(\w+)$", page.read_text(), re.M
        ):
            assert name not in shown, f"{name} is shown twice"
            shown[name] = path
    assert shown == {name: place.replace(":", ".") for name, place in lehr._PUBLIC.items()}


class Loaded(HTMLParser):
    """What a page loads, as against what it links to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value and (name == "src" or (tag == "link" and name == "href")):
                self.addresses.append(value)


def test_loaded_sees_scripts_and_styles_but_no_links():
    page = '<a href="https://a"><link rel="stylesheet" href="https://b"><script src="//c"></script><img src="d.png">'
    assert Loaded(page).addresses == ["https://b", "//c", "d.png"]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The folder of the built site; a warning fails the build, as `mkdocs build --strict` has it."""
    pytest.importorskip("material", reason="the site needs the extra docs")
    pytest.importorskip("mkdocstrings_handlers.python", reason="the site needs the extra docs")
    import subprocess
    import sys

    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(out)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return out


def test_the_site_loads_nothing_from_elsewhere(site):
    pages = sorted(site.rglob("*.html"))
    assert len(pages) >= len(NAV)
    for page in pages:
        for address in Loaded(page.read_text()).addresses:
            assert not re.match(r"(?:\w+:)?//", address), f"{page.name} loads {address}"
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import )[\"']?(?:https?:)?//", style.read_text()), style.name


def test_tables_and_lists_became_tables_and_lists(site):
    """Python-Markdown leaves as text what does not follow its rules."""
    for page in sorted(site.rglob("*.html")):
        body = re.sub(r"<(pre|code|script|style)\b.*?</\1>", "", page.read_text(), flags=re.S)
        assert "| ---" not in body, page.name
        assert not re.search(r"^- \w", body, re.M), page.name
        assert ":::" not in body, page.name


def test_links_to_the_root_and_the_notebook_lead_to_their_pages(site):
    assert 'href="contributing.html"' in (site / "architecture.html").read_text()
    start = (site / "index.html").read_text()
    assert 'href="tutorial.html"' in start and 'src="demo.png"' in start
    tutorial = (site / "tutorial.html").read_text()
    assert "lehr-value" in tutorial and (site / "tutorial.html").stat().st_size < 400_000


def test_docstrings_are_shown_with_types_and_words(site):
    page = (site / "api" / "answers.html").read_text()
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", page))
    assert "lehr.recommend_ratio" in text
    assert re.search(r"peak ?\( ?float ?\) – the planned run", text), "the type of another name of its group"
    assert re.search(r"result ?\( ?FitResult ?\) – a fit; with draws the interval", text), (
        "no words for a parameter"
    )
