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
    result = values.clone()
    result[:, [first, second]] = _turned_pairs(values[:, None, [first, second]], angle, south_first)[:, 0]
    return result


def turned_at_the_end(numbers: Tensor, count: int, angle: Tensor, south_first: bool) -> Tensor:
    """(N, M) numbers of stamps that have been turned, of which the last `count` are pairs of e1 and e2.

    See `turned` for the other parameters.
    """
    if not count:
        return numbers
    pairs = _turned_pairs(numbers[:, -count:].unflatten(1, (-1, 2)), angle, south_first)
    return torch.cat([numbers[:, :-count], pairs.flatten(1)], dim=1)


def _turned_pairs(pairs: Tensor, angle: Tensor, south_first: bool) -> Tensor:
    """(N, K, 2) of e1 and e2."""
    # with north on top and east left, position angles grow counter-clockwise
    twice = torch.deg2rad(angle) * (-2 if south_first else 2)
    cosine, sine = torch.cos(twice)[:, None], torch.sin(twice)[:, None]
    e1, e2 = pairs.unbind(-1)
    return torch.stack([e1 * cosine - e2 * sine, e1 * sine + e2 * cosine], dim=-1)
