"""Figures of merit. None of them pools anything: the caller chooses the rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor
from torch.nn import functional

Floats = NDArray[np.float64]


def accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Share of rows whose predicted code equals the true one; NaN without rows."""
    true, guess = np.asarray(truth), np.asarray(predicted)
    return float((true == guess).mean()) if true.size else float("nan")


def confusion_matrix(truth: ArrayLike, predicted: ArrayLike, classes: int) -> NDArray[np.int64]:
    """(classes, classes) counts; row: true code, column: predicted code."""
    true, guess = np.asarray(truth, dtype=np.int64), np.asarray(predicted, dtype=np.int64)
    return np.bincount(true * classes + guess, minlength=classes**2).reshape(classes, classes)


def balanced_accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Mean over the true classes that occur of the share found again."""
    true, guess = np.asarray(truth), np.asarray(predicted)
    shares = [(guess[true == code] == code).mean() for code in np.unique(true)]
    return float(np.mean(shares)) if shares else float("nan")


def object_errors(truth: ArrayLike, value: ArrayLike, *, in_spreads: bool = False) -> Floats:
    """(N,) mean absolute error of each object over what is known of it; NaN where nothing is.

    Parameters
    ----------
    truth
        (N, P) numbers; NaN for unknown.
    value
        (N, P) answers.
    in_spreads
        Whether errors are in units of each column's standard deviation over the objects, so that numbers of several
        units can be put together.
    """
    true, answer = np.asarray(truth, dtype=np.float64), np.asarray(value, dtype=np.float64)
    known = np.isfinite(true)
    errors = np.where(known, np.abs(answer - true), 0.0)
    if in_spreads:
        spread = np.array([column[of].std() if of.any() else 0.0 for column, of in zip(true.T, known.T, strict=True)])
        errors /= np.where(spread > 0, spread, 1.0)
    counts = known.sum(axis=1)
    return np.where(counts > 0, errors.sum(axis=1) / np.maximum(counts, 1), np.nan)


def auc(positive: ArrayLike, scores: ArrayLike) -> float:
    """Area under the ROC curve: the chance that a positive outscores a negative, ties counting half.

    NaN where there are no positives or no negatives.
    """
    is_positive, values = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    positives, negatives = int(is_positive.sum()), int((~is_positive).sum())
    if positives == 0 or negatives == 0:
        return float("nan")
    rank_sum = _mid_ranks(values)[is_positive].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def macro_auc(truth: ArrayLike, probabilities: ArrayLike) -> float:
    """Mean over classes of the AUC of one class against the rest; classes that do not occur are left out.

    Parameters
    ----------
    truth
        (N,) codes.
    probabilities
        (N, classes) scores, higher for more likely.
    """
    true, scores = np.asarray(truth), np.asarray(probabilities)
    values = [auc(true == code, scores[:, code]) for code in range(scores.shape[1])]
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def average_precision(positive: ArrayLike, scores: ArrayLike) -> float:
    """Mean of the precision at each positive of the ranked list; rows with one score enter together.

    NaN without positives.
    """
    is_positive, values = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    if not is_positive.any():
        return float("nan")
    order = np.argsort(-values, kind="stable")
    ranked, found = values[order], np.cumsum(is_positive[order])
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1)  # last row of each group of equal scores
    precision = found[ends] / (ends + 1)
    gained = np.diff(found[ends], prepend=0)
    return float((precision * gained).sum() / found[-1])


def precision_at(positive: ArrayLike, scores: ArrayLike, count: int) -> float:
    """Share of positives among the `count` highest scores (all rows if there are fewer).

    Rows that tie at the last place share it: the value is the mean over all ways to break the tie.
    """
    is_positive, values = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    count = min(count, len(values))
    if count == 0:
        return float("nan")
    limit = np.sort(values)[-count]
    above, tied = values > limit, values == limit
    places = count - above.sum()
    return float((is_positive[above].sum() + places * is_positive[tied].mean()) / count)


def psnr(images: Tensor, reference: Tensor, peak: float = 1.0) -> Tensor:
    """Peak signal-to-noise ratio of each image, dB: 10 log10(peak^2 / mean squared error). (N, C, H, W) to (N,)."""
    error = (images.float() - reference.float()).square().flatten(1).mean(dim=1)
    return 10 * torch.log10(peak**2 / error.clamp_min(1e-12))


def ssim(images: Tensor, reference: Tensor, peak: float = 1.0, window: int = 11, sigma: float = 1.5) -> Tensor:
    """Structural similarity of each image, averaged over channels and pixels. (N, C, H, W) to (N,).

    Wang et al. (2004): Gaussian window of 11 px and sigma 1.5 px, K1 = 0.01, K2 = 0.03, and only places where
    the window lies within the image.
    """
    first, second = images.float(), reference.float()
    channels = first.shape[1]
    offsets = torch.arange(window, dtype=first.dtype, device=first.device) - (window - 1) / 2
    profile = torch.exp(-0.5 * (offsets / sigma) ** 2)
    profile = profile / profile.sum()
    rows, columns = profile.view(1, 1, -1, 1), profile.view(1, 1, 1, -1)

    def smooth(x: Tensor) -> Tensor:
        x = functional.conv2d(x, rows.expand(channels, 1, -1, 1), groups=channels)
        return functional.conv2d(x, columns.expand(channels, 1, 1, -1), groups=channels)

    mean1, mean2 = smooth(first), smooth(second)
    variance1 = smooth(first * first) - mean1**2
    variance2 = smooth(second * second) - mean2**2
    covariance = smooth(first * second) - mean1 * mean2
    floor1, floor2 = (0.01 * peak) ** 2, (0.03 * peak) ** 2
    luminance = (2 * mean1 * mean2 + floor1) / (mean1**2 + mean2**2 + floor1)
    structure = (2 * covariance + floor2) / (variance1 + variance2 + floor2)
    return (luminance * structure).flatten(1).mean(dim=1)


def nearest(queries: ArrayLike, gallery: ArrayLike, count: int, *, exclude_self: bool = False) -> NDArray[np.int64]:
    """Indices into `gallery` of the `count` rows nearest to each query by cosine, nearest first.

    Parameters
    ----------
    queries, gallery
        (Q, D) and (G, D).
    exclude_self
        Query i is row i of the gallery and must not find itself.
    """
    unit_queries, unit_gallery = _unit(queries), _unit(gallery)
    count = min(count, len(unit_gallery) - int(exclude_self))
    found = np.empty((len(unit_queries), count), dtype=np.int64)
    block = 1024
    for start in range(0, len(unit_queries), block):
        likeness = unit_queries[start : start + block] @ unit_gallery.T
        if exclude_self:
            rows = np.arange(len(likeness))
            likeness[rows, start + rows] = -np.inf
        found[start : start + block] = np.argsort(-likeness, axis=1, kind="stable")[:, :count]
    return found


def knn_precision(
    queries: ArrayLike, query_codes: ArrayLike, gallery: ArrayLike, gallery_codes: ArrayLike, count: int = 10
) -> Floats:
    """Share of each query's `count` nearest gallery rows that have its class; (Q,). Average it for the figure.

    Rows with a code below 0 have no label: leave them out of both sides before.
    """
    codes = np.asarray(gallery_codes)[nearest(queries, gallery, count)]
    return np.asarray((codes == np.asarray(query_codes)[:, None]).mean(axis=1), dtype=np.float64)


def linear_probe(
    queries: ArrayLike, gallery: ArrayLike, gallery_codes: ArrayLike, penalty: float = 0.01
) -> NDArray[np.int64]:
    """Codes that a linear classifier, fitted on the gallery, gives to the queries; (Q,).

    Ridge regression of one-hot codes on standardised vectors; classes weigh alike, however many rows they have.

    Parameters
    ----------
    queries, gallery
        (Q, D) and (G, D).
    gallery_codes
        (G,) from 0 up.
    penalty
        Ridge penalty per row and standardised dimension.
    """
    codes, vectors = np.asarray(gallery_codes), np.asarray(gallery, dtype=np.float64)
    mean, spread = vectors.mean(axis=0), vectors.std(axis=0) + 1e-9
    design = np.column_stack([(vectors - mean) / spread, np.ones(len(vectors))])
    counts = np.bincount(codes)
    weights = (len(codes) / (np.count_nonzero(counts) * counts[codes]))[:, None]
    targets = np.eye(len(counts))[codes]
    ridge = np.full(design.shape[1], penalty * len(codes))
    ridge[-1] = 1e-9  # the constant is not held back
    solution = np.linalg.solve(design.T @ (weights * design) + np.diag(ridge), design.T @ (weights * targets))
    asked = np.column_stack(
        [(np.asarray(queries, dtype=np.float64) - mean) / spread, np.ones(len(np.asarray(queries)))]
    )
    return np.asarray((asked @ solution).argmax(axis=1), dtype=np.int64)


def bootstrap_interval(
    statistic: Callable[..., float], *columns: ArrayLike, seed: int, draws: int = 1000, level: float = 0.95
) -> tuple[float, float]:
    """Percentile bootstrap interval of `statistic(*columns)` over rows.

    Draws whose statistic is NaN (such as an AUC without positives) are left out; (NaN, NaN) if none is left.

    Parameters
    ----------
    statistic
        Takes the resampled columns, gives a number.
    columns
        Arrays with the same number of rows.
    """
    arrays = [np.asarray(column) for column in columns]
    generator = np.random.default_rng(seed)
    rows = len(arrays[0])
    if rows == 0:
        return float("nan"), float("nan")
    values = np.array([statistic(*(a[pick] for a in arrays)) for pick in generator.integers(rows, size=(draws, rows))])
    values = values[np.isfinite(values)]
    if not len(values):
        return float("nan"), float("nan")
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def mean_interval(values: Sequence[float] | Floats, *, seed: int, draws: int = 1000) -> tuple[float, float]:
    """95 % bootstrap interval of the mean of per-row values, such as those of `knn_precision`."""
    return bootstrap_interval(lambda x: float(np.mean(x)), values, seed=seed, draws=draws)


def _unit(vectors: ArrayLike) -> NDArray[np.float32]:
    array = np.asarray(vectors, dtype=np.float32)
    return np.asarray(array / np.maximum(np.linalg.norm(array, axis=1, keepdims=True), 1e-12), dtype=np.float32)


def _mid_ranks(values: Floats) -> Floats:
    """Ranks from 1; equal values share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return (last - (counts - 1) / 2)[inverse]
