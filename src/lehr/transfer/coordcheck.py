"""Coordinates of a module in training: how large its activations are, how they changed, and what its updates do.

Under a rule of transfer these are to be as large in a small model as in a large one (the coordinate check of Yang et
al., arXiv 2203.03466, appendix D.1; the measures are those of `lehr.transfer.slopes`). Any PyTorch module can be
watched: `Site` says where.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call

from lehr.errors import unknown
from lehr.transfer.slopes import Measure

Inputs = tuple[Any, ...]
Product = Callable[[nn.Module, Tensor, Inputs], tuple[Tensor, Tensor]]
PLAIN: tuple[Measure, ...] = ("size", "change")
MATRIX: tuple[Measure, ...] = ("size", "change", "update", "gain", "weights")


@dataclass(frozen=True)
class Site:
    """Where to look.

    Parameters
    ----------
    part : what it is called; of the sites that share a name the mean square counts.
    module : name of the module, as in `named_modules()`.
    weight : name of the matrix in it; None where there is none.
    side : whether the activation is what the module gives or what it is given first.
    product : where the module's output is not the matrix's own: from the module, a matrix and the module's inputs,
        what the matrix is given and what it makes of it.
    value : where the activation is neither input nor output: from the module and its inputs.
    factor : fixed factor of the forward pass that comes after.
    measures : what is measured.
    """

    part: str
    module: str
    weight: str | None = None
    side: Literal["output", "input"] = "output"
    product: Product | None = None
    value: Callable[[nn.Module, Inputs], Tensor] | None = None
    factor: float = 1.0
    measures: tuple[Measure, ...] = PLAIN


class Observer:
    """Measures a module against the state in which the observer was made.

    Parameters
    ----------
    module : with its initial weights; not wrapped (DDP, `torch.compile`).
    sites : where to look.
    forward : runs the module on one batch, always the same.

    Raises
    ------
    InputError
        If a site names a module that is not there.
    """

    def __init__(self, module: nn.Module, sites: Sequence[Site], forward: Callable[[], object]) -> None:
        self._modules = dict(module.named_modules())
        for site in sites:
            if site.module not in self._modules:
                raise unknown("module of a site", site.module, self._modules)
        self._sites, self._forward = tuple(sites), forward
        self._weights = {site: self._weight(site).clone() for site in sites if site.weight}
        self._first = {
            site: self._activation(site, *call)
            for site, call in self._watch().items()
            if "change" in site.measures
        }

    @torch.no_grad()
    def measure(self) -> dict[tuple[str, Measure], float]:
        """Measure what the sites ask for; by part and measure."""
        squares: dict[tuple[str, Measure], list[float]] = defaultdict(list)
        for site, call in self._watch().items():
            found = {**self._of_activation(site, *call), **self._of_weight(site, call[0])}
            for measure in site.measures:
                squares[site.part, measure].append(found[measure] ** 2)
        return {key: (sum(each) / len(each)) ** 0.5 for key, each in squares.items()}

    def _of_activation(self, site: Site, inputs: Inputs, output: Tensor) -> Mapping[Measure, float]:
        activation = self._activation(site, inputs, output)
        found: dict[Measure, float] = {"size": rms(activation)}
        if site in self._first:
            found["change"] = rms(activation - self._first[site])
        return found

    def _of_weight(self, site: Site, inputs: Inputs) -> Mapping[Measure, float]:
        if not site.weight:
            return {}
        weight = self._weight(site)
        moved = weight - self._weights[site]
        given, of_move = self._product(site, moved, inputs)
        of_all = self._product(site, weight, inputs)[1]
        per = site.factor / (rms(given) or math.nan)  # of nothing there is no share
        return {"update": per * rms(of_move), "gain": per * rms(of_all), "weights": rms(moved) / rms(weight)}

    def _weight(self, site: Site) -> Tensor:
        return self._modules[site.module].get_parameter(site.weight or "").detach()

    @torch.no_grad()
    def _watch(self) -> dict[Site, tuple[Inputs, Tensor]]:
        """Inputs and output at every site in a forward pass."""
        calls: dict[str, tuple[Inputs, Tensor]] = {}

        def hook(name: str) -> Callable[..., None]:
            def note(module: nn.Module, inputs: Inputs, output: Any) -> None:
                calls[name] = (inputs, output[0] if isinstance(output, tuple) else output)

            return note

        names = {site.module for site in self._sites}
        handles = [self._modules[name].register_forward_hook(hook(name)) for name in names]
        try:
            self._forward()
        finally:
            for handle in handles:
                handle.remove()
        return {site: calls[site.module] for site in self._sites}

    def _product(self, site: Site, weight: Tensor, inputs: Inputs) -> tuple[Tensor, Tensor]:
        module = self._modules[site.module]
        if site.product is not None:
            return site.product(module, weight, inputs)
        return inputs[0], functional_call(module, {str(site.weight): weight}, inputs)

    @torch.no_grad()
    def _activation(self, site: Site, inputs: Inputs, output: Tensor) -> Tensor:
        if site.value is not None:
            return site.factor * site.value(self._modules[site.module], inputs)
        if site.product is not None:
            return site.factor * site.product(self._modules[site.module], self._weight(site), inputs)[1]
        return site.factor * (output if site.side == "output" else inputs[0])


def rms(x: Tensor) -> float:
    """Root of the mean square of all elements."""
    return float(x.detach().float().square().mean().sqrt())
