"""The page in a browser: its controls, its numbers against the library's, names as text, keys, and no fault by axe."""

import json
import re

import numpy as np
import pytest

for needed in ("fastapi", "httpx", "uvicorn", "playwright"):
    pytest.importorskip(needed, reason=f"tests of the page need {needed}")

from tests.studio.asking import TOKEN  # noqa: E402
from tests.studio.browser.opening import HOSTILE  # noqa: E402

import lehr  # noqa: E402
from lehr.peaklr.sweep_fit import load_sweep_fit  # noqa: E402
from lehr.schedule.spec import parse  # noqa: E402
from lehr.transfer.tables import RULES  # noqa: E402

WIDE, NARROW = {"width": 1400, "height": 900}, {"width": 360, "height": 740}


def headline(result, text, points=60):
    """What the page must say of a schedule."""
    schedule = parse(text)
    steps = np.unique(
        np.linspace(min(result.domain.warmup, schedule.steps // 2), schedule.steps, points).round()
    )
    found = lehr.predict_curve(result, schedule, steps)
    return f"Final loss {found.loss[-1]:.4f}, 90 % band {found.low[-1]:.4f} to {found.high[-1]:.4f}"


def set_plan(page, **values):
    for name, value in values.items():
        page.fill(f"#{name}", str(value))


def test_the_page_opens_and_hides_its_token(open_page, server):
    one = open_page(server)
    assert TOKEN not in one.page.url
    assert one.page.evaluate("sessionStorage.getItem('lehr-token')") == TOKEN
    one.expect("#store").to_have_text(
        f"Bundled examples, {len(lehr.load_examples())} runs; lehr {lehr.__version__}"
    )
    assert one.settled().startswith("Final loss")


@pytest.mark.parametrize("law", ["weight_norm", "effective_time", "tissue", "one_power"])
def test_numbers_are_the_librarys(open_page, server, fits, law):
    one = open_page(server)
    one.page.select_option("#law", law)
    set_plan(one.page, steps=1800, peak=0.0012, warmup=90, ratio=0.25, final=0.1)
    one.page.select_option("#shape", "sqrt")
    text = "wsd(steps=1800, peak=0.0012, warmup=90, decay=450, shape=sqrt, final=0.00012)"
    one.expect("#spec").to_have_text(text)
    one.expect("#summary").to_have_text(f"{headline(fits.results[law], text)}, at ratio .25.", timeout=30_000)
    row = one.page.locator("#finals tbody tr", has_text=re.compile(f"^{law}\\d"))
    words = row.text_content()
    found = re.match(r"Final loss (\S+), 90 % band (.*)", headline(fits.results[law], text))
    assert words == f"{law}{found[1]}{found[2]}"


def test_sliders_move_numbers_and_the_prediction(open_page, server):
    one = open_page(server)
    before = one.settled()
    for name in ("steps", "peak", "warmup", "ratio", "final"):
        slider = one.page.locator(f"#{name}-slide")
        old = one.page.input_value(f"#{name}")
        slider.focus()
        for _ in range(20):
            slider.press("ArrowRight")
        assert one.page.input_value(f"#{name}") != old, name
    assert one.settled() != before


def test_sizes_are_asked_with_and_kept_in_the_link(open_page, server):
    one = open_page(server)
    one.settled()

    def asking(path, **sizes):
        """Wait for a question of these sizes and no others; an earlier one may still be on its way."""

        def is_it(request):
            told = (request.post_data_json if request.url.endswith(f"/api/{path}") else None) or {}
            return bool(told) and {k: v for k, v in told.items() if k.startswith("params")} == sizes

        return one.page.expect_request(is_it)

    with asking("predict", params=4e7):
        one.page.fill("#params", "4e7")
    with asking("predict", params=4e7, params_total=1.2e8):
        one.page.fill("#params_total", "1.2e8")
    with asking("ratio", params=4e7, params_total=1.2e8):
        one.page.click("#valley")
    one.page.wait_for_url(re.compile("x=120000000"))
    with asking("predict", params=4e7):
        one.page.fill("#params_total", "")


def test_a_wrong_number_is_marked_and_a_wrong_plan_told(open_page, server):
    one = open_page(server)
    one.settled()
    one.page.fill("#ratio", "7")
    one.expect("#ratio").to_have_attribute("aria-invalid", "true")
    one.page.fill("#peak", "1e400")
    one.expect("#peak").to_have_attribute("aria-invalid", "true")


def test_drawing_comparing_and_exporting(open_page, server, fits):
    one = open_page(server)
    page = one.page
    one.settled()
    page.click("#pin")
    set_plan(page, ratio=0.5)
    one.settled()
    page.click("#pin")
    one.expect("#pins tbody tr").to_have_count(3)
    page.check("#drawing")
    one.expect("#points li").to_have_count(4)
    page.click("#add-point")
    one.expect("#points li").to_have_count(5)
    page.locator("#points li >> nth=4").locator("input >> nth=1").fill("0.0001")
    page.keyboard.press("Tab")
    one.expect("#summary").to_contain_text("for the drawn schedule")
    one.expect("#summary").to_have_text(re.compile(r"90 % band \d"), timeout=30_000)
    text = page.text_content("#spec")
    assert page.text_content("#summary").startswith(headline(fits.results["weight_norm"], text))
    for framework in ("torch", "csv"):
        page.select_option("#framework", framework)
        page.click("#export")
        one.expect("#code").to_have_text(
            lehr.export_schedule(parse(text), framework).text, use_inner_text=False
        )
    with page.expect_download() as download:
        page.click("#download")
    assert download.value.suggested_filename == "schedule-csv.csv"
    page.click("#unpin")
    one.expect("#pins tbody tr").to_have_count(1)


def test_points_are_moved_by_mouse_and_by_keys(open_page, server):
    one = open_page(server)
    page = one.page
    one.settled()
    page.check("#drawing")
    handle = page.locator("#lr-chart circle.handle >> nth=2")
    handle.focus()
    before = page.text_content("#spec")
    page.keyboard.press("ArrowLeft")
    one.expect("#spec").not_to_have_text(before)
    box = page.locator("#lr-chart svg >> nth=0").bounding_box()
    count = page.locator("#points li").count()
    page.mouse.click(box["x"] + box["width"] * 0.6, box["y"] + box["height"] * 0.5)
    one.expect("#points li").to_have_count(count + 1)
    one.expect("#lr-chart circle.handle").to_have_count(count + 1)
    one.expect("#summary").to_have_text(re.compile(r"90 % band \d"), timeout=30_000)
    page.locator("#lr-chart circle.handle >> nth=2").press("Delete")
    one.expect("#points li").to_have_count(count)


def test_the_valley_the_recommended_ratio_and_the_optimum(open_page, server, fits):
    one = open_page(server)
    page = one.page
    set_plan(page, steps=2000, peak=0.0015, warmup=50, final=0)
    one.settled()
    page.click("#valley")
    found = lehr.recommend_ratio(fits.results["weight_norm"], steps=2000, peak=1.5e-3, warmup=50)
    one.expect("#valley-text").to_contain_text(
        f"Recommended ratio {found.ratio:.3f} ({found.ratio_low:.3f} to {found.ratio_high:.3f}): "
        f"{found.decay_steps} updates of decay, final loss {found.final_loss:.4f}, 90 % band "
        f"{found.final_loss_low:.4f} to {found.final_loss_high:.4f}", timeout=30_000,
    )  # fmt: skip
    page.hover("#valley-chart svg >> nth=0", position={"x": 300, "y": 100})
    one.expect("#valley-chart svg >> nth=0").to_contain_text(re.compile(r"0\.\d+: \d\.\d{4}"))
    page.click("#recommend")
    one.expect("#ratio").to_have_value(f"{found.ratio:.4g}")
    page.click("#optimize")
    one.expect("#optimize-text").to_contain_text("Lowest predicted final loss", timeout=60_000)
    one.expect("#spec").to_contain_text("join(parts=")
    one.expect("#alert").to_be_hidden()


def test_the_calculators(open_page, server, sweep_path):
    one = open_page(server)
    page = one.page
    sweep = load_sweep_fit(sweep_path)
    found = sweep.predict(1e9, 2e10)
    page.fill("#pl-params", "1e9")
    page.fill("#pl-tokens", "2e10")
    page.click("#peak-form button")
    told = {each.name: each.lr for each in lehr.published_lrs(1e9, 2e10)}
    row = page.locator("#peak-table tbody tr", has_text="step_law")
    assert float(row.locator("td >> nth=1").text_content()) == pytest.approx(told["step_law"], rel=1e-3)
    own = page.locator("#peak-fitted").text_content()
    assert own.startswith(f"Your sweep ({sweep.chosen}): peak LR ")
    numbers = [
        float(each) for each in re.findall(r"[\d.]+e?-?\d*", own.split("peak LR ")[1].partition(" at ")[0])
    ]
    assert numbers == pytest.approx([found.lr, found.low, found.high], rel=1e-3)
    assert page.locator("#tr-rule option").all_text_contents() == list(RULES)
    page.select_option("#tr-rule", "mup")
    page.click("#transfer-form button")
    one.expect("#transfer-table tbody tr").not_to_have_count(0)
    hidden = page.locator("#transfer-table tbody tr", has_text="ffn_in").locator("td >> nth=2")
    assert float(hidden.text_content()) == pytest.approx(1e-3 * 256 / 2048)


def test_runs_are_fitted_with_progress_and_a_fit_is_cancelled(open_page, server):
    one = open_page(server)
    page = one.page
    one.settled()
    page.fill("#draws", "2")
    page.click("#fit")
    one.expect("#fit-status").to_have_text(re.compile(r"\d+ of 26: "))
    page.click("#cancel")
    one.expect("#fit-status").to_have_text("The fit was cancelled.", timeout=20_000)
    page.click("#fit")
    one.expect("#fit-status").to_contain_text("laws fitted; chosen: weight_norm.", timeout=120_000)
    assert page.input_value("#fits").startswith("fit-")
    one.settled()


def test_a_log_is_added(open_page, server, tmp_path):
    log = tmp_path / "added.csv"
    log.write_text("step,loss,lr\n" + "".join(f"{s},{4 - s / 1000},0.001\n" for s in range(10, 500, 10)))
    one = open_page(server)
    one.page.set_input_files("#upload", log)
    one.expect("#fit-status").to_have_text("Added: added.")
    one.expect("#runs tbody tr >> nth=-1").to_contain_text("added")


def test_a_live_run_decays_now_or_later(open_page, hostile_server, fits):
    one = open_page(hostile_server)
    one.page.select_option("#live-run", label="in progress")
    one.page.fill("#live-deadline", "1500")
    one.page.click("#live-form button")
    one.expect("#live-text").to_contain_text("final loss", timeout=30_000)
    run = hostile_server.server.config.app.state.studio.runs["in progress"]
    best = lehr.recommend_decay(fits.results["weight_norm"], run, deadline=1500).best
    one.expect("#live-text").to_contain_text(
        f"over {best.decay_steps} updates ({best.shape}): final loss {best.final_loss:.4f}"
    )
    one.page.check("#follow")


def test_names_are_text(open_page, hostile_server):
    one = open_page(hostile_server)
    one.expect("#runs tbody tr >> nth=0").to_contain_text(HOSTILE)
    one.expect("#store").to_contain_text("<b>store</b>")
    one.page.check("#run0")
    one.settled()
    assert one.page.evaluate("window.bad") is None
    assert one.page.locator("main script, main img").count() == 0


def test_a_link_restores_the_page(open_page, server):
    one = open_page(server)
    set_plan(one.page, steps=1500, peak=0.001, ratio=0.35)
    one.page.select_option("#law", "tissue")
    words = one.settled()
    one.expect("#law").to_have_value("tissue")
    one.page.click("#pin")
    one.page.wait_for_timeout(600)
    assert re.search(r"#.*s=1500", one.page.url) and TOKEN not in one.page.url
    again = open_page(server, "#" + one.page.url.partition("#")[2])
    assert again.settled() == words
    assert again.page.input_value("#law") == "tissue"
    again.expect("#pins tbody tr").to_have_count(2)


def test_strange_links_do_no_harm(open_page, server):
    one = open_page(server, "#s=1e999&p=-1&l=<script>&i=none&u=9999.x&d=1:2_3&c=wsd(&h=__proto__")
    assert one.settled().startswith("Final loss")


def test_without_a_token_the_page_says_why(open_page, server):
    one = open_page(server)
    one.page.evaluate("sessionStorage.clear()")
    one.page.reload()
    one.expect("#alert").to_have_text(
        "the token is missing or wrong: open the address that lehr studio printed."
    )


def test_the_page_is_worked_by_keys_alone(open_page, server):
    """Tab reaches each control, in view, and the plan is changed without the mouse."""
    one = open_page(server)
    before, seen = one.settled(), set()
    for _ in range(400):
        one.page.keyboard.press("Tab")
        told = one.page.evaluate("""() => {
          const e = document.activeElement, s = getComputedStyle(e);
          return [e.id, s.outlineStyle !== "none" || s.boxShadow !== "none"];
        }""")
        if told[0]:
            assert told[1], f"no focus is shown on {told[0]}"
        seen.add(told[0])
        if told[0] == "ratio":
            one.page.keyboard.press("Control+A")
            one.page.keyboard.type("0.61")
        if told[0] == "framework":
            break
    wanted = ("share", "draws", "fit", "fits", "steps", "peak", "warmup", "final", "shape", "law", "params",
              "params_total", "drawing", "pin", "valley", "recommend", "optimize", "pl-params", "tr-rule", "live-run",
              "framework")  # fmt: skip
    assert set(wanted) <= seen
    one.expect("#summary").to_contain_text("at ratio .61")
    assert one.settled() != before


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_axe_finds_no_fault_and_nothing_runs_over(open_page, server, scheme, size):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe-playwright-python")
    one = open_page(server, color_scheme=scheme, viewport=size)
    one.settled()
    for button in ("#valley", "#pin", "#peak-form button", "#transfer-form button", "#export"):
        one.page.click(button)
    one.expect("#valley-text").to_contain_text("Recommended", timeout=30_000)
    one.page.check("#drawing")
    found = axe.Axe().run(one.page).response["violations"]
    assert not [
        (each["id"], each["impact"]) for each in found if each["impact"] in ("serious", "critical")
    ], json.dumps(found)
    assert one.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
