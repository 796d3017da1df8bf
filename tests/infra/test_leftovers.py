"""What a killed run left behind is stopped by the next one; what belongs to a living run is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil

from infra.leftovers import RUN_VARIABLE, run_mark, stop_leftovers
from infra.settings import Settings


def sleeper(run: int, settings: Settings) -> subprocess.Popen[bytes]:
    environment = {**os.environ, RUN_VARIABLE: run_mark(run, settings)}
    command = [sys.executable, "-c", "import time; print(flush=True); time.sleep(60)"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()  # its environment can be read once it runs
    return process


def test_only_processes_of_dead_runs_of_this_home_are_stopped(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    settings = Settings(home=tmp_path / "home", sky=tmp_path, mlflow_uri="sqlite://")
    other = settings.model_copy(update={"home": tmp_path / "other"})
    orphan, alive, foreign = sleeper(dead.pid, settings), sleeper(os.getpid(), settings), sleeper(dead.pid, other)
    try:
        assert stop_leftovers(settings) == 1
        assert not psutil.pid_exists(orphan.pid)
        assert alive.poll() is None
        assert foreign.poll() is None
    finally:
        for process in (orphan, alive, foreign):
            process.kill()
            process.wait()
