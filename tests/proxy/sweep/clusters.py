"""What is asked of every engine of a cluster, by whatever kills its workers."""

import contextlib
import os
import random
import signal
import subprocess
import time

import pytest
from tests.proxy.sweep.made import begun, commands, laid, log_lines, rows_of, slow, spec, waited, workers

from lehr.errors import ResultError
from lehr.proxy.sweep.driver import drive
from lehr.proxy.sweep.jobs import write_plan
from lehr.proxy.sweep.local import LocalEngine
from lehr.proxy.sweep.planning import plan_sweep
from lehr.proxy.sweep.queue import Queue


def ends_every_run_once(queue, plan):
    """Whether each run is done and has one result; tells those that are not."""
    states = queue.ended()
    assert {j.name: s for j in plan.jobs if (s := states.get(j.address)) != "done"} == {}
    results = {j.name: len(list(queue.run_folder(j.address).glob("result-*"))) for j in plan.jobs}
    assert {name: count for name, count in results.items() if count != 1} == {}
    return True


def kills_are_survived(tmp_path, make, runs=40, kills=8):
    """Kill workers at random while a sweep is driven in this process."""
    queue, plan = slow(tmp_path, runs)
    rng, killed = random.Random(0), [0]

    def look(seen):
        found = sorted(workers(queue))
        for pid in rng.sample(found, min(len(found), 2, kills - killed[0])):
            with contextlib.suppress(ProcessLookupError):  # it may have gone since
                os.kill(pid, signal.SIGKILL)
                killed[0] += 1

    drive(queue, plan, make(queue.folder), look=look)
    assert killed[0] == kills and ends_every_run_once(queue, plan)
    assert set(begun(tmp_path)) == set(range(runs)) and len(begun(tmp_path)) <= runs + kills


def told_to_stop_it_goes_on_later(tmp_path, make):
    queue, plan = slow(tmp_path, 60)
    seen = drive(queue, plan, make(queue.folder), stop=lambda: len(queue.ended()) >= 2)
    assert seen.stopped and not queue.claimed()
    assert 2 <= len(seen.ended) < 60
    time.sleep(0.5)
    assert not queue.claimed(), "no worker is left"
    assert not drive(queue, plan, make(queue.folder)).stopped and ends_every_run_once(queue, plan)


def two_drivers_share(tmp_path, start):
    """`start` begins a driver as a process."""
    queue, plan = slow(tmp_path, 12)
    both = [start(queue) for _ in range(2)]
    assert [each.communicate(timeout=120)[1] for each in both] == [b"", b""]
    assert {each.returncode for each in both} == {0}
    assert begun(tmp_path) == list(range(12)) and ends_every_run_once(queue, plan)


def a_killed_driver_is_followed_by_another(tmp_path, start):
    queue, plan = slow(tmp_path, 16)
    first = start(queue)
    waited(lambda: len(queue.ended()) >= 2)
    first.kill()
    first.communicate()
    assert len(queue.ended()) < 16
    second = start(queue)
    assert second.communicate(timeout=120)[1] == b"" and second.returncode == 0
    assert ends_every_run_once(queue, plan) and len(begun(tmp_path)) <= 16 + 4


def has_the_curves_of_the_local_engine(tmp_path, make):
    """Two trunks and six cooldowns, row for row."""
    rows = []
    for name, engine in (("local", lambda folder: LocalEngine(folder, 1)), ("cluster", make)):
        queue = Queue(tmp_path / name)
        plan = plan_sweep(spec(cooldowns={"ratios": (0.25, 0.5, 0.7)}), "S.toml", queue).plan
        queue.make()
        write_plan(queue.folder, plan)
        drive(queue, plan, engine(queue.folder))
        assert len(plan.jobs) == 8 and ends_every_run_once(queue, plan)
        rows.append(rows_of(queue, plan))
    assert rows[0] == rows[1]


def a_full_disk_stops_everything_and_blames_no_run(tmp_path, make):
    """On a file system of 4 MiB that fills up while runs are at work; once there is space, the same goes on.

    Either a worker or the driver, which writes the table of results, is the first to notice.
    """
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", small], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs to mount a small file system")
    try:
        queue, plan = slow(small, 40)

        def fill(seen):
            if len(seen.ended) >= 3 and not (small / "ballast").exists():
                with contextlib.suppress(OSError), (small / "ballast").open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(4096))

        with pytest.raises(
            ResultError, match="takes no more: free some space; the same|No space left on dev"
        ):
            drive(queue, plan, make(queue.folder), look=fill)
        assert 3 <= len(queue.ended()) < 40 and set(queue.ended().values()) == {"done"}
        (small / "ballast").unlink()
        drive(queue, plan, make(queue.folder))
        assert ends_every_run_once(queue, plan)
    finally:
        subprocess.run(["umount", "--lazy", small], check=True)


def failures_and_losses_that_are_none_end_their_runs_alone(tmp_path, make):
    """A command that fails, one that logs NaN, and one that is well."""
    (tmp_path / "good.log").write_text(log_lines())
    (tmp_path / "nan.log").write_text(log_lines(loss="nan"))
    run = f"sh -c 'cp {tmp_path}/{{kind}}.log {{out}}/train.log'"
    queue, plan = laid(tmp_path, commands(tmp_path, run, grid='lr = [1e-3]\nkind = ["good", "nan", "none"]'))
    drive(queue, plan, make(queue.folder))
    states = queue.ended()
    assert [states[job.address] for job in plan.jobs] == ["done", "diverged", "failed"]
