"""All by s3://: bricks and tables from there, stamps to there; nothing half done is visible, no secret is told."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import zarr

from infra import remote
from infra.errors import GalaxyError
from tasks.ingest.ingest import ingest
from tasks.stamps.dataset import StampDataset
from tasks.stamps.errors import DamagedShardError, LostShardError
from tasks.stamps.loader import StampBatches
from tasks.stamps.storage import open_storage
from tests.doubles.brick_files import BrickTree
from tests.doubles.brick_survey import Sky
from tests.doubles.object_store import CREDENTIALS, ObjectStore, object_store

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def service() -> Iterator[ObjectStore]:
    with object_store() as store:
        yield store


@pytest.fixture
def cloud(service: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    """The service, as this process's own environment names it; its bucket is empty."""
    for name, value in service.environment.items():
        monkeypatch.setenv(name, value)
    for key in list(service.keys()):
        service.client().delete_object(Bucket="stamps", Key=key)
    return service


def upload(cloud: ObjectStore, folder: Path, prefix: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            key = f"{prefix}/{path.relative_to(folder)}"
            cloud.client().put_object(Bucket="stamps", Key=key, Body=path.read_bytes(), ACL="public-read")


def test_bricks_from_s3_make_the_same_stamps_on_s3_as_files_make_files(
    sky: Sky, tree: BrickTree, cloud: ObjectStore, caplog: pytest.LogCaptureFixture
) -> None:
    here = StampDataset.open(ingest(sky.context("here"))["dataset"])
    sky.definition()
    upload(cloud, tree.root, "dr9/south")
    upload(cloud, sky.folder, "tables")
    sky.source |= {"root": "s3://stamps/dr9/south", "catalogue": "s3://stamps/tables/objects.parquet"}
    sky.store = "s3://stamps/store"
    with caplog.at_level(logging.INFO):
        result = ingest(sky.context("there", workers=2))
    assert result["dataset"].startswith("s3://stamps/store/")
    there = StampDataset.open(result["dataset"])
    assert len(there.shards) == len(here.shards) > 3
    for i in range(len(here.shards)):
        assert np.array_equal(there.read_shard(i), here.read_shard(i))
    assert there.catalog.drop(columns="file").equals(here.catalog.drop(columns="file"))
    secret = CREDENTIALS["AWS_SECRET_ACCESS_KEY"]
    assert secret not in caplog.text
    written = [cloud.content(key) for key in cloud.keys("store") if not key.rpartition("/")[2].isdigit()]
    assert len(written) > 10 and not any(secret.encode() in content for content in written)
    images = zarr.open_array(f"{result['dataset']}/parts/0000/stamps.zarr/images", mode="r")[:]
    assert np.array_equal(images, np.concatenate([here.read_shard(i) for i in range(len(here.shards))]))
    rows = np.flatnonzero(there.catalog["state"] == "valid")
    batches = [StampBatches(dataset.root, rows, 16, seed=4, repeat=False) for dataset in (here, there)]
    for ours, theirs in zip(*batches, strict=True):
        assert np.array_equal(ours["images"], theirs["images"])


def test_a_bucket_that_anybody_may_read_needs_no_credentials(
    sky: Sky, tree: BrickTree, cloud: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(cloud, tree.root, "dr9/south")
    for name in CREDENTIALS:
        monkeypatch.delenv(name)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(sky.folder / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    sky.source["root"] = "s3://stamps/dr9/south"
    assert not remote.has_credentials()
    assert ingest(sky.context())["accepted"] > 60
    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    assert remote.has_credentials()
    monkeypatch.setenv("AWS_NO_SIGN_REQUEST", "YES")
    assert not remote.has_credentials()


def test_lost_and_changed_objects_are_noticed(sky: Sky, cloud: ObjectStore) -> None:
    sky.store = "s3://stamps/store"
    root = ingest(sky.context())["dataset"]
    prefix = root.removeprefix("s3://stamps/") + "/parts/0000/stamps.zarr/images/c"
    changed = bytearray(cloud.content(f"{prefix}/1/0/0/0"))
    changed[1000] ^= 1
    cloud.client().put_object(Bucket="stamps", Key=f"{prefix}/1/0/0/0", Body=bytes(changed))
    cloud.client().delete_object(Bucket="stamps", Key=f"{prefix}/2/0/0/0")
    dataset = StampDataset.open(root)
    dataset.read_shard(0)
    with pytest.raises(DamagedShardError, match="shard 1"):
        dataset.read_shard(1)
    with pytest.raises(LostShardError, match=r"shard 2.*s3://stamps"):
        dataset.read_shard(2)


UPLOAD = """
import sys
from tasks.stamps.storage import open_storage

if __name__ == "__main__":
    storage = open_storage(sys.argv[1])
    print("ready", flush=True)
    storage.write("large", bytes(400_000_000))
"""


def test_a_killed_upload_leaves_nothing_visible_and_is_swept(cloud: ObjectStore, tmp_path: Path) -> None:
    (tmp_path / "upload.py").write_text(UPLOAD)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "upload.py"), "s3://stamps/killed"], stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    assert process.stdout is not None and process.stdout.readline() == b"ready\n"
    deadline = time.monotonic() + 60
    while not cloud.client().list_multipart_uploads(Bucket="stamps").get("Uploads"):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    storage = open_storage("s3://stamps/killed")
    assert storage.read("large") is None
    assert storage.names("") == []
    assert cloud.client().list_multipart_uploads(Bucket="stamps").get("Uploads")
    storage.sweep()
    assert not cloud.client().list_multipart_uploads(Bucket="stamps").get("Uploads")


def test_a_wrong_bucket_or_protocol_is_named(sky: Sky, cloud: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote.time, "sleep", lambda _: None)
    sky.source["catalogue"] = "s3://nowhere/objects.parquet"
    with pytest.raises(GalaxyError, match=r"s3://nowhere/objects.parquet"):
        ingest(sky.context())
    sky.source["catalogue"] = "ftq://host/objects.parquet"
    with pytest.raises(GalaxyError, match=r"ftq://host/objects.parquet.*s3://"):
        ingest(sky.context())


def test_pictures_are_read_from_s3_as_from_a_folder(make_survey, cloud: ObjectStore) -> None:
    survey = make_survey(20)
    here = ingest(survey.context("here"))
    upload(cloud, survey.images, "pictures")
    cloud.client().delete_object(Bucket="stamps", Key="pictures/g003.png")
    survey.source["folder"] = "s3://stamps/pictures"
    there = ingest(survey.context("there"))
    assert there["refused"] == {"no image file": 1} and here["accepted"] == there["accepted"] + 1
    ours, theirs = (StampDataset.open(result["dataset"]) for result in (here, there))
    kept = ours.catalog.index[ours.catalog["object_id"] != "pictures/g003"]
    assert np.array_equal(ours.read_rows(kept), theirs.read_rows(np.arange(len(theirs))))
    survey.source["folder"] = "s3://stamps/elsewhere"
    with pytest.raises(GalaxyError, match=r"no folder s3://stamps/elsewhere"):
        ingest(survey.context("nowhere"))
