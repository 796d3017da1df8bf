"""Tables of every kind, by path and by URL, whole and in pieces: the same rows with the same values."""

from __future__ import annotations

import gzip
import tracemalloc
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from infra import remote
from infra.errors import GalaxyError
from tasks.ingest.fingerprint import table_digest
from tasks.ingest.ingest import ingest
from tasks.ingest.table_batches import read_table, table_batches
from tests.doubles.brick_survey import Sky
from tests.doubles.file_server import serve

ROWS = 1000


@pytest.fixture
def frame() -> pd.DataFrame:
    generator = np.random.default_rng(0)
    return pd.DataFrame(
        {
            "id": [f"{number:05d}" for number in range(ROWS)],
            "brickid": np.arange(ROWS, dtype=np.int32),
            "ra": generator.uniform(0, 360, ROWS),
            "flux": generator.normal(size=ROWS).astype(np.float32),
            "class": generator.choice(["spiral", "smooth"], ROWS),
        }
    )


def write_hats(frame: pd.DataFrame, root: Path) -> Path:
    """The files of a HATS catalogue as its readers need them: properties, and Parquet by HEALPix pixel."""
    root.mkdir(parents=True)
    (root / "hats.properties").write_text("obs_collection=test\ndataproduct_type=object\nhats_nrows=1000\n")
    for order, pixel, rows in ((0, 4, frame[:50]), (1, 22, frame[50:120]), (1, 23, frame[120:])):
        folder = root / f"dataset/Norder={order}/Dir=0"
        folder.mkdir(parents=True, exist_ok=True)
        rows.to_parquet(folder / f"Npix={pixel}.parquet", index=False)
    frame[:5].to_parquet(root / "dataset/_metadata.parquet", index=False)
    return root


def write(frame: pd.DataFrame, path: Path) -> Path:
    name = path.name
    if name.endswith(".parquet"):
        frame.to_parquet(path, index=False)
    elif name.endswith(".csv"):
        frame.to_csv(path, index=False)
    elif name.endswith(".csv.gz"):
        path.write_bytes(gzip.compress(frame.to_csv(index=False).encode()))
    elif ".fits" in name:
        Table.from_pandas(frame).write(path)
    elif name.endswith(".vot"):
        Table.from_pandas(frame).write(path, format="votable")
    else:
        return write_hats(frame, path)
    return path


KINDS = ["a.parquet", "a.csv", "a.csv.gz", "a.fits", "a.fits.gz", "a.vot", "a_hats"]


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_gives_the_same_rows_in_pieces(frame: pd.DataFrame, tmp_path: Path, kind: str) -> None:
    path = write(frame, tmp_path / kind)
    pieces = list(
        table_batches(str(path), ["id", "ra", "brickid"], ["id"], "source a", optional=["class", "no"], rows=170)
    )
    assert len(pieces) > 3
    assert max(len(piece) for piece in pieces) <= 170
    whole = pd.concat(pieces)
    assert whole.index.tolist() == list(range(ROWS))
    assert whole.columns.tolist() == ["id", "ra", "brickid", "class"]
    assert whole["id"].tolist() == frame["id"].tolist()
    assert whole["class"].tolist() == frame["class"].tolist()
    assert np.allclose(whole["ra"], frame["ra"], rtol=0, atol=1e-12)
    assert (whole["brickid"] == frame["brickid"]).all() and whole["brickid"].dtype.kind == "i"
    assert whole["ra"].to_numpy().dtype.isnative


@pytest.mark.parametrize("kind", ["a.parquet", "a.csv.gz", "a.fits"])
def test_by_url_it_is_the_same(frame: pd.DataFrame, tmp_path: Path, kind: str) -> None:
    write(frame, tmp_path / kind)
    with serve(tmp_path) as server:
        far = read_table(f"{server.url}/{kind}", ["id"], "source a")
    pd.testing.assert_frame_equal(far, read_table(str(tmp_path / kind), ["id"], "source a"))


@pytest.mark.parametrize("kind", ["a.parquet", "a.csv", "a.csv.gz", "a.fits", "a.vot"])
@pytest.mark.parametrize("fault", ["drop", "error", "page", "garbage", "short"])
def test_a_failing_connection_changes_neither_rows_nor_digest(
    frame: pd.DataFrame, tmp_path: Path, kind: str, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote.time, "sleep", lambda _: None)
    path = write(frame, tmp_path / kind)
    with serve(tmp_path) as server:
        server.faults, server.passes = {fault: 1.0}, 2
        far = read_table(f"{server.url}/{kind}", ["id"], "source a")
        assert server.requests[fault] == 2
        assert table_digest(f"{server.url}/{kind}") == table_digest(str(path))
        assert server.requests[fault] == 4
        server.passes = 0
        with pytest.raises(GalaxyError, match=rf"cannot read .*http.*/{kind}.*run again"):
            read_table(f"{server.url}/{kind}", ["id"], "source a")
    pd.testing.assert_frame_equal(far, read_table(str(path), ["id"], "source a"))


def test_a_column_that_is_not_there_is_named_with_those_that_are(frame: pd.DataFrame, tmp_path: Path) -> None:
    for kind in KINDS:
        path = write(frame, tmp_path / kind)
        with pytest.raises(GalaxyError, match=r"source a: no column 'dec' in .*it has id, brickid, ra, flux, class"):
            list(table_batches(str(path), ["id", "dec"], [], "source a"))


def test_what_is_no_table_is_named(frame: pd.DataFrame, tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(GalaxyError, match="folder ends in none of"):
        read_table(str(tmp_path / "folder"), [], "source a")
    with pytest.raises(GalaxyError, match=r"no catalogue .*absent\.fits"):
        read_table(str(tmp_path / "absent.fits"), [], "source a")
    for kind in ("b.parquet", "b.fits", "b.vot", "b.csv.gz"):
        (tmp_path / kind).write_bytes(b"\x1f\x8bthis is no table")
        with pytest.raises(GalaxyError, match=f"cannot read the catalogue .*{kind}"):
            read_table(str(tmp_path / kind), [], "source a")


def test_a_fits_column_with_several_numbers_a_row_is_left_out(tmp_path: Path) -> None:
    Table({"id": [1, 2], "flux": np.ones((2, 3))}).write(tmp_path / "a.fits")
    assert read_table(str(tmp_path / "a.fits"), [], "source a").columns.tolist() == ["id"]


def test_memory_is_that_of_a_piece(tmp_path: Path) -> None:
    numbers = np.arange(400_000)
    pd.DataFrame({"ra": numbers * 1.0, "dec": numbers * 1.0}).to_parquet(tmp_path / "a.parquet", row_group_size=20_000)
    tracemalloc.start()
    rows = sum(len(piece) for piece in table_batches(str(tmp_path / "a.parquet"), ["ra"], [], "source a", rows=20_000))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert rows == 400_000
    assert peak < 400_000 * 8


def test_a_hats_catalogue_is_ingested(sky: Sky) -> None:
    whole = ingest(sky.context("file"))
    write_hats(sky.objects, sky.folder / "hats")
    sky.source["catalogue"] = str(sky.folder / "hats")
    result = ingest(sky.context("hats"))
    assert result["digest"] == whole["digest"]
    before = table_digest(sky.source["catalogue"])
    (sky.folder / "hats/dataset/Norder=0/Dir=0/Npix=4.parquet").unlink()
    assert table_digest(sky.source["catalogue"]) != before
