"""The synthetic language: unlimited unique text whose entropy rate is known, so that a fitted floor can be checked.

A token is drawn from a mixture of five parts, from the easiest to learn to the hardest:

| part | the next word is drawn from |
| --- | --- |
| free | the Zipfian unigram itself |
| near | a table of the word before |
| far | a table of the word before and the class of the one before that |
| topic | a table of the sequence's topic, which is said nowhere and has to be inferred |
| recall | the sequence's own earlier words, nearer ones more often |

Why so. The loss of language falls as a power law because there is always something rarer to be learnt; a language
with one kind of structure is learnt at once, and its loss jumps and then stays. Here words are Zipfian, so contexts
are: the loss comes from many small tables of a heavy-tailed frequency, each learnt when it has been seen often enough
and if there is room for it. What a transformer of 400k parameters still lacks after six million tokens, a tenth of the
floor, lies in near equal parts in contexts of every half decade of frequency, from one word in a hundred to one in a
hundred thousand. All tables are filled from the unigram, so that words stay Zipfian. How much each part weighs
depends on the word before, which is itself to be learnt and keeps the mixture from being all noise: the floor is a
little more than half of the unigram's entropy. Recall looks up single words and copies no phrases, whose discovery
makes the loss of transformers jump.

Everything is exact. Shares are multiples of a power of two, so that a draw is one look-up and its probability is
known; the topic is summed over by Bayes' rule. `Language.surprisal` is -log of the true conditional
probability, and its mean is the lowest loss any model can reach.

Sequence number i is a pure function of seed and i: sequences come in blocks, each from a counter-based generator
(Philox, Salmon et al. 2011) at the counter of its number; a longer context continues the same sequences.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from lehr.errors import bad

VERSION = 1  # of the language: another one makes other sequences
BLOCK = 512  # sequences generated together
PARTS = ("free", "near", "far", "topic", "recall")
MEAN_WEIGHTS = (0.03, 0.28, 0.50, 0.10, 0.09)  # of the parts, before they are varied over kinds
KINDS = 64  # kinds of words: each has its own weights of the parts
CLASSES = 8  # classes of words, which the far tables tell apart
SLOTS = 4  # words in a near or far table
SLOT_EXPONENT = 1.0  # of their Zipfian weights
TOPICS = 16
TOPIC_SLOTS = 24  # words in a topic
LAGS = (3, 256)  # how far recall looks back, in tokens: the n-grams see the nearer ones
ZIPF_SHIFT = 1.0  # of the unigram, 1 / (rank + shift): Mandelbrot's form
ENTROPY_TOKENS = 8_000_000  # that the entropy is measured on

_BITS = {"gate": 8, "slot": 16, "word": 20}  # look-up tables have 2**bits entries
_SPLITS = {"train": 0, "validation": 1, "entropy": 2, "tables": 3}
Split = Literal["train", "validation", "entropy"]


def lookup(weights: np.ndarray, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Round weights to shares of 2**bits, none below one of them.

    Returns
    -------
    Index of the outcome for each of the 2**bits equally likely draws, and the outcomes' exact probabilities.
    """
    size = 1 << bits
    spare = size - len(weights)
    exact = weights / weights.sum() * spare
    counts = np.floor(exact).astype(np.int64)
    rest = np.argsort(counts - exact, kind="stable")[: spare - counts.sum()]
    counts[rest] += 1
    counts += 1
    return np.repeat(np.arange(len(weights)), counts), counts / size


def _zipf(count: int, exponent: float = 1.0, shift: float = 0.0) -> np.ndarray:
    return (np.arange(1, count + 1) + shift) ** -exponent


def _raw(seed: int, split: str, block: int, count: int) -> np.ndarray:
    """Return `count` random numbers of 32 bits; raw, because numpy keeps that stream the same over versions."""
    key = np.random.SeedSequence([seed, VERSION]).generate_state(2, np.uint64)
    generator = np.random.Philox(key=key, counter=[0, 0, block, _SPLITS[split]])
    return generator.random_raw(-(-count // 2)).astype("<u8", copy=False).view("<u4")[:count]


@dataclass(frozen=True, eq=False)
class Language:
    """One language: its tables. Words are numbered by rank in the unigram.

    Parameters
    ----------
    seed, vocab_size : what it was made from.
    unigram : (V,) probabilities of the free part.
    kind : (V,) kind of each word, times 2**8 so that it addresses `gate`.
    gate : part for each kind and draw.
    weights : (KINDS, 5) probability of each part.
    word_class : (V,) class of each word.
    near : (V, SLOTS) words that follow a word.
    far : (V * CLASSES, SLOTS) words that follow a word after one of a class.
    topics : (TOPICS, TOPIC_SLOTS) words of a topic.
    """

    seed: int
    vocab_size: int
    unigram: np.ndarray
    kind: np.ndarray
    gate: np.ndarray
    weights: np.ndarray
    word_class: np.ndarray
    near: np.ndarray
    far: np.ndarray
    topics: np.ndarray

    def sequences(self, split: Split, first: int, count: int, context: int) -> np.ndarray:
        """Return sequences number `first` to `first + count - 1`, (count, context + 1) int64."""
        rows = np.empty((count, context + 1), np.int64)
        for number in range(first // BLOCK, -(-(first + count) // BLOCK)):
            start = number * BLOCK
            low, high = max(first, start), min(first + count, start + BLOCK)
            words = _block(self, split, number, context)
            rows[low - first : high - first] = words[:, low - start : high - start].T
        return rows

    def surprisal(self, tokens: np.ndarray) -> np.ndarray:
        """Return -log of the probability of tokens[:, 1:] given all before them in their sequence.

        Parameters
        ----------
        tokens : (N, T + 1) whole sequences from their first token.

        Returns
        -------
        (N, T), in nats.
        """
        parts = [
            _surprisal(self, np.ascontiguousarray(part.T))
            for part in np.array_split(tokens, -(-tokens.size // (1 << 18)))
        ]
        return np.concatenate(parts, axis=1).T

    def entropy(self, context: int, tokens: int = ENTROPY_TOKENS) -> tuple[float, float]:
        """Return the mean surprisal at this context, in nats per token, and its standard error.

        It is measured on a fixed sample that neither training nor validation sees.
        """
        return _entropy(self, context, tokens)


@lru_cache(maxsize=8)
def make_language(seed: int, vocab_size: int) -> Language:
    """Fill the tables of the language of a seed.

    Raises
    ------
    InputError
        If the vocabulary is not of 32 to 65536 words.
    """
    if not 32 <= vocab_size <= 1 << 16:
        raise bad(
            "data.vocab_size", "must be 32 to 65536 for the synthetic language", vocab_size, "give such a number"
        )  # fmt: skip
    sizes = {"near": vocab_size * SLOTS, "far": vocab_size * CLASSES * SLOTS, "topics": TOPICS * TOPIC_SLOTS}
    raw = _raw(seed, "tables", 0, 2 * vocab_size + KINDS * len(PARTS) + sum(sizes.values()))
    kind, word_class, rates, words = np.split(raw, np.cumsum([vocab_size, vocab_size, KINDS * len(PARTS)]))
    ranks, unigram = lookup(_zipf(vocab_size, shift=ZIPF_SHIFT), _BITS["word"])
    near, far, topics = np.split(
        ranks[words >> (32 - _BITS["word"])].astype(np.uint16), np.cumsum([sizes["near"], sizes["far"]])
    )
    # squared exponentials: one or two parts lead for most kinds
    varied = np.array(MEAN_WEIGHTS) * np.log((rates.reshape(KINDS, -1) + 0.5) / 2.0**32) ** 2
    gates, weights = zip(*(lookup(row, _BITS["gate"]) for row in varied), strict=True)
    return Language(
        seed, vocab_size, unigram,
        kind=((kind % KINDS) << _BITS["gate"]).astype(np.int64),
        gate=np.concatenate(gates).astype(np.uint8),
        weights=np.array(weights),
        word_class=(word_class % CLASSES).astype(np.int64),
        near=near.reshape(-1, SLOTS), far=far.reshape(-1, SLOTS), topics=topics.reshape(-1, TOPIC_SLOTS),
    )  # fmt: skip


@lru_cache(maxsize=1)
def _lookups() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Draws and probabilities of the slot of a table, the slot of a topic and the lag less the least one."""
    weights = {
        "slot": _zipf(SLOTS, SLOT_EXPONENT),
        "topic": _zipf(TOPIC_SLOTS),
        "lag": _zipf(LAGS[1])[LAGS[0] - 1 :],
    }
    return {name: lookup(each, _BITS["slot"]) for name, each in weights.items()}


@lru_cache(maxsize=8)
def _block(language: Language, split: Split, number: int, context: int) -> np.ndarray:
    """Return block `number` as (context + 1, BLOCK): time first, so that a step is contiguous.

    One number of 32 bits makes a token: 8 choose the part, and the rest serve whichever part it is.
    """
    raw = _raw(language.seed, split, number, BLOCK * (context + 2)).reshape(-1, BLOCK)
    topic = raw[0] % TOPICS
    gate_draw, draw = (raw[1:] & 0xFF).astype(np.int64), raw[1:] >> 16
    slots, topic_slots, lags = (_lookups()[name][0][draw] for name in ("slot", "topic", "lag"))
    lags += LAGS[0]
    words = _unigram_words(language)[raw[1:] >> (32 - _BITS["word"])]
    topical = language.topics.ravel()[topic * TOPIC_SLOTS + topic_slots]
    # recall before the first word is a free word, which is what stands there until it is replaced
    time = np.arange(context + 1)[:, None]
    source = (time - np.where(lags <= time, lags, 0)) * BLOCK + np.arange(BLOCK)
    flat, near, far = words.ravel(), language.near.ravel(), language.far.ravel()
    word_class = np.zeros(BLOCK, np.int64)  # that of the word before the first
    for step in range(1, context + 1):
        before = words[step - 1].astype(np.int64)
        part = language.gate[language.kind[before] + gate_draw[step]]
        nearest = near[before * SLOTS + slots[step]]
        farther = far[(before * CLASSES + word_class) * SLOTS + slots[step]]
        words[step] = np.choose(part, (words[step], nearest, farther, topical[step], flat[source[step]]))
        word_class = language.word_class[before]
    words.setflags(write=False)
    return words


@lru_cache(maxsize=8)
def _unigram_words(language: Language) -> np.ndarray:
    counts = np.rint(language.unigram * (1 << _BITS["word"])).astype(np.int64)
    return np.repeat(np.arange(language.vocab_size, dtype=np.uint16), counts)


def _surprisal(language: Language, words: np.ndarray) -> np.ndarray:
    """Surprisal of words[1:] for (T + 1, N) words; (T, N)."""
    before, word = words[:-1].astype(np.int64), words[1:]
    weight = np.moveaxis(language.weights[language.kind[before] >> _BITS["gate"]], -1, 0)
    slot_share = _lookups()["slot"][1]
    word_class = np.zeros_like(before)  # that of the word before the first is 0
    word_class[1:] = language.word_class[before[:-1]]
    near = (language.near[before] == word[..., None]) @ slot_share
    far = (language.far[before * CLASSES + word_class] == word[..., None]) @ slot_share
    free = language.unigram[word]
    recall = _recall(words, free)
    known = weight[0] * free + weight[1] * near + weight[2] * far + weight[4] * recall
    table = _topic_table(language)
    belief = np.full((TOPICS, words.shape[1]), 1 / TOPICS)
    probability = np.empty_like(known)
    for step in range(len(word)):
        # Bayes' rule: the sum over topics is the word's probability
        belief *= known[step] + weight[3][step] * table.take(word[step], axis=1)
        probability[step] = belief.sum(axis=0)
        belief /= probability[step]
    return -np.log(probability)


def _recall(words: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Probability of words[1:] under recall; what reaches back before the first word is free."""
    share = _lookups()["lag"][1]
    found = np.zeros(free.shape)
    reached = np.zeros(len(words))
    for lag in range(LAGS[0], min(LAGS[1], len(words) - 1) + 1):
        found[lag - 1 :] += share[lag - LAGS[0]] * (words[lag:] == words[:-lag])
        reached[lag:] += share[lag - LAGS[0]]
    return found + (1 - reached[1:, None]) * free


@lru_cache(maxsize=8)
def _topic_table(language: Language) -> np.ndarray:
    """Probability of each word in each topic; (TOPICS, V)."""
    share = _lookups()["topic"][1]
    table = np.zeros((TOPICS, language.vocab_size))
    np.add.at(table, (np.arange(TOPICS)[:, None], language.topics), share)
    return table


@lru_cache(maxsize=32)
def _entropy(language: Language, context: int, tokens: int) -> tuple[float, float]:
    means = np.concatenate([
        language.surprisal(language.sequences("entropy", first, BLOCK, context)).mean(axis=1)
        for first in range(0, max(tokens // context, 2 * BLOCK), BLOCK)
    ])  # fmt: skip
    return float(means.mean()), float(means.std(ddof=1) / len(means) ** 0.5)
