"""The export to optax replayed by JAX: in float64 to 1e-9, in float32 to its rounding."""

import numpy as np
import pytest
from tests.export_cases import CASES, load, require, run, same

from lehr.schedule.export import export

require("optax", "jax")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def jax():
    load("optax")
    return load("jax")


def replay(jax, text, steps):
    """LR of every update by the snippet under jit, and of one past the end."""
    schedule = jax.jit(run(text).schedule)
    return np.array([float(schedule(jax.numpy.asarray(update))) for update in range(steps + 1)])


@pytest.mark.parametrize("case", CASES)
def test_every_update_uses_the_exported_lr(jax, case):
    made = export(CASES[case], "optax")
    jax.config.update("jax_enable_x64", True)
    try:
        used = replay(jax, made.text, len(made.lr))
    finally:
        jax.config.update("jax_enable_x64", False)
    same(made.lr, used[:-1])
    assert used[-1] == pytest.approx(made.lr[-1], rel=1e-9)
    np.testing.assert_allclose(
        replay(jax, made.text, len(made.lr))[:-1], made.lr, rtol=1e-5, atol=2.5e-7 * made.lr.max()
    )


def test_update_k_of_an_optimiser_uses_schedule_k(jax):
    optax = load("optax")
    made = export(CASES["wsd"], "optax")
    optimizer = optax.sgd(run(made.text).schedule)
    weight = jax.numpy.zeros(())
    state, moves = optimizer.init(weight), []
    for _ in range(len(made.lr)):
        update, state = optimizer.update(jax.numpy.ones(()), state, weight)
        moves.append(-float(update))
    np.testing.assert_allclose(moves, made.lr, rtol=1e-5, atol=2.5e-7 * made.lr.max())
