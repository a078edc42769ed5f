"""What every reader of files must stand: cuts at any byte, changed bytes, noise."""

import numpy as np
from hypothesis import strategies as st

from lehr.errors import InputError


def read_all(reader, path):
    """Every log of a file, or the text of the error that refused it."""
    try:
        return list(reader(path)), ""
    except InputError as error:
        return None, str(error)


def values(log):
    """All that a log holds, to compare."""
    return {
        name: (one.step.tolist(), np.nan_to_num(one.value, nan=-1.5).tolist())
        for name, one in log.series.items()
    }


def cut_everywhere(reader, path, content, told=("cut",), boundary=None):
    """Read every beginning of a file: refused with a text, or read in part and told, or nothing is missing.

    A cut after `boundary`, the end of a record, cannot be told: it is what the file was when it was shorter.
    """
    path.write_bytes(content)
    whole = [values(log) for log in reader(path)]
    partial = 0
    for length in range(len(content)):
        path.write_bytes(content[:length])
        found, text = read_all(reader, path)
        if found is None:
            assert path.name in text
            continue
        if [values(log) for log in found] != whole:
            partial += 1
            if boundary and content[:length].endswith(boundary):
                continue
            report = " ".join(line for log in found for line in log.report)
            assert any(word in report for word in told), (length, content[:length][-40:], report)
    path.write_bytes(content)
    return partial


def mutations(content):
    """Strategy: a content with a few bytes changed, taken out or put in."""
    new = st.binary(max_size=6) | st.sampled_from([b'"', b"{", b"\n", b"9" * 400])
    edit = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 6), new)

    def apply(edits):
        out = content
        for at, width, new in edits:
            out = out[:at] + new + out[at + width :]
        return out

    return st.lists(edit, min_size=1, max_size=4).map(apply)
