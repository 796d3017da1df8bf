"""Galaxy10: the right picture and class for each row, whatever chunks the file has, and the set without positions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
import pytest
from PIL import Image
from pydantic import ValidationError

from infra.errors import GalaxyError
from tasks.ingest.galaxy10 import Galaxy10
from tasks.ingest.ingest import ingest
from tasks.ingest.resample import picture_stamp
from tasks.ingest.survey import load_survey
from tasks.stamps.dataset import StampDataset
from tests.doubles.ingest_stage import pixels_by_id, shuffled, stage_context
from tests.doubles.published_sets import PublishedSet, cut_short, damage_chunk, write_galaxy10

REDSHIFT = {
    "name": "redshift", "source": "galaxy10", "kind": "values", "values": {"redshift": "redshift"},
    "feeds": ["parameters"],
}  # fmt: skip
CLASSES = {
    "name": "class", "source": "galaxy10", "kind": "classes", "column": "ans",
    "classes": {str(number): f"class_{number}" for number in range(9)}, "feeds": ["classification"],
}  # fmt: skip


def definition(file: str | Path, size: int = 32, labels: tuple[Any, ...] = (CLASSES,), **source: Any) -> dict[str, Any]:
    return {
        "units": "rgb",
        "bands": ["R", "G", "B"],
        "stamp_size": size,
        "sources": [{"kind": "galaxy10", "name": "galaxy10", "file": str(file), **source}],
        "labels": list(labels),
    }


def reader(file: str | Path, size: int = 32, **source: Any) -> Galaxy10:
    context = stage_context(Path("unused"), definition(file, size, **source))
    return Galaxy10(context.survey.sources[0], context.survey, context.settings)


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> PublishedSet:
    """Forty pictures of 256 px."""
    return write_galaxy10(tmp_path_factory.mktemp("galaxy10") / "Galaxy10_DECals.h5")


def path_of(published: PublishedSet) -> Path:
    return published.folder / published.files[0]


def test_the_shipped_definition_keeps_the_pictures_as_they_are(
    published: PublishedSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GALAXY_GALAXY10", str(path_of(published)))
    survey = load_survey("galaxy10")
    result = ingest(stage_context(tmp_path, survey.model_dump()))
    assert (result["accepted"], result["refused"], result["labels_refused"]) == (40, {}, {})
    dataset = StampDataset.open(result["dataset"])
    stored = pixels_by_id(dataset)
    for row, picture in enumerate(published.images):
        assert np.array_equal(stored[f"galaxy10/{row}"], picture[52:204, 52:204].transpose(2, 0, 1)), row
    catalogue = dataset.catalog
    assert (np.diff(catalogue["healpix"]) > 0).all()
    truth = published.table.iloc[catalogue["object_id"].str.removeprefix("galaxy10/").astype(int)]
    assert np.allclose(catalogue["pixel_scale"], 0.262)
    assert np.array_equal(catalogue["ra"], truth["ra"])
    names = survey.labels[0].classes
    assert catalogue["label.galaxy10"].tolist() == [names[str(answer)] for answer in truth["ans"]]


def test_the_shipped_definition_says_which_variable_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GALAXY_GALAXY10", raising=False)
    with pytest.raises(GalaxyError, match="GALAXY_GALAXY10, which is not set"):
        ingest(stage_context(tmp_path, load_survey("galaxy10").model_dump()))


def test_pictures_are_resampled_like_other_images_and_the_scale_follows(published: PublishedSet) -> None:
    pictures = reader(path_of(published), size=64, rescale={"keep": 0.75})
    rows = pictures.rows()
    answer = pictures.read(rows.iloc[[5]])[0]
    assert np.array_equal(answer.image, picture_stamp(Image.fromarray(published.images[5]), 0.75, 64))
    assert np.allclose(rows["pixel_scale"], 0.262 * 192 / 64)


def test_classes_and_redshifts_are_labels_and_strange_classes_are_refused(
    published: PublishedSet, tmp_path: Path
) -> None:
    result = ingest(stage_context(tmp_path, definition(path_of(published), labels=(CLASSES, REDSHIFT))))
    nines = int((published.table["ans"] == 9).sum())
    assert nines > 0
    assert result["labels_refused"] == {"label is no class of the definition": nines}
    catalogue = StampDataset.open(result["dataset"]).catalog
    assert catalogue["label.class"].isna().sum() == nines
    truth = published.table.iloc[catalogue["object_id"].str.removeprefix("galaxy10/").astype(int)]
    redshift = truth["redshift"].to_numpy(np.float32)
    assert np.isnan(redshift).any()
    assert np.array_equal(catalogue["value.redshift.redshift"], redshift, equal_nan=True)


def test_the_set_without_positions_is_read_in_the_order_of_its_ids(tmp_path: Path) -> None:
    published = write_galaxy10(tmp_path / "Galaxy10.h5", count=30, size=69, positions=False)
    survey = definition(path_of(published), survey_bands="gri", pixel_scale=0.396)
    result = ingest(stage_context(tmp_path, survey))
    dataset = StampDataset.open(result["dataset"])
    assert result["accepted"] == 30
    assert dataset.catalog["ra"].isna().all() and (dataset.catalog["healpix"] == -1).all()
    assert np.allclose(dataset.catalog["pixel_scale"], 0.396 * 69 / 32)
    for name, pixels in pixels_by_id(dataset).items():
        picture = Image.fromarray(published.images[int(name.removeprefix("galaxy10/"))])
        assert np.array_equal(pixels, picture_stamp(picture, 1.0, 32)), name


def test_order_of_the_work_changes_nothing(published: PublishedSet, tmp_path: Path) -> None:
    survey = definition(path_of(published))
    alone = ingest(stage_context(tmp_path, survey, "alone"))["digest"]
    with shuffled(1):
        assert ingest(stage_context(tmp_path, survey, "shuffled"))["digest"] == alone


def test_chunks_with_corners_of_many_pictures_are_decompressed_once(
    published: PublishedSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = reader(path_of(published))
    with h5py.File(path_of(published)) as file:
        chunk = file["images"].chunks
    assert chunk[0] > 1 and chunk[1] < 256  # as h5py chooses them, and the published file has them
    rows = pictures.rows()
    pieces: list[Any] = []
    taken = h5py.Dataset.__getitem__
    monkeypatch.setattr(h5py.Dataset, "__getitem__", lambda self, key: (pieces.append(key), taken(self, key))[1])
    pictures.read(rows.sample(frac=1, random_state=0))
    touched = [
        number for piece in pieces for number in range(piece.start // chunk[0], (piece.stop - 1) // chunk[0] + 1)
    ]
    assert len(touched) == len(set(touched))


def test_damage_is_named_and_costs_no_other_pictures(tmp_path: Path) -> None:
    published = write_galaxy10(tmp_path / "set" / "small.h5", count=30, size=69)
    lost = damage_chunk(path_of(published), 20)
    result = ingest(stage_context(tmp_path, definition(path_of(published))))
    assert 0 < len(lost) < 30
    assert result["refused"] == {"unreadable image": len(lost)}
    assert result["accepted"] == 30 - len(lost)
    failed = pd.read_parquet(result["quarantine"]).query("kind == 'object'")
    assert set(failed["object_id"]) == {f"galaxy10/{row}" for row in lost}
    cut_short(path_of(published))
    with pytest.raises(
        GalaxyError, match=r"source galaxy10: cannot read .*small\.h5: .*truncated file.*fetch it again"
    ):
        ingest(stage_context(tmp_path, definition(path_of(published)), "again"))


def test_what_does_not_fit_is_named(published: PublishedSet, tmp_path: Path) -> None:
    with pytest.raises(GalaxyError, match=r"no file .*absent\.h5"):
        reader(tmp_path / "absent.h5").fingerprint()
    with pytest.raises(ValidationError, match="`units` must be 'rgb'"):
        stage_context(tmp_path, {**definition("a.h5"), "units": "nanomaggy", "bands": ["g", "r", "z"]})
    with pytest.raises(GalaxyError, match=r"no column 'z' in .*it has object_id, ans, dec"):
        missing = {**REDSHIFT, "values": {"redshift": "z"}}
        ingest(stage_context(tmp_path, definition(path_of(published), labels=(missing,))))
    with h5py.File(tmp_path / "fluxes.h5", "w") as file:
        file["images"] = np.zeros((4, 3, 64, 64), np.float32)
    with pytest.raises(GalaxyError, match=r"should be pictures \(rows, height, width, 3\) uint8"):
        reader(tmp_path / "fluxes.h5").rows()
    with h5py.File(tmp_path / "nothing.h5", "w") as file:
        file["flux"] = np.zeros(4)
    with pytest.raises(GalaxyError, match=r"nothing\.h5 has no array `images`; it has flux"):
        reader(tmp_path / "nothing.h5").rows()
