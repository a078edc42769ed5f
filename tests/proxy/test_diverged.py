"""A training that diverges: it stops, keeps the last good checkpoint and says what grew first."""

import math
import re

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from tests.proxy.tiny import tiny  # noqa: E402

from lehr.errors import ResultError  # noqa: E402
from lehr.proxy import session  # noqa: E402
from lehr.proxy import train as module  # noqa: E402
from lehr.proxy.checkpoint import load_checkpoint, saved_steps  # noqa: E402
from lehr.proxy.diverged import Origin, find_origin  # noqa: E402
from lehr.proxy.runlog import read_log  # noqa: E402
from lehr.proxy.train import train  # noqa: E402


def test_a_loss_that_is_no_number_stops_it_with_the_last_good_checkpoint(monkeypatch, tmp_path):
    """Weights are broken in update 14 (from 0): the row of step 15 is fine, that of 16 is not."""
    real = session.update

    def update(run):
        out = real(run)
        if run.step == 15:
            with torch.no_grad():
                run.model.blocks[0].ffn.down.weight.fill_(math.nan)
        return out

    monkeypatch.setattr(module, "update", update)
    monkeypatch.setattr("lehr.proxy.diverged.update", update)
    with pytest.raises(ResultError) as caught:
        train(tiny("broken"), tmp_path)
    text = str(caught.value)
    assert text.startswith("run 'broken' diverged: the loss or gradient at step 16 is not a finite number.")
    assert (
        "Trained again from step 12: the output of blocks.0.ffn.down held the first value that is no finite "
        in text
    )
    assert "in update 15. The log ends before it, and the last good checkpoint is" in text
    assert "step-0000012.pt: lower the peak LR" in text
    assert read_log(tmp_path).last == 15
    assert saved_steps(tmp_path) == [6, 12]
    assert all(value.isfinite().all() for value in load_checkpoint(tmp_path, 12).model.values())


def test_broken_weights_are_never_saved(monkeypatch, tmp_path):
    real = session.update

    def update(run):
        out = real(run)
        if run.step == 12:
            with torch.no_grad():
                run.model.norm.weight[3] = math.inf
        return out

    monkeypatch.setattr(module, "update", update)
    with pytest.raises(ResultError, match="weights are not finite numbers any more after update 12"):
        train(tiny(validate_every=24), tmp_path)
    assert saved_steps(tmp_path) == [6]


def test_what_grew_first_is_named(monkeypatch, tmp_path):
    """The gradient of one matrix is enlarged from update 9 on; without clipping Adam's norm does not hide it."""

    def update(run, _update=session.update):
        scale = 1e12 ** max(0, run.step - 8)
        hook = run.model.blocks[0].attention.value.weight.register_hook(lambda gradient: gradient * scale)
        try:
            return _update(run)
        finally:
            hook.remove()

    monkeypatch.setattr(module, "update", update)
    monkeypatch.setattr("lehr.proxy.diverged.update", update)
    with pytest.raises(ResultError) as caught:
        train(tiny(checkpoint_every=None), tmp_path)
    text = str(caught.value)
    # hooks of a parameter run in the order of registration, so the watch sees the gradient before it is enlarged:
    # what it sees is what the enlarged updates do to the rest
    assert "Trained again from step 0: " in text and "grew first, more than tenfold by update" in text
    assert "there is no checkpoint yet: lower the peak LR" in text


@pytest.mark.parametrize("peak", ["1e19", "1e30"])
def test_an_absurd_lr_is_explained(peak, tmp_path):
    with pytest.raises(ResultError) as caught:
        train(tiny(plan=f"constant(steps=24, peak={peak})", optimizer={"weight_decay": 0.0}), tmp_path)
    assert re.search(r"held the first value that is no finite number, in update [1-9]\.", str(caught.value))


def test_origin_is_the_first_to_grow_tenfold_and_the_first_to_break():
    calm = {"a": 1.0, "b": 2.0}
    rows = [calm] * 5 + [{"a": 9.0, "b": 2.0}, {"a": 11.0, "b": 30.0}, {"a": 99.0, "b": math.inf}]
    assert find_origin(rows) == Origin("b", 6, "b", 7)
    assert find_origin(rows[:6]) == Origin(None, 0, None, 0)
    assert find_origin([*[calm] * 3, {"a": 1.0, "b": math.inf}]) == Origin(None, 0, "b", 3)
    assert find_origin([{"a": math.inf}]) == Origin(None, 0, "a", 0)
    assert find_origin([]) == Origin(None, 0, None, 0)
