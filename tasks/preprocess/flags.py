"""Quality flags: what makes a stamp no picture of a galaxy.

Every limit is a ratio, a share of the stamp or a number of sigmas, so that it means the same for pictures of
other surveys, sizes and pixel scales. They were set by looking at sheets of SDSS, DECaLS and CFHTLS pictures.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from tasks.ingest.survey import Quality
from tasks.preprocess.sources import smoothing_pixels

GAUSSIAN_HALF_WIDTH = 1.1774
"""Radius at half the peak of a Gaussian of unit sigma."""

FLAGS = ("blank", "masked", "faint", "star", "trail", "saturated", "crowded", "off_centre")

MEASURES_OF_FLAG = {
    "blank": ("coverage", "peak"),
    "masked": ("mask_fraction",),
    "faint": ("snr",),
    "star": ("falloff", "half_peak_radius"),
    "trail": ("trail",),
    "saturated": ("saturation", "sky"),
    "crowded": ("bright_area", "area"),
    "off_centre": ("offset", "outshone"),
}
"""Measures that each flag comes from, the first before all; `sky` is that of the brightest band."""

LEAST_COVERAGE = 0.75
"""`blank`: less of the stamp than this has data."""

MOST_MASKED = 0.25
"""`masked`: the survey's mask marks more of the stamp than this as defects, such as the glare of a bright star. A
saturated star beside the galaxy is a few hundredths."""

LEAST_PEAK = 8.0
"""`blank`: no source in the centre with such a peak, in sigmas, and none as bright elsewhere."""

STAR_FALLOFF = 1.85
"""`star`: the profile falls as steeply as a point source's (see `measure_profile`): theirs is 1.65 for a Gaussian and
1.84 for a Moffat profile with beta 3; in pictures most lie between 1.5 and 1.8, and galaxies begin above."""

STAR_ELONGATION = 1.5
"""`star`: and is not longer than that; two blended stars pass, an edge-on galaxy does not."""

STAR_SIZE = 0.05
"""`star`: and is narrower at half its peak than this share of the stamp's side; a wider one is a flat galaxy."""

STAR_WIDTH, STAR_WIDTH_FALLOFF = 1.15, 2.0
"""`star`: where the PSF is known its width decides: so many times the PSF's, smoothed alike, and no long wings."""

BRIGHT_STAR_FALLOFF, BRIGHT_STAR_ELONGATION, BRIGHT_STAR_SIZE = 1.72, 1.3, 0.10
"""`star` too: in pictures the stretch makes bright stars wide; such a one is steeper and rounder than flat galaxies."""

TRAIL_EXCESS = 6.0
"""`trail`: a line across the stamp stands out by so many sigmas all along (see `measure_trails`)."""

MOST_SATURATION = 0.10
"""`saturated`: more of the stamp than this is at the ceiling. A bright nucleus is far less."""

FLOODED_SKY, FLOODED_COLOUR, FLOODED_ANYWAY = 50.0, 0.3, 100.0
"""`saturated`: the sky of a picture is flooded with a bright star's light: brighter than 50 of 255 and coloured (bands
differ by more than 0.3 of the brightest; a large elliptical that fills the frame is grey), or brighter than 100."""

CROWDED_AREA, CROWDED_RATIO = 0.10, 1.5
"""`crowded`: other bright sources cover more than a tenth of the stamp, and 1.5 times what the central one does."""

OFF_CENTRE, OUTSHONE = 0.12, 2.0
"""`off_centre`: what lies in the centre is the outskirts of something twice as bright, farther out than this share
of the side."""


def quality_flags(
    measures: pd.DataFrame,
    catalog: pd.DataFrame,
    bands: Sequence[str],
    units: str,
    stamp_size: int,
    quality: Quality,
) -> pd.DataFrame:
    """Flags of each stamp.

    Parameters
    ----------
    measures
        As from `measure_stamps`; NaN in a row means that there is no stamp, and it gets no flag.
    catalog
        Row for row with `measures`; `psf_size_<band>` (FWHM, arcsec), `pixel_scale` and `mask_fraction` are used where
        they are known.
    stamp_size
        Side of the stamps, pixels.
    quality
        `minimum_snr` is the limit of `faint`.

    Returns
    -------
    DataFrame
        Bool columns `flag_<name>` for all of `FLAGS`, whichever the definition acts on; index as `measures`.
    """
    m = measures
    flags = {
        "blank": (m["coverage"] < LEAST_COVERAGE) | ((m["peak"] < LEAST_PEAK) & (m["bright_segments"] == 0)),
        "masked": _masked(catalog),
        "faint": m["snr"] < quality.minimum_snr,
        "star": _starlike(m, catalog, bands, units, stamp_size),
        "trail": m["trail"] > TRAIL_EXCESS,
        "saturated": (m["saturation"] > MOST_SATURATION) | _flooded(m, bands, units),
        "crowded": (m["bright_area"] > CROWDED_AREA) & (m["bright_area"] > CROWDED_RATIO * m["area"]),
        "off_centre": (m["offset"] > OFF_CENTRE) & (m["outshone"] > OUTSHONE),
    }
    return pd.DataFrame({f"flag_{name}": np.asarray(flags[name], bool) for name in FLAGS}, index=measures.index)


def usable_stamps(flags: pd.DataFrame, valid: np.ndarray, quality: Quality) -> np.ndarray:
    """(N,) bool: there is a stamp and none of the flags that the definition acts on."""
    return valid & ~flags[[f"flag_{name}" for name in quality.flags]].to_numpy().any(axis=1)


def flag_limits(quality: Quality, units: str) -> dict[str, str]:
    """What raises each flag, in few words and with the numbers, in the order of `MEASURES_OF_FLAG`."""
    flooded = f", or sky > {FLOODED_SKY:g} and coloured, or > {FLOODED_ANYWAY:g}" if units == "rgb" else ""
    return {
        "blank": f"coverage < {LEAST_COVERAGE:g}, or peak < {LEAST_PEAK:g} sigma",
        "masked": f"mask fraction > {MOST_MASKED:g}",
        "faint": f"S/N < {quality.minimum_snr:g}",
        "star": f"falloff < {STAR_FALLOFF:g} and narrow; < {STAR_WIDTH_FALLOFF:g} where the PSF is known",
        "trail": f"line > {TRAIL_EXCESS:g} sigma",
        "saturated": f"ceiling > {MOST_SATURATION:g} of the pixels{flooded}",
        "crowded": f"neighbours > {CROWDED_AREA:g} of the stamp, > {CROWDED_RATIO:g} times the galaxy",
        "off_centre": f"summit > {OFF_CENTRE:g} of the side away and > {OUTSHONE:g} times as bright",
    }


def _masked(catalog: pd.DataFrame) -> np.ndarray:
    if "mask_fraction" not in catalog:
        return np.zeros(len(catalog), bool)
    return np.asarray(catalog["mask_fraction"].to_numpy(float) > MOST_MASKED)


def _starlike(
    measures: pd.DataFrame, catalog: pd.DataFrame, bands: Sequence[str], units: str, stamp_size: int
) -> np.ndarray:
    falloff, elongation = measures["falloff"].to_numpy(), measures["elongation"].to_numpy()
    radius = measures["half_peak_radius"].to_numpy()
    point_source = _point_source_radius(catalog, bands, stamp_size)
    known = np.isfinite(point_source)
    steepest = np.where(known, STAR_WIDTH_FALLOFF, STAR_FALLOFF)
    widest = np.where(known, STAR_WIDTH * point_source, STAR_SIZE * stamp_size)
    star = (falloff < steepest) & (elongation < STAR_ELONGATION) & (radius < widest)
    if units != "rgb":
        return np.asarray(star)
    bright = (falloff < BRIGHT_STAR_FALLOFF) & (elongation < BRIGHT_STAR_ELONGATION)
    return np.asarray(star | (bright & (radius < BRIGHT_STAR_SIZE * stamp_size)))


def _point_source_radius(catalog: pd.DataFrame, bands: Sequence[str], stamp_size: int) -> np.ndarray:
    """(N,) radius at half the peak of a point source in the widest band, smoothed as by `measure_profile`, pixels."""
    columns = [f"psf_size_{band}" for band in bands if f"psf_size_{band}" in catalog]
    if not columns:
        return np.full(len(catalog), np.nan)
    half_width = catalog[columns].max(axis=1).to_numpy(float) / catalog["pixel_scale"].to_numpy(float) / 2
    return np.hypot(half_width, GAUSSIAN_HALF_WIDTH * smoothing_pixels(stamp_size))


def _flooded(measures: pd.DataFrame, bands: Sequence[str], units: str) -> np.ndarray | bool:
    """Fluxes have their sky subtracted by the survey, so only pictures show a flooded one."""
    if units != "rgb":
        return False
    sky = measures[[f"sky_{band}" for band in bands]].to_numpy()
    highest, lowest = sky.max(axis=1), sky.min(axis=1)
    coloured = (highest > FLOODED_SKY) & (highest - lowest > FLOODED_COLOUR * highest)
    return np.asarray(coloured | (highest > FLOODED_ANYWAY))
