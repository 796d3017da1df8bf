"""What a source hands to the store for one object: a stamp, or the reason why there is none."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

STATES = ("pending", "valid", "no_coverage", "failed")
"""States of a row; the array `state` holds their index."""

PENDING, VALID, NO_COVERAGE, FAILED = range(4)


@dataclass(frozen=True)
class Stamp:
    """One object's pixels.

    Attributes
    ----------
    image
        (C, H, W), float16 nanomaggies per pixel or uint8 RGB.
    columns
        Catalogue columns known only after reading, such as `pixel_scale`, `psf_size_r` or a truth.
    invvar
        (C, H, W) float32 inverse variance, 1 / nanomaggy^2, or None.
    """

    image: np.ndarray
    columns: dict[str, Any] = field(default_factory=dict)
    invvar: np.ndarray | None = None


@dataclass(frozen=True)
class Refusal:
    """Why an object has no stamp.

    Attributes
    ----------
    reason
        A short phrase that is the same for all objects with the same trouble, so that it can be counted.
    detail
        What is particular to this object.
    """

    reason: str
    state: Literal["failed", "no_coverage"] = "failed"
    detail: str = ""
