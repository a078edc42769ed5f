"""A Hugging Face mixture of experts under a plan, in two processes by DDP and by FSDP2, against one process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.export_cases import load, require

require("torch", "transformers")
pytestmark = pytest.mark.filterwarnings("ignore")
torch = load("torch")
if not torch.distributed.is_available():
    pytest.skip("this torch is built without distributed training", allow_module_level=True)
ROOT = Path(__file__).parents[3]

# every training: 4 updates; if it is shared, the model and the optimiser are saved and built anew after 2
SCRIPT = """
import os, sys, torch
from torch import distributed as dist
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions, get_model_state_dict, get_optimizer_state_dict, set_model_state_dict, set_optimizer_state_dict,
)
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM
from lehr.transfer.adapters.hugging_face import apply_multipliers, architecture, roles
from lehr.transfer.apply import initialise, parameter_groups
from lehr.transfer.plan import Settings, transfer
from lehr.transfer.sizes import Scale

torch.set_num_threads(1)
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=False)

def config(width, depth):
    return Qwen3MoeConfig(
        hidden_size=width, num_hidden_layers=depth, num_attention_heads=width // 8, num_key_value_heads=2, head_dim=8,
        intermediate_size=2 * width, moe_intermediate_size=width, num_experts=4, num_experts_per_tok=2, vocab_size=40,
        norm_topk_prob=True, tie_word_embeddings=False,
    )

def build(how):
    scales = (Scale(architecture(config(*sizes)), 100, 1000) for sizes in ((16, 1), (32, 2)))
    # with an epsilon as small as usual Adam makes whole steps of gradients that are mere rounding
    plan = transfer(*scales, "completep-moe", Settings(0.01, epsilon=1e-3))
    model = Qwen3MoeForCausalLM(config(32, 2))
    if how == "fsdp":
        for block in model.model.layers:
            fully_shard(block)
        fully_shard(model)
    known = roles(model)
    initialise(model, known, plan, seed=5)
    apply_multipliers(model, plan.multipliers)
    optimizer = torch.optim.AdamW(parameter_groups(model, known, plan))
    wrapped = DistributedDataParallel(model) if how == "ddp" else model
    return model, wrapped, optimizer

def train(how, rank, size):
    tokens = torch.arange(4 * 8 * 10).reshape(4, 8, 10) * 7 % 40
    model, wrapped, optimizer = build(how)
    for step in range(4):
        if step == 2 and how != "one":
            weights = get_model_state_dict(model, options=WHOLE)
            state = get_optimizer_state_dict(model, optimizer, options=WHOLE)
            model, wrapped, optimizer = build(how)
            set_model_state_dict(model, weights, options=WHOLE)
            set_optimizer_state_dict(model, optimizer, state, options=WHOLE)
        share = tokens[step].chunk(size)[rank]
        wrapped(share, labels=share).loss.backward()
        for group in optimizer.param_groups:
            group["lr"] = 0.01 * group["lr_factor"] / (step + 1)
        optimizer.step()
        optimizer.zero_grad()
    return {name: value.clone() for name, value in get_model_state_dict(model, options=WHOLE).items()}

size = int(os.environ.get("WORLD_SIZE", "1"))
found = {}
if size > 1:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    for how in ("ddp", "fsdp"):
        found[how] = train(how, rank, size)
else:
    rank, found["one"] = 0, train("one", 0, 1)
if rank == 0:
    torch.save(found, sys.argv[1])
if size > 1:
    dist.barrier()
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shared")
    (folder / "job.py").write_text(SCRIPT)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT / "src")}
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    found = {}
    for name, how in (("one", []), ("two", launch)):
        command = [sys.executable, "-W", "ignore", *how, str(folder / "job.py"), str(folder / name)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-3000:]
        found |= torch.load(folder / name)
    return found


@pytest.mark.parametrize("how", ["ddp", "fsdp"])
def test_two_processes_train_as_one_and_their_state_is_saved_and_loaded(trained, how):
    assert trained[how].keys() == trained["one"].keys()
    for name, value in trained["one"].items():
        torch.testing.assert_close(trained[how][name], value, rtol=1e-4, atol=1e-6, msg=name)
