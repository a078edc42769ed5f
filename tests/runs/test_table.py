import json

import numpy as np
import pytest
from tests.runs.tables import LOSS, SCHEDULE, STEP, csv, one, plain, rows

from lehr.errors import InputError
from lehr.runs import duck
from lehr.runs.readers import detect
from lehr.runs.readers.table import choose_columns
from lehr.schedule.families import constant, wsd


@pytest.fixture
def log(tmp_path):
    return csv(tmp_path / "run.csv", plain(rows()))


def test_csv_with_its_schedule_in_the_lr_column(log):
    reading = one(log, params=1e6, params_total=2e6, batch_tokens=512)
    run = reading.run
    assert detect(log) == "table"
    assert run.name == "run"
    assert run.step.tolist() == STEP.tolist()
    assert run.loss.tolist() == LOSS.tolist()
    assert np.abs(run.schedule.lr(STEP) - SCHEDULE.lr(STEP)).max() < 1e-9
    assert (run.params, run.params_total, run.batch_tokens) == (1e6, 2e6, 512)
    assert dict(run.meta) == {"source": "run.csv", "metric": "loss", "split": "train"}
    assert reading.report[:3] == (
        "format: table, by named columns", "columns: step=step, loss=loss, lr=lr",
        "loss: loss (train; it has no validation loss)",
    )  # fmt: skip
    assert "schedule inferred from the LR column: wsd, largest deviation" in reading.report[3]


@pytest.mark.parametrize("mark", ["\t", ";", "|"])
def test_other_delimiters_and_line_ends(tmp_path, mark):
    path = csv(tmp_path / "run.tsv", plain(rows()), mark=mark)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes().replace(b"\n", b"\r\n"))
    assert np.array_equal(one(path).run.loss, LOSS)


def test_parquet_jsonl_and_json_array_read_alike(tmp_path, log):
    table = plain(rows())
    records = [dict(zip(("step", "lr", "loss"), row, strict=True)) for row in table]
    lines, array = tmp_path / "run.jsonl", tmp_path / "run.json"
    lines.write_text("\n".join(json.dumps({**r, "note": {"deep": [1]}}) for r in records) + "\n")
    array.write_text(json.dumps(records))
    parquet = tmp_path / "run.parquet"
    connection = duck.connect()
    connection.sql("SELECT * FROM read_csv(?)", params=[str(log)]).write_parquet(str(parquet))
    expected = one(log).run.fingerprint()
    for path in (lines, array, parquet):
        assert detect(path) == "table"
        assert one(path).run.fingerprint() == expected


@pytest.mark.parametrize(
    "name",
    ["it's.csv", 'say "hi".csv', "a*.csv", "q?.csv", "w[1].csv", "-- x; drop.csv", "{a,b}.csv", "ü ñ.csv"],
)
def test_a_name_is_never_a_pattern_or_a_command(tmp_path, name):
    folder = tmp_path / "o'brien *"
    folder.mkdir()
    for other in ("ab.csv", "qq.csv", "w1.csv", "a.csv"):
        csv(folder / other, [(0, 1e-3, 9.0), (10, 1e-3, 9.0)])
    run = one(csv(folder / name, plain(rows()))).run
    assert run.loss.tolist() == LOSS.tolist()


def test_relative_path_is_read(log, monkeypatch):
    monkeypatch.chdir(log.parent)
    assert one("run.csv").run.step.size == STEP.size


def test_usual_names_and_chosen_columns(tmp_path):
    path = csv(tmp_path / "w.csv", [(*r, 2.0) for r in plain(rows())], "_step,Learning_Rate,train/loss,extra")
    assert one(path).report[1] == "columns: step=_step, loss=train/loss, lr=Learning_Rate"
    both = csv(tmp_path / "b.csv", [(*r, 2.0) for r in plain(rows())], "step,lr,loss,val_loss")
    assert set(one(both).run.loss.tolist()) == {2.0}
    assert "loss: val_loss (val)" in one(both).report
    assert one(both, split="train").run.loss.tolist() == LOSS.tolist()
    with pytest.raises(InputError, match="unknown split 'vale': did you mean 'val'"):
        one(both, split="vale")
    two = csv(tmp_path / "two.csv", [(*r, 2.0) for r in plain(rows())], "step,lr,train_loss,loss")
    with pytest.raises(
        InputError,
        match="'train_loss', 'loss' could each be the train loss of 'two': choose one with --column",
    ):
        one(two)
    reading = one(both, columns={"loss": "val_loss"}, name="mine")
    assert set(reading.run.loss.tolist()) == {2.0}
    assert reading.run.name == "mine"
    with pytest.raises(InputError, match=r"unknown column of .*b\.csv 'val_los': did you mean 'val_loss'"):
        one(both, columns={"loss": "val_los"})
    with pytest.raises(InputError, match="unknown column role 'los': did you mean 'loss'"):
        one(both, columns={"los": "val_loss"})
    with pytest.raises(InputError, match="has 2 columns 'x': rename them"):
        choose_columns(("x", "x"), {"loss": "x"}, "log")


def test_rivals_for_a_column_not_needed_are_reported(tmp_path):
    table = [(*r, 2.0, 3.0, 4.0) for r in plain(rows())]
    path = csv(tmp_path / "b.csv", table, "step,lr,loss,learning_rate,tokens,num_tokens")
    reading = one(path, schedule=SCHEDULE)
    assert any("no LR was read: lr, learning_rate differ; choose with" in line for line in reading.report)
    assert any("no tokens column was read" in line for line in reading.report)
    assert reading.run.schedule == SCHEDULE
    with pytest.raises(
        InputError, match="follow different schedules: choose the reference group with --column lr=NAME"
    ):
        one(path)


def test_sparse_rows_as_lightning_writes_them(tmp_path):
    table = []
    for step, lr, loss in plain(rows()):
        table += [(step, lr, None), (step, None, loss)]
    reading = one(csv(tmp_path / "metrics.csv", table))
    assert reading.run.loss.tolist() == LOSS.tolist()
    assert "100 of 200 rows have no loss and were left out" in reading.report


def test_broken_losses_are_dropped_and_counted(tmp_path):
    table = plain(rows())
    table[3] = (30, table[3][1], float("nan"))
    table[4] = (40, table[4][1], -1.0)
    reading = one(csv(tmp_path / "r.csv", table))
    assert reading.run.step.size == 98
    assert any(
        line.startswith("drop_broken: 2 of 100 points dropped (1 NaN, 1 zero or neg")
        for line in reading.report
    )


def test_late_start_needs_a_schedule(tmp_path):
    late = csv(tmp_path / "late.csv", plain(rows())[30:])
    with pytest.raises(
        InputError, match=r"late\.csv starts at step 300, .* give the run's whole schedule with --schedule"
    ):
        one(late)
    reading = one(late, schedule=SCHEDULE)
    assert reading.run.schedule == SCHEDULE
    assert any(
        "the given schedule agrees with the LR column within 0 of its peak" in line for line in reading.report
    )


def test_no_lr_needs_a_schedule(tmp_path):
    path = csv(tmp_path / "n.csv", [(a, c) for a, _, c in plain(rows())], "step,loss")
    with pytest.raises(InputError, match=r"n\.csv has no LR column: give the run's schedule with --schedule"):
        one(path)
    assert (
        "the schedule was given; there is no LR column to check it against"
        in one(path, schedule=SCHEDULE).report
    )


def test_given_schedule_must_agree_with_the_log(log):
    wrong = wsd(steps=1000, peak=1e-3, warmup=100, decay=400)
    with pytest.raises(
        InputError, match=r"run\.csv, line 63: the logged LR 0\.001 at step 610 contradicts the given"
    ):
        one(log, schedule=wrong)
    near = wsd(steps=1000, peak=1.005e-3, warmup=100, decay=200)
    assert "agrees with the LR column within 0.005" in " ".join(one(log, schedule=near).report)


def test_given_schedule_may_be_logged_one_update_late(tmp_path):
    path = csv(tmp_path / "r.csv", plain(rows(STEP + 10, SCHEDULE.lr(STEP + 9))))
    assert "within 0 of its peak" in " ".join(one(path, schedule=SCHEDULE).report)


def test_schedule_shorter_than_the_log(log):
    with pytest.raises(
        InputError, match=r"run\.csv: run 'run': last step must not exceed the schedule's 500 updates"
    ):
        one(log, schedule=SCHEDULE.first(500))


def test_losses_after_the_last_lr(tmp_path):
    table = [*[(s, 1e-3, 3.0) for s in range(0, 100, 10)], (150, None, 2.5)]
    assert one(csv(tmp_path / "r.csv", table)).run.steps >= 150


def test_total_steps_is_passed_on(tmp_path):
    table = [(s, 1e-3, 3.0) for s in range(0, 100, 10)]
    assert one(csv(tmp_path / "r.csv", table), total_steps=400).run.steps == 400
    with pytest.raises(
        InputError, match=r"r\.csv: total_steps must be at least the last logged step 90, got 50"
    ):
        one(tmp_path / "r.csv", total_steps=50)


def test_steps_that_go_back(tmp_path):
    table = plain(rows())
    path = csv(tmp_path / "r.csv", table[:60] + table[50:])
    with pytest.raises(
        InputError, match=r"r\.csv, line 62: steps must increase, got 500 after 590: .* --segments"
    ):
        one(path)
    reading = one(path, segments=True)
    assert reading.run.step.tolist() == STEP.tolist()
    assert [line.split(":")[0] for line in reading.report if "stitch" in line] == ["loss", "LR"]


def test_segments_whose_order_cannot_be_told(tmp_path):
    table = plain(rows())
    path = csv(tmp_path / "r.csv", table + table[50:60])
    with pytest.raises(
        InputError, match=r"r\.csv: the order of the log's 2 segments .* give the order .--order"
    ):
        one(path, segments=True)
    reading = one(path, segments=True, order="newest-first")
    assert reading.run.step.tolist() == STEP.tolist()


def test_a_very_long_header(tmp_path):
    more = [f"a rather long name of one column among many {i}" for i in range(3000)]
    table = [(*r, *([None] * 3000)) for r in plain(rows())]
    assert (
        one(csv(tmp_path / "wide.csv", table, ",".join(["step", "lr", "loss", *more]))).run.step.size == 100
    )


def test_tokens_tell_the_batch_size_and_the_steps(tmp_path):
    table = [(a, b, c, a * 512) for a, b, c in plain(rows())]
    path = csv(tmp_path / "r.csv", table, "step,lr,loss,tokens")
    reading = one(path)
    assert reading.run.batch_tokens == pytest.approx(512)
    assert "batch size from the tokens column: 512 tokens an update" in reading.report
    with pytest.raises(
        InputError, match="batch_tokens must agree with the tokens column, 512 an update, got 1024"
    ):
        one(path, batch_tokens=1024)
    bare = csv(tmp_path / "t.csv", [(d, b, c) for _, b, c, d in table], "tokens,lr,loss")
    assert one(bare, batch_tokens=512).run.step.tolist() == STEP.tolist()
    with pytest.raises(InputError, match="has no step column"):
        one(bare)
    with pytest.raises(InputError, match=r"line 3: tokens / batch_tokens must be a whole number of updates"):
        one(bare, batch_tokens=500)
    odd = csv(tmp_path / "o.csv", [(a, b, c, a * a) for a, b, c in plain(rows())], "step,lr,loss,tokens")
    assert "tokens are not proportional to steps: no batch size was taken from them" in one(odd).report


@pytest.mark.parametrize("size", ["csv_25", "csv_100"])
def test_real_multi_power_curves(lehr_data, size):
    peak, final = 3e-4, 3e-5
    known = {
        "constant_24000": constant(steps=24000, peak=peak, warmup=2160),
        "wsd_20000_24000": wsd(
            steps=24000, peak=peak, warmup=2160, decay=4000, shape="exponential", final=final
        ),
        "wsdld_20000_24000": wsd(steps=24000, peak=peak, warmup=2160, decay=4000, final=final),
    }
    for name, schedule in known.items():
        path = lehr_data / "mpl-curves" / size / f"{name}.csv"
        with pytest.raises(InputError, match="starts at step 2176, so the LR .* --schedule"):
            one(path)
        run = one(path, schedule=schedule).run
        assert run.name == name
        assert run.step[0] == 2176
        assert 2 < run.final_loss < 4
    with pytest.raises(InputError, match="contradicts the given schedule"):
        one(path, schedule=known["constant_24000"])
