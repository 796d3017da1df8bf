"""Quiet, offline-safe defaults for Prefect, MLflow and Dask; set before any of them is imported."""

from __future__ import annotations

import json
import os
import shutil

from infra.errors import GalaxyError
from infra.settings import HOME_VARIABLE, Settings

LEAST_FREE = 200 * 2**20
"""Bytes; enough for the databases of Prefect and MLflow."""

SERVICES_FILE = "services.json"
"""Written into the home folder by `galaxy up` while its services run."""


def prepare_environment(settings: Settings) -> None:
    """Put defaults into the environment of this process and its children; what the user set wins.

    Runs started while `galaxy up` is running report to its Prefect server, so that they are
    seen in the UI; otherwise Prefect starts a server of its own for the run, on the same database.

    Raises
    ------
    GalaxyError
        If the home folder cannot be made.
    """
    prefect_home = settings.home / "prefect"
    try:
        prefect_home.mkdir(parents=True, exist_ok=True)
        (settings.home / "mlflow").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise GalaxyError(
            f"cannot make the home folder {settings.home}: {error.strerror}; set {HOME_VARIABLE} to another folder"
        ) from None
    defaults = {
        "GALAXY_HOME": str(settings.home),
        "GALAXY_SKY": str(settings.sky),
        "MLFLOW_TRACKING_URI": settings.mlflow_uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "DO_NOT_TRACK": "1",
        "PREFECT_HOME": str(prefect_home),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        # A first start migrates the database, which on a busy machine outlasts the default of 20 s.
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "180",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "error",
        "TQDM_DISABLE": "1",
    }
    running = running_services(settings)
    if running:
        defaults["PREFECT_API_URL"] = running["prefect"] + "/api"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def refuse_full_disk(settings: Settings) -> None:
    """Raise GalaxyError if the home folder's disk has no room to begin with: databases fail badly on a full one."""
    free = shutil.disk_usage(settings.home).free
    if free < LEAST_FREE:
        raise GalaxyError(
            f"the disk of {settings.home} has {free / 2**20:.0f} MiB free, and a run needs {LEAST_FREE / 2**20:.0f} to "
            f"begin with; make room, or set {HOME_VARIABLE} to a folder elsewhere"
        )


def running_services(settings: Settings) -> dict[str, str]:
    """Addresses of the services that `galaxy up` runs now, by name; empty if it does not run."""
    try:
        content = json.loads((settings.home / SERVICES_FILE).read_text())
        os.kill(int(content["pid"]), 0)
    except (OSError, ValueError, KeyError):
        return {}
    return {name: str(address) for name, address in content["addresses"].items()}
