"""The few real fluxes of the Legacy Surveys that lie in `GALAXY_SKY`: patches with something bright in them."""

from __future__ import annotations

import numpy as np
import torch
from astropy.io import fits
from astropy.stats import mad_std
from torch import Tensor

from galaxy_models.degradation import SURVEY_PIXEL_SCALE
from infra.settings import Settings

BRIGHT = 30.0
"""Times the noise that a patch's brightest pixel in r has at least."""


def legacy_patches(size: int) -> dict[str, tuple[Tensor, tuple[float, float, float]]] | None:
    """By image: its bright patches (n, 3, size, size), nanomaggies in g, r, z, and the noise of a pixel in each.

    Patches do not overlap. Resampled images are left out. None where there is no such folder. Headers tell no
    PSF: what is known is the kernel that is added.
    """
    folder = Settings.from_environment().sky / "legacy_fits"
    if not folder.is_dir():
        return None
    found = {}
    for path in sorted(folder.glob("*.fits.gz")):
        with fits.open(path) as file:
            cube, header = np.asarray(file[0].data, dtype=np.float32), file[0].header
        if abs(abs(header["CD1_1"]) * 3600 - SURVEY_PIXEL_SCALE) > 0.01:
            continue
        noise = (_noise(cube[0]), _noise(cube[1]), _noise(cube[2]))
        side = min(size, *cube.shape[1:])
        patches = [
            cube[:, top : top + side, left : left + side]
            for top in range(0, cube.shape[1] - side + 1, side)
            for left in range(0, cube.shape[2] - side + 1, side)
        ]
        bright = [patch for patch in patches if patch[1].max() > BRIGHT * noise[1]]
        if bright and side == size:
            found[path.name.removesuffix(".fits.gz")] = (torch.from_numpy(np.stack(bright)), noise)
    return found


def _noise(band: np.ndarray) -> float:
    """From the differences of pixels two apart, whose noise is nearly independent; sources hardly count."""
    return float(mad_std(band[:, 2:] - band[:, :-2]) / np.sqrt(2))
