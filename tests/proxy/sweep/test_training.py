"""Sweeps of lehr's own trainings: the same curves as one by one, whatever happens on the way."""

import errno
import json
import os
import shutil
import subprocess
import sys
import textwrap
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from tests.proxy.sweep.made import MODEL, TRAINING, spec, worked  # noqa: E402

from lehr.peaklr.reading import load_sweep_table  # noqa: E402
from lehr.proxy.config import make_config  # noqa: E402
from lehr.proxy.sweep import payload, worker  # noqa: E402
from lehr.proxy.sweep.beat import Beat  # noqa: E402
from lehr.proxy.sweep.driver import drive  # noqa: E402
from lehr.proxy.sweep.jobs import write_plan  # noqa: E402
from lehr.proxy.sweep.local import LocalEngine  # noqa: E402
from lehr.proxy.sweep.outcome import read_outcome  # noqa: E402
from lehr.proxy.sweep.planning import plan_sweep  # noqa: E402
from lehr.proxy.sweep.queue import Queue  # noqa: E402
from lehr.proxy.sweep.results import store_runs, write_table  # noqa: E402
from lehr.proxy.sweep.status import counts, estimate_seconds, standings  # noqa: E402
from lehr.proxy.train import train  # noqa: E402
from lehr.runs.store import load_runs  # noqa: E402

torch.set_num_threads(1)
TRAINED = {**TRAINING, "validate_every": 8, "validate_sequences": 4, "checkpoint_every": 6}
FORKED = {"training": TRAINED, "cooldowns": {"ratios": (0.25, 0.5, 0.7)}}


def laid(folder, **tables):
    queue = Queue(folder / "sweep")
    plan = plan_sweep(spec(**{**FORKED, **tables}), "S.toml", queue).plan
    queue.make()
    write_plan(queue.folder, plan)
    return queue, plan


def rows(folder):
    return [line.partition(',"seconds"')[0] for line in (folder / "log.jsonl").read_text().splitlines()[1:]]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """Rows of every run of the forked sweep, trained one by one, by address."""
    folder = tmp_path_factory.mktemp("straight")
    plan = plan_sweep(spec(**FORKED), "S.toml").plan
    for job in plan.jobs:
        train(make_config(dict(job.payload)), folder / job.address)
    return {job.address: rows(folder / job.address) for job in plan.jobs}


def test_two_trunks_and_six_cooldowns_have_the_curves_of_single_trainings(tmp_path, straight):
    """In processes of their own, the results in the store and in the table."""
    queue, plan = laid(tmp_path)
    assert len(plan.jobs) == 8
    seen = drive(queue, plan, LocalEngine(queue.folder, 2), store=tmp_path / "store")
    assert seen.refused == {} and {each.state for each in seen.ended.values()} == {"done"}
    assert {job.address: rows(queue.run_folder(job.address)) for job in plan.jobs} == straight
    runs = load_runs(tmp_path / "store")
    assert sorted(runs.names) == sorted(job.name for job in plan.jobs)
    assert (runs["s-peak_lr0.02-r0.5"].parent, runs["s-peak_lr0.02-r0.5"].branch_step) == (
        "s-peak_lr0.02",
        12,
    )
    table = load_sweep_table(queue.folder / "results.csv")
    assert len(table) == 6 and set(table.lr) == {1e-2, 2e-2} and set(table.tokens) == {24 * 64}, "no trunk"
    assert table.loss[0] == seen.ended[plan.jobs[1].address].loss == runs[plan.jobs[1].name].final_loss
    again = drive(queue, plan, LocalEngine(queue.folder, 2), store=tmp_path / "store")
    assert again.ended == seen.ended and all(
        len(list(queue.run_folder(a).glob("result-*"))) == 1 for a in straight
    )


def test_stopped_in_the_middle_it_goes_on_to_the_same_curves(tmp_path, straight, monkeypatch):
    queue, plan = laid(tmp_path)
    stops = [5, 3, 9, 1, 20, 2, 30, 4] * 4

    class Stopping(Beat):
        """Asks to stop after so many looks, once a go."""

        looks = 0

        @property
        def reason(self):
            self.looks += 1
            return "stopped" if stops and self.looks > stops[0] else super().reason

    while len(queue.ended()) < len(plan.jobs):
        beat = Stopping(queue)
        worker.one_round(queue, plan, beat)
        beat.close()
        stops[:1] = []
    assert {job.address: rows(queue.run_folder(job.address)) for job in plan.jobs} == straight


def test_a_run_that_was_lost_is_left_at_once_and_not_ended(tmp_path):
    queue, plan = laid(tmp_path, cooldowns=None)
    beat = Beat(queue)
    real = payload.PAYLOADS["train"]

    def rob(job, folder, beat, attempt):
        (owner,) = [queue.claimed()[job.address]]
        path = queue.folder / "claims" / job.address / owner
        path.rename(path.with_name("0123456789ab-1-2-cafe"))
        beat._reason = "lost"  # as the thread finds within a quarter of a second
        return real(job, folder, beat, attempt)

    payload.PAYLOADS["train"] = rob
    try:
        worker.one_round(queue, replace(plan, jobs=plan.jobs[:1]), beat)
    finally:
        payload.PAYLOADS["train"] = real
        beat.close()
    assert queue.ended() == {} and set(queue.claimed().values()) == {"0123456789ab-1-2-cafe"}
    assert not (queue.run_folder(plan.jobs[0].address) / "checkpoints").exists(), (
        "nothing was saved over another's"
    )


def test_a_diverged_run_is_a_result_and_others_go_on(tmp_path):
    queue, plan = laid(
        tmp_path,
        grid={"peak_lr": (1e-2, 1e38)},
        cooldowns=None,
        optimizer={"clip": 1.0, "weight_decay": 10.0},
    )
    found = worked(queue, plan)
    assert [each.state for each in found.values()] == ["done", "diverged"]
    assert "diverged: " in found["s-peak_lr1e+38"].reason
    ended = {job.address: found[job.name] for job in plan.jobs}
    write_table(queue.folder, plan.jobs, ended)
    table = load_sweep_table(queue.folder / "results.csv")
    assert table.loss[0] == found["s-peak_lr0.01"].loss and table.loss[1] != table.loss[1]
    assert store_runs(queue, plan, ended, tmp_path / "store", set()) == {}
    assert load_runs(tmp_path / "store").names == ("s-peak_lr0.01",)
    assert counts(standings(queue, plan))["diverged"] == 1


def test_another_name_is_the_same_run_and_goes_on_where_it_stands(tmp_path):
    queue, plan = laid(tmp_path, cooldowns=None)
    one = replace(plan, jobs=plan.jobs[:1])
    worked(queue, one)
    renamed = plan_sweep(spec(training=TRAINED, name="other"), "S.toml", queue).plan
    found = worked(queue, renamed)
    assert {name: each.state for name, each in found.items()} == {
        "other-peak_lr0.01": "done",
        "other-peak_lr0.02": "done",
    }
    ended = {job.address: found[job.name] for job in renamed.jobs}
    assert store_runs(queue, renamed, ended, tmp_path / "store", set()) == {}
    assert load_runs(tmp_path / "store").names == ("other-peak_lr0.01", "other-peak_lr0.02")


def test_code_that_changed_is_told_and_trains_anew_only_if_asked(tmp_path, monkeypatch):
    queue, plan = laid(tmp_path, cooldowns=None)
    worked(queue, plan)
    assert plan_sweep(spec(training=TRAINED), "S.toml", queue).remarks == ()
    assert plan_sweep(spec(training=TRAINED), "S.toml", queue, strict_code=True).plan == plan
    monkeypatch.setattr("lehr.proxy.sweep.planning.code_version", lambda: "another")
    found = plan_sweep(spec(training=TRAINED), "S.toml", queue)
    assert [job.address for job in found.plan.jobs] == [job.address for job in plan.jobs]
    (remark,) = found.remarks
    assert remark.startswith(
        "2 finished runs were trained by another version of the code; they count as done: "
    )
    strict = plan_sweep(spec(training=TRAINED), "S.toml", queue, strict_code=True)
    assert not {job.address for job in strict.plan.jobs} & {job.address for job in plan.jobs}


def test_time_is_estimated_by_what_is_done(tmp_path):
    queue, plan = laid(tmp_path)
    assert estimate_seconds(plan.jobs, {}, plan.jobs) is None
    worked(queue, replace(plan, jobs=plan.jobs[:1]))
    done = {plan.jobs[0].address: replace(read_outcome(queue, plan.jobs[0].address, "done"), seconds=2.4)}
    assert estimate_seconds(plan.jobs[1:4], done, plan.jobs) == pytest.approx(0.1 * (6 + 12 + 17))


FULL = """
    import os, sys, threading, time
    from dataclasses import replace
    from pathlib import Path
    import torch
    torch.set_num_threads(1)
    from lehr.proxy.sweep import outcome, worker
    from lehr.proxy.sweep.beat import Beat
    from lehr.proxy.sweep.jobs import read_plan
    from lehr.proxy.sweep.queue import Queue

    queue = Queue(Path(sys.argv[1]))
    plan = read_plan(queue.folder)
    log = queue.run_folder(plan.jobs[0].address) / "log.jsonl"

    def fill():
        while not log.exists() or log.read_bytes().count(b"\\n") < 5:
            time.sleep(0.001)
        with open(queue.folder / "ballast", "wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(512))
            except OSError:
                pass

    filler = threading.Thread(target=fill)
    filler.start()
    beat = Beat(queue)
    try:
        worker.one_round(queue, plan, beat)
    except Exception as error:
        assert outcome.disk_refused(error), error
    else:
        raise SystemExit("the full disk was not noticed")
    filler.join()
    assert not queue.ended() and not queue.claimed(), "let go of, and not ended"
    os.unlink(queue.folder / "ballast")
    while worker.one_round(queue, plan, beat)[0]:
        pass
    print(sorted(set(queue.ended().values())), len(queue.ended()))
"""


def test_a_disk_that_fills_up_ends_no_run_and_loses_none(tmp_path, straight):
    """On a file system of 3 MiB that another fills while the first run trains."""
    mount = shutil.which("unshare") and subprocess.run(
        ["unshare", "-rm", "sh", "-c", f"mount -t tmpfs none {tmp_path}"], capture_output=True
    )
    if not mount or mount.returncode:
        pytest.skip("needs to mount a small file system, in a user namespace")
    long = {**TRAINED, "schedule": "constant(steps=200, peak={peak_lr}, warmup=4)"}
    queue, plan = laid(tmp_path, cooldowns=None, training=long)
    (tmp_path / "full.py").write_text(textwrap.dedent(FULL))
    inside = (
        f"mkdir {tmp_path}/small && mount -t tmpfs -o size=3m none {tmp_path}/small && "
        f"cp -r {queue.folder} {tmp_path}/small/sweep && {sys.executable} {tmp_path}/full.py {tmp_path}/small/sweep && "
        f"cp -r {tmp_path}/small/sweep/runs {tmp_path}/kept"
    )
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", inside], capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout == "['done'] 2\n"
    for job in plan.jobs:
        train(make_config(dict(job.payload)), tmp_path / "straight" / job.address)
        assert rows(tmp_path / "kept" / job.address) == rows(tmp_path / "straight" / job.address)


def test_what_the_disk_refused_is_told_from_what_a_run_did_wrong():
    from lehr.proxy.sweep.outcome import disk_refused

    try:
        try:
            raise OSError(errno.ENOSPC, "full")
        except OSError as error:
            raise RuntimeError("could not write") from error
    except RuntimeError as wrapped:
        assert disk_refused(wrapped)
    assert not disk_refused(OSError(errno.ENOENT, "absent")) and not disk_refused(ValueError())


def test_models_of_experts_are_counted_in_the_table_as_peak_lr_counts_them(tmp_path):
    experts = {**MODEL, "experts": {"count": 4, "top_k": 1, "width": 8}}
    queue, plan = laid(tmp_path, model=experts, cooldowns=None)
    ended = {job.address: found for job, found in zip(plan.jobs, worked(queue, plan).values(), strict=True)}
    write_table(queue.folder, plan.jobs, ended)
    table = load_sweep_table(queue.folder / "results.csv")
    header = json.loads((queue.run_folder(plan.jobs[0].address) / "log.jsonl").read_text().splitlines()[0])
    assert table.params[0] == header["params_total"] and table.active_params[0] == header["params"]


def test_what_nothing_foresees_fails_the_run_and_ends_the_worker(tmp_path, monkeypatch):
    def broken(job, folder, beat, attempt):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    queue, plan = laid(tmp_path, cooldowns=None)
    monkeypatch.setitem(payload.PAYLOADS, "train", broken)
    beat = Beat(queue)
    for _ in plan.jobs:  # a fresh worker each
        with pytest.raises(RuntimeError, match="CUDA error"):
            worker.one_round(queue, plan, beat)
    beat.close()
    found = worked(queue, plan)
    assert {each.state for each in found.values()} == {"failed"} and not queue.claimed()
    assert (
        found["s-peak_lr0.01"].reason == "RuntimeError: CUDA error: an illegal memory access was encountered"
    )
