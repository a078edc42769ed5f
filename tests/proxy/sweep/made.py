"""Sweeps of commands that copy a log: they take milliseconds and need no torch."""

import sys
import time

from lehr.proxy.sweep.beat import Beat
from lehr.proxy.sweep.jobs import write_plan
from lehr.proxy.sweep.outcome import read_outcome
from lehr.proxy.sweep.planning import plan_sweep
from lehr.proxy.sweep.queue import Queue
from lehr.proxy.sweep.spec import SweepSpec, load_sweep
from lehr.proxy.sweep.worker import one_round

MODEL = {"depth": 1, "width": 16, "heads": 2, "context": 16}
TRAINING = {"schedule": "constant(steps=24, peak={peak_lr}, warmup=4)", "batch": 4}


def spec(**tables):
    """A sweep of own trainings over two LRs; None leaves a table out."""
    values = {
        "name": "s", "model": MODEL, "data": {"vocab_size": 32}, "training": TRAINING,
        "grid": {"peak_lr": [1e-2, 2e-2]}, **tables,
    }  # fmt: skip
    return SweepSpec.model_validate({key: value for key, value in values.items() if value is not None})


def planned(**tables):
    return plan_sweep(spec(**tables), "S.toml").plan


def log_lines(steps=10, loss="2.5000"):
    """What nanoGPT prints."""
    return f"step 0: train loss 4.0000, val loss 4.0000\nstep {steps}: train loss {loss}, val loss {loss}\n"


def commands(folder, run, grid="lr = [1e-3, 2e-3]", more="", training=""):
    """Write the SWEEP.toml of a command."""
    path = folder / "SWEEP.toml"
    path.write_text(
        f'name = "c"\n[training]\nschedule = "constant(steps=10, peak={{lr}})"\n{training}\n'
        f"[command]\nrun = '''{run}'''\n{more}\n[grid]\n{grid}\n"
    )
    return path


def laid(folder, path):
    """Queue and plan of a SWEEP.toml, written into `folder`/sweep."""
    queue = Queue(folder / "sweep")
    plan = plan_sweep(load_sweep(path), str(path), queue).plan
    queue.make()
    write_plan(queue.folder, plan)
    return queue, plan


def worked(queue, plan):
    """Do what can be done in this process; outcomes by name."""
    beat = Beat(queue)
    try:
        while one_round(queue, plan, beat)[0]:
            pass
    finally:
        beat.close()
    states = queue.ended()
    return {
        j.name: read_outcome(queue, j.address, states[j.address]) for j in plan.jobs if j.address in states
    }


# notes every go in a file, takes a little while, then logs
SLOW = (
    "import sys, time, shutil\nopen(sys.argv[3], 'a').write(sys.argv[4] + '\\n')\n"
    "time.sleep(0.2)\nshutil.copy(sys.argv[1], sys.argv[2])\n"
)


def slow(tmp_path, number):
    """A sweep of so many commands that note that they began."""
    (tmp_path / "slow.py").write_text(SLOW)
    (tmp_path / "sample.log").write_text(log_lines())
    run = f"{sys.executable} -S {tmp_path}/slow.py {tmp_path}/sample.log {{out}} {tmp_path}/begun {{number}}"
    grid = f"lr = [1e-3]\nnumber = [{', '.join(map(str, range(number)))}]"
    # kills that hit one run again and again would end it as failed
    return laid(tmp_path, commands(tmp_path, run, grid=grid, more="[budget]\ndeaths = 1000"))


def waited(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def begun(tmp_path):
    return sorted(map(int, (tmp_path / "begun").read_text().split())) if (tmp_path / "begun").exists() else []


def workers(queue):
    """Processes that hold a claim."""
    return {int(owner.split("-")[1]) for owner in queue.claimed().values()}
