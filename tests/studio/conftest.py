"""A studio over the bundled runs with a small fit, asked in this process."""

import json
import warnings
from dataclasses import dataclass

import pytest

pytest.importorskip("fastapi", reason="the studio needs FastAPI")
pytest.importorskip("httpx", reason="its tests need httpx")

from lehr.cli.demo import BUNDLED  # noqa: E402
from lehr.cli.studio import encoders, sources_of  # noqa: E402
from lehr.examples import load_examples  # noqa: E402
from lehr.fit.files import save_fits  # noqa: E402
from lehr.studio.app import make_app  # noqa: E402
from lehr.studio.guard import Rules  # noqa: E402
from lehr.studio.state import Studio  # noqa: E402
from lehr.studio.work import fit_laws  # noqa: E402

TOKEN = "a-token-of-the-tests"
PORT = 8123
LAWS = ("weight_norm", "effective_time", "tissue", "one_power")


@dataclass
class Asker:
    """Asks as the page does."""

    client: object
    studio: Studio

    def get(self, path, **more):
        return self.client.get(f"/api/{path}", **more)

    def post(self, path, body, **more):
        return self.client.post(f"/api/{path}", content=json.dumps(body), **more)

    def told(self, path, body=None):
        """The JSON of an answer that must be one."""
        answer = self.get(path) if body is None else self.post(path, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, path, body=None, status=400):
        """The sentence of a refusal."""
        answer = self.get(path) if body is None else self.post(path, body)
        assert answer.status_code == status, answer.text
        assert list(answer.json()) == ["error"]
        assert "Traceback" not in answer.text
        return answer.json()["error"]


@pytest.fixture(scope="session")
def fits():
    runs = tuple(load_examples().only(BUNDLED.train))
    return fit_laws(lambda name: None, LAWS, runs, 20)


@pytest.fixture(scope="session")
def fit_path(fits, tmp_path_factory):
    path = tmp_path_factory.mktemp("studio") / "FIT.json"
    save_fits(path, fits)
    return path


def asker_of(studio, rules=None):
    with warnings.catch_warnings():  # a client of another version may speak of its own future
        warnings.simplefilter("ignore")
        from fastapi.testclient import TestClient
    client = TestClient(
        make_app(studio, rules or Rules(TOKEN, PORT)), base_url=f"http://127.0.0.1:{PORT}",
        raise_server_exceptions=False,
        headers={"x-lehr-token": TOKEN, "content-type": "application/json"},
    )  # fmt: skip
    return client, Asker(client, studio)


@pytest.fixture(scope="session")
def studio(fits):
    """One for questions that change nothing."""
    held = Studio(sources_of(None, ()), encoders())
    held.fits["given"] = fits
    client, asker = asker_of(held)
    with client:
        yield asker


@pytest.fixture
def fresh(fits):
    """One of its own for a test."""
    held = Studio(sources_of(None, ()), encoders())
    held.fits["given"] = fits
    client, asker = asker_of(held)
    with client:
        yield asker
