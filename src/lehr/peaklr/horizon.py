"""From few token counts to a larger one: the loss at one LR as a power law of D, and the valley at the target D.

::

    L(D) = L0 + A D^(-gamma)        for fixed size, LR and batch, under WSD (arXiv 2601.05049, eq. 4)

Three or four token counts hardly tell gamma at one LR, and one value for all LRs is too rigid: losses far above the
valley's bottom fall otherwise. So the gammas of a sweep scatter (log-normal, `SPREAD`) about one of their own, which
has a prior about `GAMMA`, the exponents of published loss laws; all values in keeping with the losses count, and L0 and
A are solved for at each. A loss may err by the noise and by `FORM_ERROR` of the drop that was seen: a power law carried
over three times the tokens is off by .02 nats on public sweeps. The valley (eqs 2 and 3) is then put through the
extrapolated losses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lehr.errors import InputError, bad
from lehr.peaklr.levels import levels_of
from lehr.peaklr.table import SweepTable
from lehr.peaklr.valley import NOISE, Valley, fit_valley

GAMMA, GAMMA_WIDTH = 0.4, 0.5  # centre and width (of the logarithm) of the prior of the exponent
FORM_ERROR = 0.05  # of the drop over the token counts run, by which the power law itself may err
SPREAD = 0.2  # of ln gamma between the LRs of a sweep
GAMMAS = np.geomspace(0.08, 2.0, 65)
FEWEST = 3  # token counts at an LR
DRAWS = 200
IMPOSSIBLE = 50.0  # half squares
MOST_AT_EDGE = 0.5  # share of draws without an optimum between the LRs, above which none is told


@dataclass(frozen=True)
class Horizon:
    """Power laws L0 + A D^-gamma at one or several LRs.

    Parameters
    ----------
    lr : the k LRs, ascending.
    gammas : exponents considered, shape (g,).
    common : weight that all losses and the prior give each as the sweep's own exponent, shape (g,).
    weights : weight of each at an LR, given the sweep's own, shape (g of the sweep, k, g of the LR).
    means : L0 and A (over the scale of tokens) at each exponent and LR, shape (g, k, 2).
    covariances : theirs, shape (g, k, 2, 2).
    scale : tokens that D is counted in.
    longest : largest D measured.
    """

    lr: np.ndarray
    gammas: np.ndarray
    common: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    scale: float
    longest: float

    @property
    def gamma(self) -> float:
        """Mean exponent of the sweep."""
        return float(self.common @ self.gammas)

    def loss(self, tokens: float) -> tuple[np.ndarray, np.ndarray]:
        """Loss at `tokens` and its standard deviation, for each LR, shape (k,), nats per token."""
        values, within = self._at(tokens)
        weights = np.einsum("h,hkg->gk", self.common, self.weights)
        mean = (weights * values).sum(axis=0)
        return mean, np.sqrt((weights * (within + (values - mean) ** 2)).sum(axis=0))

    def sample(self, tokens: float, draws: int, generator: np.random.Generator) -> np.ndarray:
        """Draw losses at `tokens`, shape (draws, k), nats per token: the error that all LRs share included."""
        values, within = self._at(tokens)
        own = generator.choice(self.gammas.size, size=draws, p=self.common)
        ladder = np.cumsum(self.weights[own], axis=2)  # (draws, k, g)
        chosen = (
            (ladder < generator.random((draws, self.lr.size, 1))).sum(axis=2).clip(max=self.gammas.size - 1)
        )
        column = np.arange(self.lr.size)
        spread = np.sqrt(within[chosen, column])
        return values[chosen, column] + spread * generator.standard_normal(spread.shape)

    def _at(self, tokens: float) -> tuple[np.ndarray, np.ndarray]:
        """Loss and its variance by the error of L0 and A, at each exponent and LR, shape (g, k)."""
        if not 0 < tokens < np.inf:
            raise bad("tokens", "must be above 0", tokens, "give the tokens of the planned run")
        rows = np.stack([np.ones_like(self.gammas), (tokens / self.scale) ** -self.gammas], axis=1)
        return (
            np.einsum("gi,gki->gk", rows, self.means), np.einsum("gi,gkij,gj->gk", rows, self.covariances, rows),
        )  # fmt: skip


def fit_horizon(table: SweepTable, noise: float = NOISE, where: str = "the sweep") -> Horizon:
    """Fit the loss over tokens at every LR of one size and batch.

    Parameters
    ----------
    table : runs of one size and batch at several LRs, each at three or more token counts; LRs with fewer, or with a
        diverged run, are passed over.
    noise : standard deviation of a final loss, as a share of it.
    where : what the runs are, for messages.

    Raises
    ------
    InputError
        If sizes or batches are mixed, or no LR has three token counts.
    """
    for name, values in (("size", table.active), ("batch size", table.batch_tokens)):
        if values is not None and np.unique(levels_of(values)).size > 1:
            raise InputError(f"{where} mixes runs of more than one {name}: select those of one.")
    levels = levels_of(table.lr)
    parts = [table.select(levels == level) for level in np.unique(levels)]
    usable = [
        part for part in parts
        if np.unique(levels_of(part.tokens)).size >= FEWEST and not part.diverged.any()
    ]  # fmt: skip
    if not usable:
        raise InputError(
            f"{where}: no LR has runs of {FEWEST} token counts that all ended: anneal its run from {FEWEST} points."
        )
    scale = float(np.exp(np.mean(np.log(table.tokens))))
    fits = [_linear(part, scale, noise) for part in usable]
    likelihood = np.stack([badness for *_, badness in fits], axis=1)  # (g, k), negative logarithms
    likelihood = np.exp(likelihood.min(axis=0) - likelihood)
    logs = np.log(GAMMAS)
    scattered = np.exp(-(((logs[:, None] - logs[None]) / SPREAD) ** 2) / 2)
    scattered /= scattered.sum(axis=1, keepdims=True)
    joint = scattered[:, None, :] * likelihood.T[None]  # (g of the sweep, k, g of the LR)
    given = joint.sum(axis=2)
    common = np.log(given).sum(axis=1) - ((logs - np.log(GAMMA)) / GAMMA_WIDTH) ** 2 / 2
    common = np.exp(common - common.max())
    return Horizon(
        np.array([float(np.median(part.lr)) for part in usable]), GAMMAS, common / common.sum(),
        joint / given[..., None], np.stack([means for means, *_ in fits], axis=1),
        np.stack([covariances for _, covariances, _ in fits], axis=1), scale, float(table.tokens.max()),
    )  # fmt: skip


def _linear(part: SweepTable, scale: float, noise: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """L0 and A at every exponent, shape (g, 2), their covariance (g, 2, 2), and the badness of fit (g,)."""
    deviation = np.hypot(noise * part.loss, FORM_ERROR * np.ptp(part.loss))
    powers = (part.tokens[None] / scale) ** -GAMMAS[:, None]
    basis = np.stack([np.ones_like(powers), powers], axis=2)  # (g, n, 2)
    information = np.einsum("gni,gnj,n->gij", basis, basis, 1 / deviation**2)
    covariances = np.linalg.inv(information)
    means = np.einsum("gij,gnj,n->gi", covariances, basis, part.loss / deviation**2)
    residual = (part.loss - np.einsum("gni,gi->gn", basis, means)) / deviation
    impossible = np.where((means < 0).any(axis=1), IMPOSSIBLE, 0.0)  # a negative L0 or A is no such law
    return means, covariances, (residual**2).sum(axis=1) / 2 + impossible


def valley_at(
    horizon: Horizon, tokens: float, form: str = "parabola", level: float = 0.9, draws: int = DRAWS, seed: int = 0,
    where: str = "the sweep",
) -> Valley:  # fmt: skip
    """Fit the valley through the losses extrapolated to `tokens`.

    Returns
    -------
    The valley; its interval holds the error of the extrapolation: a valley is fitted to each draw of the losses.

    Raises
    ------
    InputError
        If the extrapolated losses enclose no optimum, or half the draws do not.
    """
    mean, deviation = horizon.loss(tokens)
    where = f"{where}, extrapolated to {tokens:.3g} tokens"
    noise = float(np.clip(np.median(deviation / mean), NOISE, 0.5))
    best = fit_valley(horizon.lr, mean, form, noise, level, where)
    found = []
    for losses in horizon.sample(tokens, draws, np.random.default_rng(seed)):
        try:
            found.append(np.log(fit_valley(horizon.lr, losses, form, noise, level, where).lr))
        except InputError:
            continue  # this draw has its optimum at an edge
    if len(found) < (1 - MOST_AT_EDGE) * draws:
        raise InputError(
            f"{where}: {1 - len(found) / draws:.0%} of the draws have no optimum between the LRs: "
            "run more LRs, or anneal at more token counts."
        )
    low, high = np.quantile(found, [0.5 - level / 2, 0.5 + level / 2])
    return replace(
        best,
        low=min(float(np.exp(low)), best.lr),
        high=max(float(np.exp(high)), best.lr),
        deviation=float(np.std(found)),
    )
