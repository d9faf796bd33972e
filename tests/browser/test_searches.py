"""Searches on the real app: examples against, stock, scope, names, history, addresses."""

from __future__ import annotations

import re
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import WAIT_MS, Opened, ready, shoot
from tests.browser.test_explore import api
from tests.waiting import until

pytestmark = [pytest.mark.browser, pytest.mark.service]


def address(page: Page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def shown(page: Page) -> list[str]:
    """Image ids of the hits, best first."""
    tiles = page.locator("#explore-hits .hit img").all()
    sources = [tile.get_attribute("data-src") or "" for tile in tiles]
    return [source.split("/")[-2] for source in sources]


def expect_hits(page: Page, body: dict[str, Any]) -> list[str]:
    """Wait until the panel shows what the API answers; returns its images."""
    wanted = [hit["image_id"] for hit in api(page, "/search", body)["hits"]]
    until = time.monotonic() + WAIT_MS / 1000
    while shown(page) != wanted and time.monotonic() < until:
        page.wait_for_timeout(200)
    assert shown(page) == wanted
    return wanted


def choose(page: Page, name: str, label: str) -> None:
    """Pick one choice of an option of the search."""
    page.locator(f".terms__{name} .dash-dropdown").click()
    page.locator(".dash-dropdown-option", has_text=label).click()


def set_stock(page: Page, listing: str, inventory: int) -> None:
    path = f"/api/v1/listings/{listing}/stock"
    now = page.request.get(path)
    unchanged = {"If-Match": now.headers["etag"]} if now.ok else {"If-None-Match": "*"}
    answer = page.request.put(path, data={"inventory": inventory}, headers=unchanged)
    assert answer.ok, answer.text()


def test_a_hit_marked_as_unlike_changes_the_answer_and_can_be_taken_back(opened: Opened) -> None:
    with opened() as page:
        image = api(page, "/map/rows?rows=7")[0]["image_id"]
        page.goto(f"/?image={image}")
        ready(page)
        before = shown(page)
        assert before == [
            hit["image_id"] for hit in api(page, "/search", {"image_ids": [image], "k": 24})["hits"]
        ]
        unlike = before[2]
        page.locator("#explore-hits .hit").nth(2).locator(".tile").click(modifiers=["Alt"])
        expect(page.locator(".example--minus")).to_have_count(1)
        ready(page)
        assert (address(page)["image"], address(page)["minus"]) == ([image], [unlike])
        body: dict[str, Any] = {"image_ids": [image], "negatives": [unlike], "k": 24}
        wanted = expect_hits(page, body)
        assert wanted != before

        page.locator("#explore-hits .hit").nth(1).locator(".mark--plus").click()
        expect(page.locator(".example--plus")).to_have_count(2)
        ready(page)
        body["image_ids"] = [image, wanted[1]]
        expect_hits(page, body)
        choose(page, "by", "All photos matched")
        page.wait_for_url(re.compile("by=coverage"))
        ready(page)
        body["aggregate"] = "coverage"
        expect_hits(page, body)
        shoot(page, "search-examples")

        page.reload()
        ready(page)
        expect(page.locator(".example")).to_have_count(3)
        page.locator(".example--minus").click()
        expect(page.locator(".example--minus")).to_have_count(0)
        assert "minus" not in address(page)


def test_in_stock_only_shows_what_is_there_and_when_it_was_read(opened: Opened) -> None:
    with opened() as page:
        image = api(page, "/map/rows?rows=11")[0]["image_id"]
        near = api(page, "/search", {"image_ids": [image], "k": 24})["hits"]
        sold, kept = (hit["listing_id"] for hit in near[:2])
        for listing, inventory in ((sold, 0), (kept, 71)):
            set_stock(page, listing, inventory)
        body = {"image_ids": [image], "k": 24, "in_stock": True}
        # The mask of the hosts follows a moment later.
        until(lambda: kept in {h["listing_id"] for h in api(page, "/search", body)["hits"]})
        page.goto(f"/?image={image}")
        ready(page)
        page.locator(".switch").click()
        page.wait_for_url(re.compile("stock=1"))
        expect(page.locator(".switch")).to_have_attribute("aria-checked", "true")
        expect(page.locator(".tile__read").first).to_be_visible()
        ready(page)
        found = api(page, "/search", body)
        stocks = {hit["listing_id"]: hit["inventory"] for hit in found["hits"]}
        assert sold not in stocks
        assert stocks[kept] == 71
        assert min(stocks.values()) > 0
        assert found["lag_s"] is not None
        page.reload()
        ready(page)
        told = page.locator(".tile__read").all_inner_texts()
        assert len(told) == len(stocks)
        for text, hit in zip(told, found["hits"], strict=True):
            pattern = rf"in stock: {hit['inventory']},\s+read \d\d:\d\d:\d\d"
            assert re.fullmatch(pattern, text), text
        expect(page.locator("#explore-hits")).to_contain_text("exact: 240 of 240 images")
        expect(page.locator("#explore-hits")).to_contain_text("Stock followed up to")
        shoot(page, "search-stock")


def test_a_search_keeps_to_the_current_filter_or_to_a_result(opened: Opened) -> None:
    with opened() as page:
        image = api(page, "/map/rows?rows=7")[0]["image_id"]
        largest = max(api(page, "/clusters"), key=lambda cluster: cluster["size"])["cluster"]
        page.goto(f"/?image={image}&f.cluster={largest}")
        ready(page)
        everything = shown(page)
        choose(page, "scope", "Current filter")
        page.wait_for_url(re.compile("scope=filter"))
        ready(page)
        filters = {"polygons": [], "filters": {"cluster": [str(largest)]}}
        body = {"image_ids": [image], "k": 24, "selection": filters}
        found = api(page, "/search", body)
        assert expect_hits(page, body) != everything
        choose(page, "scope", "Within this result")
        page.wait_for_url(re.compile(f"within={found['query_id']}"))
        ready(page)
        expect_hits(page, {"image_ids": [image], "k": 24, "within": found["query_id"]})


def test_a_search_is_renamed_reopened_by_its_address_and_asked_again(opened: Opened) -> None:
    with opened() as page:
        image = api(page, "/map/rows?rows=3")[0]["image_id"]
        unlike = api(page, "/map/rows?rows=200")[0]["image_id"]
        body = {"image_ids": [image], "negatives": [unlike], "k": 40, "aggregate": "mean"}
        found = api(page, "/search", body)
        name = f"Like <this> {uuid4().hex[:6]}"
        page.goto("/search")
        field = page.locator(f"input[id*='{found['query_id']}']")
        expect(field).to_be_visible()
        shoot(page, "searches")
        field.click()
        page.keyboard.type(name)
        page.keyboard.press("Enter")
        expect(page.locator(".toast")).to_contain_text(name)
        page.goto(f"/search?q={found['query_id']}")
        expect(page.locator(".name-field input")).to_have_value(name)
        expect(page.locator(".query__words")).to_have_text(
            "Like 1 image, unlike 1 image, by the mean of their best 3 photos, top 40"
        )
        expect(page.locator(".tiles .tile")).to_have_count(len(found["hits"]))
        shoot(page, "searches-opened")
        page.get_by_role("button", name="Run again").click()
        expect(page.locator(".toast")).to_contain_text("Asked again")
        expect(page.locator(".tiles .tile")).to_have_count(len(found["hits"]))
        expect(page.locator(".name-field input")).to_have_value(name)
        page.get_by_role("link", name="Show on map").click()
        ready(page)
        expect(page.locator(".example--minus")).to_have_count(1)
