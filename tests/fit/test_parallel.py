"""Tasks over processes: the same outcomes, errors as raised, nothing left behind."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from tests.synthetic import CASES

from lehr.errors import InputError, ResultError
from lehr.fit import parallel as module
from lehr.fit.parallel import THREADS, importable, map_tasks
from lehr.laws import LAWS, get_law

TASKS = {"a": (3,), "b": (1,), "c": (2,)}


def script(tmp_path, text):
    """Write a script that has no `if __name__ == "__main__"`."""
    path = tmp_path / "script.py"
    path.write_text(textwrap.dedent(text))
    return path


def run(path, **options):
    return subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=60, **options)


@pytest.mark.parametrize("workers", [None, 1, 2, 9])
def test_outcomes_are_in_the_order_of_the_tasks(workers):
    told = []
    found = map_tasks(abs, {"x": (-3,), "y": (-1,)}, workers, told.append)
    assert list(found.items()) == [("x", 3), ("y", 1)]
    assert told == ["x", "y"]


def test_no_task_at_all():
    assert map_tasks(abs, {}, 4) == {}


def test_one_worker_or_one_task_means_this_process():
    here = os.getpid()
    assert set(map_tasks(os.getpid, {"a": (), "b": ()}, 1).values()) == {here}
    assert map_tasks(os.getpid, {"a": ()}, 4) == {"a": here}
    assert here not in map_tasks(os.getpid, {"a": (), "b": ()}, 2).values()


def test_workers_are_at_least_one():
    with pytest.raises(
        InputError, match=r"workers must be at least 1, got 0: give a number of processes, 1 for this one"
    ):
        map_tasks(abs, TASKS, 0)


def test_by_default_as_many_as_the_cores_this_process_may_use(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 3, 5}, raising=False)
    assert (module._count(None, 8), module._count(None, 2), module._count(5, 8)) == (3, 2, 5)
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert module._count(None, 8) == 6


def test_blas_has_one_thread_in_a_worker_and_the_setting_here_stays(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.delenv("MKL_NUM_THREADS", raising=False)
    found = map_tasks(os.getenv, {name: (name,) for name in THREADS}, 2)
    assert set(found.values()) == {"1"}
    assert os.environ["OMP_NUM_THREADS"] == "7" and "MKL_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_task_is_raised_as_it_is(workers):
    with pytest.raises(InputError, match="unknown law 'tisue': did you mean 'tissue'"):
        map_tasks(get_law, {"a": ("tissue",), "b": ("tisue",)}, workers)
    assert not multiprocessing.active_children()


def test_a_worker_that_dies_is_told_with_a_remedy():
    text = r"a worker process died before its work was done .*: try again with fewer workers, 1 for none\.$"
    with pytest.raises(ResultError, match=text):
        map_tasks(os._exit, {"a": (3,), "b": (3,)}, 2)
    assert not multiprocessing.active_children()


def test_after_an_error_what_is_still_at_work_is_stopped():
    begin = time.monotonic()
    with pytest.raises(ValueError):
        map_tasks(time.sleep, {"a": (-1,), "b": (60,)}, 2)
    assert time.monotonic() - begin < 30
    assert not multiprocessing.active_children()


def test_a_script_needs_no_guard_and_is_not_run_again(tmp_path):
    """The main module and what it may import stay out of the workers."""
    path = script(
        tmp_path,
        """
        print("once")
        from lehr.fit.parallel import map_tasks
        print(sorted(map_tasks(abs, {"a": (-2,), "b": (-1,)}, 2).values()))
        """,
    )
    done = run(path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "once\n[1, 2]\n", "")


def test_the_same_from_standard_input():
    text = "from lehr.fit.parallel import map_tasks\nprint(map_tasks(abs, {'a': (-2,), 'b': (-1,)}, 2))\n"
    done = subprocess.run([sys.executable, "-"], input=text, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("{'a': 2, 'b': 1}\n", "")


@pytest.mark.skipif(os.name != "posix", reason="signals to a group of processes are POSIX's")
def test_ctrl_c_stops_the_workers_and_nothing_else_is_printed(tmp_path):
    """As a terminal does it: the signal goes to every process of the group."""
    path = script(
        tmp_path,
        """
        import sys, time
        from lehr.fit.parallel import map_tasks
        def tell(name):
            print(name, flush=True)
        try:
            map_tasks(time.sleep, {"a": (60,), "b": (60,)}, 2, tell)
        except KeyboardInterrupt:
            import multiprocessing
            print("stopped", len(multiprocessing.active_children()), flush=True)
        """,
    )
    child = subprocess.Popen(
        [sys.executable, str(path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    try:
        assert child.stdout.readline() == "a\n"
        begin = time.monotonic()
        os.killpg(child.pid, signal.SIGINT)
        out, err = child.communicate(timeout=50)
    finally:
        child.kill()
        child.wait()
    assert (out, err, child.returncode) == ("stopped 0\n", "", 0)
    assert time.monotonic() - begin < 30


def test_a_daemon_works_by_itself(monkeypatch):
    monkeypatch.setattr(multiprocessing, "current_process", lambda: type("P", (), {"daemon": True}))
    assert module._count(4, 4) == 1


def test_what_a_worker_knows():
    assert importable(LAWS["tissue"]) and not importable(CASES["tissue"])
