"""From few token counts to a larger one: the loss at one LR as a power law of D, and the valley at the target D.

::

    L(D) = L0 + A D^(-gamma)        for fixed size, LR and batch, under WSD (arXiv 2601.05049, eq. 4)

gamma is shared by the LRs of a sweep. Three or four token counts hardly tell it: it has a prior (log-normal about
`GAMMA`, the exponents of published loss laws), and all values in keeping with the losses count. L0 and A are solved
for at each. The valley (eqs 2 and 3) is then put through the extrapolated losses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lehr.errors import InputError, bad
from lehr.peaklr.table import SweepTable
from lehr.peaklr.valley import NOISE, Valley, fit_valley

GAMMA, GAMMA_WIDTH = 0.4, 0.5  # centre and width (of the logarithm) of the prior of the exponent
GAMMAS = np.geomspace(0.08, 2.0, 65)
FEWEST = 3  # token counts at an LR
DRAWS = 200
MOST_AT_EDGE = 0.5  # share of draws without an optimum between the LRs, above which none is told


@dataclass(frozen=True)
class Horizon:
    """Power laws L0 + A D^-gamma at one or several LRs, with gamma in common.

    Parameters
    ----------
    lr : the k LRs, ascending.
    gammas, weights : exponents considered, and the weight that losses and prior give each, shape (g,).
    means : L0 and A (over the scale of tokens) at each exponent and LR, shape (g, k, 2).
    covariances : theirs, shape (g, k, 2, 2).
    scale : tokens that D is counted in.
    longest : largest D measured.
    """

    lr: np.ndarray
    gammas: np.ndarray
    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    scale: float
    longest: float

    @property
    def gamma(self) -> float:
        """Mean exponent."""
        return float(self.weights @ self.gammas)

    def loss(self, tokens: float) -> tuple[np.ndarray, np.ndarray]:
        """Loss at `tokens` and its standard deviation, for each LR, shape (k,), nats per token."""
        row = self._rows(tokens)  # (g, 2)
        values = np.einsum("gi,gki->gk", row, self.means)
        within = np.einsum("gi,gkij,gj->gk", row, self.covariances, row)
        mean = self.weights @ values
        return mean, np.sqrt(self.weights @ (within + (values - mean) ** 2))

    def sample(self, tokens: float, draws: int, generator: np.random.Generator) -> np.ndarray:
        """Draw losses at `tokens`, shape (draws, k), nats per token: the error that all LRs share included."""
        rows = self._rows(tokens)
        chosen = generator.choice(self.gammas.size, size=draws, p=self.weights)
        means = np.einsum("gi,gki->gk", rows, self.means)[chosen]
        spread = np.sqrt(np.einsum("gi,gkij,gj->gk", rows, self.covariances, rows))[chosen]
        return means + spread * generator.standard_normal(means.shape)

    def _rows(self, tokens: float) -> np.ndarray:
        if not 0 < tokens < np.inf:
            raise bad("tokens", "must be above 0", tokens, "give the tokens of the planned run")
        return np.stack([np.ones_like(self.gammas), (tokens / self.scale) ** -self.gammas], axis=1)


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
        if values is not None and np.ptp(np.log(values)) > 0.02:
            raise InputError(f"{where} mixes runs of more than one {name}: select those of one.")
    levels = np.round(np.log(table.lr), 6)
    usable = [
        level for level in np.unique(levels)
        if np.unique(table.tokens[levels == level]).size >= FEWEST and not table.diverged[levels == level].any()
    ]  # fmt: skip
    if not usable:
        raise InputError(
            f"{where}: no LR has runs of {FEWEST} token counts that all ended: anneal its run from {FEWEST} points."
        )
    scale = float(np.exp(np.mean(np.log(table.tokens))))
    badness = (np.log(GAMMAS / GAMMA) / GAMMA_WIDTH) ** 2 / 2
    means = np.zeros((GAMMAS.size, len(usable), 2))
    covariances = np.zeros((GAMMAS.size, len(usable), 2, 2))
    for column, level in enumerate(usable):
        at = levels == level
        loss, deviation = table.loss[at], noise * table.loss[at]
        for row, gamma in enumerate(GAMMAS):
            basis = np.stack([np.ones(loss.size), (table.tokens[at] / scale) ** -gamma], axis=1)
            information = basis.T @ (basis / deviation[:, None] ** 2)
            covariances[row, column] = np.linalg.inv(information)
            means[row, column] = covariances[row, column] @ (basis.T @ (loss / deviation**2))
            badness[row] += np.sum(((loss - basis @ means[row, column]) / deviation) ** 2) / 2
            badness[row] += np.log(np.linalg.det(information)) / 2  # the linear parts integrated over
            if (means[row, column] < 0).any():
                badness[row] += 1e3  # a loss that falls below 0, or rises with tokens, is no such law
    weights = np.exp(-(badness - badness.min()))
    return Horizon(
        np.exp(np.array(usable)),
        GAMMAS,
        weights / weights.sum(),
        means,
        covariances,
        scale,
        float(table.tokens.max()),
    )


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
