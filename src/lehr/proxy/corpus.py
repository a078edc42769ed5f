"""Finite data: rows of tokens in memory or in mapped files, cut into windows that are read by number."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np

from lehr.errors import InputError
from lehr.proxy.order import permute

HASHED_WHOLE = 1 << 26  # bytes of a row up to which all of it goes into the fingerprint
HASHED_PARTS, HASHED_PART = 512, 1 << 16  # of a longer row: so many parts of so many bytes


@dataclass(frozen=True, eq=False)
class Piece:
    """Consecutive tokens.

    Parameters
    ----------
    name : of the file, for messages.
    tokens : (n,) integers; may be mapped from the file.
    start : offset of the first of them among the file's tokens.
    """

    name: str
    tokens: np.ndarray
    start: int = 0


@dataclass(frozen=True, eq=False)
class Corpus:
    """What was found: pieces to train on and, apart from them, pieces to validate on."""

    train: tuple[Piece, ...]
    validation: tuple[Piece, ...]
    vocab_size: int


@dataclass(frozen=True, eq=False)
class Windows:
    """Windows of context + 1 tokens that lie `context` apart, so that each token is predicted at most once.

    Parameters
    ----------
    pieces : what is cut; what is left at the end of each is not read.
    context : tokens of a window, less one.
    vocab_size : what every token must be below.
    """

    pieces: tuple[Piece, ...]
    context: int
    vocab_size: int

    @property
    def ends(self) -> tuple[int, ...]:
        """Windows up to the end of each piece."""
        return tuple(accumulate(max(0, len(piece.tokens) - 1) // self.context for piece in self.pieces))

    @property
    def count(self) -> int:
        """Windows there are."""
        return self.ends[-1] if self.pieces else 0

    def read(self, numbers: np.ndarray) -> np.ndarray:
        """Return the windows of these numbers, (N, context + 1) int64.

        Raises
        ------
        InputError
            If a token lies beyond the vocabulary; names file and offset.
        """
        ends = np.array((0, *self.ends))
        owners = np.searchsorted(ends, numbers, side="right") - 1
        rows = np.empty((len(numbers), self.context + 1), np.int64)
        for row, owner, number in zip(rows, owners, numbers, strict=True):
            piece, first = self.pieces[owner], (number - ends[owner]) * self.context
            row[:] = piece.tokens[first : first + self.context + 1]
            check_tokens(row, piece.name, piece.start + int(first), self.vocab_size)
        return rows


@dataclass(frozen=True, eq=False)
class CorpusSource:
    """A corpus in an order of its own for every epoch; a `Source`.

    Parameters
    ----------
    windows, held_out : of the training and the validation part.
    seed : of the order.
    fingerprint : short hash of content, vocabulary and order.
    """

    windows: Windows
    held_out: Windows
    seed: int
    fingerprint: str

    @property
    def vocab_size(self) -> int:
        """Tokens there are."""
        return self.windows.vocab_size

    @property
    def sequences(self) -> int:
        """Sequences of an epoch: number i belongs to epoch i // sequences."""
        return self.windows.count

    @property
    def entropy(self) -> None:
        """None: nobody knows that of a text."""

    def train(self, first: int, count: int) -> np.ndarray:
        """Return sequences number `first` to `first + count - 1`; (count, context + 1) int64."""
        epoch, index = np.divmod(np.arange(first, first + count), self.windows.count)
        return self.windows.read(permute(index, self.windows.count, self.seed, epoch))

    def validation(self, count: int) -> np.ndarray:
        """Return the first `count` held-out sequences in a fixed order; (count, context + 1) int64.

        Raises
        ------
        InputError
            If there are fewer.
        """
        there = self.held_out.count
        if count > there:
            raise InputError(
                f"{count} validation sequences of {self.held_out.context + 1} tokens were asked for, but "
                f"{there} are held out: lower training.validate_sequences to at most that, raise "
                f"data.validation or give data.validation_paths."
            )
        index = np.arange(count)
        return self.held_out.read(permute(index, max(1, there), self.seed, np.full(count, -1)))


def corpus_source(corpus: Corpus, context: int, seed: int, held_back: bool) -> CorpusSource:
    """Cut a corpus into sequences.

    Parameters
    ----------
    held_back : whether there must be something to validate on.

    Raises
    ------
    InputError
        If a training piece or all of the validation is shorter than one sequence; gives the sizes.
    """
    windows = Windows(corpus.train, context, corpus.vocab_size)
    for piece in corpus.train:
        if len(piece.tokens) <= context:
            raise InputError(
                f"{piece.name} has {len(piece.tokens)} tokens to train on, but one sequence takes {context + 1}: "
                f"give more data or lower model.context."
            )
    held_out = Windows(corpus.validation, context, corpus.vocab_size)
    if held_back and not held_out.count:
        longest = max((len(piece.tokens) for piece in corpus.validation), default=0)
        raise InputError(
            f"at most {longest} tokens in a row are held out for validation, but one sequence takes {context + 1}: "
            f"raise data.validation, give data.validation_paths or lower model.context."
        )
    return CorpusSource(windows, held_out, seed, _fingerprint(corpus, seed))


def check_tokens(tokens: np.ndarray, name: str, start: int, vocab_size: int) -> None:
    """Refuse tokens that are not in 0 .. vocab_size-1, naming the file and the offset of the first of them."""
    if len(tokens) and (tokens.max() >= vocab_size or tokens.min() < 0):
        at = int(np.argmax((tokens >= vocab_size) | (tokens < 0)))
        raise InputError(
            f"{name}: token {int(tokens[at])} at offset {start + at} is not below data.vocab_size ({vocab_size}): "
            f"give the vocabulary that the file was made with."
        )


def find_files(paths: Iterable[str], key: str, suffixes: tuple[str, ...] = ()) -> list[Path]:
    """Return the files at `paths`, folders searched through in the order of names, hidden files left out.

    Parameters
    ----------
    key : of the configuration, for messages.
    suffixes : of the files taken from folders; empty for all.

    Raises
    ------
    InputError
        If a path does not exist, or a folder has no such file.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_file():
            found.append(path)
        elif path.is_dir():
            inside = [
                file
                for file in sorted(path.rglob("*"))
                if file.is_file()
                and not any(part.startswith(".") for part in file.relative_to(path).parts)
                and (not suffixes or file.suffix in suffixes)
            ]
            if not inside:
                named = " or ".join(suffixes) or "visible"
                raise InputError(f"{key}: the folder {path} has no {named} file: name another.")
            found += inside
        else:
            raise InputError(f"{key}: {path} does not exist: give files or folders.")
    return found


def _fingerprint(corpus: Corpus, seed: int) -> str:
    """Hash of the tokens (samples of long rows), the vocabulary and the order."""
    digest = hashlib.sha256(f"{corpus.vocab_size} {seed}".encode())
    for piece in (*corpus.train, *corpus.validation):
        size, item = piece.tokens.nbytes, piece.tokens.itemsize
        digest.update(f" {len(piece.tokens)} {item} ".encode())
        if size <= HASHED_WHOLE:
            digest.update(np.ascontiguousarray(piece.tokens).data)
            continue
        length = HASHED_PART // item
        for first in np.linspace(0, len(piece.tokens) - length, HASHED_PARTS).astype(np.int64):
            digest.update(np.ascontiguousarray(piece.tokens[first : first + length]).data)
    return digest.hexdigest()[:16]
