"""Write the samples of `tests/runs/samples` that a tool, or its exact format strings, can write.

    python scripts/make_samples.py [FORMAT ...] [--into DIR]

All hold one made-up training of 24 updates whose loss before update k is 9.5 - k / 4, in the way and under the schedule
of their tool; `tests/runs/test_samples.py` says what is read of each. What was made by a tool itself needs that tool,
and its ids and times differ from call to call:

    format          written by
    lightning       CSVLogger of lightning 2.6.6
    mlflow          MlflowClient of mlflow 3.17.2; the four tables that hold runs, copied to a small database
    mlflow-files    MlflowClient of mlflow 3.17.2
    tensorboard     EventFileWriter of tensorboard 2.21.0 (log.tfevents; the other by the tests' own writer)
    trackio         trackio 0.43.0; its two tables, copied to a small database
    trainer-state   TrainerState of transformers 5.24.0

The consoles and lingua's JSON lines are written here by the format strings of the tools' sources, which the readers
name. The samples of lehr, table, wandb-json, wandb-export and wandb-offline are not made here: they were written by
lehr, by hand, and by the writers of the readers' tests.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterable
from contextlib import closing
from pathlib import Path

SAMPLES = Path(__file__).parent.parent / "tests" / "runs" / "samples"
STEPS, WARMUP, DECAY, PEAK, EVERY = 24, 4, 8, 9.6e-5, 4
LOGGED = range(EVERY, STEPS + 1, EVERY)  # updates done
MAKERS: dict[str, Callable[[Path], None]] = {}


def loss(k: float) -> float:
    """Loss before update k."""
    return 9.5 - k / 4


def lr(k: int, phase: int = 1) -> float:
    """LR of update k; `phase` 0 of a tool that wastes the first update at LR 0."""
    if k < WARMUP:
        return PEAK * (k + phase) / WARMUP
    return PEAK * min(1.0, (STEPS - k) / DECAY)


def _makes(*formats: str) -> Callable[[Callable[[Path], None]], Callable[[Path], None]]:
    def register(make: Callable[[Path], None]) -> Callable[[Path], None]:
        MAKERS.update(dict.fromkeys(formats, make))
        return make

    return register


def _write(path: Path, lines: Iterable[str]) -> None:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@_makes("megatron")
def _megatron(folder: Path) -> None:
    """`_print_args` (megatron/training/arguments.py), `training_log` and validation (training.py)."""
    told = {
        "global_batch_size": 256, "log_interval": EVERY, "lr": PEAK, "lr_decay_iters": STEPS, "lr_decay_style": "WSD",
        "lr_warmup_iters": WARMUP, "lr_wsd_decay_iters": DECAY, "lr_wsd_decay_style": "linear", "min_lr": 0.0,
        "seq_length": 2048, "train_iters": STEPS,
    }  # fmt: skip
    lines = ["------------------------ arguments ------------------------"]
    lines += [f"  {name} {'.' * (48 - len(name))} {value}" for name, value in told.items()]
    lines += ["-------------------- end of arguments ---------------------"]
    for k in LOGGED:
        mean = sum(map(loss, range(k - EVERY, k))) / EVERY
        lines.append(
            f" [2026-03-01 00:00:{k:02d}.000000] iteration {k:8d}/{STEPS:8d} | consumed samples: {256 * k:12d} | "
            f"elapsed time per iteration (ms): 1000.0 | learning rate: {lr(k, 0):.6E} | global batch size: {256:5d} | "
            f"lm loss: {mean:.6E} | loss scale: 1.0 | grad norm: 1.000 | number of skipped iterations: {0:3d} | "
            f"number of nan iterations: {0:3d} |"
        )
        if k % (3 * EVERY) == 0:
            lines.append(
                f" validation loss at iteration {k} | lm loss value: {loss(k):.6E} | lm loss PPL: 1.0E+03 | "
            )
    _write(folder / "pretrain.log", lines)


@_makes("torchtitan")
def _torchtitan(folder: Path) -> None:
    """`MetricsProcessor.log` (torchtitan/components/metrics.py)."""
    settings = {
        "optimizer": {"lr": PEAK}, "training": {"steps": STEPS, "seq_len": 2048, "global_batch_size": 16},
        "lr_scheduler": {"warmup_steps": WARMUP, "decay_ratio": DECAY / STEPS, "decay_type": "linear",
                         "min_lr_factor": 0.0},
    }  # fmt: skip
    start = "[titan] 2026-03-01 10:00:00,000 - root - INFO - "
    lines = [f"{start}Running with configs: {json.dumps(settings)}"]
    lines += [
        f"{start}\x1b[31mstep: {k:2}  \x1b[32mloss: {loss(k - 1):7.4f}  \x1b[38;2;180;60;0mgrad_norm: {1:7.4f}  "
        f"\x1b[36mmemory:  0.99GiB(1.04%)  \x1b[34mtps: 1,234  \x1b[36mtflops: 0.09  \x1b[35mmfu: 0.01%\x1b[39m"
        for k in (1, *LOGGED)
    ]
    _write(folder / "train.log", lines)


@_makes("nanotron")
def _nanotron(folder: Path) -> None:
    """`human_format` (nanotron/logging/base.py) of `train_step_logs` (trainer.py)."""
    start = "03/01 14:37:22 [INFO|DP=0|PP=0|TP=0]: "
    told = {
        "run": "'tiny'", "sequence_length": 256, "micro_batch_size": 2, "batch_accumulation_per_replica": 4, "dp": 1,
        "learning_rate": PEAK, "lr_warmup_steps": WARMUP, "lr_warmup_style": "'linear'", "lr_decay_style": "'linear'",
        "lr_decay_steps": DECAY, "lr_decay_starting_step": STEPS - DECAY, "min_decay_lr": 0, "train_steps": STEPS,
    }  # fmt: skip
    lines = [f"{start}Config(" + ", ".join(f"{name}={value}" for name, value in told.items()) + ")"]
    lines += [
        f"{start}iteration: {k} / {STEPS} | consumed_tokens: {2.048 * k:.3g}K | time_per_iteration_ms: 26.1 | "
        f"tokens_per_sec: 5M | global_batch_size: 2.05K | grad_norm: 1 | lm_loss: {loss(k - 1):.3g} | "
        f"lr: {lr(k, 0):.3g} | model_tflops_per_gpu: 4.59 | eta: 0:00:10"
        for k in range(1, STEPS + 1, 2)
    ]
    _write(folder / "job.out", lines)


@_makes("nanogpt")
def _nanogpt(folder: Path) -> None:
    """Print as train.py and configurator.py do."""
    lines = [f"Overriding: learning_rate = {PEAK}", "Overriding: min_lr = 0.0",
             f"Overriding: warmup_iters = {WARMUP}", f"Overriding: lr_decay_iters = {STEPS}",
             f"Overriding: max_iters = {STEPS}", "tokens per iteration will be: 491,520"]  # fmt: skip
    for i in range(0, STEPS + 1, EVERY):
        if i % (3 * EVERY) == 0:
            lines.append(f"step {i}: train loss {loss(i):.4f}, val loss {loss(i) + 0.125:.4f}")
        lines.append(f"iter {i}: loss {loss(i):.4f}, time {123.456:.2f}ms, mfu {12.34:.2f}%")
    _write(folder / "gpt.log", lines)


@_makes("nanochat")
def _nanochat(folder: Path) -> None:
    """Print as scripts/base_train.py does, with its debiased average."""
    lines, smooth = ["Total batch size 524,288 => gradient accumulation steps: 32"], 0.0
    for s in range(STEPS):
        smooth = 0.9 * smooth + 0.1 * loss(s)
        if s % (3 * EVERY) == 0:
            lines.append(f"Step {s:05d} | Validation bpb: {loss(s) / 4:.6f}")
        lines.append(
            f"step {s:05d}/{STEPS:05d} ({100 * s / STEPS:.2f}%) | loss: {smooth / (1 - 0.9 ** (s + 1)):.6f} | "
            f"lrm: {lr(s) / PEAK:.2f} | dt: 100.00ms | tok/sec: 5,242,880 | bf16_mfu: 40.00 | epoch: 1"
        )
    lines.append(f"Step {STEPS:05d} | Validation bpb: {loss(STEPS) / 4:.6f}")
    _write(folder / "speedrun.log", lines)


@_makes("modded-nanogpt")
def _modded(folder: Path) -> None:
    """Print as train_gpt.py does, after its own text."""
    lines = ["@dataclass", "class Hyperparameters:", f"    num_iterations: int = {STEPS}", ""]
    lines += [
        f"step:{s}/{STEPS} val_loss:{loss(s):.4f} train_time:{100 * s}ms step_avg:{100:.2f}ms"
        for s in (0, *LOGGED)
    ]
    _write(folder / "3e0b3a5c.txt", lines)


@_makes("llm.c")
def _llmc(folder: Path) -> None:
    """Print as train_gpt2.cu does."""
    rows = {
        "total batch size": 524288, "LR scheduler": "cosine", "learning rate (LR)": f"{PEAK:e}",
        "warmup iterations": WARMUP, "final LR fraction": f"{0:e}", "train_num_batches": STEPS,
    }  # fmt: skip
    lines = [f"| {name:<21} | {value!s:<50} |" for name, value in rows.items()]
    for s in range(STEPS):
        if s % (3 * EVERY) == 0:
            lines.append(f"val loss {loss(s):.6f}")
        used = lr(s) if s < WARMUP else PEAK * (1 + math.cos(math.pi * (s - WARMUP) / (STEPS - WARMUP))) / 2
        lines.append(
            f"step {s + 1:4d}/{STEPS} | loss {loss(s):7.6f} (+nanz)| norm {1:6.4f} (+nanz)| lr {used:.2e} | "
            f"1500.12 ms | 50.0% bf16 MFU | 349525 tok/s"
        )
    lines.append(f"val loss {loss(STEPS):.6f}")
    _write(folder / "stdout.txt", lines)


@_makes("litgpt-console")
def _litgpt(folder: Path) -> None:
    """Print as `fit` of litgpt/pretrain.py does, with two micro-batches an update."""
    lines = ["Total parameters: 1,100,048,384"]
    for step in LOGGED:
        lines.append(
            f"Epoch 1 | iter {2 * step} step {step} | loss train: {loss(step - 1):.3f}, val: n/a | "
            f"iter time: 12.34 ms (step) remaining time: 1:00:00"
        )
        if step % (3 * EVERY) == 0:
            lines.append(f"iter {2 * step}: val loss {loss(step):.4f}, val time: 1234.56 ms")
    _write(folder / "litgpt.log", lines)


@_makes("olmo-core-console")
def _olmo(folder: Path) -> None:
    """`ConsoleLoggerCallback` (olmo_core/train/callbacks/console_logger.py), every update."""
    lines = []
    for k in range(1, STEPS + 1):
        lines += [
            f"2026-03-01 12:01:00 INFO [olmo_core.train.callbacks.console_logger:68] [step={k}/{STEPS},epoch=1,eta=5m]",
            f"    optim/LR (group 0)={lr(k - 1):.2E}", f"    train/CE loss={loss(k - 1):.4}",
        ]  # fmt: skip
    _write(folder / "olmo.log", lines)


@_makes("trainer-console")
def _trainer_console(folder: Path) -> None:
    """Print as `PrinterCallback` (transformers/trainer_callback.py) does."""
    rows = [
        {"loss": loss(k - 1), "grad_norm": 1.0, "learning_rate": lr(k - 1, 0), "epoch": k / STEPS}
        for k in LOGGED
    ]
    _write(folder / "console.txt", map(str, rows))


@_makes("json-lines")
def _json_lines(folder: Path) -> None:
    """Rows of lingua's metrics.jsonl."""
    rows = [
        {"global_step": k, "acc_step": 0, "optim/grad_norm": 1.0, "optim/lr": lr(k - 1, 0), "loss/out": loss(k - 1),
         "optim/total_tokens": 4096 * k, "created_at": f"2026-01-01T00:00:{k:02d}.500000+00:00"}
        for k in range(1, STEPS + 1, 2)
    ]  # fmt: skip
    _write(folder / "metrics.jsonl", map(json.dumps, rows))


@_makes("lightning")
def _lightning(folder: Path) -> None:
    """Lightning's own logger, given what its Trainer gives it with a LearningRateMonitor."""
    from lightning.pytorch.loggers import CSVLogger

    with tempfile.TemporaryDirectory() as place:
        logger = CSVLogger(place, name="tiny")
        for k in range(STEPS):
            logger.log_metrics({"lr-AdamW": lr(k)}, step=k)
            if k % 2 == 1:
                logger.log_metrics({"train_loss": loss(k)}, step=k)
            if (k + 1) % (2 * EVERY) == 0:
                logger.log_metrics({"val_loss": loss(k + 1)}, step=k)
        logger.save()
        shutil.copy(Path(logger.log_dir) / "metrics.csv", folder / "metrics.csv")


@_makes("trainer-state")
def _trainer_state(folder: Path) -> None:
    """The Trainer's own state, with rows as `Trainer.log` adds them."""
    from transformers.trainer_callback import TrainerState

    rows = []
    for k in LOGGED:
        mean = sum(map(loss, range(k - EVERY, k))) / EVERY
        rows.append({"loss": mean, "learning_rate": lr(k - 1, 0), "epoch": k / STEPS, "step": k})
        if k % (3 * EVERY) == 0:
            rows.append({"eval_loss": loss(k), "epoch": k / STEPS, "step": k})
    TrainerState(
        epoch=1.0, global_step=STEPS, max_steps=STEPS, logging_steps=EVERY, log_history=rows
    ).save_to_json(str(folder / "trainer_state.json"))


@_makes("tensorboard")
def _tensorboard(folder: Path) -> None:
    """TensorBoard's own writer."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    with tempfile.TemporaryDirectory() as place:
        writer = EventFileWriter(place)
        for k in range(STEPS):
            values = [Summary.Value(tag="lr", simple_value=lr(k))]
            if k % 3 == 0:
                values.append(Summary.Value(tag="val/loss", simple_value=loss(k)))
            writer.add_event(Event(wall_time=1.7e9 + k, step=k, summary=Summary(value=values)))
        writer.close()
        (path,) = Path(place).iterdir()
        shutil.copy(path, folder / "log.tfevents")


def _log_to_mlflow(address: str) -> None:
    os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
    import mlflow
    from mlflow.entities import Metric

    client = mlflow.MlflowClient(tracking_uri=address)
    run = client.create_run("0", run_name="tiny").info.run_id
    client.log_param(run, "weight_decay", 0.1)
    for k in range(0, STEPS, 2):
        client.log_batch(run, [Metric("lr", lr(k), 1000 * k, k), Metric("val_loss", loss(k), 1000 * k, k)])
    client.set_terminated(run)


@_makes("mlflow")
def _mlflow(folder: Path) -> None:
    """MLflow's own store."""
    with tempfile.TemporaryDirectory() as place:
        _log_to_mlflow(f"sqlite:///{place}/mlflow.db")
        cleaning = (
            "DELETE FROM tags WHERE key != 'mlflow.runName'",
            "UPDATE runs SET artifact_uri = '/store'",
        )
        _small(
            Path(place) / "mlflow.db", folder / "mlflow.db", ("runs", "metrics", "params", "tags"), cleaning
        )


@_makes("mlflow-files")
def _mlflow_files(folder: Path) -> None:
    """MLflow's own store of files."""
    with tempfile.TemporaryDirectory() as place:
        store = Path(place) / "mlruns"
        _log_to_mlflow(store.as_uri())
        shutil.rmtree(folder / "mlruns", ignore_errors=True)
        (run,) = (path.parent for path in store.glob("*/*/meta.yaml"))
        kept = folder / "mlruns" / "0" / run.name
        for part in ("meta.yaml", "metrics", "params"):
            source = run / part
            kept.mkdir(parents=True, exist_ok=True)
            if source.is_dir():
                shutil.copytree(source, kept / part)
            else:
                (kept / part).write_text(source.read_text().replace(place, "/store"))


@_makes("trackio")
def _trackio(folder: Path) -> None:
    """Trackio's own store."""
    with tempfile.TemporaryDirectory() as place:
        os.environ["TRACKIO_DIR"] = place
        import trackio

        run = trackio.init(project="tiny", name="fox", config={"weight_decay": 0.1}, auto_log_gpu=False)
        for k in range(STEPS):
            run.log({"lr": lr(k), "val/loss": loss(k)} if k % 3 == 0 else {"lr": lr(k)}, step=k)
        run.finish()
        (path,) = Path(place).glob("tiny*.db")
        _small(path, folder / "tiny.db", ("metrics", "configs"))


def _small(source: Path, target: Path, tables: tuple[str, ...], cleaning: tuple[str, ...] = ()) -> None:
    """Copy tables of a database into one of small pages; `cleaning` takes out what tells of the machine."""
    target.unlink(missing_ok=True)
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        new.execute("PRAGMA page_size = 512")
        for table in tables:
            (sql,) = old.execute("SELECT sql FROM sqlite_master WHERE name = ?", (table,)).fetchone()
            new.execute(sql)
            rows = old.execute(f"SELECT * FROM {table}").fetchall()
            marks = ", ".join("?" * len(old.execute(f"SELECT * FROM {table}").description))
            new.executemany(f"INSERT INTO {table} VALUES ({marks})", rows)
        for clean in cleaning:
            new.execute(clean)
        new.commit()
        new.execute("VACUUM")


def main() -> None:
    """Write samples from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("formats", nargs="*", metavar="FORMAT", choices=[*MAKERS, []])
    parser.add_argument("--into", type=Path, default=SAMPLES)
    args = parser.parse_args()
    for name in args.formats or MAKERS:
        folder = args.into / name
        folder.mkdir(parents=True, exist_ok=True)
        MAKERS[name](folder)
        print(name, ", ".join(f"{path.name} ({path.stat().st_size})" for path in sorted(folder.iterdir())))


if __name__ == "__main__":
    main()
