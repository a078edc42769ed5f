"""The log's lines, its header, and reading it after an accident. Nothing here needs torch."""

import json
import math

import pytest

from lehr.errors import InputError, ResultError
from lehr.proxy.config import make_config
from lehr.proxy.counts import count
from lehr.proxy.runlog import (
    LOG,
    LogWriter,
    Row,
    begin_log,
    code_version,
    cut_log,
    make_header,
    read_log,
    read_torn_log,
)

ROW = Row(step=3, lr=1e-3, train_loss=2.5, grad_norm=0.5, tokens=192, seconds=1.23456)


def config(**optimizer):
    return make_config({
        "name": "a", "model": {"depth": 1, "width": 16, "heads": 2, "context": 16, "experts": {"count": 4}},
        "optimizer": optimizer, "training": {"schedule": "constant(steps=20, peak=1e-2)", "batch": 4, "seed": 7},
    })  # fmt: skip


def header(made, parent=None):
    return make_header(
        made, vocab_size=32, fingerprint="f", entropy=1.5, parent=parent, torch="2.13", ranks=2
    )


def started(folder, rows=5):
    begin_log(folder, header(config()))
    writer = LogWriter(folder)
    writer.write(Row(s, 1e-3, 3.0, 1.0, 64 * s, s / 3, 2.9 if s == 4 else None) for s in range(1, rows + 1))
    writer.sync()
    writer.close()
    return folder / LOG


def test_a_line_is_json_with_the_validation_loss_where_it_was_measured():
    assert json.loads(ROW.line()) == {
        "step": 3, "lr": 1e-3, "train_loss": 2.5, "grad_norm": 0.5, "tokens": 192, "seconds": 1.235
    }  # fmt: skip
    assert json.loads(Row(**{**vars(ROW), "val_loss": 2.4}).line())["val_loss"] == 2.4
    assert ROW.line().endswith("}\n")


@pytest.mark.parametrize("name", ["train_loss", "grad_norm", "val_loss"])
def test_a_row_knows_whether_all_is_finite(name):
    assert ROW.finite
    assert not Row(**{**vars(ROW), name: math.nan}).finite


def test_the_header_tells_sizes_decay_and_versions():
    found, sizes = header(config(weight_decay=0.3)), count(config().model, 32)
    assert (found["params"], found["params_total"]) == (sizes.active_non_embedding, sizes.non_embedding)
    assert found["flops_per_token"] == sizes.training_flops
    assert found["meta"] == {
        "dataset": "synthetic-f",
        "weight_decay": 0.3,
        "seed": 7,
        "experts": 4,
        "top_k": 2,
    }
    assert (found["steps"], found["batch_tokens"], found["entropy"]) == (20, 64, 1.5)
    assert (found["torch"], found["ranks"], found["code"]) == ("2.13", 2, code_version())
    assert make_config(found["config"]) == config(weight_decay=0.3)
    assert json.loads(json.dumps(found)) == found


def test_an_independent_decay_is_told_as_what_multiplies_the_lr():
    found = header(config(weight_decay=1e-4, independent=True))
    assert found["meta"]["weight_decay"] == pytest.approx(1e-2)


def test_what_was_written_is_read_and_cut(tmp_path):
    path = started(tmp_path)
    log = read_log(tmp_path)
    assert [row.step for row in log.rows] == [1, 2, 3, 4, 5]
    assert (log.first, log.last, log.finished) == (0, 5, False)
    assert log.rows[3].val_loss == 2.9 and log.rows[4].val_loss is None
    before = path.read_text().splitlines()
    assert cut_log(log, 3).last == read_log(tmp_path).last == 3
    assert path.read_text().splitlines() == before[:4]


SKIPPED = Row(step=7, lr=1e-3, train_loss=2.5, grad_norm=0.5, tokens=448, seconds=2.0).line()


@pytest.mark.parametrize("end", ['{"step":6,"lr"', '{"step":6}\n', SKIPPED, "\0\0\n"])
def test_a_torn_end_is_told_and_cut_off(tmp_path, end):
    path = started(tmp_path)
    path.write_text(path.read_text() + end)
    log, torn = read_torn_log(tmp_path)
    assert log.last == 5
    if end.endswith("\n"):
        assert torn == f"{path}, line 7 is not the row of the step after the one before"
        with pytest.raises(
            InputError, match="line 7 is not the row of the step after .*: train the run again"
        ):
            read_log(tmp_path)
    else:
        assert torn is None, "a last line without its end was not yet written"
    cut_log(log, 5)
    assert read_log(tmp_path).last == 5


def test_no_log_and_no_header_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"holds no run: there is no log\.jsonl in it"):
        read_log(tmp_path)
    (tmp_path / LOG).write_text('{"step": 1}\n')
    with pytest.raises(InputError, match="line 1 is no header of a run log of version 1"):
        read_log(tmp_path)


def test_a_disk_that_refuses_is_told(tmp_path):
    started(tmp_path)
    writer = LogWriter(tmp_path)
    writer._file.close()
    writer._file = open("/dev/full", "ab")
    with pytest.raises(ResultError, match=r"could not write .*log\.jsonl: No space left on device"):
        writer.write([ROW])
    with pytest.raises(OSError, match="No space"):
        writer.close()
