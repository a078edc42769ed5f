"""What holds for every exporter: its text stands alone, its LRs are the stated ones, code is exact."""

import ast
import json
import re
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from tests.export_cases import CASES, run, same, schedules

from lehr.errors import InputError
from lehr.schedule.export import EXPORTERS, export
from lehr.schedule.export.export import MOST_UPDATES
from lehr.schedule.families import constant, cyclic, from_array, wsd

WITH_SETTINGS = [name for name, exporter in EXPORTERS.items() if exporter.settings]
PYTHON = [name for name in EXPORTERS if name not in ("csv", "optax")]  # optax has no lr_at but jnp code
STUBS = (
    "torch", "torch.optim", "torch.optim.lr_scheduler", "transformers", "torchtitan", "torchtitan.components",
    "torchtitan.components.optimizer", "olmo_core", "olmo_core.optim", "olmo_core.optim.scheduler", "megatron",
    "megatron.training", "megatron.training.training", "megatron.core",
    "megatron.core.optimizer_param_scheduler",
)  # fmt: skip
ALLOWED = {"bisect", "math", "dataclasses", "torch", "transformers", "torchtitan", "olmo_core", "optax", "jax",
           "megatron"}  # fmt: skip
FORMS = [(name, "code") for name in EXPORTERS] + [(name, "settings") for name in WITH_SETTINGS]

each_case = pytest.mark.parametrize("case", CASES)


@each_case
def test_the_stated_deviation_is_that_of_the_lrs(case):
    for name, form in FORMS:
        made, wanted = export(CASES[case], name, form), CASES[case].to_array()
        gap = np.abs(made.lr - wanted)
        assert made.lr.shape == wanted.shape and np.all(np.isfinite(made.lr)) and np.all(made.lr >= 0)
        assert made.deviation.largest == gap.max() == gap[made.deviation.update]
        assert made.deviation.relative == pytest.approx(gap.max() / wanted.max(), rel=1e-12)
        assert made.deviation.updates == np.sum(gap > 1e-9 * wanted + 1e-14 * wanted.max())
        assert made.exact == (made.deviation.updates == 0) == (made.deviation.why == "")
        assert (made.framework, made.form) == (name, form)


@each_case
def test_code_is_exact_and_what_auto_falls_back_to(case):
    for name in EXPORTERS:
        code, auto = export(CASES[case], name, "code"), export(CASES[case], name)
        assert code.exact and code.nearest is None and auto.exact
        if name in WITH_SETTINGS:
            own = export(CASES[case], name, "settings")
            assert auto.form == ("settings" if own.exact else "code")
            assert (auto.nearest is None) == own.exact
            assert auto.nearest is None or auto.nearest.text == own.text
        else:
            assert auto.form == "code" and auto.nearest is None


@each_case
def test_the_text_is_safe_to_paste_and_needs_no_lehr(case):
    for name, form in FORMS:
        made = export(CASES[case], name, form)
        assert made.text.endswith("\n") and made.text.isascii()
        if made.language == "python":
            tree = ast.parse(made.text)
            modules = {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
            modules |= {a.name for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
            assert {module.split(".")[0] for module in modules} <= ALLOWED
        elif made.language == "json":
            json.loads(made.text)
        elif made.language == "sh":
            assert re.fullmatch(
                r"LR_ARGS=\(  # [\w(), =.\[\]+-]*\n(    --[a-z-]+ [\w.+-]+\n)+\)\n", made.text
            )
        else:
            assert made.language == "csv" and re.fullmatch(r"update,lr\n(\d+,[\d.e-]+\n)+", made.text)


@settings(max_examples=150, deadline=None)
@given(schedules)
def test_the_function_of_the_code_gives_the_schedule(schedule):
    wanted = schedule.to_array()
    for name in ("torch", "olmo-core"):
        made = export(schedule, name, "code")
        lr_at = run(made.text, stub=STUBS).lr_at
        used = [lr_at(update) for update in range(schedule.steps)]
        same(wanted, used)
        same(made.lr, used)
        assert lr_at(schedule.steps + 10) == used[-1] and lr_at(-1) == used[0]


@settings(max_examples=60, deadline=None)
@given(schedules)
def test_settings_never_deviate_without_saying_so(schedule):
    for name in WITH_SETTINGS:
        made = export(schedule, name, "settings")
        off = np.abs(made.lr - schedule.to_array()) > 1e-9 * schedule.to_array() + 1e-14 * schedule.peak
        assert made.deviation.updates == off.sum()
        assert bool(made.deviation.why) == bool(off.any())


@pytest.mark.parametrize("name", PYTHON)
def test_every_code_runs_without_its_framework_installed(name):
    made = export(CASES["rewarm"], name, "code")
    names = run(made.text, stub=STUBS)
    same(CASES["rewarm"].to_array(), [names.lr_at(update) for update in range(names.STEPS)])
    assert CASES["rewarm"].peak == names.PEAK
    assert "lehr" not in {n.split(".")[0] for n in vars(names)} and sys.modules.get("megatron") is None


# which frameworks can say what in their own settings, held against their documentation by hand
SAYS = {
    "constant": {"hf", "megatron", "torchtitan", "olmo-core", "deepspeed"},
    "constant, warm-up": {"megatron", "torchtitan", "olmo-core"},
    "wsd": {"megatron", "torchtitan", "olmo-core"},
    "wsd, HF warm-up": {"hf", "megatron", "olmo-core"},
    "wsd, from the final LR": {"hf", "megatron", "olmo-core"},
    "wsd, no warm-up": {"hf", "megatron", "torchtitan", "olmo-core"},
    "wsd, one update of warm-up": {"hf", "megatron", "torchtitan", "olmo-core"},
    "wsd, warm-up and decay alone": {"megatron", "torchtitan", "olmo-core"},
    "wsd, all warm-up": {"megatron", "torchtitan", "olmo-core"},
    "wsd, warm-up from an LR": {"megatron", "olmo-core"},
    "1-sqrt": {"megatron", "torchtitan"},
    "power, HF": {"hf"},
    "cosine": {"megatron", "torchtitan", "olmo-core"},
    "cosine, HF warm-up": {"hf", "megatron", "olmo-core"},
    "cosine past the end": {"megatron", "torchtitan", "olmo-core"},
    "cosine ends early": {"megatron", "olmo-core"},
    "one cycle": {"olmo-core"},
    "one cycle from 0": {"olmo-core"},
    "multistep": {"olmo-core"},
    "cyclic": {"olmo-core"},
    "many cycles": {"olmo-core"},
    "rewarm": {"olmo-core"},
    "rewarm, higher": {"olmo-core"},
    "branch": {"olmo-core"},
    "table": {"olmo-core"},
    "odd ramp": {"olmo-core"},  # three updates: straight lines through all
}


@each_case
def test_which_settings_are_exact(case):
    assert {name for name in WITH_SETTINGS if export(CASES[case], name, "settings").exact} == SAYS.get(
        case, set()
    )


def test_a_table_with_the_lrs_of_a_family_gets_its_settings():
    schedule = CASES["wsd"]
    made = export(from_array(values=schedule.to_array()), "megatron")
    assert made.form == "settings" and made.exact
    assert "--lr-wsd-decay-iters 12\n" in made.text and "--min-lr 0\n" in made.text


def test_the_nearest_settings_end_at_the_same_lr_and_beat_other_decays():
    schedule = wsd(steps=2000, peak=1e-3, warmup=100, decay=400, shape="power(1.5)", final=1e-5)
    made = export(schedule, "megatron", "settings")
    assert "--min-lr 1e-05\n" in made.text and "--lr-wsd-decay-style cosine\n" in made.text
    error = np.mean((made.lr - schedule.to_array()) ** 2)
    for shape in ("linear", "sqrt", "cosine"):
        for decay in range(200, 800, 25):
            other = wsd(steps=2000, peak=1e-3, warmup=100, decay=decay, shape=shape, final=1e-5).to_array()
            assert error <= np.mean((other - schedule.to_array()) ** 2)


@pytest.mark.parametrize(
    ("case", "name", "form", "note"),
    [
        ("wsd", "torch", "code", "create the optimiser with lr=PEAK"),
        ("wsd", "megatron", "settings", "the global batch must be constant"),
        (
            "wsd",
            "megatron",
            "code",
            "--train-iters 40 --lr-decay-iters 40 --lr 0.0003 --lr-decay-style constant",
        ),
        ("wsd", "optax", "code", "rounds each LR to float32"),
        ("wsd", "deepspeed", "settings", "every group of the optimiser gets this LR"),
        ("cosine", "deepspeed", "settings", "give the optimiser the peak LR 0.0003"),
    ],
)
def test_what_the_user_must_do_is_said(case, name, form, note):
    assert any(note in said for said in export(CASES[case], name, form).notes)


def test_a_long_schedule_is_written_short():
    schedule = wsd(steps=1_000_000, peak=1e-3, warmup=1000, decay=200_000)
    assert len(export(schedule, "torch").text) < 2500
    assert len(export(schedule, "optax").text) < 1000


@pytest.mark.parametrize(
    ("schedule", "name", "form", "message"),
    [
        (CASES["wsd"], "megatrom", "auto", "unknown framework 'megatrom': did you mean 'megatron'? Known: csv, "),
        (CASES["wsd"], "hf", "setings", "unknown form of an export 'setings': did you mean 'settings'? Known: auto"),
        (CASES["wsd"], "torch", "settings", "torch has no settings for schedules, only code: leave the form at auto."),
        (
            constant(steps=MOST_UPDATES + 1, peak=1), "csv", "auto",
            "steps must not exceed 10000000 to be exported, got 10000001: export a part.",
        ),
        (
            from_array(values=[0, 0]), "torch", "auto",
            "the peak LR must be above 0, got 0.0: export a schedule that trains.",
        ),
    ],
)  # fmt: skip
def test_refusals(schedule, name, form, message):
    with pytest.raises(InputError) as refused:
        export(schedule, name, form)
    assert str(refused.value).startswith(message)


def test_a_table_that_would_be_an_endless_text_is_refused(monkeypatch):
    monkeypatch.setattr("lehr.schedule.export._code.MOST_ROWS", 1000)
    noise = np.random.default_rng(0).uniform(size=2000)
    with pytest.raises(InputError) as refused:
        export(from_array(values=noise), "torch")
    assert str(refused.value) == (
        "the schedule needs more than 1000 straight lines to be written as code, got 1001 or more: "
        "export it as csv, or write it with a family."
    )
    with pytest.raises(InputError, match="more than 1000 straight lines"):
        export(cyclic(steps=3000, peak=1, low=0.1, period=2), "torch")
