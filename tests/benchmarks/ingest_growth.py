"""Peak memory and time of a whole ingest at ten times the objects: memory stays, time grows in proportion.

Tiles grow in number with the objects, as a survey does. Each run is a process of its own, without workers, so that
its peak is all there is.
"""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits

from tests.benchmarks.result import report

SMALL, LARGE = 10_000, 100_000
OBJECTS_PER_TILE, SIDE, SIZE = 100, 400, 152
BANDS = ("g", "r", "z")
PIXEL = 0.262 / 3600


def main() -> None:
    """The small one before and after the large one, so that a machine that slows down shows."""
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        make_tiles(root, LARGE // OBJECTS_PER_TILE)
        small_first, large, small_last = [run(root, count) for count in (SMALL, LARGE, SMALL)]
    memory = large["peak"] / max(small_first["peak"], small_last["peak"])
    growth = large["seconds"] / np.mean([small_first["seconds"], small_last["seconds"]])
    told = {"small": [small_first, small_last], "large": large}
    print(json.dumps(told), file=sys.stderr)
    report("ingest_memory_growth", memory - 1, "share of the peak at 10,000 stamps", "<= 0.1", memory <= 1.1)
    report("ingest_time_growth", float(growth), "times", "<= 10.5", bool(growth <= 10.5))


def make_tiles(root: Path, count: int) -> None:
    """Tiles of noise in a row along the equator, a hundred objects on each, and their tables."""
    generator = np.random.default_rng(0)
    tiles, objects = [], []
    step = SIDE * PIXEL
    for number in range(count):
        name, ra = f"{number:06d}", 10 + number * step
        tiles.append((name, ra, 0.0))
        for band in BANDS:
            keys = {
                "CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": ra, "CRVAL2": 0.0, "CRPIX1": (SIDE + 1) / 2,
                "CRPIX2": (SIDE + 1) / 2, "CD1_1": -PIXEL, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": PIXEL,
            }  # fmt: skip
            pixels = generator.normal(0, 0.01, (SIDE, SIDE)).astype(np.float32)
            fits.PrimaryHDU(pixels, fits.Header(keys)).writeto(root / f"{name}-{band}.fits")
        offsets = generator.uniform(-0.5, 0.5, (OBJECTS_PER_TILE, 2)) * (SIDE - SIZE) * PIXEL
        objects.append(pd.DataFrame({"tile": number, "ra": ra + offsets[:, 0], "dec": offsets[:, 1]}))
    pd.DataFrame(tiles, columns=["brickname", "ra", "dec"]).to_parquet(root / "tiles.parquet")
    table = pd.concat(objects, ignore_index=True)
    table.assign(id=np.arange(len(table))).to_parquet(root / "objects.parquet")


def run(root: Path, count: int) -> dict[str, float]:
    """Ingest the first `count` objects in a new process."""
    pd.read_parquet(root / "objects.parquet").head(count).to_parquet(root / "some.parquet")
    done = subprocess.run(
        [sys.executable, "-m", "tests.benchmarks.ingest_growth", str(root)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    shutil.rmtree(root / "run", ignore_errors=True)
    if done.returncode:
        sys.exit(f"the ingest failed: {done.stderr[-2000:]}")
    return dict(json.loads(done.stdout.splitlines()[-1]))


def ingest_once(root: Path, folder: Path) -> dict[str, float]:
    """Seconds and peak bytes of this process."""
    from infra.profile import ClusterSettings, IngestSettings, Profile
    from infra.settings import Settings
    from tasks.ingest.ingest import ingest
    from tasks.ingest.survey import SurveyDefinition
    from tasks.stage import StageContext

    source = {
        "kind": "bricks", "name": "sky", "root": str(root), "tiles": "tiles.parquet", "tile_side": SIDE,
        "catalogue": str(root / "some.parquet"), "columns": {"object_id": "id", "ra": "ra", "dec": "dec"},
        "image": "{tile}-{band}.fits",
    }  # fmt: skip
    context = StageContext(
        survey=SurveyDefinition.model_validate(
            {"name": "growth", "units": "nanomaggy", "bands": list(BANDS), "stamp_size": SIZE, "sources": [source]}
        ),
        profile=Profile(
            name="growth",
            cluster=ClusterSettings(kind="inline"),
            ingest=IngestSettings(shard_stamps=512, chunk_stamps=16),
        ),
        settings=Settings(home=root, sky=root, mlflow_uri="unused"),
        folder=folder,
        upstream={},
        progress=lambda *_: None,
        record=lambda *_: None,
    )
    started = time.monotonic()
    result = ingest(context)
    assert not result["refused"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"seconds": time.monotonic() - started, "peak": peak, "stamps": result["accepted"]}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        place = Path(sys.argv[1])
        print(json.dumps(ingest_once(place, place / "run/ingest")))
    else:
        main()
