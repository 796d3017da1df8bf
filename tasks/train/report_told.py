"""What the pre-trained network tells of the survey's own galaxies after learning from simulated ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from galaxy_models.lvm import GalaxyLVM
from galaxy_models.metrics import macro_auc
from galaxy_models.volunteer_answers import log_chances, said_by_answers
from tasks.figures import save_grid
from tasks.ingest.labels import class_codes, class_names
from tasks.train.common import Rows
from tasks.train.pretrain_report import SHOWN_STAMPS, PretrainReport, Vectors

TOLD_CLASSES = ("round_smooth", "in_between_smooth", "cigar_smooth", "edge_on_disk", "spiral", "strong_bar", "merger")
"""Classes of the rows of the sheet."""


@torch.inference_mode()
def report_told(report: PretrainReport, network: GalaxyLVM) -> None:
    """What volunteers would say of each source's validation stamps: a sheet of those it is surest of, by class.

    For each label table whose classes volunteers' answers tell: the macro AUC on test stamps, of which the network
    has seen no label.
    """
    network = network.to(report.device).eval()
    for source, rows in report.validation():
        _sheet(report, source, rows, np.exp(_told(report, network, rows, TOLD_CLASSES)))
    for label in report.survey.tables("classification"):
        codes, names = class_codes(report.prepared.table, label), class_names(label)
        rows = report.labelled(codes, "test", label.source)
        if said_by_answers(names) is not None and len(rows):
            logs = torch.from_numpy(_told(report, network, rows, names))
            report.metrics[f"{label.name}.told_auc"] = macro_auc(codes[rows], logs.softmax(dim=1))


def _told(report: PretrainReport, network: GalaxyLVM, rows: Rows, classes: Sequence[str]) -> Vectors:
    """(n, classes): log-chance that a volunteer says each."""
    table = said_by_answers(classes)
    assert table is not None
    table = table.to(report.device)

    def said(rgb: Tensor) -> Tensor:
        chances = network.describe(rgb)[1]
        assert chances is not None
        return log_chances(chances) @ table

    return report.vectors(rows, said)


def _sheet(report: PretrainReport, source: str, rows: Rows, chances: Vectors) -> None:
    surest = [np.argsort(-column, kind="stable")[:SHOWN_STAMPS] for column in chances.T]
    report.keep(
        save_grid(
            report.folder / f"told_{source}.png",
            [[report.picture(row).cpu().numpy()[0] for row in rows[places]] for places in surest],
            [name.replace("_", " ") for name in TOLD_CLASSES],
            [[f"{column[place]:.2f}" for place in places] for column, places in zip(chances.T, surest, strict=True)],
            title=f"{source}, validation stamps: the chance that volunteers say so, learnt from simulated galaxies",
        )
    )
