"""The service in a process of its own, as people start it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import requests
from sqlalchemy import select

from deployments.label_app.database import Database
from deployments.label_app.tables import Vote

PROJECT = Path(__file__).parents[3]
START_SECONDS = 300


def environment(home: Path) -> dict[str, str]:
    """What `galaxy` needs to work in a home folder, and nothing of whoever runs the tests."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "GALAXY_"))}
    return {**kept, "GALAXY_HOME": str(home), "PYTHONPATH": str(PROJECT), "OMP_NUM_THREADS": "1", "COLUMNS": "200"}


def galaxy(home: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """The command, to its end."""
    return subprocess.run(
        [sys.executable, "-m", "deployments.cli", *arguments],
        env=environment(home),
        cwd=home,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=START_SECONDS,
        check=False,
    )


def start(home: Path, port: int, *options: str) -> subprocess.Popen[bytes]:
    """`galaxy label`, once it answers."""
    log = (home / "label.log").open("ab")
    process = subprocess.Popen(
        [sys.executable, "-m", "deployments.cli", "label", "--port", str(port), *options],
        env=environment(home),
        cwd=home,
        stdout=log,
        stderr=log,
    )
    deadline = time.monotonic() + START_SECONDS
    while True:
        assert process.poll() is None and time.monotonic() < deadline, (home / "label.log").read_text()
        try:
            if requests.get(f"http://127.0.0.1:{port}/health", timeout=5).ok:
                return process
        except requests.ConnectionError:
            time.sleep(0.1)


class Page:
    """A page that was loaded: its cookie and its token."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.session = requests.Session()
        found = re.search(r'<meta name="csrf" content="(\w+)">', self.session.get(address, timeout=30).text)
        assert found
        self.token = found[1]

    def submit(self, path: str, **fields: str) -> requests.Response:
        """A form."""
        return self.session.post(self.address + path, data={"csrf": self.token, **fields}, timeout=60)

    def send(self, path: str, **content: Any) -> requests.Response:
        """A request of the page's script."""
        headers = {"x-csrf-token": self.token}
        return self.session.post(self.address + path, json=content, headers=headers, timeout=60)


def votes_in(home: Path) -> set[str]:
    """Keys of the requests whose votes the database holds."""
    database = Database(f"sqlite:///{home / 'label' / 'label.db'}")
    with database.reading() as session:
        kept = set(session.scalars(select(Vote.request_key)))
    database.close()
    return kept
