"""Packed token files: every form, and every malformed one with its text."""

import numpy as np
import pytest

from lehr.errors import InputError
from lehr.proxy.config import Data
from lehr.proxy.data import open_data
from lehr.proxy.tokens import map_tokens, open_tokens

TOKENS = (np.arange(1000) * 7 % 500).astype(np.uint16)


def header(count, version=1):
    values = np.zeros(256, "<i4")
    values[:3] = 20240520, version, count
    return values.tobytes()


def packed(*paths, vocab_size=500, **others):
    return Data(kind="tokens", paths=tuple(map(str, paths)), vocab_size=vocab_size, **others)


def test_all_forms_hold_the_same(tmp_path):
    (tmp_path / "a.bin").write_bytes(TOKENS.tobytes())
    (tmp_path / "b.bin").write_bytes(header(1000) + TOKENS.tobytes())
    np.save(tmp_path / "c.npy", TOKENS.astype(np.int32))
    for name in ("a.bin", "b.bin", "c.npy"):
        tokens = map_tokens(tmp_path / name)
        assert isinstance(tokens, np.memmap)
        np.testing.assert_array_equal(tokens, TOKENS)
    source = open_data(packed(tmp_path, validation=0.1), 9)
    assert source.sequences == 3 * 99 and source.vocab_size == 500
    assert source.validation(3 * 11).shape == (33, 10)


def test_the_last_share_of_every_file_is_held_out(tmp_path):
    (tmp_path / "a.bin").write_bytes(TOKENS.tobytes())
    corpus = open_tokens(packed(tmp_path, validation=0.1))
    np.testing.assert_array_equal(corpus.train[0].tokens, TOKENS[:900])
    np.testing.assert_array_equal(corpus.validation[0].tokens, TOKENS[900:])
    assert corpus.validation[0].start == 900


def test_files_of_their_own_may_be_held_out(tmp_path):
    (tmp_path / "a.bin").write_bytes(TOKENS.tobytes())
    (tmp_path / "b.bin").write_bytes(TOKENS[:100].tobytes())
    corpus = open_tokens(packed(tmp_path / "a.bin", validation_paths=(str(tmp_path / "b.bin"),)))
    np.testing.assert_array_equal(corpus.train[0].tokens, TOKENS)
    np.testing.assert_array_equal(corpus.validation[0].tokens, TOKENS[:100])


@pytest.mark.parametrize("at", [500, 980])
def test_a_token_beyond_the_vocabulary_is_refused_at_once(tmp_path, at):
    tokens = TOKENS.copy()
    tokens[at] = 500
    (tmp_path / "a.bin").write_bytes(tokens.tobytes())
    with pytest.raises(InputError) as caught:
        open_tokens(packed(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}/a.bin: token 500 at offset {at} is not below data.vocab_size (500): "
        "give the vocabulary that the file was made with."
    )


def test_beyond_what_is_checked_at_once_it_is_refused_when_read(tmp_path, monkeypatch):
    monkeypatch.setattr("lehr.proxy.tokens.CHECKED", 100)
    tokens = TOKENS.copy()
    tokens[200] = 500
    (tmp_path / "a.bin").write_bytes(tokens.tobytes())
    source = open_data(packed(tmp_path), 16)
    with pytest.raises(InputError, match=r"a\.bin: token 500 at offset 200 is not below"):
        source.train(0, source.sequences)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("a.bin", b"abc", "has 3 bytes, which are no tokens of two bytes: write uint16."),
        (
            "a.bin",
            header(1000) + TOKENS[:-1].tobytes(),
            "its header says 1000 tokens, which take 3024 bytes, but it has 3022: "
            "it was cut short or is of another kind.",
        ),
        ("a.bin", header(5, version=7) + b"x" * 10, "its header is of version 7, known is 1: convert it."),
        ("a.npy", b"not numpy's", "is no array of numpy: write it with numpy.save."),
        ("a.npy", b"", "is no array of numpy: write it with numpy.save."),
        ("a.txt", b"abc", "is no packed token file: give .bin (uint16) or .npy, or data.kind 'text'."),
    ],
)
def test_malformed_files_are_refused(tmp_path, name, content, text):
    file = tmp_path / name
    file.write_bytes(content)
    with pytest.raises(InputError) as caught:
        map_tokens(file)
    assert str(caught.value) in (f"{file} {text}", f"{file}: {text}")


def test_arrays_of_another_kind_are_refused(tmp_path):
    file = tmp_path / "a.npy"
    np.save(file, np.zeros((2, 3)))
    with pytest.raises(InputError) as caught:
        map_tokens(file)
    assert str(caught.value) == (
        f"{file} must be one row of integers, got float64 of shape (2, 3): save it so."
    )
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match=r"is no array of numpy: write it with numpy\.save\.$"):
        map_tokens(file)
    np.save(file, TOKENS)
    file.write_bytes(file.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"is no array of numpy: write it with numpy\.save\.$"):
        map_tokens(file)


def test_a_file_shorter_than_a_sequence_is_refused_with_sizes(tmp_path):
    (tmp_path / "a.bin").write_bytes(TOKENS[:10].tobytes())
    (tmp_path / "empty.bin").write_bytes(b"")
    for name, size in (("a.bin", 10), ("empty.bin", 0)):
        with pytest.raises(InputError) as caught:
            open_data(packed(tmp_path / name, validation=0.0), 16)
        assert str(caught.value) == (
            f"{tmp_path}/{name} has {size} tokens to train on, but one sequence takes 17: "
            "give more data or lower model.context."
        )


def test_a_path_that_is_a_folder_of_none_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"the folder .* has no \.bin or \.npy file: name another\.$"):
        open_tokens(packed(tmp_path))
