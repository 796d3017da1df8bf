"""The loop: from three examples to the rest of them, what is shown why, the test, and two people."""

from __future__ import annotations

import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from fastapi import FastAPI

from deployments.label_app.sampling import held_back
from deployments.label_app.searches import find_or_404
from deployments.label_app.service import Service
from tests.deployments.label_app.conftest import Browser
from tests.deployments.label_app.sky import CATALOGUE, COUNT, FAILED, FLAGGED, is_edge_on


@pytest.fixture(autouse=True)
def the_same_sheets_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A search's seed is random: what is learnt from some sheets would be now clear and now not."""
    monkeypatch.setattr("deployments.label_app.searches.secrets.randbelow", lambda _: 7)


def held_of(app: FastAPI, search: int) -> set[str]:
    """Galaxies that are held back for the test."""
    service: Service = app.state.service
    catalogue = service.library.catalogue(CATALOGUE)
    with service.database.reading() as session:
        from deployments.label_app.events import first_examples

        seed, examples = find_or_404(session, search).seed, first_examples(session, search)
    return {catalogue.object_id(row) for row in held_back(seed, catalogue.searchable, catalogue.groups, examples)}


def test_three_examples_find_the_others(app: FastAPI, browser: Browser) -> None:
    search = browser.begin()
    found: list[tuple[str, bool]] = []
    for number in range(5):
        found += browser.label(search, after=number)
    names = [name for name, _ in found]
    assert len(names) == len(set(names)), "no galaxy comes twice"
    held = held_of(app, search)
    wanted = {f"galaxy-{i:03d}" for i in range(0, COUNT, 5)} - held - {"galaxy-000", "galaxy-005", "galaxy-010"}
    assert not held & set(names)
    assert sum(good for _, good in found) > 0.8 * len(wanted), "a fifth of the catalogue is wanted, and most is found"
    assert {FAILED, FLAGGED}.isdisjoint(names)
    assert len({"galaxy-001", "galaxy-002"} & set(names)) <= 1, "one of two that are the same object"


def test_sheets_are_random_until_something_is_wanted(browser: Browser) -> None:
    search = browser.begin(wanted="")
    number, wanted = 0, False
    while not wanted:
        assert {reason for _, reason in browser.sheet(search, after=number)[1]} == {"random"}
        wanted = any(good for _, good in browser.label(search, after=number))
        number += 1
    reasons = {reason for _, reason in browser.sheet(search, after=number)[1]}
    assert "likeliest" in reasons and "random" in reasons


def test_the_same_sheet_comes_back_and_a_second_click_makes_no_second_one(browser: Browser) -> None:
    search = browser.begin()
    number, stamps = browser.sheet(search)
    assert browser.sheet(search, after=0) == (number, stamps)
    browser.send(f"/rounds/{number}/votes", place=3, answer="unsure", key="abcdefgh")
    page = browser.get(f"/rounds/{number}").text
    assert re.findall(r'data-answer="(\w+)"', page) == ["unsure"]


def test_an_answer_to_the_rest_leaves_what_was_said(browser: Browser) -> None:
    search = browser.begin()
    number, stamps = browser.sheet(search)
    browser.send(f"/rounds/{number}/votes", place=0, answer="yes", key="abcdefgh")
    told = browser.send(f"/rounds/{number}/rest", answer="no", key="ijklmnop").json()
    assert told["places"] == list(range(1, len(stamps)))
    answers = re.findall(r'data-answer="(\w+)"', browser.get(f"/rounds/{number}").text)
    assert answers == ["yes"] + ["no"] * (len(stamps) - 1)
    undone = browser.send(f"/rounds/{number}/undo", key="qrstuvwx").json()
    assert undone == {"place": len(stamps) - 1, "answer": None}
    told = browser.send(f"/rounds/{number}/rest", answer="yes", key="yzabcdef").json()
    assert told == {"places": [len(stamps) - 1], "answer": "yes"}
    assert browser.send(f"/rounds/{number}/rest", answer="maybe", key="ghijklmn").status_code == 422


def test_the_top_of_the_ranked_list_can_be_labelled(app: FastAPI, browser: Browser) -> None:
    search = browser.begin()
    done = [name for number in range(2) for name, _ in browser.label(search, after=number)]
    listed = browser.get(f"/searches/{search}/results?show=unlabelled").text
    free = [name for name in re.findall(r"<br>(galaxy-\d+)<", listed) if name not in held_of(app, search)]
    number, stamps = browser.sheet(search, "best")
    shown = [name for name, _ in stamps]
    assert {why for _, why in stamps} == {"likeliest"} and len(shown) == 16
    assert not {*done, "galaxy-000"} & set(shown)
    twin = {"galaxy-001", "galaxy-002"}
    assert [name for name in shown if name not in twin] == [n for n in free if n not in twin][: len(set(shown) - twin)]
    browser.send(f"/rounds/{number}/rest", answer="no", key="abcdefgh")
    assert not set(shown) & {name for name, _ in browser.sheet(search, "best", after=1)[1]}
    assert not set(shown) & {name for name, _ in browser.sheet(search, after=2)[1]}


def test_a_slip_is_shown_again_once_and_the_new_answer_holds(browser: Browser) -> None:
    search = browser.begin()
    assert "your answers" not in browser.get(f"/searches/{search}").text
    number, stamps = browser.sheet(search)
    [slip, *_] = [place for place, (name, _) in enumerate(stamps) if is_edge_on(name)]
    for place, (name, _) in enumerate(stamps):
        answer = "yes" if is_edge_on(name) and place != slip else "no"
        browser.send(f"/rounds/{number}/votes", place=place, answer=answer, key=f"first-{place:08d}")
    browser.label(search, after=1)
    browser.label(search, after=2)
    assert "Look again at" in browser.get(f"/searches/{search}").text
    number, again = browser.sheet(search, "check")
    assert (stamps[slip][0], "you said no") in again
    page = browser.get(f"/rounds/{number}").text
    assert "data-rest" not in page, "what is left unanswered keeps its answer"
    assert browser.send(f"/rounds/{number}/rest", answer="no", key="by-habit").status_code == 400
    place = [name for name, _ in again].index(stamps[slip][0])
    before = browser.get(f"/searches/{search}").text
    browser.send(f"/rounds/{number}/votes", place=place, answer="no", key="slipped-again")
    browser.send(f"/rounds/{number}/undo", key="taken-back")
    assert browser.get(f"/searches/{search}").text == before, "it is to be looked at again, still"
    browser.send(f"/rounds/{number}/votes", place=place, answer="yes", key="corrected")
    after = browser.get(f"/searches/{search}").text
    yes, no = (int(re.findall(rf'<b class="{kind}">(\d+)</b>', before)[0]) for kind in ("yes", "no"))
    assert f'<b class="yes">{yes + 1}</b>' in after and f'<b class="no">{no - 1}</b>' in after
    answer = browser.submit(f"/searches/{search}/rounds", kind="check", after=1)
    assert stamps[slip][0] not in answer.text


def test_lists_and_second_looks_need_something_wanted(browser: Browser) -> None:
    search = browser.begin(wanted="")
    for kind in ("best", "check"):
        answer = browser.submit(f"/searches/{search}/rounds", kind=kind)
        assert answer.status_code == 400 and "say yes to at least one galaxy first" in answer.text


def test_the_page_of_a_search_shows_what_is_wanted_examples_first(app: FastAPI, browser: Browser) -> None:
    search = browser.begin()
    found = [name for name, good in browser.label(search) if good]
    catalogue = app.state.service.library.catalogue(CATALOGUE)
    shown = re.findall(r'alt="Galaxy (galaxy-\d+)"', browser.get(f"/searches/{search}").text)
    assert shown[:3] == sorted(["galaxy-000", "galaxy-005", "galaxy-010"], key=catalogue.row_of)
    assert len(shown) == min(16, 3 + len(found)) and set(shown[3:]) <= set(found)
    new = [name for name, good in browser.label(search, after=1) if good]
    shown = re.findall(r'alt="Galaxy (galaxy-\d+)"', browser.get(f"/searches/{search}").text)
    assert new and set(shown[3 : 3 + len(new)]) <= set(new), "of the newest sheet first"


def test_only_whoever_said_it_looks_again_and_sees_what_they_found(signed_in: Callable[[str], Browser]) -> None:
    henrietta, cecilia, jocelyn = (signed_in(name) for name in ("henrietta", "cecilia", "jocelyn"))
    search = henrietta.begin()
    number, stamps = henrietta.sheet(search)
    galaxy = next(name for name, _ in stamps if is_edge_on(name))
    for place, (name, _) in enumerate(stamps):
        answer = "yes" if is_edge_on(name) else "no"
        henrietta.send(f"/rounds/{number}/votes", place=place, answer=answer, key=f"first-{place:08d}")
    henrietta.label(search, after=1)
    henrietta.label(search, after=2)
    for other in (cecilia, jocelyn):
        other.get(f"/searches/{search}")
        shown, after = False, 0
        while not shown:  # until it has come on a sheet of second opinions
            number, again = other.sheet(search, "review", after)
            for place, (name, _) in enumerate(again):
                shown |= name == galaxy
                answer = "yes" if is_edge_on(name) and name != galaxy else "no"
                other.send(f"/rounds/{number}/votes", place=place, answer=answer, key=f"{number:08d}-{place:08d}")
            after += 1
    _, doubted = cecilia.sheet(search, "check")
    assert (galaxy, "you said no") in doubted
    answer = henrietta.submit(f"/searches/{search}/rounds", kind="check")
    assert galaxy not in answer.text, "her own answer is yes, as the others speak"
    page = signed_in("vera").get(f"/searches/{search}").text
    [wanted] = re.findall(r'<ul [^>]*aria-label="Wanted.*?</ul>', page, re.DOTALL)
    assert wanted.count('alt="Galaxy') == 3, "who has labelled nothing sees examples alone"


def test_two_clicks_at_once_make_one_sheet(browser: Browser) -> None:
    search = browser.begin()
    browser.label(search)
    for kind, after in (("search", 1), ("best", 0)):
        path, fields = f"/searches/{search}/rounds", {"csrf": browser.token, "kind": kind, "after": after}
        with ThreadPoolExecutor(6) as threads:
            answers = list(
                threads.map(
                    lambda _, path=path, fields=fields: browser.client.post(path, data=fields, follow_redirects=False),
                    range(6),
                )
            )
        assert len({answer.headers["location"] for answer in answers}) == 1


def test_a_sheet_that_brings_little_after_many_says_that_the_end_is_near(browser: Browser) -> None:
    """Every fifth of 240 galaxies is wanted: after some sheets there is hardly any left."""
    search, near = browser.begin(), "may have found most"
    number, told = 0, []
    while number < 9:
        browser.label(search, after=number)
        number += 1
        sheet, _ = browser.sheet(search, after=number)
        told.append(near in browser.get(f"/rounds/{sheet}").text)
    assert not told[0] and told[-1]


def test_examples_by_position_within_two_arcsec(app: FastAPI, browser: Browser) -> None:
    catalogue = app.state.service.library.catalogue(CATALOGUE)
    row = catalogue.row_of("galaxy-020")
    ra, dec = catalogue.position(row)
    near, far = f"{ra:.7f}, {dec + 1.5 / 3600:.7f}", f"{ra:.7f} {dec + 4 / 3600:.7f}"
    search = browser.begin(wanted=near)
    assert '<b class="yes">1</b> yes' in browser.get(f"/searches/{search}").text
    browser.get("/searches/new")
    refused = browser.submit("/searches/new", name="far", catalogue=CATALOGUE, wanted=far)
    assert refused.status_code == 400 and "has no galaxy within 2" in refused.text
    assert far in refused.text, "the form keeps what was typed"


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        ("galaxy-999", "is no object of the catalogue"),
        (FAILED, "has no usable stamp"),
        ("400.0 95.0", "is no object of the catalogue, nor a position"),
        ("\n".join(["galaxy-000"] * 501), "at most 500"),
    ],
)
def test_examples_that_cannot_be_taken_are_named(browser: Browser, wanted: str, told: str) -> None:
    browser.get("/searches/new")
    answer = browser.submit("/searches/new", name="wrong", catalogue=CATALOGUE, wanted=wanted)
    assert answer.status_code == 400
    assert told in answer.text


def test_the_test_sample_is_blind_apart_and_measures_the_list(app: FastAPI, browser: Browser) -> None:
    search = browser.begin()
    held = held_of(app, search)
    assert len(held) == (COUNT - 3 - 3) // 10, "without the examples, the failed, the flagged and the second twin"
    browser.label(search)
    browser.label(search, after=1)
    tested = dict(browser.label(search, "test")) | dict(browser.label(search, "test", after=1))
    assert set(tested) == held
    _, stamps = browser.sheet(search, "search", after=2)
    assert not held & {name for name, _ in stamps}
    page = browser.get(f"/searches/{search}").text
    assert f"{len(held)} labelled so far, {sum(tested.values())} of them yes" in page
    assert "Completeness of that list" in page
    over = browser.submit(f"/searches/{search}/rounds", kind="test", after=2)
    assert over.status_code == 400 and "you have labelled all" in over.text
    assert "%" not in re.findall(r'<span class="reason.*?</span>', browser.get("/rounds/3").text)[0], "blind"
    assert 'data-blind="true"' in browser.get("/rounds/3").text
    row = app.state.service.library.catalogue(CATALOGUE).row_of(min(held))
    seen, blind = (browser.get(f"/galaxies/{CATALOGUE}/{row}?part=true{more}").text for more in ("", "&blind=true"))
    assert "Values of the catalogue" in seen and "Most alike" in seen
    assert "Values of the catalogue" not in blind and "Most alike" not in blind and "&amp;blind=true" in blind


def test_held_back_is_a_function_of_seed_and_rows() -> None:
    searchable, groups = np.ones(5000, bool), np.arange(5000)
    searchable[::7] = False
    first = held_back(11, searchable, groups, [3])
    np.testing.assert_array_equal(first, held_back(11, searchable, groups, [3]))
    assert len(np.intersect1d(first, held_back(12, searchable, groups, [3]))) < 0.2 * len(first)
    assert searchable[first].all() and 3 not in first
    assert abs(first[:200].mean() / 2500 - 1) < 0.15, "any first part is spread over the whole catalogue"


def test_two_people_agree_and_disagree(signed_in: Callable[[str], Browser]) -> None:
    one, other = signed_in("henrietta"), signed_in("cecilia")
    search = one.begin(wanted="galaxy-000\ngalaxy-005")
    labelled = dict(one.label(search))
    assert not set(labelled) & {name for name, _ in other.sheet(search)[1]}, "not the stamps that she has at hand"
    number, stamps = other.sheet(search, "review")
    assert {name for name, _ in stamps} <= {*labelled, "galaxy-000", "galaxy-005"}
    assert {reason for _, reason in stamps} == {"second opinion"}
    for place, (name, _) in enumerate(stamps):
        truth = is_edge_on(name)
        answer = "yes" if truth != (place == 0) else "no"  # wrong about the first one
        other.send(f"/rounds/{number}/votes", place=place, answer=answer, key=f"review-{place:04d}")
    page = one.get(f"/searches/{search}").text
    assert f"cecilia and henrietta both labelled {len(stamps)} galaxies" in page
    assert "They disagree on 1" in page
    assert "1</b> disputed, not learnt from" in page.replace("<b>", "")
    assert one.get(f"/rounds/{number}").status_code == 403, "a sheet is its person's"


def test_a_home_without_catalogues_says_what_to_run(app: FastAPI, browser: Browser) -> None:
    for path in app.state.service.library.folders():
        (path / "embeddings.npy").unlink()
    for page in (browser.get("/"), browser.get("/searches/new")):
        assert page.status_code == 200
        assert "galaxy run" in page.text


def test_pictures_are_kept_by_browsers_and_say_when_they_are_the_same(app: FastAPI, browser: Browser) -> None:
    row = app.state.service.library.catalogue(CATALOGUE).row_of("galaxy-020")
    path = f"/stamps/{CATALOGUE}/{row}/viewer.jpg"
    picture = browser.client.get(path)
    assert picture.headers["content-type"] == "image/jpeg" and picture.content[:2] == b"\xff\xd8"
    assert "immutable" in picture.headers["cache-control"]
    again = browser.client.get(path, headers={"if-none-match": picture.headers["etag"]})
    assert again.status_code == 304 and not again.content
    others = {browser.client.get(f"/stamps/{CATALOGUE}/{row}/{name}.jpg").content for name in ("faint", "negative")}
    assert len(others | {picture.content}) == 3
    failed = app.state.service.library.catalogue(CATALOGUE).row_of(FAILED)
    for wrong in (f"{COUNT}/viewer", f"{failed}/viewer", f"{row}/unknown", "-1/viewer", f"{10**30}/viewer"):
        assert browser.client.get(f"/stamps/{CATALOGUE}/{wrong}.jpg").status_code in (400, 422)


def test_a_galaxy_at_large_with_values_neighbours_and_sky_viewer(app: FastAPI, browser: Browser) -> None:
    catalogue = app.state.service.library.catalogue(CATALOGUE)
    row = catalogue.row_of("galaxy-020")
    page = browser.get(f"/galaxies/{CATALOGUE}/{row}?stretch=faint").text
    assert "legacysurvey.org/viewer?ra=" in page and 'rel="noopener noreferrer"' in page
    assert "p_edge_on" in page
    near = [int(other) for other in re.findall(rf"/galaxies/{CATALOGUE}/(\d+)\?stretch=faint", page)]
    near = [other for other in near if other != row]
    assert len(near) == 8 and sum(is_edge_on(catalogue.object_id(other)) for other in near) >= 6
    assert "←" not in page, "it was opened from no search"
    search = browser.begin("thin <ones>")
    page = browser.get(f"/galaxies/{CATALOGUE}/{row}?search={search}").text
    assert f'<a href="/searches/{search}">← thin &lt;ones&gt;</a>' in page
    assert f"stretch=viewer&amp;search={search}" in page, "neighbours know the way back, too"
    assert browser.get(f"/galaxies/{CATALOGUE}/{row}?search=99999").status_code == 404
    nowhere = catalogue.row_of("galaxy-004")
    assert "position is not known" in browser.get(f"/galaxies/{CATALOGUE}/{nowhere}").text


def test_measures_are_folded_away_from_the_other_values(app: FastAPI, browser: Browser) -> None:
    row = app.state.service.library.catalogue(CATALOGUE).row_of("galaxy-020")
    values, measures = browser.get(f"/galaxies/{CATALOGUE}/{row}").text.split("<summary>")
    assert "p_edge_on" in values and "measured_axis_ratio" not in values
    assert measures.startswith("Measures of the picture: 1<") and "measured_axis_ratio" in measures
