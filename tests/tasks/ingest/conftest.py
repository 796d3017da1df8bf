"""A small survey of pictures that the tests make themselves."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from infra.profile import ClusterSettings, IngestSettings, Profile
from infra.settings import Settings
from tasks.ingest.survey import SurveyDefinition
from tasks.stage import StageContext
from tests.doubles.brick_files import BrickTree
from tests.doubles.brick_survey import Sky, small_tree


class Survey:
    """A folder of pictures with a table, and the context of an ingest stage over it."""

    def __init__(self, root: Path, count: int = 40) -> None:
        self.root = root
        self.images = root / "images"
        self.images.mkdir(parents=True)
        rng = np.random.default_rng(0)
        for i in range(count):
            picture = rng.integers(0, 255, (6, 6, 3), np.uint8)
            Image.fromarray(picture).resize((48, 48)).save(self.images / f"g{i:03d}.png")
        self.table = pd.DataFrame(
            {
                "name": [f"g{i:03d}.png" for i in range(count)],
                "ra": rng.uniform(0, 360, count),
                "dec": rng.uniform(-60, 60, count),
                "shape": rng.choice(["round", "flat"], count),
            }
        )
        self.source: dict[str, Any] = {
            "kind": "images",
            "name": "pictures",
            "folder": str(self.images),
            "catalogue": str(root / "table.csv"),
            "columns": {"object_id": "name", "file": "name", "ra": "ra", "dec": "dec"},
            "survey_bands": "grz",
        }
        self.labels: list[dict[str, Any]] = [
            {
                "name": "shape",
                "source": "pictures",
                "kind": "classes",
                "column": "shape",
                "classes": {"round": "round", "flat": "flat"},
                "feeds": ["classification"],
            }
        ]
        self.units = "rgb"
        self.bands = ["R", "G", "B"]
        self.notes: list[str] = []

    def definition(self) -> SurveyDefinition:
        """The survey as it stands."""
        return SurveyDefinition.model_validate(
            {
                "name": "small",
                "units": self.units,
                "bands": self.bands,
                "stamp_size": 32,
                "sources": [self.source],
                "labels": self.labels,
            }
        )

    def context(self, folder: str = "stage", workers: int = 0) -> StageContext:
        """Write the table and describe the stage; 0 workers means in this process."""
        self.table.to_csv(self.root / "table.csv", index=False)
        cluster = ClusterSettings(kind="local" if workers else "inline", workers=workers or 1)
        return StageContext(
            survey=self.definition(),
            profile=Profile(name="small", cluster=cluster, ingest=IngestSettings(shard_stamps=16, chunk_stamps=4)),
            settings=Settings(home=self.root, sky=self.root, mlflow_uri="unused"),
            folder=self.root / folder,
            upstream={},
            progress=lambda done, total, note="": self.notes.append(note),
            record=lambda step, metrics: None,
        )


@pytest.fixture
def make_survey(tmp_path: Path) -> Callable[..., Survey]:
    """Makes a survey of so many pictures."""
    return lambda count=40: Survey(tmp_path / "survey", count)


@pytest.fixture
def survey(make_survey: Callable[..., Survey]) -> Survey:
    """Forty pictures in three shards."""
    return make_survey()


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory) -> BrickTree:
    """Four bricks."""
    return small_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture
def sky(tree: BrickTree, tmp_path: Path) -> Sky:
    """A survey of the objects on the four bricks."""
    return Sky(tree, tmp_path)
