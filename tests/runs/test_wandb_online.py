import inspect
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from lehr.errors import InputError
from lehr.runs.readers import wandb_online

ROWS = [
    {"_step": 0, "_timestamp": 1e9, "train/loss": 4.0, "train/global_step": 10, "note": "x", "flag": True},
    {"_step": 1, "_timestamp": 1e9 + 5, "eval/loss": 3.5, "train/global_step": 10, "empty": None},
    {
        "_step": 2,
        "_timestamp": 1e9 + 9,
        "train/loss": "NaN",
        "train/global_step": 20,
        "deep": {"a": {"b": 2}},
    },
    {
        "_step": 3,
        "train/loss": "Infinity",
        "train/global_step": 30,
        "h": {"_type": "histogram", "bins": [1, 2]},
    },
]


class Run:
    """A run as the package gives it; `history` samples and must not be asked."""

    def __init__(self, ident, name, rows=ROWS):
        self.id, self.name, self._rows = ident, name, rows
        self.config = {
            "learning_rate": 1e-3,
            "o": {"betas": [0.9]},
            "_wandb": {"x": 1},
            "transformers_version": "5.2.0",
        }

    def scan_history(self, keys=None, page_size=1000, min_step=0, max_step=None):
        return iter(self._rows)


def package(*runs):
    asked = []

    class Api:
        def run(self, path):
            asked.append(path)
            return runs[0]

        def runs(self, path):
            asked.append(path)
            return iter(runs)

    return SimpleNamespace(Api=Api), asked


@pytest.mark.parametrize("address", ["wandb:team/proj/abc", "wandb:team/proj/runs/abc"])
def test_one_run(address):
    module, asked = package(Run("abc", "my run"))
    (log,) = wandb_online.logs_of(address, module)
    assert asked == ["team/proj/abc"]
    assert (log.source, log.name) == ("wandb:team/proj/abc", "my run")
    assert log.config == {"learning_rate": 1e-3, "o.betas.0": 0.9, "transformers_version": "5.2.0"}
    assert set(log.series) == {"train/loss", "eval/loss", "deep.a.b"}
    assert log.series["train/loss"].step.tolist() == [4, 14, 24]  # means over the last 10 updates
    np.testing.assert_array_equal(log.series["train/loss"].value, [4, math.nan, math.inf])
    np.testing.assert_array_equal(log.series["train/loss"].time, [1e9, 1e9 + 9, math.nan])
    assert log.series["eval/loss"].step.tolist() == [10]
    assert log.roles == {"train": "train/loss", "val": "eval/loss"}
    assert log.report[:3] == (
        "the run abc of W&B, 4 rows", "3 values of the history are no numbers and were left out",
        "steps are those of 'train/global_step', not W&B's own _step",
    )  # fmt: skip


def test_all_runs_of_a_project():
    module, asked = package(Run("a", "first"), Run("b", ""), Run("c", "empty", rows=[]))
    logs = list(wandb_online.logs_of("wandb:team/proj", module))
    assert asked == ["team/proj"]
    assert [log.name for log in logs] == ["first", "b", "empty"]
    assert not logs[2].series


@pytest.mark.parametrize("address", ["wandb:team", "wandb:", "wandb:a/b/c/d", "wandb:a b/c", "team/proj"])
def test_what_is_no_address(address):
    with pytest.raises(InputError, match="is no address of W&B: give wandb:ENTITY/PROJECT for all runs"):
        list(wandb_online.logs_of(address, object()))


def test_without_the_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(
        InputError, match="needs the package wandb, which is not installed: pip install wandb"
    ):
        list(wandb_online.logs_of("wandb:team/proj"))


def test_what_the_server_refuses():
    def refuse():
        raise RuntimeError("could not find project\nTraceback")

    with pytest.raises(
        InputError, match=r"wandb:team/proj cannot be read \(could not find project\): check the address"
    ):
        list(wandb_online.logs_of("wandb:team/proj", SimpleNamespace(Api=refuse)))


@pytest.mark.filterwarnings("ignore")
def test_the_package_has_what_is_asked_of_it():
    wandb = pytest.importorskip("wandb")
    assert callable(wandb.Api.run)
    assert callable(wandb.Api.runs)
    run = wandb.apis.public.Run
    theirs = inspect.signature(run.scan_history).parameters
    assert set(inspect.signature(Run.scan_history).parameters) <= set(theirs)
    for attribute in ("id", "name", "config"):
        assert hasattr(run, attribute) or attribute in inspect.getsource(run)
