"""A calibrated linear score of what somebody wants: quick enough for every row of a survey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .answer_calibration import Calibration
from .answer_fit import AnswerFit

Floats = NDArray[np.float64]

BLOCK = 16384
"""Rows that are scored together."""

STRENGTH = 10.0
"""A priori variance of the logit of a standardised row, whatever the number of features."""


@dataclass(frozen=True)
class LinearPreference:
    """Calibrated logit of a standardised row x: x . weights + intercept."""

    weights: Floats
    intercept: float

    @classmethod
    def of(cls, fit: AnswerFit, calibration: Calibration) -> LinearPreference:
        """A fit with its calibration put in."""
        return cls(calibration.slope * fit.weights, calibration.slope * fit.intercept + calibration.offset)

    def scores(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N,) logits of (N, D) features, block by block, so that a memory map is never in memory as a whole."""
        weights = self.weights.astype(np.float32)
        scores = np.empty(len(features), np.float32)
        for start in range(0, len(features), BLOCK):
            block = slice(start, start + BLOCK)
            np.matmul(features[block], weights, out=scores[block])
        scores += np.float32(self.intercept)
        return scores

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"weights": self.weights.tolist(), "intercept": self.intercept}

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> LinearPreference:
        """What `to_dict` gave."""
        return cls(np.array(content["weights"], np.float64), float(content["intercept"]))
