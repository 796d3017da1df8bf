"""Memory and minutes of planning ten million objects: tiles chosen, duplicates refused, sorted by sky, written."""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from astropy.table import Table

from infra.settings import Settings
from tasks.ingest.plan import make_plan
from tasks.ingest.survey import SurveyDefinition
from tasks.stamps.row_groups import write_pieces
from tasks.stamps.storage import open_storage
from tests.benchmarks.result import report

OBJECTS = 10_000_000
PIECE = 500_000
STEP = 0.25


def main() -> None:
    """Make a catalogue of random positions with every thousandth row twice, and plan it."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_tiles(root / "bricks.fits")
        make_catalogue(root / "objects.parquet")
        definition = SurveyDefinition.model_validate(
            {
                "name": "large", "units": "nanomaggy", "bands": ["g", "r", "z"], "stamp_size": 152,
                "sources": [
                    {"kind": "bricks", "name": "sky", "root": folder, "tiles": "bricks.fits",
                     "catalogue": str(root / "objects.parquet")}
                ],
            }
        )  # fmt: skip
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        started = time.monotonic()
        plan = make_plan(definition, Settings(home=root, sky=root, mlflow_uri="unused"), root / "plan")
        write_pieces(open_storage(root), "plan.parquet", plan.rows, 1024)
        minutes = (time.monotonic() - started) / 60
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        cells = pq.read_table(root / "plan.parquet", columns=["healpix"])["healpix"].to_numpy()
    assert plan.count == OBJECTS and plan.counts["refused"] == OBJECTS // 1000
    assert (np.diff(cells) >= 0).all()
    print(f"{before / 2**30:.2f} GiB before planning", file=sys.stderr)
    report("partition_10m", peak / 2**30, "GiB", "< 2", peak < 2 * 2**30)
    report("partition_10m_minutes", minutes, "min", "reported", True)


def make_tiles(path: Path) -> None:
    """Bricks of a quarter of a degree over a sixth of the sky."""
    rows = []
    for dec in np.arange(-20 + STEP / 2, 40, STEP):
        count = round(150 * np.cos(np.radians(dec)) / STEP)
        rows.append(pd.DataFrame({"ra": 100 + (np.arange(count) + 0.5) * 150 / count, "dec": dec}))
    table = pd.concat(rows, ignore_index=True)
    table["brickname"] = [f"{number:08d}" for number in range(len(table))]
    Table.from_pandas(table.assign(ebv=0.03, psfsize_r=1.2, psfdepth_r=24.0)).write(path)


def make_catalogue(path: Path) -> None:
    """Random positions, in no order of the sky."""
    generator = np.random.default_rng(0)
    writer = None
    for first in range(0, OBJECTS, PIECE):
        number = np.arange(first, first + PIECE)
        table = pa.table(
            {
                "release": np.full(PIECE, 9010, np.int16), "brickid": (number // 1000).astype(np.int32),
                "objid": (number % 1000).astype(np.int32), "ra": generator.uniform(101, 249, PIECE),
                "dec": np.degrees(np.arcsin(generator.uniform(*np.sin(np.radians([-19, 39])), PIECE))),
                "flux_r": generator.exponential(20, PIECE).astype(np.float32),
                "type": generator.choice(["EXP", "DEV"], PIECE),
            }
        )  # fmt: skip
        writer = writer or pq.ParquetWriter(path, table.schema)
        writer.write_table(table)
        writer.write_table(table.slice(0, PIECE // 1000))  # the very same rows again
    assert writer is not None
    writer.close()


if __name__ == "__main__":
    main()
