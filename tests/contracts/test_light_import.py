"""Importing lehr, its command line or its values is quick: nothing slow is loaded before it is used."""

import subprocess
import sys

import pytest

SLOW = ("torch", "plotly", "matplotlib", "scipy", "duckdb", "pandas", "pyarrow", "jinja2")


def loaded(statement):
    """Names of top-level modules that a fresh interpreter has loaded after `statement`."""
    code = f"import sys\n{statement}\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", ["lehr", "lehr.cli.main"])
def test_nothing_slow_is_loaded(module):
    found = loaded(f"import {module}")
    assert "lehr" in found
    assert not found & set(SLOW)


def test_the_package_loads_no_numpy_and_the_help_neither():
    assert "numpy" not in loaded("import lehr")
    assert "numpy" not in loaded(
        "import sys, io\nsys.argv = ['lehr', '--help']\nsys.stdout = io.StringIO()\n"
        "from lehr.cli.main import main\ntry:\n    main()\nexcept SystemExit:\n    pass\nsys.stdout = sys.__stdout__"
    )


@pytest.mark.parametrize(
    "module", ["lehr.laws", "lehr.schedule.spec", "lehr.schedule.export", "lehr.runs.run"]
)
def test_laws_schedules_and_runs_load_numpy_alone(module):
    found = loaded(f"import {module}")
    assert "numpy" in found
    assert not found & set(SLOW)


@pytest.mark.parametrize("module", ["lehr.transfer.plan", "lehr.transfer.tables"])
def test_rules_of_transfer_load_nothing(module):
    assert not loaded(f"import {module}") & {*SLOW, "numpy"}


def test_the_check_sees_what_it_should():
    assert "scipy" in loaded("import scipy")
