"""A toy survey to fine-tune on in seconds: round and flat ellipses of two sources, with labels of every kind."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from galaxy_models.card import ModelCard
from galaxy_models.inputs import InputSpec
from galaxy_models.lvm import GalaxyLVM, LvmConfiguration, architecture
from galaxy_models.predictor import save_model
from infra.profile import FinetuneSettings, Profile
from infra.progress import silent
from infra.settings import Settings
from tasks.ingest.survey import SurveyDefinition
from tasks.stage import StageContext

SIDE = 40
STEPS = 48
TINY = LvmConfiguration(8, (1, 1, 1, 1), (1, 1, 1), (2, 2, 2, 2), window=4)


@dataclass
class FakeStamps:
    """The part of the stamp store that a training stage reads."""

    images: np.ndarray
    units: str
    bands: tuple[str, ...]
    digest: str = "stamps"
    reads: list[int] = field(default_factory=list)

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        self.reads.append(len(rows))
        return self.images[rows]


@dataclass
class FakePrepared:
    """The part of the prepared dataset that a training stage reads."""

    dataset: FakeStamps
    table: pd.DataFrame
    digest: str = "prepared"

    def rows(self, split: str, source: str | None = None, usable: bool = True) -> np.ndarray:
        chosen = self.table["split"] == split
        if source is not None:
            chosen &= self.table["source"] == source
        return np.flatnonzero(chosen & (self.table["usable"] | (not usable)))


def ellipses(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(count, 3, SIDE, SIDE) in 0..1, half of them round and half flat, and their axis ratios."""
    generator = np.random.default_rng(seed)
    ratio = np.where(np.arange(count) % 2 == 0, generator.uniform(0.85, 1, count), generator.uniform(0.2, 0.35, count))
    angle = generator.uniform(0, np.pi, count)[:, None, None]
    y, x = np.mgrid[:SIDE, :SIDE] - (SIDE - 1) / 2
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    light = 0.9 * np.exp(-0.5 * (along**2 + (across / ratio[:, None, None]) ** 2) / 5**2)
    images = light[:, None] * np.array([1.0, 0.8, 0.6])[:, None, None]
    return np.clip(images + generator.normal(0, 0.02, images.shape), 0, 1), ratio


def survey_of(units: str, **changes: Any) -> SurveyDefinition:
    """Source `near` with classes and votes, source `far` with axis ratios."""
    source = {"kind": "images", "folder": "x", "catalogue": "y.csv", "survey_bands": "grz"}
    labels = [
        {"name": "shape", "source": "near", "kind": "classes", "column": "c", "classes": {"0": "round", "1": "flat"}},
        {"name": "asked", "source": "near", "kind": "votes", "questions": {"bar": {"yes": "a", "no": "b"}}},
        {"name": "size", "source": "far", "kind": "values", "values": {"axis_ratio": "q"}},
    ]
    feeds = ["classification", "votes", "parameters"]
    content: dict[str, Any] = {
        "name": "toy",
        "units": units,
        "bands": ["R", "G", "B"] if units == "rgb" else ["g", "r", "z"],
        "stamp_size": SIDE,
        "sources": [{**source, "name": "near"}, {**source, "name": "far"}],
        "labels": [{**label, "feeds": [feed]} for label, feed in zip(labels, feeds, strict=True)],
    }
    return SurveyDefinition.model_validate(content | changes)


def prepared_of(units: str, count: int = 320) -> FakePrepared:
    """As many stamps, in pictures or in fluxes, of all splits."""
    images, ratio = ellipses(count, seed=3)
    near = np.arange(count) < count // 2
    flat = np.arange(count) % 2 == 1
    table = pd.DataFrame(
        {
            "object_id": [f"toy-{i:04d}" for i in range(count)],
            "source": np.where(near, "near", "far"),
            "split": np.array(["train", "train", "validation", "test", "train"])[np.arange(count) // 2 % 5],
            "usable": True,
            "pixel_scale": 0.262,
            "label.shape": pd.Series(np.where(flat, "flat", "round"), dtype=object).where(near, None),
            "votes.asked.bar.yes": np.where(near, np.where(flat, 0.9, 0.1), np.nan).astype(np.float32),
            "votes.asked.bar.no": np.where(near, np.where(flat, 0.1, 0.9), np.nan).astype(np.float32),
            "value.size.axis_ratio": np.where(near, np.nan, ratio).astype(np.float32),
        }
    )
    stored = (255 * images).astype(np.uint8) if units == "rgb" else (0.3 * images).astype(np.float16)
    return FakePrepared(FakeStamps(stored, units, ("g", "r", "z")), table)


def save_untrained(folder: Path) -> Path:
    """A tiny model with random weights, as pre-training leaves one."""
    torch.manual_seed(0)
    lvm = GalaxyLVM(TINY)
    lvm.set_rgb_statistics(torch.full((3,), 0.1), torch.full((3,), 0.2))
    inputs = InputSpec(("g", "r", "z"), SIDE, 32, 1, (0.2, 0.3), True)
    save_model(folder, ModelCard("galaxy-lvm", {"kind": "lvm", **architecture(lvm)}, inputs), lvm)
    return folder


def context_of(
    folder: Path, pretrained: Path, units: str = "rgb", progress: Any = silent, **settings: Any
) -> StageContext:
    """What the stage is given; further settings are those of `[finetune]`."""
    folder.mkdir(parents=True, exist_ok=True)
    chosen = {
        "epochs": 100, "max_steps": STEPS, "batch_size": 16, "evaluate_steps": 8, "checkpoint_steps": 10,
        "learning_rate": 4e-3, "validation_stamps": 24, **settings,
    }  # fmt: skip
    return StageContext(
        survey=survey_of(units),
        profile=Profile(name="tiny", threads=1, finetune=FinetuneSettings(**chosen)),
        settings=Settings.from_environment(),
        folder=folder,
        upstream={
            "preprocess": {"prepared": "unused"},
            "pretrain": {"model": str(pretrained), "weights_digest": "0" * 64},
        },
        progress=progress,
        record=lambda step, metrics: None,
    )
