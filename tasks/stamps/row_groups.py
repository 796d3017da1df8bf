"""Tables that may be larger than memory: Parquet in row groups of one size, made from pieces of any size."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Sequence
from typing import IO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.stamps.storage import Storage

Pieces = Callable[[], Iterable[pd.DataFrame]]
"""Gives the pieces of a table in order; it is called twice, and gives the same both times."""


def one_piece(frame: pd.DataFrame) -> Pieces:
    """A table that is in memory."""
    return lambda: [frame]


def common_schema(frames: Iterable[pd.DataFrame]) -> pa.Schema:
    """The columns of all pieces with types that hold them all, in the order of the first piece that has each.

    Whole numbers with gaps become fractions, as in a piece of its own they would.
    """
    schemas: list[pa.Schema] = []
    gaps: set[str] = set()
    for frame in frames:
        table = pa.Table.from_pandas(frame, preserve_index=False)
        schemas.append(table.schema.remove_metadata())
        gaps |= {name for name in table.column_names if table.column(name).null_count}
        gaps |= {name for known in schemas for name in known.names if name not in table.column_names}
        gaps |= {name for name in table.column_names if any(name not in known.names for known in schemas)}
        schemas = [pa.unify_schemas(schemas, promote_options="permissive")]
    [schema] = schemas
    for place, field in enumerate(schema):
        if field.name in gaps and (pa.types.is_integer(field.type) or pa.types.is_boolean(field.type)):
            schema = schema.set(place, pa.field(field.name, pa.float64()))
    return schema


def as_table(frame: pd.DataFrame, schema: pa.Schema) -> pa.Table:
    """A piece in the types of the whole; columns that it lacks are missing."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    for name in schema.names:
        if name not in table.column_names:
            table = table.append_column(name, pa.nulls(len(table)))
    return table.select(schema.names).cast(schema)


def write_row_groups(file: IO[bytes], schema: pa.Schema, tables: Iterable[pa.Table], rows: int) -> None:
    """Write tables one after the other, in row groups of `rows` rows; the last one may be smaller."""
    with pq.ParquetWriter(file, schema) as writer:
        waiting: list[pa.Table] = []
        for table in tables:
            waiting.append(table)
            if sum(len(one) for one in waiting) >= rows:
                whole = pa.concat_tables(waiting)
                full = len(whole) // rows * rows
                for start in range(0, full, rows):
                    writer.write_table(whole.slice(start, rows), row_group_size=rows)
                waiting = [whole.slice(full)] if full < len(whole) else []
        if waiting:
            writer.write_table(pa.concat_tables(waiting), row_group_size=rows)


def write_pieces(storage: Storage, key: str, pieces: Pieces, rows: int) -> None:
    """Write a table in row groups of `rows` rows, without ever holding more than some pieces."""
    schema = common_schema(pieces())
    with storage.writing(key) as file:
        write_row_groups(file, schema, (as_table(frame, schema) for frame in pieces()), rows)


def read_row_groups(storage: Storage, key: str, numbers: Sequence[int]) -> pd.DataFrame:
    """Some row groups of a table."""
    with storage.open(key) as opened, pq.ParquetFile(opened) as file:
        return file.read_row_groups(list(numbers)).to_pandas()


def column_names(storage: Storage, key: str) -> list[str]:
    """Columns of a table of a store; raises FileNotFoundError if there is none."""
    with storage.open(key) as opened, pq.ParquetFile(opened) as file:
        return list(file.schema_arrow.names)


def read_parquet(storage: Storage, key: str, columns: list[str] | None = None) -> pd.DataFrame:
    """A whole table of a store; raises FileNotFoundError if there is none."""
    with storage.open(key) as opened:
        return pd.read_parquet(opened, columns=columns)


def to_parquet(frame: pd.DataFrame) -> bytes:
    """A small table as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    frame.to_parquet(buffer, index=False)
    return buffer.getvalue()
