"""A small survey over a tree of bricks, for tests to change and run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from infra.profile import ClusterSettings, IngestSettings, Profile
from infra.settings import Settings
from tasks.ingest.bricks import Bricks
from tasks.ingest.survey import SurveyDefinition
from tasks.stage import StageContext
from tasks.stamps.stamp import Refusal, Stamp
from tests.doubles.brick_files import BrickTree
from tests.doubles.brick_tree import make_brick_tree

SIZE, SIDE = 48, 400
BANDS = ["g", "r", "z"]


def small_tree(root: Path) -> BrickTree:
    """Four bricks that overlap; the last one has no z image, the second one a hole, the first one a bright star."""
    return make_brick_tree(
        root, side=SIDE, step=0.024, galaxies_per_brick=25, seed=3, missing_bands=[(3, "z")], holes=[(1, "r")],
        bright_stars=[0],
    )  # fmt: skip


class Sky:
    """A survey of a tree's objects, ready to be changed."""

    def __init__(self, tree: BrickTree, folder: Path) -> None:
        self.tree, self.folder = tree, folder
        self.objects = tree.objects.drop_duplicates("source").reset_index(drop=True)
        self.source: dict[str, Any] = {
            "kind": "bricks", "name": "sky", "root": str(tree.root), "catalogue": str(folder / "objects.parquet"),
            "tile_side": SIDE,
        }  # fmt: skip
        self.survey: dict[str, Any] = {}
        self.store = ""
        self.notes: list[str] = []

    def definition(self) -> SurveyDefinition:
        self.objects.to_parquet(self.folder / "objects.parquet")
        content = {"name": "small", "units": "nanomaggy", "bands": BANDS, "stamp_size": SIZE, "sources": [self.source]}
        return SurveyDefinition.model_validate(content | self.survey)

    def context(self, name: str = "stage", shard_stamps: int = 16, workers: int = 0) -> StageContext:
        cluster = ClusterSettings(kind="local" if workers else "inline", workers=workers or 1)
        return StageContext(
            survey=self.definition(),
            profile=Profile(
                name="small", cluster=cluster, ingest=IngestSettings(shard_stamps=shard_stamps, chunk_stamps=4)
            ),
            settings=Settings(home=self.folder, sky=self.folder, store=self.store, mlflow_uri="unused"),
            folder=self.folder / name,
            upstream={},
            progress=lambda done, total, note="": self.notes.append(note),
            record=lambda step, metrics: None,
        )

    def read(self) -> tuple[pd.DataFrame, list[Stamp | Refusal]]:
        """All rows with their answers."""
        context = self.context()
        source = Bricks(context.survey.sources[0], context.survey, context.settings)
        rows = source.rows()
        return rows, source.read(rows)
