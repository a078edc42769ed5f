"""Small checkpoints on disk; the tests that ask for them need torch and safetensors."""

import pytest


@pytest.fixture
def states():
    from tests.checkpoints.made import weights

    return [weights(seed) for seed in (1, 2, 3)]


@pytest.fixture
def safe(states, tmp_path):
    """Three safetensors files."""
    from safetensors.torch import save_file

    paths = [tmp_path / f"step-{100 * (i + 1)}.safetensors" for i in range(3)]
    for state, path in zip(states, paths, strict=True):
        save_file(state, path)
    return paths


@pytest.fixture
def pickled(states, tmp_path):
    """Three PyTorch files with optimiser state beside the weights."""
    import torch

    paths = [tmp_path / f"step-{100 * (i + 1)}.pt" for i in range(3)]
    for state, path in zip(states, paths, strict=True):
        optimiser = {"state": {0: {"exp_avg": torch.zeros(3)}}, "param_groups": [{"lr": 0.1}]}
        torch.save({"model": state, "optimizer": optimiser, "step": 3}, path)
    return paths
