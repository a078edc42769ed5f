"""`lehr train`: what it prints, that Ctrl-C saves, and its messages."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from contextlib import contextmanager
from pathlib import Path

import pytest

from lehr.cli.train import train_several
from lehr.errors import ResultError
from lehr.proxy.config import Branch, make_config
from lehr.runs.store import load_runs

CONFIG = """
name = "small"
[model]
depth = 1
width = 16
heads = 2
context = 16
[data]
vocab_size = 32
[training]
schedule = "constant(steps={steps}, peak=1e-2)"
batch = 4
validate_every = 5
validate_sequences = 4
"""


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(CONFIG.format(steps=10))
    return path


def needs_torch():
    torch = pytest.importorskip("torch", reason="needs the [train] extra")
    torch.set_num_threads(1)


def test_it_trains_and_says_what_to_do_next(lehr, config, tmp_path, monkeypatch):
    needs_torch()
    monkeypatch.chdir(tmp_path)
    outcome = lehr("train", config)
    assert outcome.code == 0, outcome.err
    assert outcome.out.startswith("small: 10 updates, validation loss 3.")
    log = Path("runs", "small", "log.jsonl")
    assert f"{log}: read it with `lehr import {log} --into STORE`" in outcome.out
    assert lehr("import", log, "--into", "store").code == 0
    run = load_runs(tmp_path / "store")["small"]
    assert run.step.tolist() == [5, 10] and run.meta["weight_decay"] == 0.1
    assert lehr("import", log, "--into", "other", "--split", "train").code == 0
    assert len(load_runs(tmp_path / "other")["small"].step) == 10


def test_json(lehr, config, tmp_path):
    needs_torch()
    found = lehr("train", config, "--out", tmp_path / "run", "--json").json
    assert found.keys() == {
        "name", "folder", "log", "steps", "train_loss", "val_loss", "seconds", "tokens", "tokens_per_second",
        "resumed_from", "remarks",
    }  # fmt: skip
    assert (found["steps"], found["tokens"], found["resumed_from"]) == (10, 640, None)
    assert Path(found["log"]).is_file()
    again = lehr("train", config, "--out", tmp_path / "run", "--resume", "--json").json
    assert again["val_loss"] == found["val_loss"] and again["resumed_from"] == 10


def test_a_run_that_is_there_is_refused(lehr, config, tmp_path):
    needs_torch()
    assert lehr("train", config, "--out", tmp_path / "run").code == 0
    message = lehr("train", config, "--out", tmp_path / "run").refused()
    assert "holds this run already, at step 10 of 10: go on with --resume, or name another folder" in message


def test_other_ranks_are_silent(lehr, config, tmp_path, monkeypatch):
    needs_torch()
    assert lehr("train", config, "--out", tmp_path / "run").code == 0
    monkeypatch.setenv("RANK", "1")
    outcome = lehr("train", config, "--out", tmp_path / "run")
    assert (outcome.code, outcome.out, outcome.err) == (2, "", "")


def test_a_name_that_is_no_folder_needs_out(lehr, config):
    config.write_text(config.read_text().replace('"small"', '"a/b"'))
    message = lehr("train", config).refused()
    assert (
        message
        == "error: name must be the name of a folder, unless --out is given, got 'a/b': give --out DIR.\n"
    )


def test_an_unknown_key_is_refused(lehr, config):
    config.write_text(config.read_text().replace("depth", "dept"))
    assert "did you mean 'depth'?" in lehr("train", config).refused()


def test_without_torch_it_says_how_to_install_it(lehr, config, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.delitem(sys.modules, "lehr.proxy.train", raising=False)
    message = lehr("train", config).refused()
    assert message == "error: training needs torch: install it with `pip install 'lehr[train]'`.\n"


def test_ctrl_c_saves_and_says_how_to_go_on(config, tmp_path):
    needs_torch()
    config.write_text(CONFIG.format(steps=100000))
    log = tmp_path / "run" / "log.jsonl"
    command = [sys.executable, "-m", "lehr.cli.main", "train", str(config), "--out", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        end = time.monotonic() + 60
        while not (log.exists() and log.read_text().count("\n") > 3) and time.monotonic() < end:
            time.sleep(0.05)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 1 and out == ""
    assert "stopping after this update; again to stop at once, without saving" in err
    step = json.loads(log.read_text().splitlines()[-1])["step"]
    assert f"error: stopped at step {step} of 100000 and saved: go on with `lehr train {config} --out" in err
    assert (tmp_path / "run" / "checkpoints" / f"step-{step:07d}.pt").is_file()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_the_bar_shows_loss_speed_and_time(config, monkeypatch):
    from lehr.cli import train as verb
    from lehr.proxy.config import load_config
    from lehr.proxy.runlog import Row

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with verb._bar(load_config(config), first=True) as show:
        for step in range(1, 6):
            show(Row(step, 1e-3, 3.0 - step / 10, 1.0, 1000 * step, 0.25 * step))
    shown = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", terminal.getvalue())
    assert "small" in shown and "5/10" in shown and "loss 2.5000" in shown and "4,000 tokens/s" in shown
    with verb._bar(load_config(config), first=False) as show:
        assert show is None


def several():
    trunk = make_config(tomllib.loads(CONFIG.format(steps=10)))
    trunk = trunk.model_copy(update={"training": trunk.training.model_copy(update={"keep": (6,)})})
    plan = trunk.training.model_copy(update={"schedule": "wsd(steps=10, peak=1e-2, decay=4)", "keep": ()})
    branch = Branch(run="small", step=6)
    return [trunk.model_copy(update={"name": "cooldown", "training": plan, "branch": branch}), trunk]


def test_a_set_of_runs_is_trained_parents_first_and_only_once(tmp_path):
    needs_torch()
    train_several(several(), tmp_path)
    logs = {name: tmp_path / name / "log.jsonl" for name in ("small", "cooldown")}
    steps = {
        name: [json.loads(line)["step"] for line in log.read_text().splitlines()[1:]]
        for name, log in logs.items()
    }
    assert steps == {"small": list(range(1, 11)), "cooldown": list(range(7, 11))}
    before = {name: log.stat().st_mtime_ns for name, log in logs.items()}
    train_several(several(), tmp_path)
    assert {name: log.stat().st_mtime_ns for name, log in logs.items()} == before


def test_a_set_that_was_stopped_says_that_the_same_command_goes_on(tmp_path, monkeypatch):
    needs_torch()
    stop = contextmanager(lambda: iter([lambda: True]))
    monkeypatch.setattr("lehr.cli.train.stopping", stop)
    with pytest.raises(ResultError, match="^stopped and saved within run 1 of 2: the same command goes on.$"):
        train_several(several(), tmp_path)


def test_the_demo_from_scratch_asks_for_torch_where_there_is_none(lehr, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    for name in [n for n in sys.modules if n.startswith(("lehr.proxy.train", "lehr.proxy.session"))]:
        monkeypatch.delitem(sys.modules, name)
    refused = lehr("demo", "--from-scratch", "--out", tmp_path / "out").refused()
    assert "training needs torch: install it with `pip install 'lehr[train]'`." in refused
