"""The catalogue as a FITS binary table, as TOPCAT and astropy read it: numbers, flags and text, with units."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from astropy.io import fits
from astropy.table import Column, Table

UNITS = {"ra": "deg", "dec": "deg", "pixel_scale": "arcsec", "half_light_radius": "arcsec", "position_angle": "deg"}
UNIT_ENDINGS = {"mag": "mag"}


def write_fits(path: Path, predictions: pq.ParquetFile, origin: Mapping[str, Any]) -> None:
    """Write every column that is no list; of `boxes` the number of boxes and the best one.

    Missing numbers are NaN, missing text is empty, a missing whole number -1.
    """
    table = Table()
    for field in predictions.schema_arrow:
        # a column at a time, so that the largest table in memory is the one that is being made
        values = predictions.read(columns=[field.name])[field.name].to_pandas()
        for name, column in _columns(field.name, values).items():
            table[name] = Column(column, unit=_unit(name))
    table.meta["DATASET"] = str(origin["dataset_digest"])[:60]
    for number, (name, version) in enumerate(sorted(origin["models"].items())):
        table.meta[f"MODEL{number}"] = f"{name} {version}"
    table.write(path, format="fits", overwrite=True)


def fits_rows(path: Path) -> int:
    """Rows of the table in a FITS file."""
    return int(fits.getheader(path, 1)["NAXIS2"])


def _columns(name: str, values: pd.Series[Any]) -> dict[str, np.ndarray[Any, Any]]:
    if name.endswith("boxes"):
        return _boxes(name, values)
    if pd.api.types.is_bool_dtype(values.dtype):
        return {name: values.to_numpy(bool)}
    if pd.api.types.is_integer_dtype(values.dtype):
        return {name: values.to_numpy()}
    if pd.api.types.is_float_dtype(values.dtype):
        return {name: np.asarray(values)}
    known = [value for value in values if value is not None and value == value]
    if known and all(isinstance(value, bool | np.bool_) for value in known):
        return {name: np.array([bool(value) if value == value and value is not None else False for value in values])}
    text = ["" if value is None or value != value else str(value) for value in values]
    return {name: np.array(text, dtype=f"U{max(1, *(len(value) for value in text))}" if text else "U1")}


def _boxes(name: str, values: pd.Series[Any]) -> dict[str, np.ndarray[Any, Any]]:
    """How many, and corners and score of the best: a table of numbers holds no list of any length."""
    best = np.full((len(values), 5), np.nan, dtype=np.float32)
    count = np.full(len(values), -1, dtype=np.int16)
    for row, boxes in enumerate(values):
        if boxes is not None:
            count[row] = len(boxes)
            if len(boxes):
                best[row] = boxes[0]
    one = name.removesuffix("es")
    corners = {f"{one}_{part}": best[:, i] for i, part in enumerate(("x0", "y0", "x1", "y1", "score"))}
    return {f"{name}_count": count, **corners}


def _unit(name: str) -> str | None:
    base = name.removesuffix("_sigma")
    if base in UNITS:
        return UNITS[base]
    if base.startswith("psf_size_"):
        return "arcsec"
    return next((unit for ending, unit in UNIT_ENDINGS.items() if base.startswith(f"{ending}_")), None)
