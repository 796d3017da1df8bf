"""The real galaxies of the survey `real_sky`, ingested and prepared as any run does, small enough for memory."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from filelock import FileLock
from numpy.typing import NDArray

from galaxy_models.inputs import InputSpec
from infra.profile import load_profile
from infra.settings import Settings
from tasks.chain import Chain
from tasks.ingest.survey import load_survey
from tasks.preprocess.prepared import PreparedDataset

SURVEY, PROFILE = "real_sky", "laptop"
GALAXY = Path(sys.executable).with_name("galaxy")

SIDE = 76
"""Stamps of 152 px, averaged over 2 x 2 pixels."""

SIZE = 64
"""Pixels along a side of what networks see; the rest is there to be turned into sight."""

INPUTS = InputSpec(
    bands=("R", "G", "B"), stamp_size=SIDE, crop=SIZE, binning=1, pixel_scale=(0.0, 60.0), unknown_pixel_scale=True
)
FOLDS = 5


@dataclass(frozen=True)
class Stamps:
    """Stamps that passed quality, of all sources.

    Attributes
    ----------
    images
        (N, 3, 76, 76) uint8 RGB.
    table
        Their rows of the prepared catalogue.
    """

    images: NDArray[np.uint8]
    table: pd.DataFrame

    def rows(self, source: str, split: str | None = None) -> NDArray[np.int64]:
        """Rows of a source, and of a split of the survey's own."""
        chosen = self.table["source"] == source
        if split is not None:
            chosen &= self.table["split"] == split
        return np.flatnonzero(chosen)


def real_stamps() -> Stamps:
    """Run ingest and preprocess where it has not been done, and read what passed."""
    settings = Settings.from_environment()
    chain = Chain(load_survey(SURVEY), load_profile(PROFILE), settings)
    settings.home.mkdir(parents=True, exist_ok=True)
    with FileLock(settings.home / "evidence.lock"):  # parts that run beside each other prepare it once
        if chain.result("preprocess") is None:
            command = [str(GALAXY), "run", "--survey", SURVEY, "--profile", PROFILE, "--stages", "ingest,preprocess"]
            subprocess.run(command, check=True, stdout=sys.stderr)
    result = chain.result("preprocess")
    assert result is not None
    prepared = PreparedDataset.open(result["prepared"])
    rows = np.flatnonzero(prepared.table["usable"] & (prepared.table["state"] == "valid"))
    images = np.concatenate([_halved(prepared.dataset.read_rows(part)) for part in np.array_split(rows, 16)])
    return Stamps(images, prepared.table.iloc[rows].reset_index(drop=True))


def folds(stamps: Stamps, rows: NDArray[np.int64], codes: NDArray[np.int64], seed: int = 0) -> NDArray[np.int64]:
    """(n,) fold of each of `rows`, 0..4, each class spread evenly; near-duplicates fall into one fold."""
    groups = stamps.table["duplicate_group"].to_numpy()[rows]
    order = np.random.default_rng(seed).permutation(len(rows))
    order = order[np.argsort(codes[order], kind="stable")]
    fold = np.empty(len(rows), dtype=np.int64)
    fold[order] = np.arange(len(rows)) % FOLDS
    of_group: dict[int, int] = {}
    for position, group in enumerate(groups):
        if group >= 0:
            fold[position] = of_group.setdefault(int(group), int(fold[position]))
    return fold


def _halved(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """(n, 3, 152, 152) to (n, 3, 76, 76), the mean of 2 x 2 pixels."""
    count = len(images)
    mean = images.reshape(count, 3, SIDE, 2, SIDE, 2).mean(axis=(3, 5), dtype=np.float32)
    return np.asarray(mean.round(), dtype=np.uint8)
