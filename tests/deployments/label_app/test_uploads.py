"""Uploaded pictures: their neighbours begin a search; what is hostile is refused before a pixel is decoded."""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from fastapi import FastAPI
from PIL import Image

from deployments.label_app.uploads import LARGEST_FILE, as_stamps, open_upload
from galaxy_models.predictor import Predictor
from galaxy_models.search_view import View
from infra.errors import GalaxyError
from tests.deployments.label_app.conftest import Browser
from tests.deployments.label_app.sky import CATALOGUE, SIDE, draw, is_edge_on


def encoded(picture: np.ndarray, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(picture.transpose(1, 2, 0)).save(buffer, form)
    return buffer.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG that says it is huge and holds next to nothing."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + data + chunk(b"IEND", b"")


def test_a_picture_is_cut_square_and_resized() -> None:
    wide = np.zeros((3, 40, 80), np.uint8)
    wide[0, :, 20:60] = 200
    stamp = as_stamps([open_upload("x.png", encoded(wide), 32)])
    assert stamp.shape == (1, 3, 32, 32) and stamp.dtype == np.uint8
    assert (stamp[0, 0] == 200).all() and not stamp[0, 1:].any(), "the middle, and R stays R"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "no picture"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no picture"),
        (b"GIF89a" + bytes(100), "no picture"),
        (encoded(draw("galaxy-000"))[:200], "damaged"),
        (encoded(draw("galaxy-000"), "JPEG")[:300], "damaged"),
        (bomb(60_000, 60_000), "no picture"),
        (bomb(5000, 100), "sides of"),
        (bomb(4000, 4000), "damaged"),
        (encoded(np.zeros((3, 8, 8), np.uint8)), "sides of"),
        (bytes(LARGEST_FILE + 1), "at most 4"),
    ],
)
def test_hostile_pictures_are_refused(content: bytes, told: str) -> None:
    with pytest.raises(GalaxyError, match=told) as error:
        open_upload("<script>.png", content, 32)
    assert len(str(error.value)) < 300


class ThinModel:
    """Stands for the registered model: the first numbers of its embedding say how thin what it sees is."""

    def predict_checked(self, images: torch.Tensor, units: str) -> dict[str, Any]:
        assert images.dtype == torch.uint8 and images.shape[1:] == (3, SIDE, SIDE) and units == "rgb"
        light = images.float().mean(dim=1).flatten(1).sum(dim=1)
        vectors = np.zeros((len(images), 12), np.float32)
        vectors[:, :4] = 4 * (light.numpy() > 0)[:, None]
        return {"embedding": vectors}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(settings: object, name: str, version: str) -> Predictor:
        assert (name, version) == ("galaxy-lvm", "3"), "the one that made the catalogue's embeddings"
        return ThinModel()  # type: ignore[return-value]

    monkeypatch.setattr("deployments.label_app.models.load_registered", load)


@pytest.mark.usefixtures("model")
def test_the_first_sheet_is_what_looks_alike(app: FastAPI, browser: Browser) -> None:
    browser.get("/searches/new")
    picture = ("mine.png", encoded(draw("galaxy-000")), "image/png")
    answer = browser.client.post(
        "/searches/new",
        data={"csrf": browser.token, "name": "like mine", "catalogue": CATALOGUE},
        files=[("pictures", picture), ("pictures", ("again.png", picture[1], "image/png"))],
        follow_redirects=True,
    )
    assert answer.status_code == 200, answer.text
    _, stamps = browser.sheet(int(answer.url.path.rpartition("/")[2]))
    assert len(stamps) == 16 and {reason for _, reason in stamps} == {"likeliest"}
    assert sum(is_edge_on(name) for name, _ in stamps) >= 12


@pytest.mark.usefixtures("model")
def test_a_model_that_says_less_than_the_catalogue_has_is_told(app: FastAPI) -> None:
    service = app.state.service
    catalogue = service.library.catalogue(CATALOGUE)
    measured = replace(catalogue, features=replace(catalogue.features, view=View(measured=True)))
    with pytest.raises(GalaxyError, match=r"galaxy-lvm version 3 does not say `measured_log_flux`.*by object id"):
        service.models.embed(measured, np.zeros((1, 3, SIDE, SIDE), np.uint8))


@pytest.mark.usefixtures("model")
def test_uploads_that_are_refused_make_no_search(browser: Browser) -> None:
    browser.get("/searches/new")

    def send(*files: tuple[str, bytes]) -> Any:
        return browser.client.post(
            "/searches/new",
            data={"csrf": browser.token, "name": "mine", "catalogue": CATALOGUE},
            files=[("pictures", (name, content, "image/png")) for name, content in files],
            headers={"accept": "text/html"},
        )

    good = encoded(draw("galaxy-000"))
    for answer in (send(("bomb.png", bomb(60_000, 60_000))), send(*[("x.png", good)] * 9), send(("../../x", b"MZ"))):
        assert answer.status_code == 400 and 'role="alert"' in answer.text
    assert "mine" not in browser.get("/").text
