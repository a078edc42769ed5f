"""What an LR costs by measured losses: one rule for all laws."""

import numpy as np
import pytest

from lehr.errors import InputError
from lehr.peaklr.score import (
    DIVERGED,
    encloses,
    grid_of,
    mean_excess,
    measured_excess,
    scored_batches,
)
from lehr.peaklr.table import SweepGroup, SweepTable


def group(lr, loss, batch=None):
    n = len(lr)
    return SweepGroup(
        SweepTable(np.array(lr), np.array(loss), np.full(n, 1e8), np.full(n, 1e9), batch_tokens=batch)
    )


VALLEY = group([4e-3, 1e-3, 2e-3], [2.8, 2.9, 2.7])


def test_it_interpolates_in_ln_lr_over_the_lowest_loss():
    assert measured_excess(VALLEY, 2e-3) == 0
    assert measured_excess(VALLEY, 1e-3 * np.sqrt(2)) == pytest.approx(0.1)
    assert measured_excess(VALLEY, 4e-3) == pytest.approx(0.1)


def test_beyond_the_runs_the_last_segment_goes_on():
    assert measured_excess(VALLEY, 5e-4) == pytest.approx(0.4)
    assert measured_excess(VALLEY, 8e-3) == pytest.approx(0.2)
    falling = group([1e-3, 2e-3, 4e-3], [2.9, 2.8, 2.7])
    assert measured_excess(falling, 8e-3) == 0  # no less than the end: nobody has seen a lower loss


def test_diverged_runs_count_as_high_and_seeds_as_their_mean():
    found = group([1e-3, 1e-3, 2e-3, 4e-3], [2.8, 2.9, 2.7, np.nan])
    x, y = grid_of(found)
    np.testing.assert_allclose(np.exp(x), [1e-3, 2e-3, 4e-3])
    np.testing.assert_allclose(y, [2.85, 2.7, 2.7 + DIVERGED])
    with pytest.raises(InputError, match="every run diverged: run lower LRs"):
        grid_of(group([1e-3, 2e-3], [np.nan, np.inf]))


def test_only_enclosed_optima_are_scored():
    assert encloses(VALLEY)
    assert not encloses(group([1e-3, 2e-3, 4e-3], [2.9, 2.8, 2.7]))
    assert not encloses(group([1e-3, 2e-3], [2.9, 2.8]))
    assert scored_batches(group([1e-3, 2e-3], [np.nan, np.nan])) == ()


def test_batches_near_the_best_are_scored_and_others_not():
    lr = [1e-3, 2e-3, 4e-3] * 3
    loss = [2.9, 2.7, 2.8, 2.9, 2.705, 2.8, 2.9, 2.75, 2.8]
    found = group(lr, loss, np.repeat([1e5, 2e5, 4e5], 3))
    assert [part.batch_tokens for part in scored_batches(found)] == [1e5, 2e5]
    asked = []

    def rule(part):
        asked.append(part.batch_tokens)
        return 4e-3

    assert mean_excess(found, rule) == pytest.approx((0.1 + 0.095) / 2)
    assert asked == [1e5, 2e5]
    assert np.isnan(mean_excess(group([1e-3, 2e-3], [2.9, 2.8]), rule))
