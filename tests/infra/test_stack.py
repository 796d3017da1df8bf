"""The local services are refused where they cannot start, and the next start knows how they ended.

`tests/end_to_end/test_ui.py` starts them.
"""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

import pytest

from infra.errors import GalaxyError
from infra.settings import Settings
from infra.stack import UNENDED_FILE, LocalStack
from tests.end_to_end.home import free_port, start_services


def test_port_in_use_is_named_with_the_option_that_changes_it(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "GALAXY_"))}
        environment = {**kept, "GALAXY_HOME": str(tmp_path), "COLUMNS": "200"}
        process = start_services(environment, free_port(), port)
        output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert f"port {port}" in output
    assert "--mlflow-port" in output
    assert "Traceback" not in output


@pytest.mark.parametrize(
    ("ending", "put_right", "killed"),
    [
        (KeyboardInterrupt(), True, False),
        (GalaxyError("a service ended"), True, True),
        (KeyboardInterrupt(), False, True),  # stopped before the runs of those that were killed were put right
    ],
    ids=["stopped", "failed", "stopped too early"],
)
def test_the_next_start_knows_whether_they_were_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: BaseException, put_right: bool, killed: bool
) -> None:
    found: list[bool] = []

    def start(stack: LocalStack) -> None:
        found.append(stack.killed)
        if put_right:
            stack.killed = False
        raise ending

    monkeypatch.setattr(LocalStack, "_start", start)
    monkeypatch.setattr(signal, "signal", lambda number, action: None)
    settings = Settings(home=tmp_path, sky=tmp_path, mlflow_uri="sqlite:///unused.db")
    (tmp_path / UNENDED_FILE).touch()  # the ones before were killed
    for _ in range(2):
        stack = LocalStack(settings, free_port(), free_port(), free_port(), tmp_path / "prefect.yaml", print)
        with suppress(GalaxyError):
            stack.run()
    assert found == [True, killed]
