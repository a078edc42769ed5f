"""How sure the fit is of itself: parameters with intervals, what the runs do not tell, and what would tell it."""

from __future__ import annotations

from lehr.anneal.outlook import FEWEST
from lehr.anneal.plan import Plan
from lehr.anneal.suggest import Suggestion, Suggestions, suggest_runs
from lehr.errors import InputError
from lehr.fit.diagnose import Diagnosis, diagnose
from lehr.report.report import Cell, Column, Part, Table
from lehr.report.study import Study


def trust_part(study: Study, wanted: bool = False) -> Part:
    """Parameters and, if `wanted` and the runs are at hand, what the residuals and the Jacobian say of them."""
    fit = study.fit
    found, left_out = _diagnosis(study) if wanted else (None, "")
    profiles = {p.name: p for p in found.profiles} if found else {}
    rows: list[tuple[Cell, ...]] = []
    for name, value in fit.parameters.items():
        low, high = fit.intervals.get(name, (None, None))
        remarks = ["at its bound"] if name in fit.at_bounds else []
        if name in profiles and profiles[name].by_prior:
            remarks.append("told by its prior alone")
        rows.append((name, value, low, high, "; ".join(remarks) or None))
    table = Table("parameters", f"Parameters of {fit.law}, with 90% intervals of the bootstrap", (
        Column("parameter", "parameter"), Column("value", "value", ".4g"), Column("low", "from", ".4g"),
        Column("high", "to", ".4g"), Column("remark", "remark")), tuple(rows))  # fmt: skip
    text = [
        f"The fit {_status(fit.status)}; {fit.starts_agreeing} of its {fit.starts_polished} best starts ended at the "
        "same place. Parameters may be known together though each alone is not: predictions have their own bands."
    ]
    tables = [table]
    if found:
        text.append(_identified(found))
        text += [f"{note[:1].upper()}{note[1:]}" for note in found.notes]
        tables.append(_biases(found))
    return Part(
        "trust",
        "How far the fit can be trusted",
        tuple(text),
        (),
        tuple(tables),
        (left_out,) if left_out else (),
    )


def _status(status: str) -> str:
    return {"converged": "converged", "at_bound": "converged with a parameter at its bound"}.get(
        status, "did not converge: fit again with more starts or more runs"
    )


def _diagnosis(study: Study) -> tuple[Diagnosis | None, str]:
    what = "what the residuals and the Jacobian say (lehr fit --diagnose)"
    if not study.fitted or study.doubts:
        return None, f"{what}: that needs the fitted runs themselves (--store)."
    try:
        return diagnose(study.fit, study.fitted, study.question.level), ""
    except InputError as error:
        return None, f"{what}: {error}"


def _identified(found: Diagnosis) -> str:
    parts = [f"The condition number of the scaled Jacobian is {found.condition:.3g}"]
    if found.weakest:
        parts.append(
            "; told least is " + " ".join(f"{load:+.2f} {name}" for name, load in found.weakest.items())
        )
    if found.pairs:
        parts.append(
            "; nearly collinear are " + ", ".join(f"{a} and {b} ({r:+.2f})" for a, b, r in found.pairs[:4])
        )
    return "".join(parts) + "."


def _biases(found: Diagnosis) -> Table:
    rows = tuple(
        (f"{kind} {each.part}", each.points, each.runs, each.bias, each.rms, each.significant)
        for kind, biases in found.biases.items()
        for each in biases
    )
    return Table("biases", "Residuals by steps, LR and phase", (
        Column("part", "part"), Column("points", "points", "d"), Column("runs", "runs", "d"),
        Column("bias", "bias", "+.3%"), Column("rms", "rms", ".3%"),
        Column("significant", "more than noise")), rows)  # fmt: skip


def surer_part(study: Study, plan: Plan, wanted: bool = False) -> Part:
    """What would make the answer surer; the runs to add themselves if `wanted`."""
    title, fit = "What would make it surer", study.result
    text = _advice(study, plan)
    if not wanted:
        return Part("surer", title, text)
    if len(fit.draws) < FEWEST:
        return Part("surer", title, text, left_out=(
            f"which run to add: that needs {FEWEST} bootstrap draws, and this fit has {len(fit.draws)}.",))  # fmt: skip
    try:
        found = suggest_runs(
            fit,
            steps=plan.best.schedule.steps,
            peak=plan.peak,
            level=study.question.level,
            **study.question.sizes,
        )
    except InputError as error:
        return Part("surer", title, text, left_out=(f"which run to add: {error}",))
    return Part("surer", title, (*text, _expected(found)), (), (_suggestions(found),))


def _advice(study: Study, plan: Plan) -> tuple[str, ...]:
    fit, best, text = study.fit, plan.best, []
    low, high = fit.domain.peak_lr
    if not fit.draws:
        text.append(
            "Fit with bootstrap draws (lehr fit --draws 100): without them the intervals are too narrow."
        )
    if len(fit.evidence) < 3:
        text.append(
            "Add runs: one or two tell little of the law's error. Three with two peak LRs and two lengths do."
        )
    if best.schedule.steps > fit.domain.steps:
        text.append(
            f"Run one longer than {fit.domain.steps:,} updates: the plan lies beyond all fitted runs."
        )
    if not low * (1 - 1e-9) <= plan.peak <= high * (1 + 1e-9):
        text.append(f"Run one at peak LR {plan.peak:.3g}: the fitted ones are at {low:.3g} to {high:.3g}.")
    text.append(
        "lehr fit --suggest (below, with the commands) ranks the runs to add by how far each would narrow the ratio "
        "and the final loss."
    )
    return tuple(text)


def _expected(found: Suggestions) -> str:
    now = found.before
    return (
        f"Today the best ratio is known to {now.ratio_low:.2f} to {now.ratio_high:.2f}, the final loss to "
        f"{now.final_loss_low:.4f} to {now.final_loss_high:.4f}, and a wrong ratio is expected to cost "
        f"{now.regret:.5f} nats. Runs that cost at most {found.budget:,} updates would change that to:"
    )


def _suggestions(found: Suggestions) -> Table:
    def row(each: Suggestion) -> tuple[Cell, ...]:
        plan = " and ".join(each.plan.specs)
        return plan, each.plan.cost, each.gain, each.ratio_low, each.ratio_high, each.regret

    return Table("suggestions", "Runs to add, by what they would tell", (
        Column("run", "run"), Column("cost", "updates", ",d"), Column("gain", "variance it takes away", ".0%"),
        Column("ratio_low", "ratio from", ".2f"), Column("ratio_high", "to", ".2f"),
        Column("regret", "cost of a wrong ratio (nats)", ".5f")), tuple(row(each) for each in found.best))  # fmt: skip
