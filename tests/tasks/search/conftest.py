"""A published catalogue whose embeddings have a kind of galaxy in them, and a home to search it from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from galaxy_models.lvm import build_lvm
from galaxy_models.morphometry import MEASURED_COLUMNS
from galaxy_models.ring_structure import RING_COLUMNS
from galaxy_models.volunteer_answers import TOLD_COLUMNS
from infra.settings import Settings
from tasks.infer.publish import publish
from tasks.search.lesson import Lesson

torch.set_num_threads(1)

COUNT = 200
SIZE = build_lvm("nano").embedding_size
WANTED = np.arange(COUNT) % 10 == 0
NO_EMBEDDING = 3
"""A row that was refused."""


def embeddings() -> np.ndarray:
    generator = np.random.default_rng(1)
    vectors = generator.normal(5, 2, (COUNT, SIZE)).astype(np.float16)
    vectors[WANTED, :5] += 8
    vectors[NO_EMBEDDING] = np.nan
    return vectors


def chances() -> np.ndarray:
    """Of the answers; the first of them is never given to some."""
    table = np.random.default_rng(2).uniform(0.1, 0.9, (COUNT, len(TOLD_COLUMNS))).astype(np.float32)
    table[::5, 0] = 0
    table[NO_EMBEDDING] = np.nan
    return table


def measures() -> np.ndarray:
    table = np.random.default_rng(3).normal(2, 3, (COUNT, len(MEASURED_COLUMNS) + len(RING_COLUMNS))).astype(np.float32)
    table[NO_EMBEDDING] = np.nan
    return table


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    home = tmp_path / "home"
    return Settings(home=home, sky=home / "no-sky", mlflow_uri=f"sqlite:///{home / 'mlflow' / 'mlflow.db'}")


@pytest.fixture
def catalogue(settings: Settings) -> Path:
    """What `infer` would have published."""
    return published(settings, "infer-0123456789ab", {})


@pytest.fixture
def telling_catalogue(settings: Settings) -> Path:
    """The same with measures, and of a model that tells answers."""
    values = np.concatenate([chances(), measures()], axis=1)
    columns = zip((*TOLD_COLUMNS, *MEASURED_COLUMNS, *RING_COLUMNS), values.T, strict=True)
    more = {name: pa.array(column, from_pandas=True) for name, column in columns}
    return published(settings, "infer-telling00000", more)


def published(settings: Settings, name: str, more: dict[str, pa.Array]) -> Path:
    ids = np.array([f"gal-{row:03d}" for row in range(COUNT)], object)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(embeddings().ravel()), SIZE)
    piece = pa.table(
        {
            "row": np.arange(COUNT),
            "object_id": ids.astype(str),
            "ra": np.linspace(10, 11, COUNT),
            "dec": np.where(np.arange(COUNT) % 7 == 0, np.nan, -1.0),
            "embedding": vectors,
            **more,
            "refused": pa.array(["dark" if row == NO_EMBEDDING else None for row in range(COUNT)], pa.string()),
        }
    )
    origin = {"digest": "c" * 64, "dataset_digest": "d" * 64, "survey": "tiny", "models": {"galaxy-lvm": "3"}}
    target = settings.catalogues / "tiny" / name
    publish(target, [piece], ids, origin)
    return target


@pytest.fixture
def lesson_of(catalogue: Path) -> Callable[..., Lesson]:
    """Makes a lesson of rows that are answered truly."""

    def make(rows: list[int], **other: object) -> Lesson:
        content = {
            "name": "bright-ones",
            "catalogue": catalogue,
            "dataset_digest": "d" * 64,
            "model": "galaxy-lvm",
            "model_version": "3",
            "object_id": [f"gal-{row:03d}" for row in rows],
            "wanted": [bool(WANTED[row]) for row in rows],
            "reasons": ["example"] * len(rows),
        }
        return Lesson.model_validate({**content, **other})

    return make
