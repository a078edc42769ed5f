"""A command line called in this process, and a store and a fit made by it once."""

import contextlib
import io
import json
import sys
from dataclasses import dataclass

import numpy as np
import pytest
from tests.synthetic import CASES, make_runs

from lehr.cli.main import main


@dataclass
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self):
        return json.loads(self.out)

    def refused(self, code=2):
        """Check that this is one message on stderr with the given exit code; return it."""
        assert self.code == code, self.err
        assert self.out == ""
        assert self.err.startswith("error: ") and self.err.count("error: ") == 1
        assert "Traceback" not in self.err
        return self.err


def call(*arguments):
    """Run `lehr` with `arguments` as its own process would."""
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = ["lehr", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                main()
                code = 0
            except SystemExit as stop:
                code = stop.code or 0
    finally:
        sys.argv = before
    return Outcome(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def lehr():
    return call


@pytest.fixture(scope="session")
def logs(tmp_path_factory):
    """CSV logs of runs that follow Tissue's law but for a little noise."""
    folder = tmp_path_factory.mktemp("logs")
    for run in make_runs(CASES["tissue"], noise=1e-4, every=100):
        if run.schedule.peak == 1e-3 or run.name.startswith("wsd"):
            lr = run.schedule.lr(np.minimum(run.step.astype(int), run.steps - 1))
            rows = zip(run.step.astype(int).tolist(), lr.tolist(), run.loss.tolist(), strict=True)
            name = run.name.replace(" ", "-")
            (folder / f"{name}.csv").write_text(
                "step,lr,loss\n" + "".join(f"{s},{r!r},{v!r}\n" for s, r, v in rows)
            )
    return folder


@pytest.fixture(scope="session")
def store(logs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "store"
    outcome = call("import", *sorted(logs.glob("*.csv")), "--into", folder)
    assert outcome.code == 0, outcome.err
    return folder


@pytest.fixture(scope="session")
def fit_file(store):
    path = store.parent / "fit.json"
    outcome = call("fit", store, "--law", "tissue", "--draws", 5, "--out", path)
    assert outcome.code == 0, outcome.err
    return path
