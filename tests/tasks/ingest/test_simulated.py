"""The simulated source: cheap truth, pixels on demand, and a definition whose labels find their columns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from infra.errors import GalaxyError
from tasks.ingest.labels import label_columns
from tasks.ingest.simulated import SimulatedGalaxies
from tasks.ingest.source_kinds import SimulatedSource
from tasks.ingest.survey import SurveyDefinition, load_survey
from tasks.stamps.stamp import Stamp

BANDS = ("g", "r", "z")


@pytest.fixture(scope="module")
def galaxies() -> SimulatedGalaxies:
    source = SimulatedSource(kind="simulated", name="toys", count=24, seed=3, lens_rate=0.3, merger_rate=0.1)
    return SimulatedGalaxies(source, 64, BANDS)


@pytest.fixture(scope="module")
def rows(galaxies: SimulatedGalaxies) -> pd.DataFrame:
    return galaxies.rows()


def test_rows_name_every_object_once_on_the_patch(rows: pd.DataFrame) -> None:
    assert list(rows["object_id"]) == [f"toys-{i:08d}" for i in range(24)]
    assert rows["ra"].between(145, 155).all() and rows["dec"].between(-3, 7).all()
    assert rows["ra"].nunique() == 24


def test_rows_are_the_same_in_a_larger_set(galaxies: SimulatedGalaxies, rows: pd.DataFrame) -> None:
    larger = SimulatedGalaxies(galaxies.source.model_copy(update={"count": 30}), 64, BANDS).rows()
    pd.testing.assert_frame_equal(larger[:24], rows)


def test_any_rows_in_any_order_give_the_same_stamps(galaxies: SimulatedGalaxies, rows: pd.DataFrame) -> None:
    first = galaxies.read(rows)
    order = [7, 2, 19]
    for place, stamp in zip(order, galaxies.read(rows.iloc[order]), strict=True):
        again = first[place]
        assert isinstance(stamp, Stamp) and isinstance(again, Stamp)
        assert stamp.image.dtype == np.float16 and stamp.image.shape == (3, 64, 64)
        assert np.isfinite(stamp.image).all()
        assert np.array_equal(stamp.image, again.image) and stamp.columns == again.columns


def test_mask_is_there_for_lenses_alone_and_marks_the_arc(galaxies: SimulatedGalaxies, rows: pd.DataFrame) -> None:
    assert 0 < rows["has_arc"].sum() < len(rows)
    for (_, row), stamp in zip(rows.iterrows(), galaxies.read(rows), strict=True):
        assert isinstance(stamp, Stamp)
        packed = stamp.columns["lens_mask"]
        assert (packed is not None) == (row["has_arc"] == 1) == np.isfinite(row["einstein_radius"])
        if packed is not None:
            mask = np.unpackbits(np.frombuffer(packed, np.uint8))[: 64 * 64].reshape(64, 64)
            y, x = np.nonzero(mask)
            farthest = np.hypot(x - 31.5, y - 31.5).max() * 0.262
            assert 0 < mask.sum() < 1500 and farthest < 3 * row["einstein_radius"] + 2


def test_ellipticity_is_that_of_axis_ratio_and_angle(rows: pd.DataFrame) -> None:
    known = rows[rows["axis_ratio"].notna()]
    modulus = np.hypot(known["e1"], known["e2"])
    np.testing.assert_allclose((1 - modulus) / (1 + modulus), known["axis_ratio"])
    angle = np.rad2deg(0.5 * np.arctan2(known["e2"], known["e1"])) % 180
    np.testing.assert_allclose(angle, known["position_angle"])


def test_disturbed_galaxies_have_no_single_ellipse(rows: pd.DataFrame) -> None:
    disturbed = rows["class"] == "disturbed"
    assert disturbed.any()
    shape = ["half_light_radius", "axis_ratio", "position_angle", "sersic_index", "e1"]
    assert rows.loc[disturbed, shape].isna().all(axis=None) and rows.loc[~disturbed, shape].notna().all(axis=None)
    assert rows["mag_r"].notna().all()


def test_vote_fractions_add_up_to_one_where_anybody_was_asked(rows: pd.DataFrame) -> None:
    for question, answers in {"smooth_or_featured": 3, "spiral_winding": 3, "merging": 4}.items():
        columns = [c for c in rows if c.startswith(f"{question}_") and not c.endswith("total_votes")]
        assert len(columns) == answers
        asked = rows[f"{question}_total_votes"] > 0
        np.testing.assert_allclose(rows.loc[asked, columns].sum(axis=1), 1)
        assert rows.loc[~asked, columns].isna().all(axis=None)


def test_unknown_object_is_refused(galaxies: SimulatedGalaxies) -> None:
    for name in ("toys-00000024", "others-00000001", "toys-x"):
        with pytest.raises(GalaxyError, match="toys-00000000 to toys-00000023"):
            galaxies.read(pd.DataFrame({"object_id": [name]}))


def test_impossible_settings_are_refused() -> None:
    source = SimulatedSource(kind="simulated", name="toys", lens_rate=0.7, merger_rate=0.6)
    with pytest.raises(GalaxyError, match="add up to more than 1"):
        SimulatedGalaxies(source, 64, BANDS)
    with pytest.raises(GalaxyError, match="not in u"):
        SimulatedGalaxies(source.model_copy(update={"lens_rate": 0.1}), 64, ("u", "g", "r"))


@pytest.fixture(scope="module")
def embedded() -> SurveyDefinition:
    return load_survey("embedded")


def test_every_label_of_the_embedded_survey_has_its_column(embedded: SurveyDefinition) -> None:
    source = embedded.sources[0]
    assert isinstance(source, SimulatedSource)
    galaxies = SimulatedGalaxies(source.model_copy(update={"count": 40}), embedded.stamp_size, tuple(embedded.bands))
    truth = galaxies.rows()
    truth = truth.join(pd.DataFrame([stamp.columns for stamp in galaxies.read(truth)]))
    for table in embedded.labels:
        columns, unknown = label_columns(table, truth, "the simulation")
        assert unknown.empty, f"{table.name}: {set(unknown)} are no classes of the definition"
        assert columns.notna().any(axis=None)
    tasks = {task for table in embedded.labels for task in table.feeds}
    assert tasks == {"classification", "votes", "parameters", "align", "lens", "neighbours"}
