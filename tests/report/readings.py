"""Readings of a coordinate check in which some parts are off by a slope."""

from lehr.transfer.slopes import Reading

SIZES = (64, 128, 256)
PARTS = ("query", "residual stream", "logits", "<ffn> $x$", "embedding")


def made(slope, scale="width", off=("query",)):
    """Three measures of five parts, at four steps; those `off` grow with the size by `slope`."""
    return [
        Reading(scale, n, 0, step, part, measure, 2 * n ** (slope if part in off else 0.0) * (1 + step))
        for part in PARTS
        for measure in ("size", "change", "update")
        for step in (0, 1, 2, 4)
        for n in SIZES
    ]
