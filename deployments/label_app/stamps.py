"""Pixels, digests and pictures of stamps, straight from the store; what was used last stays at hand."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deployments.label_app.catalogues import Catalogue
from deployments.label_app.pictures import STRETCHES, as_jpeg, show
from tasks.stamps.content import row_digest
from tasks.stamps.dataset import StampDataset

KEPT_PICTURES, KEPT_SHARDS = 4096, 8
"""Pictures take some 40 MB; shards on a disk none, since they are memory maps."""


class Kept:
    """The values used last, each made once."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """The value of a key, made if it is not kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
                return self._values[key]
        value = make()
        with self._lock:
            self._values[key] = value
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value


class Pictures:
    """Pixels, digests and pictures of single stamps."""

    def __init__(self) -> None:
        self._shards, self._digests, self._pictures = Kept(KEPT_SHARDS), Kept(1 << 16), Kept(KEPT_PICTURES)

    def pixels(self, catalogue: Catalogue, row: int) -> NDArray[np.generic]:
        """(C, H, W) raw stamp of a row, checked against the ledger."""
        dataset: StampDataset = catalogue.prepared.dataset
        where, offsets = dataset.locate(np.array([row]))
        shard = int(where[0])
        pixels: NDArray[np.generic] = self._shards.get((catalogue.name, shard), lambda: dataset.read_shard(shard))
        return pixels[int(offsets[0])]

    def digest(self, catalogue: Catalogue, row: int) -> str:
        """Digest (hex) of a stamp's pixels, as the store makes it."""
        made = self._digests.get((catalogue.name, row), lambda: row_digest(self.pixels(catalogue, row)).hex())
        return str(made)

    def jpeg(self, catalogue: Catalogue, row: int, stretch: str) -> bytes:
        """A stamp as a JPEG."""

        def make() -> bytes:
            dataset = catalogue.prepared.dataset
            return as_jpeg(show(self.pixels(catalogue, row), dataset.units, dataset.bands, STRETCHES[stretch]))

        made: bytes = self._pictures.get((catalogue.name, row, stretch), make)
        return made
