"""Of every format a small sample: whole, cut off anywhere, and what once broke a reader.

Most hold the training of scripts/make_samples.py, whose loss before update k is 9.5 - k / 4.
"""

import math
import random
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from lehr.errors import InputError
from lehr.runs.importing import prepare
from lehr.runs.readers import FORMATS, detect, read_all
from lehr.runs.readers.reading import ReadOptions
from lehr.schedule.spec import parse

SAMPLES = Path(__file__).parent / "samples"
MOST = 10_240  # bytes of a sample
CUTS, IMPORTS = 600, 10  # of a sample: places it is cut at, and of those where the rest is made a run
EXTRA = ("fault-", "found-")  # what broke a reader once, and what led to rare places: of no use whole
HERE = [name for name, known in FORMATS.items() if not known.address]
FILE_FORMATS = [name for name in HERE if not FORMATS[name].folder]


def name_of(path):
    return path.relative_to(SAMPLES).as_posix()


def in_format(format):
    """Logs of a format: files, or folders of a format that is one."""
    return sorted((SAMPLES / format).iterdir())


WHOLE = [path for format in HERE for path in in_format(format) if not path.name.startswith(EXTRA)]
STRANGE = [path for format in FILE_FORMATS for path in in_format(format) if path.name.startswith(EXTRA)]


def read_or_refuse(path, format):
    """Runs of a log, or None if it is refused; anything else is a fault."""
    try:
        return read_all([path], format=format)
    except InputError as error:
        assert str(path) in str(error) or path.name in str(error)
        return None


@dataclass
class Told:
    """What a sample holds: updates done at each loss, what is added to 9.5 - k / 4, and LRs by update."""

    step: object
    lr: object
    more: float = 0.0
    options: ReadOptions = field(default_factory=ReadOptions)


def wsd(phase=1):
    """LRs of 4 updates up, 12 at the peak and 8 down; in phase 0 the first is wasted at LR 0."""
    return [9.6e-5 * ((k + phase) / 4 if k < 4 else min(1, (24 - k) / 8)) for k in range(24)]


def cosine(over, more):
    """Four updates up, k + 1 of `over`, and half a cosine down over 20; then `more` at 0."""
    down = [0.5 + 0.5 * math.cos(math.pi * x / 20) for x in range(20)]
    return [9.6e-5 * each for each in [*((k + 1) / over for k in range(4)), *down, *[0.0] * more]]


GIVEN = ReadOptions(schedule=parse("wsd(steps=24, peak=9.6e-5, warmup=4, decay=8)"))
TOLD = {
    "tensorboard/log.tfevents": Told(range(0, 24, 3), wsd()),
    "mlflow/mlflow.db": Told(range(0, 24, 2), wsd()),
    "mlflow-files/mlruns": Told(range(0, 24, 2), wsd()),
    "trackio/tiny.db": Told(range(0, 24, 3), wsd()),
    "trainer-state/trainer_state.json": Told([12, 24], wsd(0)),
    "megatron/pretrain.log": Told([12, 24], wsd(0)),
    "torchtitan/train.log": Told([0, *range(3, 24, 4)], wsd()),
    "nanotron/job.out": Told(range(0, 24, 2), wsd(0)),
    "nanogpt/gpt.log": Told([0, 12, 24], cosine(5, 1), more=0.125),
    "nanochat/speedrun.log": Told(
        [0, 12, 24], [round(lr / 9.6e-5, 2) for lr in wsd()], options=ReadOptions(bytes_per_token=4 / math.log(2))
    ),
    "modded-nanogpt/3e0b3a5c.txt": Told([0, *range(4, 25, 4)], wsd(), options=GIVEN),
    "llm.c/stdout.txt": Told([0, 12, 24], cosine(4, 0)),
    "litgpt-console/litgpt.log": Told([12, 24], wsd(), options=GIVEN),
    "olmo-core-console/olmo.log": Told(range(24), wsd()),
    "json-lines/metrics.jsonl": Told(range(0, 24, 2), wsd(0)),
    "lightning/metrics.csv": Told([8, 16, 24], wsd()),
}  # fmt: skip
OTHERS = {  # sample -> steps, losses, LRs of the first updates
    "lehr/log.jsonl": ([500], [3.0506508350372314], [0.00032, 0.00064]),
    "tensorboard/events.out.tfevents.1.host": ([3], [3.25], [5e-4, 1e-3, 1e-3, 5e-4]),
    "wandb-offline/run-abc123.wandb": (range(4), [4, 3.75, 3.5, 3.25], [5e-4, 1e-3, 1e-3, 5e-4]),
    "wandb-json/run.json": ([0, 1600], [8.0, 3.031055900621118], [1e-5, 1.33e-5]),
    "wandb-export/chart.csv": (range(4), [4, 3.75, 3.5, 3.25], [5e-4, 1e-3, 1e-3, 5e-4]),
    "wandb-export/history.jsonl": (range(4), [4, 3.75, 3.5, 3.25], [5e-4, 1e-3, 1e-3, 5e-4]),
    "table/trunk.csv": (
        range(0, 70, 10),
        [4.581138830084189, 4.118033988749895, 3.912870929175277, 3.7905694150420945, 3.7071067811865475,
         3.6454972243679027, 3.597614304667197],
        [1e-5, 2e-5, 3e-5],
    ),
}  # fmt: skip
REFUSED = "trainer-console/console.txt"


@pytest.mark.parametrize("format", HERE)
def test_every_format_has_a_small_sample(format):
    whole = [path for path in WHOLE if path.parent.name == format]
    assert whole
    for path in whole:
        assert name_of(path) in {*TOLD, *OTHERS, REFUSED}
        assert path.is_dir() or path.stat().st_size <= MOST


@pytest.mark.parametrize("path", WHOLE, ids=name_of)
def test_no_other_format_takes_a_sample(path):
    assert detect(path) == path.parent.name


@pytest.mark.parametrize("name", TOLD)
def test_what_was_logged_is_imported(name, tmp_path):
    told = TOLD[name]
    (run,) = prepare([SAMPLES / name], tmp_path / "store", told.options).runs
    step = np.array(list(told.step), dtype=float)
    assert run.step.tolist() == step.tolist()
    assert run.loss == pytest.approx(9.5 - step / 4 + told.more, rel=1e-6)
    assert run.schedule.to_array() == pytest.approx(told.lr, rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("name", OTHERS)
def test_what_was_logged_elsewhere_is_imported(name, tmp_path):
    step, loss, lr = OTHERS[name]
    (run,) = prepare([SAMPLES / name], tmp_path / "store").runs
    assert run.step.tolist() == list(step)
    assert run.loss.tolist() == loss
    assert run.schedule.to_array()[: len(lr)] == pytest.approx(lr)


def test_rows_without_steps_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"console\.txt, line 1, holds what the Trainer"):
        prepare([SAMPLES / REFUSED], tmp_path / "store")


def cut_everywhere(file, log, format):
    """Cut a file of a log to all lengths, of a large one at a stride that meets all places of a page; read the log.

    To make a run of what is left, its schedule is inferred, which takes longer: done for a few of them.
    """
    data, known = file.read_bytes(), FORMATS[format]
    stride = max(1, len(data) // CUTS) | 1
    for place, size in enumerate(range(1, len(data), stride)):
        file.write_bytes(data[:size])
        for each in FORMATS.values():
            if each.folder == known.folder:
                each.sniff(log)
        if place % (len(data) // stride // IMPORTS + 1) == 0 or known.logs is None:
            read_or_refuse(log, format)
            continue
        try:
            list(known.logs(log, ReadOptions()))
        except InputError as error:
            assert log.name in str(error)
    file.write_bytes(data)


@pytest.mark.parametrize("path", [path for path in WHOLE if path.is_file()], ids=name_of)
def test_cut_off_anywhere_it_is_refused_or_read_in_part(path, tmp_path):
    cut = tmp_path / path.name
    shutil.copy(path, cut)
    cut_everywhere(cut, cut, path.parent.name)


@pytest.mark.parametrize("path", [path for path in WHOLE if path.is_dir()], ids=name_of)
def test_a_folder_with_a_file_cut_off_anywhere(path, tmp_path):
    folder = tmp_path / path.name
    shutil.copytree(path, folder)
    for file in sorted(file for file in folder.rglob("*") if file.is_file()):
        cut_everywhere(file, folder, path.parent.name)
    assert read_or_refuse(folder, path.parent.name)


TEXTS = [path for path in WHOLE if path.is_file() and b"\0" not in path.read_bytes()]
NUMBER = re.compile(rb"(?<![\w.])\d+\.?\d*(?:[eE][-+]?\d+)?")


@pytest.mark.parametrize("path", TEXTS, ids=name_of)
def test_numbers_that_no_training_has_are_refused_or_read(path, tmp_path):
    """One number of each kind (by what stands before it) is beyond any integer, next to nothing, or 0."""
    data, log = path.read_bytes(), tmp_path / path.name
    kinds = {re.sub(rb"\d", b"", data[: each.start()][-12:]): each for each in NUMBER.finditer(data)}
    for place, each in enumerate(list(kinds.values())[:8]):
        for value in (b"1e300", b"9" * 30, b"1e-320", b"0")[place % 2 :: 2]:
            log.write_bytes(data[: each.start()] + value + data[each.end() :])
            read_or_refuse(log, path.parent.name)


@pytest.mark.parametrize("path", STRANGE, ids=name_of)
def test_what_a_search_found_is_refused_or_read(path):
    assert path.stat().st_size <= MOST
    for known in FORMATS.values():
        assert known.folder or known.sniff(path) in (True, False)
    read_or_refuse(path, path.parent.name)


@pytest.mark.parametrize("format", FILE_FORMATS)
def test_bytes_at_random_are_refused(format, tmp_path):
    path = tmp_path / "x"
    for size in (1, 7, 100, 5000):
        path.write_bytes(random.Random(size).randbytes(size))
        read_or_refuse(path, format)
