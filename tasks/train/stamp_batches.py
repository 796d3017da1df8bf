"""The batches of raw stamps that pre-training takes from the stamp store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from galaxy_models.training import this_process
from infra.profile import PretrainSettings
from tasks.stamps.loader import StampBatches

CACHE_BYTES = 1 << 30
"""Of all processes that read stamps, together."""


def stamp_batches(
    root: str, rows: NDArray[np.int64], settings: PretrainSettings, first: int
) -> Iterable[dict[str, Any]]:
    """This process's batches of raw stamps from batch `first` on, read ahead by `loader_workers` processes.

    Their order does not depend on the number of readers.
    """
    processes, workers = this_process(), settings.loader_workers
    batches = StampBatches(
        root,
        rows,
        settings.batch_size,
        settings.seed,
        start_batch=first + processes.rank,
        every=processes.count,
        cache_bytes=CACHE_BYTES // (processes.here * max(1, workers)),
    )
    if not workers:
        return batches
    # Zarr's threads do not survive a fork
    return DataLoader(
        batches,
        batch_size=None,
        num_workers=workers,
        multiprocessing_context="forkserver",
        pin_memory=torch.cuda.is_available(),
    )
