"""Which stamps are lenses and which are not, for each label table that feeds the lens finder."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from infra.errors import GalaxyError
from tasks.ingest.labels import StampMasks, grades, masks
from tasks.ingest.survey import LabelTable, SurveyDefinition

Rows = NDArray[np.int64]

FEWEST = 2
"""Lenses, and others, that a table must have among its train stamps, and among its test stamps."""


@dataclass(frozen=True)
class LensTable:
    """One label table, reduced to usable stamps that are clearly lenses or clearly not.

    Attributes
    ----------
    name
        Of the label table, and of its metrics.
    rows
        (n,) rows of the catalogue, rising.
    split
        (n,) `train`, `validation` or `test`.
    lens
        (n,) bool.
    groups
        (n,) str: rows with one value share pixels.
    masks
        Arc masks by catalogue row, where they are known; None for graded tables.
    pixel_scale
        Arcsec per pixel; NaN if unknown.
    psf_fwhm
        Arcsec, by band; empty if unknown.
    """

    name: str
    rows: Rows
    split: NDArray[np.str_]
    lens: NDArray[np.bool_]
    groups: NDArray[np.str_]
    masks: StampMasks | None
    pixel_scale: float
    psf_fwhm: dict[str, float]

    def chosen(self, split: str, lens: bool) -> Rows:
        """Catalogue rows of one split and class."""
        return self.rows[(self.split == split) & (self.lens == lens)]


def lens_tables(survey: SurveyDefinition, table: pd.DataFrame, stamp_size: int) -> list[LensTable]:
    """Every label table that feeds `lens`.

    Parameters
    ----------
    table
        The prepared catalogue: label columns, `source`, `split`, `usable`, `pixel_scale`.

    Raises
    ------
    GalaxyError
        If there is none, or one has too few lenses or others to learn from.
    """
    definitions = survey.tables("lens")
    if not definitions:
        raise GalaxyError(
            f"survey {survey.name}: no label table feeds `lens`; add one of kind `grade` or `truth_mask`, "
            "or leave out the stage find-lenses"
        )
    return [_reduce(definition, survey, table, stamp_size) for definition in definitions]


def _reduce(definition: LabelTable, survey: SurveyDefinition, table: pd.DataFrame, stamp_size: int) -> LensTable:
    eligible = (table["source"] == definition.source) & table["usable"].astype(bool)
    eligible &= table["split"].isin(("train", "validation", "test"))
    arcs: StampMasks | None = None
    if definition.kind == "truth_mask":
        arcs = masks(table, definition, stamp_size)
        lens = arcs.known & np.array([bool(mask.any()) for mask in (arcs[i] for i in range(len(arcs)))], dtype=bool)
        other = ~lens
    else:
        assert definition.positive_from is not None and definition.negative_to is not None, "a grade has limits"
        grade = grades(table, definition)
        lens, other = grade >= definition.positive_from, grade <= definition.negative_to
    rows = np.flatnonzero(eligible.to_numpy() & (lens | other))
    part = table.iloc[rows]
    reduced = LensTable(
        name=definition.name,
        rows=rows,
        split=part["split"].to_numpy(dtype=str),
        lens=np.asarray(lens[rows], dtype=bool),
        groups=_groups(part),
        masks=arcs,
        pixel_scale=float(part["pixel_scale"].median()) if len(part) else float("nan"),
        psf_fwhm=_psf(part, survey.bands),
    )
    for split in ("train", "test"):
        counts = {name: len(reduced.chosen(split, lens)) for name, lens in (("lenses", True), ("others", False))}
        short = [f"{number} {name}" for name, number in counts.items() if number < FEWEST]
        if short:
            raise GalaxyError(
                f"label table {definition.name}: only {' and '.join(short)} among its usable {split} stamps, at least "
                f"{FEWEST} are needed; enlarge the source, or change the split or the table's limits"
            )
    return reduced


def _groups(part: pd.DataFrame) -> NDArray[np.str_]:
    """The field that stamps share; where none is given, objects that are one, and else each stamp for itself."""
    field = part["field"].astype(object) if "field" in part else pd.Series(None, index=part.index, dtype=object)
    alone = part["duplicate_group"] if "duplicate_group" in part else pd.Series(part.index, index=part.index)
    return np.where(field.notna(), "field " + field.astype(str), "group " + alone.astype(str)).astype(str)


def _psf(part: pd.DataFrame, bands: list[str]) -> dict[str, float]:
    """Median width in each band, if every band has one."""
    widths = {band: float(part[f"psf_size_{band}"].median()) for band in bands if f"psf_size_{band}" in part}
    return widths if len(widths) == len(bands) and np.isfinite(list(widths.values())).all() else {}
