"""`lehr export`: stdout holds the text alone, stderr says how exact it is, JSON keeps its keys."""

import json

import pytest
from tests.export_cases import run, same

from lehr.schedule.spec import parse, to_dict, to_text

WSD = "wsd(steps=4000, peak=1e-3, warmup=200, decay=800)"
POWER = "wsd(steps=4000, peak=1e-3, warmup=200, decay=800, shape=power(1.5), final=1e-5)"


def test_settings_where_they_are_exact(lehr):
    outcome = lehr("export", WSD, "--to", "megatron")
    assert outcome.code == 0
    assert outcome.out == (
        "LR_ARGS=(  # wsd(steps=4000, peak=0.001, warmup=200, decay=800), by lehr\n"
        "    --train-iters 4000\n    --lr 0.001\n    --lr-warmup-iters 199\n    --lr-warmup-init 5e-06\n"
        "    --min-lr 0\n    --lr-decay-iters 4000\n    --lr-decay-style WSD\n"
        "    --lr-wsd-decay-style linear\n    --lr-wsd-decay-iters 800\n)\n"
    )
    assert outcome.err.startswith("every update uses the schedule's LR.\nnote: Megatron counts samples")


def test_code_where_they_are_not_and_what_they_would_cost(lehr, fit_file):
    outcome = lehr("export", POWER, "--to", "hf", "--fit", fit_file)
    assert outcome.code == 0
    assert "class LehrTrainer(Trainer):" in outcome.out
    assert (
        "hf's own settings cannot say this schedule, hence the code. The nearest (--form settings): "
        in outcome.err
    )
    assert "of 4000 updates differ, by at most" in outcome.err and "Predicted to cost " in outcome.err


def test_json(lehr, fit_file):
    found = lehr("export", POWER, "--to", "megatron", "--form", "settings", "--fit", fit_file, "--json").json
    assert set(found) == {
        "schedule", "steps", "framework", "form", "language", "text", "exact", "deviation", "cost", "notes", "nearest"
    }  # fmt: skip
    assert set(found["deviation"]) == {"largest", "relative", "update", "updates", "why"}
    assert set(found["cost"]) == {"excess_loss", "low", "high", "warnings"}
    assert (found["exact"], found["steps"], found["nearest"]) == (False, 4000, None)
    assert parse(found["schedule"]) == parse(POWER)
    assert found["cost"]["low"] <= found["cost"]["high"]
    auto = lehr("export", POWER, "--to", "megatron", "--fit", fit_file, "--json").json
    assert auto["exact"] and auto["cost"] is None
    assert auto["nearest"]["text"] == found["text"] and auto["nearest"]["cost"] == found["cost"]
    assert lehr("export", POWER, "--to", "megatron", "--json").json["nearest"]["cost"] is None


def test_an_inexact_export_is_a_warning(lehr):
    outcome = lehr("export", WSD, "--to", "deepspeed", "--form", "settings")
    assert outcome.code == 0 and json.loads(outcome.out)["scheduler"]["type"] == "WarmupDecayLR"
    assert (
        outcome.err.startswith("warning: not exact: ")
        and "--fit FIT.json says what that costs." in outcome.err
    )


@pytest.mark.parametrize("suffix", ["json text", "json table", "json with schedule", "csv"])
def test_a_schedule_from_a_file(lehr, tmp_path, suffix):
    schedule, path = parse(POWER), tmp_path / ("plan(1)." + suffix.split()[0])
    if suffix == "csv":
        assert lehr("export", POWER, "--to", "csv", "--out", path).out == f"csv code written to {path}\n"
    else:
        path.write_text(json.dumps({
            "json text": to_text(schedule), "json table": to_dict(schedule),
            "json with schedule": {"final_loss": 2.5, "schedule": to_dict(schedule)},
        }[suffix]))  # fmt: skip
    outcome = lehr("export", path, "--to", "olmo-core", "--form", "code")
    assert outcome.code == 0, outcome.err
    text = outcome.out.replace("from olmo_core.optim.scheduler import Scheduler", "Scheduler = object")
    snippet = run(text)
    same(schedule.to_array(), [snippet.lr_at(update) for update in range(snippet.STEPS)])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((WSD, "--to", "megatrom"), "error: unknown framework 'megatrom': did you mean 'megatron'?"),
        (
            (WSD, "--to", "torch", "--form", "settings"),
            "error: torch has no settings for schedules, only code",
        ),
        (
            ("wsd", "--to", "torch"),
            'error: the schedule must be a text such as "cosine(steps=1000, peak=1e-3)" or a',
        ),
        (("nowhere.json", "--to", "torch"), "error: nowhere.json does not exist: give a schedule."),
        (("wsd(steps=9)", "--to", "torch"), "error: wsd needs the argument peak: add peak=..."),
        ((WSD, "--to", "torch", "--out", "nowhere/x.py"), "error: the folder of nowhere/x.py does not exist"),
        ((WSD, "--to", "hf", "--fit", "nowhere.json"), "error: nowhere.json"),
    ],
)
def test_refusals(lehr, arguments, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert lehr("export", *arguments).refused().startswith(message)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.json", "{", "a.json is not JSON: "),
        ("a.json", "[1]", "a.json: a schedule table must name its family, got [1]: "),
        ("a.json", '"wsd(steps=9)"', "a.json: wsd needs the argument peak: add peak=..."),
        ("a.csv", "step,lr\n", "a.csv line 1 must be the header 'update,lr', got 'step,lr'"),
    ],
)
def test_a_broken_file_is_named(lehr, tmp_path, monkeypatch, name, text, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_text(text)
    assert lehr("export", name, "--to", "torch").refused().startswith(f"error: {message}")
