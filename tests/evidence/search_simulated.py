"""The rare case of a search: arcs and mergers among simulated galaxies, one in 500 of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from galaxy_models.degradation import SURVEY_PIXEL_SCALE
from galaxy_models.photometry import viewer_rgb
from galaxy_models.simulation.scene import draw_object, draw_stamp
from tests.evidence.search_targets import Target, flag_target
from tests.evidence.simulated import BANDS, SEED, Arrays, drawn
from tests.evidence.stamps import SIZE, Stamps

SOURCE = "simulated"

RATE = 1 / 500
"""Chance of a galaxy to lens an arc, and to merge with another."""

FIRST = 6_000_000
"""Number of the first galaxy; no other part of the evidence has it."""


def surveyed_stamp(index: int, size: int) -> Arrays:
    """`rgb` (3, size, size) uint8 as the survey's viewer shows it, and whether the galaxy is a `lens` or a `merger`."""
    seen = draw_object(SEED, index, bands=BANDS, pixel_scale=SURVEY_PIXEL_SCALE, lens_rate=RATE, merger_rate=RATE)
    flux = torch.from_numpy(draw_stamp(seen, size).flux)[None]
    return {
        "rgb": (viewer_rgb(flux, BANDS)[0] * 255).round().to(torch.uint8).numpy(),
        "lens": np.asarray(seen.einstein_radius is not None),
        "merger": np.asarray(bool(seen.galaxy.disturbance)),
    }


def simulated_stamps(folder: Path, count: int) -> Stamps:
    """Drawn once and kept in the folder; columns `lens` and `merger` are the truth."""
    arrays = drawn(folder, surveyed_stamp, FIRST, count, SIZE)
    table = pd.DataFrame({"source": SOURCE, "duplicate_group": -1, "lens": arrays["lens"], "merger": arrays["merger"]})
    return Stamps(arrays["rgb"], table)


def simulated_targets(stamps: Stamps) -> tuple[Target, ...]:
    """The two rare kinds."""
    return (
        flag_target(stamps, "simulated arc", SOURCE, "lens"),
        flag_target(stamps, "simulated merger", SOURCE, "merger"),
    )
