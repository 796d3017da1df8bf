"""Small brick trees of the Legacy Surveys' DR9, written from scenes of known galaxies as the survey writes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits

from galaxy_models.simulation.galaxy import BANDS
from tests.doubles.brick import TRUE_SIDE, TRUE_STEP, Brick, Float, brick_table, lay_bricks
from tests.doubles.brick_files import BrickTree, write_brick, write_table
from tests.doubles.brick_scene import draw_objects, draw_scene, draw_stamp, paste, profile_of, stamp_width


def make_brick_tree(
    root: Path,
    *,
    columns: int = 2,
    rows: int = 2,
    side: int = 600,
    step: float = 0.0375,
    galaxies_per_brick: int = 40,
    seed: int = 0,
    bands: Sequence[str] = BANDS,
    compressed: bool = True,
    centre: tuple[float, float] = (150.0, 2.0),
    missing_bands: Sequence[tuple[int, str]] = (),
    holes: Sequence[tuple[int, str]] = (),
    bright_stars: Sequence[int] = (),
) -> BrickTree:
    """Neighbouring bricks of one scene; the same arguments make the same bytes.

    Parameters
    ----------
    root
        The folder to make the tree in.
    columns, rows
        Bricks along right ascension and declination. Brick number 0 has the least of both; columns are counted first.
    side, step
        Of a brick: pixels of its images, and degrees on the sky that are its own. The survey's are 3600 and 0.25.
    galaxies_per_brick
        Galaxies, on average, in a brick's own area; a quarter as many stars come on top.
    centre
        Of the whole tree: right ascension and declination, degrees.
    missing_bands
        (brick number, band) without any file.
    holes
        (brick number, band) with a square a third as wide as the brick, in its south-east, that was never exposed.
    bright_stars
        Numbers of bricks with a star of magnitude 11 in the middle of their south-western quarter, masked around it.

    Raises
    ------
    ValueError
        If images do not reach over the edges of their bricks, or a tile would be narrower than 4 pixels.
    """
    bricks = lay_bricks(columns, rows, side, step, bands, centre, seed)
    for brick in bricks:
        brick.exposures.update({band: 0 for number, band in missing_bands if number == brick.number})
        brick.holes.extend(band for number, band in holes if number == brick.number)
    scene = draw_scene(bricks, galaxies_per_brick, [bricks[number] for number in bright_stars], seed)
    profiles = [profile_of(row) for row in scene.itertuples()]
    catalogues = []
    tree = BrickTree(root, brick_table(bricks), pd.DataFrame(), ".fits.fz" if compressed else ".fits")
    for brick in bricks:
        x, y = brick.pixels(scene)

        def draw(band: str, brick: Brick = brick, x: Float = x, y: Float = y) -> Float:
            sky = np.zeros((side, side), np.float32)
            for profile, flux, radius, column, row in zip(
                profiles, scene[f"flux_{band}"], scene["shape_r"], x, y, strict=True
            ):
                width = stamp_width(radius)
                if -width < 2 * column < 2 * side + width and -width < 2 * row < 2 * side + width:
                    offset = column - np.rint(column), row - np.rint(row)
                    stamp = draw_stamp(profile, brick.psf_fwhm(band), width, offset)
                    paste(sky, stamp, flux, int(np.rint(column)), int(np.rint(row)))
            return sky

        catalogues.append(write_brick(tree, brick, scene, draw))
    return _finish(tree, catalogues)


def make_benchmark_bricks(
    root: Path,
    columns: int,
    rows: int,
    *,
    side: int = TRUE_SIDE,
    objects_per_brick: int = 6000,
    compressed: bool = True,
    seed: int = 0,
    bands: Sequence[str] = BANDS,
) -> BrickTree:
    """A rectangle of bricks of the survey's size, made fast: copies of 200 objects, each in the middle of some pixel.

    Pixels compress like the survey's. Seeing is the same in all bricks, and neighbours do not show the same objects.

    Parameters
    ----------
    objects_per_brick
        Objects on a brick's images; the survey has 6000 in its mean brick.
    """
    bricks = lay_bricks(columns, rows, side, TRUE_STEP * side / TRUE_SIDE, bands, (150.0, 2.0), seed)
    for brick in bricks:
        brick.conditions = bricks[0].conditions
    fwhm = {band: bricks[0].psf_fwhm(band) for band in bands}
    templates = draw_objects(np.random.default_rng([seed, 2]), 160, 40)
    stamps = {
        band: [draw_stamp(profile_of(row), fwhm[band], stamp_width(row.shape_r)) for row in templates.itertuples()]
        for band in bands
    }
    catalogues = []
    tree = BrickTree(root, brick_table(bricks), pd.DataFrame(), ".fits.fz" if compressed else ".fits")
    for brick in bricks:
        generator = np.random.default_rng([seed, 3, brick.number])
        kinds = generator.integers(0, len(templates), objects_per_brick)
        x, y = generator.integers(0, side, (2, objects_per_brick))
        scene = templates.iloc[kinds].reset_index(drop=True)
        scene["ra"], scene["dec"] = brick.wcs.pixel_to_world_values(x, y)
        scene["source"] = np.arange(objects_per_brick) + brick.number * objects_per_brick

        def draw(band: str, scene: pd.DataFrame = scene, kinds: Float = kinds, x: Float = x, y: Float = y) -> Float:
            sky = np.zeros((side, side), np.float32)
            for kind, flux, column, row in zip(kinds, scene[f"flux_{band}"], x, y, strict=True):
                paste(sky, stamps[band][kind], flux, column, row)
            return sky

        catalogues.append(write_brick(tree, brick, scene, draw))
    return _finish(tree, catalogues)


def _finish(tree: BrickTree, catalogues: Sequence[pd.DataFrame]) -> BrickTree:
    bricks = tree.bricks.assign(nobjs=[int(catalogue["brick_primary"].sum()) for catalogue in catalogues])
    table = bricks.drop(columns=["brickq", "brickrow", "brickcol"])
    write_table(tree.root / "survey-bricks-dr9-south.fits.gz", table, fits.Header())
    return BrickTree(tree.root, bricks, pd.concat(catalogues, ignore_index=True), tree.suffix)
