"""Small runs by the dozen, and what a store of them should hold."""

import numpy as np

from lehr.runs import store
from lehr.runs.run import Run
from lehr.runs.store import list_runs, load_runs
from lehr.schedule.families import wsd

MANY = store.SHARED_FROM


def make(name, version=1, **more):
    step = np.arange(0, 101, 10 + version)
    schedule = wsd(steps=100, peak=1e-3, warmup=10, decay=20)
    return Run(name, schedule, step, version + 1 / (step + len(name)), **more)


def many(count=MANY, version=1, first=0):
    return [make(f"run-{index:04d}", version) for index in range(first, first + count)]


def files(folder):
    return sorted(path.name for path in (folder / "runs").iterdir())


def same(folder, runs):
    """Check that the store holds exactly `runs`."""
    loaded, wanted = load_runs(folder), {run.name: run for run in runs}
    assert set(loaded.names) == set(wanted)
    assert [record["name"] for record in list_runs(folder)] == sorted(wanted)
    for run in loaded:
        assert run.fingerprint() == wanted[run.name].fingerprint()
        assert np.array_equal(run.loss, wanted[run.name].loss)
        assert dict(run.meta) == dict(wanted[run.name].meta)
