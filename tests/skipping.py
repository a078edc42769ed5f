"""The option `--still-skipped`: run what earlier runs skipped for want of a package or a program, and nothing twice."""

from __future__ import annotations

import pytest

KEY = "lehr/skipped"  # in pytest's cache


def file_of(node: str) -> str:
    """Path of the file of a node, from the root."""
    return node.partition("::")[0]


class Skipped:
    """Keeps the list of tests, and of whole files, that were skipped and have not run since.

    Parameters
    ----------
    config : of pytest.
    """

    def __init__(self, config):
        self.config, self.seen, self.ran = config, set(), set()
        self.chosen = config.getoption("--still-skipped")
        self.before = set(config.cache.get(KEY, [])) if self.chosen else set()
        self.files = set(map(file_of, self.before))

    def pytest_ignore_collect(self, collection_path):
        """Leave out files of which nothing was skipped."""
        if not self.chosen or collection_path.is_dir():
            return None
        return collection_path.relative_to(self.config.rootpath).as_posix() not in self.files or None

    def pytest_collection_modifyitems(self, items):
        """Leave out tests that were not skipped."""
        if self.chosen:
            out = [item for item in items if not {item.nodeid, file_of(item.nodeid)} & self.before]
            self.config.hook.pytest_deselected(items=out)
            items[:] = [item for item in items if {item.nodeid, file_of(item.nodeid)} & self.before]

    def pytest_collectreport(self, report):
        """Take note of a file that was skipped whole."""
        if report.skipped:
            self.seen.add(report.nodeid)

    def pytest_runtest_logreport(self, report):
        """Take note of a test that was skipped, or ran."""
        if report.skipped and not hasattr(report, "wasxfail"):
            self.seen.add(report.nodeid)
        else:
            self.ran |= {report.nodeid, file_of(report.nodeid)}

    def pytest_sessionfinish(self, session, exitstatus):
        """Keep the list; with several workers the process that leads them does. Nothing left to run is no failure."""
        if hasattr(self.config, "workerinput"):
            return
        self.config.cache.set(KEY, sorted((self.before - self.ran) | self.seen))
        if self.chosen and exitstatus == pytest.ExitCode.NO_TESTS_COLLECTED:
            session.exitstatus = pytest.ExitCode.OK
