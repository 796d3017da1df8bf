"""The made-up bricks hold what their tables say they hold, where the WCS says, in files like the survey's."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from .brick_files import BRIGHT_STAR, NOT_PRIMARY, BrickTree
from .brick_tree import make_benchmark_bricks, make_brick_tree

SIDE = 300
HOLED, STARRED = 0, 1

CORRELATION = 1.66
"""How much noisier a sum over many pixels is than of independent ones: (1 + 2 w)^2 / (1 + 2 w^2), w = 0.16."""


def make(root: Path, **options: Any) -> BrickTree:
    return make_brick_tree(root, rows=1, side=SIDE, step=0.0165, galaxies_per_brick=15, seed=4, **options)


def make_blemished(root: Path, **options: Any) -> BrickTree:
    return make(root, missing_bands=[(STARRED, "z")], holes=[(HOLED, "g")], bright_stars=[STARRED], **options)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> BrickTree:
    return make(tmp_path_factory.mktemp("bricks"))


@pytest.fixture(scope="module")
def blemished(tmp_path_factory: pytest.TempPathFactory) -> BrickTree:
    return make_blemished(tmp_path_factory.mktemp("blemished"))


def read(tree: BrickTree, number: int, product: str, band: str = "") -> np.ndarray:
    return fits.getdata(tree.image(tree.bricks["brickname"][number], product, band), 1)


def in_brick(tree: BrickTree, number: int) -> pd.DataFrame:
    return tree.objects[tree.objects["brickid"] == tree.bricks["brickid"][number]]


def aperture(tree: BrickTree, number: int, band: str, objects: pd.DataFrame) -> pd.DataFrame:
    """Light within 4" of each object, its error and its centre's distance in pixels; NaN at edges and holes."""
    path = tree.image(tree.bricks["brickname"][number], "image", band)
    with fits.open(path) as hdus:
        image, wcs = hdus[1].data, WCS(hdus[1].header)
    weight = read(tree, number, "invvar", band)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    measured = []
    for row in objects.itertuples():
        x, y = wcs.world_to_pixel_values(row.ra, row.dec)
        inside = np.hypot(columns - x, rows - y) < 15
        if inside.sum() > 700 and (weight[inside] > 0).all():
            light = image[inside]
            distance = np.hypot(*((light * axis[inside]).sum() / light.sum() for axis in (columns - x, rows - y)))
            measured.append((light.sum(), CORRELATION * np.sqrt((1 / weight[inside]).sum()), distance))
        else:
            measured.append((np.nan, np.nan, np.nan))
    return pd.DataFrame(measured, columns=["flux", "error", "distance"], index=objects.index)


def lonely(tree: BrickTree, objects: pd.DataFrame) -> pd.Series:
    """Whether a small object has neither a neighbour within 9" nor a far brighter one within half an arcminute."""
    others = tree.objects.drop_duplicates("source")
    alone = []
    for row in objects.itertuples():
        distance = 3600 * np.hypot((others["ra"] - row.ra) * np.cos(np.deg2rad(row.dec)), others["dec"] - row.dec)
        near = (distance < 9) | ((distance < 30) & (others["flux_r"] > 10 * row.flux_r))
        alone.append(near.sum() == 1 and row.shape_r < 1 and row.sersic <= 1)
    return pd.Series(alone, index=objects.index)


def test_fluxes_are_found_where_the_wcs_says(tree: BrickTree) -> None:
    found = 0
    for number, band in ((0, "g"), (0, "r"), (1, "r")):
        objects = in_brick(tree, number)
        objects = objects[lonely(tree, objects)]
        measured = aperture(tree, number, band, objects)
        true = objects[f"flux_{band}"]
        pull = ((measured["flux"] - true) / np.hypot(measured["error"], 0.03 * true)).dropna()
        found += len(pull)
        assert pull.abs().max() < 4
        bright = true > 30 * measured["error"]
        assert (measured["distance"][bright] < 0.5).all()
    assert found >= 6


def test_neighbours_agree_where_they_overlap(tree: BrickTree) -> None:
    first, second = in_brick(tree, 0).set_index("source"), in_brick(tree, 1).set_index("source")
    both = first.index.intersection(second.index)
    assert len(both) >= 5
    assert not (first["brick_primary"][both] & second["brick_primary"][both]).any()
    assert (first["flux_r"][both] == second["flux_r"][both]).all()
    one, other = (aperture(tree, i, "r", part.loc[both]) for i, part in enumerate((first, second)))
    # Seeing differs, so that an aperture holds a little more of an object here than there.
    error = np.sqrt(one["error"] ** 2 + other["error"] ** 2 + (0.03 * one["flux"]) ** 2)
    pull = ((one["flux"] - other["flux"]) / error).dropna()
    assert len(pull) >= 3
    assert pull.abs().max() < 4


def test_every_object_of_the_tree_is_primary_once(tree: BrickTree) -> None:
    bounds = tree.bricks[["ra1", "ra2", "dec1", "dec2"]]
    primary = tree.objects.groupby("source")["brick_primary"].sum()
    place = tree.objects.groupby("source")[["ra", "dec"]].first()
    owned = (place["ra"] >= bounds["ra1"].min()) & (place["ra"] < bounds["ra2"].max())
    owned &= (place["dec"] >= bounds["dec1"].min()) & (place["dec"] < bounds["dec2"].max())
    assert (primary == owned).all()
    assert list(tree.bricks["nobjs"]) == [in_brick(tree, number)["brick_primary"].sum() for number in range(2)]


def test_the_same_arguments_make_the_same_bytes(blemished: BrickTree, tmp_path: Path) -> None:
    again = make_blemished(tmp_path)
    files = sorted(path.relative_to(blemished.root) for path in blemished.root.rglob("*") if path.is_file())
    assert files == sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert len(files) == 1 + 2 * 2 + 7 + 5
    for name in files:
        assert (again.root / name).read_bytes() == (blemished.root / name).read_bytes(), name


def test_images_are_compressed_as_the_survey_compresses(blemished: BrickTree) -> None:
    brick = blemished.bricks["brickname"][HOLED]
    for product, algorithm, method in (
        ("image", "RICE_1", "SUBTRACTIVE_DITHER_2"),
        ("invvar", "RICE_1", None),
        ("maskbits", "HCOMPRESS_1", None),
    ):
        path = blemished.image(brick, product, "" if product == "maskbits" else "r")
        with fits.open(path, disable_image_compression=True) as hdus:
            assert len(hdus) == 2 and hdus[0].data is None
            header = hdus[1].header
            assert (header["ZTILE1"], header["ZTILE2"]) == (100, 100)
            assert (header["ZCMPTYPE"], header.get("ZQUANTIZ")) == (algorithm, method)
            assert header["BRICK"] == brick and header["IMTYPE"] == product


def test_sums_verify(blemished: BrickTree) -> None:
    for path in blemished.root.rglob("*.fits*"):
        with fits.open(path, disable_image_compression=True) as hdus:
            for hdu in hdus:
                assert hdu.verify_datasum() == hdu.verify_checksum() == 1, path
    for brick in blemished.bricks["brickname"]:
        for line in blemished.checksums(brick).read_text().splitlines():
            digest, name = line.split(" *")
            assert hashlib.sha256((blemished.root / name).read_bytes()).hexdigest() == digest


def test_blemishes_are_there(blemished: BrickTree) -> None:
    image, weight = (read(blemished, HOLED, product, "g") for product in ("image", "invvar"))
    assert ((weight == 0) == (image == 0)).all()
    assert (weight == 0).sum() == (SIDE // 3) ** 2
    catalogue = Table.read(blemished.catalogue(blemished.bricks["brickname"][HOLED]))
    unseen = catalogue["nobs_g"] == 0
    assert 0 < unseen.sum() < len(catalogue)
    assert (catalogue["flux_g"][unseen] == 0).all() and (catalogue["flux_ivar_g"][unseen] == 0).all()

    assert not blemished.image(blemished.bricks["brickname"][STARRED], "image", "z").exists()
    table = Table.read(blemished.root / "survey-bricks-dr9-south.fits.gz")
    assert (table["nexp_z"] == 0).tolist() == [False, True]
    assert table["brickname"].tolist() == blemished.bricks["brickname"].tolist()

    mask = read(blemished, STARRED, "maskbits")
    assert mask.dtype == np.dtype("int16")
    assert mask[75, 225] & BRIGHT_STAR and not mask[75, 160] & BRIGHT_STAR
    assert read(blemished, STARRED, "image", "r")[75, 225] > 10


def test_mask_bits_say_which_pixels_are_the_bricks_own(tree: BrickTree) -> None:
    for number, brick in tree.bricks.iterrows():
        header = fits.getheader(tree.image(brick["brickname"], "maskbits"), 1)
        rows, columns = np.mgrid[:SIDE, :SIDE]
        ra, dec = WCS(header).pixel_to_world_values(columns, rows)
        own = (brick["ra1"] <= ra) & (ra < brick["ra2"]) & (brick["dec1"] <= dec) & (dec < brick["dec2"])
        assert ((read(tree, number, "maskbits") & NOT_PRIMARY == 0) == own).all()


def test_plain_files_hold_the_pixels_before_compression(blemished: BrickTree, tmp_path: Path) -> None:
    plain = make_blemished(tmp_path, compressed=False)
    brick = blemished.bricks["brickname"][HOLED]
    exact = fits.getdata(plain.image(brick, "image", "g"), 0)
    error = np.abs(read(blemished, HOLED, "image", "g") - exact)
    assert (error <= 0.51e-4 + np.finfo(np.float32).eps * np.abs(exact)).all()
    weight = fits.getdata(plain.image(brick, "invvar", "g"), 0)
    assert np.abs(read(blemished, HOLED, "invvar", "g") - weight).max() < 0.01 * weight.max()


def test_a_step_that_leaves_gaps_between_bricks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="smaller step"):
        make_brick_tree(tmp_path, side=300, step=0.0375)


def test_benchmark_bricks_are_mostly_noise(tmp_path: Path) -> None:
    tree = make_benchmark_bricks(tmp_path, 2, 1, side=400, objects_per_brick=70, bands=["r"])
    assert len(tree.objects) == 140
    for number, brick in enumerate(tree.bricks["brickname"]):
        image, weight = (read(tree, number, product, "r") for product in ("image", "invvar"))
        # Two columns apart pixels are all but independent, and what is smooth drops out.
        deviation = 1.4826 * np.median(np.abs(image[:, 2:] - image[:, :-2])) / np.sqrt(2)
        assert deviation == pytest.approx(1 / np.sqrt(np.median(weight)), rel=0.1)
        assert 0.6 < tree.image(brick, "image", "r").stat().st_size / image.size < 1.4
        brightest = in_brick(tree, number).nlargest(1, "flux_r").iloc[0]
        assert image[round(brightest["by"]), round(brightest["bx"])] > 30 * deviation
