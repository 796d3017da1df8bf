"""Stamps from bricks: the right pixels from the best brick, each opened once, over connections that fail as well."""

from __future__ import annotations

import shutil
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from infra import remote
from infra.errors import GalaxyError
from tasks.ingest import bricks
from tasks.ingest.bricks import Bricks
from tasks.ingest.ingest import ingest
from tasks.ingest.tile_files import TileFiles
from tasks.stamps.dataset import StampDataset
from tasks.stamps.stamp import Refusal, Stamp
from tests.doubles.brick_files import BrickTree
from tests.doubles.brick_survey import BANDS, SIDE, SIZE, Sky
from tests.doubles.file_server import serve

LEGACY = "coadd/{tile:.3}/{tile}/legacysurvey-{tile}"


@cache
def pixels_of(tree: BrickTree, brick: str, product: str, band: str) -> tuple[np.ndarray, WCS]:
    with fits.open(tree.image(brick, product, band)) as file:
        return np.array(file[1].data), WCS(file[1].header)


def test_stamps_are_the_bricks_own_pixels_around_each_object(sky: Sky) -> None:
    sky.survey["invvar"] = True
    sky.source["invvar"] = LEGACY + "-invvar-{band}.fits.fz"
    rows, answers = sky.read()
    seen = 0
    for (_, row), answer in zip(rows.iterrows(), answers, strict=True):
        if isinstance(answer, Refusal):
            continue
        seen += 1
        for channel, band in enumerate(BANDS):
            image, wcs = pixels_of(sky.tree, row["file"], "image", band)
            weight, _ = pixels_of(sky.tree, row["file"], "invvar", band)
            x, y = wcs.all_world2pix(row["ra"], row["dec"], 0)
            padded = [np.pad(plane, SIZE) for plane in (np.where(weight > 0, image, 0), weight)]
            left, low = (int(np.floor(v - (SIZE - 1) / 2 + 0.5)) + SIZE for v in (x, y))
            expected, expected_weight = (plane[low : low + SIZE, left : left + SIZE] for plane in padded)
            assert np.array_equal(answer.image[channel], expected.astype(np.float16))
            assert np.array_equal(answer.invvar[channel], expected_weight)
            assert abs(left - SIZE + (SIZE - 1) / 2 - x) <= 0.5 + 1e-9
    assert seen > 60


def test_an_object_comes_from_the_brick_that_covers_it_best(sky: Sky) -> None:
    rows, answers = sky.read()
    overlaps = {}
    for brick in sky.tree.bricks["brickname"]:
        _, wcs = pixels_of(sky.tree, brick, "image", "g")
        x, y = wcs.all_world2pix(rows["ra"], rows["dec"], 0)
        inside = [np.clip(np.minimum(v + SIZE / 2, SIDE) - np.maximum(v - SIZE / 2, 0), 0, SIZE) for v in (x, y)]
        overlaps[brick] = inside[0] * inside[1] / SIZE**2
    best = pd.DataFrame(overlaps, index=rows.index)
    chosen = np.array([best.loc[i, name] for i, name in rows["file"].items()])
    assert (chosen >= best.max(axis=1) - 0.02).all()
    assert rows["file"].nunique() == 4
    edge = rows.index[(best > 0).sum(axis=1) > 1]
    assert len(edge) > 10  # or the test says nothing
    for i in edge:
        if isinstance(answers[i], Stamp) and rows["file"][i] != sky.tree.bricks["brickname"].iloc[1]:
            assert answers[i].columns["coverage"] >= chosen[i] - 0.05


def test_the_galaxy_is_in_the_middle_with_its_flux(sky: Sky) -> None:
    sky.objects = sky.objects[(sky.objects["type"] == "EXP") & (sky.objects["shape_r"] < 1.0)].reset_index(drop=True)
    _, answers = sky.read()
    ratios = []
    for (_, row), answer in zip(sky.objects.iterrows(), answers, strict=True):
        if isinstance(answer, Stamp) and answer.columns["coverage"] == 1 and row["flux_r"] > 20:
            centre = answer.image[1].astype(float)[SIZE // 2 - 14 : SIZE // 2 + 14, SIZE // 2 - 14 : SIZE // 2 + 14]
            ratios.append(centre.sum() / row["flux_r"])
    assert len(ratios) >= 3
    assert np.median(ratios) == pytest.approx(1.0, abs=0.15)


def test_each_brick_is_opened_once_for_all_shards_of_a_run(sky: Sky, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: Counter[str] = Counter()
    original = TileFiles.open

    def count(self: TileFiles, name: str, content: bytes | None = None) -> Any:
        opened[name] += 1
        return original(self, name, content)

    monkeypatch.setattr(TileFiles, "open", count)
    result = ingest(sky.context(shard_stamps=16))
    assert len(StampDataset.open(result["dataset"]).shards) > 4
    assert set(opened.values()) == {1}
    assert len(opened) == 12


def test_what_has_no_data_is_counted_or_left_out(sky: Sky) -> None:
    sky.source["mask"] = LEGACY + "-maskbits.fits.fz"
    far = sky.objects.iloc[[0]].assign(ra=200.0, objid=9999)
    sky.objects = pd.concat([sky.objects, far], ignore_index=True)
    result = ingest(sky.context())
    dataset = StampDataset.open(result["dataset"])
    catalog = dataset.catalog
    assert result["accepted"] + sum(result["refused"].values()) == result["objects"] == len(sky.objects)
    names = sky.tree.bricks["brickname"].to_list()
    assert set(catalog.loc[catalog["file"] == names[3], "state"]) == {"no_coverage"}
    quarantine = dataset.quarantine.set_index("object_id")
    assert f"{names[3]}-image-z" in quarantine.loc[catalog["object_id"][catalog["file"] == names[3]], "detail"].iloc[0]
    assert quarantine.loc[f"sky/9010-{far['brickid'].iloc[0]}-9999", "reason"] == "no tile covers it"
    holed = catalog[(catalog["file"] == names[1]) & (catalog["state"] == "valid")]
    assert (holed["coverage"] < 0.9).any()
    starred = catalog[catalog["file"] == names[0]]
    assert starred["mask_fraction"].max() > 0.1
    assert starred["mask_fraction"].min() == 0


def test_tractor_columns_are_those_of_the_same_object(sky: Sky) -> None:
    sky.source |= {"tractor": "tractor/{tile:.3}/tractor-{tile}.fits", "tractor_columns": ["flux_r", "type", "shape_r"]}
    sky.survey["labels"] = [
        {
            "name": "shape", "source": "sky", "kind": "values", "values": {"radius": "tractor_shape_r"},
            "feeds": ["parameters"],
        }
    ]  # fmt: skip
    sky.objects.loc[4, "release"] = 9999  # the same brick and number in another release is another object
    catalog = StampDataset.open(ingest(sky.context())["dataset"]).catalog
    truth = sky.tree.objects.set_index(["release", "brickid", "objid"])
    known = catalog[(catalog["state"] == "valid") & (catalog["tractor_release"] == 9010)]
    assert len(known) > 50
    for _, row in known.iterrows():
        same = truth.loc[(row["tractor_release"], row["tractor_brickid"], row["tractor_objid"])]
        assert row["tractor_flux_r"] == pytest.approx(same["flux_r"] if same["nobs_r"] else 0, rel=1e-5)
        assert row["tractor_type"] == same["type"]
        assert row["value.shape.radius"] == pytest.approx(same["shape_r"], rel=1e-5)
    other = catalog[catalog["tractor_release"] == 9999]
    assert other["value.shape.radius"].isna().all() and len(other) == 1


def test_tractors_shapes_are_parameters_as_the_stamps_show_them(sky: Sky) -> None:
    """Rows of a stamp go south to north and its left is east: else a turned stamp would get a wrong ellipticity."""
    sky.source |= {"tractor": "tractor/{tile:.3}/tractor-{tile}.fits"}
    sky.survey["labels"] = [
        {
            "name": "shape", "source": "sky", "kind": "values", "missing": [0.0], "feeds": ["parameters"],
            "values": {"radius": "tractor_shape_r", "sersic_index": "tractor_sersic"},
            "ellipticity": ["tractor_shape_e1", "tractor_shape_e2"],
        }
    ]  # fmt: skip
    dataset = StampDataset.open(ingest(sky.context())["dataset"])
    catalog = dataset.catalog
    shapes = catalog.filter(like="value.shape.").rename(columns=lambda name: name.removeprefix("value.shape."))
    points = catalog["tractor_type"] == "PSF"
    assert points.any() and shapes[points].isna().all(axis=None), "a point source has no shape"
    elliptical = (catalog["state"] == "valid") & (shapes["axis_ratio"] < 0.7) & (catalog["tractor_flux_r"] > 20)
    rows = np.flatnonzero(elliptical & (catalog["coverage"] == 1))
    assert len(rows) >= 5
    axis = np.arange(SIZE) - (SIZE - 1) / 2
    north, east = axis[:, None], -axis[None, :]
    near = np.hypot(north, east) < 8  # pixels, so that neighbours count little
    seen = []
    for image in dataset.read_rows(rows):
        light = np.clip(image[1].astype(np.float64), 0, None) * near
        seen.append([(light * (north**2 - east**2)).sum(), (light * 2 * north * east).sum()])
    label = shapes.iloc[rows][["e1", "e2"]].to_numpy()
    aligned = (np.array(seen) * label).sum(axis=1) / np.linalg.norm(seen, axis=1) / np.linalg.norm(label, axis=1)
    assert np.median(aligned) > 0.9  # the cosine of twice the angle between them


def test_observations_come_from_the_table_of_tiles(sky: Sky) -> None:
    catalog = StampDataset.open(ingest(sky.context())["dataset"]).catalog
    truth = sky.tree.objects.drop_duplicates("brickname").set_index("brickname")
    bricks_table = sky.tree.bricks.set_index("brickname")
    for _, row in catalog[catalog["state"] == "valid"].iterrows():
        brick = bricks_table.loc[row["file"]]
        assert row["psf_size_r"] == pytest.approx(brick["psfsize_r"], rel=1e-5)
        assert row["ebv"] == pytest.approx(brick["ebv"], rel=1e-5)
        assert row["depth_r"] == pytest.approx(truth.loc[row["file"], "psfdepth_r"], rel=0.5)


def test_workers_and_shards_do_not_change_the_digest(sky: Sky) -> None:
    alone = ingest(sky.context("alone"))["digest"]
    sky.objects = sky.objects.sample(frac=1, random_state=0)
    assert ingest(sky.context("larger", shard_stamps=48))["digest"] == alone
    assert ingest(sky.context("workers", workers=2))["digest"] == alone


@pytest.mark.parametrize("kind", ["drop", "error", "page", "garbage", "short", "flipped"])
def test_a_failing_connection_changes_nothing(
    sky: Sky, tree: BrickTree, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote.time, "sleep", lambda _: None)
    expected = ingest(sky.context("local"))
    with serve(tree.root) as server:
        server.faults, server.passes = {kind: 0.7}, remote.ATTEMPTS // 2
        sky.source["root"] = server.url
        found = ingest(sky.context("remote"))
    assert server.requests[kind] > 2
    assert (found["accepted"], found["refused"]) == (expected["accepted"], expected["refused"])
    here, there = (StampDataset.open(result["dataset"]) for result in (expected, found))
    assert all(np.array_equal(here.read_shard(i), there.read_shard(i)) for i in range(len(here.shards)))


def test_a_server_that_is_gone_stops_the_run_and_the_next_one_carries_on(
    sky: Sky, tree: BrickTree, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote.time, "sleep", lambda _: None)
    with serve(tree.root) as server:
        sky.source["root"] = server.url
        undisturbed = ingest(sky.context("undisturbed"))
        context = sky.context()
        original, calls = bricks.Bricks._cut, []

        def fail_later(self: Bricks, *arguments: Any) -> Any:
            calls.append(1)
            if len(calls) == 1:  # the next tile is on its way, the one after it is not
                server.faults = {"page": 1.0}
            return original(self, *arguments)

        monkeypatch.setattr(bricks.Bricks, "_cut", fail_later)
        with pytest.raises(GalaxyError, match=r"no FITS file.*run again"):
            ingest(context)
        assert not Path(context.store("dataset"), "dataset.json").exists()
        server.faults = {}
        monkeypatch.undo()
        assert ingest(context)["digest"] == undisturbed["digest"]


@pytest.fixture
def damaged(tree: BrickTree, sky: Sky) -> Path:
    """A copy of the tree, whose first brick's r image may be spoilt."""
    copy = sky.folder / "copy"
    shutil.copytree(tree.root, copy)
    sky.source["root"] = str(copy)
    return copy / tree.image(tree.bricks["brickname"].iloc[0], "image", "r").relative_to(tree.root)


def reasons(sky: Sky) -> Counter[str]:
    rows, answers = sky.read()
    first = sky.tree.bricks["brickname"].iloc[0]
    found = [answer for name, answer in zip(rows["file"], answers, strict=True) if name == first]
    others = [answer for name, answer in zip(rows["file"], answers, strict=True) if name != first]
    assert any(isinstance(answer, Stamp) for answer in others)
    return Counter(answer.reason if isinstance(answer, Refusal) else "" for answer in found)


def test_a_damaged_brick_is_refused_alone(sky: Sky, damaged: Path) -> None:
    whole = damaged.read_bytes()
    for content in (whole[: len(whole) // 2], b"garbage" * 1000, b""):
        damaged.write_bytes(content)
        assert set(reasons(sky)) == {"unreadable tile"}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"CD1_1": 0.262 / 3600}, "tile is turned"),
        ({"CD1_1": -0.3 / 3600, "CD2_2": 0.3 / 3600}, "pixel scale does not fit"),
        ({"MAGZERO": 30.0}, "zero point does not fit"),
    ],
)
def test_a_brick_other_than_the_definition_says_is_refused(
    sky: Sky, damaged: Path, change: dict[str, float], reason: str
) -> None:
    with fits.open(damaged, mode="update") as file:
        file[1].header.update(change)
    assert set(reasons(sky)) == {reason}


def test_an_unmounted_disk_is_no_lack_of_coverage(sky: Sky, damaged: Path) -> None:
    context = sky.context()
    source = Bricks(context.survey.sources[0], context.survey, context.settings)
    rows = source.rows()
    for path in (sky.folder / "copy").iterdir():  # the mount point stays
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(GalaxyError, match=r"no files in .*copy"):
        source.read(rows)


def test_the_three_keys_make_the_id_and_each_must_be_there(sky: Sky) -> None:
    sky.objects["objid"] = sky.objects["objid"].astype(float)
    sky.objects.loc[2, "objid"] = np.nan
    result = ingest(sky.context())
    assert result["refused"]["no object id"] == 1
    assert StampDataset.open(result["dataset"]).catalog["object_id"].str.fullmatch(r"sky/9010-\d+-\d+").all()


def test_tiles_may_be_called_by_numbers(sky: Sky, tmp_path: Path) -> None:
    names = sky.tree.bricks["brickname"].tolist()
    for number, name in enumerate(names[:2]):
        for band in BANDS:
            shutil.copy(sky.tree.image(name, "image", band), tmp_path / f"0012{number}-{band}.fits.fz")
    sky.objects = sky.objects[sky.objects["brickname"].isin(names[:2])].reset_index(drop=True)
    sky.objects["number"] = [f"0012{names.index(name)}" for name in sky.objects["brickname"]]
    sky.source |= {"root": str(tmp_path), "image": "{tile}-{band}.fits.fz", "tile_column": "number"}
    sky.source["catalogue"] = str(sky.folder / "objects.csv")
    sky.objects.to_csv(sky.folder / "objects.csv", index=False)
    _, answers = sky.read()
    assert sum(isinstance(answer, Stamp) for answer in answers) > 0.8 * len(answers) > 40  # the others are in the hole


def test_a_source_without_a_single_stamp_is_a_mistake_and_not_a_result(sky: Sky) -> None:
    wrong = sky.source | {"name": "south", "image": sky.source.get("image", LEGACY) + "-images-{band}.fits.fz"}
    sky.survey["sources"] = [sky.source, wrong]
    context = sky.context()
    with pytest.raises(GalaxyError, match=r"source south: none of \d+ objects has a stamp: no coverage .*images-g"):
        ingest(context)
    assert not Path(context.store("dataset"), "dataset.json").exists()
    sky.survey["sources"] = [sky.source]
    assert ingest(sky.context())["accepted"] > 60


def test_pixels_beyond_a_half_are_refused_and_the_rest_goes_on(sky: Sky, damaged: Path) -> None:
    with fits.open(damaged) as file:
        pixels = np.array(file[1].data)
        pixels[150:250, 150:250] = -7e4
        file[1].data = pixels
        file.writeto(damaged, overwrite=True)
    found = reasons(sky)
    assert found["pixels out of range"] > 0 and found[""] > 0


def test_what_may_not_be_read_is_said_at_once(sky: Sky, tree: BrickTree) -> None:
    with serve(tree.root) as server:
        sky.source["root"] = server.url
        context = sky.context()
        source = Bricks(context.survey.sources[0], context.survey, context.settings)
        rows = source.rows()
        server.faults = {"forbidden": 1.0}
        server.requests.clear()
        with pytest.raises(GalaxyError, match="may not be read"):
            source.read(rows)
        assert max(count for path, count in server.requests.items() if path.startswith("/")) == 1  # not tried again


def test_a_password_in_an_address_is_refused_and_never_shown(sky: Sky) -> None:
    sky.source["root"] = "https://somebody:hunter2@host/dr9"
    with pytest.raises(ValueError, match="environment variable") as refused:
        sky.definition()
    assert "`root`" in str(refused.value)
    assert remote.shown("https://somebody:hunter2@host/dr9/a?key=hunter2") == "https://host/dr9/a"
