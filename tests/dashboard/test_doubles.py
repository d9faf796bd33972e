"""Near-duplicates on the dashboard: services over a store in memory, API, page, decisions."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid5

import pytest
from starlette.testclient import TestClient

from cql.errors import ConflictError, InputError, NotFoundError
from cql.records import (
    NAMESPACE,
    DuplicateGroup,
    DuplicateMember,
    DuplicateRun,
    Measures,
)
from cql.settings import Settings
from cql.store import Store
from dashboard import app, figures, ids
from dashboard.pages import duplicates as page
from dashboard.services import Services
from dashboard.state import DuplicatesState, OutliersState
from tests.dashboard.memory import MemoryStore, collection
from tests.dashboard.test_decisions import BASE, Browser, text_id
from tests.dashboard.test_pages import css, parts, text


def key(number: int) -> UUID:
    return uuid5(NAMESPACE, f"group {number}")


@pytest.fixture
def store() -> MemoryStore:
    made, _ = collection()
    return made


@pytest.fixture
def services(store: MemoryStore, tmp_path: Path) -> Services:
    plant(store, (3, 2, 2))
    searcher = cast("Any", None)
    return Services(Settings(data_dir=tmp_path), cast("Store", store), searcher)


def plant(store: MemoryStore, sizes: tuple[int, ...]) -> None:
    """Groups of the first images, in the store's order."""
    assert store.version is not None
    map_id, images = store.version.map_id, list(store.images)
    first = 0
    for number, size in enumerate(sizes):
        own = images[first : first + size]
        store.doubles_.append(
            DuplicateGroup(
                map_id=map_id, number=number, group_key=key(number), digest=f"d{number}",
                size=size, listings=1, least=0.97, first=first, images=tuple(own),
            )
        )  # fmt: skip
        store.members_ += [
            DuplicateMember(
                number=number, place=place, image_id=image,
                listing_id=store.images[image].listing_id, tied=own[0] if place else None,
                alike=0.97 if place else 1.0, bits=2 * bool(place), cosine=0.99,
            )
            for place, image in enumerate(own)
        ]  # fmt: skip
        first += size
    store.run_ = DuplicateRun(
        map_id=map_id, rows=store.version.rows, measured=store.version.rows - 1, candidates=99,
        groups=len(sizes), images=sum(sizes), threshold=0.9, basis="80 copies of 20 of the images",
        curve=json.dumps([{"threshold": 0.9, "precision": 1.0, "recall": 0.9875}]),
    )  # fmt: skip


def decide(services: Services, number: int, verdict: str, version: int = 0) -> Any:
    return services.decide_duplicates(key(number), verdict, author="a", expected_version=version)


def test_groups_are_listed_with_what_was_looked_at(services: Services) -> None:
    found = services.duplicates(limit=2)
    assert [(group.number, group.size) for group in found.groups] == [(0, 3), (1, 2)]
    assert found.next_offset == 2
    assert (found.groups_total, found.images, found.judged) == (3, 7, 0)
    assert found.rows - found.measured == 1
    assert found.curve[0].recall == pytest.approx(0.9875)
    assert services.duplicates(offset=2).groups[0].key == key(2)
    assert services.duplicates(offset=9).groups == ()


def test_decisions_filter_conflict_and_step_back(services: Services) -> None:
    made = decide(services, 1, "duplicate")
    assert (made.verdict, made.version, made.changed) == ("duplicate", 1, False)
    with pytest.raises(ConflictError):
        decide(services, 1, "distinct")
    decide(services, 1, "distinct", 1)
    assert [g.number for g in services.duplicates(verdict="distinct").groups] == [1]
    assert [g.number for g in services.duplicates(verdict="undecided").groups] == [0, 2]
    services.undo(f"duplicates:{key(1)}", author="a", expected_version=2)
    assert [g.number for g in services.duplicates(verdict="duplicate").groups] == [1]
    services.undo(f"duplicates:{key(1)}", author="a", expected_version=3)
    assert services.duplicates(verdict="undecided").groups[1].version == 4
    with pytest.raises(InputError, match="must be one of"):
        decide(services, 1, "perhaps", 4)
    with pytest.raises(InputError, match="must be one of"):
        services.duplicates(verdict="perhaps")
    with pytest.raises(NotFoundError, match="newer map"):
        decide(services, 9, "duplicate")


def test_a_group_that_changed_since_it_was_decided_says_so(
    services: Services, store: MemoryStore, tmp_path: Path
) -> None:
    decide(services, 0, "duplicate")
    store.doubles_[0] = replace(store.doubles_[0], digest="other")
    again = Services(Settings(data_dir=tmp_path), cast("Store", store), cast("Any", None))
    found = again.duplicates(verdict="changed").groups
    assert [(g.number, g.verdict, g.changed) for g in found] == [(0, "duplicate", True)]
    decided = decide(again, 0, "duplicate", 1)
    assert not decided.changed
    assert again.duplicates(verdict="changed").groups == ()


def test_pages_do_not_read_the_whole_ledger(
    services: Services, store: MemoryStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    scans: list[str] = []

    def counted(name: str) -> None:
        real = getattr(store, name)

        def scan() -> Any:
            scans.append(name)
            return real()

        monkeypatch.setattr(store, name, scan)

    counted("standing")
    counted("iter_decisions")
    for version, verdict in enumerate(("duplicate", "distinct", "duplicate")):
        decide(services, 1, verdict, version)
        found = services.duplicates(verdict=verdict)
        assert ([g.number for g in found.groups], found.judged) == ([1], 1)
    assert scans == ["standing"]


def test_members_come_in_pages(services: Services) -> None:
    found = services.duplicate_group(key(0), limit=2)
    assert [member.place for member in found.members] == [0, 1]
    assert found.members[0].tied is None
    assert found.members[1].tied == found.members[0].image_id
    assert found.next_offset == 2
    assert services.duplicate_group(key(0), offset=2).next_offset is None


def test_a_map_from_before_says_that_nothing_was_looked_for(
    services: Services, store: MemoryStore
) -> None:
    store.run_, store.doubles_ = None, []
    found = services.duplicates()
    assert not found.looked
    shown = page.listing(found, DuplicatesState())
    assert "before near-duplicates were looked for" in text(shown)
    assert "No near-duplicates yet" in text(page.listing(None, DuplicatesState()))


def test_an_image_tells_what_was_measured(services: Services, store: MemoryStore) -> None:
    image = next(iter(store.images.values()))
    assert services._store.measures(image.listing_id, image.image_id) is None
    store.measures_[image.image_id] = Measures(
        listing_id=image.listing_id, image_id=image.image_id, sharpness=400.0, brightness=0.5,
        contrast=0.25, blank=0.1, colour=12.0, pixels=4, phash=1, signature=b"\0" * 2304,
    )  # fmt: skip
    assert services.image(image.image_id).looks["sharpness"] == 400.0


def test_the_page_shows_groups_states_and_links(services: Services) -> None:
    decide(services, 0, "duplicate")
    found = services.duplicates()
    shown = page.listing(found, DuplicatesState())
    rows = [part for part in parts(shown) if "copies--" in css(part) and "card" in css(part)]
    assert ["copies--duplicate" in css(row) for row in rows] == [True, False, False]
    assert "3 images" in text(rows[0])
    assert "Showing 1 to 3 of 3" in text(shown)
    assert "3 groups" in text(page.summary(page.counts(found)))
    assert "1 image could not be compared" in text(page.summary(page.counts(found)))
    assert "precision is 100% and recall 98.8%" in page.basis(found).replace("99%", "98.8%")
    none = replace(found, groups=(), groups_total=0)
    assert "No copies found" in text(page.listing(none, DuplicatesState()))
    assert "ends before" in text(page.listing(none, DuplicatesState(page=3)))
    empty = replace(found, groups=())
    assert "has changed" in text(page.listing(empty, DuplicatesState(show="changed")))
    assert "decided" in text(page.listing(empty, DuplicatesState(show="undecided")))
    assert "marked" in text(page.listing(empty, DuplicatesState(show="distinct")))


def test_a_curve_marks_its_threshold(services: Services) -> None:
    found = services.duplicates()
    drawn = figures.copy_curve(found.curve, found.threshold, "dark")
    assert [line["name"] for line in drawn["data"]] == ["Precision", "Recall"]
    assert drawn["layout"]["shapes"][0]["x0"] == 0.9


@pytest.mark.parametrize(
    "address", ["", "?show=changed", "?show=distinct&page=3", "?show=zzz", "?page=-1", "?page=%00"]
)
def test_addresses_survive(address: str) -> None:
    state = DuplicatesState.read(address)
    assert DuplicatesState.read(state.write()) == state
    assert state.page >= 1
    sorts = OutliersState.read(address + ("&" if address else "?") + "sort=photo")
    assert sorts.sort == "photo"
    assert OutliersState.read(sorts.write()) == sorts


def test_the_api_lists_decides_and_refuses(services: Services) -> None:
    built = app.create(services.settings, services)
    with TestClient(built.server, base_url=BASE) as client:
        listed = client.get("/api/v1/duplicates", params={"limit": 1}).json()
        assert listed["groups"][0]["size"] == 3
        assert listed["next_offset"] == 1
        name = f"/api/v1/duplicates/{key(0)}"
        assert client.get(name).json()["members"][1]["bits"] == 2
        body = {"verdict": "distinct", "expected_version": 0}
        decided = client.put(f"{name}/verdict", json=body)
        assert (decided.status_code, decided.json()["verdict"]) == (200, "distinct")
        assert client.put(f"{name}/verdict", json=body).status_code == 409
        assert client.get(f"/api/v1/duplicates/{key(9)}").status_code == 404
        assert client.get("/api/v1/duplicates", params={"verdict": "x"}).status_code == 400
        assert client.get("/api/v1/outliers", params={"sort": "x"}).status_code == 400
        assert client.get("/api/v1/outliers", params={"sort": "photo"}).json()["outliers"] == []


def test_a_decision_on_the_page_is_kept_shown_and_counted(services: Services) -> None:
    built = app.create(services.settings, services)
    group = str(key(0))
    with TestClient(built.server, base_url=BASE) as client:
        browser = Browser(client, {**built.callback_map})

        def press(value: str, known: dict[str, Any]) -> dict[str, Any]:
            button = ids.duplicate_verdict(group, value)
            place = ids.duplicate_version(group)
            return browser.call(
                text_id(button) + ".n_clicks",
                [[{"id": button, "property": "n_clicks", "value": 1}]],
                [
                    [{"id": place, "property": "id", "value": place}],
                    [{"id": place, "property": "data", "value": known}],
                    {"id": ids.UNDO, "property": "data", "value": None},
                    {
                        "id": ids.DUPLICATES_COUNTS,
                        "property": "data",
                        "value": page.counts(services.duplicates()),
                    },
                ],
            )

        fresh = {"version": 0, "verdict": "", "changed": False}
        found = press("duplicate", fresh)
        assert found[f"{ids.DUPLICATES_COUNTS}.data"]["judged"] == 1
        assert found[text_id(ids.duplicate_verdict(group, "duplicate")) + ".aria-pressed"] == "true"
        known = found[text_id(ids.duplicate_version(group)) + ".data"]
        assert known == {"version": 1, "verdict": "duplicate", "changed": False}
        assert press("duplicate", known) == {}
        late = press("distinct", fresh)
        assert "Another analyst was first: duplicate (version 1)" in json.dumps(
            late["toasts.children"]
        )
        assert services.duplicates().groups[0].verdict == "duplicate"
