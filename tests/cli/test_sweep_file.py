"""`--sweep`: the plans that verbs print, written for `lehr sweep`, trained, and asked again with what came out."""

import math
import tomllib
from dataclasses import replace

import pytest
from tests.synthetic import CASES, make_runs

from lehr.cli import sweep_file
from lehr.proxy.sweep.planning import plan_sweep
from lehr.proxy.sweep.spec import load_sweep
from lehr.runs.store import add_runs

BASE = """
name = "base"
[model]
depth = 1
width = 16
heads = 1
context = 16
[data]
vocab_size = 32
[training]
schedule = "cosine(steps=100, peak=1e-2, warmup=2)"
batch = 4
seed = 3
validate_sequences = 4
"""
SIZES = (3408, 12672, 50400)
PLAN = (
    "peak-lr", "plan", "--params", "3408,12672,50400", "--tokens", "1280,2560", "--target-params", 2e5,
    "--target-tokens", 2e4, "--budget-runs", 30, "--prior", 0.02,
)  # fmt: skip
BATCH = ("--batch", "64,128", "--target-batch", 256)


@pytest.fixture
def base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base.toml").write_text(BASE)
    return tmp_path / "base.toml"


def read(path):
    """Plan of a written sweep, which loads as any other."""
    return plan_sweep(load_sweep(path), str(path)).plan


def told(job):
    facts = job.facts
    return facts["peak_lr"], facts["params"], job.steps * facts["batch_tokens"], facts["batch_tokens"]


@pytest.mark.parametrize("cooldown", [0.2, 1])
@pytest.mark.parametrize("batch", [(), BATCH])
def test_the_runs_of_the_file_are_those_of_the_plan(lehr, base, cooldown, batch):
    options = (*PLAN, *batch, "--cooldown", cooldown)
    found = lehr(*options, "--sweep", "p.toml", "--base", "base.toml", "--json")
    assert found.code == 0, found.err
    assert found.json == lehr(*options, "--json").json, "the same plan with and without a file"
    plan = read("p.toml")
    trunks = {job.parent for job in plan.jobs}
    runs = [job for job in plan.jobs if job.address not in trunks]
    wanted = [(run["lr"], run["params"], run["tokens"], run["batch"] or 64) for run in found.json["runs"]]
    assert sorted(map(told, runs)) == sorted(wanted) and {job.facts["seed"] for job in runs} == {3}
    assert f"written: p.toml, {len(plan.jobs)} runs" in found.err
    if cooldown < 1:
        assert {job.schedule.partition("(")[0] for job in runs} == {"wsd"}
        assert {round(1 - job.branch_step / job.steps, 9) for job in runs} == {0.2}
        assert len(plan.jobs) - len(runs) == len({run["trunk"] for run in found.json["runs"]})
    else:
        assert {job.schedule.partition("(")[0] for job in runs} == {"cosine"} and trunks == {None}


def test_a_command_is_left_to_fill_in_and_then_runs(lehr, base):
    found = lehr(*PLAN, "--batch", 64, "--sweep", "p.toml")
    assert "written: p.toml; fill in its commented lines" in found.err
    assert (
        lehr("sweep", "p.toml", "--dry-run").refused() == "error: p.toml: command.run is missing: give it.\n"
    )
    text = base.with_name("p.toml").read_text().replace("# run", "run").replace("# log", "log")
    base.with_name("q.toml").write_text(text)
    message = lehr("sweep", "q.toml", "--dry-run").refused()
    assert message.startswith("error: q.toml: run p-R1: training.schedule: unknown placeholder 'warmup'")
    base.with_name("q.toml").write_text(text.replace("# warmup = 500", "warmup = 2"))
    runs = read("q.toml").jobs
    asked = lehr(*PLAN, "--batch", 64, "--json").json["runs"]
    assert sorted(map(told, runs)) == sorted((r["lr"], r["params"], r["tokens"], r["batch"]) for r in asked)
    assert all(math.isclose(job.flops, 6 * job.facts["params"] * 64 * job.steps) for job in runs)


def test_a_command_that_branches_gets_trunks(lehr, base, tmp_path):
    run = "train {params} {schedule_csv} --from {parent_out} --at {branch_step} --keep {keep} --out {out}"
    (tmp_path / "c.toml").write_text(
        f'[command]\nrun = "{run}"\n[values]\nwarmup = 2\nbatch_tokens = 64\ndataset = "d"\n'
    )
    assert lehr(*PLAN, "--sweep", "p.toml", "--base", "c.toml").code == 0
    jobs = read("p.toml").jobs
    assert {job.branch_step / job.steps for job in jobs if job.parent} == {0.8} and jobs[0].facts[
        "dataset"
    ] == "d"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--base", "base.toml"), "--base goes with --sweep, which is not given: add it, or leave --base out."),
        (("--sweep", "base.toml"), "base.toml exists: name another file, or remove it."),
        (("--sweep", "p.toml"), "a sweep counts updates, and the plan tokens: give --batch, or --base with the"),
        (("--sweep", "p.toml", "--batch", "60", "--base", "base.toml"),
         "--batch must be whole sequences of 16 tokens, as base.toml has, got 60.0: take 64."),
        (("--sweep", "p.toml", "--batch", "96", "--base", "base.toml"), "--tokens must be whole updates of 96 tokens"),
        (("--sweep", "p.toml", "--base", "base.toml", "--active-params", "3408,12672,50400"),
         "base.toml is dense: leave --active-params out, or give a base with [model.experts]."),
        (("--sweep", "p.toml", "--batch", "64", "--active-params", "3408,12672,50400"),
         "a sweep of models of experts needs their number: give --base, a file with [model.experts], or one with a"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_before_planning(lehr, base, options, message):
    assert lehr(*PLAN, *options).refused().startswith(f"error: {message}")


# parameters but embeddings at widths 16, 32 and 64: all, and those a token meets
EXPERTS = {4240: 2704, 16640: 10496, 66016: 41440}
OF_EXPERTS = (
    "peak-lr", "plan", "--params", ",".join(map(str, EXPERTS)), "--tokens", "1280,2560", "--target-params", 2e5,
    "--target-active", 1e5, "--target-tokens", 2e4, "--budget-runs", 30, "--prior", 0.02,
)  # fmt: skip
ACTIVE = ("--active-params", ",".join(map(str, EXPERTS.values())))


def test_models_of_experts_are_planned_and_written_by_all_and_by_active_parameters(lehr, base):
    base.write_text(BASE + "[model.experts]\ncount = 4\ntop_k = 2\nwidth = 16\n")
    found = lehr(*OF_EXPERTS, *ACTIVE, "--sweep", "p.toml", "--base", "base.toml", "--json")
    assert found.code == 0, found.err
    runs = [job for job in read("p.toml").jobs if job.parent]
    wanted = [(run["lr"], EXPERTS[run["params"]], run["tokens"], 64) for run in found.json["runs"]]
    assert sorted(map(told, runs)) == sorted(wanted)
    sizes = {(job.facts["params_total"], job.facts["params"]) for job in runs}
    assert sizes <= set(EXPERTS.items()) and len(sizes) > 1
    assert {job.payload["model"]["experts"]["width"] for job in runs} <= {16, 32, 64}
    message = lehr(*OF_EXPERTS, "--sweep", "q.toml", "--base", "base.toml").refused()
    assert message.startswith(
        "error: --active-params must be those of the models of experts of base.toml, within 1%"
    )
    assert message.endswith(f"take --active-params {ACTIVE[1]}.\n")


def test_a_command_for_models_of_experts_is_told_all_and_active_parameters(lehr, base, tmp_path):
    run = "train {params_total} {params} {experts} {schedule_csv} --out {out}"
    (tmp_path / "c.toml").write_text(
        f'[command]\nrun = "{run}"\n[values]\nwarmup = 2\nbatch_tokens = 64\nexperts = 4\n'
    )
    found = lehr(*OF_EXPERTS, *ACTIVE, "--sweep", "p.toml", "--base", "c.toml")
    assert found.code == 0, found.err
    jobs = read("p.toml").jobs
    assert {(job.facts["params_total"], job.facts["params"]) for job in jobs} <= set(EXPERTS.items())
    assert {job.facts["experts"] for job in jobs} == {4}


def test_a_cosine_of_which_the_form_at_another_length_is_unknown(lehr, base):
    base.write_text(BASE.replace("warmup=2)", "warmup=2, final=1e-3)"))
    message = lehr(*PLAN, "--cooldown", 1, "--sweep", "p.toml", "--base", "base.toml").refused()
    assert message.startswith(
        "error: base.toml: a cosine with a final LR or a cycle of its own does not say what"
    )


def test_a_plan_that_stops_writes_nothing(lehr, base, tmp_path):
    rows = "\n".join(
        f"{lr},{4 + 0.3 * math.log(lr / 0.02) ** 2 - n / 1e5},{n},{d}"
        for lr in (0.005, 0.01, 0.02, 0.04, 0.08) for n in SIZES for d in (1280, 2560)
    )  # fmt: skip
    (tmp_path / "done.csv").write_text(f"lr,loss,params,tokens\n{rows}\n")
    found = lehr(*PLAN, "--sweep", "p.toml", "--base", "base.toml", "--results", "done.csv")
    assert (
        found.code == 0
        and "stop: " in found.out
        and "p.toml was not written: there is no run to do" in found.err
    )
    assert not (tmp_path / "p.toml").exists()


SUGGEST = ("--suggest", "--steps", 16000, "--peak-lr", 2e-3, "--budget", 3000)
SIZED = BASE.replace("steps=100", "steps=1000").replace("warmup=2", "warmup=50")


@pytest.mark.parametrize("branching", [True, False])
def test_a_suggestion_becomes_a_sweep(lehr, store, base, branching):
    base.write_text(SIZED if branching else '[command]\nrun = "t {schedule_csv}"\n[values]\nwarmup = 5\n')
    options = ("fit", store, "--law", "tissue", "--draws", 20, *SUGGEST, "--json")
    found = lehr(*options, "--sweep", "more.toml", "--base", "base.toml")
    assert found.code == 0, found.err
    runs = found.json["suggestions"]["best"][0]["runs"]
    jobs = read("more.toml").jobs
    if branching or len(runs) == 1:
        assert [(j.schedule, j.branch_step or None) for j in jobs] == [
            (r["schedule"], r["branch_step"]) for r in runs
        ]
    else:
        assert [job.schedule for job in jobs] == [run["schedule"] for run in runs[1:]]


def test_trunks_of_suggestions_are_laid_out_for_both_kinds_of_base(monkeypatch):
    from lehr.anneal.plans import _trunk

    plan = _trunk(1234, 2e-3, 10, (0.1, 0.3, 0.6))
    (entry,) = sweep_file._suggested(plan, "s", True)
    assert entry.ends == (1234,) and [round(r * 1234) for r in entry.ratios] == [123, 370, 740]
    assert entry.ratios == (0.1, 0.3, 0.6), "short ones, for they stand in names"
    alone = sweep_file._suggested(plan, "s", False)
    assert [e.fields["training.schedule"] for e in alone] == list(plan.specs[1:])


def test_the_base_of_a_suggestion_is_what_trained_the_runs(lehr, tmp_path, base):
    add_runs(tmp_path / "sized", [replace(run, params=1e8) for run in make_runs(CASES["tissue"])])
    options = ("fit", "sized", "--law", "tissue", "--draws", 20, *SUGGEST, "--sweep", "more.toml")
    message = lehr(*options, "--base", "base.toml").refused()
    assert message.startswith(
        "error: base.toml has 3408 parameters, but the fitted runs have 1e+08: give the config"
    )
    assert (
        lehr("fit", "sized", "--sweep", "m.toml")
        .refused()
        .startswith("error: --sweep goes with --suggest, which")
    )
    assert lehr(*options).code == 0
    assert tomllib.loads((tmp_path / "more.toml").read_text())["values"]["params"] == 100_000_000


def test_the_whole_circle(lehr, base, tmp_path):
    """Plan, sweep, plan again with the results, fit both kinds of laws."""
    pytest.importorskip("torch", reason="needs the [train] extra")
    options, own = (*PLAN, "--at-once", 7), ("--base", "base.toml")
    assert lehr(*options, *own, "--sweep", "first.toml").code == 0
    assert lehr("sweep", "first.toml", "--workers", 2, "--store", "store").code == 0
    again = lehr(*options, *own, "--sweep", "second.toml", "--results", "sweeps/first/results.csv", "--json")
    assert again.code == 0, again.err
    assert again.json["done_runs"] == 7 and again.json["runs"]
    seen = {told(job) for job in read("first.toml").jobs if job.parent}
    assert not seen & {told(job) for job in read("second.toml").jobs if job.parent}, (
        "what is done is not asked again"
    )
    assert lehr(*options, "--results", "store", "--json").json == again.json, "the store tells the same"
    table = lehr("peak-lr", "fit", "sweeps/first/results.csv", "--json").json
    assert table["runs"] == 7 and table["formula"].startswith("LR = ")
    names = [job.name for job in read("first.toml").jobs if job.facts["params"] == SIZES[-1]]
    picked = [word for name in names for word in ("--train", name)]
    fitted = lehr(
        "fit",
        "store",
        *picked,
        "--law",
        "tissue",
        "--draws",
        0,
        "--burn-in",
        1,
        "--out",
        "fit.json",
        "--json",
    )
    assert fitted.code == 0 and fitted.json["chosen"] == "tissue", fitted.err
