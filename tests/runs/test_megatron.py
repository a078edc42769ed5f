import math
import random
import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.errors import InputError
from lehr.runs.readers import megatron, megatron_lines
from lehr.runs.readers.megatron_schedule import _growing, schedule_of
from lehr.runs.readers.printed import Chunk, chunks
from lehr.runs.readers.reading import ReadOptions
from lehr.schedule.schedule import Segment, Table

ARGUMENTS = {
    "consumed_train_samples": 0, "global_batch_size": 256, "load": None, "log_interval": 10, "lr": 0.0003,
    "lr_decay_iters": None, "lr_decay_samples": None, "lr_decay_style": "cosine", "lr_warmup_fraction": None,
    "lr_warmup_init": 0.0, "lr_warmup_iters": 20, "lr_warmup_samples": 0, "lr_wsd_decay_iters": None,
    "lr_wsd_decay_samples": None, "lr_wsd_decay_style": "exponential", "min_lr": 3e-05, "rampup_batch_size": None,
    "seq_length": 2048, "train_iters": 200, "train_samples": None, "bf16": True,
    "use_checkpoint_opt_param_scheduler": False,
}  # fmt: skip


def block(**changes):
    """Print arguments as `_print_args` of megatron/training/arguments.py does."""
    lines = sorted(f"  {k} {'.' * (48 - len(k))} {v}" for k, v in (ARGUMENTS | changes).items())
    return [
        "------------------------ arguments ------------------------", *lines,
        "-------------------- end of arguments ---------------------",
    ]  # fmt: skip


def line(k, loss=10.8342, lr=1e-4, total=200, batch=256, skipped=0, nan=0, **more):
    """Print a training line as `training_log` does."""
    fields = [
        f" consumed samples: {k * batch:12d} ", " elapsed time per iteration (ms): 1234.5 ",
        " throughput per GPU (TFLOP/s/GPU): 401.2 ", f" learning rate: {lr:.6E} ", f" global batch size: {batch:5d} ",
        *([f" lm loss: {loss:.6E} "] if loss is not None else []), *(f" {n}: {v} " for n, v in more.items()),
        " loss scale: 1.0 ", " grad norm: 2.123 ",
        f" number of skipped iterations: {skipped:3d} ", f" number of nan iterations: {nan:3d} ",
    ]  # fmt: skip
    return f" [2026-03-01 00:00:{k % 60:02d}.250000] iteration {k:8d}/{total:8d} |" + "|".join(fields) + "|"


def validation(k, loss, suffix="", where=""):
    return f" validation{suffix} loss at iteration {k}{where} | lm loss value: {loss:.6E} | lm loss PPL: 1.8E+01 | "


@pytest.fixture
def load(tmp_path):
    def read(content, name="pretrain.log"):
        path = tmp_path / name
        data = content if isinstance(content, bytes) else ("\n".join(content) + "\n").encode()
        path.write_bytes(data)
        assert megatron.sniff(path)
        (log,) = megatron.logs(path, ReadOptions())
        return log

    return read


def test_everything_of_a_log(load):
    lines = [
        *block(), " > number of parameters on (tensor, pipeline) model parallel rank (0, 0): 124475904",
        line(1, 11.0), line(10, 10.5), line(20, 9.5), "-" * 50, validation(20, 9.4), "-" * 50, line(30, 9.0),
    ]  # fmt: skip
    log = load(lines)
    assert log.name == "pretrain"
    assert log.roles == {
        "train": "lm loss", "val": "lm loss validation", "lr": "learning rate", "tokens": "consumed tokens"
    }  # fmt: skip
    loss = log.series["lm loss"]
    # the mean of iteration 1; of 1 .. 10 (the first is not reset); of 11 .. 20; of 21 .. 30
    assert loss.step.tolist() == [0, 4, 14, 24]
    assert loss.value.tolist() == [11.0, 10.5, 9.5, 9.0]
    assert loss.line.tolist() == [26, 27, 28, 32]
    assert loss.time[:2] - datetime(2026, 3, 1, tzinfo=UTC).timestamp() == pytest.approx([1.25, 10.25])
    assert log.series["learning rate"].step.tolist() == [1, 10, 20, 30]
    assert log.series["consumed tokens"].value[0] == 256 * 2048
    val = log.series["lm loss validation"]
    assert (val.step.tolist(), val.value.tolist(), val.line.tolist()) == ([20], [9.4], [30])
    assert (log.batch_tokens, log.params_total, log.params) == (256 * 2048, 124475904, None)
    assert (log.config["seq_length"], log.config["bf16"], log.config["lr_decay_iters"]) == (2048, True, None)
    assert not any("elapsed" in name or "throughput" in name for name in log.series)
    assert log.report == (
        "4 training lines and 1 validation losses of Megatron-LM",
        "'lm loss' is a mean over 10 iterations and was moved to their middle",
        "schedule by the printed arguments: cosine, peak 0.0003",
    )
    assert log.place("lm loss", 1).endswith("pretrain.log, line 27")


def test_logged_lr_is_that_of_the_next_update(load):
    """The LR that Megatron prints after k iterations, by its own formula, is the schedule's at update k."""
    used = [lr_by_megatron(k, 20, 200, 200, 3e-4, 3e-5, "cosine") for k in range(201)]
    log = load([*block(), *(line(k, lr=used[k]) for k in range(10, 200, 10))])
    lr = log.series["learning rate"]
    assert lr.value == pytest.approx(log.schedule.lr(lr.step.astype(int)), rel=1e-6)
    assert log.schedule.lr(np.array([0]))[0] == 0.0
    assert all(isinstance(part, Segment) for part in log.schedule.segments)


def lr_by_megatron(k, warmup, decay, wsd, peak, low, style, wsd_style=None, first=0.0):
    """Write `OptimizerParamScheduler.get_lr` anew, in iterations."""
    if warmup > 0 and k <= warmup:
        return first + (peak - first) * k / warmup
    if style == "constant":
        return peak
    if k > decay:
        return low
    if style == "inverse-square-root":
        return max(low, peak * max(warmup, 1) ** 0.5 / max(k, 1) ** 0.5)
    if style == "WSD":
        start = decay - wsd
        if k <= start:
            return peak
        x, style = (k - start) / wsd, wsd_style
    else:
        x = (k - warmup) / (decay - warmup)
    share = {
        "linear": 1 - x, "cosine": 0.5 * (math.cos(math.pi * x) + 1), "exponential": 2 * 0.5**x - 1,
        "minus_sqrt": 1 - math.sqrt(x),
    }[style]  # fmt: skip
    return low + share * (peak - low)


@pytest.mark.parametrize("style", ["linear", "cosine", "constant", "inverse-square-root", "WSD"])
@pytest.mark.parametrize("wsd_style", ["linear", "cosine", "exponential", "minus_sqrt"])
@pytest.mark.parametrize(("warmup", "decay", "wsd"), [(20, None, 50), (0, 150, 150), (1, 250, 100)])
def test_schedules_of_the_arguments(style, wsd_style, warmup, decay, wsd):
    config = ARGUMENTS | {
        "lr_decay_style": style, "lr_wsd_decay_style": wsd_style, "lr_warmup_iters": warmup, "lr_decay_iters": decay,
        "lr_wsd_decay_iters": wsd, "lr_warmup_init": 1e-6,
    }  # fmt: skip
    schedule, _ = schedule_of(config, None)
    # 1 sample seen counts as one where warm-up is 0
    unit = 256 if style == "inverse-square-root" else 1
    expected = [
        lr_by_megatron(
            k * unit, warmup * unit, (decay or 200) * unit, wsd * unit, 3e-4, 3e-5, style, wsd_style, 1e-6
        )
        for k in range(200)
    ]
    assert schedule.to_array() == pytest.approx(expected, rel=1e-12)


def test_schedules_counted_in_samples_and_with_a_fraction():
    samples = {
        "train_iters": None, "train_samples": 256 * 200, "lr_warmup_samples": 256 * 20, "lr_decay_samples": 256 * 180
    }  # fmt: skip
    by_samples, _ = schedule_of(ARGUMENTS | samples, 200)
    by_iterations, _ = schedule_of(ARGUMENTS | {"lr_decay_iters": 180}, 200)
    assert by_samples == by_iterations
    odd, _ = schedule_of(ARGUMENTS | {"lr_warmup_fraction": 0.0123}, 200)
    assert isinstance(odd.segments[0], Table)
    assert odd.to_array()[:3] == pytest.approx([0, 3e-4 / 2.46, 2 * 3e-4 / 2.46])


def test_a_growing_batch_shifts_the_schedule():
    """Replay the calculator of batches and the scheduler together, update by update."""
    start, rise, over, batch, updates = 32, 16, 5000, 256, 200
    seen, sizes, used = 0, [], []
    for _ in range(updates):
        size = batch if seen > over else start + int(seen / (over / ((batch - start) / rise))) * rise
        used.append(lr_by_megatron(seen, 20 * 256, 200 * 256, 0, 3e-4, 3e-5, "cosine"))
        sizes.append(size)
        seen += size
    assert _growing(start, rise, over, batch, updates).tolist() == sizes
    schedule, sentence = schedule_of(ARGUMENTS | {"rampup_batch_size": "['32', '16', '5000']"}, None)
    assert schedule.to_array() == pytest.approx(used, rel=1e-12)
    assert sentence.endswith("(batch ramp-up counted)")
    assert _growing(32, 16, 0, 64, 3).tolist() == [64, 64, 64]
    assert _growing(2, 1, 10, 1002, 5).tolist() == [2, 202, 1002, 1002, 1002]
    assert _growing(64, 16, 100, 64, 2).tolist() == [64, 64]


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"lr": None}, "the log prints no arguments"),
        ({"train_iters": None}, "the number of updates is not known"),
        ({"lr": "high"}, r"give no schedule \(lr is 'high'\)"),
        ({"lr_warmup_iters": 500}, "warm-up of 128000 and decay to 51200 samples"),
        ({"lr_decay_style": "polynomial"}, "lr_decay_style is 'polynomial'"),
        ({"lr_decay_style": "WSD"}, "lr_wsd_decay_iters is None"),
        ({"global_batch_size": None}, "global_batch_size is None"),
        ({"train_iters": 1.5}, "train_iters is 1.5"),
        ({"rampup_batch_size": "[1, 2]"}, r"rampup_batch_size is '\[1, 2\]'"),
        ({"rampup_batch_size": "[1, 2, 3]"}, "for a global batch of 256"),
        (
            {"rampup_batch_size": "[32, 16, 5000]", "train_iters": 10**9},
            "updates with a growing batch are too many",
        ),
        ({"rampup_batch_size": "[1, 1, 1]", "global_batch_size": 10**12}, "growing batch are too many"),
        ({"lr_warmup_fraction": 0.0123, "train_iters": 10**9 + 1}, "too many to list"),
    ],
)
def test_arguments_without_a_schedule(changes, why):
    schedule, sentence = schedule_of(ARGUMENTS | changes, None)
    assert schedule is None

    assert re.search(why, sentence)


def test_older_versions_and_forks(load):
    old = load([
        " iteration       10/     100 | elapsed time per iteration (ms): 500.1 | learning rate: 1.000E-04 | loss: 9 |",
        " iteration       20/     100 | elapsed time per iteration (ms): 500.1 | learning rate 1e-4 | lm loss 8.25 |",
    ])  # fmt: skip
    assert old.series["learning rate"].value.tolist() == [1e-4, 1e-4]
    assert old.series["learning rate"].time is None
    assert old.series["loss"].value.tolist() == [9]
    assert old.series["lm loss"].value.tolist() == pytest.approx([np.nan, 8.25], nan_ok=True)
    neox = load([
        " samples/sec: 2.1 | iteration       10/  100 | elapsed time per iteration (ms): 5.0 | learning rate: 1.0E-04 |"
        " approx flops per GPU: 1TFLOPS | lm_loss: 1.081E+01 | loss scale: 4096.0 | number of skipped iterations:  2 |",
        " validation results at iteration 10 | lm_loss value: 2.9E+00 | lm_loss_ppl value: 1.8E+01 | ",
    ])  # fmt: skip
    assert neox.roles == {"train": "lm_loss", "val": "lm_loss validation", "lr": "learning rate"}
    assert neox.series["lm_loss validation"].value.tolist() == [2.9]
    assert "2 iterations were skipped: they changed neither weights nor LR" in neox.report


def test_prefixes_colours_interleaved_and_cut_lines(load):
    lines = [
        "0: " + line(10, 9.0), "[default7]:\x1b[32m" + line(20, 8.0) + "\x1b[0m", line(30, 7.0) + line(40, 6.0),
        line(50, 5.0).replace("lm loss: 5.000000E+00", "lm loss: 5.000[rank1] hello E+00"),
        line(60, 4.0)[:150], "  5%|#    | 3/60\r" + line(70, 3.0), line(80, None, nan=10), "iteration 90/100 done",
    ]  # fmt: skip
    log = load("\r\n".join([*lines, ""]).encode())
    loss = log.series["lm loss"]
    assert loss.value.tolist() == pytest.approx([9, 8, 7, 6, np.nan, np.nan, 3, np.nan], nan_ok=True)
    assert loss.line.tolist() == [1, 2, 3, 3, 4, 5, 6, 7]
    assert log.series["number of nan iterations"].value.tolist() == [0, 0, 0, 0, 0, 0, 10]
    assert "3 training lines hold no 'lm loss' (a NaN is not printed): they stay as NaN" in log.report


def test_resumed_jobs_stay_in_order(load):
    first = [line(k, 10 - k / 100) for k in (1, 10, 20, 30)]
    log = load([*first, line(16, 9.9), line(20, 9.8), line(30, 9.7), line(60, 9.5)])
    loss = log.series["lm loss"]
    # after a resume at 15: iteration 16 alone, then the mean of 16 .. 20; a line of 40 and one of 50 are missing
    assert loss.step.tolist() == [0, 4, 14, 24, 15, 17, 24, 44]


def test_several_validation_sets_and_the_end(load):
    log = load([
        line(10), line(20), validation(10, 9.5, "-0"), validation(10, 9.6, "-1"),
        validation(20, 9.0, "", " on test set"),
        validation(10, 8.5, "-2") + "1: " + validation(20, 8.25, "-2"),
        " validation loss at the end of training for val data | lm loss value: 9.1E+00 | lm loss PPL: 2.0E+01 | ",
        " validation loss at iteration 30 | lm loss value: 9.0E",
    ])  # fmt: skip
    assert {n: s.step.tolist() for n, s in log.series.items() if "validation" in n or "test" in n} == {
        "lm loss validation-0": [10], "lm loss validation-1": [10],
        "lm loss validation-2": [10, 20], "lm loss test": [20], "lm loss validation": [20]
    }  # fmt: skip
    assert log.roles["val"] == "lm loss validation"


def test_debris_is_bounded(load):
    log = load(
        [line(10) + f" what{k}: {k} |" for k in range(600)] + [line(20) + f" {'x' * 81}: 5 | {'y' * 80}: 5 |"]
    )
    assert len(log.series) == 500
    assert "lm loss" in log.series
    assert "x" * 81 not in log.series
    assert any("kinds of fields beyond the first 500 were left out" in sentence for sentence in log.report)


def test_a_growing_batch_gives_no_batch_size(load):
    log = load([*block(), line(10, batch=32), line(20, batch=64)])
    assert log.batch_tokens is None
    assert "the global batch grows from 32 to 64 sequences: no one batch size" in log.report


def test_parameters_of_several_ranks_and_a_checkpoints_lr(load):
    ranks = [f" > number of parameters on (tensor, pipeline) model parallel rank ({t}, 0): 5" for t in (0, 1)]
    log = load([*block(load="/ckpt", use_checkpoint_opt_param_scheduler=True), *ranks, line(10)])
    assert log.params_total is None
    assert "2 ranks share the model: its parameters are not told; give --params" in log.report
    assert "the run was to take the LRs and lengths of a checkpoint: the logged LR must agree" in log.report


def test_a_log_without_training_lines(tmp_path):
    path = tmp_path / "x.log"
    path.write_text("\n".join(block()))
    assert not megatron.sniff(path)
    with pytest.raises(
        InputError, match=r"x\.log holds no training line of Megatron-LM, such as 'iteration   "
    ):
        list(megatron.logs(path))


def random_line(r, k, kinds):
    """Write a line with one of the forms `kinds` that a number may take; few forms make many lines of one layout."""
    number = [
        f"{r.random() * 10 ** r.randint(-6, 4):.6E}", f"{r.random():.3f}", "nan", "-inf", f"{-r.random():.2E}", "0.0",
        f"{r.random() * 1e18:.17E}", "1.5E-200", "7", f"{r.random():.20f}", f"{r.random() + 1:.4f}E-2{r.randint(0, 9)}",
    ][r.choice(kinds)]  # fmt: skip
    stamp = "" if r.random() < 0.2 else f" [{datetime(2020, 2, 27) + timedelta(seconds=r.random() * 1e6)}]"
    set_ = r.randint(1, 2) if r.random() < 0.1 else 1
    return (
        f"{stamp} iteration {k:8d}/{10**7:8d} | consumed samples: {k * 7:12d} | learning rate: {r.random():.6E} |"
        f" lm loss: {number} | mtp_{set_} loss: 1.5 | grad norm: {abs(r.gauss(2, 2)):.3f} |"
    )


@given(st.integers(0, 2**32), st.integers(10, 400), st.lists(st.integers(0, 10), min_size=1, max_size=3))
@settings(max_examples=25, deadline=None)
def test_many_lines_at_once_are_read_as_the_plain_parser_reads_each(seed, count, kinds):
    r = random.Random(seed)
    digits = r.randint(1, 7)
    text = [random_line(r, r.randint(10 ** (digits - 1), 10**digits - 1), kinds) for _ in range(count)]
    text = [
        part if r.random() > 0.05 else part + " validation loss at iteration 5 | lm loss value: 1.0 |"
        for part in text
    ]
    chunk = Chunk(("\n".join(text) + "\n").encode(), 5)
    rows, rest, lines = megatron_lines.training_rows(chunk)
    found = {}
    for some in rows:
        for index, at in enumerate(some.line.tolist()):
            assert at not in found
            found[at] = {key: values[index] for key, values in some.values.items()}
    for at, part in enumerate(text, start=5):
        (plain,) = megatron_lines.parsed(part.encode(), at)
        expected = {key: values[0] for key, values in plain.values.items()}
        assert expected.keys() == found[at].keys()
        for key, value in expected.items():
            assert found[at][key] == value or np.isnan(value) and np.isnan(found[at][key])
    assert {at for at, part in enumerate(text, start=5) if "validation" in part} <= set(lines.tolist())
    assert len(lines) == rest.data.count(b"\n")
    assert all(rest.data.splitlines()[n] == text[at - 5].encode() for n, at in enumerate(lines.tolist()))


def test_layouts_whose_keys_collide_are_told_apart(monkeypatch):
    monkeypatch.setattr(megatron_lines, "_MIXED", np.zeros_like(megatron_lines._MIXED))
    text = [line(k, 9.5, lr=1e-3 if k % 2 else 1e-4) for k in range(10, 60)]
    text = [part.replace("E-03", "E+03") if k % 3 else part for k, part in enumerate(text)]
    rows, _, _ = megatron_lines.training_rows(Chunk(("\n".join(text) + "\n").encode(), 1))
    found = {
        int(at): value
        for some in rows
        for at, value in zip(some.line, some.values["learning rate"], strict=True)
    }
    assert [found[at] for at in range(1, 51)] == [
        (1e3 if n % 3 else 1e-3) if (n + 10) % 2 else 1e-4 for n in range(50)
    ]  # fmt: skip


def test_a_log_cut_anywhere_is_a_shorter_log_or_says_so(tmp_path):
    whole = ("\n".join([*block()[-2:], *(line(k) for k in (1, 10)), validation(10, 9.4)]) + "\n").encode()
    path = tmp_path / "cut.log"
    path.write_bytes(whole)
    (full,) = megatron.logs(path)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        megatron.sniff(path)
        try:
            (log,) = megatron.logs(path)
        except InputError:
            continue
        for name, series in log.series.items():
            assert np.array_equal(series.value, full.series[name].value[: len(series.value)], equal_nan=True)
        assert whole[:size].endswith(b"\n") or any("has no line end" in sentence for sentence in log.report)


@given(st.one_of(st.binary(max_size=300), st.integers(0, 2**32)))
@settings(max_examples=60, deadline=None)
def test_nothing_but_input_errors_on_any_bytes(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "a.log"
    if isinstance(content, int):
        r = random.Random(content)
        data = bytearray(
            "\n".join([*block(), *(line(k) for k in range(10, 200, 10)), validation(20, 3.0)]).encode()
        )
        for _ in range(r.randint(1, 60)):
            data[r.randrange(len(data))] = r.choice(b"0159|:/. \n\rEe-iterationvalidation\xff")
        content = bytes(data)
    path.write_bytes(content)
    megatron.sniff(path)
    try:
        list(megatron.logs(path))
    except InputError as error:
        assert "a.log" in str(error)


def test_memory_is_bounded_by_the_chunk(tmp_path):
    """A log of noise alone leaves nothing behind but the chunk at hand."""
    path = tmp_path / "noise.log"
    path.write_bytes(b"NCCL INFO channel 0\n" * 5000)
    kept = [chunk.data for chunk in chunks(path, 1000)]
    assert max(map(len, kept)) <= 1000
