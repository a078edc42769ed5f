"""Counts against counts by hand, against the model that is built and against PyTorch's counter of FLOPs."""

import pytest

from lehr.proxy.config import Experts, Model
from lehr.proxy.counts import count

DENSE = Model(depth=2, width=16, heads=2, context=32, ffn_width=24)
SPARSE = Model(
    depth=2, width=16, heads=2, context=32, ffn_width=24, experts=Experts(count=4, top_k=2, shared=1)
)
TIED = DENSE.model_copy(update={"tied": True, "qk_norm": False})
SIGMOID = SPARSE.model_copy(update={"experts": Experts(count=3, top_k=1, router="sigmoid", width=7)})
VOCABULARY = 50


def test_dense_by_hand():
    counts = count(DENSE, VOCABULARY)
    attention = 4 * 16 * 16  # 1024
    ffn = 3 * 16 * 24  # 1152
    norms = 2 * 16 + 2 * 8  # of a block; heads are 8 wide
    body = 2 * (attention + ffn + norms) + 16
    assert body == 4464
    assert counts.total == counts.active == 4464 + 2 * 50 * 16 == 6064
    assert counts.non_embedding == counts.active_non_embedding == 4464
    assert counts.params_total == counts.total
    # matrices 2 (1024 + 1152) + 800 = 5152; scores and mixture 2 * (2 * 32 * 16 + 2 * 32 * 16)
    assert counts.forward_flops == 2 * 5152 + 4096 == 14400
    assert counts.training_flops == 43200


def test_experts_by_hand():
    counts = count(SPARSE, VOCABULARY)
    expert = 3 * 16 * 8  # 24 / (2 chosen + 1 shared) wide
    shared = expert
    router = 4 * 16
    block = 1024 + 4 * expert + shared + router + 48
    assert counts.non_embedding == 2 * block + 16 == 6128
    assert counts.active_non_embedding == 6128 - 2 * 2 * expert == 4592
    assert counts.total - counts.non_embedding == counts.active - counts.active_non_embedding == 1600
    assert counts.params_total == counts.non_embedding
    assert counts.forward_flops == count(DENSE, VOCABULARY).forward_flops + 2 * 2 * router


def test_a_tied_head_is_counted_once_and_still_multiplied():
    tied, untied = count(TIED, VOCABULARY), count(DENSE, VOCABULARY)
    assert tied.total == untied.total - 800 - 2 * 2 * 8  # and no norm of queries and keys
    assert tied.non_embedding == untied.non_embedding - 32
    assert tied.forward_flops == untied.forward_flops


@pytest.mark.parametrize("config", [DENSE, SPARSE, TIED, SIGMOID])
def test_against_the_model_that_is_built(config):
    torch = pytest.importorskip("torch", reason="needs the [train] extra")
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.utils.flop_counter import FlopCounterMode

    from lehr.proxy.model import Transformer, initialise

    torch.set_num_threads(1)
    model = Transformer(config, VOCABULARY)
    initialise(model, 0)
    counts = count(config, VOCABULARY)
    assert sum(weight.numel() for weight in model.parameters()) == counts.total

    tokens = torch.randint(0, VOCABULARY, (3, 32), generator=torch.Generator().manual_seed(0))
    counter = FlopCounterMode(display=False)
    with sdpa_kernel(SDPBackend.MATH), counter:  # the fused attention of CPUs is unknown to the counter
        output = model(tokens, tokens)
        assert counter.get_total_flops() == counts.forward_flops * tokens.numel()
        (output.loss + output.auxiliary).backward()
    assert counter.get_total_flops() == pytest.approx(counts.training_flops * tokens.numel())
