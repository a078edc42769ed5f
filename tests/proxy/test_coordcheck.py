"""Coordinate checks of tiny proxies: what is looked at, that wrong rules are caught and named, and refusals."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from tests.proxy.tiny import tiny  # noqa: E402

from lehr.errors import InputError, ResultError  # noqa: E402
from lehr.proxy.coordcheck import cases, check_rule, measure  # noqa: E402
from lehr.proxy.coordinates import comparable_sites, sites_by_block  # noqa: E402
from lehr.proxy.data import open_data  # noqa: E402
from lehr.proxy.distributed import Ranks  # noqa: E402
from lehr.proxy.session import open_session, update  # noqa: E402
from lehr.transfer.coordcheck import Observer, rms  # noqa: E402
from lehr.transfer.rule import Row  # noqa: E402
from lehr.transfer.slopes import trends  # noqa: E402
from lehr.transfer.tables import RULES  # noqa: E402

EXPERTS = {"count": 4, "width": 16}
WIDTHS, DEPTHS = {"width": (16, 64, 256)}, {"depth": (2, 8)}


def base(model=None, **more):
    return tiny("base", plan="constant(steps=24, peak=4e-3)", model={"depth": 2, **(model or {})}, **more)


def opened(config):
    here = Ranks(0, 1, torch.device("cpu"))
    return open_session(config, open_data(config.data, config.model.context), here)


def named(check):
    return [(each.part, each.what) for each in check.verdicts[0].origins]


def slope(check, part, measure, step):
    (found,) = [t for t in trends(check.readings, step) if (t.part, t.measure) == (part, measure)]
    return found.slope


def test_the_expert_products_are_those_of_the_layer():
    """Weighted and summed by hand, the rows of `expert down` are what the layer gives."""
    session = opened(base({"experts": EXPERTS, "depth": 1}))
    layer, x = session.model.blocks[0].ffn, torch.randn(2, 8, 16)
    (site,) = [site for site in comparable_sites(session.model) if site.part == "expert down"]
    with torch.no_grad():
        _, made = site.product(layer, layer.down, (x,))
        from lehr.proxy.experts import route
        from lehr.proxy.grouped import Grouping, collect

        _, weights, chosen = route(layer.router(x.flatten(0, 1)), layer.experts, None)
        grouping = Grouping.of(chosen, 4)
        whole = collect(made * weights.flatten()[grouping.order, None], grouping)
        torch.testing.assert_close(whole.view_as(x), layer(x)[0])


@pytest.mark.parametrize(
    "model", [{}, {"experts": EXPERTS}, {"tied": True}, {"experts": {**EXPERTS, "shared": 1}}]
)
def test_every_matrix_is_looked_at(model):
    model = opened(base({"depth": 4, **model})).model
    looked = {f"{site.module}.{site.weight}".lstrip(".") for site in sites_by_block(model) if site.weight}
    matrices = {name for name, p in model.named_parameters() if p.ndim > 1 and name != "embedding.weight"}
    assert looked == matrices
    parts = {site.part for site in comparable_sites(model)}
    assert parts == {site.part.rstrip("0123456789").rstrip() for site in sites_by_block(model)}


def test_depths_are_compared_at_the_same_relative_depth():
    for depth, layers in ((2, {"query": {0, 1}, "ffn up": {0, 1}}), (8, {"query": {0, 4}, "ffn up": {3, 7}})):
        sites = comparable_sites(opened(base({"depth": depth})).model)
        for part, expected in layers.items():
            assert {int(site.module.split(".")[1]) for site in sites if site.part == part} == expected


def test_measures_are_those_of_the_model():
    session = opened(base())
    tokens = torch.from_numpy(session.source.train(50, 4))[:, :-1]
    observer = Observer(session.model, comparable_sites(session.model), lambda: session.model(tokens))
    with torch.no_grad():
        first, weight = session.model(tokens).logits, session.model.head.weight.clone()
    update(session)
    found = observer.measure()
    with torch.no_grad():
        assert found["logits", "change"] == pytest.approx(rms(session.model(tokens).logits - first), rel=1e-5)
    moved = session.model.head.weight.detach() - weight
    assert found["logits", "weights"] == pytest.approx(rms(moved) / rms(session.model.head.weight), rel=1e-5)
    assert found["embedding", "size"] == pytest.approx(rms(session.model.embedding.weight[tokens]), rel=1e-5)


def test_under_the_right_rule_no_fault_is_found_and_under_sp_every_matrix_is_named():
    right, wrong = (check_rule(base(), rule, WIDTHS, steps=4, seeds=2) for rule in ("completep", "sp"))
    assert named(right) == []
    assert (
        abs(slope(right, "residual stream", "size", 4)) < 0.15
        and abs(slope(right, "logits", "change", 4)) < 0.3
    )
    assert not wrong.holds and right.lr == wrong.lr == pytest.approx(1e-3)
    matrices = {"query", "key", "value", "attention output", "ffn gate", "ffn up", "ffn down", "logits"}
    assert {part for part, what in named(wrong) if what == "update"} == matrices
    assert 0.6 < slope(wrong, "ffn up", "update", 1) < 1.2
    assert {each.size for each in wrong.readings} == {16, 64, 256} and max(
        each.step for each in wrong.readings
    ) == 4


def test_a_missing_factor_of_the_logits_is_named(monkeypatch):
    monkeypatch.setitem(RULES, "mup", replace(RULES["mup"], output={}))
    assert named(check_rule(base(), "mup", WIDTHS, steps=2, seeds=1)) == [("logits", "update")]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (Row({"fan_in": -0.5}, {}), {("value", "update"), ("query", "update"), ("key", "update")}),
        (Row({}, {"fan_in": -1.0}), {("value", "gain"), ("query", "gain"), ("key", "gain")}),
    ],
)
def test_a_wrong_row_of_the_table_is_named(row, expected, monkeypatch):
    rows = {**RULES["mup"].rows, "attention_in": row}
    monkeypatch.setitem(RULES, "mup", replace(RULES["mup"], rows=rows))
    assert set(named(check_rule(base(), "mup", WIDTHS, steps=2, seeds=1))) == expected


def test_a_missing_factor_of_the_residual_branches_is_named():
    check = check_rule(base(), "mup", {"depth": (2, 8, 32)}, steps=3, seeds=2)
    assert named(check) == [("residual stream", "factor")]
    assert named(check_rule(base(), "completep", {"depth": (2, 8, 32)}, steps=3, seeds=2)) == []


def test_experts_and_their_share():
    wide = base({"experts": {"count": 4, "top_k": 2, "width": 16}})
    for rule, top in (("completep-moe", (2, 4)), ("mup-moe", (2, 2))):
        made = cases(wide, rule, {"experts": (4, 8)}, seeds=1)
        assert [case.config.model.experts.top_k for case in made] == list(top)
        assert [case.config.model.experts.count for case in made] == [4, 8]
        assert [case.config.model.expert_hidden for case in made] == [16, 16]
    parts = {
        each.part for each in check_rule(wide, "mup-moe", {"experts": (4, 8)}, steps=2, seeds=1).readings
    }
    assert {"router logits", "expert gate", "expert up", "expert down", "experts' sum"} <= parts


def test_widths_keep_heads_and_proportions():
    made = cases(base({"ffn_width": 24, "experts": EXPERTS}), "mup-moe", {"width": (16, 32)}, seeds=1)
    models = [case.config.model for case in made]
    assert [(m.heads, m.ffn_width, m.expert_hidden) for m in models] == [(2, 24, 16), (4, 48, 32)]


def test_what_is_measured_is_not_what_is_trained_on(monkeypatch):
    (case, *_) = cases(base(), "mup", WIDTHS, seeds=1, steps=2)
    asked = []
    source = open_data(case.config.data, case.config.model.context)
    original = type(source).train
    monkeypatch.setattr(
        type(source),
        "train",
        lambda self, first, count: asked.append((first, count)) or original(self, first, count),
    )
    list(measure(case))
    assert sorted(asked) == [(0, 4), (4, 4), (8, 4)] and asked[0] == (8, 4)


@pytest.mark.parametrize(
    ("scales", "more", "text"),
    [
        ({"width": (16,)}, {}, r"sizes of width must be two or more, to tell a slope, got \[16\]: add sizes"),
        ({"width": (32, 16)}, {}, r"sizes of width must rise, got \[32, 16\]: sort them"),
        (
            {"width": (16, 20)},
            {},
            "width must be a multiple of the base's head width, 8, got 20: take another width",
        ),
        (
            {"depth": (2, 3)},
            {},
            "sizes of depth must be even, so that there is a block at half the depth, got 3",
        ),
        ({"depth": (0, 2)}, {}, "depth must be at least 1, got 0"),
        ({"experts": (4, 8)}, {}, "the base is dense, so that it has no experts to vary"),
        ({}, {}, "there is nothing to vary: give widths, depths or numbers of experts"),
        (WIDTHS, {"steps": 1}, "steps must be at least 2, got 1"),
        (WIDTHS, {"seeds": 0}, "seeds must be at least 1, got 0"),
        (WIDTHS, {"lr": -1.0}, "lr must be positive, got -1.0"),
    ],
)
def test_sizes_that_tell_nothing_are_refused(scales, more, text):
    with pytest.raises(InputError, match=text):
        cases(base(), "completep", scales, **more)


@pytest.mark.parametrize(
    ("changes", "rule", "scales", "text"),
    [
        ({"model": {"ffn_width": 25}}, "completep", {"width": (16, 24)},
         "ffn_width must be whole: that of the base is 25 at width 16, got 37.5: take another width"),
        ({"model": {"experts": {"count": 4, "width": 9}}}, "mup-moe", {"width": (16, 24)},
         "experts.width must be whole"),
        ({"model": {"experts": {"count": 4, "top_k": 1}}}, "completep-moe", {"experts": (2, 4)},
         "top_k with 2 experts must be whole: that of the base is 1 at experts 4, got 0.5"),
        ({"model": {"experts": EXPERTS}}, "mup-moe", {"experts": (1, 4)}, "experts must be at least 2, of which 2 are"),
        ({"model": {"experts": EXPERTS}}, "completep", WIDTHS, "rule 'completep' has no row for router"),
        ({}, "complete", WIDTHS, "unknown rule of transfer 'complete': did you mean 'completep'"),
        ({"transfer": {"rule": "mup", "base": {"model": {"depth": 1, "width": 16, "heads": 2, "context": 16}}}}, "mup",
         WIDTHS, r"'base' has a table \[transfer\]: give the base itself"),
        ({"branch": {"run": "a", "step": 2}}, "mup", WIDTHS, r"'base' has a table \[branch\]"),
    ],
)  # fmt: skip
def test_bases_that_cannot_be_checked_are_refused(changes, rule, scales, text):
    with pytest.raises(InputError, match=text):
        check_rule(base(**changes), rule, scales)


def test_a_training_that_explodes_is_no_verdict():
    with pytest.raises(ResultError, match=r"the \w+ of .* is (nan|inf) after update \d .*: lower the LR"):
        check_rule(base(), "sp", {"width": (16, 32)}, lr=1e30, seeds=1)
