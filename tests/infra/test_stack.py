"""The local services: refused where they cannot start, and gone when they are stopped."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from tests.end_to_end.home import free_port, start_services, wait_until_up


def start(home: Path, prefect_port: int, mlflow_port: int, label_port: int | None = None) -> subprocess.Popen[str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "GALAXY_"))}
    return start_services({**kept, "GALAXY_HOME": str(home), "COLUMNS": "200"}, prefect_port, mlflow_port, label_port)


def test_port_in_use_is_named_with_the_option_that_changes_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = start(tmp_path, free_port(), port)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"port {port}" in output
    assert "--mlflow-port" in output
    assert "Traceback" not in output


@pytest.mark.slow
def test_services_answer_on_loopback_and_stop_together(tmp_path: Path) -> None:
    prefect_port, mlflow_port, label_port = free_port(), free_port(), free_port()
    process = start(tmp_path, prefect_port, mlflow_port, label_port)
    try:
        wait_until_up(process)
        pages = {prefect_port: "/api/health", mlflow_port: "/health", label_port: "/health"}
        for port, path in pages.items():
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
                assert answer.status == 200
        with urllib.request.urlopen(f"http://127.0.0.1:{label_port}/", timeout=10) as answer:
            assert b"galaxy run --survey" in answer.read(), "without a catalogue the page says what to run"
        body = urllib.request.Request(
            f"http://127.0.0.1:{prefect_port}/api/deployments/count",
            data=b"{}",
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(body, timeout=10) as answer:
            assert int(answer.read()) == 9
        second = start(tmp_path, free_port(), free_port())
        assert "run already" in second.communicate(timeout=60)[0]
    finally:
        process.send_signal(signal.SIGHUP)  # the terminal is closed,
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)  # and a second signal comes while they are being stopped
        process.wait(timeout=90)
    deadline = time.monotonic() + 30
    for port in (prefect_port, mlflow_port, label_port):
        with socket.socket() as probe:
            while probe.connect_ex(("127.0.0.1", port)) == 0:
                assert time.monotonic() < deadline, f"something still listens on {port}"
                time.sleep(0.5)
    assert not (tmp_path / "services.json").exists()
