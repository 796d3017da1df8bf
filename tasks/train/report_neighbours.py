"""Whom the pre-trained network's embedding calls alike."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from galaxy_models.lvm import GalaxyLVM
from galaxy_models.metrics import balanced_accuracy, knn_precision, linear_probe, mean_interval, nearest
from tasks.figures import save_grid, save_scatter
from tasks.ingest.labels import class_codes, class_names
from tasks.ingest.survey import LabelTable
from tasks.train.common import Rows
from tasks.train.pretrain_report import SHOWN_STAMPS, PretrainReport, Vectors

PIXEL_SIDE = 16
"""Pixels along a side of the small pictures that stand for `pixels` as an embedding."""

NEIGHBOURS = 10


@torch.inference_mode()
def report_neighbours(report: PretrainReport, network: GalaxyLVM, untrained: GalaxyLVM) -> None:
    """What the frozen embedding knows of each table that feeds `neighbours`; train stamps teach, test stamps ask.

    Precision of the nearest neighbours, and balanced accuracy of a linear probe. Beside the trained network's
    figures stand those of the same network untrained, of the pictures themselves at 16 x 16 pixels, and chance.
    """
    for label in report.survey.tables("neighbours"):
        _neighbours(report, label, network, untrained)


def _neighbours(report: PretrainReport, label: LabelTable, network: GalaxyLVM, untrained: GalaxyLVM) -> None:
    codes = class_codes(report.prepared.table, label)
    gallery, queries = (report.labelled(codes, split, label.source) for split in ("train", "test"))
    if not len(gallery) or not len(queries):
        return
    spaces: dict[str, Callable[[Tensor], Tensor]] = {
        "": network.to(report.device).eval().embed,
        "_untrained": untrained.to(report.device).eval().embed,
        "_pixels": _small_pictures,
    }
    name = f"{label.name}.knn_precision"
    for suffix, embed in spaces.items():
        vectors = report.vectors(gallery, embed), report.vectors(queries, embed)
        hits = knn_precision(vectors[1], codes[queries], vectors[0], codes[gallery], NEIGHBOURS)
        report.metrics[f"{name}{suffix}"] = float(hits.mean())
        probed = linear_probe(vectors[1], vectors[0], codes[gallery])
        report.metrics[f"{label.name}.linear_probe{suffix}"] = balanced_accuracy(codes[queries], probed)
        if not suffix:
            low, high = mean_interval(hits, seed=report.settings.seed)
            report.metrics.update({f"{name}_low": low, f"{name}_high": high})
            trained, scores = vectors, hits
    shares = np.bincount(codes[gallery], minlength=codes.max() + 1) / len(gallery)
    report.metrics[f"{name}_chance"] = float(shares[codes[queries]].mean())
    names = np.array(class_names(label))
    _sheet(report, label, trained, gallery, queries, names[codes[gallery]], names[codes[queries]])
    _map(report, label, trained[1], names[codes[queries]])
    if not report.headline.endswith("knn_precision"):
        rows = np.concatenate([queries, gallery])
        frame = pd.DataFrame(
            {
                "object_id": report.object_ids(rows),
                "label": names[codes[rows]],
                "role": ["query"] * len(queries) + ["gallery"] * len(gallery),
                "score": np.concatenate([scores, np.full(len(gallery), np.nan)]),
            }
        )
        report.judge_by(name, frame, higher_is_better=True, instead=True)


def _sheet(
    report: PretrainReport,
    label: LabelTable,
    vectors: tuple[Vectors, Vectors],
    gallery: Rows,
    queries: Rows,
    gallery_names: NDArray[np.str_],
    query_names: NDArray[np.str_],
) -> None:
    """One query of each class, chosen by place and not by success, and its nearest train stamps."""
    chosen = np.array([np.flatnonzero(query_names == name)[0] for name in sorted(set(query_names))])[:SHOWN_STAMPS]
    found = nearest(vectors[1][chosen], vectors[0], SHOWN_STAMPS - 1)
    rows, captions = [], []
    for query, neighbours in zip(chosen, found, strict=True):
        wanted = np.concatenate([queries[[query]], gallery[neighbours]])
        pictures = torch.cat([report.picture(row) for row in wanted])
        rows.append(list(pictures.cpu().numpy()))
        names = ["query: " + query_names[query], *gallery_names[neighbours]]
        captions.append([name.replace("_", " ") for name in names])
    title = f"{label.name}: nearest train stamps of test stamps"
    report.keep(save_grid(report.folder / f"neighbours_{label.name}.png", rows, captions=captions, title=title))


def _map(report: PretrainReport, label: LabelTable, vectors: Vectors, names: NDArray[np.str_]) -> None:
    """Test stamps on the first two principal components of their embeddings."""
    if len(vectors) < 3:
        return
    centred = vectors - vectors.mean(axis=0)
    _, spread, axes = np.linalg.svd(centred, full_matrices=False)
    # a component's sign is arbitrary; the largest weight is made positive
    axes = axes[:2] * np.sign(axes[:2][np.arange(2), np.abs(axes[:2]).argmax(axis=1)])[:, None]
    share = spread[:2] ** 2 / max(float((spread**2).sum()), 1e-12)
    first, second = (f"principal component {i + 1} ({share[i]:.0%} of the variance)" for i in range(2))
    path = report.folder / f"embedding_{label.name}.png"
    report.keep(save_scatter(path, centred @ axes.T, names.tolist(), first, second, f"{label.name}, test stamps"))


def _small_pictures(rgb: Tensor) -> Tensor:
    return functional.adaptive_avg_pool2d(rgb, PIXEL_SIDE).flatten(1)
