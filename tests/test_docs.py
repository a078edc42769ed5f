"""The documentation is executed: every Python block runs, every console command parses, every link leads somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from lehr.cli.main import app

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), flags=re.S | re.M)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_blocks_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "page"}
    for block in blocks(page, "python"):
        if "import torch" in block:
            pytest.importorskip("torch", reason=f"a block of {page.name} needs torch")
            pytest.importorskip("safetensors", reason=f"a block of {page.name} needs safetensors")
        exec(compile(block, page.name, "exec", dont_inherit=True), names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_console_commands_are_of_the_command_line(page: Path) -> None:
    root = get_command(app)
    for block in blocks(page, "console"):
        for line in block.splitlines():
            if not line.startswith("$ lehr "):
                continue
            verb, *arguments = shlex.split(line.removeprefix("$ lehr "))
            assert verb in root.commands, line
            root.commands[verb].make_context(verb, arguments, resilient_parsing=False)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_ci_runs_the_command_of_the_readme() -> None:
    command = blocks(ROOT / "README.md", "sh")[1].strip()
    assert command in (ROOT / ".ci" / "run").read_text()
    assert "pytest" in command
