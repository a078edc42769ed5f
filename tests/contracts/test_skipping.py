"""`--still-skipped` runs what was skipped, once it can run, and nothing else; with several processes as with one."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[2]
PARTLY = "import pytest\ndef test_a(): pass\n" + "".join(
    f"def test_{name}(): pytest.importorskip('{name}_of_lehr')\n" for name in ("first", "second")
)
WHOLE = "import pytest\npytest.importorskip('first_of_lehr')\ndef test_b(): pass\ndef test_c(): pass\n"


@pytest.mark.parametrize("workers", ["0", "2"])
def test_what_was_skipped_runs_once_it_can(tmp_path, workers):
    def ran(*arguments):
        own = f"--basetemp={tmp_path / 'made'}"  # pytest would tidy up behind other sessions, and may fail at it
        command = [sys.executable, "-m", "pytest", "-q", "-n", workers, own, *arguments]
        environment = {**os.environ, "PYTHONPATH": f"{REPO}{os.pathsep}{tmp_path}", "PYTEST_ADDOPTS": ""}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.splitlines()[-1].rpartition(" in ")[0]

    shutil.copy(REPO / "tests" / "conftest.py", tmp_path)
    (tmp_path / "pytest.ini").write_text("[pytest]\n")
    (tmp_path / "test_partly.py").write_text(PARTLY)
    (tmp_path / "test_whole.py").write_text(WHOLE)
    assert ran() == "1 passed, 3 skipped"
    (tmp_path / "first_of_lehr.py").touch()
    deselected = "" if workers == "2" else ", {} deselected"
    assert ran("--still-skipped") == f"3 passed, 1 skipped{deselected.format(1)}"
    assert ran("--still-skipped") == f"1 skipped{deselected.format(2)}"
    (tmp_path / "second_of_lehr.py").touch()
    assert ran("--still-skipped") == f"1 passed{deselected.format(2)}"
    assert ran("--still-skipped") == "no tests ran"
