"""The stage as a whole: what it publishes, that it carries on, and that its digest tells content alone."""

from __future__ import annotations

import json
import weakref
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from infra.cluster import open_client
from infra.errors import GalaxyError
from infra.profile import ClusterSettings
from infra.remote import exists
from tasks.preprocess import prepare, shards
from tasks.preprocess.flags import FLAGS
from tasks.preprocess.prepare import preprocess
from tasks.preprocess.prepared import PreparedDataset
from tasks.preprocess.splits import GUARD, SPLITS
from tasks.stamps.dataset import StampDataset
from tasks.stamps.errors import LostShardError


@pytest.fixture(scope="module")
def done(tiny_sky, tmp_path_factory):
    """An undisturbed run in one process."""
    return preprocess(tiny_sky.context(tmp_path_factory.mktemp("done")))


@pytest.fixture
def undrawn(monkeypatch):
    """The stage without its figures, where nobody looks at them."""
    monkeypatch.setattr(prepare, "_draw", lambda *_: (Path("none.png"), []))


def test_the_result_counts_every_row(done, tiny_sky):
    prepared = PreparedDataset.open(done["prepared"])
    table = prepared.table
    assert len(table) == 90
    assert table["object_id"].tolist() == tiny_sky.dataset.catalog["object_id"].tolist()
    assert set(table["split"]) <= {*SPLITS, GUARD}
    broken = table["object_id"].isin(["sky/007", "sky/033"])
    assert not table.loc[broken, "usable"].any()
    assert table.loc[~broken, "usable"].all()
    assert sum(done["splits"].values()) == 88
    assert set(done["flags"]) == set(FLAGS)
    assert {name: done["counts"][name] for name in ("objects", "valid", "failed", "no_coverage", "refused")} == {
        "objects": 90, "valid": 88, "failed": 2, "no_coverage": 0, "refused": 0,
    }  # fmt: skip
    assert done["notes"] == []
    assert json.loads(json.dumps(done)) == done


def test_rows_of_a_split_are_its_usable_stamps(done):
    prepared = PreparedDataset.open(done["prepared"])
    every = [prepared.rows(split) for split in (*SPLITS, GUARD)]
    assert sorted(np.concatenate(every)) == sorted(np.flatnonzero(prepared.table["usable"]))
    assert [len(rows) for rows in every] == [done["splits"][split] for split in (*SPLITS, GUARD)]
    assert (prepared.rows("train", source="sky") == every[0]).all()
    assert len(prepared.rows("train", source="elsewhere")) == 0
    assert every[0].dtype == np.int64
    assert prepared.dataset.read_rows(every[0][:3]).shape == (3, 3, 48, 48)


def test_identical_pixels_are_one_object_in_one_split(done):
    table = PreparedDataset.open(done["prepared"]).table.set_index("object_id")
    for i in range(9):
        if i == 7:  # its stamp is broken, so nothing is known to be the same
            continue
        first, second = table.loc[f"sky/{i:03d}"], table.loc[f"sky/{81 + i:03d}"]
        assert first["duplicate_group"] == second["duplicate_group"]
        assert first["split"] == second["split"]
    assert table["duplicate_group"].nunique() == 90 - 8


def test_statistics_are_those_of_the_train_pixels(done):
    prepared = PreparedDataset.open(done["prepared"])
    pixels = prepared.dataset.read_rows(prepared.rows("train")).astype(np.float64)
    for statistics in (prepared.statistics["all"], prepared.statistics["sources"]["sky"]):
        assert statistics["stamps"] == len(pixels)
        for index, band in enumerate("grz"):
            found = statistics["bands"][band]
            assert found["mean"] == pytest.approx(pixels[:, index].mean(), rel=1e-6)
            assert found["sigma"] == pytest.approx(pixels[:, index].std(), rel=1e-6)
            assert found["percentiles"]["99"] == pytest.approx(np.percentile(pixels[:, index], 99), rel=1e-2)
            assert found["noise"] == pytest.approx([0.004, 0.006, 0.015][index], rel=0.05)


def test_figures_are_drawn(done):
    names = {path.rsplit("/", 1)[1] for path in done["figures"]}
    assert {"quality_report.png", "thumbnails.png", "measures.png"} <= names
    assert done["report"] in done["figures"]  # which MLflow keeps
    for path in done["figures"]:
        with open(path, "rb") as file:
            assert file.read(8) == b"\x89PNG\r\n\x1a\n"


def test_any_cluster_gives_the_same_digest(done, tiny_sky, tmp_path, undrawn, monkeypatch):
    """In this process, in worker processes of its own, and at the address of a scheduler that was there before."""
    from distributed import LocalCluster

    seen = []

    @contextmanager
    def watched(settings):
        with open_client(settings) as workers:
            seen.append(workers)
            yield workers

    monkeypatch.setattr(prepare, "open_client", watched)
    own = preprocess(tiny_sky.context(tmp_path / "own", ClusterSettings(kind="local", workers=2)))
    with LocalCluster(
        n_workers=2, threads_per_worker=1, processes=False, protocol="tcp", dashboard_address=None
    ) as there:
        given = ClusterSettings(kind="address", address=there.scheduler_address)
        theirs = preprocess(tiny_sky.context(tmp_path / "given", given))
        tasks = sum(len(worker.state.log) for worker in there.workers.values())
    assert given.address.startswith("tcp://") and tasks > 0
    assert [type(workers).__name__ for workers in seen] == ["DaskWorkers", "DaskWorkers"]
    for result in (own, theirs):
        assert result["digest"] == done["digest"]
        assert {**result["metrics"]} == done["metrics"]


def test_it_lies_in_the_store_where_there_is_one(done, tiny_sky, tmp_path, undrawn):
    store = f"memory://{tmp_path.name}/store"
    result = preprocess(tiny_sky.context(tmp_path / "stages/preprocess-1", store=store))
    assert result["prepared"] == f"{store}/stages/preprocess-1/prepared"
    assert not list(tmp_path.rglob("prepared*")) and list(tmp_path.rglob("measures-*/*.parquet"))
    here, there = (PreparedDataset.open(made["prepared"]) for made in (done, result))
    assert there.digest == here.digest
    assert there.table.equals(here.table)
    assert (there.rows("train") == here.rows("train")).all()
    assert exists(result["prepared"])
    there.storage.delete("prepared.parquet")
    with pytest.raises(GalaxyError, match=r"memory://.*prepared\.parquet is missing; run preprocess"):
        PreparedDataset.open(result["prepared"]).rows("train")


def test_pixels_of_one_shard_at_a_time_are_in_memory(tiny_sky, tmp_path, undrawn, monkeypatch):
    read, held = StampDataset.read_shard, []

    def counted(self, i, name="images"):
        pixels = read(self, i, name)
        alive.add(i)
        weakref.finalize(pixels, alive.discard, i)
        held.append(len(alive))
        return pixels

    alive = set()
    monkeypatch.setattr(StampDataset, "read_shard", counted)
    preprocess(tiny_sky.context(tmp_path))
    assert len(held) == 2 * len(tiny_sky.dataset.shards) > 10  # once for the measures, once for the statistics
    assert max(held) <= 2


def test_columns_are_read_one_by_one(done):
    prepared = PreparedDataset.open(done["prepared"])
    names = ["usable", "ra", "snr", "object_id"]
    assert prepared.columns(names).equals(prepared.table[names])
    assert prepared.columns([]).shape == (90, 0)
    assert prepared.names == list(prepared.table)


def test_what_the_survey_tells_of_a_stamp_is_used(observed_sky, tmp_path, undrawn):
    result = preprocess(observed_sky.context(tmp_path, flags=["blank", "masked"]))
    table = PreparedDataset.open(result["prepared"]).table.set_index("object_id")
    names = [f"sky/{i:03d}" for i in range(60)]
    uncovered, masked = names[50::2], names[51::2]
    assert result["flags"]["blank"] == result["flags"]["masked"] == 5
    assert table.loc[uncovered, "flag_blank"].all() and table.loc[masked, "flag_masked"].all()
    assert not table.loc[uncovered + masked, "usable"].any() and table["usable"].sum() == 50
    assert table["coverage"].groupby(level=0).first()[names[0:50:2]].eq(1).all()
    assert table.loc[uncovered, "coverage"].eq(0.5).all()
    assert table.loc[names[1:50:2], "coverage"].gt(0.999).all()  # not told, so measured
    assert table["noise_over_errors_r"].median() == pytest.approx(1, abs=0.05)
    lenient = preprocess(observed_sky.context(tmp_path / "lenient", flags=["blank"]))
    assert lenient["counts"]["usable"] == 55


@pytest.mark.parametrize("killed_in", ["measure_stamps", "pixel_counts"])
def test_killed_and_run_again_it_carries_on(done, tiny_sky, tmp_path, monkeypatch, killed_in, undrawn):
    real, calls = getattr(shards, killed_in), []

    def dies(*arguments):
        calls.append(1)
        if len(calls) > 2:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(shards, killed_in, dies)
    with pytest.raises(KeyboardInterrupt):
        preprocess(tiny_sky.context(tmp_path))
    assert not (tmp_path / "prepared").exists()
    calls.clear()
    monkeypatch.setattr(shards, killed_in, lambda *arguments: calls.append(1) or real(*arguments))
    tiny_sky.notes.clear()
    result = preprocess(tiny_sky.context(tmp_path))
    assert result["digest"] == done["digest"]
    assert len(calls) == len(tiny_sky.dataset.shards) - 2
    assert any("done already" in note for note in tiny_sky.notes)


def test_the_digest_tells_another_quality_or_split(done, tiny_sky, tmp_path, undrawn):
    middle = float(PreparedDataset.open(done["prepared"]).table["snr"].median())
    strict = preprocess(tiny_sky.context(tmp_path / "strict", minimum_snr=middle, flags=["faint"]))
    assert strict["digest"] != done["digest"]
    assert 0 < strict["flags"]["faint"] < 88
    assert sum(strict["splits"].values()) == 88 - strict["flags"]["faint"]


def test_a_dataset_without_a_usable_stamp_in_a_split_is_refused(tiny_sky, tmp_path):
    with pytest.raises(GalaxyError, match="no usable stamp is in the split train and validation and test"):
        preprocess(tiny_sky.context(tmp_path, minimum_snr=1e6, flags=["faint"]))


def test_a_lost_shard_is_not_read_as_empty_sky(tiny_sky, tmp_path):
    import shutil

    copy = tmp_path / "dataset"
    shutil.copytree(tiny_sky.root, copy)
    next(path for path in sorted(copy.rglob("images/c/*")) if "/c/2" in str(path)).rename(tmp_path / "gone")
    context = tiny_sky.context(tmp_path / "stage")
    context.upstream["ingest"]["dataset"] = str(copy)
    with pytest.raises(LostShardError):
        preprocess(context)


def test_opening_says_what_to_do(done, tmp_path):
    with pytest.raises(GalaxyError, match="run preprocess"):
        PreparedDataset.open(tmp_path)
    manifest = json.loads((Path(done["prepared"]) / "prepared.json").read_text())
    (tmp_path / "prepared.json").write_text(json.dumps({**manifest, "dataset_digest": "other"}))
    (tmp_path / "statistics.json").write_text("{}")
    with pytest.raises(GalaxyError, match="have changed since"):
        PreparedDataset.open(tmp_path)


def test_the_real_sky_loses_stars_and_keeps_galaxies():
    """One galaxy in twenty of the labelled sets at most, and a third of stripe82 at least."""
    from PIL import Image

    from infra.settings import Settings
    from tasks.ingest.survey import Quality
    from tasks.preprocess.flags import quality_flags
    from tasks.preprocess.measure import measure_stamps

    sky = Settings.from_environment().sky
    if not sky.exists():
        pytest.skip(f"no folder {sky}; set GALAXY_SKY to the folder of real images")
    quality = Quality(minimum_snr=40.0, flags=list(FLAGS))
    flagged = {}
    for name, keep in {"gz2": 0.6, "efigi": 1.0, "decals_rings": 0.7, "stripe82": 0.76}.items():
        files = sorted((sky / name / "images").iterdir())
        stamps = []
        for file in files[:: max(1, len(files) // 60)]:
            with Image.open(file) as image:
                side = round(min(image.size) * keep)
                left, top = (image.size[0] - side) // 2, (image.size[1] - side) // 2
                stamps.append(
                    np.asarray(image.convert("RGB").resize((152, 152), box=(left, top, left + side, top + side)))
                )
        measures = measure_stamps(np.stack(stamps).transpose(0, 3, 1, 2), "rgb", ("R", "G", "B"))
        unknown = pd.DataFrame({"pixel_scale": np.full(len(measures), np.nan)})
        flags = quality_flags(measures, unknown, ("R", "G", "B"), "rgb", 152, quality)
        flagged[name] = flags.any(axis=1).mean()
    assert flagged["stripe82"] > 0.33
    assert max(flagged["gz2"], flagged["efigi"], flagged["decals_rings"]) < 0.05
