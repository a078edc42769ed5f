"""Time to read every scalar of an event file: lehr's reader and tensorboard's EventAccumulator.

    python -m benchmarks.tensorboard [--steps N] [--json]

Tensorboard's own writer writes the file: at each of N steps a training loss, an LR and a gradient norm, at every
tenth a validation loss; half of the tags as the old writers do (simple_value), half as the new ones (tensors).
Each reader reads it three times, in turn; the best time of each counts. EventAccumulator is told to keep all
points, and both must give the same numbers.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lehr.runs.readers import tensorboard

REPEATS = 3


def write(folder: Path, steps: int) -> Path:
    """Write the file with tensorboard's writer."""
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util.tensor_util import make_tensor_proto

    writer = EventFileWriter(str(folder))
    for step in range(steps):
        rows = {"train/loss": 3 + 50 / (step + 10), "grad_norm": 1.0, "lr": 1e-3 * (1 - step / steps)}
        if step % 10 == 0:
            rows["val/loss"] = 3 + 50 / (step + 11)
        for tag, number in rows.items():
            if tag in ("train/loss", "grad_norm"):
                value = summary_pb2.Summary.Value(tag=tag, simple_value=number)
            else:
                value = summary_pb2.Summary.Value(tag=tag, tensor=make_tensor_proto(np.float32(number)))
                value.metadata.plugin_data.plugin_name = "scalars"
            summary = summary_pb2.Summary(value=[value])
            writer.add_event(event_pb2.Event(wall_time=1e9 + step, step=step, summary=summary))
    writer.close()
    return next(folder.iterdir())


def ours(path: Path) -> dict[str, np.ndarray]:
    (log,) = tensorboard.logs(path)
    return {tag: series.value for tag, series in log.series.items()}


def theirs(path: Path) -> dict[str, np.ndarray]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    out = {tag: np.array([item.value for item in events.Scalars(tag)]) for tag in events.Tags()["scalars"]}
    for tag in events.Tags()["tensors"]:
        out[tag] = np.array([item.tensor_proto.float_val[0] for item in events.Tensors(tag)])
    return out


def measure(steps: int) -> dict[str, Any]:
    """Best times of both readers, in seconds, and their ratio."""
    readers: dict[str, Callable[[Path], dict[str, np.ndarray]]] = {"lehr": ours, "tensorboard": theirs}
    best = dict.fromkeys(readers, float("inf"))
    with tempfile.TemporaryDirectory() as folder:
        path = write(Path(folder) / "run", steps)
        size = path.stat().st_size
        for _ in range(REPEATS):
            found = {}
            for name, read in readers.items():
                start = time.perf_counter()
                found[name] = read(path)
                best[name] = min(best[name], time.perf_counter() - start)
            assert set(found["lehr"]) == set(found["tensorboard"])
            for tag, values in found["tensorboard"].items():
                np.testing.assert_array_equal(found["lehr"][tag], values)
    return {
        "scalars": sum(values.size for values in found["lehr"].values()), "bytes": size,
        "lehr_seconds": best["lehr"], "tensorboard_seconds": best["tensorboard"],
        "ratio": best["tensorboard"] / best["lehr"],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=15_000)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    row = measure(asked.steps)
    if asked.json:
        print(json.dumps(row))
        return
    ours_, theirs_ = row["lehr_seconds"], row["tensorboard_seconds"]
    print(f"{row['scalars']} scalars in {row['bytes'] / 1e6:.1f} MB")
    print(f"lehr {ours_:.3f} s, EventAccumulator {theirs_:.3f} s: {row['ratio']:.1f} times")


if __name__ == "__main__":
    main()
