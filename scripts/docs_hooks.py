"""Hooks of the documentation site (mkdocs.yml): pages that lie elsewhere, and texts as Python-Markdown reads them.

The README, CONTRIBUTING.md, SECURITY.md and CHANGELOG.md become pages, so that nothing is written twice; links between
them and `docs` are turned to where the pages lie in the site. The tutorial notebook becomes a page with its outputs
as they are stored: nothing is executed in building.
"""

from __future__ import annotations

import base64
import html
import json
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[1]
FROM_ROOT = {
    "README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}  # fmt: skip
NOTEBOOK, PAGE = "tutorial.ipynb", "tutorial.md"
LINK = re.compile(r"(\]\()([^)\s#:]+)((?:#[^)]*)?\))")


def on_files(files: Files, config: Any) -> Files:
    """Add the pages of the repository's root, and the notebook as a page."""
    for source, target in FROM_ROOT.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, target, content=LINK.sub(_from_root, text)))
    notebook = Path(config.docs_dir) / NOTEBOOK
    if notebook.exists():
        page, pictures = notebook_page(json.loads(notebook.read_text(encoding="utf-8")))
        files.append(File.generated(config, PAGE, content=page))
        for name, data in pictures.items():
            files.append(File.generated(config, name, content=data))
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Turn links out of `docs` to their pages, and write lists and comments as Python-Markdown reads them."""
    depth = "../" * page.file.src_uri.count("/")

    def inwards(found: re.Match[str]) -> str:
        target = found[2].rpartition("/")[2]
        if found[2] == f"{depth}../{target}" and target in FROM_ROOT:
            return f"{found[1]}{depth}{FROM_ROOT[target]}{found[3]}"
        return f"{found[1]}{found[2].replace(NOTEBOOK, PAGE)}{found[3]}"

    return for_python_markdown(LINK.sub(inwards, markdown))


def for_python_markdown(text: str) -> str:
    """The same text, with an empty line before each list that follows a paragraph, and without comments."""
    parts = re.split(r"(^```.*?^```$|^<pre.*?</pre>$)", text, flags=re.S | re.M)  # code stays as it is
    for place in range(0, len(parts), 2):
        bare = re.sub(r"^<!--.*?-->\n", "", parts[place], flags=re.M)
        parts[place] = re.sub(r"^(?![-*>#] |[|\s]|\d+\. )(.+)\n(?=- |1\. )", r"\1\n\n", bare, flags=re.M)
    return "".join(parts)


def _from_root(found: re.Match[str]) -> str:
    target = FROM_ROOT.get(found[2], found[2].removeprefix("docs/").replace(NOTEBOOK, PAGE))
    return f"{found[1]}{target}{found[3]}"


def notebook_page(notebook: dict[str, Any]) -> tuple[str, dict[str, bytes]]:
    """A notebook as Markdown with its stored outputs, and its pictures by file name."""
    parts, pictures = [], {}
    for number, cell in enumerate(notebook["cells"]):
        source = "".join(cell["source"])
        if cell["cell_type"] == "markdown":
            parts.append(source)
            continue
        parts.append(f"```python\n{source}\n```")
        for output in cell["outputs"]:
            if output["output_type"] == "stream":
                parts.append(_printed(output["text"]))
                continue
            data = output["data"]
            if "image/png" in data:
                name = f"tutorial-{number}.png"
                pictures[name] = base64.b64decode("".join(data["image/png"]))
                parts.append(f"![{cell['metadata']['alt']}]({name})")
            elif "text/html" in data:
                parts.append(f'<div class="lehr-output">{"".join(data["text/html"])}</div>')
            else:
                parts.append(_printed(data["text/plain"]))
    return "\n\n".join(parts) + "\n", pictures


def _printed(lines: list[str] | str) -> str:
    """Text that a cell printed; long lines are broken, where those of code are not."""
    return f'<pre class="lehr-text"><code>{html.escape("".join(lines).rstrip())}</code></pre>'
