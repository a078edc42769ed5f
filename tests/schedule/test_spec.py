"""Text, dictionaries and TOML of schedules: exact round trips, and mistakes shown in their place."""

import json
import tomllib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.errors import InputError
from lehr.schedule._grammar import MAX_DEPTH, MAX_TEXT
from lehr.schedule.families import FAMILIES, branch, constant, cosine, from_array, join, ramp, wsd
from lehr.schedule.schedule import Schedule, Segment, Table
from lehr.schedule.spec import from_dict, from_toml, parse, to_dict, to_text, to_toml

BASE = wsd(steps=100, peak=1e-3, warmup=10, decay=20)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("constant(steps=5,peak=1)", constant(steps=5, peak=1)),
        (" wsd ( steps = 100 ,\n peak=1e-3, warmup=10, decay=20, ) ", BASE),
        ("wsd(steps=24_000, peak=3e-4, decay=4k)", wsd(steps=24000, peak=3e-4, decay=4000)),
        ("cosine(steps=1.5M, peak=.5, final=+1e-2)", cosine(steps=1_500_000, peak=0.5, final=0.01)),
        (
            "wsd(steps=9, peak=1, decay=3, shape=power( 1.5 ))",
            wsd(steps=9, peak=1, decay=3, shape="power(1.5)"),
        ),
        ("from_array(values=[1, 2., .5e1])", from_array(values=[1, 2, 5])),
        (
            "branch(base=constant(steps=9, peak=1), at=4, then=wsd(steps=3, peak=1, decay=3))",
            branch(base=constant(steps=9, peak=1), at=4, then=wsd(steps=3, peak=1, decay=3)),
        ),
        ("wsd(steps=2e2, peak=1, decay=20)", wsd(steps=200, peak=1, decay=20)),
        ("wsd(decay_fraction=0.2, steps=24k, peak=1)", wsd(steps=24000, peak=1, decay=4800)),
        ("wsd(steps=150, peak=1, decay_fraction=.31, warmup_fraction=0)", wsd(steps=150, peak=1, decay=46)),
        ("cosine(steps=1000, peak=1, warmup_fraction=0.0125)", cosine(steps=1000, peak=1, warmup=12)),
    ],
)
def test_texts(text, expected):
    assert parse(text) == expected
    assert parse(text).call == expected.call


def test_the_text_is_short_and_plain():
    assert to_text(BASE) == "wsd(steps=100, peak=0.001, warmup=10, decay=20)"
    assert to_text(parse("wsd(steps=24k, peak=1, decay_fraction=0.25, warmup_phase=0)")) == (
        "wsd(steps=24000, peak=1, decay=6000, warmup_phase=0)"
    )
    assert to_text(from_array(values=[0.1, 1e-20, 3])) == "from_array(values=[0.1, 1e-20, 3])"


def test_a_schedule_without_a_call_is_written_segment_by_segment():
    schedule = BASE.first(95).then(from_array(values=[0.1, 0.2]))
    assert to_text(schedule) == (
        "join(parts=[ramp(steps=10, start=0, end=0.001, phase=1), ramp(steps=70, start=0.001, end=0.001), "
        "ramp(steps=15, start=0.001, end=0, span=20), from_array(values=[0.1, 0.2])])"
    )
    check(schedule)


def check(schedule):
    """All forms give an equal schedule back, and the same form again."""
    text, table, toml = to_text(schedule), to_dict(schedule), to_toml(schedule)
    for again in (parse(text), from_dict(json.loads(json.dumps(table))), from_toml(toml)):
        assert again == schedule
        assert (to_text(again), to_dict(again), to_toml(again)) == (text, table, toml)
    assert tomllib.loads(toml) == {"schedule": table}


reals = st.floats(0, 1e3)
above = st.floats(1e-12, 1e3)
shapes = st.one_of(
    st.sampled_from(["linear", "sqrt", "square", "cosine", "mirror_cosine"]),
    st.floats(1e-3, 50).map(lambda power: f"power({power!r})"),
)
tables = st.lists(reals, min_size=1, max_size=8).map(lambda values: from_array(values=values))
ramps = st.builds(ramp, steps=st.integers(1, 10**9), start=reals, end=reals, shape=shapes)


@st.composite
def falls(draw):
    peak, warmup, stable, decay = draw(above), *(draw(st.integers(0, 10**6)) for _ in range(3))
    rise = {
        "warmup": warmup,
        "warmup_start": peak * draw(st.floats(0, 1)),
        "warmup_phase": draw(st.booleans()) + 0,
    }
    rise |= {"steps": warmup + stable + decay + 1, "peak": peak, "final": peak * draw(st.floats(0, 1))}
    return draw(st.sampled_from([cosine(**rise), wsd(decay=decay, shape=draw(shapes), **rise)]))


@st.composite
def cuts(draw):
    whole = draw(falls())
    return whole.first(draw(st.integers(1, whole.steps)))


simple = st.one_of(falls(), tables, ramps, cuts())
nested = st.recursive(
    simple,
    lambda inner: st.one_of(
        st.builds(join, parts=st.lists(inner, min_size=1, max_size=3)),
        st.builds(lambda base, then: branch(base=base, at=base.steps, then=then), inner, inner),
    ),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None)
@given(nested)
def test_round_trip(schedule):
    check(schedule)


def test_round_trip_of_every_family():
    calls = {
        "multistep(steps=80, peak=0.001, milestones=[40, 60], factors=[0.3, 0.1])",
        "one_cycle(steps=100, peak=1, warmup=30, start=0.04)",
        "wsd_s(periods=[100, 50], peak=1, warmup=10, decay=20)",
        "cyclic(steps=100, peak=1, low=0.1, period=30)",
        "power_scheduler(steps=90, peak=0.01, a=4.6, batch=128, batch_tokens=500000, decay=9)",
        "rewarm(base=constant(steps=9, peak=1), steps=20, peak=0.5, warmup=2, decay=5)",
    }
    for text in calls:
        assert to_text(parse(text)) == text
        check(parse(text))
    seen = {text.split("(")[0] for text in calls}
    assert set(FAMILIES) - seen == {"constant", "cosine", "wsd", "branch", "from_array", "ramp", "join"}


def test_odd_segments_survive():
    check(Schedule((Segment(3, 1, 0.5, "exponential", 0.25, 7.5), Table(np.array([0.1 + 0.2, 1e-300])))))


# Text, where the caret must stand (the mark ^ comes before that character), what is said.
BROKEN = [
    ("wsd(steps=100 ^peak=1)", "expected ',' or ')', found 'peak'"),
    ("wsd^", r"expected '(' after wsd, found the end of the text"),
    ("^", "expected a schedule family such as wsd, found the end of the text"),
    ("^3", "expected a schedule family such as wsd, found '3'"),
    ("constant(steps=5, ^3)", "expected an argument of constant such as steps=1000, or ')', found '3'"),
    ("constant(steps^)", "expected '=' after the argument steps, found ')'"),
    ("constant(steps=^)", "expected a number, a name, a list or a schedule, found ')'"),
    ("constant(steps=^'5')", "expected a number, a name, a list or a schedule"),
    ("constant(steps=^5x)", "expected a number such as 24000, 24k, 1.5M or 3e-4, found '5x'"),
    ("constant(steps=^--5)", "expected a number such as"),
    ("constant(steps=^1__0)", "expected a number such as"),
    ("constant(steps=^1.0001k, peak=1)", "expected a whole number once k is multiplied out, found '1.0001k'"),
    ("constant(steps=^1e3k, peak=1)", "expected a number with an exponent or with k, not both"),
    (f"constant(steps=^{'1' * 65})", "expected a number of at most 64 characters"),
    ("constant(steps=5, peak=1) ^x", "expected the end of the text, found 'x'"),
    ("from_array(values=[1 ^2])", "expected ',' or ']', found '2'"),
    ("wsd(shape=power(2^, 3))", "expected ')' after power(2, found ','"),
    ("^wsdd(steps=5)", "unknown schedule family 'wsdd': did you mean 'wsd'"),
    ("join(parts=[^wsdd(steps=5)])", "unknown schedule family 'wsdd'"),
    ("wsd(steps=100, ^warmpu=3)", "unknown argument of wsd 'warmpu': did you mean 'warmup'"),
    ("from_array(^decay_fraction=1)", "unknown argument of from_array 'decay_fraction'"),
    ("constant(steps=5, ^steps=5)", "steps is given twice in constant"),
    ("^wsd(steps=100, peak=1)", "wsd needs the argument decay: add decay=... or decay_fraction=..."),
    ("join(parts=[^constant(steps=3)])", "constant needs the argument peak: add peak=..."),
    ("constant(steps=5, ^peak=linear)", "peak must be a number, got 'linear'"),
    ("constant(^steps=1e999, peak=1)", "steps must be a finite number, got inf"),
    ("join(^parts=3)", "parts must be a list, got 3"),
    ("wsd(steps=9, peak=1, decay=3, ^shape=lineer)", "unknown decay shape 'lineer': did you mean 'linear'"),
    ("wsd(steps=9, peak=1, decay=3, ^shape=power(-1))", "must be a number above 0, got '-1'"),
    ("wsd(steps=9, peak=1, ^decay=10)", "decay must be a whole number of updates, 0 .. 9, got 10"),
    ("wsd(steps=9, peak=1, ^decay=0.2)", "for a fraction of the steps write decay_fraction=0.2"),
    ("cosine(steps=9, peak=1, ^warmup=0.2)", "for a fraction of the steps write warmup_fraction=0.2"),
    ("wsd(steps=9, peak=1, decay=2, ^decay_fraction=0.2)", "decay_fraction must not be given beside decay"),
    ("wsd(steps=9, peak=1, ^decay_fraction=20)", "decay_fraction must be a fraction in [0, 1], got 20: 20 %"),
    ("wsd(steps=9, peak=1, ^decay_fraction=x)", "decay_fraction must be a fraction in [0, 1], got 'x'"),
    ("wsd(peak=1, ^decay_fraction=0.5)", "decay_fraction must come with a number of steps"),
    ("wsd(steps=1e999, peak=1, ^decay_fraction=0.5)", "decay_fraction must come with a number of steps"),
]


@pytest.mark.parametrize(("marked", "said"), BROKEN)
def test_mistakes_are_shown_in_their_place(marked, said):
    at, text = marked.index("^"), marked.replace("^", "")
    with pytest.raises(InputError) as caught:
        parse(text)
    message, line, caret = str(caught.value).split("\n")
    assert said in message
    assert line[2:62] == text[:60]
    assert caret == " " * (at + 2) + "^"


def test_only_the_line_and_its_surroundings_are_shown():
    text = "join(parts=[\n" + "constant(steps=1, peak=1), " * 20 + "oops(),\nconstant(steps=1, peak=1)])"
    with pytest.raises(InputError) as caught:
        parse(text)
    _, line, caret = str(caught.value).split("\n")
    assert line.strip().startswith("...")
    assert line[caret.index("^") :] == "oops(),"
    assert len(line) < 130


@pytest.mark.parametrize("opening", ["join(parts=[", "["])
def test_depth_is_bounded(opening):
    text = "join(parts=" + opening * MAX_DEPTH * 100
    with pytest.raises(InputError, match=f"at most {MAX_DEPTH} nested calls and lists"):
        parse(text)


def test_size_is_bounded():
    text = " " * (MAX_TEXT + 1)
    with pytest.raises(
        InputError, match="a schedule text must have at most 32000000 characters, got 32000001"
    ):
        parse(text)
    with pytest.raises(InputError, match="a TOML text must have at most 32000000 characters"):
        from_toml(text)


def test_tables_and_text_may_be_mixed():
    table = {"family": "branch", "base": "constant(steps=9, peak=1)", "at": 4, "then": to_dict(BASE)}
    assert from_dict(table) == branch(base=constant(steps=9, peak=1), at=4, then=BASE)
    assert from_toml(f'x = 1\nschedule = "{to_text(BASE)}"') == BASE
    assert from_toml(f"{to_toml(BASE)}\n[model]\nwidth = 3\n") == BASE
    assert from_dict({"family": "wsd", "steps": 10, "peak": 1, "decay_fraction": 0.5}).call[1][-1] == (
        "decay",
        5,
    )


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ({"steps": 5}, "a schedule table must name its family, got {'steps': 5}: add family"),
        ({"family": 3}, "a schedule table must name its family"),
        ({"family": "wsdd"}, "unknown schedule family 'wsdd': did you mean 'wsd'"),
        ({"family": "constant", "stesp": 5}, "unknown argument of constant 'stesp': did you mean 'steps'"),
        ({"family": "constant", "steps": 5}, "constant needs the argument peak"),
        ({"family": "constant", "steps": 5, "peak": None}, "peak must be a number, got None"),
        ({"family": "join", "parts": [3]}, "parts must be a schedule, got 3"),
        ({"family": "join", "parts": ["wsd("]}, "found the end of the text"),
    ],
)
def test_broken_tables(table, text):
    with pytest.raises(InputError, match=text.replace("(", r"\(")):
        from_dict(table)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[schedule", "the schedule is not TOML: "),
        ("x = " + "[" * 100_000, "the schedule is not TOML: "),
        ("[model]\nwidth = 3", r"must have a table \[schedule\], got \['model'\]: add one with family"),
        ("schedule = 3", r"must have a table \[schedule\]"),
    ],
)
def test_broken_toml(text, said):
    with pytest.raises(InputError, match=said):
        from_toml(text)


def test_depth_of_tables_is_bounded():
    table = to_dict(BASE)
    for _ in range(MAX_DEPTH):
        table = {"family": "join", "parts": [table]}
    with pytest.raises(InputError, match=f"a schedule must nest at most {MAX_DEPTH} deep, got 33"):
        from_dict(table)
