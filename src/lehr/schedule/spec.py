"""Schedules as text, as dictionaries and as TOML, and back, exactly.

A text names a family of `lehr.schedule.families` and its arguments::

    wsd(steps=24k, peak=3e-4, warmup=2160, decay=4000, shape=power(1.5), final=3e-5)
    branch(base=constant(steps=20000, peak=3e-4), at=8000, then=wsd(steps=4000, peak=3e-4, decay=4000))

Lengths are in updates. Where a family has `steps`, its `warmup` and `decay` may be given instead
as a fraction of them, `warmup_fraction=0.01` and `decay_fraction=0.2`, rounded to the nearest
whole update (a half to the even one); the schedule then holds the length, not the fraction.

`to_text`, `to_dict` and `to_toml` write the call that made a schedule, or its segments where it
was not made by one call; reading that back gives an equal schedule, and writing it again the
same text.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lehr.errors import InputError, bad, unknown
from lehr.schedule._grammar import MAX_DEPTH, MAX_TEXT, Call, Name, Node, Number, locating, read
from lehr.schedule.families import FAMILIES
from lehr.schedule.schedule import Schedule, Segment, Table

FRACTIONS = {"warmup_fraction": "warmup", "decay_fraction": "decay"}


def parse(text: str) -> Schedule:
    """Return the schedule that `text` describes.

    Raises
    ------
    InputError
        If the text is broken, names something unknown, lacks an argument or gives one a value
        that it cannot take; the message shows the place.

    >>> parse("wsd(steps=6, peak=1, decay_fraction=0.5)").to_array().round(3).tolist()
    [1.0, 1.0, 1.0, 1.0, 0.667, 0.333]
    """
    return _build(text, read(text))


def to_text(schedule: Schedule) -> str:
    """Return the text of `schedule`.

    >>> to_text(parse("wsd( steps = 24k, peak = 3e-4, decay = 4_000, final = 0.0 )"))
    'wsd(steps=24000, peak=0.0003, decay=4000)'
    """
    family, arguments = _call(schedule)
    return f"{family}({', '.join(f'{name}={_text(value)}' for name, value in arguments)})"


def to_dict(schedule: Schedule) -> dict[str, Any]:
    """Return `schedule` as {"family": name, argument: value, ...}, fit for JSON; schedules nest.

    >>> to_dict(parse("constant(steps=5, peak=1e-3)"))
    {'family': 'constant', 'steps': 5, 'peak': 0.001}
    """
    family, arguments = _call(schedule)
    return {"family": family, **{name: _plain(value) for name, value in arguments}}


def from_dict(table: Mapping[str, Any]) -> Schedule:
    """Return the schedule of a table as `to_dict` writes it; a nested schedule may also be text.

    Raises
    ------
    InputError
        If a name is unknown, an argument is missing or a value cannot be taken.
    """
    return _from_table(table, 1)


def to_toml(schedule: Schedule) -> str:
    """Return `schedule` as a TOML table named "schedule".

    >>> print(to_toml(parse("wsd(steps=100, peak=1e-3, decay=20, shape=sqrt)")), end="")
    [schedule]
    family = "wsd"
    steps = 100
    peak = 0.001
    decay = 20
    shape = "sqrt"
    """
    lines = (f"{name} = {_toml(value)}\n" for name, value in to_dict(schedule).items())
    return "[schedule]\n" + "".join(lines)


def from_toml(text: str) -> Schedule:
    """Return the schedule of the TOML table (or text) named "schedule"; other tables are left alone.

    Raises
    ------
    InputError
        If the text is not TOML or too long, has no such table, or as for `from_dict`.
    """
    if len(text) > MAX_TEXT:
        raise bad("a TOML text", f"must have at most {MAX_TEXT} characters", len(text), "use a file")
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(f"the schedule is not TOML: {error}.") from None
    found = tables.get("schedule")
    if isinstance(found, str):
        return parse(found)
    if not isinstance(found, dict):
        raise bad(
            "the TOML text", "must have a table [schedule]", sorted(tables), 'add one with family = "wsd"'
        )
    return from_dict(found)


def _build(text: str, tree: Call) -> Schedule:
    """Make the schedule of one call of the tree; mistakes show their place in `text`."""
    with locating(text, tree.at):
        make = _family(tree.name)
    values: dict[str, Any] = {}
    for name, at, node in tree.arguments:
        with locating(text, at):
            _check_name(make, name, values)
        values[name] = _value(text, node)
    places = {name: at for name, at, _ in tree.arguments}
    try:
        return _make(make, values)
    except InputError as error:
        with locating(text, places.get(_subject(str(error)), tree.at)):
            raise


def _subject(message: str) -> str:
    """Argument that a refusal is about: its first word, or the shape that it mentions."""
    first = re.split(r"\W", message, maxsplit=1)[0]
    return "shape" if first in ("unknown", "the") and " shape " in message else first


def _value(text: str, node: Node) -> Any:
    if isinstance(node, Number):
        return node.value
    if isinstance(node, Name):
        return node.text
    if isinstance(node, Call):
        return _build(text, node)
    return [_value(text, item) for item in node.items]


def _from_table(table: Mapping[str, Any], depth: int) -> Schedule:
    if depth > MAX_DEPTH:
        raise bad("a schedule", f"must nest at most {MAX_DEPTH} deep", depth, "write it with join")
    if not isinstance(table, Mapping) or not isinstance(table.get("family"), str):
        raise bad("a schedule table", "must name its family", table, 'add family = "wsd" or another')
    make = _family(table["family"])
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name != "family":
            _check_name(make, name, values)
            values[name] = _from_item(_kind(make, name), value, depth)
    return _make(make, values)


def _from_item(kind: str, value: Any, depth: int) -> Any:
    if kind == "Sequence[Schedule]" and isinstance(value, list):
        return [_from_item("Schedule", item, depth) for item in value]
    if kind == "Schedule" and isinstance(value, str):
        return parse(value)
    if kind == "Schedule" and isinstance(value, Mapping):
        return _from_table(value, depth + 1)
    return value


def _family(name: str) -> Callable[..., Schedule]:
    if name not in FAMILIES:
        raise unknown("schedule family", name, FAMILIES)
    return FAMILIES[name]


def _kind(make: Callable[..., Schedule], name: str) -> str:
    """Annotation of an argument, "float" for a fraction."""
    parameters = inspect.signature(make).parameters
    return str(parameters[name].annotation) if name in parameters else "float"


def _names(make: Callable[..., Schedule]) -> list[str]:
    """Arguments of a family, with the fractions that may stand for some of them."""
    names = list(inspect.signature(make).parameters)
    if "steps" in names:
        names += [fraction for fraction, length in FRACTIONS.items() if length in names]
    return names


def _check_name(make: Callable[..., Schedule], name: str, seen: Iterable[str]) -> None:
    if name not in _names(make):
        raise unknown(f"argument of {make.__name__}", name, _names(make))
    if name in seen:
        raise InputError(f"{name} is given twice in {make.__name__}: drop one.")


def _make(make: Callable[..., Schedule], values: dict[str, Any]) -> Schedule:
    """Call the family, after turning fractions into lengths and naming what is missing."""
    lengths = {name: value for name, value in values.items() if name not in FRACTIONS}
    for fraction, length in FRACTIONS.items():
        if fraction in values:
            if length in lengths:
                raise bad(
                    fraction, f"must not be given beside {length}", values[fraction], "drop one of them"
                )
            lengths[length] = _length(fraction, values[fraction], lengths.get("steps"))
        elif isinstance(lengths.get(length), float) and 0 < lengths[length] < 1 and fraction in _names(make):
            remedy = f"for a fraction of the steps write {fraction}={lengths[length]!r}"
            raise bad(length, "must be a whole number of updates", lengths[length], remedy)
    for parameter in inspect.signature(make).parameters.values():
        if parameter.default is parameter.empty and parameter.name not in lengths:
            name, fraction = parameter.name, f"{parameter.name}_fraction"
            choice = f"{name}=... or {fraction}=..." if fraction in _names(make) else f"{name}=..."
            raise InputError(f"{make.__name__} needs the argument {name}: add {choice}")
    return make(**lengths)


def _length(name: str, fraction: Any, steps: Any) -> int:
    """Whole updates nearest to the fraction of `steps`."""
    if isinstance(fraction, bool) or not isinstance(fraction, int | float) or not 0 <= fraction <= 1:
        raise bad(name, "must be a fraction in [0, 1]", fraction, "20 % is 0.2; a length is given without it")
    if not isinstance(steps, int | float) or not abs(steps) < 1e300:
        raise bad(name, "must come with a number of steps", fraction, "it is a fraction of them")
    return round(fraction * steps)


def _call(schedule: Schedule) -> tuple[str, tuple[tuple[str, object], ...]]:
    """Return the call that makes `schedule`: the one that made it, or its segments joined."""
    if schedule.call:
        return schedule.call
    raw = FAMILIES["join"](parts=[_raw(part) for part in schedule.segments])
    return raw.call or ("join", ())


def _raw(part: Segment | Table) -> Schedule:
    if isinstance(part, Table):
        return FAMILIES["from_array"](values=part.values)
    span = 0 if part.span == part.steps else part.span
    return FAMILIES["ramp"](
        steps=part.steps, start=part.start, end=part.end, shape=part.shape, phase=part.phase, span=span
    )  # fmt: skip


def _text(value: Any) -> str:
    if isinstance(value, Schedule):
        return to_text(value)
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, str):
        return value
    return repr(value).removesuffix(".0")  # the family knows which of its numbers are floats


def _plain(value: Any) -> Any:
    if isinstance(value, Schedule):
        return to_dict(value)
    return [_plain(item) for item in value] if isinstance(value, tuple) else value


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{name} = {_toml(item)}" for name, item in value.items()) + " }"
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return f'"{value}"' if isinstance(value, str) else repr(value)
