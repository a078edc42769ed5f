"""Written SWEEP.toml files: what reads them finds the runs that were asked for, and the base as it was."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.proxy.sweep.made import planned

from lehr.errors import InputError
from lehr.proxy.config import make_config
from lehr.proxy.counts import count
from lehr.proxy.sweep.base import check_active, load_base, sized, updates_of
from lehr.proxy.sweep.jobs import Job
from lehr.proxy.sweep.outcome import Outcome
from lehr.proxy.sweep.planning import plan_sweep
from lehr.proxy.sweep.results import write_table
from lehr.proxy.sweep.spec import load_sweep
from lehr.proxy.sweep.writing import Draft, Entry, sweep_name, sweep_text, write_sweep

BASE = """
name = "base"
[model]
depth = 1
width = 32
heads = 2
context = 16
[data]
vocab_size = 32
[training]
schedule = "constant(steps=100, peak=1e-2, warmup=4)"
batch = 4
seed = 7
keep = [50]
[transfer]
rule = "mup"
[transfer.base.model]
depth = 1
width = 16
heads = 1
context = 16
"""
COMMAND = """
[command]
run = "train --schedule {schedule_torch} --params {params} --out {out}"
[values]
warmup = 10
batch_tokens = 4096
"""
TRUNK = "constant(steps={updates}, peak={peak_lr}, warmup=4)"


def based(folder, text=BASE):
    (folder / "base.toml").write_text(text)
    return load_base(folder / "base.toml")


def test_a_trunk_has_cooldowns_of_its_own(tmp_path):
    entries = (
        Entry("a", {"peak_lr": 0.1 + 0.2, "updates": 32, "model.width": 64}, (0.2,), (20, 40)),
        Entry("b", {"peak_lr": 1e-5, "updates": 64, "model.width": 32}, (0.2,), (80,)),
    )
    path = tmp_path / "s.toml"
    plan = write_sweep(path, Draft("s", based(tmp_path), TRUNK, entries, ("of\x1b[2J\nevil",)))
    assert path.read_text().startswith("# of?[2J?evil\nname = ")
    assert plan == plan_sweep(load_sweep(path), "s.toml").plan
    assert [(job.name, job.steps, job.branch_step, job.schedule) for job in plan.jobs] == [
        ("a", 32, 0, "constant(steps=32, peak=0.30000000000000004, warmup=4)"),
        ("a-r0.2-20", 20, 16, "wsd(steps=20, peak=0.30000000000000004, warmup=4, decay=4)"),
        ("a-r0.2-40", 40, 32, "wsd(steps=40, peak=0.30000000000000004, warmup=4, decay=8)"),
        ("b", 64, 0, "constant(steps=64, peak=1e-05, warmup=4)"),
        ("b-r0.2-80", 80, 64, "wsd(steps=80, peak=1e-05, warmup=4, decay=16)"),
    ]
    config = make_config(dict(plan.jobs[1].payload))
    assert (config.model.width, config.training.seed, config.transfer.base.model.width) == (64, 7, 16)
    assert make_config(dict(plan.jobs[3].payload)).training.keep == (64,), (
        "the base's own are not for these runs"
    )


def test_a_listed_run_changes_the_common_cooldowns_and_mistakes_are_named():
    common = {"ratios": (0.25,), "shapes": ("linear",)}
    runs = ({"name": "a", "peak_lr": 1e-2, "cooldowns": {"ratios": (0.5,)}}, {"name": "b", "peak_lr": 2e-2})
    plan = planned(grid={}, runs=runs, cooldowns=common)
    assert [job.name for job in plan.jobs] == ["a", "a-r0.5", "b", "b-r0.25"]
    for wrong, message in (
        ({"steps": (20,)}, "S.toml: run a: cooldowns.ratios is missing: give it."),
        ({"ratio": (0.5,)}, "S.toml: run a: unknown key of [cooldowns] 'ratio': did you mean 'ratios'?"),
        ({"ratios": (1.5,)}, "S.toml: run a: cooldowns.ratios.0 must be less than 1, got 1.5: correct it."),
    ):
        with pytest.raises(InputError) as error:
            planned(grid={}, runs=({"name": "a", "peak_lr": 1e-2, "cooldowns": wrong},))
        assert str(error.value).startswith(message)


def test_it_overwrites_nothing_and_needs_a_folder(tmp_path):
    draft = Draft("s", based(tmp_path), "constant(steps=9, peak=1e-3)", (Entry("s", {}),))
    path = tmp_path / "s.toml"
    path.write_text("mine")
    with pytest.raises(InputError, match=r"s\.toml exists: name another file, or remove it\."):
        write_sweep(path, draft)
    assert path.read_text() == "mine"
    with pytest.raises(InputError, match=r"the folder of .*t\.toml does not exist: create it first\."):
        write_sweep(tmp_path / "no" / "t.toml", draft)


def test_runs_that_a_command_could_not_tell_apart_are_refused(tmp_path):
    base = based(tmp_path, COMMAND.replace(" --params {params}", ""))
    entries = tuple(Entry(f"r{n}", {"peak_lr": 1e-3, "updates": 9, "params": n}) for n in (100, 200))
    with pytest.raises(InputError) as error:
        write_sweep(
            tmp_path / "s.toml", Draft("s", base, "constant(steps={updates}, peak={peak_lr})", entries)
        )
    assert "2 runs are planned, but only 1 differ in what the command is told: name what varies" in str(
        error.value
    )
    assert not (tmp_path / "s.toml").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            COMMAND.replace("warmup = 10", ""),
            "values.warmup is missing or no number of updates: give it, 0 for none.",
        ),
        (COMMAND.replace("warmup = 10", "warmup = true"), "values.warmup is missing or no number of updates"),
        (
            COMMAND + "[grid]\nlr = [1e-3]\n",
            "grid is for the sweep to say: a base of a [command] holds command, values,",
        ),
        (
            BASE + '[branch]\nrun = "x"\nstep = 3\n',
            "[branch] goes on from one run: give the configuration of a whole",
        ),
        (BASE.replace("width = 32", "width = 33"), "heads must divide width (33)"),
    ],
)
def test_a_base_that_cannot_be_one(tmp_path, text, message):
    with pytest.raises(InputError) as error:
        based(tmp_path, text)
    assert str(error.value).startswith(f"{tmp_path / 'base.toml'}: ") and message in str(error.value)


def test_a_wrong_command_is_refused_by_the_sweeps_own_words(tmp_path):
    base = based(tmp_path, COMMAND.replace("run =", "runs ="))
    with pytest.raises(InputError, match=r"s\.toml: unknown key of \[command\] 'runs'"):
        write_sweep(tmp_path / "s.toml", Draft("s", base, "constant(steps=9, peak=1e-3)", (Entry("s", {}),)))


def test_sizes_are_those_of_models(tmp_path):
    base = based(tmp_path)
    found = sized(base, [3408, 50200], "--params")
    assert [count(model, 32).non_embedding for model in found.values()] == [3408, 50400]
    assert found[50200].width == 64 and found[50200].heads == 4
    with pytest.raises(InputError) as error:
        sized(base, [3408, 60000, 51000], "--params")
    assert str(error.value) == (
        f"--params must be sizes that {base.source} has at some width, within 1%, got 60000.0: "
        "take --params 3408,50400."
    )


def test_models_of_experts_have_their_active_parameters_told(tmp_path):
    dense = based(tmp_path)
    assert check_active(dense, sized(dense, [3408], "--params").values(), (), "--active") is None
    with pytest.raises(
        InputError, match=r"base.toml is dense: leave --active out, or give a base with \[model"
    ):
        check_active(dense, sized(dense, [3408], "--params").values(), (3408.0,), "--active")
    (tmp_path / "moe").mkdir()
    table = "[model.experts]\ncount = 4\ntop_k = 2\nwidth = 24\n"
    text = BASE.partition("[transfer]")[0] + table
    experts = based(tmp_path / "moe", text)
    plain = count(experts.config.model, 32)
    assert plain.active_non_embedding < plain.non_embedding
    models = sized(experts, [plain.non_embedding, 53728], "--params")
    (small, large) = models.values()
    assert small == experts.config.model and large.width == 2 * small.width
    assert large.experts.width == 48 and (large.experts.count, large.experts.top_k) == (4, 2)
    active = [count(model, 2).active_non_embedding for model in models.values()]
    assert check_active(experts, models.values(), tuple(1.005 * a for a in active), "--active") is None
    for wrong, got in (((), "none"), (tuple(1.02 * a for a in active), f"{1.02 * active[0]:.6g},")):
        with pytest.raises(InputError) as error:
            check_active(experts, models.values(), wrong, "--active")
        assert str(error.value).startswith(
            f"--active must be those of the models of experts of {experts.source}, within 1%, got '{got}"
        )
        assert str(error.value).endswith(f"take --active {active[0]},{active[1]}.")


def test_tokens_are_whole_updates():
    assert updates_of(1003, 10, "--tokens") == 100
    with pytest.raises(
        InputError, match=r"--tokens must be whole updates of 64 tokens, within 1%, got 100: take 128"
    ):
        updates_of(100, 64, "--tokens")


@given(st.text(), st.floats(allow_nan=False), st.lists(st.integers(0, 9)), st.text(min_size=1))
def test_values_come_back_as_they_were(text, number, listed, key):
    import tomllib

    table = {"a": text, "b": number, "c": listed, "d": True, key: {"e": text}}
    base = type("B", (), {"config": None, "tables": {"values": table}, "warmup": 3, "source": "x"})()
    read = tomllib.loads(sweep_text(Draft("s", base, text, ())))
    assert read["values"] == table and read["training"]["schedule"] == text


@pytest.mark.parametrize(
    ("path", "name"), [("a b.toml", "a-b"), ("...toml", "sweep"), ("x" * 99 + ".toml", "x" * 60)]
)
def test_a_sweep_is_named_after_its_file(tmp_path, path, name):
    assert sweep_name(tmp_path / path) == name


def test_what_a_diverged_trunk_would_have_shown_stands_as_diverged(tmp_path):
    trunk, fork, last = (
        Job(name, name, "train", {"model": None}, "", 9, parent=parent, facts={"peak_lr": 1e-2, "seed": 0})
        for name, parent in (("t", None), ("f", "t"), ("g", "f"))
    )
    ended = {"t": Outcome("diverged"), "f": Outcome("skipped"), "g": Outcome("skipped")}
    write_table(tmp_path, [trunk, fork, last], ended)
    rows = (tmp_path / "results.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:3] for row in rows] == [["g", "diverged", "nan"]]
    write_table(tmp_path, [trunk, fork], {"t": Outcome("failed"), "f": Outcome("skipped")})
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 1, "why is not known"
