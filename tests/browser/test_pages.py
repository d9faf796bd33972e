"""Clusters, outliers, jobs, searches, theme and keys on the real app in a real browser."""

from __future__ import annotations

import re
from typing import Any
from uuid import uuid4

import pytest
from playwright.sync_api import expect

from dashboard.components import shell
from tests.browser.conftest import SIZES, Opened, shoot

pytestmark = [pytest.mark.browser, pytest.mark.service]

PAGES = {
    "clusters": ".cluster-card",
    "outliers": ".outlier-card",
    "duplicates": "#duplicates-list .copies, #duplicates-list .state",
    "labels": ".labels__classes, #labels-list .state",
    "teach": ".state__title",
    "changes": "#changes-list .state, #changes-list .group",
    "decisions": ".act, #decisions-list .state",
    "jobs": ".job",
    "search": ".page-head",
    "nowhere": ".state__title",
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_fits_and_says_nothing_to_the_console(
    opened: Opened, size: str, theme: str
) -> None:
    with opened("/clusters", size=size, theme=theme) as page:
        for name, landmark in PAGES.items():
            page.goto(f"/{name}")
            page.wait_for_selector(landmark)
            expect(page.locator(".skeleton")).to_have_count(0)
            assert page.locator(".state--error").count() == 0, name
            scrolled, shown = page.evaluate(
                "[document.documentElement.scrollWidth, document.documentElement.clientWidth]"
            )
            assert scrolled <= shown, (name, size)
            assert page.evaluate("document.documentElement.dataset.theme") == theme
            assert page.locator("nav .nav__link").count() == len(shell.DESTINATIONS)
            shoot(page, f"{name}-{size}-{theme}")


def test_the_navigation_walks_through_all_pages(opened: Opened) -> None:
    with opened("/jobs") as page:
        for label, path in (
            ("Clusters", "/clusters"),
            ("Outliers", "/outliers"),
            ("Jobs", "/jobs"),
        ):
            page.click(f"nav >> text={label}")
            page.wait_for_selector(PAGES[path[1:]])
            assert page.url.endswith(path)
            expect(page).to_have_title(f"{label} · Sightline")
            expect(page.locator(".nav__link--here")).to_have_text(label)
        page.go_back()
        page.wait_for_selector(PAGES["outliers"])


def test_on_a_phone_the_menu_opens_by_touch_and_by_keys(opened: Opened) -> None:
    with opened("/jobs", size="phone") as page:
        page.wait_for_selector(PAGES["jobs"])
        more, menu = page.locator(".nav__more"), page.locator(".nav__menu")
        expect(more).to_have_class(re.compile("nav__more--here"))
        expect(menu).to_be_hidden()
        more.tap()
        expect(menu.get_by_role("link")).to_have_count(len(shell.DESTINATIONS) - shell.ALWAYS)
        expect(menu).to_be_in_viewport(ratio=1)
        shoot(page, "menu-phone")
        page.keyboard.press("Escape")
        expect(menu).to_be_hidden()
        expect(more).to_be_focused()
        page.keyboard.press("Enter")
        expect(menu).to_be_visible()
        expect(more).to_have_attribute("aria-expanded", "true")
        page.keyboard.press("Shift+Tab")
        expect(menu).to_be_hidden()
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.keyboard.press("Tab")
        page.keyboard.press("Enter")
        page.wait_for_selector(PAGES["duplicates"])
        expect(menu).to_be_hidden()
        expect(more).to_have_attribute("aria-expanded", "false")


def test_a_renamed_cluster_keeps_its_name(opened: Opened) -> None:
    name = f"<b>Test {uuid4().hex[:6]}"
    with opened("/clusters") as page:
        field = page.locator(".name-field input").first
        before = field.input_value()
        href = page.locator(".cluster-card .mosaic").first.get_attribute("href")

        field.click()
        page.keyboard.type("Not kept")
        page.keyboard.press("Escape")
        expect(field).to_have_value(before)
        assert page.locator(".toast").count() == 0

        field.click()
        page.keyboard.type(name)
        page.keyboard.press("Enter")
        expect(page.locator(".toast")).to_contain_text(name)
        shoot(page, "clusters-renamed")
        page.reload()
        expect(
            page.locator(f'.cluster-card:has([href="{href}"]) .name-field input').first
        ).to_have_value(name)
        assert href is not None
        page.goto(href)
        expect(page.locator(".name-field input")).to_have_value(name)
        page.wait_for_selector(".tile")
        shoot(page, "cluster-one")

        page.goto(f"/clusters?text={name[-6:]}")
        expect(page.locator(".cluster-card")).to_have_count(1)
        field = page.locator(".name-field input").first
        field.click()
        page.keyboard.type(before)
        page.keyboard.press("Enter")
        page.wait_for_selector(".toast")
        page.click("[data-undo]")
        expect(page.locator(".toast")).to_contain_text("Undone")
        expect(page.locator(".name-field input").first).to_have_value(name)


def test_the_second_of_two_analysts_is_told(opened: Opened) -> None:
    mine, theirs = (f"{word} {uuid4().hex[:6]}" for word in ("First", "Second"))
    with opened("/clusters") as first, opened("/clusters") as second:
        for page, typed in ((first, mine), (second, theirs)):
            page.wait_for_selector(".cluster-card")
            field = page.locator(".name-field input").nth(1)
            field.click()
            page.keyboard.type(typed)
            page.keyboard.press("Enter")
            if page is first:
                page.wait_for_selector(".toast")
        message = second.locator(".field-message:not(:empty)")
        expect(message).to_contain_text(mine)
        expect(message).to_contain_text(theirs)
        shoot(second, "clusters-conflict")
        second.click("text=Use mine")
        expect(second.locator(".toast")).to_contain_text(theirs)


def test_a_cluster_opens_on_the_map(opened: Opened) -> None:
    with opened("/clusters") as page:
        href = page.locator("text=Show on map").first.get_attribute("href")
        assert href is not None
        assert re.fullmatch(r"/\?f\.cluster=\d+", href)


def test_verdicts_by_button_and_key_are_kept(opened: Opened) -> None:
    with opened("/outliers") as page:
        page.wait_for_selector(".outlier-card")
        # Other tests judge too, always the strangest that is left.
        names = page.evaluate(
            "[...document.querySelectorAll('.outlier-card')]"
            ".filter((card) => !/--(outlier|fine)/.test(card.className))"
            ".slice(0, 3).map((card) => card.id)"
        )
        assert len(names) == 3

        def card(at: int) -> Any:
            return page.locator(f"[id='{names[at]}']")

        card(0).locator(".verdict--outlier").click()
        expect(page.locator(".toast")).to_contain_text("true outlier")
        card(0).focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("f")
        expect(page.locator(".toast")).to_contain_text("fine")
        expect(card(1)).to_have_class(re.compile("outlier-card--fine"))
        page.keyboard.press("ArrowRight")
        page.keyboard.press("o")
        expect(card(2)).to_have_class(re.compile("outlier-card--outlier"))
        shoot(page, "outliers-judged")
        page.keyboard.press("u")
        expect(page.locator(".toast")).to_contain_text("Undone")
        expect(card(2)).not_to_have_class(re.compile("outlier-card--outlier"))

        page.reload()
        expect(card(0)).to_have_class(re.compile("outlier-card--outlier"))
        expect(card(1)).to_have_class(re.compile("outlier-card--fine"))
        page.click("text=True outliers")
        here = page.get_by_role("group", name="Verdict", exact=True).locator(
            ".segments__item--here"
        )
        expect(here).to_have_text("True outliers")
        expect(card(0)).to_be_visible()
        expect(card(1)).to_have_count(0)
        assert page.url.endswith("?show=outlier")


def test_jobs_are_listed(opened: Opened) -> None:
    with opened("/jobs") as page:
        page.wait_for_selector(".job")
        kinds = page.locator(".job__kind").all_inner_texts()
        assert kinds
        assert page.locator("#jobs-summary").inner_text()


def test_question_mark_lists_the_keys(opened: Opened) -> None:
    with opened("/jobs") as page:
        page.wait_for_selector(".job")
        page.keyboard.press("?")
        dialog = page.locator("#keys-dialog")
        expect(dialog).to_be_visible()
        expect(dialog).to_contain_text("True outlier")
        shoot(page, "keys")
        page.keyboard.press("Escape")
        expect(dialog).to_be_hidden()
        page.click("#keys-open")
        expect(dialog).to_be_visible()
        page.click("#keys-dialog [data-close]")
        expect(dialog).to_be_hidden()


def test_the_theme_is_kept(opened: Opened) -> None:
    theme = "document.documentElement.dataset.theme"
    with opened("/jobs", theme="light") as page:
        page.wait_for_selector(".job")
        assert page.evaluate(theme) == "light"
        page.click("#theme-toggle")
        assert page.evaluate(theme) == "dark"
        page.reload()
        page.wait_for_selector(".job")
        assert page.evaluate(theme) == "dark"
        other = page.context.new_page()
        other.goto("/clusters")
        assert other.evaluate(theme) == "dark"


def test_an_unknown_address_leads_back(opened: Opened) -> None:
    with opened("/nowhere/at/all") as page:
        expect(page.locator(".state__title")).to_have_text("This page does not exist")
        assert page.locator(".state__action a").get_attribute("href") == "/"
