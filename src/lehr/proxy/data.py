"""What a training reads: one fixed order of sequences, each a pure function of its number.

So a training that goes on, one that branches off and one that is shared among ranks need no state of the data: they ask
for the sequences by number.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lehr.proxy import config
from lehr.proxy.corpus import corpus_source
from lehr.proxy.language import VERSION, Language, make_language
from lehr.proxy.text import open_text
from lehr.proxy.tokens import open_tokens


class Source(Protocol):
    """Sequences to train on and to validate on, of context + 1 tokens: inputs and, one further, targets."""

    @property
    def vocab_size(self) -> int:
        """Tokens there are."""

    @property
    def fingerprint(self) -> str:
        """Short hash of what is read and in which order."""

    @property
    def sequences(self) -> int | None:
        """Training sequences of an epoch; None where they never repeat."""

    @property
    def entropy(self) -> float | None:
        """Lowest mean loss that any model can reach, in nats per token; None where it is unknown."""

    def train(self, first: int, count: int) -> np.ndarray:
        """Return sequences number `first` to `first + count - 1`; (count, context + 1) int64."""

    def validation(self, count: int) -> np.ndarray:
        """Return the first `count` held-out sequences, always the same; (count, context + 1) int64."""


@dataclass(frozen=True)
class SyntheticSource:
    """The synthetic language at a context; a `Source`.

    Parameters
    ----------
    language : what is drawn from.
    context : tokens of a sequence, less one.
    """

    language: Language
    context: int

    @property
    def vocab_size(self) -> int:
        """Words there are."""
        return self.language.vocab_size

    @property
    def fingerprint(self) -> str:
        """Short hash of the language's version, seed and vocabulary."""
        named = f"synthetic {VERSION} {self.language.seed} {self.language.vocab_size}"
        return hashlib.sha256(named.encode()).hexdigest()[:16]

    @property
    def sequences(self) -> None:
        """None: no sequence comes twice."""

    @property
    def entropy(self) -> float:
        """Lowest mean loss that any model can reach, in nats per token; measured once, in seconds."""
        return self.language.entropy(self.context)[0]

    @property
    def entropy_error(self) -> float:
        """Standard error of `entropy`."""
        return self.language.entropy(self.context)[1]

    def train(self, first: int, count: int) -> np.ndarray:
        """Return sequences number `first` to `first + count - 1`; (count, context + 1) int64."""
        return self.language.sequences("train", first, count, self.context)

    def validation(self, count: int) -> np.ndarray:
        """Return the first `count` held-out sequences; (count, context + 1) int64."""
        return self.language.sequences("validation", 0, count, self.context)


def open_data(data: config.Data, context: int) -> Source:
    """Open what is trained on.

    Parameters
    ----------
    data : the configuration's table.
    context : tokens of a training sequence.

    Raises
    ------
    InputError
        If a path is missing or holds too little, or tokens lie beyond the vocabulary; the message names the file.
    """
    if data.kind == "synthetic":
        return SyntheticSource(make_language(data.seed, data.vocab_size or 512), context)
    corpus = open_text(data) if data.kind == "text" else open_tokens(data)
    return corpus_source(corpus, context, data.seed, bool(data.validation or data.validation_paths))
