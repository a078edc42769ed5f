"""Tables of a run, written as CSV, and read back."""

import numpy as np

from lehr.runs.readers import ReadOptions, read
from lehr.schedule.families import wsd

SCHEDULE = wsd(steps=1000, peak=1e-3, warmup=100, decay=200)
STEP = np.arange(0, 1000, 10)
LOSS = 3 + 5 / np.sqrt(STEP + 10)


def rows(step=STEP, lr=None, loss=LOSS):
    lr = SCHEDULE.lr(np.asarray(step)) if lr is None else lr
    return list(zip(np.asarray(step).tolist(), lr, np.asarray(loss).tolist(), strict=True))


def csv(path, table, header="step,lr,loss", mark=","):
    lines = [header.replace(",", mark)]
    lines += [
        mark.join("" if v is None else repr(v) if isinstance(v, float) else str(v) for v in r) for r in table
    ]
    path.write_text("\n".join(lines) + "\n")
    return path


def plain(table):
    return [tuple(float(v) if isinstance(v, np.floating) else v for v in row) for row in table]


def one(path, **options):
    (reading,) = read(path, ReadOptions(**options))
    return reading
