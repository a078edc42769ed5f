"""lehr: from a few cheap training runs, how to set and anneal the LR of the expensive one.

The public names below are loaded when first used, so that `import lehr` stays light.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "BatchLaw": "lehr.fit.batch:BatchLaw",
    "DecayAdvice": "lehr.anneal.branch:DecayAdvice",
    "Export": "lehr.schedule.export.export:Export",
    "FitOptions": "lehr.fit.fit:FitOptions",
    "FitResult": "lehr.fit.result:FitResult",
    "InputError": "lehr.errors:InputError",
    "LAWS": "lehr.laws:LAWS",
    "LehrError": "lehr.errors:LehrError",
    "LrLaw": "lehr.peaklr.law:LrLaw",
    "Prediction": "lehr.predict:Prediction",
    "Recommendation": "lehr.anneal.ratio:Recommendation",
    "ResultError": "lehr.errors:ResultError",
    "Run": "lehr.runs.run:Run",
    "RunSet": "lehr.runs.run:RunSet",
    "Schedule": "lehr.schedule.schedule:Schedule",
    "SweepTable": "lehr.peaklr.table:SweepTable",
    "adapt_fit": "lehr.fit.adapt:adapt",
    "add_runs": "lehr.runs.store:add_runs",
    "bootstrap": "lehr.fit.uncertainty:bootstrap",
    "compare_continuations": "lehr.anneal.continuation:compare_continuations",
    "compare_laws": "lehr.fit.compare:compare",
    "compare_wsd_s": "lehr.anneal.continuation:compare_wsd_s",
    "decay_weights": "lehr.anneal.merging:decay_weights",
    "diagnose_fit": "lehr.fit.diagnose:diagnose",
    "estimate_batch": "lehr.fit.batch_estimate:estimate_batch",
    "export_schedule": "lehr.schedule.export:export",
    "fit_horizon": "lehr.peaklr.horizon:fit_horizon",
    "fit_law": "lehr.fit.fit:fit",
    "fit_lr_law": "lehr.peaklr.law:fit_lr_law",
    "fit_ratio_law": "lehr.anneal.ratio_law:fit_ratio_law",
    "fit_surface": "lehr.peaklr.surface:fit_surface",
    "fit_sweep": "lehr.peaklr.sweep_fit:fit_sweep",
    "fit_valley": "lehr.peaklr.valley:fit_valley",
    "get_law": "lehr.laws:get_law",
    "load_examples": "lehr.examples:load_examples",
    "load_fits": "lehr.fit.files:load_fits",
    "load_runs": "lehr.runs.store:load_runs",
    "load_sweep_fit": "lehr.peaklr.sweep_fit:load_sweep_fit",
    "load_sweep_table": "lehr.peaklr.reading:load_sweep_table",
    "measure_optima": "lehr.peaklr.optima:measure_optima",
    "measure_valleys": "lehr.anneal.valley:measure_valleys",
    "optimize_schedule": "lehr.anneal.optimize:optimize_schedule",
    "parse_schedule": "lehr.schedule.spec:parse",
    "peak_transfer": "lehr.anneal.convex:peak_transfer",
    "predict_curve": "lehr.predict:predict",
    "profile_fit": "lehr.fit.profile:profile",
    "published_lrs": "lehr.peaklr.published:published_lrs",
    "read_log": "lehr.runs.readers:read",
    "recommend_decay": "lehr.anneal.branch:recommend_decay",
    "recommend_ratio": "lehr.anneal.ratio:recommend_ratio",
    "schedule_text": "lehr.schedule.spec:to_text",
    "search_family": "lehr.anneal.family_search:search_family",
    "suggest_runs": "lehr.anneal.suggest:suggest_runs",
    "update_fit": "lehr.fit.update:update",
    "valley_at": "lehr.peaklr.horizon:valley_at",
}
__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'lehr' has no attribute {name!r}")
    module, _, attribute = _PUBLIC[name].partition(":")
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
