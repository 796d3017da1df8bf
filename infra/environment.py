"""Quiet, offline-safe defaults for Prefect, MLflow and Dask; set before any of them is imported."""

from __future__ import annotations

import json
import os

from infra.settings import Settings

SERVICES_FILE = "services.json"
"""Written into the home folder by `galaxy up` while its services run."""


def prepare_environment(settings: Settings) -> None:
    """Put defaults into the environment of this process and its children; what the user set wins.

    Runs started while `galaxy up` is running report to its Prefect server, so that they are
    seen in the UI; otherwise Prefect starts a server of its own for the run, on the same database.
    """
    prefect_home = settings.home / "prefect"
    prefect_home.mkdir(parents=True, exist_ok=True)
    (settings.home / "mlflow").mkdir(parents=True, exist_ok=True)
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


def running_services(settings: Settings) -> dict[str, str]:
    """Addresses of the services that `galaxy up` runs now, by name; empty if it does not run."""
    try:
        content = json.loads((settings.home / SERVICES_FILE).read_text())
        os.kill(int(content["pid"]), 0)
    except (OSError, ValueError, KeyError):
        return {}
    return {name: str(address) for name, address in content["addresses"].items()}
