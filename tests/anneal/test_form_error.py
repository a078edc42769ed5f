"""The error of a law's form: alike for like runs."""

import numpy as np
import pytest

from lehr.anneal.form_error import REACH, features, likeness
from lehr.schedule.families import constant, wsd


def end(schedule):
    return features(schedule, np.array([float(schedule.steps)]))


def test_features_are_lr_length_mean_lr_and_lr_now():
    schedule = wsd(steps=1000, peak=2e-3, decay=400)
    found = features(schedule, np.array([600.0, 1000.0])) * REACH
    assert found[:, 0] == pytest.approx(np.log(2e-3))
    assert found[:, 1] == pytest.approx(np.log([600, 1000]))
    assert found[:, 2] == pytest.approx([1, 0.8], abs=2e-3)
    assert found[:, 3] == pytest.approx([1, 1 / 400])


def test_a_run_is_like_itself_and_its_neighbours():
    plan = end(wsd(steps=50000, peak=1e-3, decay=20000))
    assert likeness(plan, plan) == pytest.approx(1)

    def like(**change):
        return float(
            likeness(plan, end(wsd(**{"steps": 50000, "peak": 1e-3, "decay": 20000, **change})))[0, 0]
        )

    assert 1 > like(peak=2e-3) > like(peak=4e-3) > 0
    assert like(peak=2e-3) == pytest.approx(np.exp(-0.5 * (np.log(2) / REACH[0]) ** 2), rel=1e-3)
    assert 1 > like(decay=25000) > like(decay=40000)
    assert float(likeness(plan, end(constant(steps=50000, peak=1e-3)))[0, 0]) < like(decay=25000)


def test_it_is_a_covariance():
    places = np.concatenate([end(wsd(steps=s, peak=p, decay=d)) for s in (500, 1000) for p in (1e-3, 3e-3)
                             for d in (100, 300)])  # fmt: skip
    values = np.linalg.eigvalsh(likeness(places, places))
    assert values.min() > -1e-12
