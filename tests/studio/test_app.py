"""The application as a client meets it: files, refusals without traces, hostile names, uploads, jobs."""

import os
import time

import numpy as np
import pytest

for needed in ("fastapi", "httpx"):
    pytest.importorskip(needed, reason=f"the studio and its tests need {needed}")

from tests.studio.asking import asker_of  # noqa: E402

from lehr.cli.studio import encoders  # noqa: E402
from lehr.runs.run import Run, RunSet  # noqa: E402
from lehr.schedule.families import constant  # noqa: E402
from lehr.studio.app import STATIC, TYPES, pages  # noqa: E402
from lehr.studio.state import Sources, Studio  # noqa: E402

SCRIPT = "<script>alert(1)</script>\x1b[2J\u202e"


def test_the_files_of_the_page_are_there_and_no_others(studio):
    for path in pages():
        answer = studio.client.get(path, headers={"x-lehr-token": ""})
        assert answer.status_code == 200, path
        again = studio.client.get(path, headers={"if-none-match": answer.headers["etag"]})
        assert again.status_code == 304 and not again.content
    assert {path.suffix for path in STATIC.iterdir()} <= TYPES.keys()
    assert "text/html" in studio.client.get("/").headers["content-type"]


@pytest.mark.parametrize(
    "path", ["/../app.py", "/..%2fapp.py", "/%2e%2e/app.py", "/static/../../app.py", "//etc/passwd", "/etc/passwd",
             "/app.py", "/main.js%00", "/C:\\windows", "/docs", "/redoc", "/openapi.json",
             "/index.html/"]
)  # fmt: skip
def test_no_path_leads_to_another_file(studio, path):
    answer = studio.client.get(path)
    assert answer.status_code == 404 and answer.json() == {"error": "there is no such page."}


def test_answers_keep_the_page_to_itself(studio):
    page, api = studio.client.get("/"), studio.get("state")
    for answer in (page, api, studio.client.get("/api/none"), studio.client.get("/none")):
        headers = answer.headers
        assert headers["x-content-type-options"] == "nosniff" and headers["x-frame-options"] == "DENY"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["content-security-policy"].startswith("default-src 'self';")
        assert "unsafe" not in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers and "server" not in headers
    assert api.headers["cache-control"] == "no-store" and page.headers["cache-control"] == "no-cache"


def test_the_page_names_no_other_place():
    for page in pages().values():
        text = page.body.decode().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text and "//cdn" not in text


def test_html_has_no_script_or_style_of_its_own():
    """So that the policy needs no exception for what is written into the page."""
    text = (STATIC / "index.html").read_text()
    assert text.count("<script") == 1 and 'src="main.js"></script>' in text
    assert "<style" not in text and " style=" not in text and " on" + "click" not in text


@pytest.mark.parametrize(
    ("path", "body", "status", "words"),
    [
        ("none", None, 404, "there is no such page"),
        ("runs/x/curve", None, 404, "there is no run 'x'"),
        ("runs/-1/curve", None, 404, "there is no run '-1'"),
        ("runs/0/curve?points=1", None, 400, "points must lie between 2 and 2000, got 1"),
        ("runs/0/curve?points=x", None, 400, "points: Input should be a valid integer"),
        ("fits/none", None, 404, "there is no job 'none'"),
        ("fits/none/file", None, 400, "unknown fit 'none'"),
        ("optimize/none", None, 404, "there is no job"),
        ("predict", {}, 400, "fit: Field required."),
        ("predict", {"fit": "given", "schedule": "wsd(", "x": 1}, 400, "x: Extra inputs are not permitted."),
        ("predict", {"fit": "given", "schedule": "wsd("}, 400, "wsd("),
        ("predict", {"fit": "given", "schedule": "x" * 200_000}, 400, "schedule: String should have at most"),
        ("predict", {"fit": "given", "schedule": "constant(steps=9, peak=1)", "points": 10**9}, 400, "points must lie"),
        ("fits", {"runs": []}, 400, "runs: List should have at least 1 item"),
        ("fits", {"runs": ["none"]}, 400, "unknown run 'none'"),
        ("fits", {"runs": ["S-1.5e-3-constant-2000"], "laws": ["none"]}, 400, "unknown law 'none'"),
        ("fits", {"runs": ["x"], "draws": 10**9}, 400, "draws: Input should be less than"),
        ("ratio", {"fit": "given", "law": "one_power", "steps": 1000, "peak": 1e-3}, 400, "has no annealing term"),
        ("ratio", {"fit": "given", "steps": 1000, "peak": -1}, 400, "peak must be above 0"),
        ("optimize", {"fit": "given", "law": "tissue", "steps": 1000, "peak": 1e-3}, 400, "tissue"),
        ("branch", {"fit": "given", "run": "none"}, 400, "unknown run"),
        ("transfer", {"from": {}, "to": {}}, 400, "from.width: Field required."),
        ("peak-lr", {"params": -1, "tokens": 1}, 400, "params"),
        ("export", {"schedule": "constant(steps=9, peak=1)", "to": "none"}, 400, "unknown"),
        ("export", {"schedule": "constant(steps=300000, peak=1)", "to": "csv"}, 400, "too large for the page"),
        ("schedule", {"points": [[0, 1]], "steps": 5}, 400, "the points must begin at step 0"),
        ("schedule", {"points": [[0, 1], [0.5, 1], [5, 1]], "steps": 5}, 400, "must be at whole steps"),
        ("schedule", {"points": [[0, 1], [5, -1]], "steps": 5}, 400, "LR"),
        ("schedule", {"points": [[0, 1], [5, 1]], "steps": 10**15}, 400, "steps must lie between"),
    ],
)  # fmt: skip
def test_wrong_questions_are_told_why(studio, path, body, status, words):
    assert words in studio.refused(path, body, status)


@pytest.mark.parametrize("text", ["", "{", "[1]", '"x"', "null", "NaN", '{"fit": NaN}', "[" * 10_000, "\xff"])
def test_what_is_no_question_is_refused(studio, text):
    answer = studio.client.post("/api/predict", content=text.encode("latin-1"))
    assert answer.status_code == 400 and list(answer.json()) == ["error"]


def test_transfer_sizes_are_checked(studio):
    side = {"width": 100, "depth": 2, "batch": 8, "steps": 10}
    words = studio.refused("transfer", {"from": {**side, "lr": 1e-3}, "to": side})
    assert words == "width must be a multiple of the head width 64, got 100: give head_width too."


def test_failures_show_no_trace_but_on_the_terminal(fresh, monkeypatch, capsys):
    def broken(*_):
        raise RuntimeError("the secret of \x1b[2J somebody")

    monkeypatch.setattr("lehr.studio.api_runs.state", broken)
    answer = fresh.get("state")
    assert answer.status_code == 500
    assert answer.json() == {
        "error": "the studio failed on this question (RuntimeError): its terminal tells more."
    }
    told = capsys.readouterr().err
    assert "Traceback" in told and "the secret of ?[2J somebody" in told


def hostile():
    run = Run(SCRIPT, constant(steps=100, peak=1e-3), np.arange(1, 101.0), np.linspace(4, 3, 100))
    return Studio(Sources("store", lambda: RunSet([run])), encoders())


def test_hostile_names_come_as_json_and_without_control_characters_in_refusals():
    client, asker = asker_of(hostile())
    with client:
        answer = asker.get("state")
        assert (
            answer.json()["runs"][0]["name"] == SCRIPT
            and answer.headers["content-type"] == "application/json"
        )
        text = asker.refused("branch", {"fit": SCRIPT, "run": SCRIPT})
        assert "there is no fit yet" in text
        job = asker.told("fits", {"runs": [SCRIPT], "laws": ["tissue"]})["id"]
        told = wait(asker, f"fits/{job}")
        assert told["status"] == "failed" and told["error"]
        long = asker.refused("fits", {"runs": ["\x1b" + "y" * 400]})
        assert "\x1b" not in long


LOG = "step,loss,lr\n" + "".join(f"{s},{4 - s / 1000},0.001\n" for s in range(10, 500, 10))


def upload(asker, name, content, **more):
    return asker.client.post(
        "/api/upload", params={"name": name, **more}, content=content,
        headers={"content-type": "application/octet-stream"},
    )  # fmt: skip


def test_a_log_is_uploaded(fresh):
    before = len(fresh.studio.runs)
    answer = upload(fresh, "mine.csv", LOG)
    assert answer.status_code == 200, answer.text
    assert answer.json()["runs"][0]["name"] == "mine" and answer.json()["report"]
    assert fresh.told("state")["runs"][-1]["name"] == "mine"
    assert len(fresh.told(f"runs/{before}/curve")["steps"]) == 49
    again = upload(fresh, "mine.csv", LOG)
    assert again.status_code == 400 and "run names must be unique" in again.json()["error"]
    assert "there is no store" in upload(fresh, "b.csv", LOG, into_store=True).json()["error"]


@pytest.mark.parametrize(
    "name", ["../x.csv", "/etc/x.csv", "a/b.csv", "..", ".hidden", "", "a\\b.csv", "x\0.csv", "a" * 200]
)
def test_uploads_lead_nowhere_else(fresh, name):
    answer = upload(fresh, name, LOG)
    assert answer.status_code == 400 and "must be a file's own name" in answer.json()["error"]


def test_logs_that_cannot_be_read_are_told_without_our_paths(fresh):
    for content in (b"", b"\0\1\2", b"nothing,here\n1,2\n"):
        answer = upload(fresh, "odd.csv", content)
        assert answer.status_code == 400
        assert "/tmp" not in answer.text and "odd.csv" in answer.text


def test_uploads_are_bounded(fresh, monkeypatch):
    monkeypatch.setattr("lehr.studio.guard.UPLOAD_LIMIT", 1000)
    assert upload(fresh, "a.csv", "x" * 1001).status_code == 413

    def stream():
        for _ in range(20):
            yield b"x" * 100

    answer = upload(fresh, "a.csv", stream())
    assert answer.status_code == 413 and answer.json() == {"error": "the body must not exceed 0 MiB."}
    monkeypatch.setattr("lehr.studio.api_runs.MOST_UPLOADS", 0)
    assert "were uploaded already" in upload(fresh, "a.csv", "x").json()["error"]


def wait(asker, path):
    for _ in range(1200):
        told = asker.told(path)
        if told["status"] != "running":
            return told
        time.sleep(0.05)
    raise AssertionError(told)


def test_a_fit_is_cancelled_and_its_process_ends(fresh):
    names = [run["name"] for run in fresh.told("state")["runs"][:20]]
    first = fresh.told("fits", {"runs": names, "draws": 1000})["id"]
    second = fresh.told("fits", {"runs": names})["id"]
    while not fresh.told(f"fits/{first}")["now"].startswith("weight"):
        time.sleep(0.02)
    assert fresh.told(f"fits/{second}")["now"] == "waiting for other work to end"
    process = fresh.client.app.state.jobs.get(first).apart.process
    assert process.is_alive()
    for name in (second, first):
        assert fresh.client.delete(f"/api/fits/{name}").json()["status"] == "cancelled"
    until = time.monotonic() + 10
    while (
        process.is_alive()
    ):  # the studio waits for it too, and whichever of the two comes late is told a little later
        assert time.monotonic() < until
        time.sleep(0.02)
    assert fresh.told(f"fits/{first}")["status"] == "cancelled"
    assert "there is nothing to cancel" in fresh.client.delete("/api/fits/given").json()["error"]


def test_the_row_of_fits_is_bounded(fresh):
    from lehr.studio.work import MOST_WAITING

    names = [run["name"] for run in fresh.told("state")["runs"][:20]]
    answers = [fresh.post("fits", {"runs": names, "draws": 1000}) for _ in range(MOST_WAITING + 2)]
    assert [answer.status_code for answer in answers][:MOST_WAITING] == [200] * MOST_WAITING
    assert answers[-1].status_code == 429 and "wait already" in answers[-1].json()["error"]


def test_a_process_that_dies_is_told(fresh):
    names = [run["name"] for run in fresh.told("state")["runs"][:20]]
    name = fresh.told("fits", {"runs": names})["id"]
    while not (apart := fresh.client.app.state.jobs.get(name).apart):
        time.sleep(0.02)
    os.kill(apart.process.pid, 9)
    told = wait(fresh, f"fits/{name}")
    assert told["status"] == "failed"
    assert (
        told["error"] == "the process at work died before it was done (out of memory, or killed): try again."
    )


def test_too_many_long_questions_are_sent_away(fresh, monkeypatch):
    monkeypatch.setattr("lehr.studio.state.WAITING", 0)
    asked = {"fit": "given", "steps": 1000, "peak": 1e-3}
    assert "is busy with other questions" in fresh.refused("ratio", asked, status=429)


def test_live_runs_are_read_again_but_not_all_the_time(monkeypatch):
    seen = []

    def load():
        seen.append(1)
        steps = 50.0 * len(seen)
        return RunSet(
            [Run("live", constant(steps=1000, peak=1e-3), np.arange(1, steps), np.full(int(steps) - 1, 3.0))]
        )

    client, asker = asker_of(Studio(Sources("s", load), encoders()))
    with client:
        assert asker.told("runs?fresh=1")["runs"][0]["points"] == 49  # it was read a moment ago
        assert asker.told("runs")["runs"][0]["live"] is True
        monkeypatch.setattr("lehr.studio.state.FRESH", 0.0)
        assert asker.told("runs?fresh=1")["runs"][0]["points"] == 99
        assert len(seen) == 2
