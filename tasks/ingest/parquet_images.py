"""Images in a nested column of a Parquet file, as sets on Hugging Face have them, read row group by row group."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from infra.errors import GalaxyError
from tasks.ingest.image_files import is_files_fault
from tasks.ingest.packed_files import PackedFiles

BATCH_ROWS = 16
"""Images decoded at once: a row group may hold more than fits into memory."""

BUFFER_BYTES = 1 << 22
"""Read ahead in a column, instead of a whole row group of it."""


@dataclass(frozen=True)
class BandImage:
    """One band of an object: its planes (H, W) float32 by field, and its numbers by field, NaN where missing."""

    planes: dict[str, np.ndarray]
    numbers: dict[str, float]


@dataclass(frozen=True)
class Fields:
    """What is read of the nested column.

    Attributes
    ----------
    column
        Its name; it holds a list of bands, or for each field a list over the bands.
    band
        Field with the band's name.
    planes
        Fields with an image, as rows of pixels or as all its pixels in one list.
    numbers
        Fields with a number. They may be missing.
    """

    column: str
    band: str
    planes: tuple[str, ...]
    numbers: tuple[str, ...]


class ParquetImages:
    """One open file."""

    def __init__(self, files: PackedFiles, name: str, file: pq.ParquetFile) -> None:
        self._files = files
        self.name = name
        self._file = file

    def __len__(self) -> int:
        return int(self._file.metadata.num_rows)

    @property
    def columns(self) -> list[str]:
        """Names of the columns that hold one value a row."""
        return [field.name for field in self._file.schema_arrow if not pa.types.is_nested(field.type)]

    def table(self, names: Sequence[str]) -> pd.DataFrame:
        """Columns that hold one value a row; raises GalaxyError if one is damaged."""
        try:
            return self._file.read(columns=list(names), use_threads=False).to_pandas()
        except Exception as error:  # Arrow's decoders raise errors of several kinds
            self._files.refuse(self.name, error)

    def read_images(self, rows: np.ndarray, fields: Fields) -> Iterator[tuple[int, dict[str, BandImage] | str]]:
        """The images of some rows, in rising order: place in `rows`, and bands by name, or what is wrong with them.

        Raises
        ------
        GalaxyError
            If the nested column or a field is missing, or the file has fewer rows by now.
        OSError
            If the disk fails, not the file: another attempt may read it.
        """
        if len(rows) and rows[-1] >= len(self):
            raise GalaxyError(
                f"{self._files.what}: {self._files.place(self.name)} has {len(self)} rows and no row {rows[-1]} any "
                "more; leave files alone while they are read, and run again"
            )
        leaves = self._leaves(fields)
        sizes = [self._file.metadata.row_group(group).num_rows for group in range(self._file.metadata.num_row_groups)]
        ends = np.cumsum(sizes)
        groups = np.searchsorted(ends, rows, side="right")
        for group in np.unique(groups):
            places = np.flatnonzero(groups == group)
            yield from self._read_group(int(group), rows[places] - (ends[group] - sizes[group]), places, leaves, fields)

    def _read_group(
        self, group: int, rows: np.ndarray, places: np.ndarray, leaves: list[str], fields: Fields
    ) -> Iterator[tuple[int, dict[str, BandImage] | str]]:
        """Images of rows of one row group, which are decoded from its beginning on."""
        start, done = 0, 0
        batches = self._file.iter_batches(BATCH_ROWS, row_groups=[group], columns=leaves, use_threads=False)
        while done < len(rows):
            try:
                column = next(batches).column(0)
            except GalaxyError:
                raise
            except Exception as error:  # Arrow's decoders raise errors of several kinds
                if not is_files_fault(error):
                    raise
                for place in places[done:]:
                    yield int(place), f"{self.name}, row group {group}: {error or 'it ends too early'}"
                return
            while done < len(rows) and rows[done] < start + len(column):
                yield int(places[done]), _bands(column, int(rows[done]) - start, fields)
                done += 1
            start += len(column)

    def _leaves(self, fields: Fields) -> list[str]:
        """Paths of the primitive columns below the nested one that are read."""
        schema = self._file.schema
        paths = [schema.column(i).path for i in range(len(schema))]
        inside = {path: path.split(".")[1:] for path in paths if path.split(".")[0] == fields.column}
        there = {part for parts in inside.values() for part in parts}
        absent = [name for name in (fields.band, *fields.planes) if name not in there]
        if absent:
            raise GalaxyError(
                f"{self._files.what}: {self._files.place(self.name)} has no column `{fields.column}` with a field "
                f"`{absent[0]}`; it has {', '.join(paths)}. Correct its name in the survey definition"
            )
        wanted = {fields.band, *fields.planes, *fields.numbers}
        return [path for path, parts in inside.items() if wanted.intersection(parts)]


@contextmanager
def open_parquet(files: PackedFiles, name: str) -> Iterator[ParquetImages]:
    """Open a file of `files` to read.

    Raises
    ------
    GalaxyError
        If it is missing, damaged or cut short.
    """
    with files.open(name) as source:
        try:
            file = pq.ParquetFile(source, pre_buffer=False, buffer_size=BUFFER_BYTES)
        except Exception as error:
            files.refuse(name, error)
        with file:
            yield ParquetImages(files, name, file)


def _bands(column: pa.Array, row: int, fields: Fields) -> dict[str, BandImage] | str:
    """Bands of one object by name, or what is wrong with them."""
    lists = _lists(column, row)
    if lists is None:
        return "the row has no image"
    names = lists[fields.band].to_pylist()
    found = {}
    try:
        for place, name in enumerate(names):
            planes = {field: _plane(lists[field][place].values) for field in fields.planes}
            numbers = {field: _number(lists[field][place].as_py()) for field in fields.numbers if field in lists}
            found[str(name)] = BandImage(planes, numbers)
    except ValueError as error:
        return str(error)
    return found


def _lists(column: pa.Array, row: int) -> dict[str, pa.Array] | None:
    """Field to its values in all bands of one object, however the column is nested; None if it is empty."""
    if not column[row].is_valid:
        return None
    if pa.types.is_struct(column.type):
        lists = {field.name: column.field(field.name)[row].values for field in column.type}
    else:
        bands = column[row].values
        lists = {field.name: bands.field(field.name) for field in bands.type}
    return None if any(values is None for values in lists.values()) else lists


def _plane(pixels: pa.Array | None) -> np.ndarray:
    """(H, W) float32 of rows of pixels, or of all pixels of a square image one after the other."""
    if pixels is None or len(pixels) == 0:
        raise ValueError("a band has no pixels")
    height = None
    while pa.types.is_nested(pixels.type):
        height = len(pixels) if height is None else height
        pixels = pixels.flatten()
    values = pixels.to_numpy(zero_copy_only=False).astype(np.float32)
    height = isqrt(len(values)) if height is None else height
    if len(values) == 0 or len(values) % height:
        raise ValueError(f"{len(values)} pixels are no image of {height} rows")
    return values.reshape(height, -1)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else np.nan
