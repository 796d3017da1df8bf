"""A search that begins with words or a symbol: what fits is shown, and nothing counts before somebody says yes."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fastapi import FastAPI
from sqlalchemy import select

from deployments.label_app.tables import Description, Shown
from galaxy_models.align import GalaxAlign
from galaxy_models.image_towers import LvmTower
from galaxy_models.lvm import build_lvm
from galaxy_models.search_view import View
from galaxy_models.symbols import known_symbols
from galaxy_models.volunteer_answers import PLACES
from infra.errors import GalaxyError
from infra.settings import Settings
from tests.deployments.label_app.conftest import Browser
from tests.deployments.label_app.sky import ALIGNED, CATALOGUE, is_edge_on

THIN, ROUND = torch.eye(ALIGNED)[0], torch.eye(ALIGNED)[1]


class Understands:
    """Stands for the registered galaxy-align: knows the words `thin` and `round`, and every symbol from the side."""

    def encode_texts(self, texts: list[str]) -> torch.Tensor:
        return torch.stack([THIN if "thin" in text else ROUND for text in texts])

    def encode_symbols(self, names: list[str]) -> torch.Tensor:
        if "odd" in names:
            raise ValueError("no symbol for the class 'odd'")
        return torch.stack([THIN if name.startswith("edge_on") else ROUND for name in names])


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(settings: object, name: str, version: str) -> Any:
        assert (name, version) == ("galaxy-align", "2"), "the one that made the catalogue's embeddings"
        return SimpleNamespace(network=Understands())

    monkeypatch.setattr("deployments.label_app.models.load_registered", load)


def begin(browser: Browser, **given: str) -> tuple[int, str]:
    browser.get("/searches/new")
    answer = browser.submit("/searches/new", name="described", catalogue=CATALOGUE, **given)
    assert answer.status_code == 200, answer.text
    return int(answer.url.path.rpartition("/")[2]), answer.text


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("given", "reason"), [({"words": "a thin disk"}, "by your words"), ({"symbol": "edge_on_disk"}, "by your symbol")]
)
def test_what_fits_comes_first_and_counts_for_nothing(browser: Browser, given: dict[str, str], reason: str) -> None:
    search, page = begin(browser, **given)
    assert '<b class="yes">0</b> yes' in page and next(iter(given.values())).replace("_", " ") in page
    number, stamps = browser.sheet(search)
    assert len(stamps) == 16 and {why for _, why in stamps} == {reason}
    assert all(is_edge_on(name) for name, _ in stamps)
    assert "what fits your description best" in browser.get(f"/rounds/{number}").text
    assert browser.get(f"/searches/{search}/results").status_code == 400, "nothing is wanted, so nothing is ranked"


@pytest.mark.usefixtures("model")
def test_the_description_leads_until_something_is_wanted(app: FastAPI, browser: Browser) -> None:
    search, _ = begin(browser, words="a thin disk", symbol="edge_on_disk")
    number, first = browser.sheet(search)
    for place in range(16):
        browser.send(f"/rounds/{number}/votes", place=place, answer="no", key=f"no-{place:08d}")
    number, second = browser.sheet(search, after=1)
    assert {why for _, why in second} == {"by your words"} and not set(first) & set(second)
    assert all(is_edge_on(name) for name, _ in second)
    browser.send(f"/rounds/{number}/votes", place=0, answer="yes", key="yes-00000000")
    _, third = browser.sheet(search, after=2)
    assert "likeliest" in {why for _, why in third} and "by your words" not in {why for _, why in third}
    with app.state.service.database.reading() as session:
        kept = session.scalars(select(Description)).one()
        assert (kept.words, kept.symbol, kept.model, kept.model_version) == (
            "a thin disk", "edge_on_disk", "galaxy-align", "2",
        )  # fmt: skip
        assert session.scalars(select(Shown.reason).where(Shown.round_id == 1)).all() == ["words"] * 16


@pytest.mark.usefixtures("model")
def test_the_held_back_galaxies_are_not_shown(app: FastAPI, browser: Browser) -> None:
    search, _ = begin(browser, words="thin")
    _, held = browser.sheet(search, "test")
    shown = {name for number in range(4) for name, _ in browser.sheet(search, after=number)[1]}
    assert len(shown) >= 16 and not {name for name, _ in held} & shown


@pytest.mark.usefixtures("model")
@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"words": "x" * 201}, "at most 200 printable characters"),
        ({"words": "zero\x00byte"}, "printable"),
        ({"symbol": "../secret"}, "no symbol"),
        ({"symbol": "odd"}, "galaxy-align version 2: no symbol for the class"),
    ],
)
def test_descriptions_that_cannot_be_taken(browser: Browser, given: dict[str, str], told: str) -> None:
    browser.get("/searches/new")
    answer = browser.submit("/searches/new", name="wrong", catalogue=CATALOGUE, **given)
    assert answer.status_code == 400 and told in answer.text
    assert "wrong" not in browser.get("/").text, "no search was made"


def test_without_aligned_embeddings_the_page_says_how_to_make_them(browser: Browser, settings: Settings) -> None:
    assert 'name="words"' in browser.get("/searches/new").text
    (settings.catalogues / "tiny" / CATALOGUE / "align_embeddings.npy").unlink()
    page = browser.get("/searches/new").text
    assert "galaxy run --survey tiny --stages align,infer" in page and 'name="words"' not in page
    answer = browser.submit("/searches/new", name="words", catalogue=CATALOGUE, words="thin")
    assert answer.status_code == 400 and "--stages align,infer" in answer.text


def test_symbols_are_offered_without_aligned_embeddings_where_the_vision_model_tells_their_classes(
    browser: Browser, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    (settings.catalogues / "tiny" / CATALOGUE / "align_embeddings.npy").unlink()
    assert 'name="symbol"' not in browser.get("/searches/new").text
    monkeypatch.setattr("deployments.label_app.searches.view_of", lambda catalogue: View(told=True))
    page = browser.get("/searches/new").text
    assert 'value="edge_on_disk"' in page and 'name="words"' not in page
    assert 'value="odd"' not in page, "a class that no answer says"


def test_a_model_that_is_gone_is_told(browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_: object) -> None:
        raise GalaxyError("no version of galaxy-align is called '2'; run stage `align` first")

    monkeypatch.setattr("deployments.label_app.models.load_registered", gone)
    browser.get("/searches/new")
    answer = browser.submit("/searches/new", name="words", catalogue=CATALOGUE, words="thin")
    assert answer.status_code == 400 and "run stage `align` first" in answer.text


def test_a_symbol_whose_class_the_vision_model_tells_is_looked_up_there(app: FastAPI, browser: Browser) -> None:
    """No galaxy-align is asked: the answers that galaxy-lvm told of each galaxy say how likely it is edge-on."""
    service = app.state.service
    catalogue = service.library.catalogue(CATALOGUE)
    chances = np.full((len(catalogue), len(PLACES)), 0.1)
    chances[:, PLACES["disk_edge_on", "yes"]] = [
        0.9 if is_edge_on(catalogue.object_id(row)) else 0.01 for row in range(len(catalogue))
    ]
    seen = np.concatenate([catalogue.features.features, np.log(chances)], axis=1).astype(np.float32)
    more = np.ones(len(PLACES), np.float32)
    features = replace(
        catalogue.features,
        features=seen,
        mean=np.append(catalogue.features.mean, 0 * more),
        spread=np.append(catalogue.features.spread, more),
        view=View(told=True),
    )
    service.library._open[catalogue.folder] = replace(catalogue, features=features)
    search, page = begin(browser, symbol="edge_on_disk")
    assert "compared by galaxy-lvm version" in page
    _, stamps = browser.sheet(search)
    assert len(stamps) == 16 and all(is_edge_on(name) for name, _ in stamps)
    assert {why for _, why in stamps} == {"by your symbol"}


def test_symbols_are_pictures(browser: Browser) -> None:
    page = browser.get("/searches/new").text
    assert re.findall(r"/symbols/(\w+)\.png", page) == known_symbols()
    assert browser.client.get("/symbols/ring.png").content[:4] == b"\x89PNG"
    assert browser.client.get("/symbols/nothing.png").status_code == 404


def test_words_and_symbols_meet_in_the_model_s_own_space(app: FastAPI, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    network = GalaxAlign(LvmTower(build_lvm("nano")), ALIGNED, {"table": ["ring", "bar"]}).eval()
    monkeypatch.setattr("deployments.label_app.models.load_registered", lambda *_: SimpleNamespace(network=network))
    service = app.state.service
    catalogue = service.library.catalogue(CATALOGUE)
    words, symbol = (service.models.describe(catalogue, *one) for one in (("a bright ring", ""), ("", "ring")))
    both = service.models.describe(catalogue, "a bright ring", "ring")
    assert words.dtype == np.float32 and np.allclose(
        [np.linalg.norm(one) for one in (words, symbol, both)], 1, atol=1e-5
    )
    middle = (words + symbol) / np.linalg.norm(words + symbol)
    assert np.allclose(both, middle, atol=1e-5)
    cosines = catalogue.aligned.cosines(both)
    assert np.isnan(cosines[catalogue.row_of("galaxy-007")]) and np.nanmax(np.abs(cosines)) <= 1.01


def test_embeddings_of_another_length_are_refused(app: FastAPI) -> None:
    catalogue = app.state.service.library.catalogue(CATALOGUE)
    with pytest.raises(GalaxyError, match=r"gives vectors of 3 numbers.*has 8"):
        catalogue.aligned.cosines(np.ones(3, np.float32))
    proof = catalogue.folder / "proof.json"
    proof.write_text(json.dumps({**json.loads(proof.read_text()), "models": {"galaxy-lvm": "3"}}))
    del catalogue.__dict__["aligned"]
    with pytest.raises(GalaxyError, match="no embeddings of galaxy-align"):
        _ = catalogue.aligned
