"""Whatever the tool, its log becomes a run by one set of rules."""

import math
from dataclasses import replace

import numpy as np
import pytest

from lehr.errors import InputError
from lehr.runs.readers.assemble import assemble
from lehr.runs.readers.raw import Log, Series
from lehr.runs.readers.reading import ReadOptions
from lehr.schedule.families import constant, wsd

SCHEDULE = wsd(steps=1000, peak=1e-3, warmup=100, decay=200)
STEP = np.arange(0, 1000, 10.0)
LR = SCHEDULE.lr(STEP.astype(int))
TRAIN = 3 + 5 / np.sqrt(STEP + 10)
VAL = TRAIN + 0.1


def log(series=None, **values):
    given = {"train/loss": Series(STEP, TRAIN), "val/loss": Series(STEP, VAL), "lr": Series(STEP, LR)}
    return Log("some.log", "run", {**given, **(series or {})}, **values)


def one(of, **options):
    return assemble(of, ReadOptions(**options))


def refused(of, **options):
    with pytest.raises(InputError) as caught:
        one(of, **options)
    return str(caught.value)


def test_the_validation_loss_is_read_where_there_is_one():
    reading = one(log())
    assert reading.run.loss.tolist() == VAL.tolist()
    assert dict(reading.run.meta) == {"source": "some.log", "metric": "val/loss", "split": "val"}
    assert one(log(), split="train").run.loss.tolist() == TRAIN.tolist()
    assert one(log(), columns={"loss": "train/loss"}).run.loss.tolist() == TRAIN.tolist()
    only = replace(log(), series={"loss": Series(STEP, TRAIN), "lr": Series(STEP, LR)})
    assert "loss: loss (train; it has no validation loss)" in one(only).report


def test_a_format_may_fix_the_names():
    reading = one(log({"x": Series(STEP, VAL + 1)}, roles={"val": "x"}))
    assert reading.run.loss.tolist() == (VAL + 1).tolist()


def test_losses_that_cannot_be_chosen():
    two = log({"eval/loss": Series(STEP, VAL)})
    assert "'val/loss', 'eval/loss' could each be the val loss of 'run': choose one" in refused(two)
    bare = replace(log(), series={"lr": Series(STEP, LR)})
    text = "no loss of 'run' among its metrics (lr): name it with --column loss=NAME"
    assert text in refused(bare)
    assert "or choose the other --split" in refused(bare, split="train")
    empty = replace(log(), series={"loss": Series(STEP, STEP * np.nan), "lr": Series(STEP, LR)})
    assert "no row has a number as its loss" in refused(empty)
    assert "unknown metric of some.log 'los'" in refused(log(), columns={"loss": "los"})
    assert "unknown column role 'x'" in refused(log(), columns={"x": "lr"})


def test_bits_per_byte_need_the_bytes_of_a_token():
    bits = log({"val/bpb": Series(STEP, VAL / 4 / math.log(2))}, bits=frozenset({"val/bpb"}))
    bits = replace(bits, series={k: v for k, v in bits.series.items() if k != "val/loss"})
    assert "val/bpb of 'run' is in bits per byte, laws need nats per token" in refused(bits)
    reading = one(bits, bytes_per_token=4.0)
    assert reading.run.loss == pytest.approx(VAL, rel=1e-12)
    assert "bits per byte x ln 2 x 4 bytes a token" in reading.report
    # a usual name of bits is known by itself
    assert one(replace(bits, bits=frozenset()), bytes_per_token=4.0).run.loss == pytest.approx(VAL)


def test_averages_are_put_where_they_belong():
    reading = one(log(), window=9)
    assert reading.run.step.tolist() == [0, *(STEP[1:] - 5)]
    assert reading.run.loss.tolist() == VAL.tolist()
    assert "means over 9 updates, put at their middle" in reading.report
    assert one(log(), ema=0.9).run.step[-1] == STEP[-1] - 10
    # the first few may all belong to the start: the last of them is kept
    assert one(log(), window=41).run.step[:3].tolist() == [0, 9, 19]


def test_tokens_as_the_axis():
    tokens = {name: Series(each.step * 512, each.value) for name, each in log().series.items()}
    by_tokens = replace(log(), series=tokens, axis="tokens")
    assert "counts tokens, not updates: give the tokens of one update with --batch-tokens" in refused(
        by_tokens
    )
    assert one(by_tokens, batch_tokens=512).run.step.tolist() == STEP.tolist()
    assert one(replace(by_tokens, batch_tokens=512)).run.batch_tokens == 512
    text = (
        "some.log, val/loss[1]: tokens / batch_tokens must be a whole number of updates, 0 or more, got 10.24"
    )
    assert text in refused(by_tokens, batch_tokens=500)


def test_tokens_beside_the_steps_tell_the_batch():
    counted = log({"total_tokens": Series(STEP, STEP * 2048)})
    assert one(counted).run.batch_tokens == pytest.approx(2048)
    assert "batch_tokens must agree with the tokens column, 2048 an update" in refused(
        counted, batch_tokens=1
    )
    assert one(replace(log(), batch_tokens=99)).run.batch_tokens == 99
    two = log({"total_tokens": Series(STEP, STEP), "tokens": Series(STEP, STEP)})
    assert any("no tokens column was read: total_tokens, tokens compete" in line for line in one(two).report)
    assert "unknown metric of some.log 'x'" in refused(log(), columns={"tokens": "x"})


def test_steps_that_go_back():
    again = np.concatenate([np.arange(60), np.arange(50, 100)])
    resumed = replace(
        log(), series={k: Series(v.step[again], v.value[again]) for k, v in log().series.items()}
    )
    assert one(resumed).run.step.tolist() == STEP.tolist()
    assert "some.log, val/loss[60]: steps must increase, got 500 after 590" in refused(
        replace(resumed, order="ask")
    )
    assert one(replace(resumed, order="ask"), segments=True).run.step.tolist() == STEP.tolist()
    # with times, the part written last counts, wherever it stands
    later = {k: Series(v.step[again], v.value[again] + (k == "val/loss") * (np.arange(110) < 60) * 0.5,
                       np.where(np.arange(110) < 60, 100.0, 0.0) + np.arange(110) / 1000)
             for k, v in log().series.items()}  # fmt: skip
    assert one(replace(log(), series=later)).run.step[-1] == 590
    lines = replace(resumed, order="ask", series={
        k: Series(v.step, v.value, line=np.arange(v.step.size) + 2) for k, v in resumed.series.items()
    })  # fmt: skip
    assert "some.log, line 62: steps must increase" in refused(lines)


def test_times_that_some_entries_lack_do_not_order_segments():
    again = np.concatenate([np.arange(60), np.arange(50, 100)])
    time = np.where(np.arange(110) < 60, 100.0, np.nan)
    resumed = {k: Series(v.step[again], v.value[again], time) for k, v in log().series.items()}
    assert one(replace(log(), series=resumed)).run.step.tolist() == STEP.tolist()


def test_entries_of_one_step_are_no_restart():
    twice = np.repeat(np.arange(100), 2)
    doubled = {k: Series(v.step[twice], v.value[twice] + 0.01 * (np.arange(200) % 2 == 0) * (k != "lr"))
               for k, v in log().series.items()}  # fmt: skip
    reading = one(replace(log(), series=doubled))
    assert reading.run.loss.tolist() == VAL.tolist()
    assert "loss: 100 entries have the step of the next and were left out" in reading.report
    assert not any("stitch" in line for line in reading.report)
    assert "steps must increase, got 0 after 0" in refused(replace(log(), series=doubled, order="ask"))


def test_parameter_groups_of_one_schedule():
    groups = log({"lr-AdamW/pg1": Series(STEP, LR), "lr-AdamW/pg2": Series(STEP, LR / 4)})
    groups = replace(groups, series={k: v for k, v in groups.series.items() if k != "lr"})
    reading = one(groups)
    assert reading.run.schedule.peak == pytest.approx(1e-3)
    assert any(
        "lr-AdamW/pg2 is 0.25 times lr-AdamW/pg1, whose schedule was taken" in x for x in reading.report
    )
    other = replace(groups, series={**groups.series, "lr-AdamW/pg2": Series(STEP, LR * 0 + 1e-3)})
    text = "'lr-AdamW/pg1', 'lr-AdamW/pg2' of 'run' follow different schedules: choose the reference group"
    assert text in refused(other)
    assert one(other, columns={"lr": "lr-AdamW/pg2"}).run.schedule.lr(np.array([980]))[0] == 1e-3
    assert any("no LR was read" in line for line in one(other, schedule=SCHEDULE).report)


def test_the_schedule_of_the_settings():
    bare = {k: v for k, v in log().series.items() if k != "lr"}
    told = replace(log(), schedule=SCHEDULE)
    assert one(told).run.schedule is SCHEDULE
    assert any(
        "the schedule of the settings agrees with the logged LRs within 0" in x for x in one(told).report
    )
    assert one(replace(told, series=bare)).run.schedule is SCHEDULE
    assert "no LR was logged to check it against" in " ".join(one(replace(told, series=bare)).report)
    wrong = one(replace(told, schedule=constant(steps=1000, peak=1e-3)))
    assert "from the logged LRs: it was not used" in " ".join(wrong.report)
    assert wrong.run.schedule.lr(np.array([990]))[0] == pytest.approx(SCHEDULE.lr(np.array([990]))[0])
    assert "some.log has no LR column: give the run's schedule" in refused(replace(log(), series=bare))


def test_the_length_of_the_settings_counts_for_a_run_that_goes_on():
    begun = {k: Series(v.step[:50], v.value[:50]) for k, v in log().series.items()}
    flat = replace(log(), series={**begun, "lr": Series(STEP[:50], np.full(50, 1e-3))})
    assert one(replace(flat, total_steps=1000)).run.steps == 1000
    assert one(replace(flat, total_steps=1000), total_steps=700).run.steps == 700
    assert one(replace(flat, total_steps=100)).run.steps == 490  # a length that the log is past tells nothing


def test_multipliers_of_the_peak():
    relative = replace(log(), series={**log().series, "lr": Series(STEP, LR / LR.max())})
    assert one(relative, peak_lr=2e-3).run.schedule.peak == pytest.approx(2e-3)
    told = replace(log(), series={"loss": Series(STEP, TRAIN)}, schedule=SCHEDULE.scaled(1000))
    assert one(told, peak_lr=2e-3).run.schedule.lr(np.array([500]))[0] == pytest.approx(2e-3)


def test_a_late_log_takes_its_past_from_where_it_branched():
    late = {k: Series(v.step[81:], v.value[81:]) for k, v in log().series.items()}
    branch = replace(log(), series=late, parent="trunk", branch_step=800)
    text = "some.log starts at step 810, so the LR of the updates before it is unknown: give the run's whole"
    assert text in refused(branch)
    trunk = constant(steps=2000, peak=1e-3, warmup=100)
    reading = one(branch, past=trunk.first(800))
    assert reading.run.schedule.lr(np.arange(990)) == pytest.approx(SCHEDULE.lr(np.arange(990)), rel=1e-9)
    assert "updates before step 800 have the LR of the run it branched from" in reading.report
    # between the branch and the first row more is unknown than a row's distance
    assert "starts at step 810" in refused(branch, past=trunk.first(700))


def test_points_up_to_the_branch_are_the_parents():
    reading = one(log(parent="trunk", branch_step=500))
    assert reading.run.step[0] == 510
    assert "51 of 100 points are not after the branch and were left out" in reading.report


def test_settings_worth_keeping():
    meta = one(log(config={"seed": 3, "optim.weight_decay": 0.1, "dataset": "some/folder/data"})).run.meta
    assert (meta["seed"], meta["weight_decay"]) == (3, 0.1)
    assert "dataset" not in meta  # a path of the machine that trained
