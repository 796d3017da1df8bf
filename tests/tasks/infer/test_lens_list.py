"""The ranked list holds the candidates that may be compared, the best first."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from PIL import Image


def test_list_is_ranked_and_of_the_lens_source_only(run, prepared):
    prepared.dataset.images[11, 0] = 255  # the reddest: the surest lens
    prepared.dataset.images[35, 0] = 255  # as red, but of a source whose scores mean something else
    result = run()
    table = pd.read_parquet(result["lenses"])
    assert table["row"][0] == 11
    assert table["lens_score"].is_monotonic_decreasing
    assert set(table["source"]) == {"one"}
    assert 8 not in set(table["row"])  # flagged
    assert 3 not in set(table["row"])  # no stamp
    assert table["rank"].tolist() == list(range(1, 28))
    assert table["split"][0] == prepared.table["split"][11]
    text = pd.read_csv(Path(result["lenses"]).with_suffix(".csv"))
    assert text["object_id"].tolist() == table["object_id"].tolist()
    assert text["boxes"][0] == "[[4.0, 5.0, 20.0, 21.0, 1.0]]"


def test_sheet_shows_the_candidates(run):
    result = run()
    sheet = next(path for path in result["figures"] if path.endswith("lenses.png"))
    with Image.open(sheet) as picture:
        assert picture.width > 500 and picture.height > 150
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 500  # pixels of stamps, not an empty page


def test_without_lens_tables_all_usable_rows_are_ranked(run, survey, monkeypatch):
    monkeypatch.setattr(type(survey), "tables", lambda self, task: [])
    table = pd.read_parquet(run()["lenses"])
    assert set(table["source"]) == {"one", "two"}
    assert len(table) == 37
