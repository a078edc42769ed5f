"""Schedules for the exporters, their snippets as modules, and the real frameworks where they are installed."""

import importlib
import importlib.util
import sys
import types
import warnings

import numpy as np
import pytest
from hypothesis import strategies as st

from lehr.schedule.families import branch, constant, cosine, from_array, join, ramp, wsd
from lehr.schedule.spec import parse

TEXTS = {
    "constant": "constant(steps=12, peak=3e-4)",
    "constant, warm-up": "constant(steps=12, peak=3e-4, warmup=4)",
    "wsd": "wsd(steps=40, peak=3e-4, warmup=8, decay=12)",
    "wsd, HF warm-up": "wsd(steps=40, peak=3e-4, warmup=8, decay=12, warmup_phase=0)",
    "wsd, from the final LR": (
        "wsd(steps=40, peak=1, warmup=8, decay=12, warmup_start=.1, final=.1, warmup_phase=0)"
    ),
    "wsd, no warm-up": "wsd(steps=40, peak=3e-4, decay=12, final=3e-5)",
    "wsd, one update of warm-up": "wsd(steps=40, peak=3e-4, warmup=1, decay=12, final=3e-5)",
    "wsd, warm-up and decay alone": "wsd(steps=20, peak=3e-4, warmup=8, decay=12, final=1e-5)",
    "wsd, all warm-up": "wsd(steps=20, peak=3e-4, warmup=20, decay=0)",
    "wsd, warm-up from an LR": "wsd(steps=40, peak=3e-4, warmup=8, warmup_start=1e-4, decay=12, shape=cosine)",
    "1-sqrt": "wsd(steps=400, peak=3e-4, warmup=80, decay=120, shape=sqrt, final=1e-5)",
    "1-square": "wsd(steps=400, peak=3e-4, warmup=80, decay=120, shape=square)",
    "power": "wsd(steps=400, peak=3e-4, warmup=80, decay=120, shape=power(1.5))",
    "power, HF": "wsd(steps=40, peak=3e-4, warmup=8, decay=32, shape=power(2), final=1e-5, warmup_phase=0)",
    "mirror": "wsd(steps=400, peak=3e-4, warmup=80, decay=120, shape=mirror_cosine)",
    "exponential": "wsd(steps=400, peak=3e-4, warmup=80, decay=120, shape=exponential, final=3e-6)",
    "cosine": "cosine(steps=40, peak=3e-4, warmup=8, final=3e-5)",
    "cosine, HF warm-up": "cosine(steps=40, peak=3e-4, warmup=8, final=3e-5, warmup_phase=0)",
    "cosine past the end": "cosine(steps=40, peak=3e-4, warmup=8, final=3e-5, cycle=60)",
    "cosine ends early": "cosine(steps=40, peak=3e-4, warmup=8, final=3e-5, cycle=30)",
    "one cycle": "one_cycle(steps=40, peak=3e-4, warmup=12, start=1e-5, final=1e-7)",
    "one cycle from 0": "one_cycle(steps=40, peak=3e-4, warmup=12, start=0)",
    "wsd-s": "wsd_s(periods=[300, 200], peak=3e-4, warmup=60, decay=80, shape=sqrt)",
    "multistep": "multistep(steps=40, peak=3e-4, warmup=4, milestones=[20, 30], factors=[.3, .1])",
    "cyclic": "cyclic(steps=40, peak=3e-4, low=3e-5, period=13)",
    "many cycles": "cyclic(steps=400, peak=3e-4, low=3e-5, period=4)",
    "power scheduler": (
        "power_scheduler(steps=600, peak=0.01, warmup=6, a=4.6, batch=128, batch_tokens=500000, decay=90)"
    ),
    "rewarm": "rewarm(base=wsd(steps=30, peak=1, decay=10), steps=30, peak=.5, warmup=5, decay=9)",
    "rewarm, higher": "rewarm(base=wsd(steps=30, peak=1, decay=10), steps=30, peak=2, warmup=5, decay=9)",
    "branch": (
        "branch(base=wsd(steps=40, peak=1, warmup=5, decay=20), at=30, then=wsd(steps=9, peak=.5, decay=9))"
    ),
    "table": "from_array(values=[1, .9, .8, .7, .65, .2, .1, 0, 0, .5])",
    "odd ramp": "ramp(steps=3, start=1, end=0.5, shape=exponential, phase=.25, span=7.5)",
}
CASES = {name: parse(text) for name, text in TEXTS.items()}

lrs = st.floats(1e-7, 10)
# in thousandths: next to an LR of 1 one of 1e-15 is lost in the rounding of any formula
fractions = st.integers(0, 1000).map(lambda n: n / 1000)
shapes = st.one_of(
    st.sampled_from(["linear", "sqrt", "square", "cosine", "mirror_cosine"]),
    st.floats(0.1, 10).map(lambda power: f"power({power!r})"),
)
tables = st.lists(fractions, min_size=1, max_size=30).filter(max).map(lambda v: from_array(values=v))


@st.composite
def warm_stable_decay(draw):
    peak, warmup, stable, decay = draw(lrs), *(draw(st.integers(0, 60)) for _ in range(3))
    rise = {"warmup": warmup, "warmup_start": peak * draw(fractions), "warmup_phase": draw(st.integers(0, 1))}
    rise |= {"steps": warmup + stable + decay + 1, "peak": peak, "final": peak * draw(fractions)}
    plain = wsd(decay=decay, shape=draw(shapes), **rise)
    steep = wsd(decay=decay, shape="exponential", **rise | {"final": peak * (0.001 + 0.9 * draw(fractions))})
    cycle = draw(st.one_of(st.just(0), st.integers(warmup + 1, 200)))
    return draw(st.sampled_from([plain, steep, cosine(cycle=cycle, **rise)]))


@st.composite
def ramps(draw):
    steps, start, end, room = draw(st.integers(1, 40)), draw(fractions), draw(lrs), draw(st.integers(0, 9))
    shift = draw(st.one_of(st.floats(0, 5), st.integers(0, 5)))
    return ramp(steps=steps, start=start, end=end, shape=draw(shapes), phase=shift, span=steps + shift + room)


@st.composite
def cuts(draw):
    whole = draw(warm_stable_decay())
    return whole.first(draw(st.integers(1, whole.steps)))


simple = st.one_of(warm_stable_decay(), tables, ramps(), cuts()).filter(lambda schedule: schedule.peak > 0)
schedules = st.one_of(
    simple,
    st.builds(join, parts=st.lists(simple, min_size=1, max_size=3)),
    st.builds(lambda base, then: branch(base=base, at=base.steps, then=then), simple, simple),
    st.builds(lambda steps, peak: constant(steps=steps, peak=peak), st.integers(1, 50), lrs),
)


def same(wanted, used):
    """Check that LRs agree to 1e-9 of each (and to the rounding of the highest)."""
    np.testing.assert_allclose(used, wanted, rtol=1e-9, atol=1e-14 * np.max(wanted))


def require(*packages):
    """Skip the test module unless all packages are installed; they are large, so not part of [dev]."""
    missing = [name for name in packages if importlib.util.find_spec(name) is None]
    if missing:
        reason = f"{' and '.join(missing)} not installed: the replay runs where the framework is"
        pytest.skip(reason, allow_module_level=True)


def load(name):
    """Import a framework's module; its warnings are its own affair."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)


class Anything(types.ModuleType):
    """A module that has every name: a class that takes anything."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {"__init__": lambda self, *a, **k: None, "Config": type("Config", (), {})})


def run(text, path=None, stub=()):
    """Run a snippet as a module and return its names; `stub` names modules that stand in for frameworks."""
    before = {name: sys.modules.get(name) for name in stub}
    sys.modules |= {name: Anything(name) for name in stub}
    try:
        if path is None:
            names = {"__name__": "snippet"}
            exec(compile(text, "snippet", "exec", dont_inherit=True), names)
            return types.SimpleNamespace(**names)
        path.write_text(text)
        spec = importlib.util.spec_from_file_location(path.stem, path)
        module = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = module  # pickle looks it up
        spec.loader.exec_module(module)
        return module
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module
