"""How stamps lie in Zarr: arrays, chunks, shards, and the names of their objects."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from zarr.core.buffer import Buffer
from zarr.storage import MemoryStore

from tasks.stamps.storage import Storage

GROUP = "stamps.zarr"
GROUP_METADATA = f"{GROUP}/zarr.json"
SHARD_BYTES = 150_000_000
"""A shard is never larger: it is read whole."""


@dataclass(frozen=True)
class StampLayout:
    """Geometry of one part.

    Attributes
    ----------
    shard_stamps, chunk_stamps
        Stamps in a shard, as asked for; `shard` says what is used.
    """

    rows: int
    bands: tuple[str, ...]
    stamp_size: int
    units: str
    shard_stamps: int
    chunk_stamps: int
    invvar: bool = False

    @property
    def dtype(self) -> np.dtype[Any]:
        """Display values are bytes, fluxes are halves: 11 bits of mantissa lie far below the sky noise."""
        return np.dtype(np.uint8 if self.units == "rgb" else np.float16)

    def dtype_of(self, name: str) -> np.dtype[Any]:
        """Type of the array `images` or `invvar`; halves would overflow in an inverse variance."""
        return np.dtype(np.float32) if name == "invvar" else self.dtype

    @property
    def stamp_shape(self) -> tuple[int, int, int]:
        """(C, H, W)."""
        return (len(self.bands), self.stamp_size, self.stamp_size)

    @property
    def shard(self) -> int:
        """Stamps in a shard: a multiple of the chunk, at most 150 MB, not more than there are rows."""
        pixel_bytes = 4 if self.invvar else self.dtype.itemsize
        fits = SHARD_BYTES // (int(np.prod(self.stamp_shape)) * pixel_bytes)
        chunks = min(self.shard_stamps, fits, self.rows + self.chunk_stamps - 1) // self.chunk_stamps
        return max(1, chunks) * self.chunk_stamps

    @property
    def shard_bytes(self) -> int:
        """Bytes of a full shard's pixels."""
        return self.shard * int(np.prod(self.stamp_shape)) * (self.dtype.itemsize + 4 * self.invvar)

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.rows // self.shard)

    def span(self, shard: int) -> slice:
        """Rows of a shard."""
        return slice(shard * self.shard, min((shard + 1) * self.shard, self.rows))

    def objects(self, shard: int) -> dict[str, str]:
        """Array name to the key of the one object that holds this shard of it."""
        keys = {"images": f"{GROUP}/images/c/{shard}/0/0/0", "state": f"{GROUP}/state/c/{shard}"}
        return {**keys, "invvar": f"{GROUP}/invvar/c/{shard}/0/0/0"} if self.invvar else keys

    def create(self, storage: Storage, attributes: dict[str, Any]) -> None:
        """Make the group and its empty arrays: what Zarr says of them, written object by object."""
        metadata: dict[str, Buffer] = {}
        group = zarr.create_group(MemoryStore(metadata), zarr_format=3, attributes=attributes)
        for name in ("images", "invvar") if self.invvar else ("images",):
            group.create_array(
                name,
                shape=(self.rows, *self.stamp_shape),
                chunks=(self.chunk_stamps, *self.stamp_shape),
                shards=(self.shard, *self.stamp_shape),
                dtype=self.dtype_of(name),
                fill_value=0,
                compressors=None,  # sky noise does not compress: 13 % of space for 25 % of speed
                dimension_names=("stamp", "band", "y", "x"),
            )
        group.create_array(
            "state",
            shape=(self.rows,),
            chunks=(self.shard,),
            dtype=np.uint8,
            fill_value=0,
            compressors=None,
            dimension_names=("stamp",),
        )
        for key, content in sorted(metadata.items()):
            storage.write(f"{GROUP}/{key}", content.to_bytes())


def describe_group(storage: Storage, **attributes: Any) -> None:
    """Add attributes to the group of a part."""
    content = json.loads(storage.read(GROUP_METADATA) or b"{}")
    content["attributes"] = {**content.get("attributes", {}), **attributes}
    storage.write(GROUP_METADATA, json.dumps(content, indent=2).encode())
