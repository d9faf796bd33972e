"""Images that are placed on the map while somebody looks at it, in a real browser."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from dashboard.pages import explore
from tests.browser.conftest import SIZES, _free_port, ready, shoot
from tests.browser.test_decisions import Served
from tests.dashboard import memory

pytestmark = pytest.mark.browser


def test_they_come_onto_the_open_map_and_are_found(
    tmp_path: Path, chromium: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explore, "LOOK_MS", 500)
    with Served(tmp_path, chromium, _free_port()) as served:
        store = served.world.store
        count = len(store.points_)
        with served.page("/") as page:
            ready(page)
            expect(page.locator(".sm-counter")).to_contain_text(f"{count} of {count} images")
            expect(page.locator("#explore-placed")).to_be_empty()
            late = memory.arrive(store, 3)
            # There is no photo behind a picture here.
            page.route("**/photo", lambda route: route.fulfill(body=store.thumbnails[late[0]]))
            words = "3 images newer than the map"
            expect(page.locator("#explore-placed")).to_have_text(words)
            total = count + 3
            expect(page.locator(".sm-counter")).to_contain_text(f"{total} of {total} images")
            expect(page.locator("#explore-count")).to_contain_text(f"{total}")
            button = page.locator("#explore-facets").get_by_role("button", name="Since it was made")
            button.click()
            expect(page.locator("#explore-count")).to_have_text(f"3 of {total} images")
            page.locator("#explore-gallery .tile").first.click()
            expect(page.locator("#explore-detail")).to_contain_text("Placed since the map was made")
        for size in SIZES:
            for theme in ("light", "dark"):
                for path, name in (("/", "explore"), ("/clusters", "clusters")):
                    with served.page(path, size=size, theme=theme) as page:
                        if path == "/":
                            ready(page)
                        expect(page.locator("h1, #explore-placed").first).to_be_attached()
                        shoot(page, f"placed-{name}-{size}-{theme}")
                        wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
                        assert not wide, (name, size)
