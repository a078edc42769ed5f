"""What runs need of a law to be fitted together: a data set of its own for each, sizes of models of experts.

A run tells its data set and split in its meta data (`dataset`, `split`: val unless said) and, if it is a model of
experts, how many a layer has (`experts`, above 1). Whether a model is one of experts cannot be read off its
parameters: all of a dense model's hold its embeddings, which double a small one.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import fields, replace

from lehr.errors import InputError
from lehr.laws.grouped import Grouped
from lehr.laws.law import Law
from lehr.runs.run import Run

UNNAMED = "unnamed"
SAME_SPARSITY = 0.05  # relative difference of all / active parameters below which models are alike


def data_of(run: Run) -> str:
    """Data set that the losses of `run` were measured on, with its split if not val, such as slimpajama/train."""
    name, split = str(run.meta.get("dataset") or UNNAMED), run.meta.get("split")
    return name if split in (None, "val") else f"{name}/{split}"


def sparsity_of(run: Run) -> float | None:
    """All over active parameters: 1 for a dense model, None where a model of experts does not tell."""
    experts = run.meta.get("experts")
    if not isinstance(experts, int | float) or experts <= 1:
        return 1.0
    return run.params_total / run.params if run.params_total and run.params else None


def total_of(run: Run) -> float | None:
    """All parameters of a model of experts, None for a dense one."""
    return run.params_total if sparsity_of(run) != 1.0 else None


def pooled(law: Law, runs: tuple[Run, ...]) -> Law:
    """Return `law` with what `runs` need: scales of their data sets, a share of all parameters.

    A law that is already pooled is returned as it is.

    Raises
    ------
    InputError
        If a model of experts does not tell all its parameters to a law that counts them, or the law is to
        weigh them but they are the same multiple of the active ones in all runs.
    """
    if isinstance(law, Grouped):
        return law
    if law.needs_sizes and any(f.name == "experts" for f in fields(law)):  # type: ignore[arg-type]
        differs = _sparsity_differs(law, runs)
        if law.experts and not differs:  # type: ignore[attr-defined]
            raise InputError(
                f"law {law.name} weighs all against active parameters (experts), but their ratio is the same in all "
                "runs: add models of another sparsity, dense ones for instance, or leave experts off."
            )
        law = replace(law, experts=differs)  # type: ignore[type-var]
    count = Counter(data_of(run) for run in runs)
    groups = tuple(sorted(count, key=lambda name: (-count[name], name)))
    return Grouped(law, groups) if len(groups) > 1 else law


def _sparsity_differs(law: Law, runs: tuple[Run, ...]) -> bool:
    known = []
    for run in runs:
        sparsity = sparsity_of(run)
        if sparsity is None:
            raise InputError(
                f"run {run.name!r} is a model of {run.meta['experts']} experts, but does not tell both its active "
                f"and all its parameters, which law {law.name} counts: give them without embeddings "
                "(--params, --params-total)."
            )
        known.append(sparsity)
    return max(known, default=1.0) > (1 + SAME_SPARSITY) * min(known, default=1.0)


def pooling_warnings(law: Law, runs: tuple[Run, ...]) -> list[str]:
    """Say what fitting `runs` together rests on, and what is missing from them."""
    notes = []
    groups = {data_of(run) for run in runs}
    if len(groups) > 1:
        notes.append(
            f"the runs are of {len(groups)} data sets or splits ({', '.join(sorted(groups))}): they share the shape of "
            "the curve, each has its own irreducible loss and scale."
        )
    silent = [run.name for run in runs if not run.meta.get("dataset")]
    if len(groups) > 1 and silent:
        notes.append(
            f"{len(silent)} of {len(runs)} runs do not tell their data set and are taken as one of their own: "
            "give it with --dataset on import."
        )
    sparse = {round(s, 2) for run in runs if (s := sparsity_of(run)) is not None}
    if law.needs_sizes and len(sparse) == 1 and sparse != {1.0}:
        notes.append(
            f"all models of experts have {sparse.pop():g} times as many parameters as active ones: sizes are counted "
            "in active parameters; add runs of another sparsity to predict one."
        )
    return notes


def missing_groups(law: Law, runs: tuple[Run, ...]) -> tuple[str, ...]:
    """Data sets of a pooled law that no run is of: it cannot be fitted to these runs."""
    present = {data_of(run) for run in runs}
    return tuple(g for g in law.groups if g not in present) if isinstance(law, Grouped) else ()
