"""The stamps of 76 million galaxies that Stein et al. (2021, arXiv:2110.00023) published, in HDF5 files.

A file has a million rows of one list of galaxies, brightest first in z. Its arrays besides `images` are columns of the
survey's catalogue, some with a value for each band. Two defects are known: in the south some of the list's numbers,
`inds`, are skipped and some are there twice.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from functools import cached_property

import numpy as np
import pandas as pd

from infra.errors import GalaxyError
from infra.settings import Settings
from tasks.ingest.central_crop import central_stamp
from tasks.ingest.hdf5_files import ImageFile, open_images
from tasks.ingest.packed_files import PackedFiles, by_file, cells
from tasks.ingest.source_kinds import Columns, SteinSource
from tasks.ingest.source_table import OwnTable, own_label_columns
from tasks.ingest.survey import SurveyDefinition, expand
from tasks.ingest.tables import need_columns
from tasks.stamps.stamp import Refusal, Stamp

FILE_NAME = re.compile(r"_(\d{9})_\d{9}\.(?:h5|hdf5)$")
NUMBER = "inds"

log = logging.getLogger(__name__)


class SteinStamps:
    """Reads the stamps of such files; an object's id is its number in the list: that of the file's first row, and on.

    The list's own column of numbers would not do for ids, with the numbers that it has twice.
    """

    def __init__(self, source: SteinSource, definition: SurveyDefinition, settings: Settings) -> None:
        self.source = source
        self.bands = tuple(definition.bands)
        self.stamp_size = definition.stamp_size
        self._files = PackedFiles(f"source {source.name}", expand(source.folder, settings), source.files)
        self.table = SteinTable(source, definition, self._files)

    def rows(self) -> pd.DataFrame:
        """`object_id`, `ra`, `dec`, `field`, `file`, `pixel_scale`, and as far as the files have them also
        `psf_size_<band>` (FWHM, arcsec), `depth_<band>` (inverse variance of a point source, 1/nanomaggy^2), `ebv`.

        Raises
        ------
        GalaxyError
            If a file is missing, damaged or too small for the stamps, or lacks a column.
        """
        frame = self.table.frame
        observed = {name: frame[column] for name, column in _observed(self.bands).items() if column in frame}
        return self.table.rows().assign(file=frame["file"], pixel_scale=self.source.pixel_scale, **observed)

    def files(self) -> None:
        """See StampSource: a cell of `file` names a row besides the file."""

    def fingerprint(self) -> dict[str, str]:
        """See StampSource: names, sizes and times of the files."""
        return {f"{self.source.folder}: {', '.join(self.source.files)}": self._files.digest()}

    def read(self, rows: pd.DataFrame) -> list[Stamp | Refusal]:
        """A stamp, or the reason why there is none, for each row; every file is opened once.

        Raises
        ------
        GalaxyError
            If a file cannot be opened.
        OSError
            If the disk fails.
        """
        answers: list[Stamp | Refusal | None] = [None] * len(rows)
        channels = [self.source.survey_bands.index(band) for band in self.bands]
        for name, (numbers, places) in by_file(rows["file"]).items():
            with open_images(self._files, name) as file:
                for place, image in file.read_images(numbers):
                    answers[places[place]] = (
                        Refusal("unreadable image", detail=image)
                        if isinstance(image, str)
                        else central_stamp(image[channels], self.stamp_size, f"{name}#{numbers[place]}", {})
                    )
        return [answer for answer in answers if answer is not None]


class SteinTable(OwnTable):
    """The columns beside the images."""

    def __init__(self, source: SteinSource, definition: SurveyDefinition, files: PackedFiles) -> None:
        super().__init__(source.name, files.folder, Columns(ra="ra", dec="dec"))
        self._bands = source.survey_bands
        self._stamp_size = definition.stamp_size
        self._files = files
        self._labels = own_label_columns(source.name, definition)
        self._wanted = [*_observed(definition.bands).values(), *self._labels]

    @property
    def frame(self) -> pd.DataFrame:
        """A row for each of the files: `object_id`, `ra`, `dec`, `file`, columns of the observation and of labels.

        A row whose number was there before has the id of the row that had it first, so that it is refused.

        Raises
        ------
        GalaxyError
            If a file is missing or damaged, has no images that stamps can be cut from, or lacks a column.
        """
        return self._whole[0]

    @property
    def gaps(self) -> list[tuple[str, str]]:
        """Numbers of the list that a file skips, a line for each such file: galaxies whose stamps were lost."""
        return self._whole[1]

    @cached_property
    def _whole(self) -> tuple[pd.DataFrame, list[tuple[str, str]]]:
        tables: dict[str, pd.DataFrame] = {}
        known, last, end = {"object_id"}, "", 0
        for start, name in self._starts():
            if start < end:
                raise GalaxyError(
                    f"{self.what}: both {last} and {name} have row {start}; lists of their own, as north and south "
                    "are, need sources of their own: narrow `files` in the survey definition"
                )
            with open_images(self._files, name) as file:
                known |= set(file.columns(self._bands))
                tables[name] = self._table(file, start)
            last, end = name, start + len(tables[name])
        need_columns(pd.DataFrame(columns=sorted(known)), self._labels, self.place, self.what)
        frame = pd.concat(tables.values(), ignore_index=True)
        gaps: list[tuple[str, str]] = []
        if NUMBER in frame:
            numbers = frame[NUMBER].to_numpy(np.float64)
            first = _first_rows(numbers)
            frame["object_id"] = frame["object_id"].to_numpy()[first]
            own = np.where(first == np.arange(len(frame)), numbers, np.nan)
            parts = np.split(own, np.cumsum([len(table) for table in tables.values()])[:-1])
            skipped = [_skipped(name, part) for name, part in zip(tables, parts, strict=True)]
            gaps = [(f"number skipped in `{NUMBER}`", detail) for detail in skipped if detail]
        for reason, detail in gaps:
            log.warning("%s: %s: %s", self.what, reason, detail)
        return frame.astype({"object_id": str}).astype({"object_id": object}), gaps

    def _starts(self) -> list[tuple[int, str]]:
        """First row and name of each file, in order."""
        starts = []
        for name in self._files.names:
            match = FILE_NAME.search(name)
            if match is None:
                raise GalaxyError(
                    f"{self.what}: the name of {name} does not tell its first row, as that of "
                    "images_npix152_000000000_001000000.h5 does; narrow `files` in the survey definition"
                )
            starts.append((int(match[1]), name))
        return sorted(starts)

    def _table(self, file: ImageFile, start: int) -> pd.DataFrame:
        self._check(file)
        columns = file.read_columns(["ra", "dec", NUMBER, *self._wanted], self._bands)
        need_columns(pd.DataFrame(columns=sorted(columns)), ["ra", "dec"], self._files.place(file.name), self.what)
        ids = np.arange(start, start + len(file))
        return pd.DataFrame({"object_id": ids, "file": cells(file.name, len(file)), **columns})

    def _check(self, file: ImageFile) -> None:
        place, shape = self._files.place(file.name), file.images.shape
        if len(shape) != 4 or shape[1] != len(self._bands) or file.images.dtype.kind != "f":
            raise GalaxyError(
                f"{self.what}: the images of {place} are {shape} {file.images.dtype}, and should be fluxes (rows, "
                f"{len(self._bands)} bands, height, width); correct `survey_bands` or `files` in the survey definition"
            )
        if min(shape[2:]) < self._stamp_size:
            raise GalaxyError(
                f"{self.what}: the images of {place} are {shape[3]} x {shape[2]} px; make `stamp_size`, "
                f"{self._stamp_size}, at most {min(shape[2:])} in the survey definition"
            )


def _observed(bands: Sequence[str]) -> dict[str, str]:
    """The catalogue's column to the files'."""
    sizes = {f"psf_size_{band}": f"psfsize_{band}" for band in bands}
    return {**sizes, **{f"depth_{band}": f"psfdepth_{band}" for band in bands}, "ebv": "ebv"}


def _first_rows(numbers: np.ndarray) -> np.ndarray:
    """(N,) for each row the first one that has its number; itself where it has none."""
    _, first, inverse = np.unique(numbers, return_index=True, return_inverse=True)
    return np.where(np.isfinite(numbers), first[inverse], np.arange(len(numbers)))


def _skipped(name: str, numbers: np.ndarray) -> str:
    """What a file's numbers skip, NaN being none; empty if they skip nothing."""
    there = np.sort(numbers[np.isfinite(numbers)]).astype(np.int64)
    breaks = np.diff(there) - 1
    if not breaks.any():
        return ""
    first = there[:-1][breaks > 0][0] + 1
    return f"{name}: {breaks.sum()} numbers between {there[0]} and {there[-1]}, the first is {first}"
