"""No two splits share sky, whatever the catalogue looks like."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from infra.errors import GalaxyError
from infra.profile import PreprocessSettings
from tasks.ingest.survey import SurveyDefinition
from tasks.preprocess.duplicates import ARCSEC, connect, near_pairs, unit_vectors
from tasks.preprocess.splits import GUARD, SPLITS, assign_splits, check_splits, stamp_widths
from tasks.stamps.sky_order import healpix_cells

SETTINGS = PreprocessSettings()


def catalog_of(ra, dec, field=None, source="sky"):
    count = len(ra)
    names = [f"{source}/{i:06d}" for i in range(count)]
    field = [None] * count if field is None else field
    return pd.DataFrame(
        {"object_id": names, "source": source, "ra": ra, "dec": dec, "field": pd.Series(field, dtype=object)}
    )


def split(catalog, width=40.0, settings=SETTINGS, groups=None):
    groups = np.arange(len(catalog)) if groups is None else groups
    return assign_splits(catalog, groups, np.full(len(catalog), width), settings)


def nearest_of_other_split(catalog, splits, within):
    """Smallest separation of two objects of different splits, arcsec; guards are left out."""
    used = splits != GUARD
    ra = np.where(used, catalog["ra"], np.nan)
    pairs = near_pairs(ra, catalog["dec"].to_numpy(), within)
    pairs = pairs[splits[pairs[:, 0]] != splits[pairs[:, 1]]]
    vectors = unit_vectors(catalog["ra"].to_numpy(), catalog["dec"].to_numpy())
    chords = np.linalg.norm(vectors[pairs[:, 0]] - vectors[pairs[:, 1]], axis=1)
    return 2 * np.arcsin(chords.min() / 2) / ARCSEC if len(pairs) else np.inf


@pytest.fixture(scope="module")
def dense():
    """A field of 4 square degrees with an object every 25 arcsec: stamps of 40 arcsec overlap everywhere."""
    ra, dec = np.meshgrid(np.arange(149, 151, 25 / 3600), np.arange(1, 3, 25 / 3600))
    jitter = np.random.default_rng(0).uniform(-5, 5, (2, ra.size)) / 3600
    return catalog_of(ra.ravel() + jitter[0], dec.ravel() + jitter[1])


# HEALPix order, stamp width in arcsec, where: equator, a pole, cells of 26 arcsec that a ring could step over
@pytest.mark.parametrize(("order", "width"), [(6, 40.0), (7, 120.0), (10, 60.0), (12, 55.0)])
def test_stamps_of_different_splits_never_share_sky(dense, order, width):
    settings = PreprocessSettings(split_cell_order=order)
    if order >= 10:  # small cells: a corner of the field has hundreds of them
        dense = dense[(dense["ra"] < 149.7) & (dense["dec"] < 1.7)].reset_index(drop=True)
    splits = split(dense, width, settings)
    # squares of this width share sky up to sqrt(2) widths apart, corner to corner
    assert nearest_of_other_split(dense, splits, 1.6 * width) > 2**0.5 * width
    no_guards = split(dense, 0.0, settings)
    assert nearest_of_other_split(dense, no_guards, 1.6 * width) < width  # cells alone would let them
    if order <= 7:
        assert (splits == GUARD).mean() < 0.25


def test_the_poles_are_no_exception():
    generator = np.random.default_rng(1)
    dec = 90 - np.degrees(np.arccos(1 - generator.uniform(0, 1, 60_000) * (1 - np.cos(np.radians(1.5)))))
    polar = catalog_of(generator.uniform(0, 360, 60_000), dec)
    splits = split(polar, 60.0, PreprocessSettings(split_cell_order=7))
    assert {"train", GUARD} < set(splits)
    assert nearest_of_other_split(polar, splits, 100) > 2**0.5 * 60


def test_guards_are_only_near_borders(dense):
    splits = split(dense)
    cells = healpix_cells(dense["ra"].to_numpy(), dense["dec"].to_numpy(), 6)
    inside = splits[splits != GUARD]
    of_cell = pd.Series(splits[splits != GUARD]).groupby(cells[splits != GUARD]).nunique()
    assert (of_cell == 1).all()
    # a border of a cell of 55 arcmin with 40 arcsec either side takes at most 4 * 40 / 3300 of it
    assert len(inside) > 0.9 * len(dense)


def test_shares_are_about_right_over_the_sky():
    generator = np.random.default_rng(2)
    dec = np.degrees(np.arcsin(generator.uniform(-1, 1, 20_000)))
    splits = split(catalog_of(generator.uniform(0, 360, 20_000), dec))
    shares = pd.Series(splits).value_counts(normalize=True)
    assert shares["test"] == pytest.approx(0.2, abs=0.02)
    assert shares["validation"] == pytest.approx(0.1, abs=0.02)
    assert shares[GUARD] < 0.05


def test_a_row_s_split_does_not_depend_on_order_or_on_other_rows(dense):
    some = dense.sample(3000, random_state=0).reset_index(drop=True)
    whole = dict(zip(dense["object_id"], split(dense), strict=True))
    assert dict(zip(some["object_id"], split(some), strict=True)) == {name: whole[name] for name in some["object_id"]}


def test_rows_without_a_position_go_by_field_or_else_by_id():
    count = 6000
    nowhere = np.full(count, np.nan)
    single = split(catalog_of(nowhere, nowhere))
    assert set(single) == set(SPLITS)
    assert (single == "test").mean() == pytest.approx(0.2, abs=0.02)
    fields = [f"plate {i // 4}" for i in range(count)]
    together = pd.Series(split(catalog_of(nowhere, nowhere, fields)))
    assert (together.groupby(fields).nunique() == 1).all()
    assert (together == "test").mean() == pytest.approx(0.2, abs=0.04)


def test_fields_of_two_sources_with_one_name_are_two():
    nowhere = np.full(300, np.nan)
    first, second = (catalog_of(nowhere, nowhere, [f"{i}" for i in range(300)], name) for name in ("a", "b"))
    both = split(pd.concat([first, second], ignore_index=True))
    assert (both[:300] != both[300:]).any()


def _border_pair():
    """Two places 1 arcsec apart in cells of different splits."""
    ra = np.arange(0, 360, 1 / 3600)
    dec = np.full(len(ra), 0.3)
    cells = healpix_cells(ra, dec, 6)
    for place in np.flatnonzero(cells[1:] != cells[:-1]):
        # the cells' own splits, seen in their middles
        middle = split(catalog_of(ra[[place - 900, place + 900]], dec[:2]))
        if GUARD not in middle and middle[0] != middle[1]:
            return ra[[place, place + 1]]
    raise AssertionError("no border found")


def test_duplicates_across_a_border_stay_together():
    ra = _border_pair()
    catalog = catalog_of(ra, [0.3, 0.3])
    splits = split(catalog, width=0.1, groups=connect(2, [np.array([[0, 1]])]))
    assert splits[0] == splits[1] == GUARD


def test_same_pixels_without_a_position_follow_the_row_that_has_one():
    """One with a position in the middle of a cell; its copy has none, and a hash of its own would send it anywhere."""
    generator = np.random.default_rng(3)
    dec = np.degrees(np.arcsin(generator.uniform(-1, 1, 400)))
    ra = generator.uniform(0, 360, 400)
    catalog = catalog_of(np.r_[ra, np.full(400, np.nan)], np.r_[dec, np.full(400, np.nan)])
    splits = split(catalog, groups=np.r_[np.arange(400), np.arange(400)])
    assert (splits[:400] == splits[400:]).all()
    assert set(splits) == {*SPLITS, GUARD}


def test_a_field_in_cells_of_two_splits_is_used_nowhere():
    first, second = _border_pair()
    # half a degree either side of the border: in the middle of cells, and no guards for themselves
    ra = [first - 0.25, second + 0.25]
    assert GUARD not in split(catalog_of(ra, [0.3, 0.3]))
    assert set(split(catalog_of(ra, [0.3, 0.3], ["W1", "W1"]))) == {GUARD}


def test_widths_come_from_the_pixel_scale_else_the_field_of_view():
    definition = SurveyDefinition.model_validate(
        {
            "name": "two",
            "units": "rgb",
            "bands": ["R", "G", "B"],
            "stamp_size": 100,
            "sources": [
                {"kind": "images", "name": name, "folder": ".", "catalogue": "x.csv", "survey_bands": "gri", **more}
                for name, more in {"a": {"field_of_view": 77}, "b": {}}.items()
            ],
        }
    )
    catalog = pd.DataFrame({"source": ["a", "a", "b"], "pixel_scale": [0.3, np.nan, np.nan]})
    assert stamp_widths(catalog, definition).tolist() == [30, 77, 120]


def _table(ra, dec, splits):
    return pd.DataFrame({"source": "brick", "ra": ra, "dec": dec, "split": splits, "usable": True})


def test_one_brick_in_one_cell_is_refused_with_the_order_that_would_do():
    generator = np.random.default_rng(0)
    ra, dec = 150.1 + generator.uniform(0, 0.2, 200), 2.1 + generator.uniform(0, 0.2, 200)
    splits = split(catalog_of(ra, dec))
    with pytest.raises(GalaxyError, match=r"split_cell_order.*order \d+ has \d+ cells"):
        check_splits(_table(ra, dec, splits), SETTINGS)


def test_a_source_with_few_cells_is_told_of():
    ra, dec = np.array([10.0, 50.0, 90.0]), np.zeros(3)
    notes = check_splits(_table(ra, dec, ["train", "validation", "test"]), SETTINGS)
    assert len(notes) == 1
    assert "3 sky cells" in notes[0]
