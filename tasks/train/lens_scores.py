"""How well the lens finder does on stamps it never saw. Nothing is pooled over surveys."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from galaxy_models.detection import LensFinder, best_masks
from galaxy_models.injection import box_of
from galaxy_models.inputs import InputSpec
from galaxy_models.metrics import auc, average_precision, bootstrap_interval, precision_at
from galaxy_models.ranking import (
    border_statistics,
    box_average_precision,
    completeness_at,
    grouped_probe,
    mask_overlap,
    purity_at_base_rate,
)
from tasks.train.lens_scenes import Scene

LIST_LENGTHS = (10, 20, 50)
BASE_RATE = 1 / 2000
COMPLETENESS = 0.5
MASK_LEVEL = 0.5
BATCH = 32


@dataclass(frozen=True)
class Answers:
    """What the finder says about N stamps: score (N,), boxes in stamp pixels, best mask (N, h, w) of the crop."""

    score: NDArray[np.float64]
    boxes: list[list[list[float]]]
    masks: NDArray[np.bool_]


@torch.inference_mode()
def ask(finder: LensFinder, inputs: InputSpec, units: str, stamps: NDArray[np.generic]) -> Answers:
    """Answers for raw stamps (N, C, H, W)."""
    device = next(finder.parameters()).device
    finder.eval()
    scores: list[NDArray[np.float32]] = []
    boxes: list[list[list[float]]] = []
    masks: list[NDArray[np.bool_]] = []
    for start in range(0, len(stamps), BATCH):
        batch = torch.from_numpy(np.ascontiguousarray(stamps[start : start + BATCH])).to(device)
        rgb = inputs.to_network(batch, units)
        logits, found = finder(rgb)
        columns = finder.columns(logits, found, (batch.shape[-1] - inputs.crop) // 2)
        scores.append(columns["lens_score"])
        boxes.extend(columns["boxes"])
        masks.append((best_masks(found, (rgb.shape[-2], rgb.shape[-1])) > MASK_LEVEL).cpu().numpy())
    return Answers(np.concatenate(scores).astype(np.float64), boxes, np.concatenate(masks))


def ranking_metrics(name: str, positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> dict[str, float]:
    """Metrics of the ranked list of one table's test stamps, each with the table's name in front."""
    low, high = bootstrap_interval(auc, positive, scores, seed=0)
    metrics = {
        "auc": auc(positive, scores),
        "auc_low": low,
        "auc_high": high,
        "average_precision": average_precision(positive, scores),
        "test_lenses": float(positive.sum()),
        "test_others": float((~positive).sum()),
        # An extrapolation: see purity_at_base_rate for its formula and what it supposes.
        "purity_at_1_in_2000_extrapolated": purity_at_base_rate(positive, scores, COMPLETENESS, BASE_RATE),
    }
    for count in LIST_LENGTHS:
        if count <= len(positive):
            metrics[f"purity_at_{count}"] = precision_at(positive, scores, count)
            metrics[f"completeness_at_{count}"] = completeness_at(positive, scores, count)
    return {f"{name}.{key}": value for key, value in metrics.items()}


def control_metrics(
    name: str,
    rgb: NDArray[np.float32],
    embeddings: NDArray[np.float32],
    positive: NDArray[np.bool_],
    groups: Sequence[object],
) -> dict[str, float]:
    """Cross-fitted logistic probes over all of a table's stamps, whole groups held out.

    `background_only_auc` knows only the frame of empty sky and must be near 0.5, or the finder may tell surveys apart
    instead of lenses; `pretrained_features_crossfit_auc` knows the features of the encoder before this training.
    """
    features: dict[str, NDArray[np.floating]] = {
        "background_only_auc": border_statistics(rgb),
        "pretrained_features_crossfit_auc": embeddings,
    }
    metrics: dict[str, float] = {}
    for probe, columns in features.items():
        try:
            scores = grouped_probe(columns, positive, groups)
        except ValueError:  # too few groups to hold any out
            continue
        low, high = bootstrap_interval(auc, positive, scores, seed=0)
        metrics |= {probe: auc(positive, scores), f"{probe}_low": low, f"{probe}_high": high}
    return {f"{name}.{key}": value for key, value in metrics.items()}


def detection_metrics(name: str, answers: Answers, scenes: Sequence[Scene], inputs: InputSpec) -> dict[str, float]:
    """Box and mask metrics on scenes whose arcs are known.

    `box_ap50` counts every detection, on scenes without an arc too; `box_recall50` is the share of arcs that some box
    covers; `mask_iou` is the mean over arcs of the overlap of the best box's mask with the visible arc, else 0.
    """
    top = (inputs.stamp_size - inputs.crop) // 2
    truth: list[list[list[float]]] = []
    overlaps = []
    for scene, mask in zip(scenes, answers.masks, strict=True):
        visible = scene.mask[top : top + inputs.crop, top : top + inputs.crop]
        truth.append([[float(corner + top) for corner in box_of(visible)]] if visible.any() else [])
        if visible.any():
            overlaps.append(mask_overlap(np.kron(mask, np.ones((inputs.binning,) * 2, dtype=bool)), visible))
    arcs = [i for i, boxes in enumerate(truth) if boxes]
    recalled = [
        any(box_average_precision([[box]], [truth[i]]) > 0 for box in answers.boxes[i]) if answers.boxes[i] else False
        for i in arcs
    ]
    return {
        f"{name}.box_ap50": box_average_precision(answers.boxes, truth),
        f"{name}.box_recall50": float(np.mean(recalled)) if arcs else float("nan"),
        f"{name}.mask_iou": float(np.mean(overlaps)) if overlaps else float("nan"),
        f"{name}.simulated_score_auc": auc([scene.lens for scene in scenes], answers.score),
        f"{name}.simulated_arcs": float(len(arcs)),
    }
