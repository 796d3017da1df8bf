"""A ranked list reads back the same from each format."""

from __future__ import annotations

import io

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from infra.errors import GalaxyError
from tasks.search.export import FORMATS, export

RANKED = pd.DataFrame(
    {
        "rank": [1, 2, 3],
        "object_id": ["a", "=1+1", "c,\"d'<e>"],
        "ra": [10.123456789, np.nan, 3.0],
        "probability": np.array([0.9, 0.5, 0.1], np.float32),
        "label": ["yes", None, "no"],
        "held_back": [False, True, False],
    }
)


def test_parquet_is_the_table_itself():
    assert pd.read_parquet(io.BytesIO(export(RANKED, "parquet"))).equals(RANKED)


def test_votable_keeps_numbers_text_and_units():
    table = Table.read(io.BytesIO(export(RANKED, "vot")), format="votable")
    assert table["object_id"].tolist() == RANKED["object_id"].tolist()
    assert str(table["ra"].unit) == "deg" and table["ra"][0] == RANKED["ra"][0]
    assert [str(label) for label in table["label"]] == ["yes", "", "no"]


def test_csv_keeps_text_but_gives_a_spreadsheet_nothing_to_compute():
    table = pd.read_csv(io.BytesIO(export(RANKED, "csv")))
    assert table["object_id"].tolist() == ["a", "'=1+1", "c,\"d'<e>"]
    assert table["ra"][0] == pytest.approx(RANKED["ra"][0], rel=1e-7)


@pytest.mark.parametrize("form", FORMATS)
def test_an_empty_list_has_all_columns(form):
    assert b"object_id" in export(RANKED.head(0), form)


def test_unknown_format_is_refused_with_those_that_there_are():
    with pytest.raises(GalaxyError, match="no export format 'xls'; there are csv, parquet, vot"):
        export(RANKED, "xls")
