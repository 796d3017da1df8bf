"""Stamps with known contents, and a small store of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from galaxy_models.photometry import viewer_rgb
from infra.profile import ClusterSettings, PreprocessSettings, Profile
from infra.settings import Settings
from tasks.ingest.survey import SurveyDefinition
from tasks.stage import StageContext
from tasks.stamps.dataset import StampDataset, publish
from tasks.stamps.layout import StampLayout
from tasks.stamps.part import QUARANTINE_COLUMNS, Part
from tasks.stamps.row_groups import one_piece
from tasks.stamps.sky_order import sort_by_sky
from tasks.stamps.stamp import Refusal, Stamp

SIDE = 152
INLINE = ClusterSettings(kind="inline")


class Scene:
    """Draws n stamps of fluxes (n, 3, SIDE, SIDE), float32 nanomaggies."""

    NOISE = np.array([0.004, 0.006, 0.015], np.float32)
    """Noise of g, r, z as the Legacy Surveys have it, nanomaggy per pixel."""

    PSF = 2.6
    """Radius at half the peak of the stars below, pixels: a seeing of 1.36 arcsec at 0.262."""

    def __init__(self, count: int, seed: int = 0, side: int = SIDE) -> None:
        self.generator = np.random.default_rng(seed)
        self.side = side
        self.images = self.generator.normal(0, 1, (count, 3, side, side)).astype(np.float32) * self.NOISE[:, None, None]
        y, x = np.mgrid[:side, :side]
        self.y, self.x = y - (side - 1) / 2, x - (side - 1) / 2

    def disk(self, peak: float = 0.5, scale: float = 7.0, axis_ratio: float = 0.7, x: float = 0, y: float = 0) -> Scene:
        """Exponential disks, with the peak's flux in r."""
        radius = np.hypot((self.x - x) * axis_ratio**0.5, (self.y - y) / axis_ratio**0.5)
        self._add(peak * np.exp(-np.hypot(radius, 1.5) / scale))
        return self

    def star(self, peak: float = 0.5, x: float = 0, y: float = 0) -> Scene:
        """Moffat profiles with beta 3 as wide as the PSF."""
        core = self.PSF / np.sqrt(2 ** (1 / 3) - 1)
        self._add(peak * (1 + (np.hypot(self.x - x, self.y - y) / core) ** 2) ** -3.0)
        return self

    def trail(self, height: float = 0.1, angle: float = 0.4, away: float = 25.0, width: float = 2.0) -> Scene:
        """A straight line across the frame, `away` pixels from its centre."""
        distance = self.x * np.sin(angle) - self.y * np.cos(angle) - away
        self._add(height * np.exp(-0.5 * (distance / width) ** 2))
        return self

    def _add(self, light: np.ndarray) -> None:
        self.images += (light * np.array([0.6, 1.0, 1.4])[:, None, None]).astype(np.float32)

    def display(self) -> np.ndarray:
        """The same as pictures of 0..255, as the survey's viewer shows them."""
        rgb = viewer_rgb(torch.from_numpy(self.images), ("g", "r", "z"))
        return (rgb.numpy() * 255).round().astype(np.uint8)


class Sky:
    """A store of small stamps at chosen places, and the context of a preprocess stage over it.

    `told` are further columns that are known when a stamp is cut, and `invvar` the inverse variances, row for row.
    """

    def __init__(
        self,
        root: Path,
        rows: pd.DataFrame,
        images: np.ndarray,
        broken: tuple[str, ...] = (),
        told: pd.DataFrame | None = None,
        invvar: np.ndarray | None = None,
    ) -> None:
        self.root, self.notes = root, list[str]()
        told = pd.DataFrame(index=range(len(rows))) if told is None else told
        weights = [None] * len(rows) if invvar is None else list(invvar)
        stamps = zip(rows["object_id"], images, told.to_dict("records"), weights, strict=True)
        self._stamps = {
            name: Stamp(image.astype(np.float16), {"pixel_scale": 0.262, **more}, weight)
            for name, image, more, weight in stamps
        }
        self._broken = broken
        plan = sort_by_sky(rows).assign(source="sky", survey="tiny", bands="grz")
        if "field" not in plan:
            plan["field"] = None
        bands, size = ("g", "r", "z"), images.shape[-1]
        layout = StampLayout(len(plan), bands, size, "nanomaggy", 16, 4, invvar=invvar is not None)
        nothing = pd.DataFrame(columns=list(QUARANTINE_COLUMNS))
        counts = {"input": len(plan), "refused": 0}
        part = Part.create(root / "parts/0000", layout, one_piece(plan), nothing, counts, {}, "identity")
        for shard in part.pending():
            part.load([shard], self._read)
        part.finalise(lambda merged: (merged, nothing))
        publish(root, ["parts/0000"])
        self.dataset = StampDataset.open(root)

    def _read(self, rows: pd.DataFrame) -> list[Stamp | Refusal]:
        return [Refusal("broken") if name in self._broken else self._stamps[name] for name in rows["object_id"]]

    def context(self, folder: Path, cluster: ClusterSettings = INLINE, store: str = "", **quality: Any) -> StageContext:
        """The stage over this store."""
        definition = {
            "name": "tiny",
            "units": "nanomaggy",
            "bands": ["g", "r", "z"],
            "stamp_size": self.dataset.stamp_size,
            "sources": [{"kind": "images", "name": "sky", "folder": ".", "catalogue": "x.csv", "survey_bands": "grz"}],
            "quality": quality,
        }
        return StageContext(
            survey=SurveyDefinition.model_validate(definition),
            profile=Profile(name="tiny", cluster=cluster, preprocess=PreprocessSettings()),
            settings=Settings(home=self.root, sky=self.root / "none", store=store, mlflow_uri="unused"),
            folder=folder,
            upstream={"ingest": {"dataset": str(self.root), "objects": len(self.dataset)}},
            progress=lambda done, total, note="": self.notes.append(note),
            record=lambda step, metrics: None,
        )


@pytest.fixture
def scene() -> Callable[..., Scene]:
    """Starts a scene of empty sky."""
    return Scene


def places(count: int, seed: int = 1) -> pd.DataFrame:
    """Objects all over the sky."""
    generator = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "object_id": [f"sky/{i:03d}" for i in range(count)],
            "ra": generator.uniform(0, 360, count),
            "dec": np.degrees(np.arcsin(generator.uniform(-1, 1, count))),
        }
    )


@pytest.fixture(scope="session")
def tiny_sky(tmp_path_factory: pytest.TempPathFactory) -> Sky:
    """Ninety disks of 48 px all over the sky, two of them broken, and a tenth of them the same pixels as another."""
    images = Scene(90, seed=2, side=48).disk(scale=4).images
    images[81:] = images[:9]
    rows = places(90)
    rows.loc[60:, ["ra", "dec"]] = np.nan
    return Sky(tmp_path_factory.mktemp("tiny") / "dataset", rows, images, broken=("sky/007", "sky/033"))


@pytest.fixture(scope="session")
def observed_sky(tmp_path_factory: pytest.TempPathFactory) -> Sky:
    """Sixty disks of which the survey tells inverse variances and, of every second one, coverage and defects.

    Of those, the last ten lack half of the frame, or are half masked.
    """
    scene = Scene(60, seed=5, side=48).disk(scale=4)
    invvar = np.broadcast_to(1 / scene.NOISE[:, None, None] ** 2, scene.images.shape).astype(np.float32).copy()
    told = pd.DataFrame({"coverage": [1.0, np.nan] * 30, "mask_fraction": [0.02, np.nan] * 30})
    told.loc[50::2, "coverage"], told.loc[51::2, "mask_fraction"] = 0.5, 0.6
    invvar[50::2, :, :24], scene.images[50::2, :, :24] = 0, 0
    return Sky(tmp_path_factory.mktemp("observed") / "dataset", places(60), scene.images, told=told, invvar=invvar)
