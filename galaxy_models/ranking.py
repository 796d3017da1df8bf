"""How good a ranked list of rare objects is, and how well arcs are found within a stamp."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .metrics import precision_at

Floats = NDArray[np.float64]


def completeness_at(positive: ArrayLike, scores: ArrayLike, count: int) -> float:
    """Share of all positives that are among the `count` highest scores; NaN without positives."""
    is_positive = np.asarray(positive, dtype=bool)
    found = precision_at(is_positive, scores, count) * min(count, len(is_positive))
    return float(found / is_positive.sum()) if is_positive.any() else float("nan")


def purity_at_base_rate(positive: ArrayLike, scores: ArrayLike, completeness: float, base_rate: float) -> float:
    """Purity that a list would have where lenses are rare, extrapolated from a test set where they are not.

    Parameters
    ----------
    completeness
        The list goes down to the highest score that keeps at least this share of the positives.
    base_rate
        Lenses per object searched, such as 1 / 2000.

    Notes
    -----
    purity = c b / (c b + f (1 - b)), with c the completeness reached, b the base rate, and f the share of negatives
    above that score, as (k + 1) / (n + 1) for k of n, since none of a few negatives does not mean none of a million.
    It supposes that the searched objects are as hard as the test's negatives; look-alikes are harder.
    """
    is_positive, values = np.asarray(positive, dtype=bool), np.asarray(scores, dtype=np.float64)
    lenses, others = np.sort(values[is_positive])[::-1], values[~is_positive]
    if not len(lenses) or not len(others):
        return float("nan")
    threshold = lenses[int(np.ceil(completeness * len(lenses))) - 1]
    reached = float((lenses >= threshold).mean())
    false = float(((others >= threshold).sum() + 1) / (len(others) + 1))
    return reached * base_rate / (reached * base_rate + false * (1 - base_rate))


def border_statistics(rgb: NDArray[np.floating], border: int = 8) -> Floats:
    """What the empty sky of (N, 3, H, W) tells about survey and preparation: (N, 21).

    Of the frame of `border` pixels, per channel: mean, standard deviation, quantiles 10, 50 and 90 %, and the
    correlations of neighbours along rows and columns.
    """
    return np.stack([_border(image.astype(np.float64), border) for image in rgb])


def grouped_probe(features: ArrayLike, positive: ArrayLike, groups: Sequence[object], folds: int = 5) -> Floats:
    """Cross-fitted scores (N,) of a logistic regression: each row is scored by a fit that has not seen its group.

    Features are standardised; the ridge is such that a priori the logit has a spread of 1, however many there are.

    Raises
    ------
    ValueError
        If there are fewer than `folds` groups, or one class is missing.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table, labels = np.asarray(features, dtype=np.float64), np.asarray(positive, dtype=bool)
    _, codes = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    smaller = min(len(set(codes[labels])), len(set(codes[~labels])))
    if smaller < folds:
        raise ValueError(f"a probe in {folds} folds needs as many groups of each class, not {smaller}")
    scores = np.empty(len(labels))
    splitter = StratifiedGroupKFold(folds, shuffle=True, random_state=0)
    for train, test in splitter.split(table, labels, codes):
        probe = make_pipeline(
            StandardScaler(), LogisticRegression(C=1 / table.shape[1], class_weight="balanced", max_iter=2000)
        )
        scores[test] = probe.fit(table[train], labels[train]).decision_function(table[test])
    return scores


def box_overlap(boxes: ArrayLike, others: ArrayLike) -> Floats:
    """Intersection over union of (n, 4) and (m, 4) boxes x0, y0, x1, y1: (n, m)."""
    first, second = (np.asarray(rows, dtype=np.float64).reshape(-1, 4) for rows in (boxes, others))
    low = np.maximum(first[:, None, :2], second[None, :, :2])
    high = np.minimum(first[:, None, 2:], second[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=2)
    areas = [np.prod(box[:, 2:] - box[:, :2], axis=1) for box in (first, second)]
    overlap: Floats = common / np.maximum(areas[0][:, None] + areas[1][None, :] - common, 1e-12)
    return overlap


def box_average_precision(
    found: Sequence[Sequence[Sequence[float]]], truth: Sequence[Sequence[Sequence[float]]], overlap: float = 0.5
) -> float:
    """Average precision of detections over a set of images; NaN where no image has a true box.

    Parameters
    ----------
    found
        For each image, detections [x0, y0, x1, y1, score].
    truth
        For each image, true boxes [x0, y0, x1, y1]; images without any count too.
    overlap
        A detection is right if its intersection over union with a true box, that no better detection took, is this.

    Notes
    -----
    Precision is made monotonic and integrated over recall at every detection (PASCAL VOC 2010 and later).
    """
    total = sum(len(boxes) for boxes in truth)
    if total == 0:
        return float("nan")
    scores, right = [], []
    for detections, boxes in zip(found, truth, strict=True):
        taken: set[int] = set()
        for detection in sorted(detections, key=lambda row: -row[4]):
            likeness = box_overlap([detection[:4]], boxes)[0] if len(boxes) else np.zeros(0)
            best = int(np.argmax(likeness)) if len(likeness) else -1
            hit = best >= 0 and best not in taken and bool(likeness[best] >= overlap)
            if hit:
                taken.add(best)
            scores.append(detection[4])
            right.append(hit)
    order = np.argsort(-np.asarray(scores, dtype=np.float64), kind="stable")
    hits = np.cumsum(np.asarray(right, dtype=bool)[order])
    precision = hits / np.arange(1, len(hits) + 1)
    monotonic = np.maximum.accumulate(precision[::-1])[::-1]
    return float((monotonic * np.diff(hits, prepend=0)).sum() / total)


def mask_overlap(mask: NDArray[np.bool_], other: NDArray[np.bool_]) -> float:
    """Intersection over union of two masks; 1 if both are empty."""
    union = float((mask | other).sum())
    return float((mask & other).sum()) / union if union else 1.0


def _border(image: Floats, border: int) -> Floats:
    strips = [image[:, :border], image[:, -border:], image[:, :, :border], image[:, :, -border:]]
    columns = []
    for channel in range(len(image)):
        pixels = np.concatenate([strip[channel].ravel() for strip in strips])
        along = _correlation([(strip[channel][:, 1:], strip[channel][:, :-1]) for strip in strips])
        across = _correlation([(strip[channel][1:], strip[channel][:-1]) for strip in strips])
        columns += [pixels.mean(), pixels.std(), *np.quantile(pixels, (0.1, 0.5, 0.9)), along, across]
    return np.array(columns)


def _correlation(pairs: Sequence[tuple[Floats, Floats]]) -> float:
    first, second = (np.concatenate([pair[i].ravel() for pair in pairs]) for i in (0, 1))
    spread = first.std() * second.std()
    return float(((first - first.mean()) * (second - second.mean())).mean() / spread) if spread > 0 else 0.0
