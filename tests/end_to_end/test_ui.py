"""One `galaxy up`: its services answer, a run that a person starts from the form in the Prefect UI ends Completed, and
they stop together. Starting them takes longer than all that is asked of them, so that they are started once."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
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

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Services:
    """A running `galaxy up`, and the ports of its services."""

    home: Home
    process: subprocess.Popen[str]
    prefect: int
    mlflow: int
    label: int

    @property
    def server(self) -> str:
        return f"http://127.0.0.1:{self.prefect}"

    def ask(self, path: str, **body: Any) -> Any:
        """What Prefect's API answers."""
        request = urllib.request.Request(
            f"{self.server}/api/{path}", data=json.dumps(body).encode(), headers={"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    home = make_home(tmp_path_factory.mktemp("up"))
    ports = [free_port() for _ in range(3)]
    process = start_services(home.environment(), *ports)
    try:
        wait_until_up(process)
        yield Services(home, process, *ports)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=90)


def page(port: int, path: str) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        assert answer.status == 200
        return bytes(answer.read())


def test_services_answer_on_loopback(services: Services) -> None:
    assert (
        page(services.prefect, "/api/health") and page(services.mlflow, "/health") and page(services.label, "/health")
    )
    assert b"galaxy run --survey" in page(services.label, "/"), "without a catalogue the page says what to run"
    assert services.ask("deployments/count") == 9


def test_services_of_one_home_are_not_started_twice(services: Services) -> None:
    second = start_services(services.home.environment(), free_port(), free_port())
    assert "run already" in second.communicate(timeout=60)[0]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine; install the package chromium")
def test_a_run_started_from_the_form_ends_completed(services: Services) -> None:
    home, server, ask = services.home, services.server, services.ask
    (ingest,) = [found for found in ask("deployments/filter") if found["name"] == "ingest"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        page = browser.new_page(viewport={"width": 1400, "height": 1100})
        page.goto(f"{server}/deployments/deployment/{ingest['id']}/run")
        fields = page.locator("textarea")
        fields.nth(1).wait_for(timeout=60_000)
        page.get_by_text("path of a survey definition in TOML").wait_for(timeout=60_000)
        assert [fields.nth(place).input_value() for place in range(2)] == ["embedded", "laptop"]
        runs: list[dict[str, Any]] = []
        for _ in range(3):  # on a busy machine the page draws its form anew, and what was typed before is gone
            fields.nth(0).fill(str(home.survey))
            fields.nth(1).fill(str(PROFILE))
            page.get_by_role("button", name="Submit").click()
            submitted = time.monotonic()
            while not runs and time.monotonic() < submitted + 60:
                time.sleep(1)
                runs = ask("flow_runs/filter")
            if runs:
                break
        deadline = time.monotonic() + 240
        while not runs or runs[0]["state_type"] in ("SCHEDULED", "PENDING", "RUNNING"):
            assert time.monotonic() < deadline, runs
            time.sleep(1)
            runs = ask("flow_runs/filter")
        page.goto(f"{server}/runs/flow-run/{runs[0]['id']}")
        page.get_by_text("Completed").first.wait_for(timeout=60_000)
        browser.close()
    assert [(run["state_name"], run["parameters"]["survey"]) for run in runs] == [("Completed", str(home.survey))]
    artifacts = {found["key"] for found in ask("artifacts/filter")}
    assert {"ingest-progress", "ingest-result", "ingest-mlflow"} <= artifacts
    assert home.results()["ingest"]["accepted"] == 96


def test_services_stop_together(services: Services) -> None:
    """The last of this file: they are gone then."""
    services.process.send_signal(signal.SIGHUP)  # the terminal is closed,
    time.sleep(0.3)
    services.process.send_signal(signal.SIGINT)  # and a second signal comes while they are being stopped
    services.process.wait(timeout=90)
    deadline = time.monotonic() + 30
    for port in (services.prefect, services.mlflow, services.label):
        with socket.socket() as probe:
            while probe.connect_ex(("127.0.0.1", port)) == 0:
                assert time.monotonic() < deadline, f"something still listens on {port}"
                time.sleep(0.5)
    assert not list(services.home.path.glob("services*")), "neither their addresses, nor that they did not end"
