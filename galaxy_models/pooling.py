"""From an encoder's maps to a vector."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def mean_and_spread(maps: Iterable[Tensor]) -> Tensor:
    """Mean and standard deviation over the image of every channel of every (N, C_i, H_i, W_i); (N, 2 sum C_i) float32.

    The variance is taken a little larger, so that a map without any spread has a gradient.
    """
    parts = []
    for features in maps:
        values = features.float()
        parts += [values.mean(dim=(2, 3)), (values.var(dim=(2, 3), correction=0) + 1e-4).sqrt()]
    return torch.cat(parts, dim=1)
