"""What is asked of every engine of a cluster, by whatever kills its workers."""

import contextlib
import os
import random
import signal
import time

from tests.proxy.sweep.made import begun, slow, waited, workers

from lehr.proxy.sweep.driver import drive


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
