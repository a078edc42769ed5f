"""Asking a studio in this process; imported by tests that need FastAPI."""

import json
import warnings
from dataclasses import dataclass

from lehr.studio.app import make_app
from lehr.studio.guard import Rules
from lehr.studio.state import Studio

TOKEN = "a-token-of-the-tests"
PORT = 8123


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
