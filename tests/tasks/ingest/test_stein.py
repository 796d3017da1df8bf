"""Stamps of Stein et al.'s files: the right pixels for each object, the known defects, damage, and remote files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from infra import remote
from infra.errors import GalaxyError
from tasks.ingest import hdf5_files
from tasks.ingest.hdf5_files import open_images
from tasks.ingest.ingest import ingest
from tasks.ingest.packed_files import PackedFiles
from tasks.ingest.stein import SteinStamps
from tasks.ingest.survey import load_survey
from tasks.stamps.dataset import StampDataset
from tasks.stamps.stamp import Refusal, Stamp
from tests.doubles.ingest_stage import pixels_by_id, shuffled, stage_context
from tests.doubles.published_sets import PublishedSet, cut_short, damage_chunk, write_stein
from tests.doubles.range_server import serve_parts

REDSHIFT = {
    "name": "redshift", "source": "stein", "kind": "values", "values": {"z_spec": "z_spec", "flux_r": "flux_r"},
    "missing": [-99.0], "feeds": ["parameters"],
}  # fmt: skip


def definition(folder: str | Path, size: int = 32, **source: Any) -> dict[str, Any]:
    return {
        "units": "nanomaggy",
        "bands": ["g", "r", "z"],
        "stamp_size": size,
        "sources": [{"kind": "stein", "name": "stein", "folder": str(folder), **source}],
        "labels": [REDSHIFT],
    }


def reader(folder: str | Path, size: int = 32, **source: Any) -> SteinStamps:
    context = stage_context(Path("unused"), definition(folder, size, **source))
    return SteinStamps(context.survey.sources[0], context.survey, context.settings)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> PublishedSet:
    """44 rows in two files, of the size of the originals: rows 9 and 40 repeat rows 3 and 12."""
    return write_stein(tmp_path_factory.mktemp("stein"))


def test_every_object_gets_its_own_pixels_and_columns(published: PublishedSet, tmp_path: Path) -> None:
    result = ingest(stage_context(tmp_path, definition(published.folder, size=152)))
    assert result["refused"] == {"duplicate object id": 2}
    assert (result["objects"], result["accepted"]) == (44, 42)
    dataset = StampDataset.open(result["dataset"])
    stored = pixels_by_id(dataset)
    assert set(stored) == {f"stein/{row}" for row in range(44) if row not in (9, 40)}
    for name, pixels in stored.items():
        assert np.array_equal(pixels, published.images[int(name.removeprefix("stein/"))].astype(np.float16)), name
    catalogue = dataset.catalog
    assert (np.diff(catalogue["healpix"]) > 0).all()
    truth = published.table.iloc[catalogue["object_id"].str.removeprefix("stein/").astype(int)]
    for name, column in {
        "ra": "ra", "dec": "dec", "ebv": "ebv", "psf_size_g": "psfsize_g", "psf_size_z": "psfsize_z",
        "depth_r": "psfdepth_r", "value.redshift.flux_r": "flux_r",
    }.items():  # fmt: skip
        assert np.array_equal(catalogue[name], truth[column]), name
    assert (catalogue["pixel_scale"] == 0.262).all() and (catalogue["coverage"] == 1).all()
    assert catalogue["file"].tolist() == [f"{row.file}#{row.row}" for row in truth.itertuples()]
    known = truth["z_spec"] != -99
    assert known.any() and not known.all()
    redshift = catalogue["value.redshift.z_spec"].to_numpy()
    assert np.array_equal(redshift, np.where(known, truth["z_spec"], np.nan), equal_nan=True)
    assert not [name for name in catalogue if name.startswith("truth_")]


def test_order_of_the_work_changes_nothing(published: PublishedSet, tmp_path: Path) -> None:
    survey = definition(published.folder)
    alone = ingest(stage_context(tmp_path, survey, "alone"))["digest"]
    for seed in (1, 2):
        with shuffled(seed):
            assert ingest(stage_context(tmp_path, survey, f"shuffled{seed}"))["digest"] == alone


def test_doubled_and_skipped_numbers_are_accounted_for(published: PublishedSet, tmp_path: Path) -> None:
    result = ingest(stage_context(tmp_path, definition(published.folder)))
    quarantine = pd.read_parquet(result["quarantine"])
    doubled = quarantine[quarantine["kind"] == "object"]
    assert doubled["object_id"].tolist() == ["stein/3", "stein/12"]
    gaps = quarantine[quarantine["kind"] == "gap"]
    assert set(gaps["reason"]) == {"number skipped in `inds`"}
    # 5, 6 and 30 are nowhere; 11 and 42 gave way to the numbers of other rows
    first, second = published.files
    assert gaps["detail"].tolist() == [
        f"{first}: 3 numbers between 0 and 25, the first is 5",
        f"{second}: 2 numbers between 26 and 46, the first is 30",
    ]
    assert result["labels_refused"] == {}


def test_a_smaller_stamp_is_the_centre_and_a_larger_one_is_refused(published: PublishedSet) -> None:
    stamps = reader(published.folder, size=100)
    answer = stamps.read(stamps.rows().iloc[[7]])[0]
    assert isinstance(answer, Stamp)
    assert np.array_equal(answer.image, published.images[7, :, 26:126, 26:126].astype(np.float16))
    with pytest.raises(GalaxyError, match=r"152 x 152 px; make `stamp_size`, 160, at most 152"):
        reader(published.folder, size=160).rows()


def test_bands_are_put_into_the_definitions_order(tmp_path: Path) -> None:
    published = write_stein(tmp_path, rows=(5,), size=40, doubled={})
    stamps = reader(tmp_path, survey_bands="zrg")
    answer = stamps.read(stamps.rows().iloc[[2]])[0]
    assert np.array_equal(answer.image, published.images[2, ::-1, 4:36, 4:36].astype(np.float16))


def test_any_rows_are_read_in_few_pieces_from_files_that_are_opened_once(
    published: PublishedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamps = reader(published.folder)
    rows = stamps.rows()
    whole = stamps.read(rows)
    opened, pieces = [], []
    monkeypatch.setattr("tasks.ingest.stein.open_images", lambda *a: (opened.append(a[1]), open_images(*a))[1])
    taken = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda self, key: (pieces.append(key), taken(self, key))[1])
    wanted = [43, 2, 30, 1, 17, 0, 42, 25, 3, 41]
    for answer, row in zip(stamps.read(rows.iloc[wanted]), wanted, strict=True):
        assert np.array_equal(answer.image, whole[row].image)
    assert opened == published.files
    assert pieces == [slice(0, 4), slice(17, 18), slice(1, 2), slice(6, 7), slice(17, 20)]


def test_compressed_chunks_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = write_stein(tmp_path, rows=(40,), size=32, chunk=16, doubled={})
    stamps = reader(tmp_path)
    rows, pieces = stamps.rows(), []
    taken = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda self, key: (pieces.append(key), taken(self, key))[1])
    monkeypatch.setattr(hdf5_files, "PIECE_BYTES", 1)  # no piece is small enough to be read but for its chunk
    answers = stamps.read(rows.iloc[[39, 15, 0, 17, 30]])
    assert pieces == [slice(0, 16), slice(17, 31), slice(39, 40)]
    assert np.array_equal(answers[3].image, published.images[17].astype(np.float16))


def test_a_file_that_cannot_be_opened_stops_the_run_by_name(tmp_path: Path) -> None:
    published = write_stein(tmp_path / "set", size=40)
    survey = definition(published.folder)
    cut_short(published.folder / published.files[1])
    with pytest.raises(GalaxyError, match=rf"source stein: cannot read .*{published.files[1]}: .*truncated.*fetch it"):
        ingest(stage_context(tmp_path, survey))
    (published.folder / published.files[1]).write_text("not a file of this kind")
    with pytest.raises(GalaxyError, match=rf"cannot read .*{published.files[1]}: .*signature not found"):
        ingest(stage_context(tmp_path, survey))
    survey["sources"][0]["files"] = [published.files[0], "images_npix40_000000024_000000099.h5"]
    with pytest.raises(GalaxyError, match=r"no file .*images_npix40_000000024_000000099\.h5"):
        ingest(stage_context(tmp_path, survey))


def test_a_file_that_goes_away_meanwhile_stops_the_run_by_name(tmp_path: Path) -> None:
    published = write_stein(tmp_path, size=40)
    stamps = reader(tmp_path)
    rows = stamps.rows()
    (tmp_path / published.files[0]).unlink()
    with pytest.raises(GalaxyError, match=rf"no file .*{published.files[0]}"):
        stamps.read(rows)


@pytest.mark.parametrize("piece_bytes", [1, 64_000_000])
def test_a_damaged_chunk_costs_its_own_rows_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, piece_bytes: int
) -> None:
    monkeypatch.setattr(hdf5_files, "PIECE_BYTES", piece_bytes)
    published = write_stein(tmp_path / "set", size=40, chunk=4, doubled={})
    lost = damage_chunk(published.folder / published.files[0], 10)
    result = ingest(stage_context(tmp_path, definition(published.folder)))
    assert result["refused"] == {"unreadable image": len(lost)} and len(lost) == 4
    assert result["accepted"] == 44 - 4
    stored = pixels_by_id(StampDataset.open(result["dataset"]))
    for name, pixels in stored.items():
        row = int(name.removeprefix("stein/"))
        assert row not in lost
        assert np.array_equal(pixels, published.images[row, :, 4:36, 4:36].astype(np.float16))
    failed = pd.read_parquet(result["quarantine"]).query("kind == 'object'")
    assert failed["detail"].str.startswith(published.files[0]).all()


def test_a_failing_disk_is_no_fault_of_the_file(published: PublishedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    stamps = reader(published.folder)
    rows = stamps.rows()

    def fail(*_: object) -> None:
        raise OSError(5, "the disk fails")

    monkeypatch.setattr(h5py.Dataset, "__getitem__", fail)
    with pytest.raises(OSError, match="the disk fails"):
        stamps.read(rows)


def test_pixels_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    published = write_stein(tmp_path, rows=(6,), size=40, doubled={})
    with h5py.File(tmp_path / published.files[0], "r+") as file:
        file["images"][1] = 0
        file["images"][2, 1, 20, 20] = np.nan
        file["images"][3, 1, 20, 20] = 1e6
        file["images"][4, 0, :20] = 0
    stamps = reader(tmp_path)
    answers = stamps.read(stamps.rows())
    assert answers[1] == Refusal("no coverage", "no_coverage", f"{published.files[0]}#1")
    assert [answers[i].reason for i in (2, 3)] == ["pixels without a value"] * 2
    assert answers[4].columns["coverage"] == 0.5


def test_what_does_not_fit_is_named(published: PublishedSet, tmp_path: Path) -> None:
    with pytest.raises(GalaxyError, match=r"there are no files \*\.hdf5 in .*; correct `folder` or `files`"):
        reader(published.folder, files=["*.hdf5"]).rows()
    twice = write_stein(tmp_path / "twice", size=40, starts=(0, 20))
    with pytest.raises(
        GalaxyError, match=rf"both {twice.files[0]} and {twice.files[1]} have row 20; .*north and south"
    ):
        reader(twice.folder).rows()
    strange = tmp_path / "strange"
    strange.mkdir()
    (strange / "images.h5").write_bytes((twice.folder / twice.files[0]).read_bytes())
    with pytest.raises(GalaxyError, match=r"name of images\.h5 does not tell its first row"):
        reader(strange, files=["*.h5"]).rows()
    with pytest.raises(GalaxyError, match=r"should be fluxes \(rows, 4 bands"):
        reader(published.folder, survey_bands="griz").rows()
    wrong = {**definition(published.folder), "labels": [{**REDSHIFT, "values": {"z": "z_spectrum"}}]}
    context = stage_context(tmp_path, wrong)
    with pytest.raises(GalaxyError, match=r"source stein: no column 'z_spectrum' in .*z_spec"):
        SteinStamps(context.survey.sources[0], context.survey, context.settings).rows()
    with pytest.raises(ValidationError, match=r"source 'stein' has the bands 'gr', without \['z'\]"):
        stage_context(tmp_path, definition("folder", survey_bands="gr"))
    with pytest.raises(ValidationError, match=r"`units` must be 'nanomaggy'"):
        stage_context(tmp_path, {**definition("folder"), "units": "rgb", "bands": ["R", "G", "B"]})


def test_a_column_that_is_shorter_than_the_images_says_nothing(published: PublishedSet, tmp_path: Path) -> None:
    survey = {**definition(published.folder), "labels": [{**REDSHIFT, "values": {"z": "z_training"}}]}
    with pytest.raises(GalaxyError, match="no column 'z_training'"):
        ingest(stage_context(tmp_path, survey))


def test_changed_files_are_noticed_and_touching_nothing_changes_nothing(tmp_path: Path) -> None:
    published = write_stein(tmp_path, size=40)
    before = reader(tmp_path).fingerprint()
    assert reader(tmp_path).fingerprint() == before
    with h5py.File(tmp_path / published.files[0], "r+") as file:
        file["ebv"][0] = 1
    assert reader(tmp_path).fingerprint() != before


def test_remote_files_are_read_in_parts_and_lost_connections_are_no_damage(
    published: PublishedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "FIRST_WAIT", 0.001)
    monkeypatch.setattr(remote.persistently, "__kwdefaults__", {"attempts": 4, "wait": 0.001})
    here = reader(published.folder)
    wanted = here.rows().iloc[[41, 3, 20]]
    with serve_parts(published.folder) as server:
        far = reader(server.url, files=published.files)
        pd.testing.assert_frame_equal(far.rows(), here.rows())
        assert far.fingerprint() == reader(server.url, files=published.files).fingerprint()
        server.served, server.losses = 0, 3
        for answer, expected in zip(far.read(wanted), here.read(wanted), strict=True):
            assert np.array_equal(answer.image, expected.image)
        assert server.losses == 0
        assert server.served < sum(path.stat().st_size for path in published.folder.iterdir()) / 3
        server.losses = 10_000
        with pytest.raises(GalaxyError, match=r"cannot read http.*images_npix152_.* after 4 attempts"):
            far.read(wanted)


def test_files_are_found_by_pattern_in_object_storage(published: PublishedSet) -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    memory.put(str(published.folder), "/bucket/stein", recursive=True)
    try:
        files = PackedFiles("source stein", "memory://bucket/stein", ["images_npix*.h5"])
        assert files.names == published.files
        far, here = reader("memory://bucket/stein"), reader(published.folder)
        rows = far.rows()
        pd.testing.assert_frame_equal(rows, here.rows())
        assert np.array_equal(far.read(rows)[30].image, here.read(rows)[30].image)
    finally:
        memory.rm("/bucket", recursive=True)


def test_the_shipped_definition_says_which_variable_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("GALAXY_STEIN", raising=False)
    with pytest.raises(GalaxyError, match="GALAXY_STEIN, which is not set"):
        ingest(stage_context(tmp_path, load_survey("stein").model_dump()))


def test_the_shipped_definition_fits_the_files(
    published: PublishedSet, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GALAXY_STEIN", str(published.folder))
    result = ingest(stage_context(tmp_path, load_survey("stein").model_dump()))
    assert result["accepted"] == 42
    assert StampDataset.open(result["dataset"]).catalog["value.redshift.redshift"].notna().any()
