"""Text as bytes and as BPE: what is read, what is held out, and what is refused."""

import subprocess
import sys

import numpy as np
import pytest

from lehr.errors import InputError, ResultError
from lehr.proxy.config import Data
from lehr.proxy.data import open_data
from lehr.proxy.text import open_text, train_bpe

TEXT = "The kiln cools as slowly as the glass asks; grüß den Ofen.\n" * 40


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(TEXT, "utf-8")
    return path


def test_bytes_follow_each_other_with_an_end_between(tmp_path):
    (tmp_path / "a").write_bytes(bytes(range(256)))
    (tmp_path / "b").write_bytes(b"xy")
    corpus = open_text(Data(kind="text", paths=(str(tmp_path),), validation=0.5))
    assert corpus.vocab_size == 257
    assert corpus.train[0].tokens.tolist() == [*range(128), 256, ord("x"), 256]
    assert corpus.validation[0].tokens.tolist() == [*range(128, 256), 256, ord("y"), 256]


def test_files_of_their_own_may_be_held_out(tmp_path, file):
    (tmp_path / "held").write_bytes(b"xy")
    data = Data(kind="text", paths=(str(file),), validation_paths=(str(tmp_path / "held"),))
    corpus = open_text(data)
    assert bytes(corpus.train[0].tokens[:-1].astype(np.uint8)) == TEXT.encode()
    assert corpus.validation[0].tokens.tolist() == [ord("x"), ord("y"), 256]


def test_a_source_of_text(file):
    source = open_data(Data(kind="text", paths=(str(file),), validation=0.25), 16)
    size = len(TEXT.encode())
    assert source.vocab_size == 257
    assert source.sequences == (size - size // 4) // 16
    assert source.train(0, 3).shape == (3, 17)
    assert source.validation(2).shape == (2, 17)


def test_nothing_held_out(file):
    source = open_data(Data(kind="text", paths=(str(file),), validation=0.0), 16)
    with pytest.raises(
        InputError, match="1 validation sequences of 17 tokens were asked for, but 0 are held out"
    ):
        source.validation(1)


def test_too_short_a_text_is_refused_with_sizes(tmp_path):
    (tmp_path / "a").write_bytes(b"short")
    with pytest.raises(InputError) as caught:
        open_data(Data(kind="text", paths=(str(tmp_path),)), 16)
    assert str(caught.value) == (
        "the text (1 file) has 6 tokens to train on, but one sequence takes 17: give more data or lower model.context."
    )


def test_a_vocabulary_of_bytes_is_refused(file):
    with pytest.raises(InputError) as caught:
        open_text(Data(kind="text", paths=(str(file),), vocab_size=512))
    assert str(caught.value) == "data.vocab_size must be 257 for bytes, got 512: leave it out."


def test_bpe_gives_back_the_text(file):
    pytest.importorskip("tokenizers", reason="needs the [train] extra")
    corpus = open_text(
        Data(kind="text", tokenizer="bpe", vocab_size=300, paths=(str(file),), validation=0.25)
    )
    cut = len(TEXT) - len(TEXT) // 4
    model = train_bpe([TEXT[:cut]], 300)
    for part, text in ((corpus.train, TEXT[:cut]), (corpus.validation, TEXT[cut:])):
        tokens = part[0].tokens
        assert tokens[-1] == corpus.vocab_size - 1 == model.get_vocab_size()
        assert model.decode(tokens[:-1].tolist()) == text
    assert 256 < corpus.vocab_size <= 300
    assert len(corpus.train[0].tokens) < 0.5 * cut


def test_bpe_is_the_same_in_every_process(file):
    pytest.importorskip("tokenizers", reason="needs the [train] extra")
    code = (
        "from lehr.proxy.data import open_data; from lehr.proxy.config import Data; import sys\n"
        "data = Data(kind='text', tokenizer='bpe', vocab_size=320, paths=(sys.argv[1],), validation=.25)\n"
        "print(open_data(data, 16).fingerprint)"
    )
    prints = {
        subprocess.run(
            [sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True
        ).stdout
        for _ in range(3)
    }
    assert len(prints) == 1


def test_long_texts_are_encoded_in_parts(file, monkeypatch):
    pytest.importorskip("tokenizers", reason="needs the [train] extra")
    data = Data(kind="text", tokenizer="bpe", vocab_size=300, paths=(str(file),))
    whole = open_text(data).train[0].tokens
    monkeypatch.setattr("lehr.proxy.text.CHUNK", 100)
    np.testing.assert_array_equal(open_text(data).train[0].tokens, whole)


def test_bpe_refuses_what_it_cannot_read(tmp_path, file):
    (tmp_path / "b.dat").write_bytes(b"abc\xff\xfe")
    with pytest.raises(InputError) as caught:
        open_text(Data(kind="text", tokenizer="bpe", paths=(str(tmp_path),)))
    assert str(caught.value) == (
        f"{tmp_path}/b.dat is not UTF-8 text (byte 3): leave it out, or use tokenizer 'bytes'."
    )
    with pytest.raises(InputError) as caught:
        open_text(Data(kind="text", tokenizer="bpe", vocab_size=256, paths=(str(file),)))
    assert str(caught.value) == "data.vocab_size must be at least 257 for BPE, got 256: raise it."


def test_bpe_says_what_it_needs(file, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(ResultError) as caught:
        open_text(Data(kind="text", tokenizer="bpe", paths=(str(file),)))
    assert str(caught.value) == (
        "tokenizer 'bpe' needs the package tokenizers: pip install 'lehr[train]', or use tokenizer 'bytes'."
    )


def test_a_file_that_cannot_be_read_is_named(file, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    with pytest.raises(InputError) as caught:
        open_text(Data(kind="text", paths=(str(file),)))
    assert str(caught.value) == f"{file} cannot be read: Permission denied; name another file."
