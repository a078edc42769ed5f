"""Units, error messages, and the bundled runs."""

import doctest
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr import errors, units
from lehr.errors import InputError, LehrError, ResultError, bad, unknown
from lehr.examples import floor_of, load_examples, manifest
from lehr.examples.configs import bundled, minimal
from lehr.proxy.config import make_config
from lehr.schedule.spec import parse
from lehr.units import bits_per_byte_to_nats, steps_for_tokens, tokens_for_steps


@pytest.mark.parametrize("module", [errors, units])
def test_the_examples_in_the_documentation_hold(module):
    found = doctest.testmod(module)
    assert found.attempted >= 2 and found.failed == 0


def test_bits_per_byte():
    assert bits_per_byte_to_nats(1.0, 4.0) == pytest.approx(4 * math.log(2))
    for value in (0.0, -1.0, math.nan):
        with pytest.raises(
            InputError, match=r"^bytes_per_token must be above 0, got .*: measure it on the validation te"
        ):
            bits_per_byte_to_nats(1.0, value)


@given(tokens=st.integers(0, 10**13), batch=st.integers(1, 10**8))
def test_steps_use_all_tokens_and_no_more_than_needed(tokens, batch):
    steps = steps_for_tokens(tokens, batch)
    assert steps * batch >= tokens > (steps - 1) * batch or steps == tokens == 0


def test_tokens_and_updates_convert_both_ways():
    assert tokens_for_steps(1000, 524_288) == 524_288_000
    assert steps_for_tokens(tokens_for_steps(1000, 524_288), 524_288) == 1000
    with pytest.raises(
        InputError, match=r"^batch_tokens must be above 0, got -1: give the batch size in tokens\.$"
    ):
        tokens_for_steps(10, -1)


def test_a_batch_of_nothing_is_refused():
    with pytest.raises(
        InputError, match=r"^batch_tokens must be above 0, got 0: give the batch size in tokens\.$"
    ):
        steps_for_tokens(100, 0)


def test_kinds_of_errors():
    assert issubclass(InputError, (LehrError, ValueError)) and issubclass(InputError, LehrError)
    assert issubclass(ResultError, LehrError) and issubclass(ResultError, RuntimeError)
    assert not issubclass(ResultError, InputError)


def test_messages_are_built_one_way():
    assert str(bad("x", "must be even", "3", "add one")) == "x must be even, got '3': add one."
    assert str(unknown("law", "zzz", ["b", "a"])) == "unknown law 'zzz': Known: a, b."
    assert str(unknown("law", "aa", ["ab", "c"])) == "unknown law 'aa': did you mean 'ab'? Known: ab, c."


def test_of_many_names_the_nearest_are_listed():
    names = [f"run-{i:03}" for i in range(100)]
    told = str(unknown("run", "run-05", names))
    assert told.startswith("unknown run 'run-05': did you mean 'run-") and "The nearest of 100: " in told
    assert told.count("run-") == 2 + 12


# the bundled runs


def test_bundled_runs_are_as_their_manifest_says():
    runs = load_examples()
    entries = manifest()["runs"]
    assert runs.names == tuple(entry["name"] for entry in entries) and len(runs) >= 20
    for entry in entries:
        run = runs[entry["name"]]
        assert run.schedule == parse(entry["schedule"])
        assert run.params == entry["params"] < run.params_total == entry["params_total"]
        assert run.meta["split"] == "val" and run.meta["seed"] == entry["config"]["training"]["seed"]
        if run.parent:
            assert run.step[0] > run.branch_step and run.parent in runs
            parent = runs[run.parent].schedule
            k = np.arange(run.branch_step)
            np.testing.assert_array_equal(run.schedule.lr(k), parent.lr(k))
        assert run.step[-1] == run.steps
        assert floor_of(run) < run.final_loss < run.loss.max() < 6.3


def test_bundled_runs_are_those_of_the_configurations():
    # read anew, so that a setting which was added since has its default
    made = {entry["name"]: make_config(entry["config"]) for entry in manifest()["runs"]}
    assert made == {config.name: config for config in bundled()}
    assert {config.branch.run for config in minimal() if config.branch} < {c.name for c in minimal()}


def test_training_losses_are_placed_within_their_window():
    val, train = load_examples(), load_examples("train")
    assert train.names == val.names
    run = train["S-3e-3-constant-2000"]
    assert run.meta["split"] == "train"
    assert np.all(np.diff(run.step) > 0) and 0 < run.step[0] < 20 and run.step[-1] < run.steps
    near = np.interp(val[run.name].step[5:], run.step, run.loss)
    assert np.mean(np.abs(near / val[run.name].loss[5:] - 1)) < 0.05


def test_an_unknown_split_is_refused():
    with pytest.raises(InputError, match=r"^unknown split 'vall': did you mean 'val'\? Known: train, val\.$"):
        load_examples("vall")
