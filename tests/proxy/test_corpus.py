"""Finite data as sequences by number: each token once an epoch, nothing held out in training, errors with sizes."""

import numpy as np
import pytest

from lehr.errors import InputError
from lehr.proxy.corpus import Corpus, Piece, Windows, corpus_source, find_files


def corpus(*sizes, held_out=20):
    """Pieces of consecutive numbers, so that a window tells where it was read."""
    ends = np.cumsum((0, *sizes, held_out))
    pieces = [
        Piece(f"piece {n}", np.arange(a, b)) for n, (a, b) in enumerate(zip(ends, ends[1:], strict=False))
    ]
    return Corpus(tuple(pieces[:-1]), tuple(pieces[-1:]), int(ends[-1]))


def test_an_epoch_predicts_every_token_once():
    source = corpus_source(corpus(41, 23), 4, 0, True)
    assert source.sequences == 10 + 5 and source.entropy is None
    rows = source.train(0, 15)
    assert rows.shape == (15, 5) and rows.dtype == np.int64
    np.testing.assert_array_equal(np.diff(rows, axis=1), 1)
    expected = [
        *range(1, 41),
        *range(42, 62),
    ]  # the first of a piece follows nothing; two are left at the end
    np.testing.assert_array_equal(np.sort(rows[:, 1:].ravel()), expected)


def test_epochs_have_their_own_order():
    source = corpus_source(corpus(401), 4, 0, True)
    first, second = source.train(0, 100), source.train(100, 100)
    assert (first != second).any()
    np.testing.assert_array_equal(np.sort(first[:, 0]), np.sort(second[:, 0]))


def test_sequences_are_pure_functions_of_their_number():
    source = corpus_source(corpus(41, 23), 4, 0, True)
    whole = source.train(10, 30)
    np.testing.assert_array_equal(np.concatenate([source.train(n, 3) for n in range(10, 40, 3)]), whole)


def test_held_out_sequences_are_fixed_and_apart():
    source = corpus_source(corpus(41, 23), 4, 0, True)
    rows = source.validation(4)
    np.testing.assert_array_equal(rows[:2], source.validation(2))
    assert rows.min() >= 64
    assert len(np.unique(rows[:, 0])) == 4
    assert source.validation(0).shape == (0, 5)


def test_the_fingerprint_is_of_content_vocabulary_and_order(monkeypatch):
    prints = {
        corpus_source(corpus(*sizes), 4, seed, True).fingerprint
        for sizes, seed in (((41, 23), 0), ((23, 41), 0), ((64,), 0), ((41, 23), 1))
    }
    assert len(prints) == 4
    assert corpus_source(corpus(41, 23), 8, 0, True).fingerprint in prints
    changed = corpus(41, 23)
    changed.train[0].tokens[7] = 0
    assert corpus_source(changed, 4, 0, True).fingerprint not in prints
    monkeypatch.setattr("lehr.proxy.corpus.HASHED_WHOLE", 16)
    monkeypatch.setattr("lehr.proxy.corpus.HASHED_PART", 16)
    assert corpus_source(changed, 4, 0, True).fingerprint not in prints


def test_too_short_a_piece_is_refused_with_sizes():
    with pytest.raises(InputError) as caught:
        corpus_source(corpus(41, 4), 4, 0, True)
    assert str(caught.value) == (
        "piece 1 has 4 tokens to train on, but one sequence takes 5: give more data or lower model.context."
    )


def test_too_short_a_validation_is_refused_with_sizes():
    with pytest.raises(InputError) as caught:
        corpus_source(corpus(41, held_out=4), 4, 0, True)
    assert str(caught.value) == (
        "at most 4 tokens in a row are held out for validation, but one sequence takes 5: raise data.validation, "
        "give data.validation_paths or lower model.context."
    )
    assert corpus_source(corpus(41, held_out=0), 4, 0, False).sequences == 10


def test_more_validation_than_there_is_is_refused_with_sizes():
    with pytest.raises(InputError) as caught:
        corpus_source(corpus(41), 4, 0, True).validation(5)
    assert str(caught.value) == (
        "5 validation sequences of 5 tokens were asked for, but 4 are held out: lower training.validate_sequences to "
        "at most that, raise data.validation or give data.validation_paths."
    )


@pytest.mark.parametrize("wrong", [100, -1])
def test_a_token_beyond_the_vocabulary_is_refused_where_it_is_read(wrong):
    tokens = np.arange(40)
    tokens[17] = wrong
    windows = Windows((Piece("a.bin", tokens, start=1000),), 4, 100)
    windows.read(np.array([0, 3, 5]))
    with pytest.raises(InputError) as caught:
        windows.read(np.array([0, 4]))
    assert str(caught.value) == (
        f"a.bin: token {wrong} at offset 1017 is not below data.vocab_size (100): "
        "give the vocabulary that the file was made with."
    )


def test_files_are_found_in_the_order_of_names(tmp_path):
    for name in ("b.txt", "a.txt", "sub/c.txt", ".hidden", ".git/d.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("x")
    found = find_files([str(tmp_path), str(tmp_path / "b.txt")], "data.paths")
    assert [str(file.relative_to(tmp_path)) for file in found] == ["a.txt", "b.txt", "sub/c.txt", "b.txt"]


def test_paths_that_are_not_there_are_refused(tmp_path):
    with pytest.raises(InputError) as caught:
        find_files([str(tmp_path / "none")], "data.paths")
    assert str(caught.value) == f"data.paths: {tmp_path}/none does not exist: give files or folders."
    with pytest.raises(InputError) as caught:
        find_files([str(tmp_path)], "data.paths")
    assert str(caught.value) == f"data.paths: the folder {tmp_path} has no visible file: name another."
    (tmp_path / "a.txt").write_text("x")
    with pytest.raises(InputError, match=r"has no \.bin or \.npy file: name another\.$"):
        find_files([str(tmp_path)], "data.paths", (".bin", ".npy"))
