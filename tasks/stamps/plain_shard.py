"""The bytes of an uncompressed shard, written and read without detour.

A shard of a Zarr array is its chunks one after the other, then an index: offset and length of each
chunk as little-endian 64-bit numbers, then a checksum of the index (Zarr's sharding codec, version 1.0).
Without compression, and with the chunks in order, the pixels of a shard lie as they do in memory: they are
written from there in one go, and read as a view. Zarr itself copies them twice, chunk by chunk.
"""

from __future__ import annotations

import mmap

import google_crc32c
import numpy as np

from tasks.stamps.layout import StampLayout
from tasks.stamps.storage import Buffer

INDEX_ENTRY = 16
INDEX_CHECKSUM = 4
NO_CHUNK = 2**64 - 1
"""Offset and length, in the index, of a chunk that lies beyond the array's end."""


def shard_buffer(layout: StampLayout, rows: int, name: str) -> np.ndarray:
    """Zeros (n, C, H, W) for the pixels of a shard of `rows` stamps, n being whole chunks."""
    chunks = -(-rows // layout.chunk_stamps)
    return np.zeros((chunks * layout.chunk_stamps, *layout.stamp_shape), layout.dtype_of(name).newbyteorder("<"))


def shard_bytes(pixels: np.ndarray, layout: StampLayout) -> tuple[Buffer, Buffer]:
    """A shard's object, in two pieces: the pixels as they lie in a `shard_buffer`, and the index."""
    used, in_shard = len(pixels) // layout.chunk_stamps, layout.shard // layout.chunk_stamps
    chunk_bytes = pixels.nbytes // used
    index = np.full((in_shard, 2), NO_CHUNK, "<u8")
    index[:used] = [(number * chunk_bytes, chunk_bytes) for number in range(used)]
    data = index.tobytes()
    return pixels.data.cast("B"), data + google_crc32c.value(data).to_bytes(INDEX_CHECKSUM, "little")


def state_bytes(state: np.ndarray, layout: StampLayout) -> bytes:
    """The object of a shard of the array `state`: one chunk, filled up with zeros."""
    return state.astype(np.uint8).tobytes().ljust(layout.shard, b"\0")


def shard_pixels(data: bytes | mmap.mmap, layout: StampLayout, shard: int, dtype: np.dtype) -> np.ndarray | None:
    """A read-only view (n, C, H, W) of a shard's bytes, or None if its chunks do not lie as they are written here."""
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
