"""Two processes that share a training, as torchrun starts them, against one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from tests.proxy.tiny import BASE, tiny  # noqa: E402

from lehr.errors import InputError  # noqa: E402
from lehr.proxy.checkpoint import load_checkpoint, saved_steps  # noqa: E402
from lehr.proxy.distributed import Ranks, check_split  # noqa: E402
from lehr.proxy.runlog import read_log  # noqa: E402
from lehr.proxy.train import train  # noqa: E402

if not torch.distributed.is_available():
    pytest.skip("this torch is built without distributed training", allow_module_level=True)

# each job: (configuration, folder, resume, rows after which to stop)
SCRIPT = """
import json, os, sys, torch
torch.set_num_threads(1)
from lehr.errors import LehrError
from lehr.proxy.config import make_config
from lehr.proxy.distributed import joined
from lehr.proxy.train import train
with joined():
    for config, folder, resume, last in json.loads(sys.argv[1]):
        rows = []
        stop = (lambda: len(rows) >= last) if last else None
        try:
            train(make_config(config), folder, resume=resume, progress=rows.append, stop=stop)
        except LehrError as error:
            print(f"{type(error).__name__}: {error}")
# an interpreter that shuts down may be aborted by threads that gloo has left behind: seen in one of some ten starts
sys.stdout.flush()
os._exit(0)
"""
ROOT = Path(__file__).parents[2]
MIXED = {"experts": {"count": 4, "balance": "bias", "balance_weight": 0.05}}


def start(jobs, folder):
    """Let torchrun run the jobs in two processes; return what they printed."""
    (folder / "jobs.py").write_text(SCRIPT)
    dumped = json.dumps([[c.model_dump(mode="json"), str(folder / c.name), *rest] for c, *rest in jobs])
    command = [sys.executable, "-W", "ignore", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
               folder / "jobs.py", dumped]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=300, env=environment, cwd=ROOT
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Every training of this file, in one start of two processes, since a start takes seconds."""
    folder = tmp_path_factory.mktemp("ranks")
    train(tiny("trunk", keep=[12]), folder / "trunk")
    mixed = tiny("mixed", model=MIXED, accumulate=2)
    ddp, fsdp = tiny("ddp", accumulate=2), tiny("fsdp", parallel="fsdp")
    wide = {"model": {"width": 32, "heads": 4}, "transfer": {"rule": "completep", "base": {"model": BASE}}}
    train(tiny("wide", **wide), folder / "wide")
    wide_ddp, wide_fsdp = tiny("wide-ddp", **wide), tiny("wide-fsdp", parallel="fsdp", **wide)
    cool = tiny("cool", branch={"run": "trunk", "step": 12}, parallel="fsdp")
    out = start([
        (ddp, False, 10), (ddp, True, None), (fsdp, False, 10), (fsdp, True, None), (mixed, False, None),
        (wide_ddp, False, None), (wide_fsdp, False, 10), (wide_fsdp, True, None),
        (cool, False, None), (fsdp, False, None), (tiny("odd", batch=3), False, None),
    ], folder)  # fmt: skip
    return folder, out


def curve(folder):
    return [(row.train_loss, row.val_loss or 0, row.grad_norm) for row in read_log(folder).rows]


@pytest.mark.parametrize("name", ["ddp", "fsdp"])
def test_two_processes_train_as_one_and_go_on(made, name, tmp_path):
    folder, _ = made
    log = read_log(folder / name)
    assert [row.step for row in log.rows] == list(range(1, 25)), "the first rank alone writes"
    assert log.header["ranks"] == 2
    assert saved_steps(folder / name) == [18, 24]
    np.testing.assert_allclose(curve(folder / name), curve(folder / "trunk"), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["wide-ddp", "wide-fsdp"])
def test_a_transferred_training_is_the_same_in_two_processes(made, name):
    folder, _ = made
    np.testing.assert_allclose(curve(folder / name), curve(folder / "wide"), rtol=1e-5, atol=1e-5)


def test_experts_are_balanced_over_all_processes(made, tmp_path):
    train(tiny("mixed", model=MIXED), tmp_path)
    np.testing.assert_allclose(curve(made[0] / "mixed"), curve(tmp_path), rtol=1e-5, atol=1e-5)
    ours, theirs = (load_checkpoint(folder, 24).model for folder in (made[0] / "mixed", tmp_path))
    bias = "blocks.0.ffn.bias"
    assert torch.equal(ours[bias], theirs[bias]) and theirs[bias].abs().max() >= 0.1


def test_many_processes_branch_from_the_checkpoint_of_one(made):
    folder, _ = made
    np.testing.assert_allclose(curve(folder / "cool"), curve(folder / "trunk")[12:], rtol=1e-5, atol=1e-5)


def test_one_process_goes_on_from_the_checkpoint_of_many(made, tmp_path):
    folder, _ = made
    config = tiny("one", branch={"run": str(folder / "fsdp"), "step": 18}, parallel="fsdp")
    train(config, tmp_path / "one")
    np.testing.assert_allclose(curve(tmp_path / "one"), curve(folder / "trunk")[18:], rtol=1e-5, atol=1e-5)


def test_every_process_gives_the_same_message(made):
    folder, out = made
    assert out.count("fsdp holds this run already, at step 24 of 24: go on with --resume") == 2
    assert out.count("training.batch must be a multiple of ranks x training.accumulate (2 x 1), got 3") == 2
    assert not (folder / "odd").exists()


def test_a_batch_is_split_evenly():
    ranks = Ranks(0, 2, torch.device("cpu"))
    assert check_split(12, 3, ranks) == 2
    with pytest.raises(
        InputError, match=r"must be a multiple of ranks x training.accumulate \(2 x 4\), got 12"
    ):
        check_split(12, 4, ranks)
