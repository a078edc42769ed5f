"""Packed token files, mapped and not read into memory.

| file | content |
| --- | --- |
| .bin | unsigned 16-bit tokens and nothing else (nanoGPT) |
| .bin with a header | 256 int32 first: 20240520, 1, number of tokens (modded-nanogpt, llm.c) |
| .npy | one-dimensional integers |
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap

from lehr.errors import InputError
from lehr.proxy import config
from lehr.proxy.corpus import Corpus, Piece, check_tokens, find_files

MAGIC, HEADER_VERSION, HEADER = 20240520, 1, 256  # HEADER: in int32
CHECKED = 1 << 26  # tokens of a file that are checked when it is opened; all others are when they are read
CHECKED_PART = 1 << 20


def open_tokens(data: config.Data) -> Corpus:
    """Map packed token files; the last share `data.validation` of every file is held out, or `validation_paths` are.

    Raises
    ------
    InputError
        If a path is missing, a folder without such files, a file malformed, or a token beyond the vocabulary.
    """
    suffixes = (".bin", ".npy")
    files = find_files(data.paths, "data.paths", suffixes)
    held_out = find_files(data.validation_paths, "data.validation_paths", suffixes)
    vocab_size = data.vocab_size
    assert vocab_size is not None  # config.Data refuses it
    share = 0.0 if held_out else data.validation
    train, validation = [], []
    for file in files:
        tokens = map_tokens(file)
        end = len(tokens) - int(len(tokens) * share)
        train.append(Piece(str(file), tokens[:end]))
        if share:
            validation.append(Piece(str(file), tokens[end:], end))
    validation += [Piece(str(file), map_tokens(file)) for file in held_out]
    for piece in (*train, *validation):
        _check_start(piece, vocab_size)
    return Corpus(tuple(train), tuple(validation), vocab_size)


def map_tokens(file: Path) -> np.ndarray:
    """Map the tokens of one file; (n,) integers.

    Raises
    ------
    InputError
        If it is none of the known forms, or shorter or longer than its header says.
    """
    try:
        if file.suffix == ".npy":
            return _map_npy(file)
        if file.suffix == ".bin":
            return _map_bin(file)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}; name another file.") from None
    raise InputError(f"{file} is no packed token file: give .bin (uint16) or .npy, or data.kind 'text'.")


def _map_npy(file: Path) -> np.ndarray:
    try:
        tokens = open_memmap(file, mode="r")  # never unpickles
    except (ValueError, EOFError):
        raise InputError(f"{file} is no array of numpy: write it with numpy.save.") from None
    if tokens.ndim != 1 or tokens.dtype.kind not in "iu":
        raise InputError(
            f"{file} must be one row of integers, got {tokens.dtype} of shape {tokens.shape}: save it so."
        )
    return tokens


def _map_bin(file: Path) -> np.ndarray:
    size = file.stat().st_size
    if size < 2:
        return np.empty(0, np.uint16)
    header = np.fromfile(file, "<i4", count=3)
    if len(header) < 3 or header[0] != MAGIC:
        if size % 2:
            raise InputError(f"{file} has {size} bytes, which are no tokens of two bytes: write uint16.")
        return np.memmap(file, "<u2", mode="r")
    count = int(header[2])
    if header[1] != HEADER_VERSION:
        raise InputError(
            f"{file}: its header is of version {header[1]}, known is {HEADER_VERSION}: convert it."
        )
    if size != 4 * HEADER + 2 * count:
        raise InputError(
            f"{file}: its header says {count} tokens, which take {4 * HEADER + 2 * count} bytes, but it has {size}: "
            f"it was cut short or is of another kind."
        )
    return np.memmap(file, "<u2", mode="r", offset=4 * HEADER, shape=(count,))


def _check_start(piece: Piece, vocab_size: int) -> None:
    head = piece.tokens[:CHECKED]
    for first in range(0, len(head), CHECKED_PART):  # in parts, so that little memory is taken
        check_tokens(head[first : first + CHECKED_PART], piece.name, piece.start + first, vocab_size)
