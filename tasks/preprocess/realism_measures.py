"""What simulated and real pictures are compared by: the same numbers, measured by the same code on both."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pandas as pd
import torch

from galaxy_models.photometry import VIEWER_Q, VIEWER_SCALES, VIEWER_SOFTENING, viewer_rgb

BANDS = ("g", "r", "z")
ZOO_SCALES = {"g": 0.008, "r": 0.014, "z": 0.019}
ZOO_RANGE = (-0.5, 300.0)
"""Galaxy Zoo DECaLS pictures: each channel is asinh(flux / scale), from asinh(-0.5) at black to asinh(300) at white."""

GALAXY_MEASURES = (
    "g_r",
    "r_z",
    "colour_gradient",
    "concentration",
    "asymmetry",
    "axis_ratio",
    "surface_brightness",
    "structure",
)
BACKGROUND_MEASURES = ("sky_noise", "noise_colour", "noise_correlation", "crowding")
SIZE_MEASURES = ("half_light_share", "log_signal_to_noise")


def flux_of_viewer(rgb: np.ndarray) -> np.ndarray:
    """Undo `viewer_rgb`: (N, 3, H, W) pictures in 0..1 to nanomaggies in g, r, z; clipped cores stay clipped."""
    stretched = rgb[:, ::-1].astype(np.float32)  # g, r, z
    mean = np.maximum(stretched.mean(axis=1, keepdims=True), 1e-4)
    intensity = np.sinh(VIEWER_Q**0.5 * mean) / VIEWER_Q
    scales = np.array([VIEWER_SCALES[band] for band in BANDS], np.float32).reshape(1, 3, 1, 1)
    flux: np.ndarray = (stretched * intensity / mean - VIEWER_SOFTENING) / scales
    return flux


def flux_of_zoo(picture: np.ndarray) -> np.ndarray:
    """Undo the stretch of Galaxy Zoo DECaLS: (N, 3, H, W) R, G, B in 0..255 to nanomaggies in g, r, z."""
    low, high = np.arcsinh(ZOO_RANGE)
    scales = np.array([ZOO_SCALES[band] for band in BANDS], np.float32).reshape(1, 3, 1, 1)
    flux: np.ndarray = scales * np.sinh(picture[:, ::-1].astype(np.float32) / 255 * (high - low) + low)
    return flux


def zoo_picture(flux: np.ndarray) -> np.ndarray:
    """(N, 3, H, W) nanomaggies in g, r, z as a Galaxy Zoo DECaLS picture, uint8."""
    low, high = np.arcsinh(ZOO_RANGE)
    scales = np.array([ZOO_SCALES[band] for band in BANDS], np.float32).reshape(1, 3, 1, 1)
    stretched = (np.arcsinh(flux / scales) - low) / (high - low)
    return np.rint(np.clip(stretched, 0, 1)[:, ::-1] * 255).astype(np.uint8)


def common_flux(flux: np.ndarray) -> np.ndarray:
    """Flux after both displays: what either clips or rounds is lost on simulated and real pictures alike."""
    rounded = flux_of_zoo(zoo_picture(flux))
    return flux_of_viewer(viewer_rgb(torch.from_numpy(rounded), BANDS).numpy())


def measure(fluxes: Sequence[np.ndarray]) -> pd.DataFrame:
    """All measures of some pictures, a row each; NaN where a galaxy is too faint or too large to be measured.

    Parameters
    ----------
    fluxes
        (3, H, W) nanomaggies per pixel in g, r, z, the galaxy at the centre; sides may differ.
    """
    names = [*SIZE_MEASURES, *GALAXY_MEASURES, *BACKGROUND_MEASURES]
    return pd.DataFrame([_measure(flux) for flux in fluxes], columns=names)


def _measure(flux: np.ndarray) -> dict[str, float]:
    side = flux.shape[-1]
    x, y, radius, border, rings, order, bounds = _geometry(side)
    sky = np.median(flux[:, border], axis=1)
    flux = flux - sky[:, None, None]
    # Sources only add light: the scatter below the median is the noise.
    below = [values[values < 0] for values in flux[:, border]]
    noise = np.array([1.4826 * np.median(-values) if len(values) else np.nan for values in below])
    noise = np.maximum(noise, 1e-5)
    if not np.isfinite(noise).all():
        return {}
    # Medians over rings leave neighbours out.
    red = flux[1].ravel()[order]
    profile = np.array([np.median(red[a:b]) for a, b in pairwise(bounds)])
    areas = np.diff(bounds)
    faint = np.flatnonzero(profile < 0.35 * noise[1])
    end = int(faint[0]) if len(faint) else len(rings)
    growth = np.cumsum(profile[:end] * areas[:end])
    result: dict[str, float] = {
        "sky_noise": float(np.log10(noise[1])),
        "noise_colour": float(np.log10(noise[2] / noise[0])),
        "noise_correlation": _correlation(flux[1], border, noise[1]),
        "crowding": float(np.mean(flux[1][radius > 0.35 * side] > 5 * noise[1])),
    }
    if end < 4 or growth[-1] <= 0:
        return result
    r20, r50, r80 = (float(np.interp(share, growth / growth[-1], rings[:end] + 1.0)) for share in (0.2, 0.5, 0.8))
    inside = radius < 2 * r50
    weight = np.where(inside, np.maximum(flux[1], 0), 0)
    totals = np.array([band[inside].sum() for band in flux])
    inner = np.array([band[radius < r50].sum() for band in flux])
    outer = totals - inner
    pixels = np.pi * r50**2
    turned = flux[1][::-1, ::-1]
    within = radius < 1.5 * r50
    scatter = 0.7 * noise[1] * within.sum()  # the mean of |difference| / 2 that noise alone gives, nearly
    lopsided = np.abs(flux[1] - turned)[within].sum() / 2 - scatter
    moments = np.array([[np.sum(weight * x * x), np.sum(weight * x * y)], [0, np.sum(weight * y * y)]])
    moments[1, 0] = moments[0, 1]
    small, large = np.linalg.eigvalsh(moments / max(weight.sum(), 1e-9))
    smooth = np.interp(radius, rings[:end] + 0.5, profile[:end], right=0.0)
    shape_residual = np.abs(flux[1] - smooth)[within].sum() - 0.8 * noise[1] * within.sum()
    result |= {
        "half_light_share": r50 / side,
        "log_signal_to_noise": float(np.log10(max(growth[-1] / 2, 1e-6) / (noise[1] * np.sqrt(pixels)))),
        "g_r": _colour(totals[0], totals[1]),
        "r_z": _colour(totals[1], totals[2]),
        "colour_gradient": _colour(inner[0], inner[1]) - _colour(outer[0], outer[1]),
        "concentration": float(5 * np.log10(r80 / r20)),
        "asymmetry": float(lopsided / max(flux[1][within].sum(), 1e-9)),
        "axis_ratio": float(np.sqrt(max(small, 0) / max(large, 1e-9))),
        "surface_brightness": float(-2.5 * np.log10(max(growth[-1] / 2 / pixels, 1e-6))),
        "structure": float(shape_residual / max(flux[1][within].sum(), 1e-9)),
    }
    return result


@lru_cache(maxsize=4)
def _geometry(side: int) -> tuple[np.ndarray, ...]:
    """Offsets from the centre, the border that counts as sky, and the pixels sorted into rings one pixel wide."""
    y, x = (np.mgrid[:side, :side] - (side - 1) / 2).astype(np.float32)
    radius = np.hypot(x, y)
    rings = np.arange(int(0.44 * side))
    which = np.minimum(radius.astype(int), len(rings)).ravel()
    order = np.argsort(which, kind="stable")
    return x, y, radius, radius > 0.44 * side, rings, order, np.searchsorted(which[order], np.arange(len(rings) + 1))


def _colour(blue: float, red: float) -> float:
    return float(-2.5 * np.log10(blue / red)) if blue > 0 and red > 0 else float("nan")


def _correlation(band: np.ndarray, border: np.ndarray, noise: float) -> float:
    """Correlation of neighbouring pixels of the empty sky."""
    empty = border & (np.abs(band) < 3 * noise)
    both = empty[:, 1:] & empty[:, :-1]
    first, second = band[:, 1:][both], band[:, :-1][both]
    return float(np.corrcoef(first, second)[0, 1]) if len(first) > 50 and first.std() > 0 else float("nan")
