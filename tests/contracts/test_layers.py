"""Imports go only downwards, as docs/architecture.md lays the layers out, and never in a circle."""

import ast
import itertools
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src"
# each may import itself and what its row names; everything may import errors, units, quantiles and the package itself
ALLOWED = {
    "errors": (),
    "quantiles": (),
    "drawing": (),
    "units": ("errors",),
    "files": ("errors",),
    "schedule": (),
    "runs": ("schedule", "files"),
    "laws": ("schedule",),
    "fit": ("laws", "runs", "schedule", "files"),
    "predict": ("fit", "laws", "runs", "schedule"),
    "anneal": ("predict", "fit", "laws", "runs", "schedule"),
    "peaklr": ("runs", "schedule", "files"),
    "report": ("anneal", "peaklr", "predict", "fit", "laws", "runs", "schedule", "files", "transfer"),
    "examples": ("proxy", "runs", "schedule"),
    "checkpoints": ("files",),
    "transfer": (),
    "proxy": ("transfer", "fit", "laws", "runs", "schedule", "files"),  # fit and laws: sweep/fitting.py alone
    "studio": ("anneal", "peaklr", "predict", "fit", "laws", "runs", "schedule", "files", "transfer"),
    "cli": (
        "studio",
        "report",
        "anneal",
        "peaklr",
        "predict",
        "fit",
        "laws",
        "runs",
        "schedule",
        "files",
        "examples",
        "checkpoints",
        "transfer",
        "proxy",
    ),
}
ACT_ON_MODULES = (
    "lehr.transfer.apply",
    "lehr.transfer.adapters",
    "lehr.transfer.coordcheck",
)  # the rules themselves need no torch
ALWAYS = {"errors", "units", "quantiles", "drawing", ""}


def modules():
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(SRC.rglob("*.py")):
        parts = path.relative_to(SRC).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports(path, names=MODULES, typing=False):
    """Modules of the package that the module at `path` imports, those only for type checkers aside."""
    tree = ast.parse(path.read_text())
    skipped = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING" and not typing:
            skipped |= {id(inner) for part in node.body for inner in ast.walk(part)}
    found = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name in names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found |= {whole if whole in names else node.module} & names.keys()
    return found


def layer(module):
    """First part of a module's name below the package; empty for the package itself."""
    return module.partition(".")[2].partition(".")[0]


def test_every_module_belongs_to_a_layer():
    assert {layer(name) for name in MODULES} - {""} <= ALLOWED.keys()
    assert len(MODULES) > 40


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_downwards(name):
    own = layer(name)
    allowed = ALWAYS | {own, *ALLOWED.get(own, ())}
    upwards = {other for other in imports(MODULES[name]) if layer(other) not in allowed}
    assert not upwards


def test_the_package_itself_and_its_errors_import_nothing_of_it():
    for name, path in MODULES.items():
        if layer(name) in ("", "errors"):
            assert not imports(path), name


def test_no_module_imports_itself_in_a_circle():
    """Kahn's algorithm: take away what imports nothing that is left, until nothing is."""
    left = {name: {other for other in imports(path) if other != name} for name, path in MODULES.items()}
    while free := [name for name, needs in left.items() if not needs & left.keys()]:
        for name in free:
            del left[name]
    assert not left


def test_the_layers_themselves_have_no_circle():
    for a, b in itertools.permutations(ALLOWED, 2):
        assert not (b in ALLOWED[a] and a in ALLOWED[b]), f"{a} and {b} import each other"


def test_the_check_sees_what_it_should(tmp_path):
    """The parser itself: plain, from-module, from-package and type-only imports, also inside functions."""
    path = tmp_path / "module.py"
    path.write_text(
        "import lehr.units\nfrom lehr.errors import bad\nfrom lehr import fit\nimport numpy\n"
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from lehr.cli import main\n"
        "def f():\n    from lehr.laws.tissue import Tissue\n"
    )
    plain = {"lehr.units", "lehr.errors", "lehr.fit", "lehr.laws.tissue"}
    assert imports(path) == plain
    assert imports(path, typing=True) == plain | {"lehr.cli.main"}


def test_of_proxy_the_jobs_of_comparisons_alone_see_fits_and_laws():
    seen = {
        name for name, path in MODULES.items()
        if layer(name) == "proxy" and {layer(other) for other in imports(path)} & {"fit", "laws"}
    }  # fmt: skip
    assert seen == {"lehr.proxy.sweep.fitting"}


def test_laws_never_see_runs_files_or_fits():
    for name, path in MODULES.items():
        if layer(name) == "laws":
            assert {layer(other) for other in imports(path)} <= {"laws", "schedule", "errors"}


def test_no_torch_outside_training():
    for name, path in MODULES.items():
        of_rules = layer(name) == "transfer" and not name.startswith(ACT_ON_MODULES)
        if of_rules or layer(name) not in ("transfer", "proxy", "checkpoints"):
            tree = ast.parse(path.read_text())
            named = {a.name for node in ast.walk(tree) if isinstance(node, ast.Import) for a in node.names}
            named |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
            assert not any(module and module.split(".")[0] == "torch" for module in named), name
