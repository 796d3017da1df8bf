"""The model registry: versions go in once, are found by alias, and come out with the code they went in with."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from infra.errors import GalaxyError
from infra.settings import Settings
from tasks.track.client import connect, experiment, process_wide
from tasks.track.packaging import package_folder, package_hash, stage_model, weights_digest, write_pyfunc

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from galaxy_models.predictor import Predictor

CHAMPION, CHALLENGER, PREVIOUS = "champion", "challenger", "previous"
DIGEST_LENGTH = 32  # MLflow allows 36 characters for a dataset's digest
STAGES = {
    "galaxy-lvm": "pretrain",
    "galaxy-morphology": "finetune",
    "galaxy-align": "align",
    "galaxy-lens-finder": "find-lenses",
}


def register(
    settings: Settings,
    name: str,
    result: Mapping[str, Any],
    *,
    stage_key: str,
    run_id: str | None = None,
    survey: str = "",
    dataset_digest: str = "",
    package: Path | None = None,
) -> str:
    """Log the model of a training stage's result with its code, register it, and call it `challenger`.

    Parameters
    ----------
    name
        Registered name, such as `galaxy-morphology`.
    result
        What the training stage returned: `model`, `metrics`, `headline`, `evaluation`.
    stage_key
        Key of the stage's folder. The same key and weights give the version that there is already.
    run_id
        MLflow run of the stage, to which model and metrics are linked.
    package
        Folder of `galaxy_models`; the one that this process imports if absent.

    Returns
    -------
    str
        Version number.

    Raises
    ------
    GalaxyError
        If the folder has no usable card and weights, or the model does not answer.
    """
    folder = Path(result["model"])
    if not (folder / "weights.safetensors").is_file():
        raise GalaxyError(f"{name}: no weights in {folder}; run the stage that trains it again")
    digest = weights_digest(folder)
    identity = {"galaxy.stage_key": stage_key, "galaxy.weights_digest": digest}
    client = connect(settings)
    known = _find_version(settings, name, identity)
    if known is not None:
        if known == str(max(int(found.version) for found in _versions(settings, name))):
            client.set_registered_model_alias(name, CHALLENGER, known)  # a kill may have come before the alias
        return known
    source = package or package_folder()
    model_id = _log_model(settings, name, folder, source, run_id, survey, identity)
    if run_id:
        _link_metrics(settings, run_id, model_id, result.get("metrics", {}), survey, dataset_digest)
    tags = {
        **identity,
        "galaxy.model_id": model_id,
        "galaxy.code": package_hash(source),
        "galaxy.survey": survey,
        "galaxy.dataset_digest": dataset_digest,
        "galaxy.headline": str(result.get("headline", "")),
        "galaxy.metrics": _headline_first(result),
    }
    _ensure_registered_model(settings, name)
    with process_wide(settings):  # the store looks the logged model up at the process's address
        version = client.create_model_version(name, f"models:/{model_id}", run_id, tags=tags, model_id=model_id)
    client.set_registered_model_alias(name, CHALLENGER, version.version)
    return str(version.version)


def resolve(settings: Settings, name: str, alias: str = CHAMPION) -> str:
    """Version number behind an alias; call it once per run, so that a move of the alias cannot split a catalogue.

    A number is checked and given back.

    Raises
    ------
    GalaxyError
        If there is no such model or alias; the message says which stage makes one.
    """
    return str(_version(settings, name, alias).version)


def resolve_for_survey(settings: Settings, name: str, alias: str, survey: str, own: str | None) -> str | None:
    """Version number of `alias` for a survey's catalogue, or None if the model has no such version at all.

    The registry is shared by all surveys, and an alias may stand on another survey's model, made for other pixels.
    Then the version that this survey's own run made, `own`, is used if there is one.
    """
    try:
        found = _version(settings, name, alias)
    except GalaxyError:
        return own
    return own if own is not None and found.tags.get("galaxy.survey") != survey else str(found.version)


def model_uri(name: str, version: str) -> str:
    """What `mlflow.pyfunc.load_model` takes: `models:/galaxy-lvm/3`, or `models:/galaxy-lvm@champion` for an alias."""
    return f"models:/{name}/{version}" if version.isdigit() else f"models:/{name}@{version}"


def load_registered(settings: Settings, name: str, version: str) -> Predictor:
    """A registered version ready to predict arrays, run by the code that it was logged with.

    The files are fetched once and kept under the home folder: a logged model never changes.
    """
    import mlflow.pyfunc

    model = mlflow.pyfunc.load_model(str(_fetch(settings, name, version)), suppress_warnings=True)
    predictor: Predictor = model.unwrap_python_model().predictor
    return predictor


def list_models(settings: Settings) -> list[dict[str, Any]]:
    """Every registered version of the pipeline's models, by name and then newest first, as JSON values.

    Each has `name`, `version`, `aliases`, `headline` (metric and value as text), `metric`, `value`, `survey`,
    `decision` (the gate's), `created` (milliseconds since 1970) and `uri`.
    """
    client = connect(settings)
    found: list[dict[str, Any]] = []
    for model in client.search_registered_models(filter_string="name LIKE 'galaxy-%'", max_results=1000):
        for version in client.search_model_versions(f"name='{model.name}'", max_results=1000):
            number = str(version.version)
            metric = version.tags.get("galaxy.headline", "")
            value = json.loads(version.tags.get("galaxy.metrics", "{}")).get(metric)
            found.append(
                {
                    "name": model.name,
                    "version": number,
                    "aliases": sorted(alias for alias, held in model.aliases.items() if str(held) == number),
                    "headline": metric if value is None else f"{metric} {value:.3f}",
                    "metric": metric,
                    "value": value,
                    "survey": version.tags.get("galaxy.survey", ""),
                    "decision": version.tags.get("gate.outcome", ""),
                    "created": version.creation_timestamp,
                    "uri": model_uri(model.name, number),
                }
            )
    return sorted(found, key=lambda version: (version["name"], -int(version["version"])))


def _headline_first(result: Mapping[str, Any]) -> str:
    """The metrics as JSON, the headline's if all are too long for a tag (5000 characters)."""
    metrics = dict(result.get("metrics", {}))
    text = json.dumps(metrics, sort_keys=True)
    headline = result.get("headline", "")
    return text if len(text) <= 5000 else json.dumps({headline: metrics.get(headline)})


def _version(settings: Settings, name: str, alias_or_number: str) -> ModelVersion:
    from mlflow.exceptions import MlflowException

    client = connect(settings)
    try:
        if alias_or_number.isdigit():
            return client.get_model_version(name, alias_or_number)
        return client.get_model_version_by_alias(name, alias_or_number)
    except MlflowException:
        stage = f"stage `{STAGES[name]}`" if name in STAGES else "the stage that trains it"
        raise GalaxyError(
            f"no version of {name} is called {alias_or_number!r} at {settings.mlflow_uri}; "
            f"run {stage} first, or name a version that `galaxy status` shows"
        ) from None


def _versions(settings: Settings, name: str) -> list[ModelVersion]:
    return list(connect(settings).search_model_versions(f"name='{name}'", max_results=1000))


def _find_version(settings: Settings, name: str, identity: Mapping[str, str]) -> str | None:
    for version in _versions(settings, name):
        if all(version.tags.get(tag) == value for tag, value in identity.items()):
            return str(version.version)
    return None


def _ensure_registered_model(settings: Settings, name: str) -> None:
    from mlflow.exceptions import MlflowException

    client = connect(settings)
    try:
        client.get_registered_model(name)
    except MlflowException:
        try:
            client.create_registered_model(name)
        except MlflowException:  # another process made it between the two calls
            client.get_registered_model(name)


def _log_model(
    settings: Settings,
    name: str,
    folder: Path,
    package: Path,
    run_id: str | None,
    survey: str,
    identity: Mapping[str, str],
) -> str:
    """Log the folder as an MLflow model of the run; its id."""
    from mlflow.entities import LoggedModelOutput

    client = connect(settings)
    experiment_id = (
        client.get_run(run_id).info.experiment_id if run_id else experiment(settings, survey or "galaxy-lvm")
    )
    with tempfile.TemporaryDirectory() as temporary:
        staged = stage_model(Path(temporary) / "staging", folder, package)
        logged = client.create_logged_model(
            experiment_id, name=name, source_run_id=run_id, tags=dict(identity), model_type=staged.kind
        )
        try:
            write_pyfunc(Path(temporary) / "pyfunc", staged, logged.model_id, run_id)
            client.log_model_artifacts(logged.model_id, str(Path(temporary) / "pyfunc"))
        except BaseException:
            client.finalize_logged_model(logged.model_id, "FAILED")
            raise
    client.finalize_logged_model(logged.model_id, "READY")
    if run_id:
        client.log_outputs(run_id, [LoggedModelOutput(logged.model_id, 0)])
    return str(logged.model_id)


def _link_metrics(
    settings: Settings, run_id: str, model_id: str, values: Mapping[str, float], survey: str, dataset_digest: str
) -> None:
    """Tie a run's final metrics to the model: the points that the run has, so that no second one appears there."""
    from mlflow.entities import Metric

    client = connect(settings)
    dataset = (survey, dataset_digest[:DIGEST_LENGTH]) if survey and dataset_digest else (None, None)
    points = []
    for key, value in sorted(values.items()):
        same = [point for point in client.get_metric_history(run_id, key) if point.value == float(value)]
        stamp, step = (same[-1].timestamp, same[-1].step) if same else (int(time.time() * 1000), 0)
        points.append(Metric(key, float(value), stamp, step, model_id, *dataset))
    for start in range(0, len(points), 1000):
        client.log_batch(run_id, points[start : start + 1000])


def _fetch(settings: Settings, name: str, version: str) -> Path:
    from mlflow.artifacts import download_artifacts

    found = _version(settings, name, version)
    client = connect(settings)
    location = client.get_model_version_download_uri(name, found.version)
    if location.startswith(("file:", "/")):
        return Path(download_artifacts(artifact_uri=location))
    cache = settings.home / "mlflow" / "models" / found.tags["galaxy.model_id"]
    if not cache.is_dir():
        cache.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache.parent) as temporary:
            fetched = download_artifacts(artifact_uri=location, dst_path=temporary, tracking_uri=settings.mlflow_uri)
            try:
                os.rename(fetched, cache)
            except OSError:  # another process was faster
                if not cache.is_dir():
                    raise
                shutil.rmtree(fetched, ignore_errors=True)
    return cache
