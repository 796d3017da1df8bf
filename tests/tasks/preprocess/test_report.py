"""The quality report says what it should on one page: of all sky or one field, with flags or without."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from flows import report as flow_report
from tasks.preprocess import prepare
from tasks.preprocess.account import account_for
from tasks.preprocess.gallery import choose_rows, flag_captions, make_gallery
from tasks.preprocess.prepare import preprocess
from tasks.preprocess.prepared import PreparedDataset
from tasks.preprocess.report import draw_report
from tasks.preprocess.report_panels import draw_sky


@pytest.fixture(scope="module")
def context(observed_sky, tmp_path_factory):
    return observed_sky.context(tmp_path_factory.mktemp("report"), flags=["blank", "masked"])


@pytest.fixture(scope="module")
def prepared(context):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "_draw", lambda *_: (Path("none.png"), []))
        return PreparedDataset.open(preprocess(context)["prepared"])


@pytest.fixture
def words(monkeypatch):
    """Everything that is written on figures, as it is saved."""
    found: list[str] = []
    save = Figure.savefig

    def saved(figure, *arguments, **options):
        texts = [*figure.texts, *(text for axes in figure.axes for text in (*axes.texts, axes.title, axes.xaxis.label))]
        found.extend(text.get_text() for text in texts)
        return save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", saved)
    return found


def test_it_is_a_page_with_counts_that_add_up_reasons_and_limits(context, prepared, words, tmp_path):
    quarantine = pd.DataFrame(
        {"kind": "object", "source": "sky", "object_id": [f"sky/{i}" for i in range(7)], "table": None,
         "state": "refused", "reason": ["position missing"] * 6 + ["no image file"], "detail": "ra nan"}
    )  # fmt: skip
    account = account_for(prepared.table, quarantine, named=67)
    gallery = make_gallery(prepared)
    path = draw_report(prepared, gallery, account, context.survey, 7200.0, tmp_path / "page.png")
    with Image.open(path) as page:
        width, height = page.size
    assert width > 1000 and height / width == pytest.approx(2**0.5, rel=0.01)
    assert "67 objects = 60 valid + 0 no coverage + 0 failed + 7 refused" in words
    assert any(text.startswith("50 usable: ") and text.endswith("10 flagged as unusable") for text in words)
    assert "6  position missing  (sky)" in words and "sky/0: ra nan" in words
    assert "blank: 5 (8.3%)" in words and "mask fraction > 0.25" in words
    assert words.count("0.60") == 5  # the mask fraction under each masked stamp
    assert "residual background, sigma of a pixel" in words and "share that the survey masked" in words


def test_objects_that_are_lost_are_in_red(context, prepared, words, tmp_path):
    account = account_for(prepared.table, prepared.dataset.quarantine, named=70)
    draw_report(prepared, make_gallery(prepared), account, context.survey, np.nan, tmp_path / "page.png")
    assert any(text.startswith("70 objects were named, 60 are accounted for") for text in words)
    assert "no two objects with positions" in words


def test_pictures_without_a_flag_or_a_mask_have_their_page_too(context, prepared, words, tmp_path):
    table = prepared.table.drop(columns="mask_fraction")
    pictures = SimpleNamespace(
        names=list(table),
        columns=lambda names: table[list(names)],
        dataset=SimpleNamespace(units="rgb", bands=("g", "r", "z"), stamp_size=48),
        digest="0123",
    )
    gallery = dataclasses.replace(make_gallery(prepared), flagged={})
    account = account_for(table, prepared.dataset.quarantine)
    draw_report(pictures, gallery, account, context.survey, 30.0, tmp_path / "page.png")
    assert "line across the stamp, sigma" in words and "saturation" in words
    assert 'the nearest two objects are 30" apart' in words


def _map(ra, dec, state="valid"):
    table = pd.DataFrame({"ra": ra, "dec": dec, "state": state, "split": "train", "usable": True})
    figure = Figure(figsize=(4, 2))
    draw_sky(lambda **options: figure.add_axes((0.1, 0.1, 0.8, 0.8), **options), table)
    return figure.axes[0]


def test_the_map_is_of_the_whole_sky_or_of_a_small_field():
    generator = np.random.default_rng(0)
    assert _map(generator.uniform(0, 360, 50), generator.uniform(-60, 60, 50)).name == "mollweide"
    ra, dec = (359.5 + generator.uniform(0, 1, 50)) % 360, 30 + generator.uniform(0, 1, 50)
    field = _map(ra, dec)
    assert field.name == "rectilinear"
    left, right = field.get_xlim()
    low, high = field.get_ylim()
    assert left > right  # east is left
    assert np.cos(np.radians((left + right) / 2)) > 0.9999  # the middle is at 0h, where others would see a step
    across, up = (left - right) * np.cos(np.radians(30.5)), high - low
    window = field.get_window_extent()
    assert across / up == pytest.approx(window.width / window.height, rel=0.01)  # squares on the sky are squares
    assert up < 1.6
    stray = _map(np.r_[ra, 170.0], np.r_[dec, -40.0], ["valid"] * 50 + ["failed"])
    assert stray.name == "rectilinear"  # one object without a stamp, far off, hides no field
    assert "no stamp has a position" in [text.get_text() for text in _map([np.nan], [np.nan]).texts]


def test_stamps_are_chosen_from_few_shards_and_each_is_read_once(prepared, monkeypatch):
    monkeypatch.setattr("tasks.preprocess.gallery.SHARDS", 2)
    read = []
    real = type(prepared.dataset).read_shard
    monkeypatch.setattr(type(prepared.dataset), "read_shard", lambda self, i: read.append(i) or real(self, i))
    assert len({int(i) for i in prepared.dataset.locate(choose_rows(prepared, np.ones(60, bool), 20))[0]}) == 2
    gallery = make_gallery(prepared)
    assert len(read) == len(set(read))
    picture = gallery.pictures[int(gallery.of_flag("blank", 1)[0])]
    assert picture.shape == (3, 48, 48) and picture.dtype == np.uint8
    assert flag_captions(prepared, "masked", gallery.of_flag("masked", 2)) == ["0.60", "0.60"]


@pytest.mark.parametrize("served", [True, False])
def test_the_flow_run_shows_the_report_or_says_where_it_is(tmp_path, monkeypatch, served):
    made = {}
    for kind in ("image", "link", "markdown"):
        monkeypatch.setattr(
            flow_report,
            f"create_{kind}_artifact",
            lambda *_, _kind=kind, **named: made.update({named["key"]: (_kind, named)}),
        )
    page = {"mlflow_page": "http://host:5000/#/experiments/1/runs/abc", "mlflow_run": "abc"} if served else {}
    flow_report.publish_result("preprocess", {"report": str(tmp_path / "quality_report.png"), **page})
    kind, artifact = made["preprocess-report"]
    if served:
        assert kind == "image"
        assert artifact["image_url"] == "http://host:5000/get-artifact?path=figures%2Fquality_report.png&run_uuid=abc"
    else:
        assert kind == "link" and artifact["link"] == (tmp_path / "quality_report.png").as_uri()
