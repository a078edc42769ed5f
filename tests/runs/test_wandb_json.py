import copy
import json

import numpy as np
import pytest

from lehr.errors import InputError
from lehr.runs.parents import resolve_parents
from lehr.runs.readers import ReadOptions, detect, read
from lehr.schedule.families import constant, one_cycle, wsd

T, PEAK = 2000, 1e-3
RISE = {"steps": T, "peak": PEAK, "warmup": 300, "warmup_start": 0.01 * PEAK, "warmup_phase": 0}
LINEAR = wsd(decay=400, **RISE)
CONFIG = {
    "lr": PEAK, "iterations": T, "warmup_steps": 300, "scheduler": "wsd", "wsd_fract_decay": 0.2,
    "decay_type": "linear", "batch_size": 50, "acc_steps": 2, "world_size": 2, "sequence_length": 512,
    "n_layer": 2, "n_embd": 64, "vocab_size": 1000, "multiple_of": 256, "dataset": "pile", "seed": 3,
    "weight_decay": 0.1, "model": "llama_norm", "resume_from": None,
}  # fmt: skip
STACK = 2 * (4 * 64**2 + 3 * 64 * 256 + 2 * 64) + 64


def export(schedule=LINEAR, first=0, **config):
    """Build an export as W&B would give it; the last row shows LR 0, which no update uses."""
    train = np.arange(first + 50, T + 1, 50)
    lr = [float(schedule.lr(np.array([s]))[0]) if s < T else 0.0 for s in train]
    val = np.arange(first, T, 200)
    return {
        "summary": {"parameters": STACK + 64_000},
        "config": {**CONFIG, **config},
        "name": "a-run",
        "history": {
            "train": {"iter": train.tolist(), "train_lr": lr, "train_loss": (3 + 50 / train).tolist()},
            "val": {"iter": val.tolist(), "val_loss": (3 + 50 / (val + 10)).tolist()},
            "final-val": {"iter": [1000, T], "final_val_loss": [3.2, 3.01]},
        },
    }


@pytest.fixture
def load(tmp_path):
    def write(content, **options):
        path = tmp_path / "some file.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content, indent=4))
        assert detect(path) == "wandb-json"
        (reading,) = read(path, ReadOptions(**options))
        return reading

    return write


def test_everything_of_an_export(load):
    reading = load(export())
    run = reading.run
    assert (run.name, run.schedule, run.parent, run.branch_step) == ("a-run", LINEAR, None, None)
    assert run.step.tolist() == list(range(0, T, 200))
    assert run.loss[0] == 8.0
    assert (run.params, run.params_total, run.batch_tokens) == (STACK, STACK + 64_000, 50 * 2 * 2 * 512)
    assert dict(run.meta) == {
        "source": "some file.json", "split": "val", "dataset": "pile", "model": "llama_norm", "peak_lr": PEAK,
        "iterations": T, "seed": 3, "weight_decay": 0.1, "scheduler": "wsd",
        "final_val_loss": 3.01, "final_val_step": T,
    }  # fmt: skip
    assert reading.report == (
        "the config's WSD schedule (linear decay) agrees with the 40 logged LRs within 0 of the peak",
        f"{STACK} non-embedding of {STACK + 64_000} parameters (head tied to the embedding)",
    )


def test_warmup_is_the_factor_of_the_training_code(load):
    lr = load(export()).run.schedule.lr(np.array([0, 150, 299, 300, 1600, 1800, 1999]))
    expected = [0.01, 0.505, 299 / 300 + (1 - 299 / 300) / 100, 1, 1, 0.5, 1 / 400]
    assert lr / PEAK == pytest.approx(expected, rel=1e-12)


def test_train_split_options_and_single_line_exports(load):
    content = json.dumps(export())
    run = load(content, split="train", name="mine", params=5.0, params_total=6.0, batch_tokens=7.0).run
    assert run.step.tolist() == list(range(50, T + 1, 50))
    assert (run.name, run.params, run.params_total, run.batch_tokens) == ("mine", 5.0, 6.0, 7.0)
    assert run.meta["split"] == "train"


@pytest.mark.parametrize(
    ("config", "schedule"),
    [
        ({"decay_type": "sqrt"}, wsd(decay=400, shape="sqrt", **RISE)),
        ({"decay_type": "miror_cosine"}, wsd(decay=400, shape="mirror_cosine", **RISE)),
        (
            {"decay_type": "exp", "wsd_final_lr_scale": 0.01},
            wsd(decay=400, shape="exponential", final=1e-5, **RISE),
        ),
        (
            {"decay_type": None, "wsd_exponential_decay": True, "wsd_final_lr_scale": 0.01},
            wsd(decay=400, shape="exponential", final=1e-5, **RISE),
        ),
        ({"wsd_final_lr_scale": 0.1}, wsd(decay=400, final=1e-4, **RISE)),
        ({"wsd_fract_decay": 0}, constant(**RISE)),
        ({"scheduler": "cos"}, one_cycle(steps=T, peak=PEAK, warmup=300, start=1e-5, final=1e-4)),
        (
            {"scheduler": "cos", "cos_final_lr": -1},
            one_cycle(steps=T, peak=PEAK, warmup=300, start=1e-5, final=1e-4),
        ),
        (
            {"scheduler": "cos", "cos_final_lr": 1e-7},
            one_cycle(steps=T, peak=PEAK, warmup=300, start=1e-5, final=1e-7),
        ),
    ],
)
def test_schedules_of_the_config(load, config, schedule):
    assert load(export(schedule, **config)).run.schedule == schedule


def test_unnamed_decay_is_told_by_the_logged_lr(load):
    curve = wsd(decay=400, shape="sqrt", **RISE)
    reading = load(export(curve, decay_type=None))
    assert reading.run.schedule == curve
    assert reading.report[0] == (
        "config has no decay_type: the config's WSD schedule (sqrt decay) fits the logged LR best"
    )


def test_logged_lr_must_agree(load):
    with pytest.raises(
        InputError, match=r"logged at iter 1650 contradicts the config's WSD schedule \(sqrt decay\)"
    ):
        load(export(decay_type="sqrt"))
    with pytest.raises(InputError, match="contradicts the given schedule, which uses .* --schedule"):
        load(export(), schedule=constant(**RISE))
    assert load(export(scheduler="odd"), schedule=LINEAR).run.schedule == LINEAR


def test_no_logged_lr_is_reported(load):
    content = export()
    del content["history"]["train"]
    assert "no LR was logged: the schedule of the config was not checked" in load(content).report


def test_branch_keeps_only_points_after_it(load):
    reading = load(export(first=1000, resume_from="/data/x/exps/stable-1_pile/ckpts/1000"))
    run = reading.run
    assert (run.parent, run.branch_step, run.steps) == ("stable-1_pile", 1000, T)
    assert run.step.tolist() == [1200, 1400, 1600, 1800]
    assert "branched from 'stable-1_pile' after 1000 updates" in reading.report
    assert "1 of 5 points are not after the branch and were left out" in reading.report
    assert "/home" not in json.dumps(dict(run.meta)) + " ".join(reading.report)


@pytest.mark.parametrize(
    ("first", "source", "text"),
    [
        (0, "/exps/stable/ckpts/0", "it started from step 0 of 'stable': no past is shared"),
        (0, "/exps/stable/ckpts/1000", "it was resumed at step 1000 but has earlier points of its own"),
        (0, "C:\\exps\\stable\\ckpts\\latest", "resume_from names no numbered checkpoint"),
        (1000, None, "its first loss is at step 1000 and no earlier run is named"),
    ],
)
def test_what_is_no_branch(load, first, source, text):
    reading = load(export(first=first, resume_from=source))
    assert (reading.run.parent, reading.run.branch_step) == (None, None)
    assert any(text in line for line in reading.report)


def test_segments_are_stitched_newest_first(load):
    content = export()
    val = content["history"]["val"]
    val["iter"] += [0, 200, 400]
    val["val_loss"] += [9.0, 9.0, 9.0]
    reading = load(content)
    assert reading.run.step.tolist() == list(range(0, T, 200))
    assert reading.run.loss.max() == 8.0
    assert any(
        "2 segments (newest-first" in line and "3 of 13 points dropped" in line for line in reading.report
    )
    assert load(content, order="newest-first").run.fingerprint() == reading.run.fingerprint()


def test_missing_and_broken_losses(load):
    content = export()
    content["history"]["val"]["val_loss"][1:4] = [None, "NaN", float("inf")]
    reading = load(content)
    assert reading.run.step.size == 7
    assert any("2 of 9 points dropped (1 NaN, 1 infinite)" in line for line in reading.report)


@pytest.mark.parametrize(
    ("change", "params", "text"),
    [
        ({"summary": {"parameters": STACK + 128_000}}, STACK, "head apart from the embedding"),
        ({"summary": {"parameters": 10 * STACK}}, None, "fits no Llama of this shape; give --params"),
        ({"summary": {}}, None, None),
    ],
)
def test_non_embedding_parameters(load, change, params, text):
    reading = load(export() | change)
    assert reading.run.params == params
    assert text is None or any(text in line for line in reading.report)


def test_unknown_shape_or_batch(load):
    reading = load(export(n_layer=None, world_size=None))
    assert (reading.run.params, reading.run.batch_tokens) == (None, None)
    assert any("the config lacks the model's shape" in line for line in reading.report)


def drop(content, *keys):
    content = copy.deepcopy(content)
    inner = content
    for key in keys[:-1]:
        inner = inner[key]
    del inner[keys[-1]]
    return content


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (drop(export(), "history", "val"), "history.val must be a JSON object, got NoneType"),
        (drop(export(), "history", "val", "val_loss"), "unknown column of .*history.val 'val_loss'"),
        (drop(export(), "history", "val", "iter"), "iter and val_loss must be lists of one length"),
        (drop(export(), "config", "lr"), "config.lr must be a number, got None"),
        (export(iterations="2k"), "config.iterations must be a number, got '2k'"),
        (
            export(scheduler="cos_inf"),
            r"unknown scheduler 'cos_inf' in its config \(known: cos, wsd\): give .*--sch",
        ),
        (export(decay_type="linaer"), "unknown decay_type 'linaer': did you mean 'linear'"),
        (export(wsd_fract_decay=0.95), r"some file\.json: config: decay must be a whole number of updates"),
    ],
)
def test_malformed_exports(load, content, text):
    with pytest.raises(InputError, match=text) as caught:
        load(content)
    assert "some file.json" in str(caught.value)


@pytest.mark.parametrize(
    ("column", "value", "text"),
    [
        ("val_loss", "high", r"history.val: val_loss\[2\] must be a number, got 'high'"),
        ("val_loss", 10**400, r"val_loss\[2\] must be a number"),
        ("iter", None, r"iter\[2\] must be a number, got None"),
        ("iter", 2.5, r"iter\[2\] must be a whole number, 0 or more, got 2\.5"),
    ],
)
def test_malformed_cells(load, column, value, text):
    content = export()
    content["history"]["val"][column][2] = value
    with pytest.raises(InputError, match=text):
        load(content)


def test_points_past_the_end_and_segments_in_no_order(load):
    content = export()
    content["history"]["val"]["iter"][-1] = T + 1
    with pytest.raises(
        InputError, match=r"some file\.json: run 'a-run': last step must not exceed the schedule's 2000"
    ):
        load(content)
    content["history"]["val"]["iter"] = [0, 200, 400, 600, 800, 1000, 1200, 600, 800, 1000]
    with pytest.raises(InputError, match=r"history\.val: the order of the log's 2 segments cannot be told"):
        load(content)


def test_no_loss_at_all(load):
    content = export()
    content["history"]["val"]["val_loss"] = [None] * 10
    with pytest.raises(InputError, match="history.val has no loss: choose the other split of val, train"):
        load(content)
    with pytest.raises(InputError, match="unknown split 'vall': did you mean 'val'"):
        load(export(), split="vall")


def test_text_that_is_no_json(load):
    whole = json.dumps(export(), indent=4)
    with pytest.raises(InputError, match=r"not valid JSON \(line \d+, column \d+: .*may have been cut off"):
        load(whole[:-400])
    deep = whole[:-1] + ', "x": ' + "[" * 100_000 + "]" * 100_000 + "}"
    with pytest.raises(InputError, match="nested too deep"):
        load(deep)


@pytest.mark.parametrize("split", ["val", "train"])
def test_all_public_logs(lehr_data, split):
    paths = sorted((lehr_data / "wsd-runs").glob("*.json"))
    readings = [read(path, ReadOptions(split=split))[0] for path in paths]
    runs, report = resolve_parents(reading.run for reading in readings)
    assert len(runs) == len(paths) == 128
    assert report == ("55 branches linked to their parents",)
    for reading in readings:
        run, lines = reading.run, " ".join(reading.report)
        assert "agrees with the" in lines
        assert "head tied to the embedding" in lines
        assert run.meta["final_val_step"] == run.steps == run.meta["iterations"]
        assert run.batch_tokens == 102_400
        assert "/" not in str(dict(run.meta))
        interval = 200 if split == "val" else 50
        # a few validations are missing where the full set was measured instead
        assert np.all(np.diff(run.step) % interval == 0)
        assert np.diff(run.step).max() <= 2 * interval
        assert run.step[0] == (run.branch_step + interval if run.parent else 0 if split == "val" else 50)
    assert sum("stitch" in " ".join(reading.report) for reading in readings) == 14
    sizes = {run.params_total: run.params for run in runs}
    assert sizes[123_587_328] == 84_953_856
