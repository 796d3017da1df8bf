"""Features that people have thought out for galaxies, as astronomers measure them: statmorph's, and the colours."""

from __future__ import annotations

import hashlib
import warnings
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from galaxy_models.morphometry import measure
from galaxy_models.outline import outlined
from tests.evidence.pretrained import network_input
from tests.evidence.stamps import Stamps
from tests.evidence.workbench import Workbench

STATMORPH = (
    "concentration", "asymmetry", "smoothness", "gini", "m20", "gini_m20_bulge", "gini_m20_merger",
    "ellipticity_asymmetry", "elongation_asymmetry", "rpetro_ellip", "rhalf_ellip", "r20", "r80",
    "intensity", "multimode", "deviation", "outer_asymmetry", "shape_asymmetry", "sersic_n", "sersic_ellip",
)  # fmt: skip
"""Attributes of statmorph's result: concentration, asymmetry, smoothness (Conselice 2003), Gini and M20 (Lotz et al.
2004), sizes, axis ratios, multimode, intensity and deviation (Freeman et al. 2013), and the Sersic fit."""

COLOURS = ("red_minus_green", "green_minus_blue")
MISSING = -9.0
"""Of what could not be measured: a value of its own, which a tree can ask for."""

BORDER, SMOOTHING, SIGMAS, FEWEST_PIXELS = 6, 1.5, 2.0, 10


def statmorph_features(bench: Workbench, stamps: Stamps, rows: NDArray[np.int64], workers: int) -> NDArray[np.float64]:
    """(n, features) of each row, by statmorph on the sum of the three channels; kept in the workbench's folder."""
    recipe = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()[:12]
    path = bench.folder / f"statmorph-{recipe}.npz"
    known: dict[str, NDArray[np.float64]] = dict(np.load(path)) if path.exists() else {}
    ids = stamps.table["object_id"].to_numpy(dtype=str)[rows]
    missing = [row for row, name in zip(rows, ids, strict=True) if name not in known]
    if missing:
        bench.say(f"measuring {len(missing)} galaxies with statmorph")
        names = stamps.table["object_id"].to_numpy(dtype=str)
        with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
            measured = pool.map(_of_one, (stamps.images[row] for row in missing), chunksize=16)
            known.update(zip(names[missing], measured, strict=True))
        np.savez(path, **known)  # type: ignore[arg-type]
    return np.stack([known[name] for name in ids])


def own_measures(stamps: Stamps, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """(n, 33) of `galaxy_models.morphometry`."""
    parts = np.array_split(rows, max(1, len(rows) // 64))
    return torch.cat([measure(outlined(network_input(stamps, part))) for part in parts]).double().numpy()


def _of_one(image: NDArray[np.uint8]) -> NDArray[np.float64]:
    """(features,) of one (3, h, h) stamp; what is not measured is MISSING."""
    from astropy.convolution import Gaussian2DKernel, convolve
    from photutils.segmentation import detect_sources
    from statmorph import SourceMorphology

    channels = image.astype(np.float64)
    edge = partial(_edge, width=BORDER)
    channels = channels - np.median(edge(channels), axis=1)[:, None, None]
    light = channels.sum(axis=0)
    scatter = 1.4826 * float(np.median(np.abs(edge(light[None])))) + 1e-3
    nothing = np.full(len(STATMORPH) + len(COLOURS), MISSING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of fits that do not converge: their values are kept or are not finite
        found = detect_sources(convolve(light, Gaussian2DKernel(SMOOTHING)), SIGMAS * scatter, FEWEST_PIXELS)
        middle = light.shape[0] // 2
        label = 0 if found is None else int(found.data[middle, middle])
        if not label:
            return nothing
        galaxy = found.data == label
        mask = (found.data > 0) & ~galaxy
        try:
            shape = SourceMorphology(
                light, galaxy.astype(int), label=1, mask=mask, weightmap=np.full(light.shape, scatter)
            )
            values = [float(getattr(shape, name)) for name in STATMORPH]
        except Exception:  # whatever statmorph meets in a picture, the galaxy stays among the rows
            values = [MISSING] * len(STATMORPH)
    flux = light[galaxy].sum()
    red, green, blue = (channel[galaxy].sum() / flux for channel in channels)
    features = np.array([*values, red - green, green - blue])
    return np.where(np.isfinite(features), features, MISSING)


def _edge(channels: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """(c, pixels) of the rows at the top and bottom."""
    return np.concatenate([channels[:, :width], channels[:, -width:]], axis=1).reshape(len(channels), -1)
