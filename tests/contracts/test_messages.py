"""The source keeps to its rules: errors of its own with a remedy, nothing executed from files, small parts."""

import ast
import re
from pathlib import Path

import pytest

SRC = Path(__file__).resolve().parents[2] / "src" / "lehr"
FILES = sorted(SRC.rglob("*.py"))
IDS = [str(path.relative_to(SRC)) for path in FILES]
BUILDERS = {"bad", "unknown"}
OWN = {"InputError", "ResultError"}
STARTS_PROCESSES = {
    "proxy/sweep/command.py",
    "proxy/sweep/local.py",
    "proxy/sweep/ray_task.py",
    "proxy/sweep/slurm_commands.py",
}  # the user's command, our own workers, and Slurm's programs
LONGEST_FUNCTION, LONGEST_FILE = 60, 400  # lines; of a function those after its docstring

each_file = pytest.mark.parametrize("path", FILES, ids=IDS)


def nodes(path, kind):
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, kind)]


@each_file
def test_no_error_is_swallowed_whole(path):
    for node in nodes(path, ast.ExceptHandler):
        assert node.type is not None, f"line {node.lineno}: bare except"
        if ast.unparse(node.type) in ("Exception", "BaseException"):
            last = node.body[-1]
            assert isinstance(last, ast.Raise) and last.exc is None, (
                f"line {node.lineno}: it must raise again"
            )


@each_file
def test_nothing_from_a_file_is_executed(path):
    called = {ast.unparse(node.func) for node in nodes(path, ast.Call)}
    assert not called & {"eval", "exec", "compile", "__import__", "os.system", "np.load", "numpy.load"}
    named = {alias.name for node in nodes(path, (ast.Import, ast.ImportFrom)) for alias in node.names}
    for node in nodes(path, ast.ImportFrom):
        if [alias.name for alias in node.names] != ["UnpicklingError"]:  # an error executes nothing
            named.add(node.module)
    banned = {"pickle", "marshal", "shelve", "dill", "joblib", "subprocess"}
    if path.relative_to(SRC).as_posix() in STARTS_PROCESSES:
        banned.remove("subprocess")
    assert not named & banned


@each_file
def test_functions_and_files_are_short(path):
    assert len(path.read_text().splitlines()) <= LONGEST_FILE
    for node in nodes(path, (ast.FunctionDef, ast.AsyncFunctionDef)):
        documented = ast.get_docstring(node) is not None
        first = node.body[0].end_lineno + 1 if documented else node.body[0].lineno
        assert node.end_lineno - first + 1 <= LONGEST_FUNCTION, node.name


@each_file
def test_nothing_is_left_to_do(path):
    assert not re.search(r"\b(TODO|FIXME|XXX|HACK)\b", path.read_text())


@each_file
def test_nothing_is_printed_outside_the_command_line(path):
    if path.parent.name != "cli":
        assert "print" not in {ast.unparse(node.func) for node in nodes(path, ast.Call)}


@each_file
def test_raised_errors_are_lehrs_own_and_end_with_a_stop(path):
    """Every `raise` of a message is built by lehr.errors, and a literal one is a sentence."""
    for node in nodes(path, ast.Raise):
        if not isinstance(node.exc, ast.Call):
            continue  # raised again, or an exception class such as typer.Exit
        name = ast.unparse(node.exc.func)
        if name.rpartition(".")[2] in BUILDERS | OWN and name.rpartition(".")[2] in OWN:
            text = ast.unparse(node.exc.args[0]).rstrip("'\"")
            literal = isinstance(node.exc.args[0], (ast.Constant, ast.JoinedStr))
            assert not literal or text.endswith((".", "}")), f"line {node.lineno}: {text}"


def test_the_checks_see_what_they_should(tmp_path):
    path = tmp_path / "wrong.py"
    path.write_text("import pickle\ntry:\n    eval('1')\nexcept:\n    print('x')  # TODO\n")
    for check in (
        test_no_error_is_swallowed_whole,
        test_nothing_from_a_file_is_executed,
        test_nothing_is_left_to_do,
        test_nothing_is_printed_outside_the_command_line,
    ):
        with pytest.raises(AssertionError):
            check(path)
    path.write_text("def f():\n" + "    x = 1\n" * 61)
    with pytest.raises(AssertionError):
        test_functions_and_files_are_short(path)
    path.write_text("raise InputError('no stop at the end')\n")
    with pytest.raises(AssertionError):
        test_raised_errors_are_lehrs_own_and_end_with_a_stop(path)
