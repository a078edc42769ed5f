"""Text for the bundled runs: the sources of the Python standard library, as bytes, split by file."""

from __future__ import annotations

import hashlib
import platform
import sysconfig
from pathlib import Path

import numpy as np
import torch

from tiny_model import SEQ_LEN

BATCH, VAL_WINDOWS, SPLIT_SEED = 8, 256, 0
SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"}


def load_data():
    """Read the standard library's sources and split them by file.

    Returns
    -------
    train, val : numpy.ndarray
        Bytes of the training and of the held-out files.
    facts : dict
        Provenance for the manifest.
    """
    root = Path(sysconfig.get_path("stdlib"))
    names = sorted(
        p.relative_to(root).as_posix()
        for p in root.rglob("*.py")
        if not SKIPPED_FOLDERS & set(p.relative_to(root).parts)
    )
    texts = [(root / name).read_bytes() for name in names]
    order = np.random.default_rng(SPLIT_SEED).permutation(len(texts))
    held = set(order[: len(texts) // 20].tolist())
    train = b"\0".join(t for i, t in enumerate(texts) if i not in held)
    val = b"\0".join(t for i, t in enumerate(texts) if i in held)
    whole = b"\0".join(texts)
    facts = {
        "description": "*.py of the Python standard library by relative path, joined by NUL",
        "skipped_folders": sorted(SKIPPED_FOLDERS),
        "python": platform.python_version(),
        "files": len(texts),
        "bytes": len(whole),
        "sha256": hashlib.sha256(whole).hexdigest(),
        "val_files": len(held),
        "train_bytes": len(train),
        "val_bytes": len(val),
        "val_tokens_measured": VAL_WINDOWS * SEQ_LEN,
        "split_seed": SPLIT_SEED,
    }
    return np.frombuffer(train, np.uint8), np.frombuffer(val, np.uint8), facts


def windows(data, starts):
    """Cut inputs and next-byte targets, one row per start, out of `data`."""
    cut = torch.from_numpy(data[starts[:, None] + np.arange(SEQ_LEN + 1)].astype(np.int64))
    return cut[:, :-1], cut[:, 1:]


class Batches:
    """Training batches; the batch of update `k` depends on the seed and `k` alone.

    The data is cut into disjoint windows which are visited in a seeded random
    order, so a run shorter than the data sees no window twice, and a branch
    sees exactly what its trunk would have seen.
    """

    def __init__(self, data, seed):
        self.data = data
        self.order = np.random.default_rng(seed).permutation((len(data) - 1) // SEQ_LEN)

    def __getitem__(self, k):
        picked = np.arange(k * BATCH, (k + 1) * BATCH) % len(self.order)
        return windows(self.data, self.order[picked] * SEQ_LEN)
