"""What the catalogue says of each galaxy's picture: all classical measures, by name."""

from __future__ import annotations

import torch
from torch import Tensor

from .morphometry import MEASURES, measure
from .outline import outlined
from .ring_structure import RING_MEASURES, measure_rings

MEASURED_COLUMNS = tuple(f"measured_{name}" for name in (*MEASURES, *RING_MEASURES))
"""Of the whole galaxy, then of its rings."""


def measured_columns(rgb: Tensor) -> Tensor:
    """(N, 3, h, h) in 0..1 to (N, len(MEASURED_COLUMNS))."""
    galaxy = outlined(rgb)
    return torch.cat([measure(galaxy), measure_rings(galaxy)], dim=1)
