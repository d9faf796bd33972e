"""Explore on the real app: hover, click to search, lasso, rename, verdict, upload, reload."""

from __future__ import annotations

import math
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SIZES, Opened, ready, shoot

pytestmark = [pytest.mark.browser, pytest.mark.service]

MAP = "window.sightline_map.instances['explore-map']"


def stage(page: Page) -> dict[str, float]:
    box = page.locator(".sm-surface").bounding_box()
    assert box is not None
    return {"x": box["x"], "y": box["y"], "width": box["width"], "height": box["height"]}


def pixel(page: Page, row: int) -> tuple[float, float]:
    """Where a row is on the screen."""
    box = stage(page)
    x, y = page.evaluate(f"{MAP}.project({row})")
    return box["x"] + x, box["y"] + y


def free_row(page: Page) -> int:
    """A row that no other row covers and no control lies over."""
    found = page.evaluate(
        f"""() => {{
          const map = {MAP};
          const box = document.querySelector('.sm-surface').getBoundingClientRect();
          const all = map.rows(5000).map((row) => [row, ...map.project(row)]);
          const near = (a, b) => a[0] !== b[0] && Math.hypot(a[1] - b[1], a[2] - b[2]) < 12;
          const open = ([, x, y]) =>
            document.elementFromPoint(box.x + x, box.y + y)?.closest('.sm-surface');
          return all.find((a) => open(a) && !all.some((b) => near(a, b)))?.[0];
        }}"""
    )
    assert found is not None, "every point lies over another"
    return int(found)


def api(page: Page, path: str, body: Any = None) -> Any:
    base = f"{urlsplit(page.url).scheme}://{urlsplit(page.url).netloc}/api/v1"
    answer = page.request.post(base + path, data=body) if body else page.request.get(base + path)
    assert answer.ok, answer.text()
    return answer.json()


def lasso(page: Page, *, share: float = 0.33) -> None:
    """Draw a circle around the middle of the map with Shift+Alt."""
    box = stage(page)
    cx, cy = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    r = share * min(box["width"], box["height"])
    page.mouse.move(cx + r, cy)
    page.keyboard.down("Shift")
    page.keyboard.down("Alt")
    page.mouse.down()
    for step in range(1, 25):
        angle = 2 * math.pi * step / 24
        page.mouse.move(cx + r * math.cos(angle), cy + r * math.sin(angle))
    page.mouse.up()
    page.keyboard.up("Alt")
    page.keyboard.up("Shift")


def shown_count(page: Page) -> tuple[int, int]:
    numbers = re.findall(r"[\d,]+", page.locator("#explore-count").inner_text())
    first, second = (int(number.replace(",", "")) for number in numbers)
    return first, second


def selection(page: Page) -> dict[str, Any]:
    """The selection that the address carries, as the API takes it."""
    polygons = []
    for text in parse_qs(urlsplit(page.url).query).get("sel", []):
        points = [[float(v) for v in pair.split(",")] for pair in text.split(";")[1:]]
        polygons.append({"points": points, "mode": "union"})
    return {"polygons": polygons, "filters": {}}


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", ["wide", "phone"])
def test_explore_is_drawn(opened: Opened, size: str, theme: str) -> None:
    with opened(size=size, theme=theme) as page:
        rows = api(page, "/map")["rows"]
        status = page.evaluate(f"{MAP}.status()")
        assert (status["drawn"], status["total"], status["rows"]) == (rows, rows, rows)
        expect(page.locator(".sm-counter")).to_have_text(f"{rows} of {rows} images")
        expect(page.locator(".sm-legend__item").first).to_be_visible()
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= SIZES[size][0]
        shoot(page, f"explore-{size}-{theme}")


def test_hover_previews_and_changes_no_panel(opened: Opened) -> None:
    with opened() as page:
        row = free_row(page)
        before, address = page.locator(".explore__panel").inner_html(), page.url
        page.mouse.move(*pixel(page, row))
        card = page.locator(".sm-card")
        expect(card.locator("img")).to_be_visible()
        image = api(page, f"/map/rows?rows={row}")[0]
        source = card.locator("img").get_attribute("src") or ""
        assert image["image_id"] in source
        expect(card).to_contain_text(image["title"])
        box, around = card.bounding_box(), stage(page)
        assert box is not None
        assert box["x"] >= around["x"]
        assert box["x"] + box["width"] <= around["x"] + around["width"]
        shoot(page, "explore-hover")
        page.mouse.move(around["x"] + 3, around["y"] + around["height"] - 3)
        expect(card).to_have_count(0)
        assert page.locator(".explore__panel").inner_html() == before
        assert page.url == address


def test_click_searches_and_a_neighbour_moves_there(opened: Opened) -> None:
    with opened() as page:
        row = free_row(page)
        page.mouse.click(*pixel(page, row))
        image = api(page, f"/map/rows?rows={row}")[0]["image_id"]
        hits = page.locator("#explore-hits .tile")
        expect(hits.first).to_be_visible()
        expect(page.locator(".photo img")).to_be_visible()
        expected = api(page, "/search", {"image_ids": [image], "k": 24})["hits"]
        scores = page.locator("#explore-hits .hit-score").all_inner_texts()
        assert scores == [f"{hit['score']:.3f}" for hit in expected]
        shown = [image.get_attribute("data-src") or "" for image in hits.locator("img").all()]
        assert all(h["image_id"] in s for h, s in zip(expected, shown, strict=True))
        ready(page)
        shoot(page, "explore-details")
        hits.nth(1).click()
        page.wait_for_url(re.compile(expected[1]["image_id"]))
        expect(page.locator(f".photo img[src*='{expected[1]['image_id']}']")).to_be_visible()
        page.go_back()
        expect(page.locator(f".photo img[src*='{image}']")).to_be_visible()
        page.locator(".sm-surface").focus()
        page.keyboard.press("Escape")
        expect(page.locator("#explore-gallery")).to_be_visible()
        assert "image=" not in page.url


def test_lasso_counts_exactly_and_survives_a_reload(opened: Opened) -> None:
    with opened() as page:
        lasso(page)
        expect(page.locator(".chip")).to_have_count(1)
        expect(page.locator("#explore-gallery .panel__title")).to_have_text("Selection")
        counted = api(page, "/map/select", selection(page))
        assert 0 < counted["count"] < counted["total"]
        expect(page.locator("#explore-count")).to_have_text(
            f"{counted['count']:,} of {counted['total']:,} images"
        )
        tiles = page.locator("#explore-gallery .tile")
        expect(tiles).to_have_count(min(counted["count"], 60))
        # The map matches by itself, beside the panel.
        matching = f"count => {MAP}.status().matching === count"
        page.wait_for_function(matching, arg=counted["count"])
        shoot(page, "explore-lasso")
        page.locator(".facet__value").first.click()
        expect(page.locator(".chip")).to_have_count(2)
        ready(page)
        narrowed, address = shown_count(page), page.url
        assert narrowed[0] <= counted["count"]
        page.reload()
        ready(page)
        expect(page.locator(".chip")).to_have_count(2)
        expect(page.locator("#explore-count")).to_contain_text(f"{narrowed[0]:,} of")
        assert page.url == address
        page.get_by_role("button", name="Clear all").click()
        expect(page.locator("#explore-count")).to_contain_text(f"{counted['total']:,} of")


def test_colour_legend_and_camera_live_in_the_address(opened: Opened) -> None:
    with opened("/?colour=outlier_score") as page:
        expect(page.locator(".sm-scale__bar")).to_be_visible()
        shoot(page, "explore-outlier-score")
        box = stage(page)
        page.mouse.move(box["x"] + 200, box["y"] + 200)
        page.mouse.wheel(0, -400)
        page.wait_for_url(re.compile("cam="))
        camera = page.evaluate(f"{MAP}.camera()")
        page.reload()
        ready(page)
        again = page.evaluate(f"{MAP}.camera()")
        assert again["zoom"] == pytest.approx(camera["zoom"], abs=1e-4)
        page.locator(".explore__toggle").click()
        expect(page.locator(".explore__facets")).to_be_hidden()
    with opened() as page:
        item = page.locator(".sm-legend__item").first
        item.dblclick()
        page.wait_for_url(re.compile(r"f\.cluster="))
        ready(page)
        largest = max(cluster["size"] for cluster in api(page, "/clusters"))
        expect(page.locator("#explore-count")).to_contain_text(f"{largest:,} of")


def test_upload_and_paste_search(opened: Opened) -> None:
    with opened() as page:
        image = api(page, "/map/rows?rows=5")[0]
        photo = page.request.get(f"/api/v1/images/{image['image_id']}/photo").body()
        page.locator("#explore-upload input").set_input_files(
            {"name": "mine.jpg", "mimeType": "image/jpeg", "buffer": photo}
        )
        first = page.locator("#explore-hits .tile").first
        expect(first).to_be_visible()
        expect(page.locator(".sought img")).to_be_visible()
        # The photo is in the collection, so its own listing comes first.
        expect(first.locator("img")).to_have_attribute("src", re.compile(image["image_id"]))
        shoot(page, "explore-upload")
        address = page.url
        page.reload()
        ready(page)
        expect(page.locator("#explore-hits .tile").first).to_be_visible()
        assert page.url == address
        page.goto("/")
        ready(page)
        page.evaluate(
            """async (source) => {
              const blob = await (await fetch(source)).blob();
              const data = new DataTransfer();
              data.items.add(new File([blob], "pasted.jpg", { type: "image/jpeg" }));
              document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data }));
            }""",
            f"/api/v1/images/{image['image_id']}/photo",
        )
        page.wait_for_url(re.compile(r"q="))
        expect(page.locator("#explore-hits .tile").first).to_be_visible()


def test_a_picture_that_is_none_is_refused_in_words(opened: Opened) -> None:
    with opened(expected="status of 400") as page:
        page.locator("#explore-upload input").set_input_files(
            {"name": "notes.jpg", "mimeType": "image/jpeg", "buffer": b"not a picture"}
        )
        expect(page.locator(".sm-upload__error")).to_contain_text("The search did not work")
        shoot(page, "explore-upload-refused")
        page.locator(".sm-upload__error button").click()
        expect(page.locator(".sm-upload__error")).to_have_count(0)


def test_rename_a_cluster_and_see_it_on_the_map(opened: Opened) -> None:
    with opened("/clusters") as page:
        field = page.locator(".name-field input").first
        expect(field).to_be_visible()
        field.fill("Renamed in a browser")
        field.press("Enter")
        expect(page.locator(".toast")).to_be_visible()
        page.locator(".nav__link").first.click()
        ready(page)
        expect(page.locator(".sm-legend")).to_contain_text("Renamed in a browser")
        names = [cluster["name"] for cluster in api(page, "/clusters")]
        assert "Renamed in a browser" in names


def test_mark_an_outlier_and_see_it_in_the_details(opened: Opened) -> None:
    with opened("/outliers") as page:
        image = api(page, "/outliers?limit=1&verdict=undecided")["outliers"][0]["image_id"]
        page.locator(f"button[id*='{image}'][id*='\"value\":\"outlier\"']").click()
        expect(page.locator(".toast")).to_be_visible()
        assert api(page, f"/images/{image}")["verdict"]["verdict"] == "outlier"
        page.goto(f"/?image={image}")
        ready(page)
        expect(page.locator(".badges").first).to_contain_text("True outlier")
        expect(page.locator(".gauge__reason")).not_to_be_empty()


def test_keys_and_the_phone(opened: Opened) -> None:
    with opened() as page:
        page.locator(".sm-surface").focus()
        before = page.evaluate(f"{MAP}.camera()")
        page.keyboard.press("+")
        page.keyboard.press("ArrowRight")
        after = page.evaluate(f"{MAP}.camera()")
        assert after["zoom"] == pytest.approx(before["zoom"] + 0.5)
        assert after["x"] > before["x"]
        page.keyboard.press("0")
        fitted = page.evaluate(f"{MAP}.camera()")
        assert fitted["zoom"] == pytest.approx(before["zoom"], abs=1e-6)
    with opened(size="phone") as page:
        page.touchscreen.tap(*pixel(page, free_row(page)))
        expect(page.locator(".photo img")).to_be_visible()
        expect(page.locator("#explore-hits .tile").first).to_be_attached()
        shoot(page, "explore-phone-details")
        page.get_by_role("button", name="Filters", exact=True).last.click()
        expect(page.locator(".explore__facets")).to_be_visible()
        shoot(page, "explore-phone-filters")
