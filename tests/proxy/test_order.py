"""The order of finite data is a permutation, another one each epoch, known place by place."""

import numpy as np
import pytest

from lehr.proxy.order import permute


def epoch_of(size, epoch, seed=0):
    return permute(np.arange(size), size, seed, np.full(size, epoch))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 17, 64, 1000, 4097])
@pytest.mark.parametrize("epoch", [0, 1, -1])
def test_it_is_a_bijection(size, epoch):
    np.testing.assert_array_equal(np.sort(epoch_of(size, epoch)), np.arange(size))


def test_each_place_is_known_by_itself():
    whole = epoch_of(1000, 3)
    for index in (0, 7, 999):
        assert permute(np.array([index]), 1000, 0, np.array([3]))[0] == whole[index]


def test_epochs_and_seeds_differ():
    orders = [epoch_of(1000, 0), epoch_of(1000, 1), epoch_of(1000, 0, seed=1)]
    for number, order in enumerate(orders):
        for other in orders[:number]:
            assert (order == other).sum() < 10  # one is expected


def test_it_scatters():
    """Neighbours land anywhere: mean distance is a third of the size, and no trend is left."""
    order = epoch_of(4096, 0)
    assert np.abs(np.diff(order)).mean() == pytest.approx(4096 / 3, rel=0.05)
    assert abs(np.corrcoef(np.arange(4096), order)[0, 1]) < 0.05


def test_it_is_quick_for_any_size():
    index = np.arange(2**40, 2**40 + 1000)
    placed = permute(index, 2**41 + 1, 0, np.zeros(1000, int))
    assert placed.max() <= 2**41 and len(np.unique(placed)) == 1000


def test_the_order_stays_the_same_over_releases():
    assert epoch_of(10, 0).tolist() == [2, 3, 8, 6, 0, 7, 5, 4, 1, 9]
