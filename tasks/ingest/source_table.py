"""A source's own table of objects: ids, positions, and the table itself for labels."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pandas as pd

from infra.settings import Settings
from tasks.ingest.labels import wanted_columns
from tasks.ingest.source_kinds import Columns
from tasks.ingest.survey import SurveyDefinition, expand
from tasks.ingest.tables import need_columns, object_ids, read_table


class SourceTable:
    """The catalogue that a source's definition names.

    Attributes
    ----------
    source
        Name of the source.
    place
        Path or URL of the table.
    """

    def __init__(self, source: str, catalogue: str, columns: Columns, definition: SurveyDefinition, settings: Settings):
        self.source = source
        self.place = expand(catalogue, settings)
        self.columns = columns
        tables = [table for table in definition.labels if table.source == source and table.catalogue is None]
        self._class_columns = [column for table in tables for column in table.class_columns]

    @property
    def what(self) -> str:
        """How messages call this source."""
        return f"source {self.source}"

    @property
    def has_positions(self) -> bool:
        """Whether each object should have a position."""
        return self.columns.ra is not None

    @property
    def gaps(self) -> list[tuple[str, str]]:
        """What the table itself shows to be missing in it, as (reason, detail): objects that have no row."""
        return []

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The table as it is, one or more rows per object.

        Raises
        ------
        GalaxyError
            If the table or a column is missing.
        """
        columns = self.columns
        names = [*columns.id_columns, columns.file, columns.field]
        frame = read_table(self.place, [*(name for name in names if name), *self._class_columns], self.what)
        need_columns(frame, [*names, columns.ra, columns.dec], self.place, self.what)
        return frame

    def ids(self, frame: pd.DataFrame, key: str | None = None) -> pd.Series:
        """Object ids of the rows of this table, or of a table of labels; `key` is the column there."""
        names = self.columns.id_columns if key is None else [key]
        if len(names) == 1:
            return object_ids(self.source, frame[names[0]])
        first, *others = (frame[name].astype("str") for name in names)
        return object_ids(self.source, first.str.cat(others, sep="-"))  # type: ignore[arg-type]

    def rows(self) -> pd.DataFrame:
        """`object_id`, `ra`, `dec` (degrees, NaN unknown) and `field`, a row for each of the table."""
        frame, columns = self.frame, self.columns
        fields = frame[columns.field] if columns.field else pd.Series(None, index=frame.index, dtype=object)
        return pd.DataFrame(
            {
                "object_id": self.ids(frame),
                "ra": self._degrees(columns.ra),
                "dec": self._degrees(columns.dec),
                "field": [None if pd.isna(value) else f"{self.source}/{value}" for value in fields],
            },
            index=frame.index,
        )

    def _degrees(self, name: str | None) -> pd.Series:
        if name is None:
            return pd.Series(np.nan, index=self.frame.index)
        return pd.to_numeric(self.frame[name], errors="coerce").astype(np.float64)


class OwnTable(SourceTable):
    """A table that is no file of its own: columns beside the images in a source's files. A subclass has `frame`.

    Parameters
    ----------
    place
        Where the columns are, for messages.
    """

    def __init__(self, source: str, place: str, columns: Columns) -> None:
        self.source = source
        self.place = place
        self.columns = columns


def own_label_columns(source: str, definition: SurveyDefinition) -> list[str]:
    """Columns that label tables want of the source's own table, which may have many more than memory holds."""
    tables = [table for table in definition.labels if table.source == source and table.catalogue is None]
    keys = [table.key for table in tables if table.key]
    return list(dict.fromkeys([*keys, *(name for table in tables for name in wanted_columns(table))]))
