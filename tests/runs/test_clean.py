import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.errors import InputError
from lehr.runs.clean import drop_broken, drop_spikes, stitch, thin, window_mean


def segment(first, last, value, interval=100):
    step = np.arange(first, last + 1, interval)
    return step, np.full(step.size, float(value))


def log(*segments):
    return tuple(np.concatenate(parts) for parts in zip(*segments, strict=True))


def test_drop_broken_counts_each_kind():
    loss = [3.0, np.nan, np.inf, 0.0, -1.0, 2.0]
    out = drop_broken(np.arange(6), loss)
    assert out.step.tolist() == [0, 5]
    assert out.kept.tolist() == [0, 5]
    assert out.report == (
        "drop_broken: 4 of 6 points dropped (1 NaN, 1 infinite, 2 zero or negative), the first at step 1",
    )
    assert drop_broken([1, 2], [3.0, 2.0]).report == ()


def test_stitch_leaves_an_ordered_log_alone():
    out = stitch(*segment(0, 500, 1))
    assert (out.kept.tolist(), out.report) == (list(range(6)), ())


def test_stitch_of_an_appended_log():
    out = stitch(*log(segment(0, 500, 1), segment(300, 900, 2)))
    assert out.step.tolist() == list(range(0, 1000, 100))
    assert out.loss.tolist() == [1] * 3 + [2] * 7
    assert "2 segments (oldest-first, as its last segment reaches furthest)" in out.report[0]
    assert "3 of 10 points dropped" not in out.report[0]
    assert "3 of 13 points dropped" in out.report[0]
    assert "at the 3 shared steps they differ by at most 1" in out.report[0]


def test_stitch_of_an_export_that_lists_the_newest_segment_first():
    out = stitch(*log(segment(700, 2000, 3), segment(300, 900, 2), segment(300, 900, 2), segment(0, 500, 1)))
    assert out.step.tolist() == list(range(0, 2001, 100))
    assert out.loss.tolist() == [1] * 3 + [2] * 4 + [3] * 14
    assert "4 segments (newest-first, as its first segment reaches furthest)" in out.report[0]


def test_stitch_drops_the_given_up_path_even_between_logged_steps():
    out = stitch([0, 100, 200, 250, 150, 300], [9, 8, 7, 6, 5, 4])
    assert out.step.tolist() == [0, 100, 150, 300]
    assert "none at a step that was kept" in out.report[0]


def test_stitch_restart_from_scratch_keeps_nothing_of_the_first_try():
    out = stitch(*log(segment(0, 300, 1), segment(0, 900, 2)))
    assert set(out.loss.tolist()) == {2.0}


def test_stitch_repeated_step_keeps_the_later():
    assert stitch([0, 100, 100, 200], [4, 3, 2, 1]).loss.tolist() == [4, 2, 1]


def test_stitch_refuses_to_guess_the_order():
    rolled_back = log(segment(0, 900, 1), segment(500, 700, 2))
    with pytest.raises(
        InputError,
        match=r"2 segments cannot be told from their steps \(0..900, 500..700\): give the order \(--order\)",
    ):
        stitch(*rolled_back)
    out = stitch(*rolled_back, order="oldest-first")
    assert out.step.tolist() == list(range(0, 800, 100))
    assert "oldest-first, as given" in out.report[0]
    assert set(stitch(*rolled_back, order="newest-first").loss.tolist()) == {1.0}
    many = [segment(s, 900 - s, 1) for s in (0, 100, 50, 150, 20, 30, 40)]
    with pytest.raises(InputError, match=r", \.\.\.\): give the order"):
        stitch(*log(segment(10, 1010, 1), *many))


def test_stitch_by_time():
    step, loss = log(segment(500, 700, 2), segment(0, 900, 1))
    time = np.concatenate([np.full(3, 20.0), np.full(10, 10.0)])
    out = stitch(step, loss, time=time)
    assert out.step.tolist() == list(range(0, 800, 100))
    assert "by time" in out.report[0]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: stitch([2, 1], [1, 1], order="newest"),
            "unknown order 'newest': did you mean 'newest-first'",
        ),
        (lambda: stitch([2, 1], [1, 1], time=[1]), r"time must pair with the 2 steps, got \(1,\)"),
        (lambda: stitch([1, 2], [1]), r"loss must pair with the \(2,\) steps, got \(1,\)"),
        (lambda: drop_broken([1, np.nan], [1, 1]), "step of entry 1 must be a number, got nan"),
        (lambda: drop_spikes([1], [1], window=4), "window must be an odd number of points, 3 or more, got 4"),
        (lambda: drop_spikes([1], [1], threshold=0), "threshold must be above 0, got 0"),
        (lambda: thin([1], [1], points=1), "points must be a whole number of at least 2, got 1"),
        (lambda: thin([1], [1], points=5, spacing="lin"), "unknown spacing 'lin'"),
        (lambda: window_mean([1], [1], window=1), "window must be an odd number of points"),
    ],
)
def test_refusals(call, text):
    with pytest.raises(InputError, match=text):
        call()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 20)), min_size=1, max_size=6), st.booleans())
def test_stitch_always_gives_one_path_that_ends_with_the_last_segment(parts, newest_first):
    order = "newest-first" if newest_first else "oldest-first"
    step, loss = log(*(segment(a, a + n, i, 1) for i, (a, n) in enumerate(parts)))
    out = stitch(step, loss, order=order)
    assert np.all(np.diff(out.step) > 0)
    assert np.array_equal(out.step, step[out.kept])
    assert np.array_equal(out.loss, loss[out.kept])
    cuts = np.flatnonzero(np.diff(step) <= 0) + 1
    pieces = np.split(step, cuts)
    assert out.step[-1] == pieces[0 if newest_first and cuts.size else -1][-1]


def noisy(n=400, seed=0):
    step = np.arange(1, n + 1) * 50.0
    loss = 2.5 + 30 * step**-0.4 + 0.01 * np.random.default_rng(seed).standard_normal(n)
    return step, loss


def test_drop_spikes_takes_spikes_only():
    step, loss = noisy()
    assert drop_spikes(step, loss).kept.size == step.size
    hit = loss.copy()
    hit[[100, 101, 300]] += [1.0, 0.5, 0.3]
    out = drop_spikes(step, hit)
    assert sorted(set(range(400)) - set(out.kept.tolist())) == [100, 101, 300]
    assert out.report == ("drop_spikes: 3 of 400 points dropped (window 51 points, threshold 8)",)


def test_drop_spikes_never_takes_a_steep_start_or_a_short_or_flat_curve():
    step = np.arange(1, 200.0)
    assert drop_spikes(step, 10 / step).kept.size == 199
    assert drop_spikes([1, 2], [3, 1]).kept.size == 2
    assert drop_spikes(step, np.full(199, 2.0)).kept.size == 199


@pytest.mark.parametrize("spacing", ["log", "even"])
def test_thin_keeps_ends_and_logged_points(spacing):
    step, loss = noisy()
    out = thin(step, loss, points=40, spacing=spacing)
    assert out.kept.size <= 40
    assert out.kept.size > 25
    assert (out.step[0], out.step[-1]) == (step[0], step[-1])
    assert np.array_equal(out.loss, loss[out.kept])
    assert f"spacing {spacing}" in out.report[0]
    assert thin(step, loss, points=400).report == ()


def test_thin_spacing():
    step = np.arange(1, 1001.0)
    even, logs = thin(step, step, points=11, spacing="even"), thin(step, step, points=4)
    assert np.abs(np.diff(even.step) - 99.9).max() <= 1
    assert logs.step.tolist() == [1, 10, 100, 1000]


def test_window_mean_has_no_lag_and_keeps_the_ends():
    step = np.arange(1, 101.0)
    line = 5 - 0.01 * step
    out = window_mean(step, line, window=11)
    assert np.allclose(out.loss, line, rtol=0, atol=1e-12)
    _, loss = noisy(100)
    smooth = window_mean(step, loss, window=5)
    assert (smooth.loss[0], smooth.loss[-1]) == (loss[0], loss[-1])
    assert smooth.loss[50] == pytest.approx(loss[48:53].mean(), abs=1e-12)
    assert smooth.report == ("window_mean: losses averaged over 5 points centred on each",)
