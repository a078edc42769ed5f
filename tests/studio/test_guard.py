"""Who may ask the studio: hosts, origins, tokens, methods, bodies; and the headers of its answers."""

import asyncio
import json

import pytest

from lehr.studio.guard import JSON_LIMIT, POLICY, Guard, Refusal, Rules, bounded, check

TOKEN, PORT = "a-token-of-the-tests", 8123
RULES = Rules(TOKEN, PORT)
OWN = {"host": f"127.0.0.1:{PORT}", "x-lehr-token": TOKEN}


def refused(method="GET", path="/api/state", rules=RULES, **headers):
    given = {**OWN, **{name.replace("_", "-"): value for name, value in headers.items()}}
    with pytest.raises(Refusal) as caught:
        check(method, path, {k: v for k, v in given.items() if v is not None}, rules)
    return caught.value.status, str(caught.value)


@pytest.mark.parametrize(
    "host", [None, "", "evil.example", f"evil.example:{PORT}", "127.0.0.1", f"127.0.0.1:{PORT + 1}",
             f"127.0.0.1.evil.example:{PORT}", f"127.0.0.1:{PORT}@evil.example", f"[::ffff:1.2.3.4]:{PORT}"]
)  # fmt: skip
@pytest.mark.parametrize("path", ["/api/state", "/", "/main.js"])
def test_other_hosts_are_refused_even_with_the_token(host, path):
    assert refused(path=path, host=host) == (
        403, "the Host header is not the studio's address: open the address that lehr studio printed."
    )  # fmt: skip


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"])
def test_own_hosts_pass(host):
    check("GET", "/api/state", {**OWN, "host": f"{host}:{PORT}"}, RULES)


@pytest.mark.parametrize("origin", ["null", "http://evil.example", "http://localhost:1", f"ftp://127.0.0.1:{PORT}",
                                    f"http://localhost:{PORT}"])  # fmt: skip
def test_other_origins_are_refused(origin):
    assert refused("POST", origin=origin) == (403, "the request comes from another site's page.")


def test_pages_of_other_sites_are_refused_by_what_browsers_tell_of_them():
    for site in ("cross-site", "same-site"):
        assert refused(sec_fetch_site=site)[0] == 403
    check(
        "GET",
        "/api/state",
        {**OWN, "origin": f"http://127.0.0.1:{PORT}", "sec-fetch-site": "same-origin"},
        RULES,
    )


@pytest.mark.parametrize("token", [None, "", "x", TOKEN[:-1], TOKEN + "x", TOKEN.upper(), "\xe9" * 20])
def test_the_token_is_asked_for(token):
    assert refused(x_lehr_token=token) == (
        401, "the token is missing or wrong: open the address that lehr studio printed."
    )  # fmt: skip


def test_tokens_are_compared_in_constant_time(monkeypatch):
    seen = []
    monkeypatch.setattr("lehr.studio.guard.hmac.compare_digest", lambda a, b: seen.append((a, b)) or True)
    assert RULES.knows_token("abc")
    assert seen == [(b"abc", TOKEN.encode())]


def test_the_page_itself_needs_no_token():
    for path in ("/", "/main.js", "/api.js", "/apifoo"):
        check("GET", path, {"host": OWN["host"]}, RULES)


@pytest.mark.parametrize("method", ["PUT", "PATCH", "OPTIONS", "TRACE", "CONNECT"])
def test_other_methods_are_refused(method):
    assert refused(method)[0] == 405


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "multipart/form-data", "application/x-www-form-urlencoded"]
)
def test_posts_are_json_alone(kind):
    assert refused("POST", content_type=kind) == (415, "the Content-Type must be application/json.")
    assert refused("POST", "/api/upload", content_type=kind)[0] == 415


def test_any_host_may_be_named_where_the_addresses_are_not_known():
    rules = Rules(TOKEN, PORT, any_host=True)
    check("GET", "/api/state", {**OWN, "host": "trainer.example:1"}, rules)
    assert refused(rules=rules, host="trainer.example", x_lehr_token="x")[0] == 401
    assert refused(rules=rules, host="a.example", origin="http://b.example")[0] == 403


def call(messages, headers, path="/api/predict", rules=RULES, seconds=None):
    """What the guard answers to a request whose body comes as `messages`, and whether the application was asked."""

    async def run():
        asked, sent, queue = [], [], list(messages)

        async def app(scope, receive, send):
            asked.append((await receive())["body"])
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"ok"})

        async def receive():
            if not queue:
                await asyncio.sleep(60)
            return queue.pop(0)

        async def send(message):
            sent.append(message)

        scope = {"type": "http", "method": "POST", "path": path, "headers": headers}
        await Guard(app, rules)(scope, receive, send)
        return sent[0]["status"], asked, sent

    return asyncio.run(run())


HEADERS = [
    (b"host", OWN["host"].encode()),
    (b"x-lehr-token", TOKEN.encode()),
    (b"content-type", b"application/json"),
]


def part(body, more=False):
    return {"type": "http.request", "body": body, "more_body": more}


def test_bodies_are_given_on_whole():
    status, asked, sent = call([part(b"{", True), part(b"}")], HEADERS)
    assert status == 200 and asked == [b"{}"]
    assert dict(sent[0]["headers"])[b"content-security-policy"] == POLICY.encode()


def test_bodies_have_a_largest_size_whatever_they_say():
    for headers in (HEADERS, [*HEADERS, (b"content-length", b"10")]):
        status, asked, sent = call([part(b"x" * JSON_LIMIT, True), part(b"x")], headers)
        assert status == 413 and not asked
        assert json.loads(sent[1]["body"]) == {"error": "the body must not exceed 1 MiB."}
    assert call([], [*HEADERS, (b"content-length", str(JSON_LIMIT + 1).encode())])[0] == 413


def test_bodies_must_come_in_time():
    slow = Rules(TOKEN, PORT, json_seconds=0.05)
    status, asked, sent = call([part(b"{", True)], HEADERS, rules=slow)
    assert status == 408 and not asked
    assert "did not come within 0.05 seconds" in sent[1]["body"].decode()


def test_time_counts_for_the_whole_body():
    async def run():
        async def receive():
            await asyncio.sleep(0.02)
            return part(b"x", True)

        inner = bounded(receive, 1000, 0.1)
        for _ in range(100):
            await inner()

    with pytest.raises(Refusal, match="did not come"):
        asyncio.run(run())


@pytest.mark.parametrize("name", [b"host", b"origin", b"content-length", b"x-lehr-token"])
def test_headers_that_decide_come_once(name):
    status, asked, sent = call([part(b"")], [*HEADERS, (name, b"1"), (name.upper(), b"2")])
    assert status == 400 and not asked
    assert "came more than once" in sent[1]["body"].decode()


@pytest.mark.parametrize("length", [b"-1", b"x", b"1e3", b"9" * 30, b"\xb2"])
def test_lengths_are_numbers(length):
    assert call([part(b"")], [*HEADERS, (b"content-length", length)])[0] == 400


def test_web_sockets_are_closed():
    async def run():
        sent = []

        async def send(message):
            sent.append(message)

        await Guard(None, RULES)({"type": "websocket", "path": "/api/state", "headers": []}, None, send)
        return sent

    assert asyncio.run(run()) == [{"type": "websocket.close", "code": 1008}]
