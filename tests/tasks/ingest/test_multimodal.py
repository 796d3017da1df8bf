"""The Multimodal Universe: images out of nested columns, whichever way they are nested, row group by row group."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from infra import remote
from infra.errors import GalaxyError
from tasks.ingest.ingest import ingest
from tasks.ingest.multimodal import MultimodalUniverse
from tasks.stamps.dataset import StampDataset
from tasks.stamps.stamp import Refusal, Stamp
from tests.doubles.ingest_stage import pixels_by_id, shuffled, stage_context
from tests.doubles.published_sets import (
    NOISE,
    PublishedSet,
    cut_short,
    damage_row_group,
    write_multimodal,
    write_stein,
)
from tests.doubles.range_server import serve_parts

FLUXES = {
    "name": "fluxes", "source": "universe", "kind": "values", "values": {"z_spec": "z_spec", "flux_z": "flux_z"},
    "missing": [-99.0], "feeds": ["parameters"],
}  # fmt: skip


def definition(folder: str | Path, size: int = 32, **source: Any) -> dict[str, Any]:
    return {
        "units": "nanomaggy",
        "bands": ["g", "r", "z"],
        "stamp_size": size,
        "sources": [{"kind": "multimodal_universe", "name": "universe", "folder": str(folder), **source}],
    }


def reader(folder: str | Path, size: int = 32, **source: Any) -> MultimodalUniverse:
    context = stage_context(Path("unused"), definition(folder, size, **source))
    return MultimodalUniverse(context.survey.sources[0], context.survey, context.settings)


def answers(folder: str | Path, size: int = 32, **source: Any) -> list[Stamp | Refusal]:
    universe = reader(folder, size, **source)
    return universe.read(universe.rows())


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> PublishedSet:
    """32 objects in two files with row groups of 8, of the size of the originals."""
    return write_multimodal(tmp_path_factory.mktemp("universe"))


def test_every_object_gets_its_own_pixels_and_columns(published: PublishedSet, tmp_path: Path) -> None:
    survey = {**definition(published.folder, size=152), "labels": [FLUXES]}
    result = ingest(stage_context(tmp_path, survey))
    assert (result["accepted"], result["refused"], result["labels_refused"]) == (32, {}, {})
    dataset = StampDataset.open(result["dataset"])
    table = published.table.set_index("universe/" + published.table["object_id"])
    places = dict(zip(table.index, range(len(table)), strict=True))
    stored = pixels_by_id(dataset)
    assert set(stored) == set(places)
    for name, pixels in stored.items():
        assert np.array_equal(pixels, published.images[places[name]].astype(np.float16)), name
    catalogue = dataset.catalog
    assert (np.diff(catalogue["healpix"]) > 0).all()
    truth = table.loc[catalogue["object_id"]]
    for name, column in {
        "ra": "ra", "dec": "dec", "ebv": "ebv", "psf_size_g": "psfsize_g", "psf_size_z": "psfsize_z",
        "depth_r": "psfdepth_r", "value.fluxes.flux_z": "flux_z",
    }.items():  # fmt: skip
        assert np.array_equal(catalogue[name], truth[column]), name
    assert (catalogue["pixel_scale"] == 0.262).all()
    known = truth["z_spec"] != -99
    assert np.array_equal(catalogue["value.fluxes.z_spec"].notna(), known) and known.any()


@pytest.mark.parametrize("layout", ["bands of lists", "flat"])
def test_other_ways_to_nest_the_same_images_give_the_same(published: PublishedSet, tmp_path: Path, layout: Any) -> None:
    write_multimodal(tmp_path, layout=layout)
    for answer, expected in zip(answers(tmp_path), answers(published.folder), strict=True):
        assert np.array_equal(answer.image, expected.image)
        assert answer.columns == expected.columns


def test_a_smaller_stamp_is_the_centre_and_a_larger_one_is_refused(published: PublishedSet) -> None:
    assert np.array_equal(
        answers(published.folder, size=101)[9].image, published.images[9, :, 25:126, 25:126].astype(np.float16)
    )
    small = answers(published.folder, size=160)[0]
    assert (small.reason, small.detail) == (
        "image too small",
        f"{published.files[0]}#0 has 152 x 152 px, a stamp 160",
    )


def test_any_rows_are_read_from_their_row_groups_alone(
    published: PublishedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    universe = reader(published.folder)
    rows = universe.rows()
    whole = universe.read(rows)
    groups: list[int] = []
    iterate = pq.ParquetFile.iter_batches
    monkeypatch.setattr(
        pq.ParquetFile, "iter_batches", lambda *a, **k: (groups.extend(k["row_groups"]), iterate(*a, **k))[1]
    )
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *_, **__: pytest.fail("read the whole file"))
    monkeypatch.setattr("tasks.ingest.parquet_images.BATCH_ROWS", 3)
    wanted = [31, 2, 19, 0, 30, 7]
    for answer, row in zip(universe.read(rows.iloc[wanted]), wanted, strict=True):
        assert np.array_equal(answer.image, whole[row].image)
    assert groups == [0, 2, 1]  # 0, 2, 7 and 19 of the first file, 10 and 11 of the second


def test_planning_reads_no_pixels(published: PublishedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    whole = pq.ParquetFile.read
    monkeypatch.setattr(pq.ParquetFile, "read", lambda *a, **k: (read.extend(k["columns"]), whole(*a, **k))[1])
    reader(published.folder).rows()
    assert set(read) == {"object_id", "ra", "dec", "psfdepth_g", "psfdepth_r", "psfdepth_z", "ebv"}


def test_inverse_variances_are_kept_and_zero_points_are_converted(tmp_path: Path) -> None:
    published = write_multimodal(tmp_path / "set", size=40, invvar=True)
    survey = {**definition(published.folder), "invvar": True}
    survey["sources"][0] |= {"invvar": "ivar", "zero_point": 25.0}  # a unit is a tenth of a nanomaggy
    dataset = StampDataset.open(ingest(stage_context(tmp_path, survey))["dataset"])
    rows = dataset.catalog["object_id"].str.removeprefix("universe/")
    places = published.table.reset_index().set_index("object_id").loc[rows, "index"]
    expected = (published.images[places, :, 4:36, 4:36] * np.float32(0.1)).astype(np.float16)
    everything = range(len(dataset))
    assert np.allclose(dataset.read_rows(everything), expected, rtol=1e-3)
    assert np.allclose(dataset.read_rows(everything, "invvar"), (100 / NOISE**2)[:, None, None], rtol=1e-4)


def test_order_of_the_work_changes_nothing(published: PublishedSet, tmp_path: Path) -> None:
    """Two sets in one survey, read by workers that end in any order."""
    survey = definition(published.folder)
    write_stein(tmp_path / "stein", size=40)
    survey["sources"].append({"kind": "stein", "name": "stein", "folder": str(tmp_path / "stein")})
    alone = ingest(stage_context(tmp_path, survey, "alone"))
    assert alone["accepted"] == 32 + 42
    for seed in (1, 2):
        with shuffled(seed):
            assert ingest(stage_context(tmp_path, survey, f"shuffled{seed}"))["digest"] == alone["digest"]


def test_sets_without_positions_take_ids_from_files_and_rows(tmp_path: Path) -> None:
    published = write_multimodal(tmp_path / "set", size=40, positions=False)
    with pytest.raises(GalaxyError, match=r"has no columns 'ra' and 'dec'; .*write `columns` without them"):
        reader(published.folder).rows()
    survey = definition(published.folder, columns={"object_id": ["file", "row"]})
    dataset = StampDataset.open(ingest(stage_context(tmp_path, survey))["dataset"])
    assert (dataset.catalog["healpix"] == -1).all()
    expected = [f"universe/{row.file}-{row.row:09d}" for row in published.table.itertuples()]
    assert dataset.catalog["object_id"].tolist() == expected  # the files' own order
    assert np.array_equal(dataset.read_rows([17])[0], published.images[17, :, 4:36, 4:36].astype(np.float16))


def test_a_file_that_cannot_be_opened_stops_the_run_by_name(tmp_path: Path) -> None:
    published = write_multimodal(tmp_path / "set", size=40)
    cut_short(published.folder / published.files[1])
    with pytest.raises(GalaxyError, match=rf"source universe: cannot read .*{published.files[1]}: .*fetch it again"):
        ingest(stage_context(tmp_path, definition(published.folder)))
    with pytest.raises(GalaxyError, match=r"there are no files \*\.pq in"):
        reader(published.folder, files=["*.pq"]).rows()


def test_a_damaged_row_group_costs_its_own_rows_alone(tmp_path: Path) -> None:
    published = write_multimodal(tmp_path / "set", size=40)
    lost = damage_row_group(published.folder / published.files[0], 1)
    result = ingest(stage_context(tmp_path, definition(published.folder)))
    assert list(lost) == [*range(8, 16)]
    assert result["refused"] == {"unreadable image": 8}
    assert result["accepted"] == 32 - 8
    failed = pd.read_parquet(result["quarantine"])
    assert set(failed["object_id"]) == set("universe/" + published.table["object_id"].iloc[list(lost)])
    assert failed["detail"].str.startswith(f"{published.files[0]}, row group 1: ").all()


def test_a_failing_disk_is_no_fault_of_the_file(published: PublishedSet, monkeypatch: pytest.MonkeyPatch) -> None:
    universe = reader(published.folder)
    rows = universe.rows()

    def fail(*_: object, **__: object) -> Any:
        raise OSError(5, "the disk fails")
        yield

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", fail)
    with pytest.raises(OSError, match="the disk fails"):
        universe.read(rows)


def test_images_that_are_not_as_the_definition_says_are_refused(tmp_path: Path) -> None:
    write_multimodal(tmp_path / "coarse", rows=(1,), size=40, scale=0.4)
    refused = answers(tmp_path / "coarse", pixel_scale=0.262)[0]
    assert refused.reason == "pixel scale does not fit"
    assert "0.4" in refused.detail and "0.262" in refused.detail
    assert answers(tmp_path / "coarse")[0].columns["pixel_scale"] == 0.4
    write_multimodal(tmp_path / "other", rows=(1,), size=40, bands=("hsc-g", "hsc-r", "hsc-z"))
    refused = answers(tmp_path / "other")[0]
    assert refused.reason == "wrong bands"
    assert refused.detail.endswith("has hsc-g, hsc-r, hsc-z, the definition wants g as 'des-g'")
    named = {band: f"hsc-{band}" for band in "grz"}
    assert isinstance(answers(tmp_path / "other", band_names=named)[0], Stamp)


def test_rows_without_a_usable_image_are_refused(tmp_path: Path) -> None:
    def band(name: str, flux: Any) -> dict[str, Any]:
        return {"band": name, "flux": flux, "scale": 0.262}

    square = [[1.0] * 40] * 40
    images = [
        None,
        [],
        [band("des-g", square), band("des-r", square), band("des-z", None)],
        [band("des-g", square), band("des-r", square), band("des-z", [[1.0] * 40] * 39 + [[1.0]])],
        [band("des-g", square), band("des-r", square), band("des-z", [[1.0] * 40] * 38)],
        [band("des-g", square), band("des-r", square), {**band("des-z", square), "scale": 0.5}],
        [band("des-z", square), band("des-g", square), band("des-r", square)],
    ]
    ids = [f"{number}" for number in range(len(images))]
    pq.write_table(pa.table({"image": images, "object_id": ids}), tmp_path / "odd.parquet")
    found = answers(tmp_path, columns={})
    assert [answer.reason for answer in found[:6]] == [
        "unreadable image", "wrong bands", "unreadable image", "unreadable image", "bands of different sizes",
        "pixel scale does not fit",
    ]  # fmt: skip
    assert isinstance(found[6], Stamp)
    assert found[6].columns["psf_size_g"] is None


def test_what_does_not_fit_is_named(published: PublishedSet, tmp_path: Path) -> None:
    universe = reader(published.folder, flux="array")
    with pytest.raises(GalaxyError, match=r"no column `image` with a field `array`; it has image\.list\.element\.band"):
        universe.read(universe.rows())
    with pytest.raises(GalaxyError, match=r"no column 'name' in .*it has object_id, ra, dec"):
        reader(published.folder, columns={"object_id": "name"}).rows()
    with pytest.raises(ValidationError, match=r"has the bands 'gri', without \['z'\]"):
        stage_context(tmp_path, definition("folder", survey_bands="gri"))
    with pytest.raises(ValidationError, match="`invvar` is true, but source 'universe' has no inverse variance"):
        stage_context(tmp_path, {**definition("folder"), "invvar": True})


def test_remote_files_are_read_in_parts_and_lost_connections_are_no_damage(
    published: PublishedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote.persistently, "__kwdefaults__", {"attempts": 4, "wait": 0.001})
    here = reader(published.folder)
    wanted = here.rows().iloc[[3, 20]]
    with serve_parts(published.folder) as server:
        far = reader(server.url, files=published.files)
        pd.testing.assert_frame_equal(far.rows(), here.rows())
        server.served, server.losses = 0, 3
        for answer, expected in zip(far.read(wanted), here.read(wanted), strict=True):
            assert np.array_equal(answer.image, expected.image)
        assert server.losses == 0
        sizes = sum((published.folder / name).stat().st_size for name in published.files)
        assert server.served < 0.8 * sizes  # two of five row groups
        server.losses = 10_000
        with pytest.raises(GalaxyError, match=r"cannot read http.*\.parquet after 4 attempts"):
            far.read(wanted)
