"""Runs cutana on one job, in cutana's own environment: `python cutana_run.py JOB.json` prints one JSON line.

A job names tiles (band to FITS file), a CSV of objects (id, ra, dec, tile), the side of a stamp, workers, and a folder
to write to. Pixels are left alone: no resizing, no stretch, one channel for each band, float32, Zarr.
"""

from __future__ import annotations

import datetime
import json
import logging
import re
import shutil
import sys
import time
from pathlib import Path

import cutana
import pandas as pd
import zarr
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
    orchestrator = cutana.StreamingOrchestrator(settings(job, catalogue, out, count))
    began = time.time()
    try:
        orchestrator.init_streaming(
            batch_size=500, write_to_disk=True, max_workers=job["workers"], min_workers=job["workers"]
        )
        for _ in range(orchestrator.get_batch_count()):
            orchestrator.next_batch()
        ended = time.time()
    finally:
        orchestrator.cleanup()
    stores = sorted(out.glob("batch_*/images.zarr"))
    cutouts = sum(zarr.open_group(store, mode="r")["images"].shape[0] for store in stores)
    ready = first_ready(out)
    print(json.dumps({"cutouts": cutouts, "seconds": ended - max(began, ready), "start": max(0.0, ready - began)}))


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


def settings(job: dict, catalogue: Path, out: Path, count: int) -> object:
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
