import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.runs.readers import flat_yaml

SAMPLE = """\
# settings
lr: 0.0003
'quoted key': 'it''s'
"double": "a\\tb"   # comment
empty:
tilde: ~
steps: 1_000
count: 12
neg: -4
exp: 1.0e-05
yes: true
name: my run # not part
url: http://x:80/a#b
inf: .inf
optimizer:
  class_path: torch.optim.AdamW
  init_args:
    lr: 0.1
    betas:
    - 0.9
    - 0.95
    fused: false
devices: [1, 2]
model: !!python/object:torch.nn.Linear
  in_features: 3
  state:
    deep: 1
list:
- a: 1
  b: 2
- c
text: |
  first: 1
  second: 2
folded: one
  two: three
last: &anchor 3
end: x
"""


def test_scalars_and_what_is_skipped():
    found, skipped = flat_yaml.parse(SAMPLE)
    assert math.isinf(found.pop("inf"))
    assert found == {
        "lr": 0.0003, "quoted key": "it's", "double": "a\tb", "empty": None, "tilde": None, "steps": "1_000",
        "count": 12, "neg": -4, "exp": 1e-5, "yes": True, "name": "my run", "url": "http://x:80/a#b",
        "optimizer.class_path": "torch.optim.AdamW", "optimizer.init_args.lr": 0.1,
        "optimizer.init_args.fused": False, "end": "x",
    }  # fmt: skip
    assert skipped == 7


def test_files(tmp_path):
    assert flat_yaml.load(tmp_path / "none.yaml") == ({}, 0)
    assert flat_yaml.load(tmp_path) == ({}, 0)
    path = tmp_path / "a.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: \xff\r\n")
    assert flat_yaml.load(path) == ({"a": 1, "b": "�"}, 0)
    path.write_bytes(b"a: 1\n" + b"#" * flat_yaml.SIZE_LIMIT)
    assert flat_yaml.load(path) == ({}, 1)


KEYS = st.from_regex(r"[A-Za-z_][A-Za-z0-9_/ .-]{0,8}[a-z]", fullmatch=True)
VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False)
    | st.text(max_size=30)
)


@settings(max_examples=150, deadline=None)
@given(
    tree=st.dictionaries(
        KEYS, VALUES | st.dictionaries(KEYS, VALUES | st.lists(VALUES, max_size=3), max_size=4), max_size=5
    )
)
def test_what_pyyaml_dumps_is_read_the_same_or_skipped(tree):
    yaml = pytest.importorskip("yaml")
    found, skipped = flat_yaml.parse(yaml.safe_dump(tree))
    expected = {}
    for key, value in tree.items():
        inner = value if isinstance(value, dict) else None
        expected |= {f"{key}.{name}": cell for name, cell in inner.items()} if inner else {key: value}
    for key, value in found.items():
        assert key in expected, key
        if isinstance(expected[key], str) and isinstance(value, int | float):
            assert value == float(expected[key])  # 1e5 and 08 are texts to PyYAML, numbers to all others
            continue
        assert value == expected[key] or value is None
        assert value is None or type(value) is type(expected[key])
    missing = [key for key in expected if key not in found and expected[key] != {}]
    assert len(missing) <= skipped


@settings(max_examples=150, deadline=None)
@given(text=st.text(alphabet="ab:-'\"#|{[& \n!*%", max_size=80) | st.text(max_size=60))
def test_any_text_is_read(text):
    found, _ = flat_yaml.parse(text)
    assert all(value is None or isinstance(value, str | float | int | bool) for value in found.values())
