"""The configuration of a training: what a file may say, and how it is refused."""

import pytest

from lehr.errors import InputError
from lehr.proxy.config import load_config, make_config

GOOD = {
    "name": "tiny",
    "model": {"depth": 2, "width": 32, "heads": 2, "context": 64},
    "training": {"schedule": "wsd(steps=100, peak=1e-3, warmup=10, decay=20)", "batch": 4},
}


def changed(table, **values):
    """GOOD with keys of one table changed, or at the top for an empty name."""
    if not table:
        return {**GOOD, **values}
    return {**GOOD, table: {**GOOD.get(table, {}), **values}}


def test_defaults_and_derived_values():
    config = make_config(GOOD)
    assert config.batch_tokens == 256
    assert config.training.plan.steps == 100
    assert config.model.hidden == 88  # 8/3 of 32 is 85.3, rounded up to a multiple of 8
    assert make_config(config.model_dump(mode="json")) == config


def test_experts_share_the_dense_width():
    config = make_config(changed("model", ffn_width=96, experts={"count": 8, "top_k": 2, "shared": 1}))
    assert config.model.expert_hidden == 32


@pytest.mark.parametrize(
    ("table", "weight"), [({}, 0.01), ({"balance": "bias"}, 0.001), ({"balance_weight": 0.02}, 0.02)]
)
def test_the_weight_of_the_balance_goes_by_its_kind(table, weight):
    experts = make_config(changed("model", experts={"count": 4, **table})).model.experts
    assert experts is not None
    assert experts.balance_weight == weight


@pytest.mark.parametrize(
    ("values", "text"),
    [
        (changed("model", widht=3), "unknown key of [model] 'widht': did you mean 'width'?"),
        (changed("", modell={}), "unknown key of [top level] 'modell': did you mean 'model'?"),
        (changed("model", heads=5), "heads must divide width (32) into an even head width, got 5"),
        (changed("model", experts={"count": 2, "top_k": 3}), "top_k must be at most count (2), got 3"),
        (changed("model", experts={"count": 2, "topk": 1}), "unknown key of [model.experts] 'topk'"),
        (changed("model", depth=0), "model.depth must be greater than or equal to 1, got 0: correct it."),
        (changed("model", depth="2"), "model.depth must be a valid integer, got '2': correct it."),
        (changed("training", batch=None), "training.batch must be a valid integer, got None"),
        (changed("training", schedule="wsd(steps=10)"), "training.schedule: "),
        (changed("data", kind="text"), "paths must name files for kind 'text', got []"),
        (changed("data", paths=["a.txt"]), "paths must be empty for synthetic data, got ['a.txt']"),
        (changed("data", kind="tokens", paths=["a.bin"]), "vocab_size must be given for packed tokens"),
        ({k: v for k, v in GOOD.items() if k != "name"}, "name is missing: give it."),
    ],
)
def test_what_is_refused(values, text):
    with pytest.raises(InputError) as refused:
        make_config(values, "run.toml")
    assert str(refused.value).startswith("run.toml: ")
    assert text in str(refused.value)


def test_files(tmp_path):
    path = tmp_path / "run.toml"
    with pytest.raises(InputError, match=r"cannot read .*run\.toml: No such file"):
        load_config(path)
    path.write_text("name = ")
    with pytest.raises(InputError, match=r"run\.toml is not TOML: "):
        load_config(path)
    path.write_text(
        'name = "a"\n[model]\ndepth = 1\nwidth = 8\nheads = 1\ncontext = 8\n'
        '[training]\nbatch = 2\nkeep = [10, 20]\nschedule = "constant(steps=30, peak=1e-3)"\n'
    )
    assert load_config(path).training.keep == (10, 20)
