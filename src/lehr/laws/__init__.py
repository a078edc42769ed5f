"""The laws, one a file, and the one table that lists them. Adding a law: one file, one line.

The order is one of preference (`docs/choosing-a-law.md`), laws of one size first: where the errors on
hidden losses tie, the earlier law is chosen.
"""

from __future__ import annotations

from lehr.errors import unknown
from lehr.laws.chinchilla import Chinchilla, OnePower
from lehr.laws.effective_time import EffectiveTime
from lehr.laws.forward_momentum import ForwardMomentum
from lehr.laws.functional import Functional
from lehr.laws.law import Law
from lehr.laws.multi_power import MultiPower
from lehr.laws.sized import Sized
from lehr.laws.tissue import Tissue
from lehr.laws.weight_norm import WeightNorm

LAWS: dict[str, Law] = {
    law.name: law
    for law in (
        WeightNorm(),
        EffectiveTime(),
        EffectiveTime(name="effective_time_area", kernel="area"),
        MultiPower(),
        Tissue(),
        Functional(),
        ForwardMomentum(),
        OnePower(),
        Sized(WeightNorm(), "weight_norm_n", drift=("initial_norm",)),
        Sized(EffectiveTime(), "effective_time_n"),
        Chinchilla(),
        Tissue(name="tissue_n", sizes=True),
        ForwardMomentum(name="forward_momentum_n", sizes=True),
    )
}
"""The laws by name, in the order of preference among laws whose errors on hidden losses are tied."""


def get_law(name: str) -> Law:
    """Return the law called `name`.

    Raises
    ------
    InputError
        If there is none; the nearest name is suggested.
    """
    if name not in LAWS:
        raise unknown("law", name, LAWS)
    return LAWS[name]
