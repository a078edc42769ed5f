"""The public names are what `lehr.__all__` says, each is documented, and loading them stays lazy."""

from __future__ import annotations

import subprocess
import sys

import pytest

import lehr


@pytest.mark.parametrize("name", [n for n in lehr.__all__ if n != "__version__"])
def test_each_public_name_loads_and_is_documented(name):
    value = getattr(lehr, name)
    assert name == "LAWS" or (value.__doc__ and value.__doc__.strip()), name


def test_the_list_is_sorted_and_is_what_dir_shows():
    assert dir(lehr) == sorted(lehr.__all__)
    names = list(lehr._PUBLIC)
    assert names == sorted(names)


def test_an_unknown_name_is_refused():
    with pytest.raises(AttributeError, match="module 'lehr' has no attribute 'fitt'"):
        _ = lehr.fitt


def test_a_public_name_does_not_hide_a_module():
    code = "import lehr, lehr.fit, lehr.predict; print(type(lehr.fit).__name__, type(lehr.predict).__name__)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["module", "module"]
