"""The Ray engine, on a cluster of several nodes on this machine, and its refusals without one."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tests.proxy.sweep import clusters
from tests.proxy.sweep.made import begun, commands, driver, laid, slow, spec, waited, workers

from lehr.errors import InputError, ResultError
from lehr.proxy.sweep import ray_connect, ray_task
from lehr.proxy.sweep.driver import drive
from lehr.proxy.sweep.engine_options import RayOptions
from lehr.proxy.sweep.engines import make_engine
from lehr.proxy.sweep.queue import started
from lehr.proxy.sweep.ray import RayEngine

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="commands of Linux")


@pytest.fixture(scope="module")
def cluster():
    """A head that takes no worker, and two nodes of two CPUs each."""
    pytest.importorskip("ray", reason="needs the [ray] extra")
    os.environ |= {**ray_connect.QUIET, "RAY_health_check_initial_delay_ms": "1000"}
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    made.add_node(num_cpus=2)
    made.add_node(num_cpus=2, resources={"special": 1})
    yield made
    made.shutdown()


@pytest.fixture
def engine(cluster):
    return lambda folder, workers=None, **more: RayEngine(
        folder, workers, RayOptions(address=cluster.address, **more)
    )


@pytest.fixture
def start(cluster):
    return lambda queue: driver(queue, "ray", address=cluster.address)


def holding():
    """Processes of Ray that hold a worker."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(b"ray::hold"):
                found.append(int(path.parent.name))
    return found


def test_two_trunks_and_six_cooldowns_have_the_curves_of_the_local_engine(engine, tmp_path):
    pytest.importorskip("torch", reason="needs the [train] extra")
    clusters.has_the_curves_of_the_local_engine(tmp_path, lambda folder: engine(folder, 2))


def test_workers_that_are_killed_are_replaced(engine, tmp_path):
    queue, plan = slow(tmp_path, 40)
    killed = set()

    def kill():
        while len(killed) < 8:
            time.sleep(0.4)
            for pid in sorted(workers(queue) - killed)[:2]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    killed.add(pid)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    drive(queue, plan, engine(queue.folder))
    assert len(killed) >= 8 and clusters.ends_every_run_once(queue, plan)
    assert set(begun(tmp_path)) == set(range(40)) and len(begun(tmp_path)) <= 40 + len(killed)


def test_tasks_that_are_killed_are_replaced_and_their_workers_save_and_go(engine, tmp_path):
    queue, plan = slow(tmp_path, 24)
    rng, killed = random.Random(0), [0]

    def look(seen):
        if len(seen.ended) >= 3 * killed[0] and killed[0] < 6 and (found := holding()):
            os.kill(rng.choice(found), signal.SIGKILL)
            killed[0] += 1

    drive(queue, plan, engine(queue.folder, 2), look=look)
    assert killed[0] == 6 and clusters.ends_every_run_once(queue, plan)
    assert len(begun(tmp_path)) <= 24 + 6


def test_a_node_that_is_lost_loses_nothing_and_one_that_joins_is_used(cluster, engine, tmp_path):
    queue, plan = slow(tmp_path, 40)
    made, extra = engine(queue.folder), [cluster.add_node(num_cpus=2)]
    waited(lambda: made._look_for_room() == 6)

    def look(seen):
        if len(seen.ended) >= 4 and len(extra) == 1:
            cluster.remove_node(extra[0], allow_graceful=False)
            extra.append(cluster.add_node(num_cpus=3))
            waited(lambda: made._look_for_room() == 7)

    drive(queue, plan, made, look=look)
    cluster.remove_node(extra[1])
    assert len(extra) == 2 and clusters.ends_every_run_once(queue, plan)
    assert len(begun(tmp_path)) <= 40 + 2


def test_told_to_stop_it_goes_on_later(engine, tmp_path):
    clusters.told_to_stop_it_goes_on_later(tmp_path, lambda folder: engine(folder, 2))
    assert not list((tmp_path / "sweep" / "ray").iterdir()) and not holding()


def test_tasks_that_wait_for_a_place_do_not_keep_it_from_stopping(engine, tmp_path):
    queue, plan = slow(tmp_path, 30)
    begin = time.monotonic()
    assert drive(queue, plan, engine(queue.folder, 9), stop=lambda: len(queue.ended()) >= 2).stopped
    assert time.monotonic() - begin < 40 and not holding()


def test_stopped_at_once_workers_are_killed_with_their_commands(engine, tmp_path):
    text = "import os, sys, time\nopen(sys.argv[1], 'w').write(str(os.getpid()))\ntime.sleep(600)"
    (tmp_path / "sleep.py").write_text(text)
    run = f"{sys.executable} -S {tmp_path}/sleep.py {tmp_path}/pid"
    queue, plan = laid(tmp_path, commands(tmp_path, run, grid="lr = [1e-3]"))
    made = engine(queue.folder, 1)
    waited(lambda: made.tend() and (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    made.stop(hard=True)
    waited(lambda: not started(int((tmp_path / "pid").read_text())))
    assert not holding() and not queue.ended()


def test_two_drivers_share_the_work(start, tmp_path):
    clusters.two_drivers_share(tmp_path, start)


def test_a_killed_driver_is_followed_by_another(start, tmp_path):
    clusters.a_killed_driver_is_followed_by_another(tmp_path, start)
    assert not list((tmp_path / "sweep" / "ray").iterdir()), "what the first left is gone"
    goes = [path.read_text() for path in (tmp_path / "sweep" / "runs").glob("*/attempts")]
    twice = [each for each in goes if each.count("begin") > 1]
    assert all("let go" in each for each in twice), "its workers were told to stop, and not killed"


def test_failing_commands_and_losses_that_are_none_end_their_runs_alone(engine, tmp_path):
    clusters.failures_and_losses_that_are_none_end_their_runs_alone(tmp_path, lambda f: engine(f, 2))


def test_workers_have_the_places_threads_and_folder_that_are_asked_for(
    cluster, engine, tmp_path, monkeypatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    run = "sh -c 'echo $OMP_NUM_THREADS gpus=$CUDA_VISIBLE_DEVICES $PWD; exit 1'"
    queue, plan = laid(tmp_path, commands(tmp_path, run, grid="lr = [1e-3]"))
    made = engine(queue.folder, cpus=2, resources={"special": 1.0})
    assert made._look_for_room() == 1
    (found,) = drive(queue, plan, made).ended.values()
    assert found.reason == f"the command ended with exit code 1: 2 gpus= {os.getcwd()}"


def test_what_no_node_has_is_told_and_waited_for(cluster, engine, tmp_path, capsys):
    queue, plan = slow(tmp_path, 1)
    made, joined = engine(queue.folder, resources={"rare": 1.0}), []

    def look(seen):
        if not joined and "takes (rare 1, CPU 1); waiting for one" in capsys.readouterr().err:
            joined.append(cluster.add_node(num_cpus=1, resources={"rare": 1}))

    drive(queue, plan, made, look=look)
    cluster.remove_node(joined[0])
    assert clusters.ends_every_run_once(queue, plan)


def test_workers_that_cannot_begin_are_given_up_on(engine, tmp_path):
    queue, plan = slow(tmp_path, 2)
    made = engine(queue.folder, 1)
    (queue.folder / "plan.jsonl").write_text("no plan")
    with pytest.raises(
        ResultError, match=r"workers on .* end with exit code 1; the end of .*workers.txt says"
    ):
        drive(queue, plan, made)


def test_a_full_disk_stops_everything_and_blames_no_run(engine, tmp_path):
    clusters.a_full_disk_stops_everything_and_blames_no_run(tmp_path, lambda folder: engine(folder, 2))


def test_a_node_without_the_folder_is_named(engine, tmp_path, monkeypatch):
    queue, plan = slow(tmp_path, 2)
    made = engine(queue.folder, 1)
    made.place = tmp_path / "elsewhere"
    made.place.mkdir()
    name = f"{socket.gethostname()} \\("
    with pytest.raises(ResultError, match=f"node {name}.*does not see {queue.folder}: use a folder that all"):
        drive(queue, plan, made)


def test_a_node_with_another_lehr_is_named(engine, tmp_path, monkeypatch):
    queue, plan = slow(tmp_path, 2)
    monkeypatch.setattr("lehr.__version__", "99.0")
    with pytest.raises(ResultError, match=r"node .* has .* of lehr, this is 99.0: install the same one"):
        drive(queue, plan, engine(queue.folder, 1))


def test_a_node_without_lehr_is_told(cluster, engine, tmp_path):
    (tmp_path / "none" / "lehr").mkdir(parents=True)
    (tmp_path / "none" / "lehr" / "__init__.py").touch()
    path = f"{tmp_path / 'none'}:{os.environ.get('PYTHONPATH', '')}"
    bare = cluster.add_node(num_cpus=1, resources={"bare": 1}, env_vars={"PYTHONPATH": path})
    queue, plan = slow(tmp_path, 2)
    with pytest.raises(
        ResultError, match="workers cannot begin on the nodes: .*No module named 'lehr.*installed"
    ):
        drive(queue, plan, engine(queue.folder, 1, resources={"bare": 1.0}))
    cluster.remove_node(bare)


# without a cluster


def test_without_ray_it_is_told_how_to_get_it(tmp_path, monkeypatch):
    queue, plan = slow(tmp_path, 1)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(
        InputError, match=r"^--engine ray needs Ray: install it with `pip install 'lehr\[ray\]'`\.$"
    ):
        make_engine("ray", queue.folder, None, spec().engine)


@pytest.mark.parametrize("address", ["ray://head:10001", "local", "head", "head:", ":6379", "head:99999"])
def test_addresses_of_another_kind_are_refused(address, monkeypatch):
    pytest.importorskip("ray")
    with pytest.raises(InputError, match=r'engine.ray.address must be "auto" or HOST:PORT of the head, got'):
        ray_connect.connect(address)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(InputError, match="^RAY_ADDRESS must be"):
        ray_connect.connect("auto")


ABSENT = (
    "import sys, time\nbegin = time.monotonic()\nfrom lehr.proxy.sweep.ray_connect import connect\n"
    "from lehr.errors import ResultError\ntry:\n    connect(sys.argv[1])\n"
    "except ResultError as error:\n    print(error)\n"
)


@pytest.mark.parametrize("kind", ["nothing", "another"])
def test_no_cluster_is_told_soon(tmp_path, kind):
    """Where nothing listens, and where something else does."""
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        if kind == "nothing":
            other.close()
        environment = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
        done = subprocess.run(
            [sys.executable, "-c", ABSENT, address], capture_output=True, text=True, timeout=60,
            env={**environment, "RAY_TMPDIR": str(tmp_path)},
        )  # fmt: skip
    assert f"no Ray cluster answers at {address} (" in done.stdout and done.returncode == 0, done
    assert "start one with `ray start --head`" in done.stdout and "Traceback" not in done.stderr


def test_no_cluster_that_runs_here_is_told(monkeypatch):
    ray = pytest.importorskip("ray")

    def init(**options):
        assert options["address"] == "auto"
        raise ConnectionError("Could not find any running Ray\ninstance.")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(
        ResultError, match=r"answers at auto \(Could not find any running Ray instance\): start one"
    ):
        ray_connect.connect("auto")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"gpus": 1.5}, "engine.ray.gpus must be a whole number, or a part of one GPU, got 1.5: 0.5 or 2."),
        ({"resources": {"GPU": 1.0}}, "engine.ray.resources must be names of your own, got 'GPU': the keys"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path, options, said):
    queue, plan = slow(tmp_path, 1)
    with pytest.raises(InputError, match=said.replace("(", r"\(")):
        RayEngine(queue.folder, 1, RayOptions(**options))


class Nodes:
    """A cluster of which only the sizes are asked."""

    def __init__(self, *nodes):
        self.found = [{"Alive": True, "Resources": each} for each in nodes]

    def nodes(self):
        return self.found

    def remote(self, **options):
        self.options = options
        return lambda function: function


@pytest.mark.parametrize(
    ("nodes", "options", "room", "gpus"),
    [
        ([{"CPU": 3.0}, {"CPU": 3.0}], {"cpus": 2}, 2, 0),  # what is left over on two nodes is no place
        ([{"CPU": 16.0, "GPU": 8.0}, {"CPU": 2.0}], {}, 8, 1),
        ([{"CPU": 16.0, "GPU": 8.0}], {"gpus": 0}, 16, 0),
        ([{"CPU": 16.0, "GPU": 8.0}], {"gpus": 0.25}, 16, 0.25),
        ([{"CPU": 16.0, "memory": 3e9}], {"memory": 10**9}, 3, 0),
        ([{"CPU": 16.0}], {"resources": {"a": 1.0}}, 0, 0),
    ],
)
def test_places_are_counted_node_by_node(tmp_path, monkeypatch, nodes, options, room, gpus):
    queue, plan = slow(tmp_path, 1)
    ray = Nodes(*nodes)
    monkeypatch.setattr("lehr.proxy.sweep.ray.connect", lambda address: ray)
    made = RayEngine(queue.folder, None, RayOptions(**options))
    assert made._look_for_room() == room and ray.options["num_gpus"] == gpus


def test_a_task_that_is_wanted_no_more_starts_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_task, "node", lambda: "n")
    monkeypatch.setattr(ray_task, "SHARED", 0.0)
    order = ray_task.Order(str(tmp_path), 0, {}, "/", ray_task.lehr.__version__)
    assert ray_task.hold(order) == (ray_task.BLIND, "n")
    said = iter(["work", ""])
    monkeypatch.setattr(ray_task, "_wanted", lambda place: next(said))
    assert ray_task.hold(order) == (0, "n") and (tmp_path / "0").exists()
