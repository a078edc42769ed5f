"""Fits on disk: whole or not at all, and never trusted when read."""

import errno
import json
import os
import stat
from dataclasses import replace

import pytest
from tests.synthetic import CASES, make_runs

from lehr import files
from lehr.errors import InputError, ResultError
from lehr.fit.compare import Comparison, compare
from lehr.fit.files import Fits, from_comparison, load_fits, save_fits
from lehr.fit.stack import Stack, StackScore
from lehr.laws import LAWS


@pytest.fixture(scope="module")
def comparison():
    case = CASES["tissue"]
    return compare(
        [LAWS["tissue"], LAWS["one_power"], LAWS["tissue_n"]], make_runs(case, 1e-3, every=200)[:3], workers=1
    )


@pytest.fixture
def fits(comparison):
    return replace(from_comparison(comparison), test_errors={"tissue": {"a run": 0.01}, "one_power": {}})


@pytest.fixture
def path(tmp_path, fits):
    save_fits(tmp_path / "fit.json", fits)
    return tmp_path / "fit.json"


def test_round_trip(path, fits):
    assert load_fits(path) == fits


def test_from_comparison(comparison, fits):
    assert fits.chosen == comparison.chosen == "tissue"
    assert set(fits.results) == set(fits.held_out) == {"tissue", "one_power"}
    assert fits.held_out["tissue"] == comparison.error("tissue") < fits.held_out["one_power"]
    assert list(fits.failed) == ["tissue_n"]
    assert fits.by_kind["tissue"] == comparison.by_kind("tissue")
    assert list(fits.by_kind["one_power"]) == ["run", "horizon", "later_part"]
    assert fits.stack_weights == {} and fits.stack_score is None


def test_without_folds_the_choice_falls_back(comparison):
    none = Comparison(comparison.results, comparison.held_out, {}, (), None)
    assert from_comparison(none).chosen == "tissue", "the first one where the usual fallback was not fitted"
    assert from_comparison(none, "one_power").chosen == "one_power"
    assert from_comparison(none).held_out == {}


def test_get_returns_the_chosen_or_the_named(fits):
    assert fits.get() is fits.results["tissue"]
    assert fits.get("one_power") is fits.results["one_power"]
    with pytest.raises(
        InputError, match=r"unknown fitted law 'one_powr': did you mean 'one_power'\? Known: one_power, t"
    ):
        fits.get("one_powr")


def test_a_stack_is_kept_with_its_members_and_score(tmp_path, fits):
    stacked = replace(
        fits, stack_weights={"tissue": 0.75, "one_power": 0.25}, stack_score=StackScore(0.1, 0.2)
    )
    save_fits(tmp_path / "f", stacked)
    found = load_fits(tmp_path / "f")
    assert found == stacked
    assert found.get_stack() == Stack(stacked.stack_weights, fits.results)


def test_the_stack_is_no_law(fits):
    text = (
        r"^the stack of laws predicts curves \(lehr predict\) and answers nothing else: name one law, or none "
        r"for the chosen one\.$"
    )
    for some in (fits, replace(fits, stack_weights={"tissue": 1.0})):
        with pytest.raises(InputError, match=text):
            some.get("stack")
    with pytest.raises(
        InputError, match=r"^these fits hold no stack of laws: make them with `lehr fit --stack`\.$"
    ):
        fits.get_stack()


def test_files_of_versions_without_kinds_and_stacks_are_read(path, fits):
    data = json.loads(path.read_text())
    for name in ("held_out_by_kind", "stack_weights", "stack_score"):
        del data[name]
    for law in data["laws"].values():
        del law["final_errors"]
    path.write_text(json.dumps(data))
    results = {name: replace(result, final_errors=()) for name, result in fits.results.items()}
    assert load_fits(path) == replace(fits, by_kind={}, results=results)


@pytest.mark.parametrize(
    "weights", [{"tissue": 0.5}, {"tissue": 1.5, "one_power": -0.5}, {"tissue": 0.5, "multi_power": 0.5}]
)
def test_weights_that_are_no_stack_of_the_laws_held(path, weights):
    path.write_text(json.dumps({**json.loads(path.read_text()), "stack_weights": weights}))
    with pytest.raises(
        InputError,
        match=r"its stack_weights are not above 0 with the sum 1 over laws it holds; make it again",
    ):
        load_fits(path)


# reading what is not a fit


def test_missing_file(tmp_path):
    with pytest.raises(
        InputError, match=r"none\.json does not exist: give a file made by `lehr fit --out`\.$"
    ):
        load_fits(tmp_path / "none.json")


def test_not_text(tmp_path):
    (tmp_path / "f").write_bytes(b"\xff\xfe")
    for path in (tmp_path, tmp_path / "f"):
        with pytest.raises(InputError, match=r"cannot be read as a file made by `lehr fit --out`: "):
            load_fits(path)


def test_not_json(path):
    for text in (path.read_text()[:-10], "[" * 200_000):
        path.write_text(text)
        with pytest.raises(
            InputError, match=r"fit\.json is not a fit: .*; make one with `lehr fit --out`\.$"
        ):
            load_fits(path)


@pytest.mark.parametrize(
    "text", ["[]", "{}", '{"lehr_fits": 2, "laws": {}}', '{"lehr_fits": 1}', '{"lehr_fits": 1, "laws": 3}']
)
def test_another_schema(path, text):
    path.write_text(text)
    with pytest.raises(
        InputError, match=r"fit\.json is not a fit of schema 1: make one with `lehr fit --out`\.$"
    ):
        load_fits(path)


@pytest.mark.parametrize("chosen", [None, "effective_time", ["tissue"], 3])
def test_a_choice_it_does_not_hold(path, chosen):
    path.write_text(json.dumps({**json.loads(path.read_text()), "chosen": chosen}))
    with pytest.raises(
        InputError, match=r"fit\.json is damaged: it chooses .*, which it does not hold; make it again\.$"
    ):
        load_fits(path)


@pytest.mark.parametrize(
    "field", ["held_out_error", "failed", "test_errors", "held_out_by_kind", "stack_weights"]
)
def test_damaged_tables(path, field):
    path.write_text(json.dumps({**json.loads(path.read_text()), field: [1]}))
    with pytest.raises(
        InputError, match=rf"fit\.json: {field}: the fit is damaged \(the whole: Input should be a valid"
    ):
        load_fits(path)


def test_a_damaged_score_or_kind(path):
    data = json.loads(path.read_text())
    path.write_text(json.dumps({**data, "stack_score": {"stack": 0.1}}))
    with pytest.raises(InputError, match=r"stack_score: the fit is damaged \(.*single.*: Field required\)"):
        load_fits(path)
    path.write_text(json.dumps({**data, "held_out_by_kind": {"tissue": {"runs": 0.1}}}))
    with pytest.raises(InputError, match=r"held_out_by_kind: the fit is damaged \(tissue\.runs.*'run'"):
        load_fits(path)


def test_a_damaged_fit_is_named_by_its_law(path):
    data = json.loads(path.read_text())
    data["laws"]["one_power"]["cost"] = "x"
    path.write_text(json.dumps(data))
    with pytest.raises(InputError, match=r"fit\.json: one_power: the fit is damaged \(cost: "):
        load_fits(path)


# writing


def test_a_written_file_is_readable_by_others(path):
    assert stat.S_IMODE(path.stat().st_mode) == 0o644


@pytest.mark.parametrize("function", ["replace", "fsync", "chmod"])
def test_a_full_disk_leaves_the_old_file(path, fits, monkeypatch, function):
    old = path.read_text()

    def fail(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, function, fail)
    text = r"could not write .*fit\.json: No space left on device; what was there is untouched\.$"
    with pytest.raises(ResultError, match=text):
        save_fits(path, Fits({}, {}, "x"))
    monkeypatch.undo()
    assert path.read_text() == old
    assert [p.name for p in path.parent.iterdir()] == ["fit.json"]


def test_an_error_without_a_number_is_told_as_it_is(path, monkeypatch):
    def fail(*_):
        raise OSError("the cable is out")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(
        ResultError, match="could not write .*: the cable is out; what was there is untouched"
    ):
        files.write_atomic(path, "new")


def test_a_missing_folder(tmp_path):
    with pytest.raises(InputError, match=r"the folder of .*none/f\.json does not exist: create it first\.$"):
        files.write_atomic(tmp_path / "none" / "f.json", "x")


def test_bytes_are_written_as_they_are(tmp_path):
    files.write_atomic(tmp_path / "b", b"\x00\xff")
    assert (tmp_path / "b").read_bytes() == b"\x00\xff"
    files.write_atomic(tmp_path / ("n" * 250), "a long name")
    assert (tmp_path / ("n" * 250)).read_text() == "a long name"


def test_make_folder(tmp_path, monkeypatch):
    files.make_folder(tmp_path / "a" / "b")
    files.make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()
    (tmp_path / "f").write_text("")
    with pytest.raises(InputError, match=r"f is a file: name a folder\.$"):
        files.make_folder(tmp_path / "f")
    with pytest.raises(ResultError, match=r"could not make the folder .*f/x: Not a directory\.$"):
        files.make_folder(tmp_path / "f" / "x")
