"""Whether the pre-trained network knows a galaxy again in another look at it."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from galaxy_models.augment import Augmentation, augmented_input
from galaxy_models.lvm import GalaxyLVM
from galaxy_models.metrics import nearest
from galaxy_models.training import step_seed
from tasks.train.common import Rows, stamps_in_order
from tasks.train.pretexts import view_augmentation_of
from tasks.train.pretrain_report import BATCH, PretrainReport


@torch.inference_mode()
def report_views(report: PretrainReport, network: GalaxyLVM, untrained: GalaxyLVM) -> None:
    """Share of validation stamps of each source whose second look is the nearest of all to the first.

    Looks are drawn as in training, but not observed anew; the embedding is the one that users get. Beside it stands
    the untrained network's share.
    """
    augmentation = view_augmentation_of(report.prepared.dataset.units, report.settings)
    for source, rows in report.validation():
        if len(rows) < 2:
            continue
        spaces = {"": network.to(report.device).eval(), "_untrained": untrained.to(report.device).eval()}
        looks = [_looks(report, rows, augmentation, look) for look in range(2)]
        for suffix, space in spaces.items():
            first, second = (np.concatenate([space.embed(rgb).float().cpu().numpy() for rgb in look]) for look in looks)
            hits = nearest(first, second, 1)[:, 0] == np.arange(len(rows))
            report.metrics[f"{source}.view_match{suffix}"] = float(hits.mean())
            if not suffix:
                ids, scores = report.object_ids(rows), hits.astype(np.float64)
                frame = pd.DataFrame({"object_id": ids, "label": source, "score": scores})
                report.judge_by(f"{source}.view_match", frame, higher_is_better=True)


def _looks(report: PretrainReport, rows: Rows, augmentation: Augmentation, look: int) -> list[Tensor]:
    """A look at each stamp, batch by batch: the same for every network of these settings."""
    views = []
    for number, stamps in enumerate(stamps_in_order(report.prepared, rows, BATCH)):
        generator = torch.Generator().manual_seed(step_seed(report.settings.seed, 2_000_000_000 + 2 * number + look))
        view = augmented_input(stamps, report.prepared.dataset.units, report.inputs, augmentation, generator)
        views.append(view.to(report.device))
    return views
