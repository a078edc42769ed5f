"""optax: `join_schedules` of its own schedules, or a table of knots for `jnp.interp`.

An optimiser's count starts at 0: update k uses schedule(k). Later parts are called with the count from their
boundary on. JAX computes in float32 unless jax_enable_x64 is set. Read in optax 0.2.8.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lehr.schedule.export._code import lines, number, replay, segments, starts, title
from lehr.schedule.export.export import Export, deviation, target
from lehr.schedule.schedule import Schedule, Segment
from lehr.schedule.shapes import EXPONENTIAL

MOST_PARTS = 50  # every part is computed at every update: beyond this a table is quicker
NOTES = (
    "give it to the optimiser, such as optax.adamw(learning_rate=schedule): update k uses schedule(k).",
    "JAX rounds each LR to float32 (to 6e-8 of the peak) unless jax_enable_x64 is set.",
)
# share of the way still to go after progress x
SHARES = {
    "linear": "1 - x",
    "sqrt": "1 - jnp.sqrt(x)",
    "square": "1 - x * x",
    "cosine": "0.5 * (1 + jnp.cos(jnp.pi * x))",
    "mirror_cosine": "2 * (1 - x) - 0.5 * (1 + jnp.cos(jnp.pi * x))",
}


def code(schedule: Schedule) -> Export:
    """Return a module with a jittable schedule(count), exact for every schedule but for float32."""
    lr, parts = target(schedule), segments(schedule)
    if len(parts) > MOST_PARTS:
        parts = tuple(line for part in parts for line in _straight(part))
        body, imports = _interpolation(parts), "import jax.numpy as jnp\n"
    else:
        body, imports = _joined(parts), "import jax.numpy as jnp\nimport optax\n"
    used = replay(parts)
    text = f"# LR schedule {title(schedule)}, by lehr\n{imports}\nSTEPS = {schedule.steps}  # updates\n\n\n{body}"
    return Export("optax", "code", "python", text, used, deviation(lr, used), NOTES)


def _straight(part: Segment) -> list[Segment]:
    """The segment itself if it is straight, else lines through its LRs."""
    return [part] if part.flat or part.shape == "linear" else lines(part.lr(np.arange(part.steps)))


def _interpolation(parts: tuple[Segment, ...]) -> str:
    """Code of a schedule made of straight segments: a knot at both ends of each."""
    updates, values = [], []
    for first, part in zip(starts(parts), parts, strict=True):
        for j in sorted({0, part.steps - 1}):
            updates.append(str(first + j))
            values.append(number(float(part.lr(np.array(j)))))
    return (
        f"UPDATES = (\n{_wrapped(updates)})\nLRS = (\n{_wrapped(values)})\n\n\n"
        "def schedule(count):\n"
        '    """LR of update 0, 1, ...; past the last one, its LR."""\n'
        "    return jnp.interp(count, jnp.array(UPDATES), jnp.array(LRS))\n"
    )


def _wrapped(numbers: Sequence[str]) -> str:
    return "".join(f"    {', '.join(numbers[i : i + 5])},\n" for i in range(0, len(numbers), 5))


def _joined(parts: tuple[Segment, ...]) -> str:
    """Code of a schedule of a few segments; one more holds the last LR after the end."""
    functions, names = [], []
    for index, part in enumerate(parts):
        own = _own_schedule(part)
        if own is None:
            functions.append(_function(f"part_{index}", part))
        names.append(own or f"part_{index}")
    last = parts[-1]
    names.append(f"optax.constant_schedule({number(float(last.lr(np.array(last.steps - 1))))})")
    edges = [*starts(parts)[1:], sum(part.steps for part in parts)]
    listed = "".join(f"        {name},\n" for name in names)
    boundaries = ", ".join(map(str, edges))
    return "\n\n".join(
        [
            *functions,
            f"schedule = optax.join_schedules(\n    [\n{listed}    ],\n    boundaries=[{boundaries}],\n)\n",
        ]
    )


def _own_schedule(part: Segment) -> str | None:
    """The schedule of optax that is this segment, as code; None if there is none."""
    start, end, span = number(part.start), number(part.end), number(part.span)
    if part.flat or part.steps == 1:
        return f"optax.constant_schedule({number(float(part.lr(np.array(0))))})"
    if part.shape == "linear" and part.phase == 0:
        return f"optax.linear_schedule({start}, {end}, {span})"
    if part.shape == "linear":
        ends = (number(float(part.lr(np.array(j)))) for j in (0, part.steps - 1))
        return f"optax.linear_schedule({', '.join(ends)}, {part.steps - 1})"
    if part.phase != 0:
        return None
    if part.shape == "cosine" and part.start > 0:
        return f"optax.cosine_decay_schedule({start}, {span}, alpha={number(part.end / part.start)})"
    if part.shape == EXPONENTIAL:
        return f"optax.exponential_decay({start}, {span}, {number(part.end / part.start)})"
    if part.shape.startswith("power"):
        return f"optax.polynomial_schedule({start}, {end}, {part.shape[6:-1]}, {span})"
    return None


def _function(name: str, part: Segment) -> str:
    """Code of the segment's LR after `count` of its updates."""
    start, end = number(part.start), number(part.end)
    if part.shape == EXPONENTIAL:
        value = f"{start} * ({end} / {start}) ** x"
    else:
        share = SHARES.get(part.shape) or f"(1 - x) ** {number(float(part.shape[6:-1]))}"
        value = f"{end} + ({start} - {end}) * ({share})"
    return (
        f"def {name}(count):\n    x = jnp.clip((count + {number(part.phase)}) / {number(part.span)}, 0, 1)\n"
        f"    return {value}\n"
    )
