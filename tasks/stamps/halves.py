"""Between float32 and float16 by the processor's own instructions: NumPy converts in software, ten times slower."""

from __future__ import annotations

import warnings

import numpy as np
import torch


def to_half(values: np.ndarray) -> np.ndarray:
    """float16 of float32 values, rounded to the nearest; infinite beyond 65504."""
    return _tensor(np.asarray(values, np.float32)).to(torch.float16).numpy()


def to_single(values: np.ndarray) -> np.ndarray:
    """float32 of float16 values, or of any others."""
    if values.dtype != np.float16:
        return values.astype(np.float32)
    return _tensor(values).to(torch.float32).numpy()


def _tensor(values: np.ndarray) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")  # it is only read
        return torch.from_numpy(np.ascontiguousarray(values))
