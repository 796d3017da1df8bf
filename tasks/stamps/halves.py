"""Between float32 and float16 by the processor's own instructions: NumPy converts in software, ten times slower."""

from __future__ import annotations

import warnings

import numpy as np
import torch

PIECE = 32_768
"""Numbers that torch converts at once: it gives more to several threads, whose waking takes longer than the work."""


def to_half(values: np.ndarray) -> np.ndarray:
    """float16 of float32 values, rounded to the nearest; infinite beyond 65504."""
    return _converted(np.asarray(values, np.float32), np.dtype(np.float16))


def to_single(values: np.ndarray) -> np.ndarray:
    """float32 of float16 values, or of any others."""
    if values.dtype != np.float16:
        return values.astype(np.float32)
    return _converted(values, np.dtype(np.float32))


def _converted(values: np.ndarray, kind: np.dtype) -> np.ndarray:
    out = np.empty(values.shape, kind)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # it is only read
        source = torch.from_numpy(np.ascontiguousarray(values).reshape(-1))
    target = torch.from_numpy(out.reshape(-1))
    for first in range(0, len(target), PIECE):
        target[first : first + PIECE].copy_(source[first : first + PIECE])
    return out
