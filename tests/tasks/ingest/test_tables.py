"""Tables of users: names stay names, and rows are told apart."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from tasks.ingest.ingest import ingest
from tasks.ingest.table_batches import read_table


def test_only_an_empty_cell_of_text_is_missing(tmp_path: Path) -> None:
    names = ["NA", "nan", "None", "null", "007", ""]
    numbers = ["NA", "nan", "None", "null", "7", ""]
    rows = [f"{name},{number}" for name, number in zip(names, numbers, strict=True)]
    (tmp_path / "table.csv").write_text("\n".join(["id,size", *rows]))
    table = read_table(tmp_path / "table.csv", ["id", "absent"], "source a")
    assert table["id"].dropna().tolist() == names[:-1]
    assert table["size"].dropna().tolist() == [7.0]


@pytest.mark.parametrize("text", ["#N/A", "-1.#IND", "<NA>", "n/a", "NULL", "-nan", "1.#QNAN", " "])
def test_other_columns_miss_what_pandas_misses(tmp_path: Path, text: str) -> None:
    (tmp_path / "table.csv").write_text(f"id,size\na,{text}\nb,1\n")
    expected = pd.read_csv(tmp_path / "table.csv")
    pd.testing.assert_series_equal(read_table(tmp_path / "table.csv", ["id"], "source a")["size"], expected["size"])


def test_lines_that_end_in_a_comma_are_not_shifted(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("id,file\n020,a.png,\n021,b.png,\n")
    table = read_table(tmp_path / "table.csv", ["id"], "source a")
    assert table["id"].tolist() == ["020", "021"]
    assert table["file"].tolist() == ["a.png", "b.png"]


def test_files_are_found_however_their_cells_are_written(survey) -> None:
    survey.table["file"] = survey.table["name"]
    survey.table.loc[0, "file"] = " g000.png "
    survey.table.loc[1, "file"] = "./g001.png"
    survey.source["columns"] |= {"file": "file"}
    assert ingest(survey.context())["accepted"] == 40


def test_an_index_that_repeats_tells_no_rows_apart(survey) -> None:
    context = survey.context()
    expected = ingest(context)
    survey.source["catalogue"] = str(survey.root / "table.parquet")
    survey.table.loc[3, "ra"] = -5
    survey.table.set_axis([0] * 40).to_parquet(survey.root / "table.parquet")
    result = ingest(survey.context("repeated"))
    assert result["refused"] == {"position out of range": 1}
    assert result["accepted"] == expected["accepted"] - 1


def test_a_named_index_is_a_column(tmp_path: Path) -> None:
    frame = pd.DataFrame({"size": [1, 2, 3]}, index=pd.Index([7, 7, 8], name="id"))
    frame.to_parquet(tmp_path / "table.parquet")
    table = read_table(tmp_path / "table.parquet", ["id"], "source a")
    assert table["id"].tolist() == ["7", "7", "8"]
    assert table.index.tolist() == [0, 1, 2]
