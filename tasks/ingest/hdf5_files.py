"""HDF5 files with an array of images and columns beside it, read in few and large pieces."""

from __future__ import annotations

import gc
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import h5py
import numpy as np

from infra.errors import GalaxyError
from tasks.ingest.image_files import is_files_fault
from tasks.ingest.packed_files import PackedFiles

IMAGES = "images"

NEAR = 4
"""Rows: what lies between two wanted ones no farther apart is read with them, as cheap as a second request."""

PIECE_BYTES = 64_000_000
"""Pixels read at once, where chunks of the file do not ask for more."""


class ImageFile:
    """One open file."""

    def __init__(self, files: PackedFiles, name: str, file: h5py.File) -> None:
        self._files = files
        self.name = name
        self._file = file
        images = file.get(IMAGES)
        if not isinstance(images, h5py.Dataset):
            raise GalaxyError(
                f"{files.what}: {files.place(name)} has no array `{IMAGES}`; it has {', '.join(file)}. Correct the "
                "file in the survey definition"
            )
        self.images = images

    def __len__(self) -> int:
        return int(self.images.shape[0])

    def columns(self, bands: Sequence[str] = ()) -> dict[str, tuple[str, int | None]]:
        """Columns that there are: name to array and, in an array with a value for each band, place of the band.

        Published files have arrays that are shorter than the images; they say nothing of which rows they mean.
        """
        found: dict[str, tuple[str, int | None]] = {}
        for key, values in self._file.items():
            if not isinstance(values, h5py.Dataset) or values.shape[:1] != (len(self),):
                continue
            if values.ndim == 1:
                found[key] = (key, None)
            elif bands and values.shape[1:] == (len(bands),):
                found |= {f"{key}_{band}": (key, place) for place, band in enumerate(bands)}
        return found

    def read_columns(self, names: Iterable[str], bands: Sequence[str] = ()) -> dict[str, np.ndarray]:
        """Those of some columns that there are, each array read once.

        Raises
        ------
        GalaxyError
            If one is damaged.
        """
        known = self.columns(bands)
        wanted = {name: known[name] for name in names if name in known}
        arrays: dict[str, np.ndarray] = {}
        try:
            for key, _ in wanted.values():
                if key not in arrays:
                    arrays[key] = _plain(self._file[key][:])
        except Exception as error:  # HDF5's filters raise errors of kinds of their own
            self._files.refuse(self.name, error)
        return {
            name: arrays[key] if place is None else np.ascontiguousarray(arrays[key][:, place])
            for name, (key, place) in wanted.items()
        }

    def read_images(self, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray | str]]:
        """The images of some rows, in rising order: place in `rows`, and pixels, or what is wrong with them.

        Raises
        ------
        GalaxyError
            If the file has fewer rows by now.
        OSError
            If the disk fails, not the file: another attempt may read it.
        """
        if len(rows) and rows[-1] >= len(self):
            raise GalaxyError(
                f"{self._files.what}: {self._files.place(self.name)} has {len(self)} images and no row {rows[-1]} any "
                "more; leave files alone while they are read, and run again"
            )
        row_bytes = int(np.prod(self.images.shape[1:])) * self.images.dtype.itemsize
        chunk = self.images.chunks[0] if self.images.chunks else 1
        for piece in _pieces(rows, chunk, max(1, PIECE_BYTES // row_bytes)):
            yield from self._read_piece(rows, piece, chunk)

    def _read_piece(self, rows: np.ndarray, piece: range, chunk: int) -> Iterator[tuple[int, np.ndarray | str]]:
        first, last = int(rows[piece[0]]), int(rows[piece[-1]])
        try:
            pixels = self.images[first : last + 1]
        except GalaxyError:
            raise
        except Exception as error:  # HDF5's filters raise errors of kinds of their own
            if not is_files_fault(error):
                raise
            if first // chunk == last // chunk:  # an image lies in all chunks of its rows: they share their fate
                yield from ((place, f"{self.name}: {error}") for place in piece)
                return
            for part in _pieces(rows[piece.start : piece.stop], chunk, 1):
                yield from self._read_piece(rows, range(piece.start + part.start, piece.start + part.stop), chunk)
            return
        for place in piece:
            yield place, pixels[rows[place] - first]


@contextmanager
def open_images(files: PackedFiles, name: str) -> Iterator[ImageFile]:
    """Open a file of `files` to read.

    Raises
    ------
    GalaxyError
        If it is missing, damaged, cut short, or has no images.
    """
    with files.open(name) as source, _no_collection(not isinstance(source, str)):
        try:
            # no lock: file systems of large archives often have none, and nobody writes here
            file = h5py.File(source, "r", locking=False) if isinstance(source, str) else h5py.File(source, "r")
        except Exception as error:
            files.refuse(name, error)
        with file:
            yield ImageFile(files, name, file)


@contextmanager
def _no_collection(needed: bool) -> Iterator[None]:
    """No cycles are collected while HDF5 reads over a connection.

    It holds its lock while the thread of the connection works; a collection there that meets one of its objects would
    wait for that lock for ever.
    """
    if not needed or not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _pieces(rows: np.ndarray, chunk: int, most: int) -> Iterator[range]:
    """Places of rising `rows` that are read at once: those in one chunk always, others if near, up to `most` rows."""
    start = 0
    for place in range(1, len(rows) + 1):
        if place < len(rows):
            row, before = rows[place], rows[place - 1]
            one_chunk = row // chunk == before // chunk and chunk > 1
            if one_chunk or (row - before <= NEAR and row - rows[start] < most):
                continue
        yield range(start, place)
        start = place


def _plain(values: np.ndarray) -> np.ndarray:
    """Values in the machine's byte order, text as text."""
    if values.dtype.kind in "SO":
        return np.array([value.decode() if isinstance(value, bytes) else value for value in values], object)
    return values.astype(values.dtype.newbyteorder("="), copy=False)
