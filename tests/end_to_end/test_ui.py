"""A run that a person starts from the form in the Prefect UI ends Completed."""

from __future__ import annotations

import json
import shutil
import signal
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright

from tests.end_to_end.home import PROFILE, Home, free_port, make_home, start_services, wait_until_up

CHROMIUM = shutil.which("chromium")
QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine; install the package chromium"),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    return make_home(tmp_path_factory.mktemp("ui"))


@pytest.fixture(scope="module")
def server(home: Home) -> Iterator[str]:
    """Address of the Prefect server of a running `galaxy up`."""
    port = free_port()
    process = start_services(home.environment(), port, free_port())
    try:
        wait_until_up(process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(timeout=90)


def ask(server: str, path: str, **body: Any) -> Any:
    request = urllib.request.Request(
        f"{server}/api/{path}", data=json.dumps(body).encode(), headers={"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return json.load(answer)


def test_a_run_started_from_the_form_ends_completed(home: Home, server: str, tmp_path: Path) -> None:
    (ingest,) = [found for found in ask(server, "deployments/filter") if found["name"] == "ingest"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1400, "height": 1100})
        page.goto(f"{server}/deployments/deployment/{ingest['id']}/run")
        fields = page.locator("textarea")
        fields.nth(1).wait_for(timeout=60_000)
        page.get_by_text("path of a survey definition in TOML").wait_for(timeout=60_000)
        assert [fields.nth(place).input_value() for place in range(2)] == ["embedded", "laptop"]
        fields.nth(0).fill(str(home.survey))
        fields.nth(1).fill(str(PROFILE))
        page.get_by_role("button", name="Submit").click()
        deadline = time.monotonic() + 240
        runs: list[dict[str, Any]] = []
        while not runs or runs[0]["state_type"] in ("SCHEDULED", "PENDING", "RUNNING"):
            assert time.monotonic() < deadline, runs
            time.sleep(1)
            runs = ask(server, "flow_runs/filter")
        page.goto(f"{server}/runs/flow-run/{runs[0]['id']}")
        page.get_by_text("Completed").first.wait_for(timeout=60_000)
        browser.close()
    assert [(run["state_name"], run["parameters"]["survey"]) for run in runs] == [("Completed", str(home.survey))]
    artifacts = {found["key"] for found in ask(server, "artifacts/filter")}
    assert {"ingest-progress", "ingest-result", "ingest-mlflow"} <= artifacts
    assert home.results()["ingest"]["accepted"] == 96
