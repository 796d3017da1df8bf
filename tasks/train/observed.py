"""How each stamp of a prepared catalogue was observed: seeing, noise and reddening."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from galaxy_models.degradation import FWHM_PER_SIGMA, SURVEY_PIXEL_SCALE
from galaxy_models.reobserve import Reobservation
from galaxy_models.survey_statistics import ObservedConditions, SurveyStatistics
from tasks.preprocess.prepared import PreparedDataset
from tasks.train.common import Rows


def observed_conditions(table: pd.DataFrame, bands: Sequence[str]) -> ObservedConditions:
    """Row for row with a prepared catalogue; NaN where it tells nothing, or what it tells cannot be.

    Its columns `psf_size_<band>` (FWHM, arcsec), `noise_<band>` (as preprocess measured it, nanomaggies per pixel),
    `ebv` and `pixel_scale` are used where they are. A stamp whose noise was not measured has that of `depth_<band>`,
    the inverse variance of a point source: noise^-2 = depth 4 pi s^2 with s the PSF's sigma in pixels, so that in a
    square arcsecond the pixel's side cancels. A stamp of unknown scale counts as one of the Legacy Surveys,
    0.262 arcsec per pixel.
    """
    scale = _column(table, "pixel_scale")
    scale = np.where(np.isfinite(scale), scale, SURVEY_PIXEL_SCALE)
    seeing = np.stack([_positive(table, f"psf_size_{band}") for band in bands], axis=1)
    noise = np.stack([_positive(table, f"noise_{band}") for band in bands], axis=1) / scale[:, None]
    depth = np.stack([_positive(table, f"depth_{band}") for band in bands], axis=1)
    from_depth = (depth * 4 * np.pi) ** -0.5 / (seeing / FWHM_PER_SIGMA)
    noise = np.where(np.isfinite(noise), noise, from_depth)
    reddening = _column(table, "ebv")
    reddening = np.where(reddening >= 0, reddening, np.nan)
    return ObservedConditions(*(torch.tensor(each, dtype=torch.float32) for each in (seeing, noise, reddening, scale)))


def reobservation(prepared: PreparedDataset, train: Rows) -> Reobservation | None:
    """What observing the stamps anew needs, by row of the catalogue, with the survey as its `train` rows have it.

    None for pictures, which have no fluxes.
    """
    if prepared.dataset.units != "nanomaggy":
        return None
    bands = tuple(prepared.dataset.bands)
    wanted = ["pixel_scale", "ebv", *(f"{name}_{band}" for name in ("psf_size", "noise", "depth") for band in bands)]
    own = observed_conditions(prepared.columns([name for name in wanted if name in prepared.names]), bands)
    return Reobservation(own, SurveyStatistics.measured(own.of(torch.from_numpy(train), "cpu"), bands))


def _column(table: pd.DataFrame, name: str) -> np.ndarray:
    if name not in table.columns:
        return np.full(len(table), np.nan)
    return table[name].to_numpy(np.float64, na_value=np.nan)


def _positive(table: pd.DataFrame, name: str) -> np.ndarray:
    """A column, NaN where it is not above zero: surveys write 0 where a band was not observed."""
    values = _column(table, name)
    return np.where(values > 0, values, np.nan)
