"""What a training needs of memory: the estimate against what autograd saves, and the messages."""

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from tests.proxy.tiny import tiny  # noqa: E402

from lehr.errors import ResultError  # noqa: E402
from lehr.proxy import memory  # noqa: E402
from lehr.proxy.distributed import Ranks  # noqa: E402
from lehr.proxy.memory import check_memory, estimate_memory, explaining_shortage  # noqa: E402
from lehr.proxy.model import Transformer, initialise  # noqa: E402
from lehr.proxy.train import train  # noqa: E402

ALONE = Ranks(0, 1, torch.device("cpu"))
SHAPES = {
    "dense": {"depth": 2, "width": 64, "heads": 4, "context": 64},
    "deep and narrow": {"depth": 6, "width": 32, "heads": 2, "context": 64},
    "experts": {"depth": 2, "width": 64, "heads": 4, "context": 64, "experts": {"count": 8, "top_k": 2}},
    "shared experts": {
        "depth": 2,
        "width": 64,
        "heads": 4,
        "context": 64,
        "experts": {"count": 4, "shared": 1},
    },
}


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_estimate_is_near_what_autograd_saves(shape):
    config = tiny(model=shape)
    model = Transformer(config.model, 16)
    initialise(model, 0)
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    saved = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = (storage.nbytes(), tensor)
        return tensor

    tokens = torch.zeros(4, 64, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = model(tokens, tokens)
    assert output.loss.requires_grad
    measured = sum(size for size, _ in saved.values())
    assert estimate_memory(config, 16).activations == pytest.approx(measured, rel=0.35)


def test_parts_ranks_and_precision_make_it_smaller():
    whole = estimate_memory(tiny(batch=8), 32)
    assert estimate_memory(tiny(batch=8, accumulate=4), 32).activations == whole.activations // 4
    halved = estimate_memory(tiny(batch=8, parallel="fsdp"), 32, ranks=2)
    assert (halved.state, halved.activations) == (whole.state // 2, whole.activations // 2)
    assert estimate_memory(tiny(batch=8), 32, ranks=2).state == whole.state
    assert estimate_memory(tiny(batch=8, precision="bfloat16"), 32).activations < whole.activations
    assert whole.state == 16 * sum(p.numel() for p in Transformer(tiny().model, 32).parameters())


def test_what_the_machine_cannot_hold_is_refused_before_it_is_tried(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_there", lambda device: 1000)
    with pytest.raises(ResultError, match=(
        r"run 'a' needs about 0\.00 GiB of weights, gradients and optimiser, and 0\.00 GiB of activations, "
        r"but cpu has 0\.0 GiB: cut the batch with training.accumulate = 2 or more"
    )):  # fmt: skip
        train(tiny(), tmp_path / "run")
    monkeypatch.undo()
    check_memory(tiny(), 32, ALONE)
    assert train(tiny(), tmp_path / "run").finished, "the refusal left nothing in the way"


@pytest.mark.parametrize("error", [
    torch.OutOfMemoryError("CUDA out of memory"), MemoryError(),
    RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory: you tried"),
])  # fmt: skip
def test_a_failed_allocation_is_told_with_the_estimate(error):
    with pytest.raises(
        ResultError, match="out of memory on cpu: run 'a' needs about .* GiB of activations: shorten"
    ):
        with explaining_shortage(tiny(accumulate=4), 32, ALONE):
            raise error


def test_torchs_own_failure_is_recognised():
    with pytest.raises(ResultError, match="out of memory on cpu"), explaining_shortage(tiny(), 32, ALONE):
        torch.empty(2**60)


def test_other_errors_are_left_alone():
    with pytest.raises(RuntimeError, match="shapes"), explaining_shortage(tiny(), 32, ALONE):
        raise RuntimeError("shapes differ")
