"""What is searched for: each kind of galaxy among those of its own source, which alone says nothing of the kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from tests.evidence.stamps import Stamps

MAJORITY = 0.5
"""Of all volunteers who looked; a galaxy that fewer of them call so counts as no, however ambiguous."""

MODERATE = 0.5
"""EFIGI's attributes go from 0 to 1 in steps of 0.25: none, weak, moderate, strong, very strong."""

GOOD_LENS, NO_LENS = 2.0, 0.3
"""Experts' grades; what lies between them is in no pool."""

VOTES, VALUES = "votes.gz2_votes.", "value.efigi_attributes."

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Target:
    """A kind of galaxy, and where it is searched for.

    Attributes
    ----------
    source
        Of all galaxies of the pool.
    rows
        (n,) the pool, as rows of the stamps.
    wanted
        (n,) which of them are of the kind.
    """

    name: str
    source: str
    rows: Rows
    wanted: NDArray[np.bool_]

    @property
    def members(self) -> int:
        """Galaxies that are to be found."""
        return int(self.wanted.sum())


def real_targets(stamps: Stamps) -> tuple[Target, ...]:
    """Of the real galaxies: Galaxy Zoo 2's votes, DECaLS rings, EFIGI's types and attributes, Space Warps' grades."""
    table = stamps.table
    irregular = table["label.efigi_type"].astype("string")
    ring = table["label.ring"].astype("string")
    grade = table["grade.lens_grade"].round(3)  # single precision: 0.3 is a little more
    return (
        _target(stamps, "edge-on", "gz2", _majority(table, "smooth.featured", "edge_on.yes")),
        _target(stamps, "spiral", "gz2", _spiral(table)),
        _target(stamps, "ring", "decals_rings", _known(ring == "ring", ring.notna())),
        _target(stamps, "irregular", "efigi", _known(irregular == "efigi_irregular", irregular.notna())),
        _target(stamps, "barred", "efigi", _attribute(table, "bar_length")),
        _target(stamps, "ringed", "efigi", _attribute(table, "inner_ring", "outer_ring", "pseudo_ring")),
        _target(stamps, "dusty", "efigi", _attribute(table, "visible_dust")),
        _target(stamps, "lens", "space_warps", _known(grade >= GOOD_LENS, (grade >= GOOD_LENS) | (grade <= NO_LENS))),
    )


def flag_target(stamps: Stamps, name: str, source: str, column: str) -> Target:
    """That of a boolean column, whose truth is known for every galaxy of the source."""
    return _target(stamps, name, source, stamps.table[column].astype("boolean"))


def _target(stamps: Stamps, name: str, source: str, answer: pd.Series) -> Target:
    """True, False, or null for a galaxy that is not in the pool."""
    rows = np.flatnonzero((stamps.table["source"] == source) & answer.notna())
    return Target(name, source, rows, answer.iloc[rows].to_numpy(dtype=bool))


def _known(answer: pd.Series, known: pd.Series) -> pd.Series:
    return answer.astype("boolean").where(known)


def _majority(table: pd.DataFrame, *path: str) -> pd.Series:
    """Whether most of all volunteers answered so along a path of questions; one that few reached counts as no."""
    share = pd.Series(1.0, table.index)
    for answer in path:
        share *= table[VOTES + answer].fillna(0)
    return (share >= MAJORITY).astype("boolean")


def _spiral(table: pd.DataFrame) -> pd.Series:
    """By votes; where the table has none on spiral arms, by the class, which somebody else made of these votes."""
    voted = table[VOTES + "spiral.yes"].notna()
    by_class = (table["label.gz2_class"].astype("string") == "spiral").fillna(False)
    by_votes = _majority(table, "smooth.featured", "edge_on.no", "spiral.yes")
    return by_votes.where(voted, by_class).astype("boolean")


def _attribute(table: pd.DataFrame, *names: str) -> pd.Series:
    """Whether the strongest of some attributes is moderate at least; null where none was determined."""
    strongest = table[[VALUES + name for name in names]].max(axis=1)
    return _known(strongest >= MODERATE, strongest.notna())


def large(targets: Sequence[Target], members: int = 100) -> list[Target]:
    """Those with so many members at least."""
    return [target for target in targets if target.members >= members]
