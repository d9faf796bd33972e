"""Merging, splitting, labelling and taking back, in a real browser over a ledger in memory."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self, cast

import pytest
import uvicorn
from playwright.sync_api import Browser, Page, expect

from analytics.decisions import decided
from analytics.learning import training
from analytics.search import Searcher
from cql.store import Store
from dashboard import app
from dashboard.pages import explore
from tests.browser.conftest import DRIVER, SIZES, WAIT_MS, ready, shoot
from tests.browser.test_explore import MAP
from tests.dashboard.test_deciding import World

pytestmark = pytest.mark.browser


class Served:
    """A world at an address."""

    def __init__(self, folder: Path, chromium: Browser, port: int) -> None:
        self.world, self.chromium = World(folder), chromium
        self.world.settings = self.world.settings.replace(port=port)
        self.world.services = self.world.worker()
        built = app.create(self.world.settings, self.world.services)
        self.server = uvicorn.Server(
            uvicorn.Config(built.server, port=port, log_level="error", lifespan="off")
        )
        self.thread = threading.Thread(target=self.server.run)
        self.url = f"http://127.0.0.1:{port}"

    def __enter__(self) -> Self:
        self.thread.start()
        while not self.server.started:
            assert self.thread.is_alive(), "the server ended before it served"
            time.sleep(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self.server.should_exit = True
        self.thread.join()

    @contextmanager
    def page(self, path: str, *, size: str = "wide", theme: str = "light") -> Iterator[Page]:
        width, height = SIZES[size]
        context = self.chromium.new_context(
            viewport={"width": width, "height": height},
            color_scheme="dark" if theme == "dark" else "light",
            base_url=self.url,
            reduced_motion="reduce",
        )
        context.set_default_timeout(WAIT_MS)
        page = context.new_page()
        said: list[str] = []
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on(
            "console",
            lambda line: (
                said.append(f"{line.text} {line.location}")
                if line.type in {"error", "warning"} and DRIVER not in line.text
                else None
            ),
        )
        try:
            page.goto(path)
            yield page
            assert said == []
        finally:
            context.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, chromium: Browser) -> Iterator[Served]:
    from tests.browser.conftest import _free_port

    with Served(tmp_path_factory.mktemp("decisions"), chromium, _free_port()) as made:
        yield made


def names(served: Served) -> list[str]:
    return sorted(cluster.name for cluster in served.world.services.clusters())


def test_two_clusters_are_merged_shown_on_the_map_and_undone(served: Served) -> None:
    before = names(served)
    with served.page("/clusters") as page:
        page.locator(".pick input").nth(0).check()
        expect(page.locator(".merge-bar")).to_contain_text("another cluster")
        page.locator(".pick input").nth(1).check()
        expect(page.locator(".merge-bar")).to_contain_text("2 clusters would be one of")
        shoot(page, "decisions-merge")
        page.locator(".merge-bar input").fill("Both")
        page.get_by_role("button", name="Merge", exact=True).click()
        expect(page.locator(".toast")).to_contain_text("2 clusters merged as “Both”")
        expect(page.locator(".cluster-card")).to_have_count(len(before) - 1)
        expect(page.locator(".merge-bar")).to_have_count(0)
        assert "Both" in names(served)
        page.keyboard.press("Control+z")
        expect(page.locator(".cluster-card")).to_have_count(len(before))
    assert names(served) == before


def test_checked_pictures_are_split_off_and_the_selection_is_labelled(served: Served) -> None:
    with served.page("/?f.cluster=2") as page:
        ready(page)
        page.get_by_role("link", name="Label or split").click()
        expect(page.locator("#decide-facts")).to_contain_text("All")
        page.locator(".picks label").nth(0).click()
        page.locator(".picks label").nth(2).click()
        expect(page.locator("#decide-facts")).to_contain_text("2 checked")
        expect(page.locator("#decide-split-text")).to_contain_text("2 of")
        page.fill("#decide-split", "Two of them")
        page.click("#decide-split-do")
        expect(page.locator(".toast")).to_contain_text("Split off as “Two of them”")
        assert "Two of them" in names(served)
        # The form is shown anew, and would take a text with it that was typed before.
        expect(page.locator("#decide-facts")).to_contain_text("All")
        page.fill("#decide-label", "trench")
        page.click("#decide-label-do")
        expect(page.locator(".toast")).to_contain_text("labelled “trench”")
    assert "trench" in decided.labels(served.world.store).values()
    with served.page("/?colour=label&f.label=trench") as page:
        ready(page)
        expect(page.locator(".sm-legend")).to_contain_text("trench")


def test_a_label_spreads_after_a_look_and_the_history_takes_it_back(served: Served) -> None:
    world = served.world
    world.decisions.label(world.images_in(3)[:4], "valve", author="ann")
    with served.page("/spread?label=valve&k=20") as page:
        expect(page.locator("#spread-do")).to_have_text("Label 20 images")
        page.locator(".picks label").nth(3).click()
        expect(page.locator("#spread-do")).to_have_text("Label 19 images")
        page.click("#spread-do")
        expect(page.locator(".toast")).to_contain_text("19 images labelled “valve”")
        page.goto("/decisions?kind=label")
        first = page.locator(".act").first
        expect(first).to_contain_text("Labelled 19 images “valve”")
        expect(first).to_contain_text("propagated from 4 images, k=20")
        first.get_by_role("button", name="Undo").click()
        expect(page.locator(".act").first).to_contain_text("replaced")
    assert list(decided.labels(world.store).values()).count("valve") == 4


def test_predicted_classes_colour_and_filter_the_map(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(explore, "LOOK_MS", 500)
    world = served.world
    for number, label in ((1, "gas"), (3, "water")):
        world.decisions.label(world.images_in(number)[:9], label, author="ann")
    store, hosts = cast("Store", world.store), cast("Searcher", world.searcher)
    made = training.classify(store, hosts)
    counts = dict(zip(made.classes, made.counts, strict=True))
    with served.page("/labels") as page:
        page.get_by_role("link", name="Show on the map").click()
        page.wait_for_url(re.compile("colour=predicted"))
        ready(page)
        expect(page.locator(".sm-legend")).to_contain_text("Predicted class")
        for name in made.classes:
            expect(page.locator(".sm-legend")).to_contain_text(name)
        facet = page.locator(".facet").filter(has_text="Predicted class")
        facet.locator(".facet__value").filter(has_text="gas").click()
        page.wait_for_url(re.compile("f.predicted=gas"))
        expect(page.locator("#explore-count")).to_contain_text(f"{counts['gas']} of ")
        shoot(page, "explore-predicted")
        # Another training counts, with a class before those that the open page knows.
        world.decisions.label(world.images_in(2)[:9], "air", author="ann")
        made = training.classify(store, hosts)
        counts = dict(zip(made.classes, made.counts, strict=True))
        assert "air" in counts
        assert counts["gas"] < len(world.store.points_)
        expect(page.locator(".sm-legend")).to_contain_text("air")
        expect(facet).to_contain_text("air")
        expect(page.locator("#explore-count")).to_contain_text(f"{counts['gas']} of ")
        ready(page)
        matching = f"count => {MAP}.status().matching === count"
        page.wait_for_function(matching, arg=counts["gas"])
        shoot(page, "explore-predicted-again")
    world.store.pointers_.pop("classifier")
    with served.page("/") as page:
        ready(page)
        world.store.pointers_["classifier"] = made.classifier_id
        page.locator("#explore-colour").click()
        page.get_by_role("option", name="Predicted class").click()
        expect(page.locator(".sm-legend")).to_contain_text("air")
    with served.page("/?colour=confidence&r.confidence=0.5..") as page:
        ready(page)
        expect(page.locator(".sm-legend")).to_contain_text("Confidence")
        expect(page.locator("#explore-chips")).to_contain_text("Confidence from 0.5")
        sure = served.world.services.select(
            {"filters": {"confidence": {"low": 0.5, "high": None}}}, limit=1
        )
        expect(page.locator("#explore-count")).to_contain_text(f"{sure.count} of ")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_pages_look_right(served: Served, size: str, theme: str) -> None:
    world = served.world
    world.decisions.label(world.images_in(3)[:4], "valve", author="ann")
    with served.page("/decisions", size=size, theme=theme) as page:
        expect(page.locator(".act").first).to_be_visible()
        shoot(page, f"decisions-{size}-{theme}")
        for path, name in (("/decide?f.cluster=1", "decide"), ("/spread?label=valve", "spread")):
            page.goto(path)
            expect(page.locator(".picks label").first).to_be_visible()
            shoot(page, f"{name}-{size}-{theme}")
            wide = page.evaluate("document.documentElement.scrollWidth > innerWidth")
            assert not wide, path
