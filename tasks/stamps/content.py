"""Digests of content alone: the same stamps and columns give the same digest, however they were written."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pandas as pd

ROW_DIGEST_BYTES = 16
"""Of SHA-256, which today's processors compute twice as fast as BLAKE2."""


def row_digest(*arrays: np.ndarray) -> bytes:
    """Digest of one row's pixels."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.digest()[:ROW_DIGEST_BYTES]


def frame_digest(frame: pd.DataFrame) -> str:
    """SHA-256 (hex) of a table's values, row by row in each column; the order of columns does not matter.

    Whole numbers, fractions and booleans are taken by value, whatever their width; a missing value
    counts as missing, whether None or NaN.
    """
    digest = hashlib.sha256()
    for name in sorted(frame.columns):
        kind, data = _canonical(frame[name])
        digest.update(f"{name}:{kind}:{len(frame)}:".encode())
        digest.update(data)
    return digest.hexdigest()


def _canonical(column: pd.Series[Any]) -> tuple[str, bytes]:
    if pd.api.types.is_bool_dtype(column.dtype):
        return "bool", column.to_numpy(np.uint8).tobytes()
    if pd.api.types.is_integer_dtype(column.dtype):
        return "int", column.to_numpy("<i8").tobytes()
    if pd.api.types.is_float_dtype(column.dtype):
        values = column.to_numpy("<f8")
        # one bit pattern for every NaN, one for both zeros
        return "float", np.where(np.isnan(values), np.nan, values + 0.0).astype("<f8").tobytes()
    return "text", b"".join(_encoded(value) for value in column.to_numpy(object))


def _encoded(value: Any) -> bytes:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return b"-"
    data = value if isinstance(value, bytes) else str(value).encode()
    return b"%d:" % len(data) + data
