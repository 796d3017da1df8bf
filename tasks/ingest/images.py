"""A folder of JPEG, PNG or FITS images with a table."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from infra.errors import GalaxyError
from infra.remote import file_system, is_url, join, persistently, shown
from infra.settings import SKY_VARIABLE, Settings
from infra.stage_folder import canonical_digest
from tasks.ingest.fingerprint import listing_digest, table_digest
from tasks.ingest.image_files import open_fluxes, open_picture
from tasks.ingest.resample import flux_stamp, kept_side, picture_stamp
from tasks.ingest.source_kinds import ImagesSource
from tasks.ingest.source_table import Batch, SourceTable
from tasks.ingest.survey import SurveyDefinition, expand
from tasks.ingest.tables import object_ids
from tasks.stamps.stamp import Refusal, Stamp

SCALE_TOLERANCE = 0.01
"""Relative difference between the pixel scale of a file and that of the definition."""

FITS_SUFFIXES = (".fits", ".fit", ".fits.gz", ".fits.fz")


class ImageFolder:
    """Reads the images that a table names, each as the central square at the stamp's size."""

    def __init__(self, source: ImagesSource, definition: SurveyDefinition, settings: Settings) -> None:
        self.source = source
        self.folder = expand(source.folder, settings)
        self.table = SourceTable(source.name, source.catalogue, source.columns, definition, settings)
        self.units = definition.units
        self.bands = tuple(definition.bands)
        self.stamp_size = definition.stamp_size

    def rows(self) -> pd.DataFrame:
        """One row per row of the table, whatever is wrong with it: `object_id`, `ra`, `dec`, `field`, `file`.

        Raises
        ------
        GalaxyError
            If the folder, the catalogue or a column is missing.
        """
        return pd.concat(batch.rows for batch in self.batches())

    def batches(self) -> Iterator[Batch]:
        """See Streaming; errors as of `rows`."""
        self._need_folder()
        for cells in self.table.batches():
            files = self._files(cells)
            yield Batch(self.table.rows(cells).assign(file=files, version=files.map(self._listing)), cells)

    def files(self) -> set[str]:
        """Names of all files in the folder, relative to it."""
        return set(self._listing)

    def fingerprint(self) -> dict[str, str]:
        """See StampSource: the table's content, and names, sizes and times of the images."""
        self._need_folder()
        local = not is_url(self.folder)
        images = listing_digest(Path(self.folder)) if local else canonical_digest(sorted(self._listing.items()))
        return {self.source.catalogue: table_digest(self.table.place), self.source.folder: images}

    def _need_folder(self) -> None:
        if not (self._listing if is_url(self.folder) else Path(self.folder).is_dir()):
            raise GalaxyError(
                f"{self.table.what}: no folder {shown(self.folder)}; correct `folder` in the survey definition, "
                f"or set {SKY_VARIABLE} to where the images are"
            )

    @cached_property
    def _listing(self) -> dict[str, str]:
        """Name of each file, relative to the folder, to its size and time: another image has others."""
        if is_url(self.folder):
            system, root = file_system(self.folder)
            told = persistently(lambda: system.find(root, detail=True), shown(self.folder))
            prefix = root.rstrip("/") + "/"
            return {
                str(path).removeprefix(prefix): f"{one['size']} {one.get('ETag') or one.get('LastModified')}"
                for path, one in told.items()
            }
        found = {}
        for folder, _, names in os.walk(self.folder):
            for path in (Path(folder) / name for name in names):
                state = path.stat()
                found[path.relative_to(self.folder).as_posix()] = f"{state.st_size} {state.st_mtime_ns}"
        return found

    @contextmanager
    def _on_disk(self, name: str) -> Iterator[Path]:
        """Path of an image; a remote one is fetched for as long as the context lasts."""
        if not is_url(self.folder):
            yield Path(self.folder) / name
            return
        system, path = file_system(join(self.folder, name))
        with tempfile.TemporaryDirectory() as scratch:
            here = Path(scratch) / PurePosixPath(name).name
            with suppress(FileNotFoundError):  # then there is none, as on a disk
                persistently(lambda: system.get_file(path, str(here)), shown(join(self.folder, name)))
            yield here

    def read(self, rows: pd.DataFrame) -> list[Stamp | Refusal]:
        """A stamp, or the reason why there is none, for each row."""
        return [self._read(str(name)) for name in rows["file"]]

    def _files(self, cells: pd.DataFrame) -> pd.Series:
        """File of each row; where the table has no column for it, the one that is called like the object."""
        columns = self.source.columns
        if columns.file:
            return cells[columns.file].astype(object).map(_file_name)
        return self.table.ids(cells).map(self._by_id).astype(object)

    @cached_property
    def _by_id(self) -> dict[str, str]:
        """Object id to the file that is called like it, the first in the alphabet of several."""
        names = sorted(self._listing, reverse=True)
        return dict(zip(object_ids(self.source.name, pd.Series(names, dtype=object)), names, strict=True))

    def _read(self, name: str) -> Stamp | Refusal:
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts:
            return Refusal("image outside of the folder", detail=name)
        is_fits = name.lower().endswith(FITS_SUFFIXES)
        if is_fits != (self.units == "nanomaggy"):
            kind = "a FITS image" if is_fits else "a picture"
            return Refusal("units do not fit", detail=f"{name} is {kind}, the definition's units are {self.units}")
        with self._on_disk(name) as path:
            return self._read_fluxes(path) if is_fits else self._read_picture(path)

    def _read_picture(self, path: Path) -> Stamp | Refusal:
        opened = open_picture(path, self.source.rescale.keep, self.stamp_size)
        if isinstance(opened, Refusal):
            return opened
        picture, span = opened
        side = kept_side(*picture.size, self.source.rescale.keep) * span
        image = picture_stamp(picture, self.source.rescale.keep, self.stamp_size)
        return Stamp(image, {"pixel_scale": self._pixel_scale(self.source.pixel_scale, side)})

    def _read_fluxes(self, path: Path) -> Stamp | Refusal:
        opened = open_fluxes(path)
        if isinstance(opened, Refusal):
            return opened
        planes, bands = opened.planes, self.source.survey_bands
        if opened.bands not in (None, bands):
            return Refusal("wrong bands", detail=f"{path.name} says {opened.bands!r}, the definition {bands!r}")
        given, scale = self.source.pixel_scale, opened.pixel_scale
        if given and scale and abs(scale / given - 1) > SCALE_TOLERANCE:
            return Refusal(
                "pixel scale does not fit", detail=f'{path.name} has {scale:.4g} "/px, the definition {given:g}'
            )
        if len(planes) != len(bands):
            return Refusal("wrong bands", detail=f"{path.name} has {len(planes)} planes for the bands {bands}")
        missing = [band for band in self.bands if band not in bands]
        if missing:
            return Refusal("wrong bands", detail=f"{path.name} has {bands}, the definition wants {''.join(self.bands)}")
        image = flux_stamp(
            planes[[bands.index(band) for band in self.bands]], self.source.rescale.keep, self.stamp_size
        )
        if not np.isfinite(image).any():
            return Refusal("no coverage", state="no_coverage", detail=path.name)
        with np.errstate(over="ignore"):  # refused in the next line
            halves = image.astype(np.float16)
        if not np.isfinite(halves).all():
            return Refusal("pixels without a value", detail=f"{path.name}: {int((~np.isfinite(halves)).sum())} pixels")
        side = kept_side(planes.shape[2], planes.shape[1], self.source.rescale.keep)
        return Stamp(halves, {"pixel_scale": self._pixel_scale(scale or given, side)})

    def _pixel_scale(self, scale: float | None, side: float) -> float | None:
        """Pixel scale of the stamp, "/px, from that of the file and the side of the kept square in its pixels."""
        return None if scale is None else scale * side / self.stamp_size


def _file_name(cell: object) -> str | None:
    """A cell as the listing has the file: without blanks around it, and without a leading `./`."""
    text = "" if pd.isna(cell) else str(cell).strip()  # type: ignore[call-overload]
    return PurePosixPath(text).as_posix() if text else None
