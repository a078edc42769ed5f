"""Small checkpoints, and their average by the plain definition."""

import torch


def weights(seed):
    """Tensors of every kind that a checkpoint may hold."""
    made = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(shape, generator=made)

    return {
        "embed": normal(50, 8).to(torch.bfloat16), "block.w": normal(8, 8), "block.half": normal(3, 5).half(),
        "norm": normal(7).double(), "scale": normal(), "none": normal(0, 4),
        "steps": torch.tensor(seed), "mask": torch.tensor([True, False, True]), "ids": torch.arange(5),
    }  # fmt: skip


def average(states, shares):
    """The reference: everything in memory, in double precision."""
    out = {}
    for name, last in states[-1].items():
        if last.is_floating_point():
            total = sum(share * state[name].double() for share, state in zip(shares, states, strict=True))
            out[name] = total.to(last.dtype)
        else:
            out[name] = last
    return out
