"""The studio on a port: what it listens on, slow and many clients, the end of its processes."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

for needed in ("fastapi", "httpx", "uvicorn"):
    pytest.importorskip(needed, reason=f"the studio and its tests need {needed}")

from tests.cli.conftest import call  # noqa: E402
from tests.studio.asking import TOKEN  # noqa: E402

from lehr.cli.demo import BUNDLED  # noqa: E402
from lehr.cli.studio import encoders, sources_of  # noqa: E402
from lehr.errors import InputError, ResultError  # noqa: E402
from lehr.studio.serve import Address, Impatient, check_address, is_loopback, prepare  # noqa: E402
from lehr.studio.state import Studio  # noqa: E402


class Hasty(Impatient):
    """Waits for tenths of a second, so that tests need not."""

    idle_seconds, stuck_seconds = 0.3, 0.3


@pytest.fixture(scope="module")
def live(fits):
    held = Studio(sources_of(None, ()), encoders())
    held.fits["given"] = fits
    prepared = prepare(held, Address(token=TOKEN), Hasty)
    thread = threading.Thread(target=prepared.run)
    thread.start()
    while not prepared.server.started:
        time.sleep(0.01)
    yield prepared
    prepared.stop()
    thread.join(20)
    assert not thread.is_alive()


def port_of(prepared):
    return prepared.listener.getsockname()[1]


def connect(prepared):
    return socket.create_connection(("127.0.0.1", port_of(prepared)), timeout=20)


def ask(prepared, path, body=None, timeout=60):
    connection = http.client.HTTPConnection("127.0.0.1", port_of(prepared), timeout=timeout)
    text = None if body is None else json.dumps(body)
    headers = {"X-Lehr-Token": TOKEN, "Content-Type": "application/json"}
    connection.request("GET" if body is None else "POST", path, text, headers)
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def raw(prepared, head):
    """The first line of the answer to a request written out."""
    with connect(prepared) as link:
        link.sendall(head.replace("PORT", str(port_of(prepared))).encode())
        return link.recv(4096).split(b"\r\n")[0].decode()


def closed(link):
    """Whether the other side ends the connection within some seconds."""
    try:
        while link.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def test_it_answers(live):
    assert live.url == f"http://127.0.0.1:{port_of(live)}/" and live.token == TOKEN
    assert ask(live, "/")[0] == 200
    status, content = ask(live, "/api/state")
    assert status == 200 and json.loads(content)["fits"] == ["given"]


@pytest.mark.parametrize(
    "path", ["/../app.py", "/main.js/../../app.py", "/%2e%2e/%2e%2e/etc/passwd", "/.//app.py"]
)
def test_paths_as_written_lead_nowhere(live, path):
    assert " 404" in raw(live, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n")


def test_other_hosts_are_refused(live):
    assert " 403" in raw(live, "GET / HTTP/1.1\r\nHost: evil.example:PORT\r\n\r\n")
    assert " 403" in raw(live, "GET / HTTP/1.0\r\n\r\n")
    assert " 400" in raw(live, "GET / HTTP/1.1\r\n\r\n")


def test_long_heads_are_refused(live):
    assert " 400" in raw(live, f"GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\nX: {'x' * 200_000}\r\n\r\n")


def test_who_sends_nothing_is_sent_away(live):
    with connect(live) as link:
        assert closed(link)


def test_who_sends_a_head_bit_by_bit_is_sent_away(live):
    with connect(live) as link:
        link.sendall(b"GET / HTTP/1.1\r\n")
        ended = False
        for _ in range(200):
            try:
                link.sendall(b"X: y\r\n")
            except (BrokenPipeError, ConnectionResetError):
                ended = True
                break
            time.sleep(0.05)
        assert ended


def test_who_does_not_read_is_sent_away_and_others_are_answered(live):
    """Many questions on one connection, of which no answer is read."""
    with connect(live) as link:
        link.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one = f"GET /api/state HTTP/1.1\r\nHost: 127.0.0.1:{port_of(live)}\r\nX-Lehr-Token: {TOKEN}\r\n\r\n".encode()
        link.settimeout(1)
        ended = False
        for _ in range(100):
            try:
                link.sendall(one * 50)
            except TimeoutError:
                pass
            except (BrokenPipeError, ConnectionResetError):
                ended = True
                break
            time.sleep(0.05)
        assert ended
    assert ask(live, "/api/state")[0] == 200


def test_two_hundred_clients_at_once_are_answered_beside_slow_ones(live):
    idle = [connect(live) for _ in range(100)]
    plan = "wsd(steps=2000, peak=0.0015, warmup=50, decay={})"

    def one(number):
        asked = {"fit": "given", "schedule": plan.format(300 + number), "band": "quick", "points": 20}
        return ask(live, "/api/predict", asked, timeout=120)[0]

    with ThreadPoolExecutor(200) as pool:
        assert set(pool.map(one, range(200))) == {200}
    for link in idle:
        assert closed(link)
        link.close()


def test_more_connections_than_there_are_places_are_told_so(live, monkeypatch):
    monkeypatch.setattr(live.server.config, "limit_concurrency", 3)
    links = [connect(live) for _ in range(6)]
    assert " 503" in raw(live, "GET / HTTP/1.1\r\nHost: 127.0.0.1:PORT\r\n\r\n")
    for link in links:
        assert closed(link)
        link.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LocalHost"])
def test_loopback(host):
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "10.0.0.1", "localhost.example", "", "1", "127.0.0.1.example"]
)
def test_other_addresses_need_a_flag_and_a_token(host):
    assert not is_loopback(host)
    with pytest.raises(InputError, match="unless --allow-remote is given"):
        check_address(Address(host, token=TOKEN))
    with pytest.raises(InputError, match="--allow-remote needs a token of your own: give --token"):
        check_address(Address(host, remote=True))
    assert check_address(Address(host, token=TOKEN, remote=True)).token == TOKEN


def test_tokens_are_long_and_made_at_random():
    with pytest.raises(InputError, match="must have at least 16 printable characters"):
        check_address(Address(token="short"))
    made = {check_address(Address()).token for _ in range(20)}
    assert len(made) == 20 and min(map(len, made)) >= 40


def test_a_taken_port_is_told(live):
    studio = Studio(sources_of(None, ()), encoders())
    with pytest.raises(
        ResultError, match=r"cannot listen on 127.0.0.1 port \d+ \(Address already in use\): use --port 0"
    ):
        prepare(studio, Address(port=port_of(live)))


def test_the_verb_refuses_what_is_wrong(tmp_path):
    assert "--allow-remote" in call("studio", "--host", "0.0.0.0").refused()
    assert "--port must lie between" in call("studio", "--port", "70000").refused()
    assert "is no store of runs" in call("studio", tmp_path / "none").refused()
    assert "does not exist" in call("studio", "--fit", tmp_path / "none.json").refused()
    assert "none.json" in call("studio", "--peak-lr-fit", tmp_path / "none.json").refused()


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


def children(pid):
    return [
        int(each)
        for path in Path(f"/proc/{pid}/task").glob("*/children")
        for each in path.read_text().split()
    ]


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="looks for processes in /proc")
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_processes_end_with_the_studio(ending):
    process = subprocess.Popen(
        [sys.executable, "-m", "lehr.cli.main", "studio", "--json"], stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    try:
        told = json.loads(process.stdout.readline())
        port = int(told["url"].split(":")[2].split("/")[0])
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        body = json.dumps({"runs": list(BUNDLED.train), "draws": 1000})
        headers = {"X-Lehr-Token": told["token"], "Content-Type": "application/json"}
        connection.request("POST", "/api/fits", body, headers)
        name = json.loads(connection.getresponse().read())["id"]
        while True:
            connection.request("GET", f"/api/fits/{name}", headers=headers)
            if json.loads(connection.getresponse().read())["now"] == "weight_norm":
                break
            time.sleep(0.05)
        connection.close()
        below = set(children(process.pid))
        assert below
        process.send_signal(ending)
        process.wait(30)
        until = time.monotonic() + 30
        while any(map(alive, below)) and time.monotonic() < until:
            time.sleep(0.05)
        assert not any(map(alive, below))
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
