"""Makes a network's confidence mean what it says, from rows that it was not trained on."""

from __future__ import annotations

import numpy as np
import torch
from torch.nn import functional

SMALLEST_SAMPLE = 20
"""Fewer validation rows than this say too little: the calibration is then left at one."""

ONE_SIGMA = 0.6826894921370859
"""Probability of a Gaussian within one sigma of its mean."""

SIGMAS_OF_95 = 1.959963984540054
"""Sigmas to either side of its mean within which a Gaussian has 95 % of its probability."""


def temperature(logits: np.ndarray, codes: np.ndarray) -> float:
    """The divisor of the logits that makes the classes' probabilities most likely (Guo et al. 2017).

    Parameters
    ----------
    logits
        (N, K) of validation rows.
    codes
        (N,) class of each row, -1 for none.

    Returns
    -------
    float
        In 0.05..20; above one the network was too sure. One if fewer than 20 rows have a class.
    """
    known = np.asarray(codes) >= 0
    if known.sum() < SMALLEST_SAMPLE:
        return 1.0
    scores = torch.from_numpy(np.asarray(logits)[known]).double()
    targets = torch.from_numpy(np.asarray(codes)[known]).long()

    def loss(logarithm: float) -> float:
        return float(functional.cross_entropy(scores / float(np.exp(logarithm)), targets))

    # The loss is convex in 1 / T, so it has one minimum in log T and golden sections find it.
    low, high = np.log(0.05), np.log(20.0)
    ratio = (5**0.5 - 1) / 2
    for _ in range(60):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) < loss(right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def pulls(truth: np.ndarray, predicted: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """|truth - predicted| / sigma of all elements in which it is a number, (n,)."""
    pull = np.abs(np.asarray(truth) - np.asarray(predicted)) / np.asarray(sigma)
    return np.asarray(pull[np.isfinite(pull)])


def sigma_scale(truth: np.ndarray, predicted: np.ndarray, sigma: np.ndarray) -> float:
    """The factor on `sigma` with which 68.3 % of the truths lie within one sigma.

    Parameters
    ----------
    truth, predicted, sigma
        (N,); rows with a NaN are left out.

    Returns
    -------
    float
        In 0.1..10; one if fewer than 20 rows can be used.
    """
    pull = pulls(truth, predicted, sigma)
    if len(pull) < SMALLEST_SAMPLE:
        return 1.0
    return float(np.clip(np.quantile(pull, ONE_SIGMA), 0.1, 10.0))


def coverage(truth: np.ndarray, predicted: np.ndarray, sigma: np.ndarray, sigmas: float = 1.0) -> float:
    """Share of the truths within so many sigmas; NaN if no row can be used. An honest Gaussian has 0.683 within one."""
    pull = pulls(truth, predicted, sigma)
    return float((pull <= sigmas).mean()) if len(pull) else float("nan")


def coverage_curve(pull: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Share of (n,) pulls within the central interval that a Gaussian gives each of (k,) probabilities; (k,)."""
    limits = torch.erfinv(torch.from_numpy(np.asarray(levels, dtype=np.float64))).numpy() * 2**0.5
    return np.asarray((np.asarray(pull)[None, :] <= limits[:, None]).mean(axis=1))


def reliability(probabilities: np.ndarray, codes: np.ndarray, bins: int = 10) -> dict[str, np.ndarray]:
    """Said confidence against accuracy, in bins of the highest probability.

    Parameters
    ----------
    probabilities
        (N, K), rows of sum one.
    codes
        (N,) class of each row, none missing.
    bins
        Number of equal bins of 0..1.

    Returns
    -------
    dict
        `confidence`, `accuracy` (NaN where the bin is empty) and `count`, each (bins,).
    """
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == codes
    which = np.minimum((confidence * bins).astype(int), bins - 1)
    count = np.bincount(which, minlength=bins)
    with np.errstate(invalid="ignore"):
        return {
            "confidence": np.bincount(which, confidence, minlength=bins) / count,
            "accuracy": np.bincount(which, correct, minlength=bins) / count,
            "count": count,
        }


def expected_calibration_error(probabilities: np.ndarray, codes: np.ndarray, bins: int = 10) -> float:
    """Mean over rows of |accuracy - confidence| of the row's bin; NaN for no rows."""
    curve = reliability(probabilities, codes, bins)
    filled = curve["count"] > 0
    if not filled.any():
        return float("nan")
    gap = np.abs(curve["accuracy"] - curve["confidence"])[filled]
    return float(np.average(gap, weights=curve["count"][filled]))
