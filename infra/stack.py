"""The services of one machine: Prefect server, process worker, MLflow server and label app, on loopback, as one."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from infra.environment import SERVICES_FILE, running_services
from infra.errors import GalaxyError
from infra.settings import Settings
from infra.stage_folder import write_atomic

HOST = "127.0.0.1"
WORK_POOL = "local"
UNENDED_FILE = "services-unended"
"""In the home folder from the start of the services until somebody stops them: found there, they were killed."""

START_SECONDS = 180
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Ctrl-C, `kill`, and a terminal that is closed."""


@dataclass
class Service:
    """One child process with its log file."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path


class LocalStack:
    """Starts the services in order, watches them, and stops all of them together.

    Parameters
    ----------
    settings
        Where databases, artifacts and logs live.
    prefect_port, mlflow_port, label_port
        Loopback ports.
    prefect_file
        The `prefect.yaml` whose deployments the worker serves.
    say
        Takes one line of text at a time.
    """

    def __init__(
        self,
        settings: Settings,
        prefect_port: int,
        mlflow_port: int,
        label_port: int,
        prefect_file: Path,
        say: Callable[[str], None],
    ) -> None:
        self.settings = settings
        self.ports = {"prefect": prefect_port, "mlflow": mlflow_port, "label": label_port}
        self.addresses = {name: f"http://{HOST}:{port}" for name, port in self.ports.items()}
        self.prefect_file = prefect_file
        self.say = say
        self.services: list[Service] = []
        self.killed = False

    def run(self) -> None:
        """Start everything, serve until Ctrl-C, SIGTERM or the end of a service, then stop everything.

        Raises
        ------
        GalaxyError
            If the stack runs already, a port is in use, or a service ends by itself.
        """
        self._refuse_double_start()
        mark = self.settings.home / UNENDED_FILE
        self.killed = mark.exists()
        mark.touch()
        for number in ENDING:  # a shell may have started us with Ctrl-C ignored
            signal.signal(number, _interrupt)
        try:
            self._start()
            self._watch()
        except KeyboardInterrupt:
            self.say("stopping ...")
            if not self.killed:  # else the runs of those that were killed are yet to be put right
                mark.unlink(missing_ok=True)
        finally:
            self._stop()

    def _refuse_double_start(self) -> None:
        running = running_services(self.settings)
        if running:
            raise GalaxyError(
                f"the services of {self.settings.home} run already: {running}; stop that `galaxy up` first"
            )
        for name, port in self.ports.items():
            with socket.socket() as probe:
                # As servers bind, so that a port in TIME_WAIT after a restart does not count as in use.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, port))
                except OSError:
                    raise GalaxyError(
                        f"port {port} on {HOST} is in use; choose another with --{name}-port, or stop its program"
                    ) from None

    def _start(self) -> None:
        os.environ["PREFECT_API_URL"] = self.addresses["prefect"] + "/api"
        prefect = [sys.executable, "-m", "prefect"]
        self._spawn("prefect", [*prefect, "server", "start", "--host", HOST, "--port", str(self.ports["prefect"])])
        self._spawn("mlflow", self._mlflow_command())
        self._spawn("label", [sys.executable, "-m", "deployments.cli", "label", "--port", str(self.ports["label"])])
        self._wait("prefect", "/api/health")
        self._call([*prefect, "work-pool", "create", WORK_POOL, "--type", "process", "--overwrite"])
        self._call([*prefect, "--no-prompt", "deploy", "--all", "--prefect-file", str(self.prefect_file)])
        self._wait("mlflow", "/health")
        self._wait("label", "/health")
        self._let_interrupted_runs_go_on()
        content = {"pid": os.getpid(), "addresses": self.addresses}
        write_atomic(self.settings.home / SERVICES_FILE, json.dumps(content).encode())
        self._spawn("worker", [*prefect, "worker", "start", "--pool", WORK_POOL, "--type", "process", "--limit", "1"])
        self.say(f"Prefect  {self.addresses['prefect']}   start and watch runs")
        self.say(f"MLflow   {self.addresses['mlflow']}   experiments and models")
        self.say(f"labels   {self.addresses['label']}   find galaxies by example")
        self.say(f"logs     {self._logs()}")
        self.say("Ctrl-C stops all of them")

    def _let_interrupted_runs_go_on(self) -> None:
        from infra.interrupted_runs import put_right_at  # brings Prefect, which must find its environment

        api = self.addresses["prefect"] + "/api"
        for name, state in put_right_at(api, WORK_POOL, self.settings.home, self.killed):
            self.say(f"flow run {name} is {state.name}: {state.message}")
        self.killed = False

    def _mlflow_command(self) -> list[str]:
        store = ["--backend-store-uri", self.settings.mlflow_uri]
        artifacts = ["--artifacts-destination", str(self.settings.mlflow_artifacts)]
        address = ["--host", HOST, "--port", str(self.ports["mlflow"]), "--workers", "1"]
        return [sys.executable, "-m", "mlflow", "server", *store, *artifacts, *address]

    def _logs(self) -> Path:
        folder = self.settings.home / "logs"
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _spawn(self, name: str, command: list[str]) -> None:
        log = self._logs() / f"{name}.log"
        with log.open("ab") as output:
            # A session of its own: Ctrl-C reaches us alone, and we stop the children in order.
            process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, start_new_session=True
            )
        self.services.append(Service(name, process, log))

    def _call(self, command: list[str]) -> None:
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.prefect_file.parent, check=False)
        if done.returncode:
            raise GalaxyError(f"`{' '.join(command[1:])}` failed:\n{done.stdout}{done.stderr}")

    def _wait(self, name: str, path: str) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            self._refuse_dead()
            try:
                with urllib.request.urlopen(self.addresses[name] + path, timeout=5):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.3)
        raise GalaxyError(f"{name} did not answer within {START_SECONDS} s; see {self._logs() / (name + '.log')}")

    def _refuse_dead(self) -> None:
        for service in self.services:
            if service.process.poll() is not None:
                tail = service.log.read_text(errors="replace").strip().splitlines()[-5:]
                raise GalaxyError(
                    f"{service.name} ended with status {service.process.returncode}; see {service.log}:\n"
                    + "\n".join(tail)
                )

    def _watch(self) -> None:
        while True:
            self._refuse_dead()
            time.sleep(1)

    def _stop(self) -> None:
        for number in ENDING:  # a second Ctrl-C must not leave half of them running
            signal.signal(number, signal.SIG_IGN)
        (self.settings.home / SERVICES_FILE).unlink(missing_ok=True)
        for service in reversed(self.services):
            if service.process.poll() is None:
                service.process.send_signal(signal.SIGTERM)
                with suppress(subprocess.TimeoutExpired):
                    service.process.wait(timeout=20)
            # Whatever the service started itself ends with it.
            try:
                os.killpg(service.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.services.clear()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt
