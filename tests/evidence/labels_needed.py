"""Where a curve of AUC by labels reaches what is wanted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

import numpy as np

Count = TypeVar("Count", int, float)


def labels_needed(curve: Mapping[Count, float], wanted: float) -> tuple[float, bool]:
    """Labels at which a curve of AUC by labels first reaches `wanted`, linear over the logarithm of the labels.

    Returns
    -------
    float
        Labels; the largest number measured where the curve stays below, the smallest where that is enough.
    bool
        Whether it is reached: otherwise the number is "at least".
    """
    counts = sorted(curve)
    values = np.maximum.accumulate([curve[count] for count in counts])
    if values[-1] < wanted:
        return float(counts[-1]), False
    after = int(np.argmax(values >= wanted))
    if after == 0:
        return float(counts[0]), True
    span = slice(after - 1, after + 1)
    return float(np.exp(np.interp(wanted, values[span], np.log(counts[span])))), True
