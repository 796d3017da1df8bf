"""The door to MLflow: a client made from the settings alone, never from MLflow's process-wide state."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from infra.environment import running_services
from infra.errors import GalaxyError
from infra.settings import Settings

if TYPE_CHECKING:  # importing MLflow takes seconds, and a command that needs none of it should not wait
    from mlflow import MlflowClient

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_DISABLE_AGENT_HINT": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    "MLFLOW_UV_AUTO_DETECT": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "4",  # the default of 7 waits minutes for a server that is not there
}
"""What MLflow's environment is set to unless the user has set it; it reads these as it is imported."""


_lock = threading.Lock()


def connect(settings: Settings) -> MlflowClient:
    """A client of the tracking server and registry at `settings.mlflow_uri`.

    Raises
    ------
    GalaxyError
        If the address is one that MLflow no longer takes, or nothing answers there.
    """
    return _connect(settings)


@cache
def _connect(settings: Settings) -> MlflowClient:
    uri = settings.mlflow_uri
    if uri.startswith("file:") or "://" not in uri:
        raise GalaxyError(
            f"MLFLOW_TRACKING_URI is {uri!r}; give sqlite:///PATH, postgresql://... or the http address of a server"
        )
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    for name in ("mlflow", "alembic"):
        logging.getLogger(name).setLevel(logging.WARNING)
    client = MlflowClient(tracking_uri=uri, registry_uri=uri)
    try:
        with _only_one(settings):  # two processes that make the same database at once break it
            _make_database(uri)
            client.search_experiments(max_results=1)
    except MlflowException as error:
        raise GalaxyError(f"MLflow at {uri} does not answer: {error}; `galaxy up` starts a server") from error
    return client


def _make_database(uri: str) -> None:
    """Make a new SQLite database beside its place and move it there: one whose making was killed cannot be opened."""
    from mlflow import MlflowClient

    path = Path(uri.removeprefix("sqlite:///"))
    if not uri.startswith("sqlite:///") or path.exists():
        return
    beside = path.with_name(f".{path.name}.new")
    beside.unlink(missing_ok=True)
    MlflowClient(tracking_uri=f"sqlite:///{beside}").search_experiments(max_results=1)
    beside.replace(path)


@contextmanager
def _only_one(settings: Settings) -> Iterator[None]:
    if served(settings):
        yield
        return
    folder = settings.mlflow_artifacts.parent
    folder.mkdir(parents=True, exist_ok=True)
    if settings.mlflow_uri.startswith("sqlite:///"):
        os.makedirs(os.path.dirname(settings.mlflow_uri.removeprefix("sqlite:///")) or ".", exist_ok=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def process_wide(settings: Settings) -> Iterator[None]:
    """Make this the address of MLflow's own calls too, for those few that ask the process and not the client."""
    from mlflow.tracking._tracking_service.utils import _use_tracking_uri

    name = "MLFLOW_TRACKING_URI"
    with _lock:
        before = os.environ.get(name)
        try:
            with _use_tracking_uri(settings.mlflow_uri):
                yield
        finally:  # MLflow also writes the variable, from which other settings would be read
            os.environ.pop(name, None)
            if before is not None:
                os.environ[name] = before


def served(settings: Settings) -> bool:
    """Whether a server keeps the artifacts; otherwise they are files under the home folder."""
    return settings.mlflow_uri.startswith(("http://", "https://"))


def experiment(settings: Settings, name: str) -> str:
    """Id of the experiment of that name, made if there is none."""
    from mlflow.exceptions import MlflowException

    client = connect(settings)
    known = client.get_experiment_by_name(name)
    if known is None:
        try:
            return str(client.create_experiment(name, None if served(settings) else settings.mlflow_artifacts.as_uri()))
        except MlflowException:  # another process made it between the two calls
            known = client.get_experiment_by_name(name)
            if known is None:
                raise
    if known.lifecycle_stage != "active":
        raise GalaxyError(
            f"the MLflow experiment {name!r} was deleted; restore it with "
            f"`mlflow experiments restore -x {known.experiment_id}`, or rename the survey"
        )
    return str(known.experiment_id)


def run_url(settings: Settings, experiment_id: str, run_id: str) -> str:
    """Page of a run, or nothing where no server shows it; `galaxy up` shows what lies in the home's own database."""
    server = settings.mlflow_uri if served(settings) else running_services(settings).get("mlflow", "")
    return f"{server.rstrip('/')}/#/experiments/{experiment_id}/runs/{run_id}" if server else ""
