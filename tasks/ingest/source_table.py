"""A source's own table of objects: ids, positions, and the table itself for labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from infra.settings import Settings
from tasks.ingest.labels import wanted_columns
from tasks.ingest.source_kinds import Columns
from tasks.ingest.survey import SurveyDefinition, expand
from tasks.ingest.table_batches import table_batches
from tasks.ingest.tables import object_ids

DEGREES_OF_UNIT = {"degree": (1.0, 1.0), "hour": (15.0, 1.0), "radian": (180 / np.pi, 180 / np.pi)}
"""Unit of a position to degrees of right ascension and of declination."""


class SourceTable:
    """The catalogue that a source's definition names.

    Attributes
    ----------
    source
        Name of the source.
    place
        Path or URL of the table.
    """

    def __init__(
        self,
        source: str,
        catalogue: str,
        columns: Columns,
        definition: SurveyDefinition,
        settings: Settings,
        more: Sequence[str] = (),
        names: Sequence[str] = (),
    ) -> None:
        """The table `catalogue`; of its columns those that `columns` names, `more`, and what labels want of it.

        Columns of `names` are read too, as text.
        """
        self.source = source
        self.place = expand(catalogue, settings)
        self.columns = columns
        named = [*columns.id_columns, columns.file, columns.field]
        self._text = [name for name in (*named, *names) if name]
        self._wanted = [*self._text, *(name for name in (columns.ra, columns.dec) if name), *more]
        tables = [table for table in definition.labels if table.source == source and table.catalogue is None]
        self._text += [column for table in tables for column in table.class_columns]
        self._labels = own_label_columns(source, definition)

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

    def batches(self) -> Iterator[pd.DataFrame]:
        """The table in pieces that fit in memory, one or more rows per object; the index counts its rows.

        Raises
        ------
        GalaxyError
            If the table or a column is missing.
        """
        yield from table_batches(self.place, self._wanted, self._text, self.what, optional=self._labels)

    @cached_property
    def frame(self) -> pd.DataFrame:
        """The whole table, for sources whose lists are short. Errors as of `batches`."""
        return pd.concat(self.batches())

    @property
    def keys(self) -> list[str]:
        """Columns that name an object."""
        return list(self.columns.id_columns)

    def ids(self, frame: pd.DataFrame, key: str | None = None) -> pd.Series:
        """Object ids of the rows of this table, or of a table of labels; `key` is the column there."""
        names = self.columns.id_columns if key is None else [key]
        if len(names) == 1:
            return object_ids(self.source, frame[names[0]])
        first, *others = (frame[name].astype("str") for name in names)
        return object_ids(self.source, first.str.cat(others, sep="-"))  # type: ignore[arg-type]

    def rows(self, frame: pd.DataFrame | None = None) -> pd.DataFrame:
        """`object_id`, `ra`, `dec` (degrees, NaN unknown) and `field`, a row for each of a piece, or of the table."""
        frame, columns = self.frame if frame is None else frame, self.columns
        fields = pd.Series(None, index=frame.index, dtype=object)
        if columns.field:
            known = frame[columns.field].astype("str")
            fields = (f"{self.source}/" + known).astype(object).where(known.notna(), None)
        unknown = pd.Series(np.nan, index=frame.index)
        ra_unit, dec_unit = DEGREES_OF_UNIT[columns.position_unit]
        return pd.DataFrame(
            {
                "object_id": self.ids(frame),
                "ra": unknown if columns.ra is None else _degrees(frame[columns.ra], ra_unit),
                "dec": unknown if columns.dec is None else _degrees(frame[columns.dec], dec_unit),
                "field": fields,
            },
            index=frame.index,
        )


class WholeNames:
    """How label tables name the objects of a source without a table of its own, a simulation: by their whole ids."""

    keys = ("object_id",)

    def ids(self, frame: pd.DataFrame, key: str | None = None) -> pd.Series:
        """Object ids of the rows of a table of labels; `key` is the column there."""
        names = frame[key or self.keys[0]]
        return names.astype("str").astype(object).where(names.notna(), None)


def _degrees(column: pd.Series, unit: float) -> pd.Series:
    return pd.to_numeric(column, errors="coerce").astype(np.float64) * unit


@dataclass(frozen=True)
class Batch:
    """Some of a source's objects.

    Attributes
    ----------
    rows
        `object_id` (unique over all sources), `ra`, `dec` (degrees, NaN unknown), and further columns. The index is
        unique over all batches.
    cells
        The source's own table with the same index, where labels come from; None if they come with the stamps.
    """

    rows: pd.DataFrame
    cells: pd.DataFrame | None = None


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
