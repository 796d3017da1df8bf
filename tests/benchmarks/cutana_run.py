"""Runs cutana on one job, in cutana's own environment: `python cutana_run.py JOB.json` prints one JSON line.

A job names tiles (band to FITS file), a CSV of objects (id, ra, dec, tile), the side of a stamp, workers, and a folder
to write to. Pixels are left alone: no resizing, no stretch, one channel for each band, float32, Zarr.
"""

from __future__ import annotations

import datetime
import json
import logging
import multiprocessing
import re
import shutil
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import cutana
import numpy as np
import pandas as pd
import zarr
from cutana.cutout_writer_zarr import append_to_zarr_archive, create_process_zarr_archive_initial
from loguru import logger

READY = re.compile(r"^(\S+ \S+) \| .*Cutout process started with")
"""A line of cutana's log: one of its processes has imported everything."""


def main(job_file: Path) -> None:
    """Run it."""
    logging.disable(logging.WARNING)
    logger.remove()
    job = json.loads(job_file.read_text())
    out = Path(job["out"])
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    catalogue, count = write_catalogue(job, out)
    config = settings(job, catalogue, out, count)
    began = time.time()
    if job["way"] == "functions":
        functions(config, catalogue, job["workers"])
    else:
        streaming(config, job["workers"])
    ended = time.time()
    stores = sorted(out.glob("batch_*/images.zarr"))
    cutouts = sum(zarr.open_group(store, mode="r")["images"].shape[0] for store in stores)
    ready = first_ready(out)
    print(json.dumps({"cutouts": cutouts, "seconds": ended - max(began, ready), "start": max(0.0, ready - began)}))


def streaming(config: Any, workers: int) -> None:
    """As it is shipped."""
    orchestrator = cutana.StreamingOrchestrator(config)
    try:
        orchestrator.init_streaming(batch_size=500, write_to_disk=True, max_workers=workers, min_workers=workers)
        for _ in range(orchestrator.get_batch_count()):
            orchestrator.next_batch()
    finally:
        orchestrator.cleanup()


def functions(config: Any, catalogue: Path, workers: int) -> None:
    """Its extraction and its Zarr writer, tile by tile, in processes that begin with everything imported."""
    config.do_only_cutout_extraction = True
    tiles = [rows for _, rows in pd.read_parquet(catalogue).groupby("fits_file_paths", sort=False)]
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        pool.map(partial(one_tile, config=config), list(enumerate(tiles)), chunksize=1)


def one_tile(item: tuple[int, pd.DataFrame], config: Any) -> None:
    """The stamps of one tile into a Zarr store of their own."""
    number, rows = item
    store = str(Path(config.output_dir) / f"batch_{number:06d}" / "images.zarr")
    first = True
    for result in cutana.create_cutouts_direct(rows, config, max_workers=1):
        write = create_process_zarr_archive_initial if first else append_to_zarr_archive
        stamps = np.stack(result["cutouts"]).astype(np.float32, copy=False)
        if write({"cutouts": stamps, "metadata": result["metadata"]}, store, config) is None:
            raise RuntimeError(f"cutana wrote nothing to {store}")
        first = False


def write_catalogue(job: dict, out: Path) -> tuple[Path, int]:
    """cutana's catalogue; it finds a file's band by a token in its name, so that files are linked under such names."""
    links = out / "tiles"
    links.mkdir()
    names = []
    for number, files in enumerate(job["tiles"]):
        tile = []
        for band, source in files.items():
            link = links / f"t{number:06d}_{band}{''.join(Path(source).suffixes[-2:])}"
            link.symlink_to(source)
            tile.append(str(link))
        names.append(repr(tile))
    objects = pd.read_csv(job["objects"])
    table = pd.DataFrame(
        {
            "SourceID": objects["id"].astype(str), "RA": objects["ra"], "Dec": objects["dec"],
            "diameter_pixel": job["size"], "fits_file_paths": [names[tile] for tile in objects["tile"]],
        }
    )  # fmt: skip
    table.to_parquet(out / "catalogue.parquet", index=False)
    return out / "catalogue.parquet", len(table)


def settings(job: dict, catalogue: Path, out: Path, count: int) -> Any:
    """What leaves pixels alone, and does as little else as cutana allows."""
    bands = list(job["tiles"][0])
    config = cutana.get_default_config()
    config.source_catalogue, config.output_dir = str(catalogue), str(out)
    config.output_format, config.data_type = "zarr", "float32"
    config.target_resolution, config.padding_factor, config.interpolation = job["size"], 1.0, "nearest"
    config.normalisation_method = "none"
    config.apply_flux_conversion = config.flux_conserved_resizing = False
    config.fits_extensions, config.selected_extensions = ["COMPRESSED_IMAGE"], ["PRIMARY"]
    config.channel_weights = {band: [float(band == other) for other in bands] for band in bands}
    config.skip_catalogue_validation = config.skip_fits_check = True
    config.max_workers, config.process_threads = job["workers"], 1
    config.N_batch_cutout_process = 250
    config.log_level, config.console_log_level = "INFO", "ERROR"
    config.loadbalancer.initial_workers = job["workers"]
    config.loadbalancer.skip_memory_calibration_wait = True
    config.loadbalancer.max_sources_per_process = max(500, -(-count // job["workers"]))
    return config


def first_ready(out: Path) -> float:
    """When its first process was ready, by its own log; 0 if it does not say."""
    times = []
    for path in (out / "logs").glob("*.log"):
        for line in path.read_text(errors="replace").splitlines():
            if found := READY.match(line):
                times.append(datetime.datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S.%f").timestamp())
    return min(times, default=0.0)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
