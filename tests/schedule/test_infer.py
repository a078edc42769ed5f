"""Schedules recovered from logged LRs: made ones exactly, public ones to the last digit."""

import json

import numpy as np
import pytest

from lehr.errors import InputError
from lehr.schedule.families import constant, cosine, cyclic, multistep, one_cycle, wsd
from lehr.schedule.infer import infer
from lehr.schedule.spec import parse, to_text

GAP = 50
UP = {"steps": 10_000, "peak": 3e-4, "warmup": 430}

MADE = {
    "constant": constant(**UP),
    "constant, wasteful warm-up": constant(**UP, warmup_phase=0, warmup_start=3e-6),
    "constant, no warm-up": constant(steps=10_000, peak=1e-3),
    "linear": wsd(**UP, decay=2345),
    "linear to a tenth": wsd(**UP, decay=2345, final=3e-5),
    "sqrt": wsd(**UP, decay=2345, shape="sqrt"),
    "square": wsd(**UP, decay=2345, shape="square"),
    "half cosine": wsd(**UP, decay=2345, shape="cosine", final=1e-5),
    "mirror cosine": wsd(**UP, decay=2345, shape="mirror_cosine", warmup_phase=0),
    "exponential": wsd(**UP, decay=2345, shape="exponential", final=3e-6),
    "power": wsd(**UP, decay=2345, shape="power(1.5)"),
    "power below 1": wsd(**UP, decay=4321, shape="power(0.7)", final=1e-5),
    "all decay": wsd(**UP, decay=9570),
    "all decay, wasteful": wsd(**UP, decay=9570, shape="sqrt", warmup_phase=0),
    "no warm-up": wsd(steps=10_000, peak=1e-3, decay=10_000, shape="square"),
    "cosine": cosine(**UP, final=3e-5),
    "cosine, wasteful warm-up": cosine(**UP, warmup_phase=0, warmup_start=1e-5),
    "cosine cut short": cosine(**UP, cycle=14_321),
    "cosine that ends early": cosine(**UP, cycle=7654, final=3e-5),
    "one cycle": one_cycle(steps=10_000, peak=3e-4, warmup=430, start=3e-6, final=3e-8),
    "two stages": multistep(**UP, milestones=[8000, 9000], factors=[0.316, 0.1]),
    "drop and rise": multistep(**UP, milestones=[5000, 7000], factors=[0.5, 2]),
}


def rows(schedule, offset=0, first=0, gap=GAP):
    """Steps and LRs of a log with a row each `gap` steps."""
    step = np.arange(first, schedule.steps + 1, gap)
    step = step[(step + offset >= 0) & (step + offset < schedule.steps)]
    return step, schedule.lr(step + offset)


@pytest.mark.parametrize("offset", [0, -1])
@pytest.mark.parametrize("schedule", MADE.values(), ids=MADE)
def test_every_family_comes_back_exactly(schedule, offset):
    found = infer(*rows(schedule, offset), total_steps=10_000, offset=offset)
    assert to_text(found.schedule) == to_text(schedule)
    assert found.family == schedule.call[0]
    assert found.max_relative_error < 1e-9
    assert f"{found.family} is within" in found.note


# Offset 0 of a warm-up and a hold is offset -1 of the same, one update earlier.
TOLD = [name for name in MADE if "constant" not in name and name not in ("two stages", "drop and rise")]


@pytest.mark.parametrize("offset", [0, -1])
@pytest.mark.parametrize("name", TOLD)
def test_length_and_offset_are_found(name, offset):
    found = infer(*rows(MADE[name], offset))
    assert found.offset == offset
    if "cycle=" in to_text(MADE[name]):  # such a cosine does not tell where training ends
        assert dict(found.schedule.call[1])["cycle"] == dict(MADE[name].call[1])["cycle"]
    else:
        assert to_text(found.schedule) == to_text(MADE[name])
    assert "the length was not given" in found.note


def test_equal_offsets_prefer_0_and_say_so():
    step, lr = rows(constant(steps=1000, peak=1e-3))
    found = infer(step, lr, total_steps=1000)
    assert found.offset == 0
    assert "offsets 0 and -1 fit equally well: 0 is taken, it is the usual one" in found.note
    assert "offset" not in infer(step, lr, total_steps=1000, offset=0).note


def test_an_offset_that_fits_better_is_said():
    assert "offset -1 fits better than the other" in infer(*rows(MADE["cosine"], -1), total_steps=10_000).note


def test_a_constant_log_tells_no_length():
    assert infer(*rows(constant(steps=1000, peak=1e-3))).schedule.steps == 950
    assert infer(*rows(constant(steps=1000, peak=1e-3), gap=1)).schedule.steps == 1000


def test_single_precision_and_printed_digits_are_seen_through():
    for name in ("linear to a tenth", "cosine"):
        step, lr = rows(MADE[name])
        printed = np.array([float(f"{value:.6E}") for value in lr])
        for column in (lr.astype(np.float32), printed):
            found = infer(step, column, total_steps=10_000)
            assert to_text(found.schedule) == to_text(MADE[name])
            assert 1e-9 < found.max_relative_error < 1e-6


def test_shuffled_and_repeated_rows():
    step, lr = rows(MADE["sqrt"])
    order = np.random.default_rng(0).permutation(len(step))
    step, lr = np.append(step[order], [100, 300]), np.append(lr[order], [np.nan, lr[6]])
    assert to_text(infer(step, lr).schedule) == to_text(MADE["sqrt"])


def test_a_jump_between_rows_is_placed_at_the_roundest_update():
    found = infer(*rows(multistep(steps=1000, peak=1.0, milestones=[612], factors=[0.5])))
    assert dict(found.schedule.call[1])["milestones"] == (650,)
    assert "a jump between two rows is placed at the roundest update between them" in found.note


def test_of_repeated_rows_the_last_counts():
    step, lr = rows(MADE["sqrt"])
    found = infer(np.concatenate([[500, 700], step]), np.concatenate([[9.0, 9.0], lr]))
    assert to_text(found.schedule) == to_text(MADE["sqrt"])


def test_a_million_rows_need_no_more_time_than_a_thousand():
    schedule = wsd(steps=400_000, peak=3e-4, warmup=2000, decay=56_789, shape="sqrt")
    assert to_text(infer(*rows(schedule, gap=1), offset=0).schedule) == to_text(schedule)


def test_a_last_row_of_0_after_a_constant_run_is_left_out():
    step, lr = np.arange(50, 1001, 50), np.full(20, 1e-3)
    lr[-1] = 0
    found = infer(step, lr)
    assert to_text(found.schedule) == "constant(steps=1000, peak=0.001)"
    assert found.max_relative_error == 0
    assert "the last row, of LR 0, is left out" in found.note
    assert to_text(infer(step, lr, total_steps=1000).schedule) == "constant(steps=1000, peak=0.001)"


def test_an_unseen_warm_up_is_assumed_none_unless_given():
    step, lr = rows(MADE["linear"], first=1000)
    found = infer(step, lr)
    assert found.schedule == wsd(steps=10_000, peak=3e-4, decay=2345)
    assert "starts at update 1000, so a warm-up before it is not seen: none is assumed" in found.note
    known = infer(step, lr, warmup={"warmup": 430})
    assert known.schedule == MADE["linear"]
    assert "not seen" not in known.note


def test_a_cosine_tells_the_length_of_an_unseen_warm_up():
    found = infer(*rows(MADE["cosine"], first=1000))
    assert to_text(found.schedule) == to_text(MADE["cosine"])
    assert "its length is taken from the cosine" in found.note
    later = infer(*rows(MADE["half cosine"], first=1000))
    assert dict(later.schedule.call[1])["decay"] == 2345


@pytest.mark.parametrize("shape", ["linear", "sqrt", "square", "power(1.5)"])
def test_a_log_that_starts_at_a_branch(shape):
    schedule = wsd(steps=10_000, peak=1e-3, warmup=300, decay=2000, shape=shape)
    hint = {"warmup": 300}
    within = infer(*rows(schedule, first=8050), total_steps=10_000, warmup=hint)
    assert within.schedule == schedule
    before = infer(*rows(schedule, first=7000), total_steps=10_000, warmup=hint)
    assert before.schedule == schedule
    noted = infer(*rows(schedule, first=8050), total_steps=10_000)
    assert "the log starts within the decay, taken to begin at update 8000" in noted.note


def test_one_row_of_warm_up_is_noted():
    found = infer(*rows(wsd(steps=10_000, peak=1e-3, warmup=60, decay=2000), first=50))
    assert dict(found.schedule.call[1])["warmup"] == 60
    assert "only one row shows the warm-up" in found.note


def test_an_unlogged_end_is_noted():
    step, lr = rows(constant(steps=1000, peak=1e-3))
    assert "nothing is logged after update 450" in infer(step[:10], lr[:10], total_steps=1000).note


def test_what_no_family_fits_is_interpolated():
    schedule = cyclic(steps=1000, peak=1.0, low=0.1, period=300)
    found = infer(*rows(schedule, gap=10), total_steps=1000)
    assert (found.family, found.offset, found.max_relative_error) == ("from_array", 0, 0)
    assert "straight lines between the rows, the largest step between two of them being 0.9" in found.note
    seen = np.arange(0, 1000, 10)
    np.testing.assert_array_equal(found.schedule.lr(seen), schedule.lr(seen))
    assert np.abs(found.schedule.to_array() - schedule.to_array())[:290].max() < 1e-3


def test_a_fallback_reaches_one_gap_beyond_the_rows():
    step = np.arange(10, 100, 10)
    lr = 1e-3 * np.array([1.0, 2, 3, 1, 3, 1, 2, 3, 2])
    found = infer(step, lr, total_steps=100)
    assert found.schedule.lr(np.array([0, 1, 10, 45, 99])).tolist() == pytest.approx(
        [0, 1e-4, 1e-3, 2e-3, 2e-3]
    )


def test_a_fallback_without_the_start_or_the_end_is_refused():
    step, lr = rows(cyclic(steps=1000, peak=1.0, low=0.1, period=300), gap=10)
    with pytest.raises(InputError, match=r"LR before the first row \(step 100\) is unknown: .* --schedule"):
        infer(step[10:], lr[10:])
    with pytest.raises(InputError, match=r"LR after the last row \(step 490\) of 1000 updates is unknown"):
        infer(step[:50], lr[:50], total_steps=1000)


GOOD = ([0, 50, 100], [1e-3, 1e-3, 1e-3])


@pytest.mark.parametrize(
    ("columns", "options", "text"),
    [
        (([0, 50], [1e-3]), {}, r"lr must have one value a step, shape \(2,\), got \(1,\): pass two equal"),
        (([0, 50, -1], GOOD[1]), {}, r"step must count updates, 0 or more, got -1\.0"),
        (([0, 50, 7.5], GOOD[1]), {}, r"step must count updates, 0 or more, got 7\.5"),
        ((GOOD[0], [1, -1, 1]), {}, r"lr must be at least 0 and not all 0, got -1\.0: check which column"),
        ((GOOD[0], [0, 0, 0]), {}, r"lr must be at least 0 and not all 0, got 0\.0"),
        (
            (GOOD[0], [1, 1, np.nan]),
            {},
            "must have at least 3 different steps with an LR, got 2: give --schedule",
        ),
        (([5, 5, 6], GOOD[1]), {}, "must have at least 3 different steps with an LR, got 2"),
        (GOOD, {"total_steps": 99}, "total_steps must be at least the last logged step 100, got 99"),
        (GOOD, {"total_steps": 150.5}, r"total_steps must be at least the last logged step 100, got 150\.5"),
        (GOOD, {"offset": 1}, "offset must be 0 or -1, got 1: 0 if a row shows the next LR"),
        (GOOD, {"warmup": {"warmpu": 3}}, "unknown warm-up argument 'warmpu': did you mean 'warmup'"),
    ],
)
def test_refusals(columns, options, text):
    with pytest.raises(InputError, match=text):
        infer(*columns, **options)


PUBLIC = {
    "constant_24000": "constant(steps=24000, peak=0.0003, {})",
    "constant_72000": "constant(steps=72000, peak=0.0003, {})",
    "cosine_24000": "cosine(steps=24000, peak=0.0003, final=3e-5, {})",
    "cosine_72000": "cosine(steps=72000, peak=0.0003, final=3e-5, {})",
    "wsd_20000_24000": "wsd(steps=24000, peak=0.0003, decay=4000, shape=exponential, final=3e-5, {})",
    "wsdld_20000_24000": "wsd(steps=24000, peak=0.0003, decay=4000, final=3e-5, {})",
    "wsdcon_3": "multistep(steps=16000, peak=0.0003, milestones=[8000], factors=[0.1], {})",
    "wsdcon_9": "multistep(steps=16000, peak=0.0003, milestones=[8000], factors=[0.3], {})",
    "wsdcon_18": "multistep(steps=16000, peak=0.0003, milestones=[8000], factors=[0.6], {})",
}


@pytest.mark.parametrize("name", PUBLIC)
def test_public_curves(lehr_data, name):
    log = np.genfromtxt(lehr_data / "mpl-curves" / "csv_100" / f"{name}.csv", delimiter=",", names=True)
    expected = parse(PUBLIC[name].format("warmup=2160, warmup_phase=0"))
    hint = {"warmup": 2160, "warmup_phase": 0}
    found = infer(log["step"], log["lr"], total_steps=expected.steps, warmup=hint)
    assert found.schedule == expected
    assert (found.offset, found.family) == (0, expected.call[0])
    assert found.max_relative_error < 1e-12


def configured(config):
    """Return the schedule that a run's configuration asks for."""
    steps, peak = config["iterations"], config["lr"]
    if config["scheduler"] == "cos":
        low = config.get("cos_final_lr", -1)
        final = 0.1 * peak if low == -1 else low
        return one_cycle(steps=steps, peak=peak, warmup=300, start=0.01 * peak, final=final)
    rise = {"steps": steps, "peak": peak, "warmup": 300, "warmup_start": 0.01 * peak, "warmup_phase": 0}
    shape = config.get("decay_type", "linear")
    decay = round(config["wsd_fract_decay"] * steps)
    return wsd(decay=decay, shape=shape, **rise)


KINDS = ["ann0.2_", "cos-10-", "cos-zero-", "openwebtext2_", "sl_", "sl53_", "sl93_", "stable-"]
KINDS += [f"ann124-{fraction}" for fraction in (0.1, 0.2, 0.4, 0.6, 0.8, 0.9)]


@pytest.mark.parametrize("kind", KINDS)
def test_public_runs(lehr_data, kind):
    logs = sorted((lehr_data / "wsd-runs").glob(f"{kind}*.json"))
    assert logs
    for path in logs[-3:]:
        log = json.loads(path.read_text())
        config, train = log["config"], log["history"]["train"]
        late = min(train["iter"]) > 300
        hint = {"warmup": 300, "warmup_start": 0.01 * config["lr"], "warmup_phase": 0} if late else None
        found = infer(train["iter"], train["train_lr"], total_steps=config["iterations"], warmup=hint)
        expected = configured(config).to_array()
        assert found.offset == 0, path.name
        assert found.max_relative_error < 1e-12, path.name
        np.testing.assert_allclose(
            found.schedule.to_array(), expected, atol=1e-9 * config["lr"], err_msg=path.name
        )
