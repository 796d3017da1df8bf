"""Cutouts a second from full-size bricks: ours against cutana, and against reading and writing those bytes alone.

The same tiles (compressed as the survey compresses them), the same stamps and the same number of processes, each side
from the moment its workers are ready until all stamps are in Zarr. cutana runs in an environment of its own: in its
streaming orchestrator, as it is shipped, and as its functions for extraction and for Zarr put together by us, without
the steps between, which is the fastest that its code can do. Its stamps are float32, ours float16. The limit is NumPy
and astropy alone: decode every image, write as many bytes of stamps.
"""

from __future__ import annotations

import importlib
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits

from infra.cluster import Workers, open_client
from infra.profile import ClusterSettings, IngestSettings, Profile
from infra.remote import join
from infra.settings import Settings
from tasks.ingest import ingest
from tasks.ingest.catalogue import complete_catalogue
from tasks.ingest.survey import SurveyDefinition
from tasks.stage import StageContext
from tasks.stamps.part import Part
from tests.benchmarks.result import report
from tests.doubles.brick_files import BrickTree
from tests.doubles.brick_tree import make_benchmark_bricks

COLUMNS, ROWS, SIZE, WORKERS = 6, 4, 152, 2
STAMPS_PER_BRICK = 230
"""As many as galaxies of Stein et al.'s list (76 million) are on one of the survey's 331,958 bricks."""

BANDS = ("g", "r", "z")
ROUNDS = 3
CUTANA = "cutana==0.4.0"
ENVIRONMENT = Path(__file__).parents[2] / ".venv/cutana"


def main() -> None:
    """All three in turns, so that a busy machine slows all."""
    python = cutana_python()
    with tempfile.TemporaryDirectory() as folder, worker_processes() as (workers, pool):
        root = Path(folder)
        tree = make_benchmark_bricks(root / "bricks", COLUMNS, ROWS)
        objects = choose(tree)
        objects.to_parquet(root / "objects.parquet")
        seconds: dict[str, list[float]] = {"ours": [], "cutana": [], "cutana_functions": [], "limit": []}
        for turn in range(ROUNDS):
            seconds["ours"].append(ours(root, workers, turn))
            seconds["cutana"].append(cutana(python, root, tree, objects, "streaming"))
            seconds["cutana_functions"].append(cutana(python, root, tree, objects, "functions"))
            seconds["limit"].append(limit(root, tree, pool))
    rates = {name: [len(objects) / second for second in found] for name, found in seconds.items()}
    print({name: [round(rate) for rate in found] for name, found in rates.items()}, file=sys.stderr)
    report("cutouts_per_second", statistics.median(rates["ours"]), "1/s", "reported, 2 processes", True)
    functions = statistics.median(a / b for a, b in zip(rates["ours"], rates["cutana_functions"], strict=True))
    report("cutouts_vs_cutana_functions", functions, "ratio", "reported", True)
    for name, goal in (("cutana", 1.5), ("limit", 0.5)):
        ratio = statistics.median(a / b for a, b in zip(rates["ours"], rates[name], strict=True))
        report(f"cutouts_vs_{name}", ratio, "ratio", f">= {goal}", ratio >= goal)


def choose(tree: BrickTree) -> pd.DataFrame:
    """Objects of each brick whose stamps lie on it."""
    generator = np.random.default_rng(1)
    chosen = []
    for brick in tree.bricks["brickname"]:
        here = tree.objects[tree.objects["brickname"] == brick]
        inside = here["ra"].between(here["ra1"].iloc[0], here["ra2"].iloc[0]) if "ra1" in here else here["ra"] > -1
        chosen.append(here[inside].iloc[generator.permutation(int(inside.sum()))[: 2 * STAMPS_PER_BRICK]])
    table = pd.concat(chosen, ignore_index=True)
    centres = tree.bricks.set_index("brickname").loc[table["brickname"]]
    margin = 0.25 / 2 - SIZE * 0.262 / 3600 / 2
    middle = (np.abs(table["dec"].to_numpy() - centres["dec"].to_numpy()) < margin) & (
        np.abs(table["ra"].to_numpy() - centres["ra"].to_numpy()) * np.cos(np.radians(table["dec"])) < margin
    )
    return table[middle].groupby("brickname").head(STAMPS_PER_BRICK).reset_index(drop=True)


def ours(root: Path, workers: Workers, turn: int) -> float:
    """Seconds of the ingest after its plan, catalogue and proof included."""
    definition = SurveyDefinition.model_validate(
        {
            "name": "bench", "units": "nanomaggy", "bands": list(BANDS), "stamp_size": SIZE,
            "sources": [
                {
                    "kind": "bricks", "name": "sky", "root": str(root / "bricks"),
                    "catalogue": str(root / "objects.parquet"),
                }
            ],
        }
    )  # fmt: skip
    context = StageContext(
        survey=definition,
        profile=Profile(
            name="bench",
            cluster=ClusterSettings(workers=WORKERS),
            ingest=IngestSettings(shard_stamps=256, chunk_stamps=16),
        ),
        settings=Settings(home=root, sky=root, mlflow_uri="unused"),
        folder=root / f"ours{turn}",
        upstream={},
        progress=lambda *_: None,
        record=lambda *_: None,
    )
    store = context.store("dataset")
    ingest._open_version(context, store)
    part = Part.open(join(store, ingest.OWN_PART))
    work = partial(ingest.load_run, root=part.storage.location, definition=definition, settings=context.settings)
    started = time.monotonic()
    list(workers.map(work, ingest._runs(context, part, part.pending())))
    proof = part.finalise(partial(complete_catalogue, definition=definition))
    seconds = time.monotonic() - started
    assert proof["states"]["valid"] == part.layout.rows
    shutil.rmtree(context.folder)
    return seconds


def cutana(python: Path, root: Path, tree: BrickTree, objects: pd.DataFrame, way: str) -> float:
    """Seconds of cutana, one way or the other, from its first worker's readiness on."""
    names = tree.bricks["brickname"].tolist()
    tiles = [{band: str(tree.image(name, "image", band)) for band in BANDS} for name in names]
    table = pd.DataFrame(
        {
            "id": [f"{brick}-{number}" for brick, number in zip(objects["brickname"], objects["objid"], strict=True)],
            "ra": objects["ra"], "dec": objects["dec"], "tile": [names.index(name) for name in objects["brickname"]],
        }
    )  # fmt: skip
    table.to_csv(root / "cutana.csv", index=False)
    job = {
        "tiles": tiles,
        "objects": str(root / "cutana.csv"),
        "size": SIZE,
        "workers": WORKERS,
        "way": way,
        "out": str(root / "cutana"),
    }
    (root / "job.json").write_text(json.dumps(job))
    script = Path(__file__).with_name("cutana_run.py")
    done = subprocess.run([python, script, root / "job.json"], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"cutana failed: {done.stderr[-2000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["cutouts"] == len(objects), told
    return float(told["seconds"])


def limit(root: Path, tree: BrickTree, pool: ProcessPoolExecutor) -> float:
    """Seconds of decoding every image and writing as many bytes as the stamps have, by as many processes."""
    names = tree.bricks["brickname"]
    work = [([tree.image(name, "image", band) for band in BANDS], root / f"limit-{name}") for name in names]
    started = time.monotonic()
    list(pool.map(decode_and_write, work))
    seconds = time.monotonic() - started
    for _, path in work:
        path.unlink()
    return seconds


def decode_and_write(job: tuple[list[Path], Path]) -> None:
    """One tile."""
    images, out = job
    for path in images:
        with fits.open(path) as file:
            assert file[1].data.shape == (3600, 3600)
    np.zeros((STAMPS_PER_BRICK, len(BANDS), SIZE, SIZE), np.float16).tofile(out)


@contextmanager
def worker_processes() -> Iterator[tuple[Workers, ProcessPoolExecutor]]:
    """Our workers, as a profile starts them, and the limit's processes, all with what they import in memory."""
    with open_client(ClusterSettings(kind="local", workers=WORKERS)) as workers, ProcessPoolExecutor(WORKERS) as pool:
        list(workers.map(import_all, range(4 * WORKERS)))
        list(pool.map(abs, range(2 * WORKERS)))
        yield workers, pool


def import_all(_: int) -> None:
    """What a worker needs."""
    importlib.import_module("tasks.ingest.bricks")
    time.sleep(0.5)


def cutana_python() -> Path:
    """Python of an environment that has cutana alone, made if there is none."""
    python = ENVIRONMENT / "bin/python"
    if not python.exists():
        uv = Path(sys.executable).with_name("uv")
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, ENVIRONMENT], check=True)
        subprocess.run([uv, "pip", "install", "--quiet", "--compile-bytecode", "--python", python, CUTANA], check=True)
    return python


if __name__ == "__main__":
    main()
