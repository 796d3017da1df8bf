"""The result catalogue: published whole or not at all, with the proof that no row was lost."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from infra.errors import GalaxyError
from tasks.infer.fits_table import fits_rows, write_fits
from tasks.reserved_array import create_reserved

PREDICTIONS, FITS, REFUSED_ROWS, PROOF = "predictions.parquet", "predictions.fits", "refused.parquet", "proof.json"
EMBEDDINGS = "embeddings.npy"


def publish(
    target: Path,
    pieces: Iterable[pa.Table],
    object_ids: NDArray[np.object_],
    origin: Mapping[str, Any],
    extras: Callable[[Path], None] | None = None,
) -> dict[str, Any]:
    """Write the catalogue aside, prove it, and only then give it its name.

    Parameters
    ----------
    target
        Folder of the catalogue. What an earlier run published there with the same digest stays as it is.
    pieces
        Tables in the order of the dataset, with `object_id`, `refused`, and embeddings as fixed-size lists, which go
        into `embeddings.npy` (`align_embeddings.npy`, ...) of as many rows.
    object_ids
        (N,) the dataset's, in its order: what must come out.
    origin
        `digest` of the catalogue, `dataset_digest`, `models`; kept in the proof.
    extras
        Called with the folder before it is published, to put more files into it.

    Returns
    -------
    dict
        The proof, as in `proof.json`: `rows_in`, `rows_out`, `refused` (reason to number), size and SHA-256 of each
        file, and `origin`.

    Raises
    ------
    GalaxyError
        If rows are missing, doubled or in another order, or the disk is full. Then nothing is published.
    """
    known = published(target)
    if known is not None and known["digest"] == origin["digest"]:
        return known
    aside = target.with_name(f".{target.name}.partial")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        with full_disk(target):
            _write(aside, pieces, len(object_ids), origin)
            if extras is not None:
                extras(aside)
            proof = _prove(aside, object_ids, origin)
            (aside / PROOF).write_text(json.dumps(proof, indent=2, sort_keys=True) + "\n")
            _to_disk(aside)
        _rename(aside, target)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return proof


@contextmanager
def full_disk(target: Path) -> Iterator[None]:
    """Say what a full disk means for whoever runs the stage."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise GalaxyError(
            f"the disk of {target} is full; the catalogue is not published. What is predicted so far is kept: "
            "make room and run again"
        ) from error


def _rename(aside: Path, target: Path) -> None:
    if not target.exists():
        aside.rename(target)
        return
    old = target.with_name(f".{target.name}.old")  # damaged, or of other content: it goes when the new one is ready
    shutil.rmtree(old, ignore_errors=True)
    target.rename(old)
    aside.rename(target)
    shutil.rmtree(old)


def published(target: Path) -> dict[str, Any] | None:
    """The proof of a published catalogue whose files are all as they were, else None."""
    try:
        proof = dict(json.loads((target / PROOF).read_text()))
    except (FileNotFoundError, ValueError):
        return None
    for name, record in proof["files"].items():
        path = target / name
        if not path.is_file() or path.stat().st_size != record["bytes"] or _sha256(path) != record["sha256"]:
            return None
    return proof


def _write(folder: Path, pieces: Iterable[pa.Table], count: int, origin: Mapping[str, Any]) -> None:
    """One row group per piece, embeddings straight into their files: memory stays flat as the dataset grows."""
    writer: pq.ParquetWriter | None = None
    vectors: dict[str, NDArray[np.float16]] = {}
    refused, start = [], 0
    try:
        for piece in pieces:
            lists = [field.name for field in piece.schema if pa.types.is_fixed_size_list(field.type)]
            for name in lists:
                values = matrix(piece[name])
                if name not in vectors:
                    path = folder / f"{name.removesuffix('embedding')}{EMBEDDINGS}"
                    shape = (count, values.shape[1])
                    vectors[name] = create_reserved(path, np.float16, shape)
                vectors[name][start : start + len(values)] = values
            kept = piece.drop_columns(lists).replace_schema_metadata({"origin": json.dumps(origin, sort_keys=True)})
            writer = writer or pq.ParquetWriter(folder / PREDICTIONS, kept.schema, compression="zstd")
            writer.write_table(kept)
            refused.append(kept.filter(pa.compute.is_valid(kept["refused"])).select(["row", "object_id", "refused"]))
            start += len(piece)
    finally:
        if writer is not None:
            writer.close()
        for array in vectors.values():
            array.flush()  # type: ignore[attr-defined] # a memmap
    pq.write_table(pa.concat_tables(refused), folder / REFUSED_ROWS)
    write_fits(folder / FITS, pq.ParquetFile(folder / PREDICTIONS), origin)


def matrix(column: pa.ChunkedArray) -> NDArray[np.float16]:
    """(n, D) of a column of fixed-size lists; a null row is NaN."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], array.type)
    if array.null_count:
        return np.full((len(array), array.type.list_size), np.nan, dtype=np.float16)
    flat = array.flatten().to_numpy(zero_copy_only=False)
    return np.asarray(flat, dtype=np.float16).reshape(len(array), array.type.list_size)


def _prove(folder: Path, object_ids: NDArray[np.object_], origin: Mapping[str, Any]) -> dict[str, Any]:
    """Read back what was written and account for every row of the dataset."""
    table = pq.read_table(folder / PREDICTIONS, columns=["object_id", "refused"]).to_pandas()
    found, rows_in = table["object_id"].to_numpy(object), len(object_ids)
    if len(found) != rows_in:
        raise GalaxyError(f"the catalogue has {len(found)} rows and the dataset {rows_in}; it is not published")
    wrong = np.flatnonzero(found != object_ids)
    if len(wrong):
        row = int(wrong[0])
        raise GalaxyError(
            f"row {row} of the catalogue is {found[row]!r}, of the dataset {object_ids[row]!r}; it is not published"
        )
    refused = Counter(str(reason) for reason in table["refused"].dropna())
    rows_out = int(table["refused"].isna().sum())
    lengths = {REFUSED_ROWS: (pq.read_metadata(folder / REFUSED_ROWS).num_rows, rows_in - rows_out)}
    lengths[FITS] = (fits_rows(folder / FITS), rows_in)
    for path in sorted(folder.glob(f"*{EMBEDDINGS}")):
        lengths[path.name] = (len(np.load(path, mmap_mode="r", allow_pickle=False)), rows_in)
    _same_lengths(lengths)
    names: Sequence[Path] = sorted(path for path in folder.iterdir() if path.name != PROOF)
    return {
        "rows_in": rows_in,
        "rows_out": rows_out,
        "refused": dict(sorted(refused.items())),
        "files": {path.name: {"bytes": path.stat().st_size, "sha256": _sha256(path)} for path in names},
        **origin,
    }


def _same_lengths(lengths: Mapping[str, tuple[int, int]]) -> None:
    for name, (found, expected) in lengths.items():
        if found != expected:
            raise GalaxyError(f"{name} has {found} rows, not {expected}; the catalogue is not published")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _to_disk(folder: Path) -> None:
    for path in [*folder.iterdir(), folder]:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_predictions(folder: Path, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The table of a catalogue, whose row i is row i of the dataset and of the embeddings.

    `columns` that it does not have are left out.
    """
    names = pq.read_schema(folder / PREDICTIONS).names
    kept = names if columns is None else [name for name in columns if name in names]
    return pd.read_parquet(folder / PREDICTIONS, columns=kept)
