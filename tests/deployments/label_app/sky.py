"""A home folder with a small published catalogue: round and edge-on galaxies whose embeddings tell them apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from infra.settings import Settings
from tasks.infer.publish import publish as publish_catalogue
from tasks.preprocess.prepared import write_prepared
from tasks.stamps.dataset import StampDataset, publish
from tasks.stamps.layout import StampLayout
from tasks.stamps.part import QUARANTINE_COLUMNS, Part
from tasks.stamps.row_groups import one_piece
from tasks.stamps.sky_order import sort_by_sky
from tasks.stamps.stamp import Refusal, Stamp

COUNT, SIDE, NUMBERS, ALIGNED = 240, 48, 12, 8
"""Galaxies, pixels of a stamp's side, and numbers of an embedding and an aligned one."""

CATALOGUE = "infer-0123456789ab"
FAILED, FLAGGED = "galaxy-007", "galaxy-013"
NOTHING = pd.DataFrame(columns=list(QUARANTINE_COLUMNS))


def is_edge_on(object_id: str) -> bool:
    """Every fifth galaxy is seen from its edge."""
    return int(object_id.removeprefix("galaxy-")) % 5 == 0


def make_home(home: Path, count: int = COUNT, side: int = SIDE, numbers: int = NUMBERS) -> Settings:
    """Stamps, prepared dataset and catalogue, where the stages would have put them."""
    settings = Settings(home=home, sky=home, mlflow_uri="sqlite:///none")
    dataset = _stamps(home / "stages/tiny/ingest-0123456789ab/dataset", count, side)
    catalog = dataset.catalog
    usable = (catalog["state"] == "valid") & (catalog["object_id"] != FLAGGED)
    groups = np.arange(len(catalog))
    twins = catalog.index[catalog["object_id"].isin(["galaxy-001", "galaxy-002"])]
    groups[twins] = twins.min()
    own = pd.DataFrame(
        {
            "object_id": catalog["object_id"],
            "split": "train",
            "usable": usable,
            "duplicate_group": groups,
            "flag_star": catalog["object_id"] == FLAGGED,
        }
    )
    stage = home / "stages/tiny/preprocess-0123456789ab"
    prepared = write_prepared(stage / "prepared", dataset, own, {})
    (stage / "result.json").write_text(json.dumps({"prepared": prepared.root, "digest": prepared.digest}))
    _catalogue(settings, dataset, usable.to_numpy(bool), numbers)
    return settings


def _stamps(root: Path, count: int, side: int) -> StampDataset:
    generator = np.random.default_rng(3)
    names = [f"galaxy-{number:03d}" for number in range(count)]
    dec = np.degrees(np.arcsin(generator.uniform(-0.5, 0.5, count)))
    rows = pd.DataFrame({"object_id": names, "ra": generator.uniform(0, 360, count), "dec": dec})
    rows.loc[rows["object_id"] == "galaxy-004", ["ra", "dec"]] = np.nan
    plan = sort_by_sky(rows).assign(source="sky", survey="tiny", bands="gri", field=None)
    layout = StampLayout(count, ("R", "G", "B"), side, "rgb", 64, 16)

    def read(some: pd.DataFrame) -> list[Stamp | Refusal]:
        return [
            Refusal("broken") if name == FAILED else Stamp(draw(name, side), {"pixel_scale": 0.262})
            for name in some["object_id"]
        ]

    part = Part.create(root / "parts/0000", layout, one_piece(plan), NOTHING, {"input": count, "refused": 0}, {}, "id")
    for shard in part.pending():
        part.load([shard], read)
    part.finalise(lambda merged: (merged, NOTHING))
    publish(root, ["parts/0000"])
    return StampDataset.open(root)


def draw(object_id: str, side: int = SIDE) -> np.ndarray:
    """(3, side, side) uint8: an exponential disk, thin or round, at an angle of its own."""
    number = int(object_id.removeprefix("galaxy-"))
    generator = np.random.default_rng(number)
    angle, ratio = generator.uniform(0, np.pi), (0.15 if is_edge_on(object_id) else generator.uniform(0.7, 1))
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    light = np.exp(-np.hypot(along * ratio**0.5, across / ratio**0.5) / 5)
    noise = generator.normal(0.05, 0.02, (3, side, side))
    colour = np.array([1.0, 0.85, generator.uniform(0.5, 0.9)])[:, None, None]
    return np.rint(np.clip(light * colour + noise, 0, 1) * 255).astype(np.uint8)


def _catalogue(settings: Settings, dataset: StampDataset, usable: np.ndarray, numbers: int) -> None:
    """Embeddings, whose first four numbers say how thin a galaxy is; aligned ones are near one of two unit vectors."""
    catalog, generator = dataset.catalog, np.random.default_rng(4)
    vectors = generator.normal(0, 1, (len(catalog), numbers)).astype(np.float16)
    vectors[:, :4] += 4 * catalog["object_id"].map(is_edge_on).to_numpy()[:, None]
    vectors[(catalog["state"] != "valid").to_numpy()] = np.nan
    aligned = generator.normal(0, 0.1, (len(catalog), ALIGNED)).astype(np.float32)
    aligned[np.arange(len(catalog)), 1 - catalog["object_id"].map(is_edge_on).astype(int)] += 1
    aligned /= np.linalg.norm(aligned, axis=1, keepdims=True)
    aligned[~np.isfinite(vectors[:, 0])] = np.nan
    table = pa.table(
        {
            "row": np.arange(len(catalog)),
            **{name: pa.array(catalog[name]) for name in ("object_id", "ra", "dec", "state")},
            "usable": usable,
            "measured_axis_ratio": catalog["object_id"].map(is_edge_on).map({True: 0.15, False: 0.85}).to_numpy(),
            "p_edge_on": catalog["object_id"].map(is_edge_on).astype(np.float32).to_numpy(),
            "refused": pa.array(catalog["state"].where(catalog["state"] != "valid", None), pa.string()),
            "embedding": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), vectors.shape[1]),
            "align_embedding": pa.FixedSizeListArray.from_arrays(pa.array(aligned.ravel(), pa.float16()), ALIGNED),
        }
    )
    models = {"galaxy-lvm": "3", "galaxy-align": "2"}
    origin = {"digest": "c" * 64, "dataset_digest": dataset.digest, "survey": "tiny", "models": models}
    pieces = [table.slice(start, 100) for start in range(0, len(table), 100)]
    publish_catalogue(settings.catalogues / "tiny" / CATALOGUE, pieces, catalog["object_id"].to_numpy(object), origin)
