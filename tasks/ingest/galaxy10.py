"""The pictures of Galaxy10 DECaLS (Leung & Bovy 2021) or of Galaxy10 SDSS, in one HDF5 file."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd
from PIL import Image

from infra.errors import GalaxyError
from infra.settings import Settings
from tasks.ingest.hdf5_files import ImageFile, open_images
from tasks.ingest.packed_files import PackedFiles, by_file, cells
from tasks.ingest.resample import kept_side, picture_stamp
from tasks.ingest.source_kinds import Columns, Galaxy10Source
from tasks.ingest.source_table import OwnTable, own_label_columns
from tasks.ingest.survey import SurveyDefinition, expand
from tasks.ingest.tables import need_columns
from tasks.stamps.stamp import Refusal, Stamp

POSITIONS = ("ra", "dec")
PIXEL_SCALE = "pxscale"


class Galaxy10:
    """Reads the pictures of such a file; an object's id is its row."""

    def __init__(self, source: Galaxy10Source, definition: SurveyDefinition, settings: Settings) -> None:
        self.source = source
        self.stamp_size = definition.stamp_size
        folder, _, name = expand(source.file, settings).rpartition("/")
        self._files = PackedFiles(f"source {source.name}", folder or ".", [name])
        self._labels = own_label_columns(source.name, definition)

    @cached_property
    def table(self) -> Galaxy10Table:
        """The columns beside the pictures."""
        return Galaxy10Table(self.source, self._files, self._labels)

    def rows(self) -> pd.DataFrame:
        """`object_id`, `ra`, `dec` (NaN where the file has none), `field`, `file`, `pixel_scale`.

        Raises
        ------
        GalaxyError
            If the file is missing or damaged, has no pictures, or lacks a column of a label table.
        """
        frame = self.table.frame
        return self.table.rows().assign(file=frame["file"], pixel_scale=self._pixel_scale(frame))

    def files(self) -> None:
        """See StampSource: a cell of `file` names a row besides the file."""

    def fingerprint(self) -> dict[str, str]:
        """See StampSource: size and time of the file."""
        return {self.source.file: self._files.digest()}

    def read(self, rows: pd.DataFrame) -> list[Stamp | Refusal]:
        """A stamp, or the reason why there is none, for each row.

        Raises
        ------
        GalaxyError
            If the file cannot be opened.
        OSError
            If the disk fails.
        """
        answers: list[Stamp | Refusal | None] = [None] * len(rows)
        keep = self.source.rescale.keep
        for name, (numbers, places) in by_file(rows["file"]).items():
            with open_images(self._files, name) as file:
                for place, image in file.read_images(numbers):
                    answers[places[place]] = (
                        Refusal("unreadable image", detail=image)
                        if isinstance(image, str)
                        else Stamp(picture_stamp(Image.fromarray(image), keep, self.stamp_size))
                    )
        return [answer for answer in answers if answer is not None]

    def _pixel_scale(self, frame: pd.DataFrame) -> pd.Series:
        """Of the stamps: as the file tells for each picture, else as the definition does; NaN unknown."""
        given = np.nan if self.source.pixel_scale is None else self.source.pixel_scale
        scale = frame[PIXEL_SCALE].astype(np.float64) if PIXEL_SCALE in frame else pd.Series(given, index=frame.index)
        return scale.where(scale > 0, given) * self.table.kept / self.stamp_size


class Galaxy10Table(OwnTable):
    """The columns beside the pictures."""

    def __init__(self, source: Galaxy10Source, files: PackedFiles, labels: list[str]) -> None:
        self._files = files
        self._name = files.names[0]
        self._labels = labels
        with open_images(files, self._name) as file:
            self._check(file)
            self.kept = kept_side(file.images.shape[2], file.images.shape[1], source.rescale.keep)
            """Side of the square of a picture that becomes a stamp, in its pixels."""
            has_positions = all(name in file.columns() for name in POSITIONS)
        ra, dec = POSITIONS if has_positions else (None, None)
        super().__init__(source.name, files.place(self._name), Columns(ra=ra, dec=dec))

    @cached_property
    def frame(self) -> pd.DataFrame:
        """A row for each picture: `object_id`, `file`, positions and pixel scale if there are any, columns of labels.

        Raises
        ------
        GalaxyError
            If the file is damaged, or lacks a column of a label table.
        """
        with open_images(self._files, self._name) as file:
            need_columns(pd.DataFrame(columns=["object_id", *file.columns()]), self._labels, self.place, self.what)
            ids = np.arange(len(file)).astype(str).astype(object)
            columns = file.read_columns([*POSITIONS, PIXEL_SCALE, *self._labels])
            return pd.DataFrame({"object_id": ids, "file": cells(self._name, len(file)), **columns})

    def _check(self, file: ImageFile) -> None:
        images = file.images
        if images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            raise GalaxyError(
                f"{self._files.what}: the images of {self._files.place(self._name)} are {images.shape} {images.dtype}, "
                "and should be pictures (rows, height, width, 3) uint8; correct `file` in the survey definition"
            )
