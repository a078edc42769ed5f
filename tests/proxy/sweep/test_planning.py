"""SWEEP.toml and its runs: every combination, once, checked, with addresses by content. No torch."""

import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.proxy.sweep.made import MODEL, TRAINING, commands, planned, spec

from lehr.errors import InputError
from lehr.proxy.config import make_config
from lehr.proxy.sweep.jobs import PLAN, Plan, address_of, find_jobs, read_plan, write_plan
from lehr.proxy.sweep.planning import plan_sweep
from lehr.proxy.sweep.spec import SweepSpec, load_sweep
from lehr.schedule.spec import parse


def names(plan):
    return [job.name for job in plan.jobs]


def refused(text=None, tmp_path=None, **tables):
    with pytest.raises(InputError) as error:
        if text is not None:
            (tmp_path / "S.toml").write_text(text)
            plan_sweep(load_sweep(tmp_path / "S.toml"), "S.toml")
        else:
            plan_sweep(spec(**tables), "S.toml")
    return str(error.value)


def test_every_combination_is_a_run_with_what_it_varies_in_its_name():
    plan = planned(grid={"peak_lr": (1e-2, 2e-2), "model": {"width": (16, 32)}}, seeds=(1, 2))
    assert len(plan.jobs) == len({job.address for job in plan.jobs}) == 8
    assert names(plan)[:3] == [
        "s-peak_lr0.01-width16-seed1",
        "s-peak_lr0.01-width16-seed2",
        "s-peak_lr0.01-width32-seed1",
    ]
    config = make_config(dict(plan.jobs[-1].payload))
    assert (config.model.width, config.training.seed, config.training.plan.peak) == (32, 2, 2e-2)
    assert plan.jobs[0].facts.items() >= {"peak_lr": 1e-2, "seed": 1, "width": 16, "batch_tokens": 64}.items()


def test_listed_runs_come_beside_the_grid_or_in_its_place():
    listed = ({"name": "big", "peak_lr": 1e-3, "model": {"width": 64}}, {"peak_lr": 5e-3})
    assert names(planned(runs=listed))[2:] == ["big", "s-peak_lr0.005"]
    assert names(planned(runs=listed, grid={})) == ["big", "s-peak_lr0.005"]
    assert names(planned(runs=listed[:1], grid={}, seeds=(3, 4))) == ["big-seed3", "big-seed4"]


def test_a_sweep_of_one_run_needs_no_grid():
    plan = planned(grid={}, training={**TRAINING, "schedule": "constant(steps=5, peak=1e-3)"})
    assert names(plan) == ["s"]


def test_long_values_are_told_by_number():
    schedules = ("wsd(steps=24, peak={peak_lr}, decay=8)", "constant(steps=24, peak={peak_lr})")
    plan = planned(grid={"training": {"schedule": schedules}, "peak_lr": (0.5,)})
    assert names(plan) == ["s-peak_lr0.5-1", "s-peak_lr0.5-2"]
    assert [job.schedule for job in plan.jobs] == [
        "wsd(steps=24, peak=0.5, decay=8)",
        "constant(steps=24, peak=0.5)",
    ]


def test_cooldowns_branch_from_a_trunk_that_is_trained_once():
    plan = planned(
        cooldowns={"ratios": (0.25, 0.5), "steps": (24, 16), "shapes": ("linear", "sqrt"), "final": 0.1}
    )
    assert len(plan.jobs) == 2 * (1 + 8)
    trunk, *forks = plan.jobs[:9]
    assert trunk.parent is None and {fork.parent for fork in forks} == {trunk.address}
    assert make_config(dict(trunk.payload)).training.keep == (8, 12, 18)
    one = next(job for job in forks if job.name == "s-peak_lr0.01-r0.25-16-sqrt")
    assert one.schedule == "wsd(steps=16, peak=0.01, warmup=4, decay=4, shape=sqrt, final=0.001)"
    assert (one.branch_step, one.updates, one.flops) == (12, 4, trunk.flops / 6)
    config = make_config(dict(one.payload))
    assert (config.branch.run, config.branch.step) == (trunk.address, 12)
    past = parse(one.schedule).to_array()[:12]
    assert (past == parse(trunk.schedule).to_array()[:12]).all()


def test_an_address_is_of_content_not_of_names_or_of_how_a_schedule_is_written():
    plan = planned(cooldowns={"ratios": (0.5,)})
    spaced = {**TRAINING, "schedule": "constant( steps = 24, peak={peak_lr}, warmup=4 )"}
    other = planned(name="other", cooldowns={"ratios": (0.5,)}, training=spaced)
    assert [job.address for job in other.jobs] == [job.address for job in plan.jobs]
    changed = {
        "seed": planned(cooldowns={"ratios": (0.5,)}, training={**TRAINING, "seed": 1}),
        "data": planned(cooldowns={"ratios": (0.5,)}, data={"vocab_size": 32, "seed": 1}),
        "decay": planned(cooldowns={"ratios": (0.5,)}, optimizer={"weight_decay": 0.2}),
    }
    seen = [job.address for each in (plan, *changed.values()) for job in each.jobs]
    assert len(seen) == len(set(seen)), "a branch of another trunk is another run"


def test_the_same_run_named_twice_is_trained_once():
    found = plan_sweep(spec(runs=({"name": "again", "peak_lr": 1e-2},)), "S.toml")
    assert names(found.plan) == ["s-peak_lr0.01", "s-peak_lr0.02"]
    assert found.remarks == ("the same run, trained once: again as s-peak_lr0.01",)


def test_text_data_are_part_of_the_address(tmp_path):
    text = tmp_path / "text.txt"
    made = []
    for content in ("abc " * 200, "abd " * 200):
        text.write_text(content)
        made.append(planned(data={"kind": "text", "paths": (str(text),)}).jobs[0].address)
    assert made[0] != made[1]


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.floats(1e-6, 1.0), min_size=1, max_size=6, unique=True),
    st.sets(st.integers(0, 99), max_size=3),
)
def test_the_runs_of_any_grid_are_its_combinations(peaks, seeds):
    plan = planned(grid={"peak_lr": tuple(peaks)}, seeds=tuple(sorted(seeds)))
    found = [(parse(job.schedule).peak, job.facts["seed"]) for job in plan.jobs]
    assert found == [(peak, seed) for peak in peaks for seed in sorted(seeds) or [0]]
    assert len(set(names(plan))) == len(found)


def test_a_plan_reads_back_as_it_was(tmp_path):
    plan = planned(cooldowns={"ratios": (0.5,)}, budget={"hours_a_run": 2.0, "deaths": 3})
    write_plan(tmp_path, plan)
    again = read_plan(tmp_path)
    assert again == plan and (again.hours_a_run, again.deaths) == (2.0, 3)


def test_a_damaged_plan_is_refused_by_line(tmp_path):
    with pytest.raises(InputError, match="holds no sweep: begin one with `lehr sweep run SWEEP.toml`"):
        read_plan(tmp_path)
    write_plan(tmp_path, planned())
    path = tmp_path / PLAN
    whole = path.read_bytes()
    for cut in range(0, len(whole) - 1, 7):
        path.write_bytes(whole[:cut])
        try:
            assert isinstance(read_plan(tmp_path), Plan)  # cut at the end of a line
        except InputError as error:
            assert str(path) in str(error)
    path.write_bytes(whole.replace(b'"steps"', b'"stips"'))
    with pytest.raises(InputError, match=r"plan.jsonl, line 2 is damaged: `lehr sweep run` writes it anew"):
        read_plan(tmp_path)
    path.write_bytes(whole.replace(b'"lehr_sweep": 1', b'"lehr_sweep": 2'))
    with pytest.raises(InputError, match="is no plan of version 1"):
        read_plan(tmp_path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(InputError, match="line 1 is damaged"):
        read_plan(tmp_path)


def test_runs_are_found_by_name_pattern_and_address():
    plan = planned(cooldowns={"ratios": (0.5,)})
    assert [job.name for job in find_jobs(plan, ["*-r0.5", plan.jobs[0].address])] == [
        "s-peak_lr0.01-r0.5", "s-peak_lr0.02-r0.5", "s-peak_lr0.01",
    ]  # fmt: skip
    with pytest.raises(
        InputError, match="unknown run of sweep 's' 's-peak_lr0.1': did you mean 's-peak_lr0.01'"
    ):
        find_jobs(plan, ["s-peak_lr0.1"])


# what is refused, before anything runs


def test_an_unknown_key_is_refused_with_the_nearest(tmp_path):
    text = 'name = "s"\nseed = [1]\n[model]\n[training]\nschedule = "constant(steps=5, peak=1)"\n'
    message = refused(text, tmp_path)
    assert "S.toml: unknown key 'seed': did you mean 'seeds'?" in message
    text = (
        'name = "s"\n[training]\nschedule = "constant(steps=5, peak=1)"\n[command]\nrun = "x"\nlogs = "y"\n'
    )
    assert "S.toml: unknown key of [command] 'logs': did you mean 'log'?" in refused(text, tmp_path)


@pytest.mark.parametrize(
    ("tables", "words"),
    [
        ({"grid": {"peak_lr": ()}}, "S.toml: grid.peak_lr is empty, so that there is no run"),
        ({"grid": {"peak_lr": 1e-3}}, "S.toml: grid.peak_lr must be a list of values, got 0.001: write it as"),
        ({"grid": {"peak_lr": (1e-3,), "model": {"widht": (1,)}}}, "key of [model] 'widht': did you mean 'width'?"),
        ({"grid": {"peak_lr": (1e-3,), "widht": (16,)}}, "varies 'widht', which is neither a field nor a placeholder"),
        ({"grid": {"peak_lr": (1e-3,), "model": {"width": (16, 17)}}},
         "run s-peak_lr0.001-width17: model: heads must divide width (17)"),
        ({"grid": {"lr": (1e-3,)}}, "varies 'lr', which is neither a field nor a placeholder that is used"),
        ({"grid": {}}, "run s: training.schedule: unknown placeholder 'peak_lr'"),
        ({"grid": {"peak_lr": ("a",)}}, "run s-peak_lra: training.schedule: "),
        ({"grid": {"peak_lr": tuple(range(1, 401)), "model": {"width": tuple(range(2, 802, 2))}}},
         "S.toml: the runs of the grid must not exceed 100000, got 160000: vary less."),
        ({"seeds": (1,), "grid": {"peak_lr": (1.0,), "training": {"seed": (1,)}}}, "seeds and grid.training.seed"),
        ({"cooldowns": {"ratios": (0.9,)}}, "the cooldown of ratio 0.9 that ends at step 24 must begin after"),
        ({"cooldowns": {"ratios": (0.5,), "steps": (96,)}}, "within the trunk's 24 updates, got 48"),
        ({"cooldowns": {"ratios": (0.5,), "shapes": ("linaer",)}}, "did you mean 'linear'"),
        ({"cooldowns": {"ratios": (0.5,)}, "training": {**TRAINING, "schedule": "cosine(steps=24, peak={peak_lr})"}},
         "training.schedule must be constant(...) where [cooldowns] branch from it, got 'cosine("),
        ({"runs": ({"name": "../x", "peak_lr": 1.0},)}, "S.toml: name must be of letters, digits and"),
        ({"runs": ({"name": "a", "peak_lr": 1.0}, {"name": "a", "peak_lr": 2.0})}, "names of runs must be unique"),
        ({"budget": {"runs": 1}}, "S.toml: the runs must not exceed budget.runs, 1, got 2: vary less."),
        ({"budget": {"flops": 1.0}}, "S.toml: the FLOPs of all runs must not exceed budget.flops, 1, got "),
        ({"training": {**TRAINING, "keep": (25,)}}, "training.keep must lie within the 24 updates, got 25"),
        ({"training": {**TRAINING, "accumulate": 3}}, "training.batch must be a multiple of accumulate, 3, got 4"),
        ({"model": {**MODEL, "init_std": float("inf")}}, "S.toml: model.init_std must be finite, got inf: correct it."),
        ({"transfer": {"rule": "mup", "base": {"model": {**MODEL, "init_std": 0.1}}}}, "init_std must be that of"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_is_refused_before_anything_runs(tables, words):
    assert words in refused(**tables)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[model]\ndepth = 1", "name is missing: give it."),
        ('name = "a b"', "name must be"),
        ('name = "s"', "training.schedule is missing: give a spec such as"),
        (
            'name = "s"\n[training]\nschedule = "x"',
            "[model] is missing: give it, or the [command] that trains.",
        ),
        (
            'name = "s"\n[training]\nschedule = "x"\n[command]\nrun = "y"\n[data]',
            "[data] says nothing to a [command]",
        ),
        (
            'name = "s"\n[cooldowns]\nratios = [1.5]',
            "cooldowns.ratios.0 must be less than 1, got 1.5: correct it.",
        ),
        ("name = ", "S.toml is not TOML"),
    ],
)
def test_a_file_that_says_too_little_or_too_much_is_refused(text, words, tmp_path):
    assert words in refused(text, tmp_path)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"run": 't "{lr}'}, "S.toml: command.run cannot be split into words: No closing quotation."),
        ({"run": "t {lr}", "more": 'log = "log.csv"'}, "command.log must hold a placeholder, or all runs share"),
        ({"run": " "}, "S.toml: command.run is empty: give the command that trains."),
        ({"run": "t {seed}", "grid": "lr = [1.0]\nseed = [3]"}, "got 3: give it by seeds or training.seed."),
        ({"run": "t {out}", "grid": "lr = [1.0]\nout = [3]"}, "'out' is lehr's own and stands for another value"),
        ({"run": "t {x}", "grid": "lr = [1.0]\nx = [inf]"}, "S.toml: values.x must be finite, got inf: correct it."),
        ({"run": "t {x}", "grid": "lr = [1.0]\nx = [2020-01-01]"}, "S.toml: x must be text, a number or a truth value"),
        ({"run": "t {lrr}"}, "run c-lr0.001: command.run: unknown placeholder 'lrr': did you mean 'lr'?"),
        (
            {"run": "t {lr}", "more": 'log = "{outt}"'},
            "command.log: unknown placeholder 'outt': did you mean 'out'?",
        ),
        ({"run": "t {lr}", "training": "batch = 4"}, "training.batch says nothing to a [command]"),
        ({"run": "t", "grid": "lr = [1.0]\nmodel.width = [2]"}, "model.width says nothing to a [command]"),
        (
            {"run": "t", "grid": "lr = [1.0]\nwidth = [2]"},
            "varies 'width', which is neither a field nor a placeholder",
        ),
        (
            {"run": "t", "more": 'code = ["absent.py"]'},
            "command.code: absent.py cannot be read: No such file",
        ),
        ({"run": "t", "more": "[budget]\nflops = 1.0"}, "budget.flops cannot be held against a [command]"),
    ],
)  # fmt: skip
def test_a_command_that_cannot_be_filled_in_is_refused(arguments, words, tmp_path):
    with pytest.raises(InputError) as error:
        plan_sweep(load_sweep(commands(tmp_path, **arguments)), "S.toml")
    assert words in str(error.value)


@settings(max_examples=50, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-3, 99) | st.floats(allow_nan=False) | st.text(max_size=6),
        lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.sampled_from(
            ["width", "peak_lr", "seed", "model", "ratios", "run", "name", "{x}"]), inner, max_size=3),
        max_leaves=6,
    ),
    st.sampled_from(["grid", "runs", "values", "seeds", "cooldowns", "command", "budget", "training", "model", "name"]),
)  # fmt: skip
def test_whatever_a_file_says_is_planned_or_refused(value, key):
    from pydantic import ValidationError

    try:
        read = SweepSpec.model_validate({**spec().model_dump(exclude_none=True), key: value})
    except ValidationError:
        return
    try:
        plan_sweep(read, "S.toml")
    except InputError:
        pass


def test_code_of_a_command_is_hashed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").write_text("a")
    path = commands(tmp_path, "t {lr}", more='code = ["train.py"]')
    first = plan_sweep(load_sweep(path), "S").plan
    (tmp_path / "train.py").write_text("b")
    second = plan_sweep(load_sweep(path), "S").plan
    assert first.jobs[0].payload["code"] != second.jobs[0].payload["code"]
    assert first.jobs[0].address == second.jobs[0].address, "told, but not another run unless asked for"


def test_only_what_a_command_is_told_decides_its_address(tmp_path):
    path = commands(tmp_path, "t {lr}", more="[values]\nparams = 1e6\nbatch_tokens = 1e3")
    plan = plan_sweep(load_sweep(path), "S").plan
    assert plan.jobs[0].flops == 6e10 and plan.jobs[0].facts["params"] == 1e6
    path = commands(tmp_path, "t {lr}", more="[values]\nparams = 2e6\nbatch_tokens = 1e3")
    other = plan_sweep(load_sweep(path), "S").plan
    assert other.jobs[0].address == plan.jobs[0].address


def test_addresses_do_not_depend_on_the_order_of_keys():
    assert (
        address_of({"a": 1, "b": [1, 2]})
        == address_of({"b": [1, 2], "a": 1})
        != address_of({"a": 1, "b": [2, 1]})
    )


def test_planning_queueing_and_status_load_neither_torch_nor_duckdb():
    modules = ", ".join(
        f"lehr.proxy.sweep.{name}" for name in ("planning", "status", "driver", "local", "worker")
    )
    code = f"import sys, {modules}; print([m for m in ('torch', 'duckdb', 'scipy') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_a_plan_is_a_frozen_value():
    plan = planned()
    assert replace(plan, jobs=plan.jobs[:1]) != plan


def test_a_command_that_cannot_know_the_lr_is_remarked_on(tmp_path):
    for run, number in (("t {out}", 1), ("t {lr}", 0), ("t {peak_lr}", 0), ("t {schedule_csv}", 0)):
        assert len(plan_sweep(load_sweep(commands(tmp_path, run)), "S").remarks) == number, run
