import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.runs.readers.conventions import CONVENTIONS, counted_by_litgpt, interpret, recognise
from lehr.runs.readers.raw import Series

STEPS = np.array([10.0, 20.0, 30.0])


def read(*names, config=None):
    """Interpret metrics that were all logged at steps 10, 20, 30."""
    return interpret({name: Series(STEPS, np.zeros(3)) for name in names}, config or {})


def steps(meaning, name):
    return meaning.series[name].step.tolist()


def test_unknown_names_are_left_alone():
    meaning = read("loss", "lr")
    assert steps(meaning, "loss") == [10, 20, 30]
    assert (meaning.roles, meaning.report) == ({}, ())


def test_torchtitan():
    meaning = read(
        "loss_metrics/global_avg_loss", "validation_metrics/loss", "lr/AdamW/0", "n_tokens_seen", "tflops"
    )
    assert steps(meaning, "loss_metrics/global_avg_loss") == [9, 19, 29]
    assert steps(meaning, "lr/AdamW/0") == [9, 19, 29]
    assert steps(meaning, "validation_metrics/loss") == [10, 20, 30]
    assert steps(meaning, "n_tokens_seen") == [10, 20, 30]
    assert meaning.roles == {
        "train": "loss_metrics/global_avg_loss", "val": "validation_metrics/loss", "lr": "lr/AdamW/0",
        "tokens": "n_tokens_seen",
    }  # fmt: skip
    assert meaning.report == (
        "logged by torchtitan, as its names tell",
        "loss_metrics/global_avg_loss, lr/AdamW/0: of the update that the step counts: moved back by one",
    )


def test_trainer_of_transformers():
    names = ("train/loss", "train/learning_rate", "train/epoch", "eval/loss")
    new = read(*names, config={"transformers_version": "5.23.0"})
    assert steps(new, "train/loss") == [4, 14, 24]  # the middle of updates 0..9
    assert steps(new, "train/learning_rate") == [9, 19, 29]
    assert steps(new, "eval/loss") == [10, 20, 30]
    assert new.roles == {"train": "train/loss", "val": "eval/loss", "lr": "train/learning_rate"}
    old = read(*names, config={"transformers_version": "4.50.3"})
    assert steps(old, "train/learning_rate") == [10, 20, 30]
    assert "Transformers 4.50.3 logs the LR of the next update" in old.report
    assert steps(read(*names), "train/learning_rate") == [9, 19, 29]
    assert "the version of Transformers is unknown" in read(*names).report[1]


def test_lightning():
    meaning = read("train_loss", "val_loss", "lr-AdamW/pg1", "epoch")
    assert steps(meaning, "train_loss") == [10, 20, 30]
    assert steps(meaning, "val_loss") == [11, 21, 31]
    assert steps(meaning, "lr-AdamW/pg1") == [10, 20, 30]
    assert meaning.roles == {"train": "train_loss", "val": "val_loss", "lr": "lr-AdamW/pg1"}
    assert "val_loss: taken after the update that the step begins: moved on by one" in meaning.report


def test_nanochat():
    meaning = read("train/loss", "train/lrm", "val/bpb", "train/epoch")
    # of 11, 21, 31 batches the mean ages are 4.0, 6.4 and 7.8
    assert steps(meaning, "train/loss") == [6, 14, 22]
    assert steps(meaning, "val/bpb") == [10, 20, 30]
    assert meaning.bits == {"val/bpb"}
    assert meaning.roles == {"train": "train/loss", "val": "val/bpb"}


def test_ages_of_the_average_are_those_of_its_recursion():
    meaning = interpret(
        {"train/loss": Series(np.arange(200.0), np.zeros(200)), "train/lrm": Series(STEPS, STEPS)}, {}
    )
    weight, place = 0.0, 0.0  # an average whose losses are the places of their batches
    for step in range(200):
        weight, place = 0.9 * weight + 0.1, 0.9 * place + 0.1 * step
        assert abs(meaning.series["train/loss"].step[step] - place / weight) <= 0.5 + 1e-9


@pytest.mark.parametrize(
    ("names", "moved", "kept", "on"),
    [
        (
            ("train/CE loss", "optim/LR (group 0)", "eval/c4/CE loss"),
            ("train/CE loss", "optim/LR (group 0)"), ("eval/c4/CE loss",), (),
        ),
        (
            ("run_progress", "train/loss", "optim/learning_rate", "eval/loss"),
            (), ("train/loss", "optim/learning_rate"), ("eval/loss",),
        ),
        (("iter", "train/loss", "val/loss", "lr", "mfu"), (), ("train/loss", "val/loss", "lr"), ()),
        (
            ("lm loss", "learning-rate", "lm loss validation"),
            ("lm loss",), ("learning-rate", "lm loss validation"), (),
        ),
    ],
)  # fmt: skip
def test_others(names, moved, kept, on):
    meaning = read(*names)
    assert all(steps(meaning, name) == [9, 19, 29] for name in moved)
    assert all(steps(meaning, name) == [10, 20, 30] for name in kept)
    assert all(steps(meaning, name) == [11, 21, 31] for name in on)
    assert set(meaning.roles) == {"train", "val", "lr"}


def test_each_is_told_by_its_own_signs():
    for convention in CONVENTIONS:
        for sign in convention.signs:
            found = recognise([pattern.replace("*", "x") for pattern in sign])
            assert found is not None
            assert found.framework == convention.framework


def test_a_log_that_begins_with_step_0_stays_there():
    series = {"lm loss": Series(np.array([0.0, 1.0]), np.zeros(2))}
    assert interpret(series, {}).series["lm loss"].step.tolist() == [0, 0]


@pytest.mark.parametrize(
    ("config", "tokens"),
    [
        ({"global_batch_size": 256, "seq_length": 4096}, 256 * 4096), ({"global_batch_size": 256}, None),
        ({"global_batch_size": 256, "seq_length": 4096, "rampup_batch_size": "[32, 32, 1000]"}, None),
        ({"global_batch_size": "256", "seq_length": 4096}, None),
    ],
)  # fmt: skip
def test_batch_of_megatron(config, tokens):
    assert read("lm loss", config=config).batch_tokens == tokens
    assert read("loss", config=config).batch_tokens is None


@pytest.mark.parametrize(("each", "ahead"), [(8, 1), (8, 0), (1, 1), (1, 0)])
def test_litgpt_counts_micro_batches(each, ahead):
    micro = each * np.array([10.0, 20.0])
    at = micro - ahead
    series = {
        name: Series(at, np.zeros(2)) for name in ("loss", "iter_time", "remaining_time", "learning_rate")
    }
    series |= {"iter": Series(at, micro), "step": Series(at, np.array([10.0, 20.0]))}
    series["val_loss"] = Series(np.array([15.0 * each - ahead]), np.zeros(1))
    meaning = interpret(counted_by_litgpt(series), {})
    assert steps(meaning, "loss") == steps(meaning, "learning_rate") == [9, 19]
    assert steps(meaning, "val_loss") == [15]
    assert meaning.roles == {"train": "loss", "val": "val_loss", "lr": "learning_rate"}
    assert counted_by_litgpt({"loss": series["loss"]}) == {"loss": series["loss"]}


@given(
    st.lists(st.tuples(st.floats(), st.floats()), min_size=1, max_size=5),
    st.lists(st.integers(-5, 10**6), max_size=5),
)
def test_what_litgpt_did_not_log_is_left_alone(values, at):
    step = np.array((at * 5 or [0] * 5)[: len(values)], dtype=float)
    series = {name: Series(step, np.zeros(step.size)) for name in ("loss", "iter_time", "remaining_time")}
    numbers = np.array(values[: step.size])
    series |= {"step": Series(step, numbers[:, 0]), "iter": Series(step, numbers[:, 1])}
    for part in counted_by_litgpt(series).values():
        assert np.isfinite(part.step).all()
