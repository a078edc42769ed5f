import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runs.broken_files import cut_everywhere, mutations, read_all, values

from lehr.errors import InputError
from lehr.runs.readers import json_stream
from lehr.runs.readers.trainer_state import logs, sniff

STATE = {
    "best_global_step": None, "best_metric": None, "best_model_checkpoint": None, "epoch": 0.5, "eval_steps": 20,
    "global_step": 40, "is_hyper_param_search": False, "is_local_process_zero": True,
    "is_world_process_zero": True,
    "log_history": [
        {"epoch": 0.1, "grad_norm": 1.5, "learning_rate": 1e-4, "loss": 9.5, "step": 1},
        {"epoch": 0.2, "grad_norm": 1.0, "learning_rate": 1e-3, "loss": 8.0, "step": 10},
        {"epoch": 0.2, "grad_norm": 1.0, "learning_rate": 9e-4, "loss": 7.0, "step": 20},
        {"epoch": 0.2, "eval_loss": 6.9, "eval_runtime": 2.0, "step": 20},
        {"epoch": 0.2, "grad_norm": float("nan"), "learning_rate": 8e-4, "loss": float("nan"), "step": 30},
        {"epoch": 0.2, "eval_loss": 5.9, "eval_runtime": 2.0, "step": 40},
        {"epoch": 0.2, "step": 40, "train_loss": 7.5, "train_runtime": 99.0, "total_flos": 1e12},
    ],
    "logging_steps": 10, "max_steps": 40, "num_input_tokens_seen": 0, "num_train_epochs": 1, "save_steps": 500,
    "stateful_callbacks": {"TrainerControl": {"args": {"should_log": True}}}, "total_flos": 1e12,
    "train_batch_size": 8, "trial_name": None, "trial_params": None,
}  # fmt: skip


def write(folder, state=STATE, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "trainer_state.json"
    path.write_text(json.dumps({**state, **changes}, indent=2, sort_keys=True) + "\n")
    return path


def one(path):
    assert sniff(path)
    (log,) = logs(path)
    return log


def test_everything_of_a_state(tmp_path):
    log = one(write(tmp_path / "my run" / "checkpoint-40"))
    assert log.name == "my run"
    loss, lr, val = (log.series[name] for name in ("loss", "learning_rate", "eval_loss"))
    # the mean of updates 0, of 1 .. 9, 10 .. 19, and 20 .. 29
    assert loss.step.tolist() == [0, 5, 14, 24]
    assert np.array_equal(loss.value, [9.5, 8.0, 7.0, np.nan], equal_nan=True)
    assert lr.step.tolist() == [0, 9, 19, 29]
    assert lr.value.tolist() == [1e-4, 1e-3, 9e-4, 8e-4]
    assert val.step.tolist() == [20, 40]
    lines = write(tmp_path / "again").read_text().splitlines()
    assert [lines[line - 1].strip() for line in loss.line] == ["{"] * 4
    assert [json.loads(lines[line + 3].strip(" ,").partition(":")[2]) for line in loss.line[:3]] == [
        9.5,
        8,
        7,
    ]
    assert log.roles == {"train": "loss", "val": "eval_loss", "lr": "learning_rate"}
    assert log.config["max_steps"] == 40
    assert log.config["train_batch_size"] == 8
    assert (log.config["train_loss"], log.config["train_runtime"]) == (7.5, 99.0)
    assert "train_loss" not in log.series
    assert "stateful_callbacks" not in log.config
    assert log.report == (
        "7 rows of log_history",
        "the version of Transformers is unknown: the LR is taken as that of the update done, as since 4.51",
        "loss is the mean since the log before: each stands at the middle of its updates",
    )


@pytest.mark.parametrize("indent", [None, 0, 2])
def test_layout_does_not_matter(tmp_path, indent):
    path = tmp_path / "trainer_state.json"
    path.write_text(json.dumps(STATE, indent=indent))
    log = one(path)
    assert values(log) == values(one(write(tmp_path / "as written")))
    if indent is None:
        assert set(log.series["loss"].line) == {1}
    compact = json.dumps({"global_step": 1, "log_history": [{"step": 1.5}]})
    path.write_text(compact)
    with pytest.raises(InputError, match="line 1: step must be a whole number"):
        list(logs(path))


@pytest.mark.parametrize(
    ("version", "first", "why"),
    [
        ("4.51.0", 0, "Transformers 4.51.0 logs the LR of the update done"),
        ("5.24.0", 0, "Transformers 5.24.0 logs the LR of the update done"),
        ("4.50.3", 1, "Transformers 4.50.3 logs the LR of the next update"),
        ("4.9.2", 1, "Transformers 4.9.2 logs the LR of the next update"),
        ("unknown", 0, "the version of Transformers is unknown"),
    ],
)
def test_lr_by_version_in_the_models_config(tmp_path, version, first, why):
    path = write(tmp_path / "run" / "checkpoint-40")
    (path.parent / "config.json").write_text(
        json.dumps({"transformers_version": version, "hidden_size": 64, "architectures": ["X"]})
    )
    log = one(path)
    assert log.series["learning_rate"].step[0] == first
    assert any(line.startswith(why) for line in log.report)
    assert log.config["model.hidden_size"] == 64
    assert "model.architectures" not in log.config


def test_lr_by_the_file_alone(tmp_path):
    state = {key: value for key, value in STATE.items() if key != "best_global_step"}
    log = one(write(tmp_path / "a", state))
    assert log.series["learning_rate"].step.tolist() == [1, 10, 20, 30]
    assert "written before Transformers 4.50, which logged the LR of the next update" in log.report
    rows = [{"step": 10, "loss": 3.0, "learning_rate": 1e-3}, {"step": 40, "loss": 2.0, "learning_rate": 0.0}]
    log = one(write(tmp_path / "b", log_history=rows))
    assert log.series["learning_rate"].step.tolist() == [10, 40]
    assert "the LR logged after the last update is 0: it was logged for the next update" in log.report


def test_a_loss_that_others_call_train_loss(tmp_path):
    rows = [{"step": k, "loss": 3.0, "train_loss": 2.0} for k in (10, 20, 30)] + [
        {"step": 30, "train_runtime": 5.0}
    ]
    log = one(write(tmp_path, log_history=rows))
    assert log.series["train_loss"].step.tolist() == [10, 20, 30]
    assert log.config["train_runtime"] == 5.0


def test_a_length_beyond_any_number(tmp_path):
    assert one(write(tmp_path, max_steps=10**400)).series["loss"].value.size == 4


def test_names(tmp_path):
    assert one(write(tmp_path / "x" / "final")).name == "final"
    assert one(write(tmp_path / "search" / "run-3" / "checkpoint-7")).name == "search/run-3"


def test_sets_of_evaluation(tmp_path):
    rows = [
        {"step": 10, "loss": 3.0, "learning_rate": 1e-3},
        {"step": 10, "eval_web_loss": 3.1, "eval_web_runtime": 1},
    ]
    assert one(write(tmp_path / "a", log_history=rows)).roles["val"] == "eval_web_loss"
    rows.append({"step": 10, "eval_code_loss": 2.1})
    assert "val" not in one(write(tmp_path / "b", log_history=rows)).roles


def test_odd_files_beside_are_passed_over(tmp_path):
    path = write(tmp_path / "run")
    for text in ("[1, 2]", "{", "[" * 100_000, ""):
        (path.parent / "config.json").write_text(text)
        assert "model.hidden_size" not in one(path).config
    (path.parent / "training_args.bin").write_bytes(b"\x80\x04not opened")
    assert one(path).name == "run"


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ([], "log_history has no row yet: wait for the first log of the training"),
        ([{"loss": 1.0}], r"log_history must have rows with a step, got \['loss'\]"),
        ([1.5], r"line \d+: log_history\[0\] must be a JSON object, got float"),
        ([{"loss": 1.0, "step": 1}, {"step": 2.5}], r"line \d+: step must be a whole number of at least 0, got 2\.5"),
        ([{"loss": 1.0, "step": -1}], "must be a whole number of at least 0, got -1.0: mend or remove the row"),
        ([{"loss": 1.0, "step": float("nan")}], "must be a whole number of at least 0, got nan"),
        ([{"loss": 1.0, "step": 10**400}], "must be a whole number of at least 0, got inf"),
    ],
)  # fmt: skip
def test_malformed_rows(tmp_path, rows, text):
    with pytest.raises(InputError, match=text) as caught:
        list(logs(write(tmp_path, log_history=rows)))
    assert "trainer_state.json" in str(caught.value)


def test_values_that_are_no_numbers(tmp_path):
    rows = [
        {"step": 1, "loss": 2.0, "note": "x", "ok": True, "big": 10**400, "list": [1]},
        {"step": 2, "loss": None, "a": {"b": 1}},
        {"note": "y"},
    ]
    log = one(write(tmp_path, log_history=rows))
    assert log.series["loss"].value.tolist() == [2.0]
    assert log.series["big"].value.tolist() == [float("inf")]
    assert log.series["a/b"].step.tolist() == [2]
    assert "left out, as they are no numbers: list, note, ok" in log.report


def test_text_that_is_no_json(tmp_path):
    path = write(tmp_path)
    whole = path.read_text()
    for text, message in (
        (whole[:300], r"line \d+ is not valid JSON \(.*the file ends early and may have been cut off\)"),
        (whole + "x", "there is more after its end"),
        (whole.replace('"log_history": [', '"x": ' + "[" * 99_999 + '"log_history": ['), "nested too deep"),
        (whole.replace("9.5", "9" * 5000), "a number has thousands of digits"),
        (whole.replace("9.5,", "9.5"), r"line 12 is not valid JSON \(expecting ',' delimiter\)"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=message):
            list(logs(path))


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_chunks_of_any_size(tmp_path, monkeypatch, chunk):
    monkeypatch.setattr(json_stream, "CHUNK", chunk)
    for indent in (None, 2):
        path = tmp_path / "trainer_state.json"
        path.write_text(json.dumps(STATE, indent=indent))
        found = list(json_stream.entries(path, "log_history"))
        expected = [
            ("log_history", row) if key == "log_history" else (key, value)
            for key, value in STATE.items()
            for row in (value if key == "log_history" else [None])
        ]
        assert json.dumps([entry[:2] for entry in found]) == json.dumps([list(entry) for entry in expected])


def test_values_of_no_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(json_stream, "CHUNK", 64)
    monkeypatch.setattr(json_stream, "VALUE_LIMIT", 1000)
    path = write(tmp_path, model_name='"' * 4000)
    with pytest.raises(InputError, match="is not valid JSON"):
        list(logs(path))


def test_cut_at_every_byte(tmp_path):
    state = {"log_history": STATE["log_history"][1:4], "max_steps": 40, "global_step": 40}
    content = json.dumps(state, separators=(",", ":")).encode()
    assert cut_everywhere(logs, tmp_path / "trainer_state.json", content) == 0


@settings(max_examples=80, deadline=None)
@given(content=mutations(json.dumps(STATE, indent=1).encode()) | st.binary(max_size=300))
def test_noise_is_refused_or_read(tmp_path_factory, content):
    path = tmp_path_factory.getbasetemp() / "noise.json"
    path.write_bytes(content or b" ")
    sniff(path)
    read_all(logs, path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A Trainer's own run of 12 updates, and what it truly did: LR and loss of every update."""
    transformers = pytest.importorskip("transformers")
    torch = pytest.importorskip("torch")
    pytest.importorskip("accelerate")
    folder = tmp_path_factory.mktemp("out") / "tiny"
    lrs, losses, evaluated = [], [], {}

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.line = torch.nn.Linear(1, 1)

        def forward(self, x, labels):
            loss = ((self.line(x) - labels) ** 2).mean()
            if self.training:
                losses.append(loss.item())
            return {"loss": loss, "logits": x}

    class Watch(transformers.TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
            lrs.append(optimizer.param_groups[0]["lr"])

        def on_evaluate(self, args, state, control, metrics=None, **kwargs):
            evaluated[state.global_step] = metrics["eval_loss"]

    generator = torch.Generator().manual_seed(0)
    x = torch.randn(64, 1, generator=generator)
    data = [{"x": x[i], "labels": 3 * x[i] + 1} for i in range(64)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        arguments = transformers.TrainingArguments(
            output_dir=str(folder), max_steps=12, logging_steps=4, logging_first_step=True, eval_strategy="steps",
            eval_steps=6, save_steps=6, per_device_train_batch_size=4, learning_rate=0.1, warmup_steps=3,
            lr_scheduler_type="linear", report_to=[], use_cpu=True, disable_tqdm=True, remove_unused_columns=False,
        )  # fmt: skip
        trainer = transformers.Trainer(
            model=Model(), args=arguments, train_dataset=data, eval_dataset=data[:8], callbacks=[Watch()]
        )
        trainer.train()
        trainer.save_state()
    return folder, np.array(lrs), np.array(losses), evaluated


def test_the_trainer_itself(trained):
    folder, lrs, losses, evaluated = trained
    assert lrs.size == losses.size == 12
    for path in (folder / "checkpoint-6/trainer_state.json", folder / "checkpoint-12/trainer_state.json"):
        log = one(path)
        assert log.name == "tiny"
        lr, loss, val = (log.series[name] for name in ("learning_rate", "loss", "eval_loss"))
        np.testing.assert_allclose(lr.value, lrs[lr.step.astype(int)], rtol=1e-12)
        assert val.step.tolist() == sorted(evaluated)[: val.step.size]
        assert val.value.tolist() == [evaluated[step] for step in val.step]
        means = [losses[0], losses[1:4].mean(), losses[4:8].mean(), losses[8:].mean()][: loss.step.size]
        np.testing.assert_allclose(loss.value, means, rtol=1e-5)
        assert loss.step.tolist() == [0, 2, 5, 9][: loss.step.size]
    whole = json.loads(path.read_text())
    rows = [row for row in whole["log_history"] if "loss" in row]
    assert loss.value.tolist() == [row["loss"] for row in rows]
    assert one(folder / "trainer_state.json").config["train_loss"] == pytest.approx(losses.mean(), rel=1e-5)
