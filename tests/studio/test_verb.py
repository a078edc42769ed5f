"""`lehr studio` where its packages are not installed."""

import sys

from tests.cli.conftest import call


def test_what_is_missing_is_told(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("lehr.studio.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    assert (
        call("studio").refused()
        == "error: the studio needs the package uvicorn: pip install 'lehr[studio]'.\n"
    )
