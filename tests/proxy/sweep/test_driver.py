"""The driver and the local engine: killed, doubled or started again, they end every run once."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

import pytest
from tests.proxy.sweep.made import begun, commands, driver, laid, slow, waited, worked, workers

from lehr.errors import ResultError
from lehr.proxy.sweep import local
from lehr.proxy.sweep.driver import drive
from lehr.proxy.sweep.jobs import write_plan
from lehr.proxy.sweep.local import LocalEngine, visible_gpus
from lehr.proxy.sweep.outcome import Outcome, write_outcome
from lehr.proxy.sweep.results import store_runs
from lehr.runs.store import load_runs

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="commands of Linux")


def workers_of(driver):
    """Processes that were started by a driver, whether they hold a claim or are between two."""
    told, found = f"\0--parent\0{driver}\0".encode(), []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has gone since
            if told in path.read_bytes():
                found.append(int(path.parent.name))
    return found


def test_results_stream_into_the_store_while_others_train(tmp_path):
    queue, plan = slow(tmp_path, 4)
    told = []
    seen = drive(
        queue,
        plan,
        LocalEngine(queue.folder, 2),
        store=tmp_path / "store",
        tell=lambda job, end: told.append(job.name),
    )
    assert sorted(told) == sorted(job.name for job in plan.jobs) and seen.refused == {}
    assert load_runs(tmp_path / "store").names == tuple(sorted(told))
    assert begun(tmp_path) == [0, 1, 2, 3]
    assert (queue.folder / "results.csv").read_text().count("\n") == 5


def test_two_drivers_do_not_double_the_work(tmp_path):
    queue, plan = slow(tmp_path, 8)
    both = [driver(queue) for _ in range(2)]
    assert [each.communicate(timeout=120)[1] for each in both] == [b"", b""] and {
        each.returncode for each in both
    } == {0}
    assert begun(tmp_path) == list(range(8)) and set(queue.ended().values()) == {"done"}


def test_a_driver_that_was_killed_and_started_again_ends_every_run_once(tmp_path):
    queue, plan = slow(tmp_path, 20)
    first = driver(queue)
    waited(lambda: len(queue.ended()) >= 2)
    assert workers_of(first.pid)
    first.kill()
    first.communicate()
    waited(lambda: not workers_of(first.pid))  # they finish what they have in hand, and go
    assert not queue.claimed() and 2 <= len(queue.ended()) < 20
    second = driver(queue)
    assert second.communicate(timeout=120)[1] == b"" and second.returncode == 0
    assert begun(tmp_path) == list(range(20)) and set(queue.ended().values()) == {"done"}


def test_a_worker_that_is_killed_is_replaced_and_its_run_taken_over(tmp_path):
    queue, plan = slow(tmp_path, 12)
    one, killed = driver(queue), 0
    try:
        while killed < 2:
            waited(lambda: workers(queue) or len(queue.ended()) == 12)
            assert len(queue.ended()) < 12, "the sweep ended before two workers could be killed"
            for pid in list(workers(queue))[:1]:
                with contextlib.suppress(ProcessLookupError):  # it may have gone since
                    os.kill(pid, signal.SIGKILL)
                    killed += 1
            time.sleep(0.1)
    finally:
        said = one.communicate(timeout=120)[1]
    assert said == b"" and one.returncode == 0
    assert set(queue.ended().values()) == {"done"} and set(begun(tmp_path)) == set(range(12))
    assert len(begun(tmp_path)) <= 14, "only what was killed is done again"
    assert all(len(list(queue.run_folder(job.address).glob("result-*"))) == 1 for job in plan.jobs)


def test_what_a_worker_wrote_that_died_before_it_could_end_the_run_is_removed(tmp_path):
    queue, plan = slow(tmp_path, 1)
    address = plan.jobs[0].address
    queue.run_folder(address).mkdir()
    claim = queue.claim(address)
    write_outcome(claim, Outcome("done", loss=1.0))
    machine, pid, _, token = claim.owner.split("-")
    claim.path.rename(claim.path.with_name(f"{machine}-{pid}-1-{token}"))  # an owner of long ago
    assert worked(queue, plan)[plan.jobs[0].name].loss == 2.5
    assert [path.name for path in queue.run_folder(address).glob("result-*")] == [
        f"result-{queue.ended_by(address, 'done')}.json"
    ]


def test_told_to_stop_it_stops_and_goes_on_later(tmp_path):
    queue, plan = slow(tmp_path, 16)
    seen = drive(queue, plan, LocalEngine(queue.folder, 1), stop=lambda: len(queue.ended()) >= 2)
    assert seen.stopped and 2 <= len(seen.ended) < 16 and not queue.claimed()
    assert not drive(queue, plan, LocalEngine(queue.folder, 1)).stopped and set(queue.ended().values()) == {
        "done"
    }


def test_a_store_that_cannot_be_written_does_not_stop_the_training(tmp_path):
    queue, plan = slow(tmp_path, 2)
    (tmp_path / "store").write_text("a file")
    seen = drive(queue, plan, LocalEngine(queue.folder, 1), store=tmp_path / "store")
    assert len(seen.ended) == 2 and list(seen.refused) == [str(tmp_path / "store")]


def test_workers_that_cannot_work_are_given_up_on_with_the_reason(tmp_path, monkeypatch):
    queue, plan = slow(tmp_path, 2)
    monkeypatch.setattr(local.sys, "executable", "false")
    with pytest.raises(ResultError, match=r"workers end with exit code 1; the end of .*workers.txt says why"):
        drive(queue, plan, LocalEngine(queue.folder, 1))
    monkeypatch.setattr(local, "DISK_FULL", 1)
    with pytest.raises(
        ResultError, match="the disk of .* takes no more: free some space; the same command goes on"
    ):
        drive(queue, plan, LocalEngine(queue.folder, 1))


def test_a_worker_says_that_the_disk_takes_no_more_and_blames_no_run(tmp_path, monkeypatch, capsys):
    from lehr.proxy.sweep import outcome, worker

    queue, plan = slow(tmp_path, 1)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    monkeypatch.setattr(outcome, "SPARE", 1 << 60)
    try:
        assert worker.work(queue.folder) == local.DISK_FULL
        assert "no space left" in capsys.readouterr().err and not queue.ended() and not queue.claimed()
        monkeypatch.setattr(outcome, "SPARE", 0)
        assert worker.work(queue.folder) == 0 and set(queue.ended().values()) == {"done"}
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_a_changed_sweep_in_the_same_folder_trains_only_what_is_new(tmp_path):
    queue, plan = slow(tmp_path, 2)
    worked(queue, plan)
    queue, plan = slow(tmp_path, 3)
    write_plan(queue.folder, plan)
    assert len(worked(queue, plan)) == 3 and begun(tmp_path) == [0, 1, 2]


def test_what_is_in_the_store_is_not_put_there_again_by_a_second_driver(tmp_path, monkeypatch):
    queue, plan = slow(tmp_path, 2)
    drive(queue, plan, LocalEngine(queue.folder, 1), store=tmp_path / "store")
    monkeypatch.setattr("lehr.runs.store.add_runs", lambda *each, **named: pytest.fail("added again"))
    assert drive(queue, plan, LocalEngine(queue.folder, 1), store=tmp_path / "store").refused == {}
    assert store_runs(queue, plan, {}, tmp_path / "store", set()) == {}


def test_workers_are_pinned_to_gpus_and_cores_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,GPU-abc")
    assert visible_gpus() == ["4", "GPU-abc"]
    monkeypatch.setattr(local, "_cores", lambda: [0, 1, 2, 3, 4])
    engine = LocalEngine(tmp_path)
    assert [(slot.gpu, slot.cores) for slot in engine.slots] == [("4", (0, 1)), ("GPU-abc", (2, 3))]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    assert visible_gpus() == [] and [slot.cores for slot in LocalEngine(tmp_path).slots] == [
        (n,) for n in range(5)
    ]
    assert [slot.cores for slot in LocalEngine(tmp_path, 2).slots] == [(0, 1), (2, 3)]


def test_a_worker_runs_where_it_is_pinned_to(tmp_path):
    core = max(os.sched_getaffinity(0))
    run = f"{sys.executable} -S -c 'import os; print(sorted(os.sched_getaffinity(0)))'"
    queue, plan = laid(tmp_path, commands(tmp_path, run, grid="lr = [1e-3]"))
    engine = LocalEngine(queue.folder, 1)
    engine.slots[0].cores = (core,)
    drive(queue, plan, engine)
    said = queue.run_folder(plan.jobs[0].address) / "out-1" / "output.txt"
    assert said.read_text() == f"[{core}]\n"
