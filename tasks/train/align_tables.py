"""The class tables that GalaxAlign learns from or is tested on, and the batches of its training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from galaxy_models.symbols import UnknownClassError, canonical_classes
from infra.errors import GalaxyError
from tasks.ingest.labels import class_codes, class_names
from tasks.ingest.survey import LabelTable, SurveyDefinition
from tasks.train.common import Rows, evenly
from tasks.train.working_copy import WorkingCopy

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class ClassTable:
    """One class table, reduced to the usable stamps that it labels.

    Attributes
    ----------
    meanings
        Canonical name of each class, by which its symbol and sentences are known.
    rows, codes, split
        (n,) catalogue rows, rising; class of each; `train`, `validation` or `test`.
    trained
        False: too few stamps to learn from. None of them trains, and all of them test words and symbols.
    """

    name: str
    source: str
    classes: list[str]
    meanings: list[str]
    rows: Rows
    codes: NDArray[np.int64]
    split: NDArray[np.str_]
    trained: bool = True

    def places(self, split: str) -> NDArray[np.int64]:
        """Places within `rows` of one split."""
        return np.flatnonzero(self.split == split)

    @property
    def stamps_per_class(self) -> float:
        """Train stamps, divided by the number of classes."""
        return len(self.places("train")) / len(self.classes)

    def thinned(self, most: int) -> ClassTable:
        """At most `most` of the train stamps, evenly over the rows."""
        keep = np.sort(np.concatenate([evenly(self.places("train"), most), *map(self.places, SPLITS[1:])]))
        return replace(self, rows=self.rows[keep], codes=self.codes[keep], split=self.split[keep])


def class_tables(survey: SurveyDefinition, catalog: pd.DataFrame, minimum: float) -> list[ClassTable]:
    """The tables that feed `align`, in the definition's order.

    Parameters
    ----------
    catalog
        The prepared catalogue: label columns, `source`, `split`, `usable`.
    minimum
        A table with fewer train stamps per class is not trained on, unless no table has as many: then the one
        that has most of them is.

    Raises
    ------
    GalaxyError
        If a class has no symbol, or there is nothing to train on or to test with.
    """
    tables = [_reduced(label, catalog) for label in survey.tables("align")]
    teachers = [table for table in tables if len(np.unique(table.codes[table.places("train")])) >= 2]
    if not teachers:
        raise GalaxyError(
            f"survey {survey.name}: no class table that feeds `align` has two classes among the usable train stamps "
            f"(tables: {[table.name for table in tables]}); add labels, or leave out the stage align"
        )
    enough = [table for table in teachers if table.stamps_per_class >= minimum]
    chosen = enough or [max(teachers, key=lambda table: table.stamps_per_class)]
    if not len(chosen[0].places("test")):
        raise GalaxyError(
            f"survey {survey.name}: label table {chosen[0].name} has no usable test stamp, so GalaxAlign could not "
            "be scored; add labels, or raise `test_fraction` in the profile's section [preprocess]"
        )
    names = [table.name for table in chosen]
    return [replace(table, trained=table.name in names) for table in tables if len(table.rows)]


def _reduced(label: LabelTable, catalog: pd.DataFrame) -> ClassTable:
    classes = class_names(label)
    try:
        meanings = canonical_classes(classes)
    except UnknownClassError as error:
        raise GalaxyError(f"label table {label.name}: {error}. Or take `align` out of the table's `feeds`") from None
    codes = class_codes(catalog, label)
    chosen = (catalog["source"] == label.source) & catalog["usable"].astype(bool) & catalog["split"].isin(SPLITS)
    rows = np.flatnonzero(chosen.to_numpy() & (codes >= 0))
    split = catalog["split"].to_numpy(dtype=str)[rows]
    return ClassTable(label.name, label.source, classes, meanings, rows, codes[rows], split)


class TableBatches:
    """Batches of one table each: were sources mixed, their skies would tell them apart and not their galaxies.

    A batch is a pure function of seed and step.
    """

    def __init__(self, tables: Sequence[ClassTable], copy: WorkingCopy, batch_size: int, seed: int) -> None:
        self.tables = [table for table in tables if table.trained]
        self.train = [table.places("train") for table in self.tables]
        self.copy = copy
        self.batch_size = batch_size
        self.seed = seed
        weights = np.sqrt([len(places) for places in self.train])  # a small table comes more often than its share
        self.chances = weights / weights.sum()

    @property
    def stamps(self) -> int:
        """Train stamps of all tables."""
        return sum(len(places) for places in self.train)

    def batches_from(self, start: int) -> Iterator[dict[str, Any]]:
        """Batches of the steps `start`, `start` + 1, ...: `images`, `rows`, `classes` and the name of the `table`."""
        step = start
        while True:
            yield self.draw(step)
            step += 1

    def draw(self, step: int) -> dict[str, Any]:
        """The batch of one step."""
        generator = np.random.default_rng([self.seed, step])
        index = int(generator.choice(len(self.tables), p=self.chances))
        table, train = self.tables[index], self.train[index]
        places = generator.choice(train, self.batch_size, replace=len(train) < self.batch_size)
        return {
            "images": self.copy.read(table.rows[places]),
            "rows": torch.from_numpy(table.rows[places]),
            "classes": torch.from_numpy(table.codes[places]),
            "table": table.name,
        }
