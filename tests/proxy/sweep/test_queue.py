"""The queue: each claim, end and taking over has one winner, however many try."""

import multiprocessing
import os
import subprocess
import sys
import time

import pytest

from lehr.proxy.sweep import queue as module
from lehr.proxy.sweep.queue import Queue, alive, new_owner, started

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="several processes are forked")


@pytest.fixture
def queue(tmp_path):
    made = Queue(tmp_path)
    made.make()
    return made


def dead_owner():
    """Name of an owner whose process has ended."""
    code = "from lehr.proxy.sweep.queue import new_owner; print(new_owner())"
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()


def give_to(queue, address, owner):
    (queue.folder / "claims" / address).mkdir(exist_ok=True)
    (queue.folder / "claims" / address / owner).write_text(owner)


def test_a_run_is_claimed_once_and_ends_once(queue):
    claim = queue.claim("a")
    assert queue.claim("a") is None and queue.claimed() == {"a": claim.owner}
    assert claim.touch() and claim.end("done")
    assert queue.ended() == {"a": "done"} and queue.claimed() == {} and queue.state("a") == "done"
    assert queue.ended_by("a", "done") == claim.owner
    assert queue.claim("a") is None and not claim.end("failed") and queue.ended() == {"a": "done"}


def test_what_is_let_go_of_waits_again(queue):
    queue.claim("a").release()
    assert queue.claimed() == {} and os.listdir(queue.folder / "claims") == []
    assert queue.claim("a") is not None


def test_a_run_of_a_dead_owner_is_taken_over_and_its_old_owner_cannot_end_it(queue):
    owner = dead_owner()
    assert alive(owner) is False
    give_to(queue, "a", owner)
    old = module.Claim(queue.folder, "a", owner)
    new = queue.claim("a")
    assert new.taken_over and new.path.read_text() == new.owner
    assert not old.touch() and not old.end("done") and queue.ended() == {}
    old.release()
    assert new.touch() and new.end("failed") and queue.ended() == {"a": "failed"}


def test_a_living_owner_is_never_robbed_however_long_it_is_silent(tmp_path):
    queue = Queue(tmp_path, lease=0.0)
    queue.make()
    claim = queue.claim("a")
    os.utime(claim.path, (0, 0))
    assert queue.claim("a") is None and alive(claim.owner)


def test_an_owner_elsewhere_is_robbed_after_a_lease_without_a_sign_by_the_observers_clock(
    tmp_path, monkeypatch
):
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    queue = Queue(tmp_path, lease=60.0)
    queue.make()
    give_to(queue, "a", "0123456789ab-1-2-cafe")
    path = queue.folder / "claims" / "a" / "0123456789ab-1-2-cafe"
    os.utime(path, (0, 0))  # its clock may say what it likes
    assert queue.claim("a") is None
    now[0] += 59.0
    os.utime(path, (5, 5))  # a sign of life
    assert queue.claim("a") is None
    now[0] += 59.0
    assert queue.claim("a") is None
    now[0] += 1.0
    assert queue.claim("a").taken_over


def test_a_process_number_that_was_given_again_is_another_process():
    owner = new_owner()
    machine, pid, ticks, token = owner.split("-")
    assert alive(owner) is True
    assert alive(f"{machine}-{pid}-{int(ticks) + 1}-{token}") is False
    assert alive(f"other-{pid}-{ticks}-{token}") is None
    assert started(2**22 + 1) == ""


def race(folder, barrier, wins):
    queue = Queue(folder)
    barrier.wait()
    for number in range(100):
        claim = queue.claim(f"run{number}")
        if claim and claim.end("done"):
            wins.put(number)


def test_of_four_processes_one_ends_each_of_a_hundred_runs(queue):
    context = multiprocessing.get_context("spawn")
    barrier, wins = context.Barrier(4), context.Queue()
    processes = [context.Process(target=race, args=(queue.folder, barrier, wins)) for _ in range(4)]
    for process in processes:
        process.start()
    found = sorted(wins.get(timeout=60) for _ in range(100))
    for process in processes:
        process.join()
        process.close()
    assert found == list(range(100)) and wins.empty()
    wins.close()
    assert queue.ended() == {f"run{number}": "done" for number in range(100)}
    assert os.listdir(queue.folder / "claims") == []


def test_a_claim_that_meets_an_end_in_between_is_given_back(queue, monkeypatch):
    other = queue.claim("a")
    take = Queue._take_free

    def late(self, address, owner):
        other.end("done")  # the moment between the look and the claim
        return take(self, address, owner)

    monkeypatch.setattr(Queue, "_take_free", late)
    assert queue.claim("a") is None
    assert queue.ended() == {"a": "done"} and queue.claimed() == {}


def test_half_made_claims_of_the_dead_are_cleared_away_and_those_of_the_living_are_not(queue):
    dead, living = (queue.folder / "claims" / f".{owner}" for owner in (dead_owner(), new_owner()))
    dead.mkdir()
    living.mkdir()
    queue.make()
    assert not dead.exists() and living.exists() and queue.claimed() == {}


def test_cancelling_ends_what_waits_and_asks_what_runs(queue):
    claim = queue.claim("running")
    queue.ask_cancel(["waiting", "running"])
    assert queue.ended() == {"waiting": "cancelled"}
    assert queue.cancelling("running") and claim.touch()
    assert claim.end("cancelled")
    assert queue.retry("running") and not queue.cancelling("running") and queue.state("running") is None


def test_what_is_done_or_has_not_ended_is_not_tried_again(queue):
    queue.claim("a").end("done")
    assert not queue.retry("a") and not queue.retry("b")
    assert queue.ended() == {"a": "done"}


def test_a_disk_that_refuses_a_claim_is_no_competitor(queue, monkeypatch):
    def full(*arguments, **named):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module.Path, "mkdir", full)
    with pytest.raises(OSError, match="No space left"):
        queue.claim("a")


def test_ten_thousand_ends_are_read_in_a_moment(queue):
    for number in range(10_000):
        (queue.folder / "ended" / f"{number:020x}.done").touch()
    begin = time.perf_counter()
    assert len(queue.ended()) == 10_000
    assert time.perf_counter() - begin < 1.0
