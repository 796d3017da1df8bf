"""Simulated galaxies with their truth: drawn once, and kept beside the measurements."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import galaxy_models.simulation
from galaxy_models.degradation import FWHM_PER_SIGMA, SEEING, SURVEY_PIXEL_SCALE
from galaxy_models.simulation.scene import SimulatedObject, draw_object, draw_stamp

BANDS = ("g", "r", "z")
SEED = 31337
"""Of all simulated evidence; no survey definition has it. Parts and splits are ranges of objects."""

CHUNK = 16
"""Galaxies that a process draws at once, where several have a core to themselves."""

Arrays = dict[str, NDArray[Any]]


def simulated_object(index: int) -> SimulatedObject:
    """A galaxy that neither lenses nor merges, so that every parameter of it has a truth."""
    return draw_object(SEED, index, bands=BANDS, pixel_scale=SURVEY_PIXEL_SCALE, lens_rate=0.0, merger_rate=0.0)


def sharp_stamp(index: int, size: int) -> Arrays:
    """`flux` (3, size, size) nanomaggies, without noise and under the survey's best seeing; neighbours are there."""
    seen = simulated_object(index)
    best = tuple(SEEING[band].low * FWHM_PER_SIGMA * SURVEY_PIXEL_SCALE for band in BANDS)
    seen = replace(seen, conditions=replace(seen.conditions, psf_fwhm=best))
    return {"flux": draw_stamp(seen, size, noise=False).flux}


def observed_stamp(index: int, size: int) -> Arrays:
    """`flux` as the survey would see it, and the truth.

    `psf_fwhm` (3,) arcsec, `noise` (3,) nanomaggies, `mag_r`, `half_light_radius` (arcsec), `axis_ratio`,
    `sersic_index`, `signal_to_noise`.
    """
    seen = simulated_object(index)
    galaxy = seen.galaxy
    truth = {
        "psf_fwhm": seen.conditions.psf_fwhm,
        "noise": seen.conditions.noise,
        "mag_r": galaxy.magnitude("r"),
        "half_light_radius": galaxy.half_light_radius,
        "axis_ratio": galaxy.axis_ratio,
        "sersic_index": galaxy.sersic_index,
        "signal_to_noise": seen.signal_to_noise,
    }
    flux = draw_stamp(seen, size).flux
    return {"flux": flux, **{name: np.asarray(value, dtype=np.float32) for name, value in truth.items()}}


def drawn(folder: Path, draw: Callable[[int, int], Arrays], first: int, count: int, size: int) -> Arrays:
    """Objects `first` to `first + count`, from the file that an earlier call left or drawn now.

    Returns
    -------
    dict
        The arrays that `draw` gives for one object, each with a first axis of `count`.
    """
    path = folder / f"{draw.__name__}-{first}-{count}-{size}px-{simulator_digest()}.npz"
    if not path.exists():
        idle = (os.cpu_count() or 1) - round(os.getloadavg()[0])
        if idle > 1 and count > 8 * CHUNK:
            with ProcessPoolExecutor(idle, mp_context=get_context("forkserver")) as pool:
                each = list(pool.map(draw, range(first, first + count), [size] * count, chunksize=CHUNK))
        else:
            each = [draw(index, size) for index in range(first, first + count)]
        unfinished = path.with_suffix(".part.npz")
        np.savez(unfinished, **{name: np.stack([one[name] for one in each]) for name in each[0]})  # type: ignore[arg-type]
        unfinished.replace(path)
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def simulator_digest() -> str:
    """Digest of the simulator's sources: galaxies of another one are others."""
    digest = hashlib.sha256()
    for path in sorted(Path(galaxy_models.simulation.__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
