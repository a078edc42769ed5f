"""Text files as tokens: bytes, or a byte-level BPE trained on them.

Documents (files) follow each other with an end-of-document token between. All of it is held in memory, two or four
bytes a token; what does not fit is better packed (`lehr.proxy.tokens`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, AnyStr

import numpy as np

from lehr.errors import InputError, ResultError, bad
from lehr.proxy import config
from lehr.proxy.corpus import Corpus, Piece, find_files

BYTES = 256  # and the end of a document
BPE_VOCABULARY = 4096  # unless said
CHUNK = 1 << 18  # characters encoded at a time


def open_text(data: config.Data) -> Corpus:
    """Read files and folders of text.

    The last share `data.validation` of every file is held out, or `data.validation_paths` are. The BPE is trained on
    the training part alone.

    Raises
    ------
    InputError
        If a path is missing, a folder empty, a file no UTF-8 text under BPE, or the vocabulary does not fit.
    ResultError
        If the tokenizers package is absent under BPE.
    """
    files = find_files(data.paths, "data.paths")
    held_out = find_files(data.validation_paths, "data.validation_paths")
    share = 0.0 if held_out else data.validation
    if data.tokenizer == "bytes":
        if data.vocab_size not in (None, BYTES + 1):
            raise bad("data.vocab_size", f"must be {BYTES + 1} for bytes", data.vocab_size, "leave it out")
        heads, tails = _cut([_bytes(file) for file in files], share)
        tails += [_bytes(file) for file in held_out]
        return _corpus(heads, tails, lambda raw: np.frombuffer(raw, np.uint8), BYTES, len(files))
    texts, held_texts = _cut([_decoded(file) for file in files], share)
    held_texts += [_decoded(file) for file in held_out]
    model = train_bpe(texts, data.vocab_size or BPE_VOCABULARY)
    return _corpus(texts, held_texts, lambda text: _encoded(model, text), model.get_vocab_size(), len(files))


def train_bpe(texts: list[str], vocab_size: int) -> Any:
    """Train a byte-level BPE of at most `vocab_size` tokens, of which the last is kept for the end of a document.

    Returns
    -------
    A `tokenizers.Tokenizer` without that last token; it has fewer tokens where the text has fewer pairs.
    """
    if vocab_size <= BYTES:
        raise bad("data.vocab_size", f"must be at least {BYTES + 1} for BPE", vocab_size, "raise it")
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    except ImportError:
        raise ResultError(
            "tokenizer 'bpe' needs the package tokenizers: pip install 'lehr[train]', or use tokenizer 'bytes'."
        ) from None
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 1,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    model.train_from_iterator((chunk for text in texts for chunk in _chunks(text)), trainer)
    return model


def _cut(documents: list[AnyStr], share: float) -> tuple[list[AnyStr], list[AnyStr]]:
    """Split the last share off every document."""
    ends = [len(document) - int(len(document) * share) for document in documents]
    heads = [document[:end] for document, end in zip(documents, ends, strict=True)]
    return heads, [document[end:] for document, end in zip(documents, ends, strict=True) if share]


def _corpus(
    heads: list[Any], tails: list[Any], encode: Callable[[Any], np.ndarray], end: int, files: int
) -> Corpus:
    name = f"the text ({files} files)" if files > 1 else "the text (1 file)"
    rows = []
    for part in (heads, tails):
        dtype = np.uint16 if end < 1 << 16 else np.uint32
        encoded = [row.astype(dtype) for document in part for row in (encode(document), np.array([end]))]
        rows.append(np.concatenate(encoded) if encoded else np.empty(0, dtype))
    train, validation = rows
    return Corpus((Piece(name, train),), (Piece(name, validation),), end + 1)


def _bytes(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror}; name another file.") from None


def _decoded(file: Path) -> str:
    raw = _bytes(file)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{file} is not UTF-8 text (byte {error.start}): leave it out, or use tokenizer 'bytes'."
        ) from None


def _encoded(model: Any, text: str) -> np.ndarray:
    rows = [np.array(row.ids, np.uint32) for row in model.encode_batch(list(_chunks(text)))]
    return np.concatenate(rows) if rows else np.empty(0, np.uint32)


def _chunks(text: str) -> Iterator[str]:
    """Cut text after the first end of line that follows each CHUNK characters."""
    start = 0
    while start < len(text):
        end = text.find("\n", start + CHUNK) + 1 or len(text)
        yield text[start:end]
        start = end
