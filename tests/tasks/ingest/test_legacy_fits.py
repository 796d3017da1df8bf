"""Real flux cubes beside the project: the one on another pixel scale is noticed, the others are read as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from infra.settings import Settings
from tasks.ingest.ingest import ingest
from tasks.stamps.dataset import StampDataset
from tests.doubles.ingest_stage import pixels_by_id, stage_context


@pytest.fixture
def folder() -> Path:
    found = Settings.from_environment().sky / "legacy_fits"
    if not found.is_dir():
        pytest.skip(f"there are no real images at {found}; set GALAXY_SKY")
    return found


def definition(folder: Path, size: int) -> dict[str, Any]:
    return {
        "units": "nanomaggy",
        "bands": ["g", "r", "z"],
        "stamp_size": size,
        "sources": [
            {
                "kind": "images",
                "name": "cubes",
                "folder": str(folder),
                "catalogue": str(folder / "index.csv"),
                "columns": {"object_id": "file", "file": "file", "ra": "ra", "dec": "dec"},
                "survey_bands": "grz",
                "pixel_scale": 0.262,
            }
        ],
    }


def test_a_cube_on_another_pixel_scale_is_refused_and_the_others_are_valid(folder: Path, tmp_path: Path) -> None:
    result = ingest(stage_context(tmp_path, definition(folder, 152)))
    assert (result["objects"], result["accepted"]) == (4, 3)
    assert result["refused"] == {"pixel scale does not fit": 1}
    refused = pd.read_parquet(result["quarantine"]).iloc[0]
    assert refused["object_id"] == "cubes/decals_example_e"
    assert "0.1414" in refused["detail"] and "0.262" in refused["detail"]
    dataset = StampDataset.open(result["dataset"])
    index = pd.read_csv(folder / "index.csv").set_index("file")
    valid = dataset.catalog[dataset.catalog["state"] == "valid"]
    sides = index.loc[valid["file"], "shape"].str.rpartition("x")[2].astype(int)
    assert np.allclose(valid["pixel_scale"], 0.262 * sides / 152, rtol=1e-3)
    for name, stamp in pixels_by_id(dataset).items():
        with fits.open(folder / f"{name.removeprefix('cubes/')}.fits.gz") as file:
            cube = np.asarray(next(unit.data for unit in file if unit.data is not None), np.float64)
        assert stamp.astype(np.float64).sum(axis=(1, 2)) == pytest.approx(cube.sum(axis=(1, 2)), rel=0.02, abs=0.5)


def test_a_cube_of_the_stamps_size_is_stored_as_it_is(folder: Path, tmp_path: Path) -> None:
    dataset = StampDataset.open(ingest(stage_context(tmp_path, definition(folder, 162)))["dataset"])
    stamp = pixels_by_id(dataset)["cubes/gzb_example_b"]
    with fits.open(folder / "gzb_example_b.fits.gz") as file:
        cube = next(unit.data for unit in file if unit.data is not None)
    assert np.array_equal(stamp, cube.astype(np.float16))
