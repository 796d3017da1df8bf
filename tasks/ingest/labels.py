"""Labels: from the tables that people made to columns of the catalogue, and from those to arrays.

Columns are named `label.<table>`, `votes.<table>.<question>.<answer>`, `voters.<table>.<question>`,
`value.<table>.<parameter>`, `grade.<table>` and `mask.<table>`; what a row has no label for is None or NaN.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd

from infra.errors import GalaxyError
from tasks.ingest.survey import ELLIPTICITY, LabelTable

WHOLE_NUMBER = re.compile(r"(-?\d+)\.0+")
"""A whole number as pandas writes it where cells of the column are empty."""


def class_names(table: LabelTable) -> list[str]:
    """Names of a table's classes, in the definition's order; the place is the code."""
    return list(dict.fromkeys(table.classes.values()))


def class_codes(catalog: pd.DataFrame, table: LabelTable) -> np.ndarray:
    """(N,) int64 place of each row's class in `class_names`; -1 where there is no label, or one of no class here."""
    labels = pd.Index(catalog[f"label.{table.name}"], dtype=object)
    return np.asarray(pd.Index(class_names(table), dtype=object).get_indexer(labels), np.int64)


def vote_fractions(catalog: pd.DataFrame, table: LabelTable) -> dict[str, np.ndarray]:
    """Question to (N, answers) float32 fractions of the question's own votes; NaN where missing."""
    return {
        question: _floats(catalog, [f"votes.{table.name}.{question}.{answer}" for answer in answers])
        for question, answers in table.questions.items()
    }


def voters(catalog: pd.DataFrame, table: LabelTable) -> dict[str, np.ndarray]:
    """Question to (N,) float32 number of its votes, NaN where missing; without the questions that tell none."""
    told = table.questions if table.counts else table.voters
    return {question: _floats(catalog, [f"voters.{table.name}.{question}"])[:, 0] for question in told}


def parameter_values(catalog: pd.DataFrame, table: LabelTable) -> np.ndarray:
    """(N, P) float32 in the order of `table.parameters`; NaN where missing."""
    return _floats(catalog, [f"value.{table.name}.{parameter}" for parameter in table.parameters])


def grades(catalog: pd.DataFrame, table: LabelTable) -> np.ndarray:
    """(N,) float32; NaN where missing."""
    return _floats(catalog, [f"grade.{table.name}"])[:, 0]


def masks(catalog: pd.DataFrame, table: LabelTable, size: int) -> StampMasks:
    """The masks of stamps of `size` x `size` pixels, unpacked as they are asked for."""
    return StampMasks(catalog[f"mask.{table.name}"].to_numpy(object), size)


class StampMasks:
    """Masks of a catalogue's rows: `masks[rows]`, or `masks(rows)`, is (n, size, size) bool.

    Attributes
    ----------
    known
        (N,) bool: whether the row has a mask. A row that has none gives an empty one.
    """

    def __init__(self, packed: np.ndarray, size: int) -> None:
        self.known = np.array([isinstance(mask, bytes) for mask in packed], bool)
        self._packed = packed
        self._size = size

    def __len__(self) -> int:
        """Rows, with or without a mask."""
        return len(self._packed)

    def __getitem__(self, rows: Any) -> np.ndarray:
        """Masks of `rows`: (n, size, size), or (size, size) for one row."""
        if np.ndim(rows) == 0 and not isinstance(rows, slice):
            return self._unpack(self._packed[rows])
        chosen = self._packed[rows]
        return np.stack([self._unpack(mask) for mask in chosen]) if len(chosen) else self._empty(0)

    __call__ = __getitem__

    def _unpack(self, mask: bytes | None) -> np.ndarray:
        if not isinstance(mask, bytes):
            return self._empty(1)[0]
        bits = np.unpackbits(np.frombuffer(mask, np.uint8), count=self._size**2)
        return bits.reshape(self._size, self._size).astype(bool)

    def _empty(self, count: int) -> np.ndarray:
        return np.zeros((count, self._size, self._size), bool)


def pack_mask(mask: np.ndarray) -> bytes:
    """A (H, W) bool mask as the bytes that the catalogue holds."""
    return np.packbits(np.asarray(mask, bool)).tobytes()


def wanted_columns(table: LabelTable) -> list[str]:
    """Columns that a label table must have, besides the key."""
    single = [table.column] if isinstance(table.column, str) else list(table.column or [])
    votes = [column for answers in table.questions.values() for column in answers.values()]
    voted = [*table.parents.values(), *table.voters.values()]
    return list(dict.fromkeys([*single, *votes, *voted, *table.values.values(), *(table.ellipticity or ())]))


def label_columns(table: LabelTable, frame: pd.DataFrame, origin: str) -> tuple[pd.DataFrame, pd.Series]:
    """The label columns of each row of a table.

    Returns
    -------
    columns
        One row per row of `frame`, with its index.
    unknown
        The text of labels that are no class of the definition, by index.

    Raises
    ------
    GalaxyError
        If a column is missing; `origin` says of what.
    """
    absent = [name for name in wanted_columns(table) if name not in frame.columns]
    if absent:
        raise GalaxyError(
            f"label table {table.name}: no column {absent[0]!r} in {origin}; "
            f"it has {', '.join(map(str, frame.columns))}. "
            "Correct the column's name in the survey definition"
        )
    unknown = pd.Series(dtype=object)
    columns: dict[str, Any] = {}
    if table.kind == "classes":
        names = table.class_columns
        text = frame[names[0]].map(_text)
        for name in names[1:]:
            text = text.str.cat(frame[name].map(_text), sep="/")
        label = text.map(table.classes).astype(object)
        columns[f"label.{table.name}"] = label.where(label.notna(), None)
        unknown = text[text.notna() & label.isna()]
    elif table.kind == "votes":
        columns = _votes(table, frame)
    elif table.kind == "values":
        columns = _values(table, frame)
    elif table.kind == "grade":
        columns[f"grade.{table.name}"] = _numbers(frame[str(table.column)]).astype(np.float32)
    else:
        columns[f"mask.{table.name}"] = frame[str(table.column)].astype(object)
    return pd.DataFrame(columns, index=frame.index), unknown


def _votes(table: LabelTable, frame: pd.DataFrame) -> dict[str, Any]:
    """Fractions of each question's own answers, divided by the share that reached the question, and who voted."""
    columns: dict[str, Any] = {}
    for question, answers in table.questions.items():
        if table.counts:
            columns |= _counted(table, question, frame)
            continue
        if question in table.voters:
            columns[f"voters.{table.name}.{question}"] = _numbers(frame[table.voters[question]]).astype(np.float32)
        reached: pd.Series | float = _numbers(frame[table.parents[question]]) if question in table.parents else 1.0
        for answer, column in answers.items():
            fraction = _numbers(frame[column])
            if isinstance(reached, pd.Series):
                enough = (reached >= table.minimum_parent) & (reached > 0)
                fraction = (fraction / reached.where(enough)).clip(0, 1)
            columns[f"votes.{table.name}.{question}.{answer}"] = fraction.astype(np.float32)
    return columns


def _counted(table: LabelTable, question: str, frame: pd.DataFrame) -> dict[str, Any]:
    """One question's counts as fractions of their sum; a question that nobody answered has none."""
    answers = table.questions[question]
    counts = pd.DataFrame({answer: _numbers(frame[column]) for answer, column in answers.items()})
    counts = counts.where(counts.ge(0).all(axis=1))
    total = counts.sum(axis=1, skipna=False)
    fractions = counts.div(total.where(total > 0), axis=0).astype(np.float32)
    named = {f"votes.{table.name}.{question}.{answer}": fractions[answer] for answer in answers}
    return {**named, f"voters.{table.name}.{question}": total.astype(np.float32)}


def _values(table: LabelTable, frame: pd.DataFrame) -> dict[str, Any]:
    numbers = {parameter: _numbers(frame[column]) for parameter, column in table.values.items()}
    columns = {parameter: column.mask(column.isin(table.missing)) for parameter, column in numbers.items()}
    if table.ellipticity:
        from galaxy_models.ellipticity import axis_ratio  # it brings PyTorch, which few tables need

        # a point source has neither radius nor shape, and zeros in both
        extended = pd.DataFrame(columns).notna().any(axis=1)
        e1, e2 = (_numbers(frame[name]).where(extended) for name in table.ellipticity)
        ratio = pd.Series(axis_ratio(e1, e2), index=frame.index)
        known = ratio.notna()
        shape = (ratio, e1.where(known), e2.where(known))
        columns |= dict(zip(ELLIPTICITY, shape, strict=True))
    return {f"value.{table.name}.{parameter}": column.astype(np.float32) for parameter, column in columns.items()}


def _numbers(column: pd.Series) -> pd.Series:
    return pd.to_numeric(column, errors="coerce").astype(np.float64)


def _text(value: Any) -> str | None:
    """A cell as it is written in a definition: 3, not 3.0."""
    if value is None or (isinstance(value, float) and np.isnan(value)) or value is pd.NA:
        return None
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    text = str(value).strip()
    whole = WHOLE_NUMBER.fullmatch(text)
    return whole[1] if whole else text or None


def _floats(catalog: pd.DataFrame, names: list[str]) -> np.ndarray:
    return catalog[names].to_numpy(np.float32)
