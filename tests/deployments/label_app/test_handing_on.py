"""Labels become tables that a survey definition names, and flow runs that Prefect knows."""

from __future__ import annotations

import json
import re
import threading
import tomllib
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest

from infra.settings import Settings
from tasks.search.lesson import find_lesson
from tests.deployments.label_app.conftest import Browser
from tests.deployments.label_app.sky import is_edge_on


class Prefect(BaseHTTPRequestHandler):
    """Answers as Prefect's API does to what the app asks."""

    asked: ClassVar[list[tuple[str, Any]]] = []
    run: ClassVar[dict[str, Any] | None] = {}

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append((self.path, body))
        name = body.get("deployments", {}).get("name", {}).get("any_", [""])[0]
        self.answer([{"id": f"id-of-{name}"}] if name else {"id": "run-1"})

    def do_GET(self) -> None:
        if self.run is None:
            self.answer({"detail": "Flow run not found"}, 404)
        else:
            self.answer(self.run)

    def answer(self, content: Any, status: int = 200) -> None:
        data = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *arguments: Any) -> None:
        """Silent."""


@pytest.fixture
def prefect(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[str, Any]]]:
    Prefect.asked.clear()
    Prefect.run = {"state_name": "Running"}
    server = HTTPServer(("127.0.0.1", 0), Prefect)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{server.server_port}/api")
    yield Prefect.asked
    server.shutdown()


@pytest.fixture(autouse=True)
def no_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PREFECT_API_URL", raising=False)


def test_labels_become_a_table_that_a_definition_names(browser: Browser, settings: Settings) -> None:
    search = browser.begin("Edge on!")
    browser.label(search)
    page = browser.submit(f"/searches/{search}/labels").text
    definition = re.search(r"<pre[^>]*>(.*?)</pre>", page, re.DOTALL)
    assert definition
    content = tomllib.loads(definition[1].replace("&#34;", '"'))
    table = pd.read_parquet(content["labels"][0]["catalogue"])
    assert Path(content["labels"][0]["catalogue"]).is_relative_to(settings.home)
    assert content["labels"][0]["name"] == f"edge_on_{search}"
    assert all(
        is_edge_on(name) == (label == "yes") for name, label in zip(table["object_id"], table["label"], strict=True)
    )
    assert table["labelled_by"].all() and table["stamp_digest"].str.len().eq(32).all()


def test_without_a_prefect_server_the_page_says_so(browser: Browser) -> None:
    search = browser.begin()
    assert "No Prefect server runs" in browser.get(f"/searches/{search}/runs").text
    answer = browser.submit(f"/searches/{search}/score")
    assert answer.status_code == 400 and "galaxy up" in answer.text


def test_runs_are_started_and_their_state_is_shown(
    browser: Browser, settings: Settings, prefect: list[tuple[str, Any]]
) -> None:
    search = browser.begin()
    page = browser.submit(f"/searches/{search}/score")
    assert page.status_code == 200 and "Running" in page.text and "score-search" in page.text
    path, body = prefect[-1]
    assert path == "/api/deployments/id-of-score-search/create_flow_run"
    lesson = find_lesson(body["parameters"]["search"], settings)
    assert set(lesson.object_id) == {"galaxy-000", "galaxy-005", "galaxy-010"} and all(lesson.wanted)
    browser.submit(f"/searches/{search}/train", survey="mine.toml")
    path, body = prefect[-1]
    assert path == "/api/deployments/id-of-survey-run/create_flow_run"
    stages = "ingest,preprocess,pretrain,finetune"
    assert body["parameters"] == {"survey": "mine.toml", "profile": "laptop", "stages": stages}


def test_a_run_that_failed_says_why(browser: Browser, prefect: list[tuple[str, Any]]) -> None:
    search = browser.begin()
    Prefect.run = {"state_name": "Failed", "state": {"type": "FAILED", "message": "stage <ingest> is not done"}}
    assert "Failed: stage &lt;ingest&gt; is not done" in browser.submit(f"/searches/{search}/score").text


def test_a_run_that_prefect_has_forgotten_is_said_so_in_words(
    browser: Browser, prefect: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    search = browser.begin()
    monkeypatch.setattr(Prefect, "run", None)
    page = browser.submit(f"/searches/{search}/score").text
    assert "does not know this run (any more)" in page
    assert "404" not in page and "detail" not in page


def test_only_an_admin_starts_runs(signed_in: Callable[[str], Browser], prefect: list[tuple[str, Any]]) -> None:
    search = signed_in("henrietta").begin()
    for action in ("score", "train"):
        answer = signed_in("cecilia").submit(f"/searches/{search}/{action}", survey="mine.toml")
        assert answer.status_code == 403 and "only an admin" in answer.text
    assert not prefect
    assert signed_in("jocelyn").submit(f"/searches/{search}/score").status_code == 200
