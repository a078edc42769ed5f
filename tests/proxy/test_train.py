"""One training: its log, that it goes on exactly, and what it refuses."""

import shutil

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from tests.proxy.tiny import PLAN, lines, stop_at, tiny  # noqa: E402

from lehr.errors import InputError, ResultError  # noqa: E402
from lehr.files import write_atomic  # noqa: E402
from lehr.proxy import checkpoint  # noqa: E402
from lehr.proxy.checkpoint import checkpoint_path, saved_steps  # noqa: E402
from lehr.proxy.runlog import read_log  # noqa: E402
from lehr.proxy.train import train  # noqa: E402
from lehr.schedule.spec import parse  # noqa: E402


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing interrupted."""
    folder = tmp_path_factory.mktemp("train") / "whole"
    return train(tiny(keep=[3]), folder)


def test_the_result_and_the_log_tell_the_training(whole):
    log = read_log(whole.folder)
    rows = log.rows
    assert [row.step for row in rows] == list(range(1, 25))
    assert [row.lr for row in rows] == parse(PLAN).to_array().tolist()
    assert [row.step for row in rows if row.val_loss is not None] == [8, 16, 24]
    assert rows[-1].tokens == whole.tokens == 24 * 4 * 16
    assert np.all(np.diff([row.seconds for row in rows]) >= 0)
    assert whole.finished and (whole.step, whole.steps) == (24, 24)
    assert (whole.train_loss, whole.val_loss) == (rows[-1].train_loss, rows[-1].val_loss)
    assert rows[-1].train_loss < rows[0].train_loss == pytest.approx(np.log(32), rel=0.02)
    assert log.header["entropy"] < rows[-1].val_loss
    assert log.header["batch_tokens"] == 64 and log.header["ranks"] == 1
    assert log.header["meta"]["weight_decay"] == 0.1


def test_the_last_two_checkpoints_and_those_to_keep_stay(whole):
    assert saved_steps(whole.folder) == [3, 18, 24]


@pytest.mark.parametrize(
    "more",
    [{}, {"model": {"experts": {"count": 4, "balance": "bias", "balance_weight": 0.1}}, "accumulate": 2}],
    ids=["dense", "experts"],
)
def test_going_on_is_exact_to_the_last_bit(more, tmp_path):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    train(tiny(**more), straight)
    first = train(tiny(**more), broken, stop=stop_at(10, broken / "log.jsonl"))
    assert (first.step, first.finished) == (10, False)
    assert saved_steps(broken) == [6, 10], "a stop saves"
    second = train(tiny(**more), broken, resume=True)
    assert second.resumed_from == 10 and second.remarks == ()
    assert lines(broken) == lines(straight)
    assert second.seconds > first.seconds


def test_the_weights_at_the_end_are_those_of_an_uninterrupted_run(whole, tmp_path):
    train(tiny(keep=[3]), tmp_path, stop=stop_at(7, tmp_path / "log.jsonl"))
    train(tiny(keep=[3]), tmp_path, resume=True)
    ours, theirs = (checkpoint.load_checkpoint(folder, 24) for folder in (tmp_path, whole.folder))
    assert all(torch.equal(ours.model[name], value) for name, value in theirs.model.items())


def test_rows_after_the_checkpoint_are_dropped_and_a_cut_line_too(whole, tmp_path):
    folder = shutil.copytree(whole.folder, tmp_path / "run")
    for step in (18, 24):
        checkpoint_path(folder, step).unlink()
    log = folder / "log.jsonl"
    log.write_text(log.read_text()[:-30])
    result = train(tiny(keep=[3]), folder, resume=True)
    assert result.resumed_from == 3
    assert lines(folder) == lines(whole.folder)


def test_a_damaged_checkpoint_is_passed_over_and_said(whole, tmp_path):
    folder = shutil.copytree(whole.folder, tmp_path / "run")
    path = checkpoint_path(folder, 24).rename(checkpoint_path(folder, 23))
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    log = folder / "log.jsonl"
    write_atomic(log, "".join(log.read_text().splitlines(keepends=True)[:-2]))
    checkpoint_path(folder, 18).rename(checkpoint_path(folder, 20))  # of another step than its name says
    said = []
    result = train(tiny(keep=[3]), folder, resume=True, remark=said.append)
    assert result.remarks == tuple(said)
    assert said[0] == "the log ends at step 22: the checkpoint of step 23 is passed over"
    assert said[1].endswith("is that of step 18: restore its name. Going on from the one before.")
    assert result.resumed_from == 3
    assert lines(folder) == lines(whole.folder)


def test_all_checkpoints_damaged_means_from_the_start(whole, tmp_path):
    folder = shutil.copytree(whole.folder, tmp_path / "run")
    log = folder / "log.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-2]))
    for step in saved_steps(folder):
        checkpoint_path(folder, step).write_bytes(b"nothing")
    result = train(tiny(keep=[3]), folder, resume=True)
    assert result.resumed_from == 0
    assert (
        sum("is damaged: its content is not that which was written." in text for text in result.remarks) == 2
    )
    assert lines(folder) == lines(whole.folder)


def test_a_broken_line_in_the_log_is_gone_back_before(whole, tmp_path):
    folder = shutil.copytree(whole.folder, tmp_path / "run")
    log = folder / "log.jsonl"
    text = log.read_text().splitlines(keepends=True)
    log.write_text("".join([*text[:20], "\0\0\0\n", *text[21:]]))
    result = train(tiny(keep=[3]), folder, resume=True)
    assert "line 21 is not the row of the step after the one before" in result.remarks[0]
    assert result.resumed_from == 18
    assert lines(folder) == lines(whole.folder)


class Killed(BaseException):
    """Stands for SIGKILL."""


@pytest.mark.parametrize("steps", [24, 1])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_at_the_last_checkpoint_it_ends_with_that_and_all_rows(tmp_path, monkeypatch, when, steps):
    config = tiny(schedule=f"constant(steps={steps}, peak=1e-2)")
    straight, folder = (train(config, tmp_path / "whole").folder, tmp_path / "run")
    save = checkpoint.save_checkpoint

    def killed(place, state):
        if state.step == steps:
            if when == "after":
                save(place, state)
            raise Killed
        return save(place, state)

    monkeypatch.setattr(checkpoint, "save_checkpoint", killed)
    with pytest.raises(Killed):
        train(config, folder)
    monkeypatch.setattr(checkpoint, "save_checkpoint", save)
    again = train(config, folder, resume=True)
    assert again.finished and again.remarks == () and lines(folder) == lines(straight)
    ours, theirs = (checkpoint.load_checkpoint(place, steps).model for place in (folder, straight))
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_a_finished_run_is_left_as_it_is(whole):
    before = (whole.folder / "log.jsonl").stat().st_mtime_ns
    again = train(tiny(keep=[3]), whole.folder, resume=True)
    assert again.finished and again.val_loss == whole.val_loss and again.resumed_from == 24
    assert (whole.folder / "log.jsonl").stat().st_mtime_ns == before


def test_a_run_that_is_there_is_not_begun_anew(whole):
    with pytest.raises(InputError, match="holds this run already, at step 24 of 24: go on with --resume"):
        train(tiny(keep=[3]), whole.folder)


def test_another_run_in_the_folder_is_refused(whole):
    with pytest.raises(
        InputError, match=r"another run: its training.batch is 4, not 8 \(and training.seed differ"
    ):
        train(tiny(keep=[3], batch=8, seed=1), whole.folder, resume=True)


def test_a_log_older_than_a_setting_is_gone_on_with(whole, tmp_path):
    folder = shutil.copytree(whole.folder, tmp_path / "run")
    log = folder / "log.jsonl"
    text = log.read_text()
    assert '"parallel": "ddp", ' in text
    log.write_text(text.replace('"parallel": "ddp", ', "", 1))
    assert train(tiny(keep=[3]), folder, resume=True).finished


def test_a_run_that_never_began_is_begun(tmp_path):
    train(tiny(), tmp_path, stop=lambda: True)
    (tmp_path / "log.jsonl").write_text((tmp_path / "log.jsonl").read_text().splitlines(keepends=True)[0])
    shutil.rmtree(tmp_path / "checkpoints")
    assert train(tiny(), tmp_path).finished


def test_checkpoints_without_their_log_are_not_overwritten(whole, tmp_path):
    folder = shutil.copytree(whole.folder, tmp_path / "run")
    (folder / "log.jsonl").unlink()
    with pytest.raises(InputError, match=r"holds checkpoints but no rows in a log\.jsonl"):
        train(tiny(keep=[3]), folder)


def test_a_step_to_keep_beyond_the_end_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"training.keep must lie within the schedule's 24 updates, got 30"):
        train(tiny(keep=[30]), tmp_path)


def test_changed_data_are_refused(whole, tmp_path):
    folder = shutil.copytree(whole.folder, tmp_path / "run")
    log = folder / "log.jsonl"
    fingerprint = read_log(folder).header["data_fingerprint"]
    log.write_text(log.read_text().replace(f'"data_fingerprint": "{fingerprint}"', '"data_fingerprint": "x"'))
    with pytest.raises(InputError, match="the data are not those that .* was trained on"):
        train(tiny(keep=[3]), folder, resume=True)


def test_other_code_is_said(whole, tmp_path):
    folder = shutil.copytree(whole.folder, tmp_path / "run")
    log = folder / "log.jsonl"
    text = log.read_text().replace(read_log(folder).header["code"], "0" * 16)
    log.write_text("".join(text.splitlines(keepends=True)[:-1]))
    result = train(tiny(keep=[3]), folder, resume=True)
    assert any("another version of the training code" in text for text in result.remarks)


def test_accumulation_gives_the_same_curve(whole, tmp_path):
    parts = train(tiny(accumulate=2), tmp_path)
    ours, theirs = (
        [(row.train_loss, row.grad_norm) for row in read_log(folder).rows]
        for folder in (parts.folder, whole.folder)
    )
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def test_bfloat16_learns_much_the_same(whole, tmp_path):
    half = train(tiny(precision="bfloat16"), tmp_path)
    assert half.val_loss == pytest.approx(whole.val_loss, rel=2e-2)
    assert half.val_loss != whole.val_loss
    assert all(
        value.dtype == torch.float32
        for value in checkpoint.load_checkpoint(tmp_path, 24).model.values()
        if value.is_floating_point()
    )


def test_a_compiled_model_learns_the_same_and_goes_on(whole, tmp_path, monkeypatch):
    compiled, real = [], torch.nn.Module.compile

    def compile_quickly(self):  # traced as always, but run without generated code, which takes long to make
        compiled.append(self)
        real(self, backend="eager")

    monkeypatch.setattr(torch.nn.Module, "compile", compile_quickly)
    config = tiny(compile=True)
    train(config, tmp_path, stop=stop_at(9, tmp_path / "log.jsonl"))
    train(config, tmp_path, resume=True)
    ours, theirs = ([row.train_loss for row in read_log(folder).rows] for folder in (tmp_path, whole.folder))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert len(compiled) == 2
    names = checkpoint.load_checkpoint(whole.folder, 24).model.keys()
    assert checkpoint.load_checkpoint(tmp_path, 24).model.keys() == names, "not those of a wrapper"


def test_the_clipped_norm_is_logged_before_clipping_and_clips(whole, tmp_path):
    free = train(tiny(optimizer={"clip": 1e-3, "epsilon": 1.0}), tmp_path)
    log = read_log(free.folder)
    assert min(row.grad_norm for row in log.rows) > 0.01
    # Adam with so large an epsilon moves in proportion to the gradient, which is cut to almost nothing
    assert free.train_loss == pytest.approx(log.rows[0].train_loss, rel=0.01)


def test_progress_is_told_every_row(tmp_path):
    rows = []
    train(tiny(), tmp_path, progress=rows.append)
    logged = read_log(tmp_path).rows
    assert [(row.step, row.train_loss, row.val_loss) for row in rows] == [
        (row.step, row.train_loss, row.val_loss) for row in logged
    ]
    assert len(rows) == 24


def test_a_disk_that_is_too_small_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 1000))
    with pytest.raises(
        ResultError, match=r"0\.00 GiB free, but 3 checkpoints of 0\.00 GiB need more: make room"
    ):
        train(tiny(), tmp_path)


def test_a_disk_that_fills_up_leaves_what_was_there(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    train(tiny(), tmp_path, stop=stop_at(6, tmp_path / "log.jsonl"))
    with monkeypatch.context() as patch:
        patch.setattr("lehr.files.os.fsync", full)
        with pytest.raises(ResultError, match="No space left on device"):
            train(tiny(), tmp_path, resume=True)
    assert saved_steps(tmp_path) == [6]
    assert train(tiny(), tmp_path, resume=True).finished
