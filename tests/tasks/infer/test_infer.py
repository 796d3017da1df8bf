"""The catalogue says what the models said, row for row, and a kill changes nothing of it."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from infra.errors import GalaxyError
from tasks.infer import infer as stage
from tasks.infer.publish import published, read_predictions


def red(prepared) -> np.ndarray:
    return prepared.dataset.images[:, 0].reshape(len(prepared.dataset), -1).mean(axis=1) / 255


def test_every_row_of_the_dataset_is_in_the_catalogue_in_its_order(run, prepared):
    result = run()
    table = read_predictions(Path(result["catalogue"]).parent)
    assert table["object_id"].tolist() == prepared.dataset.catalog["object_id"].tolist()
    assert table["row"].tolist() == list(range(40))
    valid = table["refused"].isna().to_numpy()
    assert table.loc[~valid, "refused"].to_dict() == {3: "image is cut short", 20: "no_coverage"}
    assert (result["rows"], result["refused"]) == (38, {"image is cut short": 1, "no_coverage": 1})
    np.testing.assert_allclose(table["lens_score"][valid], red(prepared)[valid], rtol=1e-5)
    np.testing.assert_allclose(table["p_round"][valid], 1 - red(prepared)[valid], rtol=1e-5)
    assert table.loc[~valid, ["lens_score", "p_spiral", "boxes"]].isna().all(axis=None)
    assert table["flag_star"].sum() == 1 and table.loc[8, "lens_score"] > 0  # a flagged stamp has answers too
    assert set(table["version_galaxy_lvm"]) == {1}
    assert set(table["dataset_digest"]) == {"d" * 64}


def test_embeddings_lie_beside_row_for_row(run, prepared):
    folder = Path(run()["catalogue"]).parent
    embeddings = np.load(folder / "embeddings.npy")
    assert (embeddings.shape, embeddings.dtype) == ((40, 6), np.float16)
    np.testing.assert_allclose(embeddings[5, 0], red(prepared)[5], rtol=2e-3)
    assert np.isnan(embeddings[[3, 20]]).all() and np.isfinite(np.delete(embeddings, [3, 20], axis=0)).all()
    assert np.load(folder / "align_embeddings.npy").shape == (40, 6)


def test_fits_table_is_readable_with_units_and_without_objects(run):
    result = run()
    table = Table.read(Path(result["catalogue"]).parent / "predictions.fits")
    frame = read_predictions(Path(result["catalogue"]).parent)
    assert len(table) == 40
    assert all(table[name].dtype.kind != "O" for name in table.colnames)
    assert str(table["ra"].unit) == "deg" and str(table["half_light_radius"].unit) == "arcsec"
    np.testing.assert_array_equal(np.asarray(table["lens_score"]), frame["lens_score"].to_numpy(np.float32))
    assert [str(name).strip() for name in table["object_id"]] == frame["object_id"].tolist()
    boxed = frame["boxes"].map(lambda boxes: -1 if boxes is None else len(boxes))
    assert table["boxes_count"].tolist() == boxed.tolist()
    assert float(table["box_x1"][table["boxes_count"] > 0][0]) == 20
    assert str(table["refused"][20]).strip() == "no_coverage"


def test_killed_and_started_again_it_asks_only_for_what_is_missing(run, prepared, monkeypatch):
    undisturbed = run("quiet")
    prepared.dataset.read.clear()
    real = stage.predict_shard

    def killed(dataset, shard, *rest):
        if shard == 1:
            raise KeyboardInterrupt
        real(dataset, shard, *rest)

    with monkeypatch.context() as patched:
        patched.setattr(stage, "predict_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            run("disturbed")
    assert prepared.dataset.read == [0]
    again = run("disturbed")
    assert prepared.dataset.read == [0, 1, 2]
    assert again["digest"] == undisturbed["digest"]
    pd.testing.assert_frame_equal(
        read_predictions(Path(again["catalogue"]).parent), read_predictions(Path(undisturbed["catalogue"]).parent)
    )
    assert run("disturbed") == again
    assert prepared.dataset.read == [0, 1, 2]


def test_digest_follows_content_and_versions(run, prepared):
    first = run("a")
    assert run("b", versions="2")["digest"] != first["digest"]
    prepared.dataset.images[0] = 255 - prepared.dataset.images[0]
    assert run("c")["digest"] != first["digest"]


def test_stamp_that_one_model_refuses_keeps_the_answers_of_the_others(run, lens_finder_that_needs_the_scale):
    result = run(galaxy_lens_finder=lens_finder_that_needs_the_scale)
    table = read_predictions(Path(result["catalogue"]).parent)
    assert result["rows"] == 38
    unknown = (table["pixel_scale"].isna() & table["refused"].isna()).to_numpy()
    assert table.loc[unknown, "lens_score"].isna().all() and table.loc[unknown, "p_spiral"].notna().all()
    assert table.loc[unknown, "unanswered"].str.contains("galaxy-lens-finder: pixel_scale is 0").all()
    assert table.loc[~unknown, "unanswered"].isna().all()


def test_proof_accounts_for_every_row_and_file(run):
    result = run()
    folder = Path(result["catalogue"]).parent
    proof = json.loads((folder / "proof.json").read_text())
    assert proof["rows_in"] == proof["rows_out"] + sum(proof["refused"].values()) == 40
    assert proof["models"] == result["models"]
    assert {"predictions.parquet", "predictions.fits", "refused.parquet", "embeddings.npy", "lenses.csv"} <= set(
        proof["files"]
    )
    assert set(proof["files"]) == {path.name for path in folder.iterdir()} - {"proof.json"}
    assert published(folder) == proof
    (folder / "predictions.fits").write_bytes(b"cut short")
    assert published(folder) is None
    assert run()["digest"] == result["digest"]  # made anew, in its place
    assert published(folder) is not None


def test_no_model_and_no_answer_are_refused(run, prepared, survey, tmp_path):
    prepared.table["state"] = prepared.dataset.catalog["state"] = "failed"
    with pytest.raises(GalaxyError, match="no valid one"):
        run()
    assert not (tmp_path / "home" / "catalogues").exists()


def test_shard_without_a_stamp_keeps_its_rows(run, prepared):
    empty = prepared.dataset.catalog.index[16:32]
    prepared.dataset.catalog.loc[empty, "state"] = prepared.table.loc[empty, "state"] = "no_coverage"
    prepared.table.loc[empty, "usable"] = False
    result = run()
    table = read_predictions(Path(result["catalogue"]).parent)
    assert result["refused"] == {"image is cut short": 1, "no_coverage": 16}
    assert len(table) == 40
    assert table.loc[empty, "p_spiral"].isna().all()
    assert np.isnan(np.load(Path(result["catalogue"]).parent / "embeddings.npy")[16:32]).all()


def test_full_disk_says_what_is_kept(run, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "no space left on device")

    monkeypatch.setattr("tasks.infer.shards.write_atomic", full)
    with pytest.raises(GalaxyError, match="make room and run again"):
        run()


def test_neighbour_precision_is_within_the_source_and_against_chance(run, prepared):
    for row, kind in enumerate(prepared.table["label.kind"]):
        prepared.dataset.images[row] = prepared.dataset.images[row] // 4
        prepared.dataset.images[row, 0 if kind == "spiral" else 2] += 150
    metrics = run()["metrics"]
    assert metrics["kind.neighbour_precision"] == 1
    assert metrics["kind.neighbour_precision_low"] == 1
    assert 0.3 < metrics["kind.neighbour_precision_chance"] < 0.8
    assert metrics["kind.neighbour_precision_queries"] == sum(
        (prepared.table["split"] == "test") & (prepared.table["source"] == "one") & prepared.table["usable"]
    )
    assert metrics["kind.align_neighbour_precision"] == 1
