"""A small prepared dataset on disk, two sources of drawn shapes, one with classes; a tiny pre-trained model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from infra.profile import PretrainSettings, Profile
from infra.progress import silent
from infra.settings import Settings
from tasks.ingest.survey import SurveyDefinition
from tasks.preprocess.prepared import PreparedDataset, write_prepared
from tasks.stage import StageContext
from tasks.stamps.dataset import StampDataset, publish
from tasks.stamps.layout import StampLayout
from tasks.stamps.part import QUARANTINE_COLUMNS, Part
from tasks.stamps.row_groups import one_piece
from tasks.stamps.stamp import Refusal, Stamp
from tests.doubles.labelled_ellipses import save_untrained

SIDE = 40
COUNT = 96
CLASSES = ("round", "cigar", "pair")
NOTHING = pd.DataFrame(columns=list(QUARANTINE_COLUMNS))


@dataclass(frozen=True)
class DrawnGalaxies:
    """Galaxy i is round, a cigar or a pair, by i modulo 3; every fourth comes from the source without labels."""

    units: str

    def plan(self) -> pd.DataFrame:
        """All rows."""
        numbers = np.arange(COUNT)
        labelled = numbers % 4 != 3
        return pd.DataFrame(
            {
                "object_id": [f"drawn-{i:03d}" for i in numbers],
                "source": np.where(labelled, "drawn", "plain"),
                "pixel_scale": np.where(labelled, 0.25, np.nan),
                "label.shape": [CLASSES[i % 3] if known else None for i, known in enumerate(labelled)],
            }
        )

    def read(self, rows: pd.DataFrame) -> list[Stamp | Refusal]:
        """A stamp for each row."""
        return [Stamp(self._draw(int(name.removeprefix("drawn-"))), {}) for name in rows["object_id"]]

    def _draw(self, number: int) -> np.ndarray:
        generator = np.random.default_rng(number)
        y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
        turn = generator.uniform(0, np.pi)
        along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        shapes = {
            0: [(along, across)],
            1: [(along / 3, across)],
            2: [(along - 8, across), (along + 8, across)],
        }[number % 3]
        image = sum(np.exp(-0.5 * (a**2 + b**2) / 2.5**2) for a, b in shapes) * np.array([1.0, 0.8, 0.6])[:, None, None]
        image = image + generator.normal(0, 0.02, image.shape)
        if self.units == "rgb":
            return np.clip(image * 200 + 20, 0, 255).astype(np.uint8)
        return (image * 0.5).astype(np.float16)

    def prepare(self, folder: Path) -> PreparedDataset:
        """Store the stamps and publish a prepared dataset: of each three galaxies with a class, one is held out."""
        bands = ("R", "G", "B") if self.units == "rgb" else ("g", "r", "z")
        layout = StampLayout(COUNT, bands, SIDE, self.units, shard_stamps=32, chunk_stamps=8)
        counts = {"input": COUNT, "refused": 0}
        rows = one_piece(self.plan())
        part = Part.create(folder / "dataset/parts/0000", layout, rows, NOTHING, counts, {}, "drawn")
        for shard in part.pending():
            part.load([shard], self.read)
        part.finalise(lambda merged: (merged, NOTHING))
        publish(folder / "dataset", ["parts/0000"])
        dataset = StampDataset.open(folder / "dataset")
        number = dataset.catalog["object_id"].str.removeprefix("drawn-").astype(int).to_numpy() // 12
        own = pd.DataFrame(
            {
                "object_id": dataset.catalog["object_id"],
                "split": np.select([number == 6, number == 7], ["validation", "test"], "train"),
                "usable": True,
            }
        )
        return write_prepared(folder / "prepared", dataset, own, {})


def survey(units: str) -> SurveyDefinition:
    """The definition of the drawn galaxies."""
    source = {"kind": "images", "folder": "unused", "catalogue": "unused", "survey_bands": "grz"}
    flux = {"kind": "simulated", "count": COUNT}
    kind = source if units == "rgb" else flux
    table = {
        "name": "shape",
        "source": "drawn",
        "kind": "classes",
        "column": "shape",
        "classes": {name: name for name in CLASSES},
        "feeds": ["neighbours"],
    }
    return SurveyDefinition.model_validate(
        {
            "name": "drawn",
            "units": units,
            "bands": ["R", "G", "B"] if units == "rgb" else ["g", "r", "z"],
            "stamp_size": SIDE,
            "sources": [{**kind, "name": "drawn"}, {**kind, "name": "plain"}],
            "labels": [table],
        }
    )


@pytest.fixture(scope="session")
def drawn_prepared(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], PreparedDataset]:
    """The drawn galaxies in some units, prepared once."""
    made: dict[str, PreparedDataset] = {}

    def prepared(units: str) -> PreparedDataset:
        if units not in made:
            made[units] = DrawnGalaxies(units).prepare(tmp_path_factory.mktemp(units))
        return made[units]

    return prepared


@pytest.fixture(scope="session")
def drawn_context(
    tmp_path_factory: pytest.TempPathFactory, drawn_prepared: Callable[[str], PreparedDataset]
) -> Callable[..., StageContext]:
    """Makes the context of a pre-training on the drawn galaxies, in a new folder if none is given.

    Keywords are fields of the profile's section or of the context.
    """

    def make(units: str = "rgb", **changes: Any) -> StageContext:
        prepared = drawn_prepared(units)
        settings = {name: value for name, value in changes.items() if name in PretrainSettings.model_fields}
        rest = {name: value for name, value in changes.items() if name not in settings}
        numbers = {"crop": 32, "binning": 1, "batch_size": 8, "epochs": 1.0, "checkpoint_steps": 2, **settings}
        folder = tmp_path_factory.mktemp("stage")
        fields: dict[str, Any] = {
            "survey": survey(units),
            "profile": Profile(name="tiny", threads=1, pretrain=PretrainSettings(**numbers)),
            "settings": Settings(home=folder, sky=folder / "no-sky", mlflow_uri="sqlite:///unused.db"),
            "folder": folder,
            "upstream": {"preprocess": {"prepared": prepared.root, "digest": prepared.digest}},
            "progress": silent,
            "record": lambda step, metrics: None,
        }
        return StageContext(**{**fields, **rest})

    return make


@pytest.fixture(scope="session")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny model for labelled ellipses, as pre-training leaves one, with random weights."""
    return save_untrained(tmp_path_factory.mktemp("lvm"))
