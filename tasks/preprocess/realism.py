"""How far simulated galaxies are from real ones: distributions side by side, and a probe that tells them apart."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from astropy.io import fits
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from tasks.preprocess.realism_measures import (
    BACKGROUND_MEASURES,
    GALAXY_MEASURES,
    SIZE_MEASURES,
    common_flux,
    flux_of_viewer,
    flux_of_zoo,
    measure,
)

ZOO_SETS = ("decals_rings", "field_guide")
NATIVE_SCALES = ("astroclip_test_image.fits.gz", "decals_temp_small.fits.gz", "gzb_example_b.fits.gz")
FITS_SIDE = 152
ZOO_SIDE = 304
"""Central pixels of a Galaxy Zoo picture: twelve half-light radii, as a simulated stamp has them on average."""

MATCHING_BINS = 12
FEWEST = 30
"""Galaxies a side without which there is no probe."""

MOST = 300
"""Galaxies a side that are measured, evenly over all: enough for the distributions."""

MARGINS = {"left": 0.01, "right": 0.99, "bottom": 0.05, "top": 0.94, "wspace": 0.04, "hspace": 0.3}
"""Of the panels, as shares of the sheet: no text of theirs changes its size, so that none need be measured."""

TITLES = {
    "half_light_share": "half-light radius / picture's side",
    "log_signal_to_noise": "log10 S/N in the half-light radius",
    "g_r": "g - r",
    "r_z": "r - z",
    "colour_gradient": "g - r inside less outside R50",
    "concentration": "5 log10(R80 / R20)",
    "asymmetry": "asymmetry under half a turn",
    "axis_ratio": "axis ratio by moments",
    "surface_brightness": "surface brightness in R50, mag + const.",
    "structure": "light off the mean profile",
    "sky_noise": "log10 sky noise in r, nanomaggies",
    "noise_colour": "log10 noise z / g",
    "noise_correlation": "correlation of neighbouring pixels",
    "crowding": "share of bright pixels around",
}


def realism_report(images_rgb: np.ndarray, sky: Path, folder: Path) -> dict[str, Any]:
    """Compare simulated stamps with real DECaLS pictures.

    Real ones are the Galaxy Zoo pictures of `decals_rings` and `field_guide`, whose own stretch is undone, and the
    flux cubes of `legacy_fits`. Both sides pass through both displays and then through the same measuring code.

    Parameters
    ----------
    images_rgb
        (N, 3, H, W) simulated stamps as `viewer_rgb` shows them, 0..1.
    sky
        Folder of real images; where it is missing the report has the simulated side alone and says so.
    folder
        Where the figure goes.

    Returns
    -------
    dict
        `metrics`: floats; `figures`: paths; `note`: one sentence on what was compared.

    Notes
    -----
    The probe is a logistic regression on the measures, its AUC from five-fold cross-validation: 0.5 means that these
    numbers cannot tell simulated from real, 1 that they always can. It is asked three times. `probe_auc_galaxy` sees
    colours and shapes of the galaxy. `probe_auc_matched` sees the same on as many simulated as real galaxies of each
    surface brightness: the real sets were chosen for rings and as show cases, and have brighter surfaces. What is left
    is not explained by brightness; whether it is another mix of kinds or a fault of the drawing, the probe cannot say.
    `probe_auc_background` sees the sky alone, a control: the real pictures were resampled to the galaxy's size and
    saved as JPEG, which is not simulated. Size and S/N depend on that resampling too; they are shown and not probed.

    The simulation's brightness, sizes and lopsidedness were adjusted after looking at these very sets, so agreement
    with them is no independent test. Nor would a low AUC prove realism: a logistic regression sees eight numbers, a
    network sees pixels.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = np.asarray(images_rgb[_spread(len(images_rgb))], np.float32)
    simulated = measure(list(common_flux(flux_of_viewer(chosen))))
    real = measure(read_real(sky))
    metrics: dict[str, float] = {"simulated": float(len(simulated)), "real": float(len(real))}
    for side, table in (("simulated", simulated), ("real", real)):
        for name in table:
            values = table[name].dropna()
            if len(values):
                metrics[f"{side}.{name}.median"] = float(values.median())
                metrics[f"{side}.{name}.spread"] = float(values.quantile(0.84) - values.quantile(0.16)) / 2
    if len(real) >= FEWEST and len(simulated) >= FEWEST:
        metrics["probe_auc_galaxy"] = probe(simulated, real, GALAXY_MEASURES)
        matched = _matched(simulated, real, "surface_brightness")
        if min(len(table) for table in matched) >= FEWEST:
            metrics["probe_auc_matched"] = probe(*matched, GALAXY_MEASURES)
        metrics["probe_auc_background"] = probe(simulated, real, BACKGROUND_MEASURES)
        note = (
            f"{len(simulated)} simulated and {len(real)} real DECaLS galaxies; a probe of the galaxy's colours and "
            f"shapes tells them apart with AUC {metrics['probe_auc_galaxy']:.2f}, one of the background alone with "
            f"{metrics['probe_auc_background']:.2f} (the real ones are resampled JPEGs)"
        )
    else:
        note = f"{len(simulated)} simulated galaxies; {len(real)} real DECaLS images in {sky}: too few, no comparison"
    figure = folder / "realism.png"
    _draw(simulated, real, note, figure)
    return {"metrics": metrics, "figures": [str(figure)], "note": note}


def read_real(sky: Path, most: int = MOST) -> list[np.ndarray]:
    """Fluxes (3, H, W) in g, r, z of real galaxies, at most `most` pictures; none where there is no such folder."""
    fluxes = []
    pictures = [path for name in ZOO_SETS for path in sorted((sky / name / "images").glob("*.jpg"))]
    for place in _spread(len(pictures), most):
        try:
            with Image.open(pictures[place]) as image:
                picture = np.asarray(image.convert("RGB")).transpose(2, 0, 1)[None]
        except OSError:  # a broken file is one galaxy less, no reason to have no report
            continue
        fluxes.append(common_flux(flux_of_zoo(_centre(picture, ZOO_SIDE)))[0])
    for file in NATIVE_SCALES:
        path = sky / "legacy_fits" / file
        if path.exists():
            with fits.open(path) as parts:
                cube = next(np.asarray(part.data, np.float32) for part in parts if part.data is not None)
            fluxes.append(common_flux(_centre(cube[None, :3], FITS_SIDE))[0])
    return fluxes


def _spread(count: int, most: int = MOST) -> np.ndarray:
    """Places of at most `most` of `count` things, evenly over all."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))


def _centre(images: np.ndarray, side: int) -> np.ndarray:
    top, left = ((length - min(side, length)) // 2 for length in images.shape[-2:])
    return images[..., top : top + side, left : left + side]


def probe(simulated: pd.DataFrame, real: pd.DataFrame, names: tuple[str, ...]) -> float:
    """Cross-validated AUC of a logistic regression that tells real from simulated by the measures `names`."""
    tables = [table[list(names)].dropna() for table in (simulated, real)]
    values = np.concatenate([table.to_numpy(np.float64) for table in tables])
    truth = np.concatenate([np.full(len(table), i) for i, table in enumerate(tables)])
    low, high = np.quantile(values, [0.005, 0.995], axis=0)
    model = make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    answers = cross_val_predict(model, np.clip(values, low, high), truth, cv=folds, method="predict_proba")[:, 1]
    return float(roc_auc_score(truth, answers))


def _matched(one: pd.DataFrame, two: pd.DataFrame, name: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """As many rows of each table in every bin of `name`, so that it is spread alike in both."""
    both = pd.concat([one[name], two[name]]).dropna()
    edges = np.quantile(both, np.linspace(0, 1, MATCHING_BINS + 1)) if len(both) else np.zeros(0)
    generator = np.random.default_rng(0)
    kept: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    for low, high in pairwise(edges):
        rows = [np.flatnonzero((table[name] >= low) & (table[name] < high)) for table in (one, two)]
        for side, choice in zip(kept, rows, strict=True):
            side.append(generator.choice(choice, min(map(len, rows)), replace=False))
    chosen = [np.concatenate([np.zeros(0, int), *side]).astype(int) for side in kept]
    return one.iloc[chosen[0]], two.iloc[chosen[1]]


def _draw(simulated: pd.DataFrame, real: pd.DataFrame, note: str, path: Path) -> None:
    names = [*SIZE_MEASURES, *GALAXY_MEASURES, *BACKGROUND_MEASURES]
    figure, axes = plt.subplots(4, 4, figsize=(13, 10), gridspec_kw=MARGINS)
    for axis, name in zip(axes.flat, names, strict=False):
        both = pd.concat([simulated[name], real[name]]).dropna()
        if len(both):
            bins = np.linspace(float(both.quantile(0.01)), float(both.quantile(0.99)), 26)
            for label, table, colour in (("simulated", simulated, "#3b6fb6"), ("real", real, "#d1782f")):
                if table[name].notna().any():
                    axis.hist(table[name].dropna(), bins, density=True, alpha=0.55, label=label, color=colour)
        axis.set_xlabel(TITLES[name])
        axis.set_yticks([])
    for axis in axes.flat[len(names) :]:
        axis.set_axis_off()
    axes.flat[0].legend(frameon=False)
    figure.suptitle(note, fontsize=10, wrap=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)
