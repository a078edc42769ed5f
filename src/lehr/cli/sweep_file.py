"""`--sweep SWEEP.toml --base CONFIG.toml`: the runs that `lehr peak-lr plan` and `lehr fit --suggest` propose."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lehr.cli.common import say
from lehr.errors import InputError, bad

if TYPE_CHECKING:
    from lehr.anneal.plans import Plan as Suggested
    from lehr.anneal.suggest import Suggestions
    from lehr.fit.result import Domain
    from lehr.peaklr.plan import Plan, PlannedRun
    from lehr.peaklr.plan_question import PlanQuestion
    from lehr.proxy.sweep.base import Base
    from lehr.proxy.sweep.writing import Draft, Entry

SWEEP_HELP = "SWEEP.toml to write the proposed runs to, for lehr sweep."
BASE_HELP = "What they share: a CONFIG.toml of lehr train, or a file with a [command]; for --sweep."


@dataclass(frozen=True)
class Target:
    """Where to write the proposed runs, and what they share."""

    path: Path
    base: Base

    def write(self, draft: Draft) -> None:
        """Write the file and say what to do with it."""
        from lehr.proxy.sweep.writing import write_sweep

        plan = write_sweep(self.path, draft)
        if plan is None:
            say(f"written: {self.path}; fill in its commented lines, then `lehr sweep {self.path} --dry-run`")
            return
        flops = sum(job.flops or 0.0 for job in plan.jobs)
        cost = f", {flops:.3g} FLOPs" if flops else ""
        say(f"written: {self.path}, {len(plan.jobs)} runs{cost}; train them with `lehr sweep {self.path}`")


def target_of(sweep: Path | None, base: Path | None, proposing: bool = True) -> Target | None:
    """Open what `--sweep` and `--base` name, before anything is computed.

    Raises
    ------
    InputError
        If the place is taken, the base is none, or is given alone; or nothing is to be proposed.
    """
    from lehr.proxy.sweep.base import Base, load_base
    from lehr.proxy.sweep.writing import check_free

    if sweep is None:
        if base is not None:
            raise InputError("--base goes with --sweep, which is not given: add it, or leave --base out.")
        return None
    if not proposing:
        raise InputError("--sweep goes with --suggest, which is not given: add it, or leave --sweep out.")
    check_free(sweep)
    return Target(sweep, load_base(base) if base else Base("", {}, None, None, None))


def check_plan(question: PlanQuestion, target: Target) -> None:
    """Refuse sizes, token counts and batches that the base cannot have, before anything is planned.

    Raises
    ------
    InputError
        Naming the option, what is possible, and the remedy.
    """
    from lehr.proxy.sweep.base import check_active, sized, updates_of

    base = target.base
    if base.config is not None:
        models = sized(base, question.params, "--params")
        check_active(base, [models[size] for size in question.params], question.active, "--active-params")
    elif question.active and "experts" not in base.tables.get("values", {}):
        raise InputError(
            "a sweep of models of experts needs their number: give --base, a file with [model.experts], or one with a "
            "[command] and values.experts."
        )
    for batch in question.batches or (_batch_of(base),):
        if base.config is not None:
            _sequences(base, batch)
        for tokens in question.tokens:
            updates_of(tokens, batch, "--tokens")


def write_plan(found: Plan, question: PlanQuestion, target: Target, results: list[Path]) -> None:
    """Write the runs that a plan proposes; nothing where it says stop."""
    from lehr.proxy.sweep.writing import Draft, sweep_name

    if not found.runs:
        say(f"{target.path} was not written: there is no run to do")
        return
    asked, told, name = question.target, found.prediction, sweep_name(target.path)
    about = (
        f"Written by lehr peak-lr plan: the next {len(found.runs)} runs towards the peak LR of a model of "
        f"{asked.params:g} parameters on {asked.tokens:g} tokens.",
        f"The LR so far: {told.lr:.4g} [{told.low:.3g}, {told.high:.3g}] at 90 %, by {found.done_runs} runs"
        + (f" in {', '.join(map(str, results))}." if results else " (the prior)."),
        f"Base: {target.base.source or 'none, fill in the commented lines'}.",
        f"Then plan again with --results sweeps/{name}/results.csv.",
    )
    trunks = question.cooldown < 1 and target.base.branches
    groups: dict[int, list[PlannedRun]] = {}
    for run in found.runs:
        groups.setdefault(run.trunk if trunks else len(groups), []).append(run)
    label, cooldown = "T" if trunks else "R", question.cooldown
    entries = [
        _entry(f"{name}-{label}{number}", runs, cooldown, trunks, target.base)
        for number, runs in enumerate(groups.values(), 1)
    ]
    target.write(Draft(name, target.base, _schedule(target.base, trunks, cooldown), tuple(entries), about))


def _entry(name: str, runs: list[PlannedRun], cooldown: float, trunk: bool, base: Base) -> Entry:
    """A trunk with its cooldowns, or a run by itself."""
    from lehr.proxy.sweep.base import sized, updates_of
    from lehr.proxy.sweep.writing import Entry

    one = runs[0]
    batch = one.batch or _batch_of(base)
    ends = tuple(updates_of(run.tokens, batch, "--tokens") for run in runs)
    fields: dict[str, Any] = {"peak_lr": one.lr, "updates": ends[0]}
    if trunk:
        fields["updates"] = max(end - round(cooldown * end) for end in ends)
    elif cooldown < 1:
        fields["decay"] = round(cooldown * ends[0])
    if base.config is None:
        fields |= {"params": _whole(one.active), "batch_tokens": _whole(batch)}
        if one.active != one.params:
            fields["params_total"] = _whole(one.params)
    else:
        model = sized(base, [one.params], "--params")[one.params]
        own = base.config.model
        for key in ("width", "heads", "ffn_width"):
            if getattr(model, key) != getattr(own, key):
                fields[f"model.{key}"] = getattr(model, key)
        if model.experts != own.experts and model.experts is not None:
            fields["model.experts.width"] = model.experts.width
        if one.batch is not None:
            fields["training.batch"] = _sequences(base, one.batch)
    return Entry(name, fields, (cooldown,), ends) if trunk else Entry(name, fields)


def _schedule(base: Base, trunks: bool, cooldown: float) -> str:
    """Spec of the trunks, or of runs that share none: WSD, or a cosine where it is all cooldown."""
    warmup = "{warmup}" if base.config is None else str(base.warmup)
    start = f"steps={{updates}}, peak={{peak_lr}}, warmup={warmup}"
    if trunks:
        return f"constant({start})"
    if cooldown < 1:
        return f"wsd({start}, decay={{decay}})"
    if base.config is not None:
        family, arguments = base.config.training.plan.call or ("", ())
        told = dict(arguments)
        if family == "cosine" and any(told.get(key) for key in ("final", "cycle")):
            raise InputError(
                f"{base.source}: a cosine with a final LR or a cycle of its own does not say what it is at another "
                "length and peak: leave final and cycle out, or write the sweep yourself."
            )
    return f"cosine({start})"


def _batch_of(base: Base) -> float:
    """Tokens of an update.

    Raises
    ------
    InputError
        If they are not known.
    """
    if base.batch_tokens is None:
        raise InputError(
            "a sweep counts updates, and the plan tokens: give --batch, or --base with the batch in it."
        )
    return base.batch_tokens


def _sequences(base: Base, batch: float) -> int:
    from lehr.proxy.sweep.base import CLOSE

    assert base.config is not None
    context = base.config.model.context
    sequences = max(1, round(batch / context))
    if abs(sequences * context / batch - 1) > CLOSE:
        raise bad(
            "--batch", f"must be whole sequences of {context} tokens, as {base.source} has", batch,
            f"take {sequences * context}",
        )  # fmt: skip
    return sequences


def _whole(value: float) -> float | int:
    return int(value) if value == int(value) else value


def write_suggestion(asked: Any, domain: Domain, target: Target | None, store: Path) -> None:
    """Write the runs of the suggestion that gains most, if there are suggestions and a place to write to.

    Raises
    ------
    InputError
        If the base is of another size or batch than the fitted runs.
    """
    from lehr.proxy.sweep.writing import Draft, sweep_name
    from lehr.schedule.spec import to_text

    if target is None or asked is None:
        return
    suggestions: Suggestions = asked
    best, base, name = suggestions.best[0], target.base, sweep_name(target.path)
    _check_base(base, domain)
    about = (
        f"Written by lehr fit --suggest: the runs to add to {store} that gain most, of {suggestions.budget} updates.",
        f"They cost {best.plan.cost} updates; expected is a gain of {best.gain:.0%} of the variance that is left.",
        f"Base: {base.source or 'none, fill in the commented lines'}.",
        f"Then fit again with what `lehr sweep {target.path} --store {store}` adds.",
    )
    values: dict[str, Any] = {}
    if base.config is None:
        sizes = {"params": domain.params, "batch_tokens": domain.batch_tokens}
        told = base.tables.get("values", {})
        values = {k: _whole(v[0]) for k, v in sizes.items() if v and v[0] == v[1] and k not in told}
    entries = _suggested(best.plan, name, base.branches)
    schedule = to_text(best.plan.parts[0].schedule)
    target.write(Draft(name, base, schedule, entries, about, values))


def _suggested(plan: Suggested, name: str, branches: bool) -> tuple[Entry, ...]:
    """A run, a trunk with cooldowns, or the cooldowns as runs of their own where none can branch."""
    from lehr.proxy.sweep.writing import Entry
    from lehr.schedule.spec import to_text

    forks = plan.parts[1:]
    if not forks:
        return (Entry(name, {}),)
    if not branches:
        return tuple(
            Entry(f"{name}-{number}", {"training.schedule": to_text(part.schedule)})
            for number, part in enumerate(forks, 1)
        )
    ratios = tuple(_ratio(part.schedule.steps - part.first, part.schedule.steps) for part in forks)
    return (Entry(name, {}, ratios, (forks[0].schedule.steps,)),)


def _ratio(decay: int, end: int) -> float:
    """The shortest number that is this ratio to the update."""
    return next(
        r for digits in range(1, 18) if round((r := round(decay / end, digits)) * end) == decay and r > 0
    )


def _check_base(base: Base, domain: Domain) -> None:
    """Refuse a configuration that did not train the fitted runs."""
    from lehr.proxy.counts import count
    from lehr.proxy.sweep.base import CLOSE

    if base.config is None:
        return
    size = count(base.config.model, 2).active_non_embedding
    for what, value, told in (
        ("parameters", float(size), domain.params), ("tokens an update", base.batch_tokens or 0.0, domain.batch_tokens),
    ):  # fmt: skip
        if (
            told
            and math.isclose(told[0], told[1], rel_tol=CLOSE)
            and not math.isclose(value, told[0], rel_tol=CLOSE)
        ):
            raise InputError(
                f"{base.source} has {value:g} {what}, but the fitted runs have {told[0]:g}: give the configuration "
                "that trained them."
            )
