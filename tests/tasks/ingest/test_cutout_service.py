"""A cutout service, good and bad: what it sends is what was asked for, and its faults leave no trace in the dataset."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from distributed import Client, LocalCluster
from PIL import Image

from infra.errors import GalaxyError
from infra.settings import Settings
from tasks.ingest import cutout_pace, cutout_requests
from tasks.ingest.cutout_requests import public
from tasks.ingest.cutout_service import SILENCE, CutoutService
from tasks.ingest.ingest import ingest
from tasks.ingest.survey import load_survey
from tasks.stamps.dataset import StampDataset
from tasks.stamps.stamp import Refusal, Stamp
from tests.doubles.cutout_server import CutoutServer
from tests.doubles.cutout_sky import RealSky, SimulatedSky
from tests.doubles.position_list import PositionList

COUNT, SIZE, SCALE = 24, 32, 0.262
SOUTH = 1.0


def made_up_positions() -> np.ndarray:
    """(N, 2) degrees."""
    rng = np.random.default_rng(0)
    return np.stack([rng.uniform(149, 151, COUNT), rng.uniform(SOUTH + 0.1, 3, COUNT)], axis=1)


POSITIONS = made_up_positions()


@pytest.fixture(scope="module")
def sky() -> SimulatedSky:
    return SimulatedSky(POSITIONS, south=SOUTH)


@pytest.fixture
def server(sky: SimulatedSky) -> Iterator[CutoutServer]:
    with CutoutServer(sky) as running:
        yield running


@pytest.fixture(autouse=True)
def haste(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutout_requests, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(cutout_pace, "LONGEST_INTERVAL", 0.2)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def listed(tmp_path: Path, server: CutoutServer) -> PositionList:
    return PositionList(tmp_path, server.url, POSITIONS)


@pytest.fixture(scope="module")
def undisturbed(sky: SimulatedSky, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The digest of an ingest at a service without a fault."""
    with CutoutServer(sky) as running:
        result = ingest(PositionList(tmp_path_factory.mktemp("undisturbed"), running.url, POSITIONS).context())
    assert (result["objects"], result["accepted"], result["refused"]) == (COUNT, COUNT, {})
    return str(result["digest"])


def middle_of_light(image: np.ndarray) -> tuple[float, float]:
    """Mean row and column of a (C, H, W) image's bright pixels: in a picture many are as bright as can be."""
    total = image.astype(np.float32).sum(axis=0)
    rows, columns = np.nonzero(total > (total.max() + np.median(total)) / 2)
    return float(rows.mean()), float(columns.mean())


def test_stamps_are_the_fluxes_that_the_server_drew(listed: PositionList, sky: SimulatedSky, undisturbed: str) -> None:
    result = ingest(listed.context())
    assert result["digest"] == undisturbed
    dataset = StampDataset.open(result["dataset"])
    catalog = dataset.catalog
    assert (catalog["pixel_scale"] == SCALE).all() and (catalog["bands"] == "grz").all()
    assert (catalog["coverage"] == 1).all()
    rows = catalog.reset_index().set_index("object_id")
    for i in range(0, COUNT, 8):
        drawn = sky.fluxes(*POSITIONS[i], "grz", SIZE, SCALE)
        place = int(rows.loc[f"positions/g{i:03d}", "index"])
        assert np.array_equal(dataset.read_rows([place])[0], drawn.astype(np.float16))


def test_north_is_the_last_row_of_fluxes_and_the_first_of_pictures_and_east_is_left(tmp_path: Path) -> None:
    ra, dec = POSITIONS[0]
    beside = [ra + 8 * SCALE / 3600 / np.cos(np.radians(dec)), dec + 6 * SCALE / 3600]
    with CutoutServer(SimulatedSky(np.array([beside]))) as server:
        listed = PositionList(tmp_path, server.url, POSITIONS)
        fluxes = listed.read(1)[0]
        listed.survey |= {"units": "rgb", "bands": ["R", "G", "B"]}
        picture = listed.read(1)[0]
    assert middle_of_light(fluxes.image) == pytest.approx((SIZE / 2 + 6, SIZE / 2 - 8), abs=1.5)
    assert middle_of_light(picture.image) == pytest.approx((SIZE / 2 - 6, SIZE / 2 - 8), abs=1.5)


def test_real_cubes_and_pictures_come_as_they_are(tmp_path: Path) -> None:
    folder = Settings.from_environment().sky
    if not (folder / "legacy_fits").is_dir():
        pytest.skip(f"there are no real images at {folder}; set GALAXY_SKY")
    index = pd.read_csv(folder / "legacy_fits/index.csv").set_index("file")
    pictures = pd.read_csv(folder / "stripe82/catalog.csv").iloc[:3]
    name = "astroclip_test_image.fits.gz"
    with CutoutServer(RealSky(folder)) as server:
        listed = PositionList(tmp_path, server.url, POSITIONS)
        listed.table = pd.DataFrame({"name": ["a"], "RA": index.loc[[name], "ra"], "DEC": index.loc[[name], "dec"]})
        stamp = listed.read()[0]
        listed.survey |= {"units": "rgb", "bands": ["R", "G", "B"]}
        listed.table = pictures.rename(columns={"filename": "name", "ra": "RA", "dec": "DEC"})
        shown = listed.read()
    cube = fits.getdata(folder / "legacy_fits" / name)
    edge = (cube.shape[1] - SIZE) // 2
    assert np.array_equal(stamp.image, cube[:, edge : edge + SIZE, edge : edge + SIZE].astype(np.float16))
    for answer, file in zip(shown, pictures["filename"], strict=True):
        whole = np.asarray(Image.open(folder / "stripe82/images" / file).convert("RGB"))
        edge = (whole.shape[0] - SIZE) // 2
        piece = whole[edge : edge + SIZE, edge : edge + SIZE].transpose(2, 0, 1)
        assert np.abs(answer.image.astype(int) - piece).mean() < 6  # compressed once more


@pytest.mark.parametrize(
    "fault",
    [
        {"kind": "429", "retry_after": 0.05, "share": 0.2},
        {"kind": "500"},
        {"kind": "drop"},
        {"kind": "garbage"},
        {"kind": "html"},
        {"kind": "slow", "seconds": 0.5, "share": 0.1},
    ],
    ids=lambda fault: fault["kind"],
)
def test_faults_that_pass_leave_no_trace(
    listed: PositionList, server: CutoutServer, undisturbed: str, monkeypatch, fault: dict[str, Any]
) -> None:
    monkeypatch.setattr(cutout_requests, "READ_SECONDS", 0.3)
    server.set_faults([{"share": 0.4, "times": 2, **fault}])
    result = ingest(listed.context())
    assert (result["digest"], result["refused"]) == (undisturbed, {})
    assert len(server.asked) > COUNT, "no fault struck"


def test_a_service_that_allows_few_requests_a_second_is_asked_for_no_more(
    listed: PositionList, server: CutoutServer, undisturbed: str
) -> None:
    server.set_faults([{"kind": "rate", "per_second": 25}])
    result = ingest(listed.context())
    assert (result["digest"], result["refused"]) == (undisturbed, {})
    assert 0 < server.log()["statuses"]["429"] < 2 * COUNT


def test_retry_after_is_honoured(listed: PositionList, server: CutoutServer) -> None:
    server.set_faults([{"kind": "503", "times": 1, "retry_after": 1}])
    listed.table = listed.table.iloc[:1]
    assert isinstance(listed.read()[0], Stamp)
    first, second = server.asked
    assert (first.status, second.status) == (503, 200)
    assert second.time - first.time >= 1


def test_there_are_never_more_requests_at_a_time_than_allowed(listed: PositionList, server: CutoutServer) -> None:
    server.seconds = 0.02
    listed.source["connections"] = 3
    listed.read()
    assert server.highest_concurrency == 3


def test_workers_of_a_cluster_share_the_connections(listed: PositionList, server: CutoutServer) -> None:
    server.seconds = 0.02
    listed.source["connections"] = 2
    service = listed.service()
    rows = service.rows()
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=":0") as cluster,
        Client(cluster) as client,
    ):
        halves = client.map(service.read, [rows.iloc[:12], rows.iloc[12:24]], pure=False)
        answers = [answer for half in client.gather(halves) for answer in half]
        assert len({place for places in client.who_has(halves).values() for place in places}) == 2
    assert all(isinstance(answer, Stamp) for answer in answers)
    assert server.highest_concurrency == 2


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("wrong_size", "wrong size"),
        ("wrong_bands", "wrong bands"),
        ("off_centre", "wrong centre"),
        ("turned", "pixel scale does not fit"),
        ("404", "service answered 404"),
    ],
)
def test_what_was_not_asked_for_is_refused_at_once_with_its_reason(
    listed: PositionList, server: CutoutServer, kind: str, reason: str
) -> None:
    server.set_faults([{"kind": kind, "share": 0.5}])
    answers = listed.read(12)
    refused = [answer for answer in answers if isinstance(answer, Refusal)]
    assert 0 < len(refused) < len(answers)
    assert {(answer.reason, answer.state) for answer in refused} == {(reason, "failed")}
    last = [one.place for one in server.asked][-1]
    again = pd.Series([one.place for one in server.asked]).value_counts().drop(last).max()
    assert again <= 2, "at most once more, as a proof that the service answers"


def test_clamped_sizes_and_swallowed_bands_are_noticed(
    listed: PositionList, server: CutoutServer, sky: SimulatedSky
) -> None:
    server.largest = 24
    answer = listed.read(1)[0]
    assert (answer.reason, answer.detail) == ("wrong size", "3 x 24 x 24 came, 3 x 32 x 32 was asked for")
    server.largest = 3000
    listed.survey["bands"] = ["g", "r", "i"]
    with pytest.raises(ValueError, match=r"has the bands 'grz', without \['i'\]"):
        listed.definition()
    listed.source["survey_bands"] = "griz"  # which is not so
    answer = listed.read(1)[0]
    assert (answer.reason, answer.detail) == ("wrong bands", "grz came, gri was asked for; the layer may not have them")


def test_an_object_that_the_service_cannot_do_is_refused_alone(listed: PositionList, server: CutoutServer) -> None:
    server.set_faults([{"kind": "502", "share": 0.1}])
    result = ingest(listed.context())
    assert list(result["refused"]) == ["service gave up"]
    assert 0 < result["refused"]["service gave up"] < 8
    quarantine = pd.read_parquet(result["quarantine"])
    assert set(quarantine["detail"]) == {"after 2 attempts: HTTP 502 Bad Gateway"}
    requests = pd.Series([one.place for one in server.asked if one.status == 502]).value_counts()
    assert len(requests) == len(quarantine)
    assert (requests == 6).all()


def test_a_service_that_fails_in_between_stops_the_run_and_the_next_one_carries_on(
    listed: PositionList, server: CutoutServer, undisturbed: str
) -> None:
    listed.on_progress = lambda note: server.set_faults([{"kind": "503"}])  # after the first shard
    with pytest.raises(GalaxyError, match=r"source positions: the cutout service .*HTTP 503"):
        ingest(listed.context())
    assert not (listed.root / "stage/dataset/dataset.json").exists()
    assert len(server.asked) < 16 + 8 * (SILENCE + 2 * 4 + 4), "it was asked for the whole shard"
    server.set_faults([])
    listed.on_progress = lambda note: None
    before = len(server.asked)
    assert ingest(listed.context())["digest"] == undisturbed
    assert len(server.asked) - before == COUNT - 16


def test_nobody_there_stops_the_run_without_a_word_of_the_password(
    listed: PositionList, sky: SimulatedSky, undisturbed: str, monkeypatch, caplog
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("CUTOUTS", f"http://someone:secret@127.0.0.1:{port}/viewer")
    listed.source["url"] = "${CUTOUTS}"
    with caplog.at_level("DEBUG"), pytest.raises(GalaxyError) as caught:
        ingest(listed.context())
    assert "the connection failed: Connection refused" in str(caught.value)
    assert f"http://127.0.0.1:{port}/viewer" in str(caught.value)
    assert "secret" not in str(caught.value) + caplog.text
    assert not (listed.root / "stage/dataset/dataset.json").exists()
    with CutoutServer(sky, port=port):
        assert ingest(listed.context())["digest"] == undisturbed


def test_a_password_is_for_the_service_alone() -> None:
    assert public("https://a:b@host:8/x?y=1") == "https://host:8/x?y=1"
    assert public("https://host/x@y") == "https://host/x@y"


def test_a_list_too_long_is_refused_before_anything_is_asked(listed: PositionList, server: CutoutServer) -> None:
    listed.source["largest_list"] = COUNT - 1
    with pytest.raises(GalaxyError, match=r"24 objects are too many.*`largest_list` is 23.*kind 'bricks'"):
        ingest(listed.context())
    assert not server.asked


def test_places_without_data_are_told_from_failures(listed: PositionList, server: CutoutServer) -> None:
    edge = SOUTH + 4 * SCALE / 3600  # four rows north of where the images end
    listed.table.loc[0, "DEC"] = SOUTH - 2  # outside: the service fails
    listed.table.loc[1, "DEC"] = SOUTH - 0.1  # zeros only
    listed.table.loc[2, "DEC"] = edge
    fluxes = listed.read(3)
    assert [(one.reason, one.state) for one in fluxes[:2]] == [("no coverage", "no_coverage")] * 2
    assert fluxes[2].columns["coverage"] == pytest.approx(20 / 32, abs=1 / 32)
    pages = [one.page for one in server.asked]
    assert len(pages) == 4, "the empty picture settled it at the first attempt"
    listed.survey |= {"units": "rgb", "bands": ["R", "G", "B"]}
    pictures = listed.read(3)
    assert [(one.reason, one.state) for one in pictures[:2]] == [("no coverage", "no_coverage")] * 2
    assert pictures[2].columns["coverage"] == pytest.approx(20 / 32, abs=8 / 32)


def test_inverse_variances_are_kept_where_they_are_wanted(listed: PositionList) -> None:
    listed.survey["invvar"] = True
    with pytest.raises(ValueError, match="has no inverse variance"):
        listed.definition()
    listed.source["invvar"] = True
    stamp = listed.read(1)[0]
    assert stamp.invvar.shape == stamp.image.shape and stamp.invvar.dtype == np.float32
    assert np.allclose(stamp.invvar, 1e4)
    assert ingest(listed.context())["accepted"] == COUNT


def test_the_shipped_definition_needs_only_a_catalogue(tmp_path: Path, monkeypatch) -> None:
    definition = load_survey("legacy_surveys")
    settings = Settings(home=tmp_path, sky=tmp_path, mlflow_uri="unused")
    monkeypatch.delenv("GALAXY_CATALOGUE", raising=False)
    with pytest.raises(GalaxyError, match="the environment variable GALAXY_CATALOGUE, which is not set"):
        CutoutService(definition.sources[0], definition, settings)
    pd.DataFrame({"object_id": [7], "ra": [150.0], "dec": [2.0]}).to_csv(tmp_path / "mine.csv", index=False)
    monkeypatch.setenv("GALAXY_CATALOGUE", str(tmp_path / "mine.csv"))
    service = CutoutService(definition.sources[0], definition, settings)
    assert service.rows()["object_id"].tolist() == ["positions/7"]
    assert service.url == "https://www.legacysurvey.org/viewer"


@pytest.mark.slow
def test_the_double_runs_on_its_own_and_is_told_over_http(tmp_path: Path) -> None:
    pd.DataFrame(POSITIONS, columns=["ra", "dec"]).to_csv(tmp_path / "sky.csv", index=False)
    command = [sys.executable, "-m", "tests.doubles.cutout_server", "--catalogue", str(tmp_path / "sky.csv")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        root = url.removesuffix("/viewer")
        fault = json.dumps({"kind": "500", "times": 1}).encode()
        urllib.request.urlopen(urllib.request.Request(f"{root}/faults", fault)).read()
        assert all(isinstance(answer, Stamp) for answer in PositionList(tmp_path, url, POSITIONS).read(4))
        log = json.load(urllib.request.urlopen(f"{root}/log"))
        assert (log["statuses"], log["highest_concurrency"]) == ({"500": 4, "200": 8}, 4)
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
