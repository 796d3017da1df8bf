"""What a search has learnt, asked about the whole catalogue and registered as a model of its own."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from galaxy_models.card import ModelCard
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import from_architecture
from galaxy_models.predictor import save_model
from galaxy_models.preference import Preference
from galaxy_models.search_model import SearchNetwork, search_architecture
from infra.progress import Progress, silent
from infra.settings import Settings
from infra.stage_folder import StageFolder, write_atomic
from tasks.search.features import SearchFeatures, feature_cache
from tasks.search.lesson import SEARCHES, Lesson, find_lesson
from tasks.track.client import connect, experiment
from tasks.track.journal import MetricJournal
from tasks.track.packaging import weights_digest
from tasks.track.registry import load_registered, register
from tasks.track.runs import JOURNAL_FILE, FlowRun, StageRun, ending, process_tags

NO_FLOW = FlowRun()
STAGE, SCORES, MODEL_FOLDER = "score-search", "scores.parquet", "model"


def score_search(
    settings: Settings, search: str, *, progress: Progress = silent, flow: FlowRun = NO_FLOW
) -> dict[str, Any]:
    """Learn a search's labels, score every object of its catalogue, and register the learner.

    Parameters
    ----------
    search
        Name of a search, whose newest lesson is taken, or path of a lesson.

    Returns
    -------
    dict
        `scores` (Parquet: `row`, `object_id`, `ra`, `dec`, `p_wanted`, `rank` among all that have an embedding,
        `label`), `model`, `metrics`, `registered` (name and version), `folder`, `mlflow_run`, `mlflow_page`; with
        `skipped` if the same lesson was scored before.

    Raises
    ------
    GalaxyError
        If there is no such search, its catalogue or its model is gone, or another run is scoring it.
    """
    lesson = find_lesson(search, settings)
    features = SearchFeatures.open(lesson.catalogue, feature_cache(settings))
    inputs = {"lesson": lesson.digest, "catalogue": features.digest, "code": version("galaxy-lvm")}
    folder = StageFolder(settings.home / SEARCHES / lesson.name, STAGE, inputs)
    with folder.locked():
        result = folder.result()
        if result is not None and Path(result["scores"]).is_file() and Path(result["model"]).is_dir():
            progress(1, 1, f"done before: {folder.path.name}")
            return {**result, "skipped": True}
        progress(0, 3, f"learning {len(lesson.object_id)} labels")
        rows = lesson.rows_in(features)
        learnt = Preference.learn(
            features.features, rows, np.array(lesson.wanted), reasons=lesson.reasons, seed=lesson.seed
        )
        progress(1, 3, f"scoring {len(features.object_id)} objects")
        made = _write(folder.path, lesson, features, learnt, settings)
        progress(2, 3, "registering")
        with _tracked(settings, lesson, features, folder, flow) as run:
            run.log_result(made)
            run.log_json(lesson.model_dump(mode="json"), "lesson.json")
            number = register(
                settings,
                made["name"],
                made,
                stage_key=folder.key,
                run_id=run.run_id,
                survey=features.survey,
                dataset_digest=features.dataset_digest,
            )
        made["registered"] = {"name": made["name"], "version": number}
        made |= {"folder": str(folder.path), "mlflow_run": run.run_id, "mlflow_page": run.url}
        folder.finish(made)
        progress(3, 3, f"{made['name']} version {number}")
    return made


def _write(
    folder: Path, lesson: Lesson, features: SearchFeatures, learnt: Preference, settings: Settings
) -> dict[str, Any]:
    """The scores and the model folder."""
    left = learnt.remaining()
    metrics = {
        "labelled": float(len(lesson.wanted)),
        "wanted": float(sum(lesson.wanted)),
        "remaining": left.expected,
        "remaining_low": left.low,
        "remaining_high": left.high,
    }
    buffer = io.BytesIO()
    pq.write_table(_scores(features, learnt, lesson), buffer, compression="zstd")
    write_atomic(folder / SCORES, buffer.getbuffer())
    name = f"galaxy-search-{lesson.name}"
    _save_model(folder / MODEL_FOLDER, name, lesson, features, learnt, settings, metrics)
    return {
        "name": name,
        "scores": str(folder / SCORES),
        "rows": len(features.object_id),
        "model": str(folder / MODEL_FOLDER),
        "weights_digest": weights_digest(folder / MODEL_FOLDER),
        "lesson_digest": lesson.digest,
        "metrics": metrics,
        "headline": "wanted",
    }


def _scores(features: SearchFeatures, learnt: Preference, lesson: Lesson) -> pa.Table:
    """Row for row with the catalogue; null where an object has no embedding."""
    probabilities = learnt.probabilities()
    known = np.isfinite(probabilities)
    order = np.argsort(np.where(known, -probabilities, np.inf), kind="stable")
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(1, len(order) + 1)
    label = np.full(len(order), None, object)
    label[learnt.rows] = np.where(learnt.wanted, "yes", "no")
    metadata = {"search": lesson.name, "lesson": lesson.digest, "dataset": features.dataset_digest}
    return pa.table(
        {
            "row": pa.array(np.arange(len(order), dtype=np.int64)),
            "object_id": pa.array(features.object_id, pa.string()),
            "ra": features.ra,
            "dec": features.dec,
            "p_wanted": pa.array(probabilities, pa.float32(), mask=~known),
            "rank": pa.array(rank, pa.int64(), mask=~known),
            "label": pa.array(label, pa.string()),
        }
    ).replace_schema_metadata(metadata)


def _save_model(
    folder: Path,
    name: str,
    lesson: Lesson,
    features: SearchFeatures,
    learnt: Preference,
    settings: Settings,
    metrics: dict[str, float],
) -> None:
    """The vision model that was looked through, with the learner on top, as a model folder like every other."""
    seen = load_registered(settings, lesson.model, lesson.model_version)
    encoder = from_architecture(seen.card.architecture)
    encoder.load_state_dict({key: value.cpu() for key, value in seen.network.state_dict().items()})
    network = SearchNetwork.of(encoder, features.view, learnt.linear, features.mean, features.spread)
    card = ModelCard(
        name=name,
        architecture=dict(search_architecture(network)),
        inputs=InputSpec.from_dict(asdict(seen.card.inputs)),
        training_data={
            "survey": features.survey,
            "dataset_digest": features.dataset_digest,
            "catalogue_digest": features.digest,
            "lesson_digest": lesson.digest,
            "embeddings_of": f"{lesson.model} {lesson.model_version}",
        },
        labels={
            "wanted": [one for one, yes in zip(lesson.object_id, lesson.wanted, strict=True) if yes],
            "not_wanted": [one for one, yes in zip(lesson.object_id, lesson.wanted, strict=True) if not yes],
        },
        metrics=metrics,
        code_version=version("galaxy-lvm"),
    )
    save_model(folder, card, network)


@contextmanager
def _tracked(
    settings: Settings, lesson: Lesson, features: SearchFeatures, folder: StageFolder, flow: FlowRun
) -> Iterator[StageRun]:
    """An MLflow run in the survey's experiment."""
    client = connect(settings)
    experiment_id = experiment(settings, features.survey or lesson.name)
    tags = {
        "galaxy.survey": features.survey,
        "galaxy.kind": "search",
        "galaxy.stage": STAGE,
        "galaxy.stage_key": folder.key,
        "galaxy.search": lesson.name,
        "galaxy.lesson": lesson.digest,
        "dataset.digest": features.dataset_digest,
        **process_tags(),
        **flow.tags(),
    }
    run_id = client.create_run(experiment_id, run_name=f"search {lesson.name}", tags=tags).info.run_id
    with ending(settings, run_id):
        journal = MetricJournal(client, run_id, folder.path / JOURNAL_FILE)
        try:
            yield StageRun(settings, experiment_id, run_id, STAGE, features.survey, journal)
            journal.flush()
        finally:
            journal.close()
