"""Ellipticity as Tractor has it: two numbers without a seam, where an axis ratio and a position angle have one.

With axis ratio q and position angle t (from north through east), |e| = (1 - q) / (1 + q), e1 = |e| cos 2t and
e2 = |e| sin 2t (Lang, Hogg & Mykytyn 2016). A position angle of 179 degrees is near one of 1 degree, and a round
galaxy's is nothing: e1 and e2 know both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

ORIENTED = ("e1", "e2")
"""Names of the two parameters that turn with the image."""


def axis_ratio(e1: ArrayLike, e2: ArrayLike) -> NDArray[Any]:
    """(1 - |e|) / (1 + |e|), in 0..1; NaN where |e| is no ellipticity."""
    size = np.hypot(np.asarray(e1, dtype=np.float64), np.asarray(e2, dtype=np.float64))
    with np.errstate(invalid="ignore"):
        return np.where(size < 1, (1 - size) / (1 + size), np.nan)


def position_angle(e1: ArrayLike, e2: ArrayLike) -> NDArray[Any]:
    """Degrees from north through east, 0..180."""
    return np.rad2deg(0.5 * np.arctan2(np.asarray(e2, dtype=np.float64), np.asarray(e1, dtype=np.float64))) % 180


def turned(values: Tensor, names: Sequence[str], angle: Tensor, south_first: bool) -> Tensor:
    """Parameters of stamps that have been turned.

    Parameters
    ----------
    values
        (N, P).
    names
        Of the parameters; where `e1` and `e2` are among them they turn, all others stay.
    angle
        (N,) degrees counter-clockwise as seen with row 0 on top, see `augment.Geometry`.
    south_first
        Whether row 0 is the southernmost, as in FITS images; in pictures it is the northernmost. East is left.

    Returns
    -------
    Tensor
        (N, P).
    """
    if not set(ORIENTED) <= set(names):
        return values
    first, second = (list(names).index(name) for name in ORIENTED)
    # with north on top and east left, position angles grow counter-clockwise
    twice = torch.deg2rad(angle) * (-2 if south_first else 2)
    e1, e2 = values[:, first], values[:, second]
    result = values.clone()
    result[:, first] = e1 * torch.cos(twice) - e2 * torch.sin(twice)
    result[:, second] = e1 * torch.sin(twice) + e2 * torch.cos(twice)
    return result
