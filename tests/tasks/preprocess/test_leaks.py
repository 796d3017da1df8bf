"""No stamp of a split shares a pixel of sky with one of another: on a real catalogue, by positions and footprints.

What is checked with is none of the code that splits: astropy pairs the objects and lays their frames over each other.
"""

from __future__ import annotations

import hashlib

import astropy.units as u
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord, search_around_sky
from PIL import Image

from infra.errors import GalaxyError
from infra.profile import PreprocessSettings
from infra.settings import Settings
from tasks.ingest.survey import load_survey
from tasks.preprocess.duplicates import duplicate_groups
from tasks.preprocess.leaks import closest_across_splits
from tasks.preprocess.splits import GUARD, SPLITS, assign_splits, stamp_widths

SURVEY = load_survey("real_sky")


def overlapping(catalog, footprints):
    """(M, 2) pairs of rows whose stamps, squares with north up and `footprints` arcsec wide, share sky."""
    places = SkyCoord(catalog["ra"].to_numpy(float) * u.deg, catalog["dec"].to_numpy(float) * u.deg)
    first, second, _, _ = search_around_sky(places, places, 2**0.5 * footprints.max() * u.arcsec)
    pairs = np.stack([first, second], axis=1)[first < second]
    one, other = pairs.T
    east, north = places[one].spherical_offsets_to(places[other])
    touching = (footprints[one] + footprints[other]) / 2
    return pairs[(np.abs(east.arcsec) < touching) & (np.abs(north.arcsec) < touching)]


def leaks(pairs, splits):
    """Those pairs that lie in two splits; guards are in none."""
    one, other = splits[pairs].T
    return pairs[(one != other) & (one != GUARD) & (other != GUARD)]


@pytest.fixture(scope="module")
def stripe82():
    """Catalogue, what each stamp covers in arcsec by the size of its image, and hashes of the images."""
    source = next(source for source in SURVEY.sources if source.name == "stripe82")
    folder = Settings.from_environment().sky / "stripe82"
    if not folder.exists():
        pytest.skip(f"no folder {folder}; set GALAXY_SKY to the folder of real images")
    table = pd.read_csv(folder / "catalog.csv")
    catalog = pd.DataFrame(
        {
            "object_id": "stripe82/" + table["filename"], "source": "stripe82", "ra": table["ra"], "dec": table["dec"],
            "field": None, "pixel_scale": source.pixel_scale,
        }
    )  # fmt: skip
    footprints, hashes = [], []
    for name in table["filename"]:
        with open(folder / "images" / name, "rb") as file, Image.open(file) as image:
            footprints.append(round(source.rescale.keep * min(image.size)) * source.pixel_scale)
            file.seek(0)
            hashes.append(hashlib.md5(file.read()).hexdigest())
    return catalog, np.array(footprints), pd.Series(hashes)


@pytest.mark.parametrize("order", [6, 7, 9])
def test_no_stamp_of_stripe82_shares_a_pixel_with_another_split(stripe82, order):
    catalog, footprints, hashes = stripe82
    settings = PreprocessSettings(split_cell_order=order)
    groups = duplicate_groups(catalog, hashes, settings.duplicate_radius)
    widths = stamp_widths(catalog, SURVEY)
    splits = assign_splits(catalog, groups, widths, settings)
    assert set(splits) == {*SPLITS, GUARD}
    assert (splits == GUARD).mean() < 0.2
    pairs = overlapping(catalog, footprints)
    assert len(pairs) > 200  # so many could have leaked
    assert len(leaks(pairs, splits)) == 0
    assert closest_across_splits(catalog, splits, widths) > 2**0.5 * footprints.max()


def test_no_group_of_duplicates_of_stripe82_spans_splits(stripe82):
    """With a wide radius, so that there are many; and the same pictures once more, without a position."""
    catalog, _, hashes = stripe82
    both = pd.concat([catalog, catalog.assign(ra=np.nan, dec=np.nan, source="copies")], ignore_index=True)
    groups = duplicate_groups(both, pd.concat([hashes, hashes], ignore_index=True), radius=10.0)
    assert np.bincount(groups).max() > 3
    settings = PreprocessSettings(split_cell_order=8)
    splits = assign_splits(both, groups, stamp_widths(both, SURVEY), settings)
    assert pd.Series(splits).groupby(groups).nunique().max() == 1
    assert (splits[: len(catalog)] == splits[len(catalog) :]).all()
    alone = assign_splits(both, np.arange(len(both)), stamp_widths(both, SURVEY), settings)
    assert pd.Series(alone).groupby(groups).nunique().max() > 1  # groups that are not kept together are found out


def test_wrong_splits_are_found_out(stripe82):
    """Cells without guards along their borders, and splits by object."""
    catalog, footprints, _ = stripe82
    pairs, none = overlapping(catalog, footprints), np.zeros(len(catalog))
    unguarded = assign_splits(catalog, np.arange(len(catalog)), none, PreprocessSettings(split_cell_order=7))
    by_object = np.random.default_rng(0).choice(SPLITS, len(catalog), p=[0.7, 0.1, 0.2]).astype(object)
    assert 0 < len(leaks(pairs, unguarded)) < len(leaks(pairs, by_object))
    for splits in (unguarded, by_object):
        with pytest.raises(GalaxyError, match=r"share sky; the nearest are stripe82/.*apart"):
            closest_across_splits(catalog, splits, footprints)


def test_the_closest_pair_is_that_of_all_separations():
    generator = np.random.default_rng(4)
    ra, dec = generator.uniform(0, 360, 300), np.degrees(np.arcsin(generator.uniform(-1, 1, 300)))
    ra[:20] = np.nan
    splits = generator.choice(["train", "test", GUARD], 300).astype(object)
    catalog = pd.DataFrame({"object_id": [f"{i}" for i in range(300)], "ra": ra, "dec": dec})
    places = SkyCoord(ra[20:] * u.deg, dec[20:] * u.deg)
    separation = places[:, None].separation(places[None]).arcsec
    test, train = ((splits == name)[20:] for name in ("test", "train"))
    closest = closest_across_splits(catalog, splits, np.full(300, 30.0))
    assert closest == pytest.approx(separation[np.ix_(test, train)].min())
    assert np.isnan(closest_across_splits(catalog, np.full(300, "train", object), np.full(300, 30.0)))
