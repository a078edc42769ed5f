"""Fixtures shared by all tests."""

import os
import signal
from pathlib import Path

import pytest
from tests.skipping import Skipped

REPO = Path(__file__).resolve().parents[1]

# shells start jobs in the background deaf to Ctrl-C, and so would be the processes that tests start and interrupt
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_addoption(parser):
    parser.addoption("--still-skipped", action="store_true", help="run only what earlier runs skipped")


def pytest_configure(config):
    if hasattr(config, "cache"):
        config.pluginmanager.register(Skipped(config))
    elif config.getoption("--still-skipped"):
        raise pytest.UsageError("--still-skipped needs pytest's cache, which `-p no:cacheprovider` turns off")


@pytest.fixture(scope="session")
def lehr_data() -> Path:
    """Folder of public training curves: $LEHR_DATA, or the one beside the repository."""
    folder = Path(os.environ.get("LEHR_DATA", REPO / "../shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no public curves at {folder}: set LEHR_DATA to their folder")
    return folder
