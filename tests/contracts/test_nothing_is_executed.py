"""A search of the source: nothing executes, asks the network or prints names raw, but for what SECURITY.md names."""

import ast
import re
from pathlib import Path

import pytest

from lehr.runs.readers import FORMATS

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
    ("lehr/report/markdown.py", "urllib"): "how a path is written in a link",
    ("lehr/examples/__init__.py", "importlib"): "a file of the package",
    ("lehr/cli/peak_lr_compare.py", "importlib"): "a file of the package",
    ("lehr/cli/sweep.py", "importlib"): "asks whether torch is installed",
    ("lehr/runs/arrow.py", "ctypes"): "numbers that DuckDB holds in memory",
    ("lehr/proxy/sweep/local.py", "subprocess"): "workers of its own",
    ("lehr/proxy/sweep/command.py", "subprocess"): "the command that the user's sweep names, without a shell",
    ("lehr/proxy/sweep/queue.py", "socket"): "the name of the machine",
    ("lehr/proxy/sweep/slurm_commands.py", "subprocess"): "the programs of Slurm, for --engine slurm",
    ("lehr/proxy/sweep/ray_task.py", "subprocess"): "workers of its own, on the nodes of a Ray cluster",
    ("lehr/studio/serve.py", "socket"): "listens, by default on 127.0.0.1, where it is asked to",
    ("lehr/proxy/sweep/ray_connect.py", "socket"): "whether the Ray cluster that a sweep names is there",
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


@pytest.mark.parametrize("name", sorted({Path(name).name for _, name in EXCEPTIONS if name == "pickle"}))
def test_what_is_excepted_is_told(name):
    assert name in PROMISES
