"""A whole search in Chromium, by keyboard and by mouse: undo, reload, zoom, export, two people, phone width."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

from deployments.label_app.accounts import Accounts
from deployments.label_app.database import Database
from infra.settings import Settings
from tests.deployments.label_app.process import start
from tests.deployments.label_app.sky import is_edge_on, make_home
from tests.end_to_end.home import free_port
from tests.end_to_end.test_ui import CHROMIUM, QUIET

pytestmark = [
    pytest.mark.slow,
    pytest.mark.browser,
    pytest.mark.skipif(shutil.which("chromium") is None, reason="no chromium on this machine; install chromium"),
]
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    settings = make_home(tmp_path_factory.mktemp("browser") / "home")
    database = Database(settings.label_database_url)
    for name in ("henrietta", "cecilia"):
        Accounts(database).add(name, "labeller", PASSWORD)
    database.close()
    return settings


@pytest.fixture(scope="module")
def address(settings: Settings) -> Iterator[str]:
    port = free_port()
    process = start(settings.home, port, "--sign-in")
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(30)


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=QUIET)
        yield browser
        browser.close()


def sign_in(chromium: Browser, address: str, name: str, width: int = 1280, height: int = 900) -> Page:
    page = chromium.new_page(viewport={"width": width, "height": height})
    page.set_default_timeout(30_000)
    page.goto(address)
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(PASSWORD)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Sign out").wait_for()
    return page


def names(page: Page) -> list[str]:
    """Of the sheet, once its script listens to keys."""
    expect(page.locator(".picture").first).to_be_focused()
    pictures = page.locator(".picture")
    return [str(pictures.nth(i).get_attribute("data-name")).partition(",")[0] for i in range(pictures.count())]


def answers(page: Page) -> list[str]:
    return [str(stamp.get_attribute("data-answer")) for stamp in page.locator(".stamp").all()]


def settled(page: Page) -> None:
    """Until the service has acknowledged every vote."""
    expect(page.locator(".stamp.waiting")).to_have_count(0)


def no_wider_than_the_window(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"))


def test_a_search_by_keyboard_and_mouse(chromium: Browser, address: str, settings: Settings, tmp_path: Path) -> None:
    page = sign_in(chromium, address, "henrietta")
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda line: problems.append(line.text) if line.type == "error" else None)
    outside: list[str] = []
    page.on("request", lambda asked: outside.append(asked.url) if not asked.url.startswith(address) else None)

    page.get_by_role("link", name="New search").click()
    page.get_by_label("What are you looking for?").fill("edge-on disks")
    page.get_by_label("Galaxies that you want (you").fill("galaxy-000\ngalaxy-005\ngalaxy-010")
    page.get_by_role("button", name="Begin").click()
    page.get_by_role("button", name="Start labelling").click()

    # the first sheet by keyboard: an answer moves on, arrows move, z takes back, a reload keeps all
    shown = names(page)
    assert len(shown) == 16
    page.keyboard.press("y")
    page.keyboard.press("n")
    page.keyboard.press("u")
    page.keyboard.press("s")
    assert answers(page)[:5] == ["yes", "no", "unsure", "skip", ""]
    page.keyboard.press("z")
    settled(page)
    expect(page.locator(".stamp").nth(3)).to_have_attribute("data-answer", "")
    page.reload()
    assert answers(page)[:5] == ["yes", "no", "unsure", "", ""]
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowUp")
    expect(page.locator(".picture").nth(1)).to_be_focused()
    for place, name in enumerate(shown):
        page.locator(".picture").nth(place).focus()
        page.keyboard.press("y" if is_edge_on(name) else "n")
    page.keyboard.press("Enter")
    page.get_by_text("Sheet 2").wait_for()

    # the second one by mouse: clicks go through the answers, buttons say them, the zoom shows and closes
    shown = names(page)
    first = page.locator(".picture").first
    for answer in ("yes", "no", "unsure", "skip", "yes"):
        first.click()
        expect(page.locator(".stamp").first).to_have_attribute("data-answer", answer)
    page.get_by_role("button", name=f"Look closer at {shown[0]}").click()
    page.get_by_role("link", name="Legacy Survey sky viewer").wait_for()
    page.locator("dialog").get_by_role("link", name="negative").click()
    page.locator('dialog img.large[src$="negative.jpg"]').wait_for()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_hidden()
    # at large, keys answer and go on to the next; a neighbour is only looked at
    page.get_by_role("button", name=f"Look closer at {shown[0]}").click()
    page.locator("dialog").get_by_role("heading", name=shown[0], exact=True).wait_for()
    page.locator("dialog .small-stamps a").first.click()
    expect(page.locator("#closer-answers")).to_be_hidden()
    page.keyboard.press("Escape")
    page.get_by_role("button", name=f"Look closer at {shown[0]}").click()
    page.locator("dialog").get_by_role("heading", name=shown[0], exact=True).wait_for()
    page.keyboard.press("n")
    page.locator("dialog").get_by_role("heading", name=shown[1], exact=True).wait_for()
    page.locator("dialog").get_by_role("button", name="unsure").click()
    page.locator("dialog").get_by_role("heading", name=shown[2], exact=True).wait_for()
    page.locator("dialog").get_by_role("link", name="negative").click()
    page.locator('dialog img.large[src$="negative.jpg"]').wait_for()
    expect(page.locator("#closer-answers")).to_be_visible()
    page.keyboard.press(" ")
    expect(page.locator("dialog")).to_be_hidden()
    page.keyboard.press(" ")
    page.locator("dialog").get_by_role("heading", name=shown[2], exact=True).wait_for()
    page.keyboard.press(" ")
    expect(page.locator("dialog")).to_be_hidden()
    assert answers(page)[:3] == ["no", "unsure", ""]
    page.get_by_label("Show").select_option("faint")
    page.locator('.stamp img[src$="faint.jpg"]').first.wait_for()
    for place, name in enumerate(shown):
        if is_edge_on(name):
            page.locator(".stamp").nth(place).get_by_role("button", name="yes", exact=True).click()
        elif place < 2:
            page.locator(".stamp").nth(place).get_by_role("button", name="no", exact=True).click()
    page.get_by_role("button", name="No to the rest").click()
    page.get_by_text("Sheet 3").wait_for()

    # what it has found, as a page and as files
    page.get_by_role("link", name="edge-on disks").click()
    page.get_by_text("left to find").wait_for()
    page.get_by_role("link", name="Ranked list and export").click()
    expect(page.locator("ol.stamps li.yes")).not_to_have_count(0)
    ranked = page.locator("ol.stamps li").all_inner_texts()
    assert sum(is_edge_on("galaxy-" + text.rpartition("galaxy-")[2][:3]) for text in ranked[:20]) >= 18
    page.get_by_role("link", name="not labelled yet").click()
    expect(page.locator("ol.stamps li.yes, ol.stamps li.no")).to_have_count(0)
    expect(page.locator("ol.stamps li").nth(20)).to_be_visible()
    page.get_by_role("button", name="Label the best of these").click()
    page.get_by_text("The likeliest without a label, sheet 1").wait_for()
    page.go_back()
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Parquet").click()
    waiting.value.save_as(tmp_path / "found.parquet")
    table = pd.read_parquet(tmp_path / "found.parquet")
    assert table["probability"].is_monotonic_decreasing and len(table) > 200
    assert set(table.loc[table["label"] == "yes", "object_id"]) >= {"galaxy-000", "galaxy-005"}
    assert not problems and not outside


def test_two_people_and_the_test(chromium: Browser, address: str) -> None:
    other = sign_in(chromium, address, "cecilia")
    other.get_by_role("link", name="edge-on disks").click()
    other.get_by_role("button", name="Give a second opinion").click()
    other.get_by_text("Second opinion, sheet 1").wait_for()
    for place, name in enumerate(names(other)):
        other.locator(".picture").nth(place).focus()
        other.keyboard.press("y" if is_edge_on(name) == (place > 0) else "n")
    settled(other)
    other.get_by_role("link", name="edge-on disks").click()
    other.get_by_text("They disagree on 1").wait_for()
    other.get_by_role("button", name="Label test galaxies").click()
    other.get_by_text("Test sheet 1").wait_for()
    for place, name in enumerate(names(other)):
        other.locator(".picture").nth(place).focus()
        other.keyboard.press("y" if is_edge_on(name) else "n")
    settled(other)
    other.get_by_role("link", name="edge-on disks").click()
    other.get_by_text("16 labelled so far").wait_for()
    other.get_by_text("Completeness of that list").wait_for()


def test_at_phone_width(chromium: Browser, address: str) -> None:
    page = sign_in(chromium, address, "henrietta", width=390, height=844)
    assert no_wider_than_the_window(page)
    page.get_by_role("link", name="edge-on disks").click()
    page.get_by_role("button", name="Continue with sheet").wait_for()
    assert no_wider_than_the_window(page)
    page.get_by_role("button", name="Continue with sheet").click()
    page.locator(".stamp").first.wait_for()
    assert no_wider_than_the_window(page)
    left, right = (page.locator(".stamp").nth(i).bounding_box() for i in range(2))
    assert left and right and left["y"] == right["y"] and left["width"] > 150, "two in a row, large enough to see"
    button = page.locator(".stamp").first.get_by_role("button", name="yes", exact=True)
    box = button.bounding_box()
    assert box and box["height"] >= 36 and box["width"] >= 36, "large enough for a finger"
    button.click()
    settled(page)
    page.locator(".zoom").first.click()
    page.get_by_role("link", name="Legacy Survey sky viewer").wait_for()
    assert no_wider_than_the_window(page)


def test_readable_by_contrast(chromium: Browser, address: str) -> None:
    """Text on what lies behind it, by WCAG's formula: at least 4.5 to 1."""
    page = sign_in(chromium, address, "henrietta")
    page.get_by_role("link", name="edge-on disks").click()
    page.get_by_role("link", name="Ranked list and export").wait_for()
    for path in (page.url, address, f"{address}/searches/new"):
        page.goto(path)
        poor = page.evaluate(CONTRAST)
        assert not poor, (path, poor)


CONTRAST = """() => {
  const numbers = (colour) => colour.match(/[\\d.]+/g).map(Number);
  const linear = (v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
  const light = (colour) => {
    const [r, g, b] = numbers(colour).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = getComputedStyle(at).backgroundColor;
      if (numbers(colour).length === 3 || numbers(colour)[3] === 1) return colour;
    }
    return "rgb(255, 255, 255)";
  };
  const poor = [];
  for (const element of document.querySelectorAll("body *")) {
    const hasText = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!hasText || !element.offsetParent) continue;
    const [one, other] = [light(getComputedStyle(element).color), light(ground(element))].sort((a, b) => b - a);
    const contrast = (one + 0.05) / (other + 0.05);
    if (contrast < 4.5) poor.push([element.tagName, element.textContent.trim().slice(0, 40), contrast]);
  }
  return poor;
}"""
