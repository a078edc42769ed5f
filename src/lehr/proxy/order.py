"""The order of finite data: a permutation an epoch that needs no memory.

A keyed bijection of the numbers 0 .. n-1 puts each number in its place by itself, so that sequence number i is known
without the ones before it. It is a Feistel network on the next power of four, walked until it lands below n (Black
and Rogaway 2002, "cycle walking": at most four steps are expected).
"""

from __future__ import annotations

import numpy as np

ROUNDS = 6


def permute(index: np.ndarray, size: int, seed: int, epoch: np.ndarray) -> np.ndarray:
    """Return the place of each of `index` in the permutation of its epoch.

    Parameters
    ----------
    index : (N,) integers of 0 .. size-1.
    size : what is permuted, at least 1.
    seed : of all permutations.
    epoch : (N,) which permutation each index is looked up in.
    """
    half = np.uint64(max(1, -(-(size - 1).bit_length() // 2)))
    start = np.random.SeedSequence(seed).generate_state(1, np.uint64)[0]
    key = _mix(epoch.astype(np.uint64) ^ start)
    place = _feistel(index.astype(np.uint64), key, half)
    while (outside := place >= size).any():
        place[outside] = _feistel(place[outside], key[outside], half)
    return place.astype(np.int64)


def _feistel(number: np.ndarray, key: np.ndarray, half: np.uint64) -> np.ndarray:
    """Bijection of the numbers of 2 `half` bits."""
    mask = (np.uint64(1) << half) - np.uint64(1)
    left, right = number >> half, number & mask
    for turn in range(ROUNDS):
        left, right = right, left ^ (_mix(right + (key ^ np.uint64(turn))) & mask)
    return (left << half) | right


def _mix(number: np.ndarray) -> np.ndarray:
    """Scatter 64 bits over 64 bits (the finaliser of SplitMix64, Steele et al. 2014)."""
    number = number + np.uint64(0x9E3779B97F4A7C15)
    number = (number ^ (number >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    number = (number ^ (number >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return number ^ (number >> np.uint64(31))
