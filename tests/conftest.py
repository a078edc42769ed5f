"""Fixtures shared by all tests."""

import os
from pathlib import Path

import pytest

REPO = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def lehr_data() -> Path:
    """Folder of public training curves: $LEHR_DATA, or the one beside the repository."""
    folder = Path(os.environ.get("LEHR_DATA", REPO / "../shared/data"))
    if not folder.is_dir():
        pytest.skip(f"no public curves at {folder}: set LEHR_DATA to their folder")
    return folder
