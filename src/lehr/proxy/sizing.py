"""The model of a base at another width, depth or number of experts. No torch."""

from __future__ import annotations

from typing import Any

from lehr.errors import InputError, bad
from lehr.proxy.config import Model
from lehr.transfer.slopes import ScaleName


def resized(base: Model, scale: ScaleName, size: int, same_share: bool = False) -> Model:
    """Return the model with one scale changed, all other proportions kept.

    Parameters
    ----------
    base : to start from.
    scale : "width": more heads of the same width, all hidden widths in proportion. "depth": more blocks. "experts":
        more of the same width.
    size : of the new model.
    same_share : whether the experts chosen for a token grow with their number, as rules demand that hold at one share.

    Raises
    ------
    InputError
        If heads, hidden widths or chosen experts would not be whole, or a dense base is asked for experts.
    """
    if size < 1:
        raise bad(scale, "must be at least 1", size, "give the size of a model")
    if scale == "depth":
        return _changed(base, depth=size)
    if scale == "width":
        return _wider(base, size)
    if base.experts is None:
        raise InputError(
            "the base is dense, so that it has no experts to vary: give [model.experts], or other scales."
        )
    top_k = base.experts.top_k
    if same_share:
        top_k = _whole(f"top_k with {size} experts", top_k, size, base.experts.count, "experts")
    changes = {"count": size, "top_k": top_k, "width": base.expert_hidden}
    if size < max(2, top_k):
        raise bad(
            "experts", f"must be at least {max(2, top_k)}, of which {top_k} are chosen", size, "add experts"
        )
    return _changed(base, experts=base.experts.model_copy(update=changes))


def _wider(base: Model, width: int) -> Model:
    head = base.width // base.heads
    if width % head:
        raise bad(
            "width", f"must be a multiple of the base's head width, {head}", width, "take another width"
        )
    changes: dict[str, Any] = {"width": width, "heads": width // head}
    if base.ffn_width is not None:
        changes["ffn_width"] = _whole("ffn_width", base.ffn_width, width, base.width, "width")
    if base.experts is not None and base.experts.width is not None:
        own = _whole("experts.width", base.experts.width, width, base.width, "width")
        changes["experts"] = base.experts.model_copy(update={"width": own})
    return _changed(base, **changes)


def _whole(name: str, value: int, size: int, base: int, scale: str) -> int:
    """`value` in proportion.

    Raises
    ------
    InputError
        If it is not whole.
    """
    if value * size % base:
        raise bad(
            name, f"must be whole: that of the base is {value} at {scale} {base}", value * size / base,
            f"take another {scale}",
        )  # fmt: skip
    return value * size // base


def _changed(base: Model, **changes: Any) -> Model:
    return base.model_copy(update=changes)
