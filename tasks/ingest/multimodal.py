"""Stamps of the Multimodal Universe (arXiv:2412.02527) and of sets like it: Parquet files, a row an object."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from galaxy_models.photometry import ZERO_POINT
from infra.errors import GalaxyError
from infra.settings import Settings
from tasks.ingest.central_crop import central_stamp
from tasks.ingest.packed_files import PackedFiles, by_file
from tasks.ingest.parquet_images import BandImage, Fields, ParquetImages, open_parquet
from tasks.ingest.source_kinds import MultimodalSource
from tasks.ingest.source_table import OwnTable, own_label_columns
from tasks.ingest.survey import SurveyDefinition, expand
from tasks.ingest.tables import need_columns
from tasks.stamps.stamp import Refusal, Stamp

SCALE_TOLERANCE = 0.01
"""Relative difference between the pixel scale of a band and that of the definition, or of another band."""

SCALE_DECIMALS = 6
"""Of a pixel scale, arcsec, that single precision still tells."""

BAND, SEEING, SCALE = "band", "psf_fwhm", "scale"

FILE, ROW = "file", "row"
"""Columns of the table that say where an object is; ids may be made of them."""


class MultimodalUniverse:
    """Reads the stamps of such files."""

    def __init__(self, source: MultimodalSource, definition: SurveyDefinition, settings: Settings) -> None:
        self.source = source
        self.bands = tuple(definition.bands)
        self.stamp_size = definition.stamp_size
        self.keep_invvar = definition.invvar
        self._factor = np.float32(10 ** ((ZERO_POINT - source.zero_point) / 2.5))
        self._files = PackedFiles(f"source {source.name}", expand(source.folder, settings), source.files)
        self.table = MultimodalTable(source, definition, self._files)

    def rows(self) -> pd.DataFrame:
        """`object_id`, `ra`, `dec` (NaN without positions), `field`, `file`, and as far as the files have them
        `depth_<band>` (inverse variance of a point source, 1/nanomaggy^2) and `ebv`.

        Raises
        ------
        GalaxyError
            If a file is missing or damaged, or lacks a column.
        """
        frame = self.table.frame
        observed = {name: frame[name] for name in (*(f"depth_{band}" for band in self.bands), "ebv") if name in frame}
        places = frame[FILE] + "#" + frame[ROW].str.lstrip("0").replace("", "0")
        return self.table.rows().assign(file=places.astype(object), **observed)

    def files(self) -> None:
        """See StampSource: a cell of `file` names a row besides the file."""

    def fingerprint(self) -> dict[str, str]:
        """See StampSource: names, sizes and times of the files."""
        return {f"{self.source.folder}: {', '.join(self.source.files)}": self._files.digest()}

    def read(self, rows: pd.DataFrame) -> list[Stamp | Refusal]:
        """A stamp with `psf_size_<band>` and `pixel_scale`, or the reason why there is none, for each row.

        Raises
        ------
        GalaxyError
            If a file cannot be opened, or has no such images.
        OSError
            If the disk fails.
        """
        source = self.source
        planes = (source.flux, source.invvar) if self.keep_invvar else (source.flux,)
        fields = Fields(source.image, BAND, planes, (SEEING, SCALE))
        answers: list[Stamp | Refusal | None] = [None] * len(rows)
        for name, (numbers, places) in by_file(rows["file"]).items():
            with open_parquet(self._files, name) as file:
                for place, image in file.read_images(numbers, fields):
                    answers[places[place]] = (
                        Refusal("unreadable image", detail=image)
                        if isinstance(image, str)
                        else self._stamp(image, f"{name}#{numbers[place]}")
                    )
        return [answer for answer in answers if answer is not None]

    def _stamp(self, image: dict[str, BandImage], name: str) -> Stamp | Refusal:
        source = self.source
        wanted = {band: source.band_names.get(band, band) for band in self.bands}
        absent = [band for band, key in wanted.items() if key not in image]
        if absent:
            detail = f"{name} has {', '.join(image)}, the definition wants {absent[0]} as {wanted[absent[0]]!r}"
            return Refusal("wrong bands", detail=detail)
        found = {band: image[key] for band, key in wanted.items()}
        if len({plane.shape for each in found.values() for plane in each.planes.values()}) > 1:
            return Refusal("bands of different sizes", detail=name)
        scales = [value for value in (each.numbers.get(SCALE, np.nan) for each in found.values()) if value > 0]
        given = source.pixel_scale or (scales[0] if scales else None)
        if given and any(abs(scale / given - 1) > SCALE_TOLERANCE for scale in scales):
            told = ", ".join(f"{scale:.4g}" for scale in scales)
            whose = "the definition has" if source.pixel_scale else "they should be one, as the first:"
            return Refusal("pixel scale does not fit", detail=f'{name} has {told} "/px, {whose} {given:g}')
        scale = round(scales[0], SCALE_DECIMALS) if scales else given
        columns: dict[str, Any] = {"pixel_scale": scale}
        for band, each in found.items():
            seeing = each.numbers.get(SEEING, np.nan)
            columns[f"psf_size_{band}"] = seeing if seeing > 0 else None
        fluxes = np.stack([each.planes[source.flux] for each in found.values()]) * self._factor
        invvar = None
        if self.keep_invvar:
            invvar = np.stack([each.planes[source.invvar] for each in found.values()]) / self._factor**2
        return central_stamp(fluxes, self.stamp_size, name, columns, invvar)


class MultimodalTable(OwnTable):
    """The columns beside the images, with the names of the files and rows that they are from."""

    def __init__(self, source: MultimodalSource, definition: SurveyDefinition, files: PackedFiles) -> None:
        super().__init__(source.name, files.folder, source.columns)
        self._files = files
        self._bands = tuple(definition.bands)
        columns = source.columns
        named = [*columns.id_columns, columns.ra, columns.dec, columns.field]
        self._wanted = [*(name for name in named if name), *own_label_columns(source.name, definition)]

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row for each of the files: `file`, `row` (digits that sort as numbers do), ids, positions, labels, and
        `depth_<band>` and `ebv` if there are any.

        Raises
        ------
        GalaxyError
            If a file is missing or damaged, or lacks a column.
        """
        tables = []
        for name in self._files.names:
            with open_parquet(self._files, name) as file:
                tables.append(self._table(file))
        frame = pd.concat(tables, ignore_index=True)
        for name in self.columns.id_columns:
            if pd.api.types.is_float_dtype(frame[name]):
                raise GalaxyError(
                    f"{self.what}: column {name!r} in {self.place} has fractions, or rows without a value, and cannot "
                    "be an id; name another in `columns` of the survey definition, such as ['file', 'row']"
                )
        return frame

    def _table(self, file: ParquetImages) -> pd.DataFrame:
        there = file.columns
        self._need(file, [name for name in self._wanted if name not in (FILE, ROW)])
        by_lower_case = {name.lower(): name for name in there}  # sets differ in how they write the survey's columns
        observed = {f"depth_{band}": by_lower_case.get(f"psfdepth_{band}") for band in self._bands}
        observed["ebv"] = by_lower_case.get("ebv")
        names = {name: column for name, column in observed.items() if column is not None}
        own = [name for name in self._wanted if name not in (FILE, ROW)]
        table = file.table(list(dict.fromkeys([*own, *names.values()])))
        for name, column in names.items():
            table[name] = table[column].astype(np.float64)
        rows = pd.Series(np.arange(len(file))).astype(str).str.zfill(9)
        table[FILE] = pd.Series([file.name] * len(file), dtype=object)
        table[ROW] = rows.astype(object)
        return table

    def _need(self, file: ParquetImages, names: list[str]) -> None:
        columns, place = self.columns, self._files.place(file.name)
        if columns.ra is not None and not {columns.ra, columns.dec}.issubset(file.columns):
            raise GalaxyError(
                f"{self.what}: {place} has no columns {columns.ra!r} and {columns.dec!r}; it has "
                f"{', '.join(file.columns)}. Correct `ra` and `dec` in `columns` of the survey definition; "
                "for a set without positions, write `columns` without them"
            )
        need_columns(pd.DataFrame(columns=file.columns), names, place, self.what)
