"""Configurations of trainings that take a second."""

import torch

from lehr.proxy.config import make_config

torch.set_num_threads(1)
BASE = {"depth": 1, "width": 16, "heads": 2, "context": 16}
PLAN = "wsd(steps=24, peak=1e-2, warmup=4, decay=8)"


def tiny(name="a", plan=PLAN, model=None, optimizer=None, branch=None, data=None, transfer=None, **training):
    """A training of 24 updates of 4 sequences of 16 tokens, with checkpoints every 6."""
    values = {
        "name": name,
        "model": {**BASE, **(model or {})},
        "data": {"vocab_size": 32, **(data or {})},
        "optimizer": optimizer or {},
        "training": {
            "schedule": plan, "batch": 4, "validate_every": 8, "validate_sequences": 6, "checkpoint_every": 6,
            **training,
        },
    }  # fmt: skip
    values |= {key: value for key, value in (("branch", branch), ("transfer", transfer)) if value}
    return make_config(values)


def lines(folder):
    """Rows of a log as text, the seconds aside: what must be equal to the last bit."""
    text = (folder / "log.jsonl").read_text().splitlines()[1:]
    return [line.partition(',"seconds"')[0] for line in text]


def stop_at(step, log):
    """Ask to stop once the log holds `step` rows."""
    return lambda: len(log.read_text().splitlines()) - 1 >= step
