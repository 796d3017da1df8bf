"""The local services are refused where they cannot start; `tests/end_to_end/test_ui.py` starts them."""

from __future__ import annotations

import os
import socket
from pathlib import Path

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
