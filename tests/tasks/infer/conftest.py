"""A small dataset in memory's reach, and models whose answers are known from the pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from galaxy_models.card import ModelCard
from galaxy_models.inputs import InputSpec
from galaxy_models.predictor import Predictor
from infra.profile import Profile
from infra.progress import silent
from infra.settings import Settings
from tasks.ingest.survey import SurveyDefinition
from tasks.stage import StageContext
from tasks.stamps.dataset import Shard

torch.set_num_threads(1)

SIZE = 32


class MemoryDataset:
    """Stands for StampDataset: 40 rows in 3 shards, one failed, one without coverage."""

    digest = "d" * 64
    units = "rgb"
    bands = ("R", "G", "B")
    stamp_size = SIZE
    root = Path("memory")

    def __init__(self, count: int = 40) -> None:
        generator = np.random.default_rng(5)
        self.images = generator.integers(0, 256, (count, 3, SIZE, SIZE), dtype=np.uint8)
        self.catalog = pd.DataFrame(
            {
                "object_id": [f"gal-{(7 * i) % count:03d}" for i in range(count)],
                "ra": np.linspace(10, 11, count),
                "dec": np.where(np.arange(count) % 5 == 0, np.nan, -1.0),
                "healpix": np.arange(count),
                "survey": "tiny",
                "source": np.where(np.arange(count) < 30, "one", "two"),
                "bands": "gri",
                "pixel_scale": np.where(np.arange(count) % 2 == 0, np.nan, 0.262),
                "field": None,
                "state": "valid",
                "label.kind": np.where(np.arange(count) % 3 == 0, "spiral", "round"),
                "grade.lens": np.nan,
            }
        )
        self.catalog.loc[3, "state"] = "failed"
        self.catalog.loc[20, "state"] = "no_coverage"
        self.quarantine = pd.DataFrame(
            {"kind": ["object"], "object_id": [self.catalog["object_id"][3]], "reason": ["image is cut short"]}
        )
        bounds = [(0, 16), (16, 32), (32, count)]
        self.shards = [Shard(0, i, np.arange(a, b), np.arange(b - a)) for i, (a, b) in enumerate(bounds)]
        self.read: list[int] = []

    def __len__(self) -> int:
        return len(self.catalog)

    def read_shard(self, i: int) -> np.ndarray:
        self.read.append(i)
        return self.images[self.shards[i].rows]

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        return self.images[rows]


@dataclass
class MemoryPrepared:
    """Stands for PreparedDataset."""

    dataset: MemoryDataset
    table: pd.DataFrame
    digest: str = "p" * 64

    @property
    def names(self) -> list[str]:
        return list(self.table)

    def columns(self, names: list[str]) -> pd.DataFrame:
        return self.table[names]

    def rows(self, split: str, source: str | None = None, usable: bool = True) -> np.ndarray:
        kept = self.table["split"] == split
        if source is not None:
            kept &= self.table["source"] == source
        if usable:
            kept &= self.table["usable"]
        return np.flatnonzero(kept)


class Brightness(torch.nn.Module):
    """An embedding that is the mean colour, half of which says how spiral the stamp is."""

    def __init__(self) -> None:
        super().__init__()
        self.one = torch.nn.Parameter(torch.ones(1))

    def predict_columns(self, rgb: torch.Tensor, border: int, flux: torch.Tensor | None) -> dict[str, np.ndarray]:
        mean = (rgb.mean(dim=(2, 3)) * self.one).detach().numpy()
        return {"embedding": np.concatenate([mean, mean * 2], axis=1)}


class Lens(Brightness):
    """A score that is the red of the stamp, and a box where it is above a half."""

    def predict_columns(self, rgb: torch.Tensor, border: int, flux: torch.Tensor | None) -> dict[str, np.ndarray]:
        red = rgb[:, 0].mean(dim=(1, 2)).detach().numpy()
        boxes = np.empty(len(rgb), dtype=object)
        for i, value in enumerate(red):
            boxes[i] = [[4.0, 5.0, 20.0, 21.0, float(value)]] if value > 0.5 else []
        return {"lens_score": red, "boxes": boxes}


class Classes(Brightness):
    """Probabilities as a morphology model gives them."""

    def predict_columns(self, rgb: torch.Tensor, border: int, flux: torch.Tensor | None) -> dict[str, np.ndarray]:
        red = rgb[:, 0].mean(dim=(1, 2)).detach().numpy()
        return {"p_spiral": red, "p_round": 1 - red, "half_light_radius": red * 4}


def predictor_of(network: torch.nn.Module, name: str, unknown_scale: bool = True) -> Predictor:
    inputs = InputSpec(("g", "r", "z"), SIZE, SIZE, 1, (0.2, 0.3), unknown_pixel_scale=unknown_scale)
    return Predictor(ModelCard(name, {"kind": "lvm"}, inputs), network)


@pytest.fixture
def prepared() -> MemoryPrepared:
    """The dataset with splits, one flagged stamp among them."""
    dataset = MemoryDataset()
    table = dataset.catalog.copy()
    table["split"] = np.resize(["train", "train", "test"], len(table))
    table["usable"] = table["state"] == "valid"
    table["flag_star"] = False
    table.loc[8, ["usable", "flag_star"]] = [False, True]
    return MemoryPrepared(dataset, table)


@pytest.fixture
def survey() -> SurveyDefinition:
    """Two sources, of which `one` taught the lens finder."""
    return SurveyDefinition.model_validate(
        {
            "name": "tiny",
            "units": "rgb",
            "bands": ["R", "G", "B"],
            "stamp_size": SIZE,
            "sources": [
                {"kind": "images", "name": name, "folder": "x", "catalogue": "x.csv", "survey_bands": "gri"}
                for name in ("one", "two")
            ],
            "labels": [
                {
                    "name": "kind",
                    "source": "one",
                    "kind": "classes",
                    "column": "kind",
                    "classes": {"s": "spiral", "r": "round"},
                    "feeds": ["neighbours"],
                },
                {
                    "name": "lens",
                    "source": "one",
                    "kind": "grade",
                    "column": "grade",
                    "positive_from": 2,
                    "negative_to": 1,
                    "feeds": ["lens"],
                },
            ],
        }
    )


@pytest.fixture
def lens_finder_that_needs_the_scale() -> Predictor:
    """Refuses stamps of unknown pixel scale."""
    return predictor_of(Lens(), "galaxy-lens-finder", unknown_scale=False)


@pytest.fixture
def run(
    prepared: MemoryPrepared, survey: SurveyDefinition, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict]:
    """Runs the stage in `home`, with its dataset and models from memory; gives the result."""
    models = {
        "galaxy-lvm": predictor_of(Brightness(), "galaxy-lvm"),
        "galaxy-align": predictor_of(Brightness(), "galaxy-align"),
        "galaxy-morphology": predictor_of(Classes(), "galaxy-morphology"),
        "galaxy-lens-finder": predictor_of(Lens(), "galaxy-lens-finder"),
    }
    monkeypatch.setattr("tasks.infer.infer.load_registered", lambda settings, name, version: models[name])
    monkeypatch.setattr("tasks.infer.infer.PreparedDataset.open", lambda path: prepared)
    monkeypatch.setattr("tasks.infer.neighbour_report.QUERIES_ON_SHEET", 2)  # drawing takes most of the time
    monkeypatch.setattr("tasks.infer.neighbour_report.NEIGHBOURS_ON_SHEET", 2)

    def start(home: str = "home", versions: str = "1", **replaced: Predictor) -> dict:
        from tasks.infer.infer import infer

        models.update({name.replace("_", "-"): model for name, model in replaced.items()})
        settings = Settings(home=tmp_path / home, sky=tmp_path, mlflow_uri="sqlite:///none")
        folder = settings.stages / "tiny" / "infer-0123456789ab"
        folder.mkdir(parents=True, exist_ok=True)
        upstream = {"preprocess": {"prepared": "memory"}, "models": {name: {"version": versions} for name in models}}
        profile = Profile.model_validate({"name": "test", "threads": 1, "infer": {"neighbours": 3, "lens_sheet": 6}})
        return infer(StageContext(survey, profile, settings, folder, upstream, silent, lambda step, metrics: None))

    return start
