"""A home folder with a tiny survey, and the `galaxy` command in it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

GALAXY = Path(sys.executable).with_name("galaxy")
PROFILE = Path(__file__).with_name("tiny_profile.toml")
PROJECT = Path(__file__).parents[2]
RUN_SECONDS = 500


@dataclass(frozen=True)
class Home:
    """A home folder and the command that works in it."""

    path: Path
    survey: Path

    def environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("PREFECT_", "MLFLOW_", "GALAXY_"))}
        return {**kept, "GALAXY_HOME": str(self.path), "OMP_NUM_THREADS": "1", "COLUMNS": "160"}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [GALAXY, *arguments],
            env=self.environment(),
            cwd=self.path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def galaxy(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [GALAXY, *arguments],
            env=self.environment(),
            cwd=self.path,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )

    def run_arguments(self, stages: str = "all") -> list[str]:
        return ["run", "--survey", str(self.survey), "--profile", str(PROFILE), "--stages", stages]

    def run(self, stages: str = "all") -> str:
        done = self.galaxy(*self.run_arguments(stages))
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def results(self) -> dict[str, dict[str, Any]]:
        folders = (self.path / "stages" / "tiny").glob("*-*")
        return {
            folder.name.rpartition("-")[0]: json.loads((folder / "result.json").read_text())
            for folder in folders
            if (folder / "result.json").is_file()
        }


def make_home(path: Path) -> Home:
    """A home with a survey of 96 galaxies: the embedded definition, only smaller."""
    path.mkdir(parents=True, exist_ok=True)
    text = (Path(str(files("deployments"))) / "surveys" / "embedded.toml").read_text()
    lines = []
    for line in text.splitlines():
        key = line.split("=")[0].strip()
        small = {"name": None, "count": "count = 96", "stamp_size": "stamp_size = 64", "lens_rate": "lens_rate = 0.3"}
        lines.append(small.get(key) or line)
    survey = path / "tiny.toml"
    survey.write_text("\n".join(lines).replace('name = "embedded"', 'name = "tiny"', 1) + "\n")
    return Home(path, survey)


def free_port() -> int:
    """A port of the loopback that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start_services(
    environment: dict[str, str], prefect_port: int, mlflow_port: int, label_port: int | None = None
) -> subprocess.Popen[str]:
    """`galaxy up` in the project's folder."""
    return subprocess.Popen(
        [
            GALAXY,
            "up",
            *("--prefect-port", str(prefect_port)),
            *("--mlflow-port", str(mlflow_port)),
            *("--label-port", str(free_port() if label_port is None else label_port)),
        ],
        cwd=PROJECT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def wait_until_up(process: subprocess.Popen[str]) -> None:
    """Read what `galaxy up` prints until it says how to stop it."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C" in line:
            return
    raise AssertionError("".join(lines))
