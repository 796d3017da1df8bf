"""Pictures of the lens finder's work."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.ndimage import binary_dilation

from galaxy_models.inputs import InputSpec
from galaxy_models.metrics import precision_at
from galaxy_models.ranking import completeness_at
from tasks.figures import save_curves, save_grid
from tasks.train.lens_scenes import Scene
from tasks.train.lens_scores import Answers

COLUMNS = 10
LEAST_DRAWN_SCORE = 0.3
BOX_COLOUR = (1.0, 0.85, 0.2)
MASK_COLOUR = (0.2, 1.0, 0.4)


def crop_rgb(stamps: NDArray[np.generic], inputs: InputSpec, units: str) -> NDArray[np.float32]:
    """(N, 3, crop, crop) RGB in 0..1 of raw stamps, before any binning."""
    tensor = torch.from_numpy(np.ascontiguousarray(stamps))
    return np.asarray(inputs.to_rgb(inputs.crop_centre(tensor), units).numpy(), dtype=np.float32)


def arcs_sheet(path: Path, scenes: Sequence[Scene], inputs: InputSpec, units: str, title: str) -> Path:
    """Scenes the finder learns from: each as it is, and below with the outline of its arc."""
    rgb = crop_rgb(np.stack([scene.stamp for scene in scenes]), inputs, units)
    top = (inputs.stamp_size - inputs.crop) // 2
    masks = [scene.mask[top : top + inputs.crop, top : top + inputs.crop] for scene in scenes]
    outlined = [outline(picture, mask, MASK_COLOUR) for picture, mask in zip(rgb, masks, strict=True)]
    rows: list[list[np.ndarray]] = []
    for start in range(0, len(scenes), COLUMNS):
        rows += [list(rgb[start : start + COLUMNS]), outlined[start : start + COLUMNS]]
    return save_grid(path, rows, title=title)


def lens_sheet(
    path: Path,
    stamps: NDArray[np.generic],
    positive: NDArray[np.bool_],
    answers: Answers,
    inputs: InputSpec,
    units: str,
    title: str,
    most: int = 30,
) -> Path:
    """The head of the ranked list: score, truth, and the arc found with its box and the outline of its mask."""
    order = np.argsort(-answers.score, kind="stable")[:most]
    rgb = crop_rgb(stamps[order], inputs, units)
    top = (inputs.stamp_size - inputs.crop) // 2
    pictures, captions = [], []
    for picture, place in zip(rgb, order.tolist(), strict=True):
        boxes = answers.boxes[place]
        if boxes and boxes[0][4] >= LEAST_DRAWN_SCORE:
            mask = np.kron(answers.masks[place], np.ones((inputs.binning,) * 2, dtype=bool))
            picture = frame(outline(picture, mask, MASK_COLOUR), [corner - top for corner in boxes[0][:4]], BOX_COLOUR)
        pictures.append(picture)
        captions.append(f"{answers.score[place]:.2f} {'lens' if positive[place] else 'no lens'}")
    starts = range(0, len(pictures), COLUMNS)
    rows = [pictures[i : i + COLUMNS] for i in starts]
    return save_grid(path, rows, captions=[captions[i : i + COLUMNS] for i in starts], title=title)


def purity_curve(path: Path, positive: NDArray[np.bool_], scores: NDArray[np.float64], title: str) -> Path:
    """Purity and completeness of the first N of the list, for every N."""
    lengths = np.arange(1, len(positive) + 1)
    curves: dict[str, tuple[ArrayLike, ArrayLike]] = {
        "purity": (lengths, [precision_at(positive, scores, int(n)) for n in lengths]),
        "completeness": (lengths, [completeness_at(positive, scores, int(n)) for n in lengths]),
        "purity of a random list": (lengths, np.full(len(lengths), positive.mean())),
    }
    return save_curves(path, curves, "stamps inspected, best score first", "share", title)


def outline(
    picture: NDArray[np.float32], mask: NDArray[np.bool_], colour: tuple[float, float, float]
) -> NDArray[np.float32]:
    """(3, H, W) with a line of one pixel around the mask (H, W)."""
    painted = picture.copy()
    painted[:, binary_dilation(mask) & ~mask] = np.array(colour, dtype=np.float32)[:, None]
    return painted


def frame(
    picture: NDArray[np.float32], box: Sequence[float], colour: tuple[float, float, float]
) -> NDArray[np.float32]:
    """(3, H, W) with the box x0, y0, x1, y1 (pixels) drawn on it, as far as it lies within."""
    painted = picture.copy()
    height, width = picture.shape[1:]
    x0, y0, x1, y1 = (
        int(np.clip(round(corner), 0, size - 1)) for corner, size in zip(box, (width, height) * 2, strict=True)
    )
    line = np.array(colour, dtype=np.float32)[:, None]
    painted[:, y0, x0 : x1 + 1] = painted[:, y1, x0 : x1 + 1] = line
    painted[:, y0 : y1 + 1, x0] = painted[:, y0 : y1 + 1, x1] = line
    return painted
