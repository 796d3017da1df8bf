"""What a search looks at of each galaxy: its embedding and, of a network that tells them, what volunteers would say.

The answers are few beside the embedding's numbers and say in words what takes many labels to learn. Tried on searches
with seeds from 100 on, they helped a little everywhere and most for the rarest.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .lvm import GalaxyLVM
from .volunteer_answers import TOLD_COLUMNS, UNLIKELY, log_chances


def told_in(names: Collection[str]) -> tuple[str, ...]:
    """Those of the columns `names` that tell answers, in their order; none if any is missing."""
    return TOLD_COLUMNS if set(TOLD_COLUMNS) <= set(names) else ()


def seen_in(columns: Mapping[str, NDArray[np.floating[Any]]]) -> NDArray[np.float32]:
    """(N, D) from columns as `GalaxyLVM.predict_columns` has them; a row without an answer is NaN."""
    with np.errstate(divide="ignore"):  # a chance of nothing is UNLIKELY like any other that is too small
        told = [np.maximum(np.log(columns[name]), UNLIKELY) for name in told_in(columns)]
    return np.concatenate([columns["embedding"], *(each[:, None] for each in told)], axis=1).astype(np.float32)


def seen_by(network: GalaxyLVM, rgb: Tensor, *, told: bool) -> Tensor:
    """(N, D) of (N, 3, h, w) in 0..1: the same from the stamps themselves, with what is told or without."""
    embedding, chances = network.describe(rgb)
    if not told or chances is None:
        return embedding
    return torch.cat([embedding, log_chances(chances)], dim=1)
