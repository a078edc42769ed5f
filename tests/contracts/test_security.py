"""The promises of SECURITY.md: nothing is executed, opened, written or shown but as it says."""

import ast
import gzip
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import unicodedata
import zipfile
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import call
from tests.synthetic import CASES, make_runs

from lehr.cli.common import progress
from lehr.errors import InputError
from lehr.predict import Prediction
from lehr.report.figures import curves, to_svg
from lehr.report.page import Section, render
from lehr.runs import discovery
from lehr.runs.readers import FORMATS, databases, detect, frame, mlflow_sqlite, read_all
from lehr.runs.readers.beside import parse_table
from lehr.runs.run import Run
from lehr.schedule.spec import parse, to_text

ROOT = Path(__file__).resolve().parents[2]
SRC, SAMPLES = ROOT / "src", ROOT / "tests" / "runs" / "samples"
PROMISES = (ROOT / "SECURITY.md").read_text()

# nothing of these is imported, or called, but where it is named
MODULES = {
    "pickle", "cPickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib", "yaml", "subprocess", "pty",
    "ctypes", "cffi", "runpy", "code", "codeop", "pdb", "socket", "socketserver", "ssl", "http", "urllib", "ftplib",
    "smtplib", "telnetlib", "requests", "httpx", "aiohttp", "xmlrpc", "webbrowser", "xml", "zipfile", "tarfile",
    "gzip", "bz2", "lzma", "multiprocessing", "importlib",
}  # fmt: skip
CALLS = {"eval", "exec", "compile", "__import__", "breakpoint", "input"}
OF_OS = re.compile(r"(system|popen|fork|forkpty|exec\w*|spawn\w*|posix_spawn\w*|startfile)\Z")
EXCEPTIONS = {
    ("lehr/__init__.py", "importlib"): "lehr's own modules, by a table of names",
    ("lehr/runs/readers/wandb_online.py", "importlib"): "the package wandb, for addresses alone",
    ("lehr/checkpoints/pickled.py", "pickle"): "the name of an error",
    ("lehr/fit/parallel.py", "multiprocessing"): "processes of its own that share the laws",
    ("lehr/report/page.py", "importlib"): "a file of the package",
    ("lehr/examples/__init__.py", "importlib"): "a file of the package",
    ("lehr/cli/peak_lr_compare.py", "importlib"): "a file of the package",
    ("lehr/cli/sweep.py", "importlib"): "asks whether torch is installed",
    ("lehr/runs/arrow.py", "ctypes"): "numbers that DuckDB holds in memory",
    ("lehr/proxy/sweep/local.py", "subprocess"): "workers of its own",
    ("lehr/proxy/sweep/command.py", "subprocess"): "the command that the user's sweep names, without a shell",
    ("lehr/proxy/sweep/queue.py", "socket"): "the name of the machine",
}


def found_in(path):
    """Names that a module imports or calls, of those above; loads of pickles that are not restricted."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            found |= {node.module.split(".")[0]} & MODULES
        elif isinstance(node, ast.Call):
            found |= _called(node)
    return found


def _called(node):
    named = {keyword.arg: keyword.value for keyword in node.keywords}
    if isinstance(node.func, ast.Name):
        return {node.func.id} & CALLS
    if not isinstance(node.func, ast.Attribute):
        return set()
    owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
    name, found = node.func.attr, set()
    if owner == "os" and OF_OS.match(name):
        found.add(f"os.{name}")
    if owner == "torch" and name == "load" and not _is(named.get("weights_only"), True):
        found.add("torch.load without weights_only")
    if owner in ("np", "numpy") and name == "load" and "allow_pickle" in named:
        found.add("numpy.load of pickles")
    if "shell" in named:
        found.add("shell")
    return found


def _is(node, value):
    return isinstance(node, ast.Constant) and node.value is value


def test_nothing_in_lehr_can_execute_or_ask_the_network():
    found = {
        (path.relative_to(SRC).as_posix(), name)
        for path in sorted(SRC.rglob("*.py"))
        for name in found_in(path)
    }
    assert found == set(EXCEPTIONS)


def test_results_are_printed_without_what_steers_a_terminal():
    """`print` is called where its text is cleaned, is JSON, or is the code that was asked for."""
    places = {
        path.name
        for path in (SRC / "lehr" / "cli").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
        and not (node.args and ast.unparse(node.args[0]).startswith(("clean(", "table(")))
    }  # fmt: skip
    # JSON, the version, the code, JSON again, numbers alone
    assert places == {"common.py", "main.py", "export.py", "runs.py", "sweep.py"}


def test_the_search_sees_what_it_is_for(tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        "import pickle, os\nfrom urllib.request import urlopen\nos.system('x')\neval('1')\ntorch.load(f)\n"
        "torch.load(f, weights_only=False)\ntorch.load(f, weights_only=True)\nrun('x', shell=True)\nmodel.eval()\n"
        "os.execv(a, b)\nre.compile('x')\nnp.load(f, allow_pickle=True)\nprint(x.run())\nx.run('a', shell=True)\n"
    )
    assert found_in(path) == {
        "pickle", "urllib", "os.system", "eval", "torch.load without weights_only", "os.execv", "numpy.load of pickles",
        "shell",
    }  # fmt: skip


def test_only_addresses_of_wandb_are_on_the_network():
    assert [name for name, known in FORMATS.items() if known.address] == ["wandb"]
    assert not FORMATS["wandb"].sniff(Path("wandb-export.csv"))


# names

NAMES = [
    "red\x1b[31m", "link\x1b]8;;http://example.org\x1b\\text\x1b]8;;\x1b\\", "c1\x9b31m\x85next", "title\x1b]0;x\x07",
    "<script>alert('x')</script><img src=x onerror=alert(1)>", "bidi\u202egnp.\u2066x", "nul\0byte", "long" * 3000,
    "../../../escape", "/etc/passwd", "..", "sur\ud800rogate", "two\nlines\r\x08\ttab", "'; DROP TABLE runs; --",
    "[red]markup[/nothing]", "{{ 7 * 7 }}", "$\\frac$", "CON", "a" * 60 + "/b", "\u2028line\u200b",
]  # fmt: skip


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A store made of logs with those names; the folder that it is in, and what the imports printed."""
    folder = tmp_path_factory.mktemp("names") / "deep" / "er"
    folder.mkdir(parents=True)
    rng, shown = np.random.default_rng(0), []
    bases = [run for run in make_runs(CASES["tissue"], noise=1e-4, every=200) if run.name.startswith("wsd")][
        :2
    ]
    for place, base in enumerate(bases):
        path, rows = folder / f"{place}.jsonl", []
        for name in NAMES[place :: len(bases)]:
            for step, loss in zip(base.step.tolist(), base.loss.tolist(), strict=True):
                rows.append(
                    {"run": name, "step": int(step), "train": {"loss": loss * (1 + 1e-4 * rng.normal())}}
                )
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        shown.append(call("import", path, "--into", folder / "store", "--schedule", to_text(base.schedule)))
        assert shown[-1].code == 0, shown[-1].err
    return folder, shown


def harmless(text, allowed="\n"):
    """Whether a terminal or page shows a text as it is: line ends, and nothing else that steers."""
    return not [c for c in text if c not in allowed and unicodedata.category(c).startswith("C")]


def test_names_do_not_steer_the_terminal(stored):
    folder, shown = stored
    listed = call("runs", folder / "store")
    for outcome in (*shown, listed):
        assert harmless(outcome.out) and harmless(outcome.err)
    assert listed.out.count("\n") == 1 + len(NAMES)
    everything = call("runs", folder / "store", "--json")
    assert sorted(run["name"] for run in everything.json["runs"]) == sorted(NAMES)
    assert everything.out.isascii() and harmless(everything.out)


def test_names_make_no_paths(stored):
    folder, _ = stored
    files = [
        path for path in (folder / "store").rglob("*") if path.is_file() and not path.name.startswith(".")
    ]
    assert len(files) == 2 * len(NAMES)
    for path in files:
        assert path.parent == folder / "store" / "runs"
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,120}\.(json|parquet)", path.name)
    assert {path.name for path in folder.iterdir()} <= {"0.jsonl", "1.jsonl", "store", "fit.json"}
    assert [path.name for path in folder.parent.iterdir()] == ["er"]


def test_names_in_fits_plans_and_refusals(stored):
    folder, _ = stored
    out, chosen = (
        folder / "fit.json",
        [("--train", name) for name in ("red*", "<*", "bidi*", "two*", "nul*", "sur*")],
    )
    fitted = call("fit", folder / "store", "--law", "tissue", "--draws", 0, "--out", out, *sum(chosen, ()))
    assert fitted.code == 0, fitted.err
    assert all(json.dumps(name)[1:-1] in out.read_text() for name in (NAMES[0], NAMES[5], NAMES[11]))
    planned = call("recommend", out, "--steps", 8000, "--peak-lr", "1e-3")
    assert planned.code == 0, planned.err
    refused = call("fit", folder / "store", "--train", "\x1b[31mred\u202e")
    assert refused.code == 2
    for outcome in (fitted, planned, refused):
        assert harmless(outcome.out) and harmless(outcome.err)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:12]))
def test_names_in_pages_and_figures(name):
    step = np.arange(100.0, 1001, 100)
    loss = 3 - step / 1000
    run = Run(name, parse("wsd(steps=1000, peak=1e-3, decay=200)"), step, loss)
    svg = to_svg(curves([(run, Prediction(step, loss, loss - 0.1, loss + 0.1, 0.9, ()))], name))
    page = render(name, name, [Section(name, name, [name], [[name]], svg, name)], {name: name})
    page.encode("utf-8", "strict")
    assert not re.search(r"<(script|img|iframe|object|embed|foreignObject)\b", page)
    assert harmless(page, "\n\t")


def test_names_in_a_bar_of_progress(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress(len(NAMES), "fitting") as step:
        for name in NAMES:
            step(name)
    assert "\x1b]8" not in capsys.readouterr().err


# files


@pytest.mark.parametrize("kind", ["gzip", "zip"])
def test_compressed_files_are_refused_unopened(tmp_path, kind):
    path, rows = tmp_path / "log.csv", b"step,lr,loss\n" + b"1,0.1,2.5\n" * 2_000_000
    if kind == "gzip":
        path.write_bytes(gzip.compress(rows, 9))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("log.csv", rows)
    assert path.stat().st_size < len(rows) / 200
    with pytest.raises(InputError, match="is not a log of a known format .* uncompressed"):
        detect(path)
    for name, known in FORMATS.items():
        if not (known.folder or known.address):
            with pytest.raises(InputError):
                read_all([path], format=name)


def test_parquet_with_rows_without_end_is_refused(tmp_path, monkeypatch):
    import duckdb

    path = tmp_path / "bomb.parquet"
    duckdb.sql(f"COPY (SELECT 1 AS step, 2.5 AS loss FROM range(60000000)) TO '{path}' (FORMAT parquet)")
    assert path.stat().st_size < 1_000_000
    with pytest.raises(InputError, match=r"bomb\.parquet has 60000000 rows, more than 50000000"):
        read_all([path])
    monkeypatch.setattr(frame, "MOST_ROWS", 60_000_000)
    assert frame.open_frame(path).names == ("step", "loss")


def test_updates_without_end_are_refused(tmp_path):
    """A row far away under LRs of no known shape would ask for a list of all LRs between."""
    path = tmp_path / "far.csv"
    for last in (6_000_000, 10**12, 10**18):
        path.write_text(f"step,lr,loss\n0,1e-3,3\n1,3e-3,2.9\n2,1e-3,2.8\n5,7e-4,2.7\n{last},1e-5,2.5\n")
        with pytest.raises(InputError, match=r"are too many to list \(more than 5000000\)|steps below 2\^53"):
            read_all([path])


def test_a_database_whose_pages_repeat_is_refused(tmp_path):
    """A page for two rows, named as each of its parent's children, would be read again and again."""
    path = tmp_path / "mlflow.db"
    shutil.copy(SAMPLES / "mlflow" / "mlflow.db", path)
    with closing(sqlite3.connect(path)) as connection:
        (run,) = connection.execute("SELECT run_uuid FROM runs").fetchone()
        rows = [("loss", 2.5, at, run, at, 0) for at in range(20_000)]
        connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", rows)
        connection.commit()
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'metrics'").fetchone()
    data, size = bytearray(path.read_bytes()), 512
    begin = (root - 1) * size
    assert data[begin] == 5  # an inner page of a table
    cells = int.from_bytes(data[begin + 3 : begin + 5], "big")
    places = [int.from_bytes(data[begin + 12 + 2 * at :][:2], "big") for at in range(cells)]
    for place in places:
        data[begin + place : begin + place + 4] = data[begin + places[0] : begin + places[0] + 4]
    path.write_bytes(data)
    with pytest.raises(
        InputError, match=r"mlflow\.db is damaged \(a page of it is used twice\): copy it again"
    ):
        list(mlflow_sqlite.logs(path))


def test_work_for_a_database_is_bounded(monkeypatch):
    monkeypatch.setattr(databases, "STEPS", 1000)
    monkeypatch.setattr(databases, "MOST_STEPS", 20_000)
    with pytest.raises(InputError, match=r"mlflow\.db is damaged or cut off \(interrupted\)"):
        with databases.opened(SAMPLES / "mlflow" / "mlflow.db") as connection:
            connection.execute(
                "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r"
            )


BESIDE = [
    ("trainer-state/trainer_state.json", "config.json"), ("json-lines/metrics.jsonl", "config.yaml"),
    ("lightning/metrics.csv", "hparams.yaml"), ("table/trunk.csv", "meta.yaml"), ("torchtitan/train.log", "a.toml"),
    ("nanogpt/gpt.log", "a.py"), ("table/trunk.csv", "log.csv"), ("mlflow/mlflow.db", "mlflow.db-journal"),
    ("trackio/tiny.db", "tiny.db-wal"),
]  # fmt: skip


def test_pipes_and_circles_do_not_hang(tmp_path):
    """Everything at once, in a process that can be stopped: nothing of it opens a pipe."""
    for place, (sample, beside) in enumerate(BESIDE):
        folder = tmp_path / "logs" / str(place)
        folder.mkdir(parents=True)
        shutil.copy(SAMPLES / sample, folder)
        os.mkfifo(folder / beside)
        for link in ("one", "two", "three"):
            (folder / link).symlink_to(".")
        (folder / "device").symlink_to("/dev/zero")
    code = (
        "import sys\nfrom lehr.runs.importing import prepare\n"
        "for given in sys.argv[1:]:\n"
        "    try:\n        print(len(prepare([given], 'none').runs))\n"
        "    except ValueError as error:\n        print(error)\n"
    )
    given = [*sorted((tmp_path / "logs").iterdir()), tmp_path / "logs" / "2" / "**" / "*.csv"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, given)], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(SRC)}, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[:7] == ["1"] * 7
    for line in lines[7:9]:
        assert re.search(r"mlflow\.db-journal|tiny\.db-wal", line) and "is no regular file: remove it" in line
    assert lines[9:] == ["1"]


def test_patterns_find_what_a_shell_finds_but_for_links(tmp_path, monkeypatch):
    for name in ("a/x.csv", "a/b/y.csv", "z.csv", "run-1/m.csv", ".hidden/k.csv", "[o]dd/m.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "up").symlink_to("..")
    monkeypatch.chdir(tmp_path)
    deep = ["[o]dd/m.csv", "a/b/y.csv", "a/x.csv", "run-1/m.csv", "z.csv"]
    assert sorted(discovery._matching("**/*.csv")) == deep
    assert sorted(discovery._matching(f"{tmp_path}/**/*.csv")) == [f"{tmp_path}/{name}" for name in deep]
    assert discovery._matching("a/**") == {"a/"}  # a folder stands for all below it
    assert discovery._matching("run-*/**/m.csv") == {"run-1/m.csv"}
    assert discovery._matching("run-**/m.csv") == {"run-1/m.csv"}
    assert discovery._matching("a/**/b/*.csv") == {"a/b/y.csv"}
    monkeypatch.setattr(discovery, "MOST", 2)
    with pytest.raises(InputError, match=r"the folders below \. must not exceed 2, got 'more than 2'"):
        discovery._matching("**/*.csv")


def test_reading_writes_nothing(tmp_path):
    for path in SAMPLES.iterdir():
        shutil.copytree(path, tmp_path / path.name)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for name in FORMATS:
        for path in sorted((tmp_path / name).glob("[!f]*")):
            try:
                read_all([path])
            except InputError:
                continue
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')", "(lambda: 1)()", "{'a': open('/etc/passwd')}", "[" * 131072, "-" * 131071 + "1",
        "a" + ".a" * 60000, "{1:" * 40000, "9" * 131072, "1<" * 60000 + "1", '{"a":' * 100_000, "1 if 1 else " * 9000,
    ],
    ids=lambda text: text[:9],
)  # fmt: skip
def test_settings_are_literals_or_nothing(text):
    assert parse_table(text) is None


def test_a_schedule_as_text_is_no_program():
    for text in (
        "__import__('os').system('x')",
        "wsd(steps=(lambda: 1)())",
        "open('/etc/passwd')",
        "constant(" * 9999,
    ):
        with pytest.raises(InputError):
            parse(text)


@pytest.mark.parametrize("name", sorted({Path(name).name for _, name in EXCEPTIONS if name == "pickle"}))
def test_what_is_excepted_is_told(name):
    assert name in PROMISES
