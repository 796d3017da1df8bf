"""Two sources of classes, of which one has nine times the stamps."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from galaxy_models.multitask import HeadScheme
from infra.progress import silent
from tasks.train.finetune_batches import BatchDrawer, label_groups
from tasks.train.label_tables import LabelledStamps
from tasks.train.working_copy import make_working_copy
from tests.doubles.labelled_ellipses import prepared_of


def uneven_drawer(folder: Path) -> BatchDrawer:
    """Draws four of 180 stamps of `near` or of 20 of `far`, or two of all 320 without labels."""

    def table(name: str, source: str, rows: np.ndarray) -> LabelledStamps:
        scheme = HeadScheme(name, source, "classes", ("a", "b"))
        split = np.full(len(rows), "train")
        return LabelledStamps(scheme, rows, split, {"code": (rows % 2).astype(np.int64)})

    copy = make_working_copy(folder / "copy.npy", prepared_of("rgb").dataset, np.arange(320), silent)
    tables = [table("large", "near", np.arange(180)), table("small", "far", np.arange(180, 200))]
    return BatchDrawer(label_groups(tables, 20.0, 0.5), np.arange(320), copy, 4, seed=0)
