"""`lehr peak-lr compare`: from a table, and from a study that it trains."""

import pytest
from tests.peaklr.test_comparison import study
from tests.proxy.test_study import TEXT

from lehr.peaklr.comparison import compare_ways
from lehr.peaklr.study_table import read_study, to_csv


@pytest.fixture
def results(tmp_path):
    path = tmp_path / "toy.csv"
    path.write_text(to_csv(study()))
    return path


def test_a_table_is_compared_and_reported(lehr, results, tmp_path):
    outcome = lehr("peak-lr", "compare", results, "--out", tmp_path / "out")
    assert outcome.code == 0, outcome.err
    assert "toy: width" in outcome.out and "completep level3" in outcome.out
    assert "toy over width: completep" in outcome.out
    (axis,) = compare_ways(study()).axes
    (shift,) = (each for each in axis.shifts if each.rule == "sp")
    line = ["sp", f"{shift.factor:.2f}", f"{shift.low:.2f}", f"{shift.high:.2f}"]
    assert line in [told.split() for told in outcome.out.splitlines()]
    assert f"written to {tmp_path / 'out'}: report.html, results.csv" in outcome.err
    assert "<svg" in (tmp_path / "out" / "report.html").read_text()
    assert len(read_study(tmp_path / "out" / "results.csv")) == len(study())


def test_json_has_shifts_forecasts_and_standings(lehr, results, tmp_path):
    found = lehr("peak-lr", "compare", results, "--out", tmp_path / "out", "--json").json
    (axis,) = found["axes"]
    assert {shift["rule"] for shift in axis["shifts"]} == {"sp", "completep"}
    assert all(shift["size"] >= 1 for shift in axis["shifts"])
    assert {(each["rule"], each["way"]) for each in axis["forecasts"]} == {
        ("sp", "keep"), ("sp", "fit"), ("completep", "keep"), ("completep", "fit"),
    }  # fmt: skip
    assert found["standings"] and found["conclusion"]


def test_without_files_the_bundled_study_is_compared(lehr, tmp_path):
    found = lehr("peak-lr", "compare", "--out", tmp_path / "out", "--json").json
    assert {axis["study"] for axis in found["axes"]} >= {"dense"}


def test_a_study_is_trained_and_not_twice(lehr, tmp_path):
    torch = pytest.importorskip("torch", reason="needs the [train] extra")
    torch.set_num_threads(1)
    path = tmp_path / "toy.toml"
    path.write_text(TEXT.format(experts=""))
    first = lehr("peak-lr", "compare", path, "--out", tmp_path / "out", "--only", "width/*")
    assert first.code == 0, first.err
    assert "training toy-base-lr0.01-seed1" in first.err
    read = lehr("peak-lr", "compare", tmp_path / "out" / "results.csv", "--out", tmp_path / "again")
    assert read.out == first.out
    known = ("--known", tmp_path / "out" / "results.csv")
    other = lehr("peak-lr", "compare", path, "--out", tmp_path / "other", "--only", "width/*", *known)
    assert other.out == first.out
    assert "training" not in other.err


def test_a_table_given_twice_is_refused(lehr, results, tmp_path):
    said = lehr("peak-lr", "compare", results, results, "--out", tmp_path / "out").refused()
    assert "a training is in the tables twice: give each study once" in said


def test_a_missing_file_is_refused(lehr, tmp_path):
    said = lehr("peak-lr", "compare", tmp_path / "none.csv", "--out", tmp_path / "out").refused()
    assert "none.csv does not exist: give a table of studies" in said
