"""Pixels of an uncompressed shard straight from its bytes.

A shard of a Zarr array is its chunks one after the other, then an index: offset and length of each
chunk as little-endian 64-bit numbers, then a checksum of the index (Zarr's sharding codec, version 1.0).
Without compression, and with the chunks in order, the pixels are a view of these bytes. Zarr itself
copies them twice, chunk by chunk. What is not exactly so is left to Zarr.
"""

from __future__ import annotations

import mmap

import numpy as np

from tasks.stamps.layout import StampLayout

INDEX_ENTRY = 16
INDEX_CHECKSUM = 4


def plain_pixels(data: bytes | mmap.mmap, layout: StampLayout, shard: int, dtype: np.dtype) -> np.ndarray | None:
    """A read-only view (n, C, H, W) of a shard's bytes, or None if its chunks do not lie as expected."""
    span = layout.span(shard)
    rows, per_chunk = span.stop - span.start, layout.chunk_stamps
    chunk_bytes = per_chunk * int(np.prod(layout.stamp_shape)) * dtype.itemsize
    in_shard, used = layout.shard // per_chunk, -(-rows // per_chunk)
    if len(data) != used * chunk_bytes + in_shard * INDEX_ENTRY + INDEX_CHECKSUM:
        return None
    index = np.frombuffer(data, "<u8", count=2 * in_shard, offset=used * chunk_bytes).reshape(in_shard, 2)
    offsets, lengths = index[:used].T
    if (offsets != np.arange(used) * chunk_bytes).any() or (lengths != chunk_bytes).any():
        return None
    pixels = np.frombuffer(data, dtype.newbyteorder("<"), count=used * chunk_bytes // dtype.itemsize)
    return pixels.reshape(-1, *layout.stamp_shape)[:rows]
