import csv
import io
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runs.broken_files import cut_everywhere, mutations, read_all, values

from lehr.errors import InputError
from lehr.runs.readers import text_lines
from lehr.runs.readers.lightning_csv import logs, sniff
from lehr.runs.readers.reading import ReadOptions

ROWS = [
    {"lr-AdamW": 0.1, "step": 0},
    {"epoch": 0, "step": 0, "train_loss_step": 9.0},
    {"lr-AdamW": 0.2, "step": 4},
    {"epoch": 0, "step": 4, "train_loss_step": float("nan")},
    {"epoch": 0, "step": 4, "val_loss": 5.5},
    {"epoch": 0, "step": 4, "train_loss_epoch": 6.25},
    {"epoch": 1, "step": 9, "val_loss": 4.5, "test_acc": 1},
    {"epoch": 1, "step": 9, "train_loss_epoch": 5.25},
]


def text(rows=ROWS, end="\r\n", names=None):
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, sorted(set().union(*rows)) if names is None else names, lineterminator=end)
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def put(folder, content, name="metrics.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def one(path, **options):
    assert sniff(path)
    (log,) = logs(path, ReadOptions(**options))
    return log


def test_everything_of_a_log(tmp_path):
    path = put(tmp_path / "my_exp" / "version_3", text())
    (path.parent / "hparams.yaml").write_text("lr: 0.1\nmodel:\n  width: 64\n  layers: [1, 2]\n")
    log = one(path)
    assert log.name == "my_exp/version_3"
    assert dict(log.config) == {"lr": 0.1, "model.width": 64}
    told = {name: (one.step.tolist(), one.line.tolist()) for name, one in log.series.items()}
    assert told == {
        "lr-AdamW": ([0, 4], [2, 4]), "train_loss_step": ([0, 4], [3, 5]), "val_loss": ([5, 10], [6, 8]),
        "train_loss_epoch": ([2, 7], [7, 9]), "epoch": ([0, 4, 4, 4, 9, 9], [3, 5, 6, 7, 8, 9]), "test_acc": ([9], [8]),
    }  # fmt: skip
    assert np.array_equal(log.series["train_loss_step"].value, [9.0, np.nan], equal_nan=True)
    assert log.report == (
        "2 settings from hparams.yaml, 1 that are no scalars left out",
        "one update later, as measured after the row's update: val_loss",
        "means over an epoch, at its middle: train_loss_epoch",
    )


@pytest.mark.parametrize(
    ("content", "is_one"),
    [
        (text(), True),
        (text(end="\n"), True),  # an LR of the monitor
        (text(ROWS[1:2] + ROWS[4:]), True),
        (text(ROWS[1:2] + ROWS[4:], end="\n"), False),
        (text([{"epoch": 0, "step": 1, "loss": 2.0}]), False),  # no row lacks a cell
        (text([{"loss": 3.0, "step": 1}, {"lr": 2.0, "step": 2}]), False),
        (text([{"lr-AdamW": 1, "step": 1}], names=["step", "lr-AdamW"]), False),  # not sorted
        ("lr-AdamW,lr-AdamW,step\r\n", False),
        ("step,loss\n1,2\n", False),
        ("", False),
        ('"', False),
        (b"\xff\xfe\x00", False),
    ],
)
def test_what_is_surely_lightnings(tmp_path, content, is_one):
    assert sniff(put(tmp_path, content)) is is_one


def test_steps_of_batches_of_the_validation_are_left_out(tmp_path):
    log = one(put(tmp_path, text([*ROWS, {"step": 3, "val_loss_step": 1.0}])))
    assert "val_loss_step" not in log.series
    assert "left out, as their steps count batches of the validation: val_loss_step" in log.report


def test_columns_of_text(tmp_path):
    rows = [*ROWS, {"step": 3, "note": 'a "b", c'}, {"step": 4, "ok": True}]
    log = one(put(tmp_path, text(rows)))
    assert log.series["val_loss"].value.tolist() == [5.5, 4.5]
    assert "left out, as they are no numbers: note, ok" in log.report


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (text().replace("9.0", "9.x"), r"line 3: column 'train_loss_step' must hold numbers, got 'some other text'"),
        (text().replace("9.0", "9.0,"), "line 3 must have 7 cells as the header, got 8: mend or remove the line"),
        (text().replace(",0.1,0,", ',"0.1,0,'), "line 2 is no row of a CSV"),
        (text().replace(",0.1,0,", ",0.1,0.5,"), r"line 2: step must be a whole number of at least 0, got 0\.5"),
        (text().replace(",0.1,0,", ",0.1,-3,"), r"line 2: step must be a whole number of at least 0, got -3\.0"),
        (text(ROWS[:0] + [{"lr-AdamW": "", "step": ""}]), "has no row yet: wait for the first flush of the logger"),
        ("a,b\r\n1,2\r\n", r"line 1 is no header of Lightning's CSVLogger \(sorted names, `step` among them\)"),
    ],
)  # fmt: skip
def test_malformed_files(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as caught:
        list(logs(put(tmp_path, content)))
    assert "metrics.csv" in str(caught.value)


def test_rows_without_a_step_are_told(tmp_path):
    log = one(put(tmp_path, text([*ROWS, {"val_loss": 3.0}])))
    assert log.series["val_loss"].value.size == 2
    assert "1 values are in rows without a step and were left out" in log.report


def test_cut_at_every_byte(tmp_path):
    content = text(ROWS[:5]).encode()
    assert cut_everywhere(logs, tmp_path / "metrics.csv", content, boundary=b"\n") > 40


@pytest.mark.parametrize("size", [1, 5, 64])
def test_blocks_of_any_size(tmp_path, monkeypatch, size):
    path = put(tmp_path, "\ufeff" + text())
    (whole,) = logs(path)
    monkeypatch.setattr(text_lines, "BLOCK", size)
    (log,) = logs(path)
    assert values(log) == values(whole)
    for name, told in log.series.items():
        assert told.line.tolist() == whole.series[name].line.tolist()


def test_lines_of_no_end_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(text_lines, "LINE_LIMIT", 100)
    monkeypatch.setattr(text_lines, "BLOCK", 64)
    with pytest.raises(
        InputError, match="line 1 must not exceed 100 bytes, got 134: give a log with a line a row"
    ):
        list(logs(put(tmp_path, "x" * 1000)))


@settings(max_examples=100, deadline=None)
@given(content=mutations(text().encode()) | st.binary(max_size=200))
def test_noise_is_refused_or_read(tmp_path_factory, content):
    path = put(tmp_path_factory.getbasetemp() / "noise", content or b" ")
    sniff(path)
    read_all(logs, path)


NUMBERS = st.floats(allow_nan=False) | st.integers(-(10**9), 10**9)


@settings(max_examples=60, deadline=None)
@given(
    rows=st.lists(
        st.dictionaries(st.sampled_from(["epoch", "lr-Adam", "train_loss", "a,b"]), NUMBERS, min_size=1),
        min_size=1,
    )
)
def test_what_is_written_is_read(tmp_path_factory, rows):
    rows = [{**row, "step": at} for at, row in enumerate(rows)]
    path = put(tmp_path_factory.getbasetemp() / "written", text(rows))
    (log,) = logs(path)
    for name in set().union(*rows) - {"step"}:
        expected = [(row["step"], float(row[name])) for row in rows if name in row]
        assert list(zip(log.series[name].step, log.series[name].value, strict=True)) == expected


LITGPT = {"epoch": 0, "iter_time": 0.1, "remaining_time": 9.0, "loss": 5.0, "learning_rate": 1e-3}


def litgpt(folder, micro, updates=10, interval=1, every=5, final=True):
    """Log as LitGPT's `fit` does, through Lightning's own logger."""
    loggers = pytest.importorskip("lightning.fabric.loggers")
    logger = loggers.CSVLogger(root_dir=folder / "logs", name="csv", flush_logs_every_n_steps=interval)
    done = 0
    for iteration in range(1, updates * micro + 1):
        if iteration % micro == 0:
            done += 1
        if iteration % (micro * interval) == 0:
            row = {
                **LITGPT,
                "iter": iteration,
                "step": done,
                "loss": 100.0 + done - 1,
                "learning_rate": 0.001 * done,
            }
            row |= {"tokens": iteration * 64, "total_tokens": iteration * 128}
            logger.log_metrics(row, step=iteration - 1)
        if iteration % micro == 0 and done % every == 0:
            logger.log_metrics({"val_loss": 200.0 + done, "val_ppl": 2.0}, step=iteration - 1)
    if final:
        logger.log_metrics({"val_loss": 200.0 + done, "val_ppl": 2.0}, step=iteration)
    logger.save()
    return folder / "logs" / "csv" / "version_0" / "metrics.csv"


@pytest.mark.parametrize("micro", [1, 4])
@pytest.mark.parametrize("told", ["given", "final", "step-00000005", "beside"])
def test_litgpt(tmp_path, micro, told):
    path = litgpt(tmp_path / "pretrain", micro)
    options = {}
    if told == "given":
        options["batch_tokens"] = 128.0 * micro
    else:
        place = path.parent if told == "beside" else tmp_path / "pretrain" / told
        place.mkdir(exist_ok=True)
        sizes = f"train:\n  global_batch_size: {16 * micro}\n  micro_batch_size: 8\n  max_tokens: 1280\n"
        (place / "hyperparameters.yaml").write_text(sizes + "data:\n  x: 1\n")
    log = one(path, **options)
    assert log.name == "pretrain/version_0"
    loss, lr, val, tokens = (log.series[log.roles[role]] for role in ("train", "lr", "val", "tokens"))
    assert loss.step.tolist() == list(range(10))
    assert (loss.value - 100).tolist() == loss.step.tolist()
    assert np.allclose(lr.value / 0.001, lr.step + 1)
    assert val.step.tolist() == [5, 10, 10]
    assert (val.value - 200).tolist() == val.step.tolist()
    assert np.array_equal(tokens.value, tokens.step * micro * 128)
    assert log.batch_tokens == 128 * micro
    assert any(line.startswith(f"an update is {micro} micro-batches by") for line in log.report)


def test_litgpt_without_its_settings(tmp_path):
    path = litgpt(tmp_path / "x", 4)
    log = one(path)
    assert log.series["loss"].step.tolist() == list(range(3, 40, 4))
    assert any(
        line.startswith("steps are micro-batches (LitGPT's iter), taken as updates") for line in log.report
    )
    with pytest.raises(
        InputError, match="batch_tokens must be a whole number of micro-batches of 128 tokens, got 200"
    ):
        list(logs(path, ReadOptions(batch_tokens=200.0)))


@pytest.mark.parametrize("cell", ["", "nan", "inf"])
def test_litgpt_without_iter(tmp_path, cell):
    names = "epoch,iter,iter_time,learning_rate,loss,step,tokens,total_tokens"
    path = put(tmp_path, f"{names}\r\n0,{cell},.1,1e-3,5,0,64,128\r\n")
    with pytest.raises(
        InputError, match="iter must be a number in every row of training: mend or remove the row"
    ):
        list(logs(path))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A Lightning Trainer's own run of 2 epochs of 6 updates, and what it truly did."""
    lightning = pytest.importorskip("lightning")
    torch = pytest.importorskip("torch")
    from lightning.pytorch.callbacks import LearningRateMonitor
    from lightning.pytorch.loggers import CSVLogger

    lrs, losses, validated = [], [], []

    class Model(lightning.LightningModule):
        def __init__(self, width=1):
            super().__init__()
            self.save_hyperparameters()
            self.line = torch.nn.Linear(width, 1)
            self.updates = 0

        def error(self, batch):
            return ((self.line(batch[0]) - 3 * batch[0] - 1) ** 2).mean()

        def training_step(self, batch, index):
            loss = self.error(batch)
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            if index % 2 == 1:
                losses.append(loss.item())  # of the second half, which the row holds
            return loss

        def validation_step(self, batch, index):
            loss = self.error(batch)
            self.log("val_loss", loss)
            if not self.trainer.sanity_checking:
                validated.append((self.trainer.global_step, loss.item()))

        def on_before_optimizer_step(self, optimizer):
            lrs.append(optimizer.param_groups[0]["lr"])

        def configure_optimizers(self):
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: (k + 1) / 20)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    folder = tmp_path_factory.mktemp("lightning")
    generator = torch.Generator().manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(48, 1, generator=generator))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer = lightning.Trainer(
            max_epochs=2, accumulate_grad_batches=2, log_every_n_steps=2, val_check_interval=6, accelerator="cpu",
            logger=CSVLogger(folder, name="tiny"), callbacks=[LearningRateMonitor("step")],
            enable_progress_bar=False, enable_checkpointing=False, enable_model_summary=False,
        )  # fmt: skip
        loader = torch.utils.data.DataLoader(data, batch_size=4)
        trainer.fit(Model(), loader, torch.utils.data.DataLoader(data, batch_size=48))
    return folder / "tiny" / "version_0" / "metrics.csv", lrs, losses, validated


def test_lightning_itself(trained):
    path, lrs, losses, validated = trained
    log = one(path)
    assert len(lrs) == len(losses) == 12
    assert log.name == "tiny/version_0"
    assert log.config["width"] == 1
    lr, loss, val = (log.series[name] for name in ("lr-SGD", "train_loss_step", "val_loss"))
    assert lr.step.tolist() == loss.step.tolist() == [1, 3, 5, 7, 9, 11]
    np.testing.assert_allclose(lr.value, np.array(lrs)[lr.step.astype(int)], rtol=1e-6)
    np.testing.assert_allclose(loss.value, np.array(losses)[loss.step.astype(int)], rtol=1e-6)
    assert val.step.tolist() == [step for step, _ in validated] == [3, 6, 9, 12]
    np.testing.assert_allclose(val.value, [value for _, value in validated], rtol=1e-6)
    epoch = log.series["train_loss_epoch"]
    assert epoch.step.tolist() == [2, 8]
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert "6 LRs that the monitor repeats for the batches of one update left out" in log.report
    for name, told in log.series.items():
        written = [float(row[name]) for row in rows if row[name]]
        if name == "lr-SGD":
            assert written[::2] == written[1::2]
            written = written[::2]
        assert told.value.tolist() == written
