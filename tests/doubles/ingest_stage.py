"""What the tests of sources need around them: an ingest stage, and what it stored."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from infra.profile import ClusterSettings, IngestSettings, Profile
from infra.settings import Settings
from tasks.ingest.survey import SurveyDefinition
from tasks.stage import StageContext
from tasks.stamps.dataset import StampDataset


def stage_context(
    root: Path, definition: Mapping[str, Any], name: str = "stage", workers: int = 0, shard_stamps: int = 16
) -> StageContext:
    """An ingest stage over a survey named `published`; 0 workers means in this process."""
    cluster = ClusterSettings(kind="local" if workers else "inline", workers=workers or 1)
    return StageContext(
        survey=SurveyDefinition.model_validate({"name": "published", **definition}),
        profile=Profile(
            name="small", cluster=cluster, ingest=IngestSettings(shard_stamps=shard_stamps, chunk_stamps=4)
        ),
        settings=Settings(home=root, sky=root, mlflow_uri="unused"),
        folder=root / name,
        upstream={},
        progress=lambda done, total, note="": None,
        record=lambda step, metrics: None,
    )


def pixels_by_id(dataset: StampDataset) -> dict[str, np.ndarray]:
    """Object id to the stored pixels, of all valid rows."""
    catalogue = dataset.catalog
    valid = np.flatnonzero((catalogue["state"] == "valid").to_numpy())
    return dict(zip(catalogue["object_id"].iloc[valid], dataset.read_rows(valid), strict=True))


class ShuffledWorkers:
    """Workers that are sent everything, as other processes are, and end in any order."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)

    def map(self, function: Callable[[Any], Any], items: Sequence[Any]) -> Iterator[tuple[Any, Any]]:
        """Each item with its result."""
        for item in self.chance.sample(list(items), len(items)):
            sent: Any = pickle.loads(pickle.dumps((function, item)))
            yield item, sent[0](sent[1])


@contextmanager
def shuffled(seed: int) -> Iterator[None]:
    """Give ingest such workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tasks.ingest.ingest.open_client", lambda _: nullcontext(ShuffledWorkers(seed)))
        yield
