"""A list of positions as a survey of cutouts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from infra.profile import ClusterSettings, IngestSettings, Profile
from infra.settings import Settings
from tasks.ingest.cutout_service import CutoutService
from tasks.ingest.survey import SurveyDefinition
from tasks.stage import StageContext
from tasks.stamps.stamp import Refusal, Stamp


class PositionList:
    """A catalogue of positions, its survey definition, and the context of an ingest stage over it."""

    def __init__(self, root: Path, url: str, positions: np.ndarray) -> None:
        self.root = root
        names = [f"g{i:03d}" for i in range(len(positions))]
        self.table = pd.DataFrame({"name": names, "RA": positions[:, 0], "DEC": positions[:, 1]})
        self.source: dict[str, Any] = {
            "kind": "legacy_surveys",
            "name": "positions",
            "catalogue": str(root / "positions.csv"),
            "columns": {"object_id": "name", "ra": "RA", "dec": "DEC"},
            "url": url,
        }
        self.survey: dict[str, Any] = {"units": "nanomaggy", "bands": ["g", "r", "z"], "stamp_size": 32}
        self.on_progress: Callable[[str], None] = lambda note: None

    def definition(self) -> SurveyDefinition:
        """The survey as it stands."""
        return SurveyDefinition.model_validate({"name": "listed", "sources": [self.source], **self.survey})

    def context(self) -> StageContext:
        """Write the table and describe the stage, in this process."""
        self.table.to_csv(self.root / "positions.csv", index=False)
        cluster = ClusterSettings(kind="inline")
        return StageContext(
            survey=self.definition(),
            profile=Profile(name="small", cluster=cluster, ingest=IngestSettings(shard_stamps=16, chunk_stamps=4)),
            settings=Settings(home=self.root, sky=self.root, mlflow_uri="unused"),
            folder=self.root / "stage",
            upstream={},
            progress=lambda done, total, note="": self.on_progress(note),
            record=lambda step, metrics: None,
        )

    def service(self) -> CutoutService:
        """The source alone."""
        context = self.context()
        return CutoutService(context.survey.sources[0], context.survey, context.settings)

    def read(self, count: int | None = None) -> list[Stamp | Refusal]:
        """What the source says of the first objects."""
        service = self.service()
        return service.read(service.rows().iloc[:count])
