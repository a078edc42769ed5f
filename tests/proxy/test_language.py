"""The synthetic language: its probabilities are true, its sequences pure, its structure what it is said to be."""

import hashlib

import numpy as np
import pytest

from lehr.errors import InputError
from lehr.proxy import language as module
from lehr.proxy.language import BLOCK, lookup, make_language

CONTEXT = 48


@pytest.fixture(scope="module")
def small():
    return make_language(1, 32)


@pytest.fixture(scope="module")
def default():
    return make_language(0, 512)


def conditionals(language, tokens):
    """Probability of every word after `tokens`; (N, V), by trying each."""
    count, size = len(tokens), language.vocab_size
    tried = np.concatenate(
        [np.repeat(tokens, size, axis=0), np.tile(np.arange(size), count)[:, None]], axis=1
    )
    return np.exp(-language.surprisal(tried)[:, -1]).reshape(count, size)


def plain_probability(language, words):
    """Probability of words[1:] given words[0], one by one as the docstring tells it, by a sum over topics."""
    slot = np.bincount(lookup(1 / np.arange(1, module.SLOTS + 1), 16)[0]) / 2**16
    topic_slot = np.bincount(lookup(1 / np.arange(1, module.TOPIC_SLOTS + 1), 16)[0]) / 2**16
    lags = np.arange(module.LAGS[0], module.LAGS[1] + 1)
    lag_share = np.bincount(lookup(1 / lags, 16)[0]) / 2**16
    total = 0.0
    for topic in range(module.TOPICS):
        joint = 1 / module.TOPICS
        for step in range(1, len(words)):
            word, before = words[step], words[step - 1]
            of_class = language.word_class[words[step - 2]] if step > 1 else 0
            parts = np.zeros(5)
            parts[0] = language.unigram[word]
            parts[1] = sum(slot[language.near[before] == word])
            parts[2] = sum(slot[language.far[before * module.CLASSES + of_class] == word])
            parts[3] = sum(topic_slot[language.topics[topic] == word])
            for lag, share in zip(lags, lag_share, strict=True):
                parts[4] += share * (words[step - lag] == word if lag <= step else parts[0])
            joint *= language.weights[language.kind[before] // 256] @ parts
        total += joint
    return total


def test_lookup_shares_are_exact_and_none_is_empty():
    index, share = lookup(np.array([1000.0, 1.0, 0.001]), 8)
    assert share.sum() == 1
    np.testing.assert_array_equal(np.bincount(index) / 256, share)
    np.testing.assert_array_equal(share * 256, [254, 1, 1])


def test_probabilities_of_all_words_sum_to_one(small):
    tokens = small.sequences("train", 0, 20, 12)
    for length in (1, 2, 5, 12):
        np.testing.assert_allclose(conditionals(small, tokens[:, :length]).sum(axis=1), 1, rtol=1e-12)


def test_surprisal_is_that_of_the_definition(small):
    words = small.sequences("train", 7, 1, 14)
    assert small.surprisal(words).sum() == pytest.approx(
        -np.log(plain_probability(small, words[0])), rel=1e-12
    )


@pytest.mark.parametrize("length", [1, 2, 6, 40])
def test_words_come_as_often_as_their_probabilities_say(small, length):
    """Per word, the count less the sum of probabilities is a martingale: its size follows from them."""
    tokens = small.sequences("train", 0, 3 * BLOCK, length)
    probability = conditionals(small, tokens[:, :length])
    count = np.bincount(tokens[:, length], minlength=32)
    deviation = np.sqrt((probability * (1 - probability)).sum(axis=0))
    assert np.abs((count - probability.sum(axis=0)) / deviation).max() < 4
    # and the mean surprisal is the mean entropy of these distributions
    logs = -np.log(probability)
    entropy = (probability * logs).sum(axis=1)
    spread = np.sqrt(((probability * logs**2).sum(axis=1) - entropy**2).mean() / len(tokens))
    seen = logs[np.arange(len(tokens)), tokens[:, length]].mean()
    assert abs(seen - entropy.mean()) < 4 * spread


def test_entropy_is_the_mean_surprisal_within_its_error(default):
    entropy, error = default.entropy(CONTEXT)
    assert error < 0.001
    fresh = default.surprisal(default.sequences("validation", 0, 4 * BLOCK, CONTEXT)).mean(axis=1)
    own = fresh.std(ddof=1) / len(fresh) ** 0.5
    assert abs(fresh.mean() - entropy) < 4 * np.hypot(own, error)


def test_sequences_are_pure_functions_of_their_number(default):
    whole = default.sequences("train", BLOCK - 5, 10, CONTEXT)
    pieces = [default.sequences("train", first, 2, CONTEXT) for first in range(BLOCK - 5, BLOCK + 5, 2)]
    np.testing.assert_array_equal(np.concatenate(pieces), whole)
    module._block.cache_clear()
    np.testing.assert_array_equal(default.sequences("train", BLOCK + 4, 1, CONTEXT), whole[-1:])
    assert default.sequences("train", 3, 0, CONTEXT).shape == (0, CONTEXT + 1)
    assert whole.dtype == np.int64


def test_a_longer_context_continues_the_same_sequences(default):
    longer = default.sequences("train", 0, 8, 2 * CONTEXT)
    np.testing.assert_array_equal(longer[:, : CONTEXT + 1], default.sequences("train", 0, 8, CONTEXT))


def test_splits_and_seeds_share_no_sequence(default):
    drawn = [default.sequences(split, 0, BLOCK, CONTEXT) for split in ("train", "validation", "entropy")]
    drawn.append(make_language(2, 512).sequences("train", 0, BLOCK, CONTEXT))
    rows = np.concatenate(drawn)
    assert len(np.unique(rows, axis=0)) == len(rows)


def test_the_language_stays_the_same_over_releases(default):
    """Logged runs name the language by its version: other sequences need another one."""
    digest = hashlib.sha256(default.sequences("train", 0, 64, CONTEXT).astype("<i8").tobytes()).hexdigest()
    assert (module.VERSION, digest[:16]) == (1, "1b446e095bf02aba")


def test_words_are_zipfian(default):
    words = default.sequences("train", 0, 16 * BLOCK, CONTEXT)
    counts = np.sort(np.bincount(words.ravel(), minlength=512))[::-1]
    rank = np.arange(1, 513)
    middle = slice(4, 256)
    slope = np.polyfit(np.log(rank[middle]), np.log(counts[middle]), 1)[0]
    assert -1.15 < slope < -0.85
    assert counts.min() > 0


def test_half_of_the_unigrams_entropy_is_irreducible(default):
    words = default.sequences("train", 0, 4 * BLOCK, CONTEXT)
    share = np.bincount(words.ravel(), minlength=512) / words.size
    assert 0.4 < default.entropy(CONTEXT)[0] / -(share @ np.log(share)) < 0.6


def test_far_words_matter(default):
    """Other words 60 and more tokens back change the next one's probability; a longer past lowers the loss."""
    words = default.sequences("train", 0, BLOCK, 96)
    changed = words.copy()
    changed[:, :30] = default.sequences("train", BLOCK, BLOCK, 96)[:, :30]
    difference = np.abs(default.surprisal(words) - default.surprisal(changed))[:, 90:]
    assert difference.mean() > 0.02
    surprisal = default.surprisal(default.sequences("train", 0, 8 * BLOCK, 256)).mean(axis=0)
    assert surprisal[128:].mean() < surprisal[32:64].mean() - 0.03 < surprisal[4:16].mean() - 0.06


@pytest.mark.parametrize("size", [31, 65537])
def test_a_vocabulary_it_has_no_tables_for_is_refused(size):
    with pytest.raises(InputError) as caught:
        make_language(0, size)
    assert str(caught.value) == (
        f"data.vocab_size must be 32 to 65536 for the synthetic language, got {size}: give such a number."
    )


def test_the_largest_vocabulary_works():
    language = make_language(0, 65536)
    words = language.sequences("train", 0, 4, 16)
    assert np.isfinite(language.surprisal(words)).all()
    assert words.max() > 4096
