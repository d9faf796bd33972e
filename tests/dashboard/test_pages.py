"""Layouts of the pages: pure functions from views, read back as people see them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

import pytest
from dash.development.base_component import Component

from cql.errors import ConflictError, NotFoundError, UnavailableError
from cql.records import NAMESPACE
from dashboard import ids
from dashboard.answers import HitView, QueryView, SearchView
from dashboard.components import cards, shell, states, terms, widgets
from dashboard.components.jobs import job_row
from dashboard.components.words import words
from dashboard.pages import cluster, clusters, explore, jobs, outliers, routes, search
from dashboard.state import ClustersState, ExploreState, JobsState, OutliersState
from dashboard.views import (
    ClusterDetail,
    ClusterView,
    ColumnView,
    DecisionView,
    FacetValue,
    FacetView,
    JobStepView,
    JobView,
    MapRow,
    MapView,
    OutlierPage,
    OutlierView,
    SelectionView,
    VerdictView,
)

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
MAP = uuid5(NAMESPACE, "map")
HOSTILE = "<img src=x onerror=alert(1)>"


def an_id(name: str) -> UUID:
    return uuid5(NAMESPACE, name)


def a_cluster(number: int, size: int = 10, name: str = "") -> ClusterView:
    return ClusterView(
        key=an_id(f"cluster {number}"), cluster=number, name=name or f"Group {number}",
        automatic=f"auto {number}", renamed=False, version=3, size=size, listings=4, share=0.125,
        exemplars=tuple(an_id(f"{number}/{at}") for at in range(8)), x=0.5, y=0.5,
    )  # fmt: skip


def a_map(**changes: Any) -> MapView:
    made = MapView(
        map_id=MAP, model_id="m", snapshot_id=MAP, rows=2640, rows_scored=2640, clusters=2,
        noise=312, seed=1, quality={}, created_at=NOW, live=True,
    )  # fmt: skip
    return replace(made, **changes)


def an_outlier(rank: int, verdict: str = "") -> OutlierView:
    image = an_id(f"outlier {rank}")
    return OutlierView(
        rank=rank, score=0.9876, image_id=image, listing_id=f"L{rank}", title="", cluster_name="",
        knn_distance=0.4321, glosh=0.5, reason="far from Group 1, at percentile 99.8",
        verdict=VerdictView(image_id=image, verdict=verdict, version=2 if verdict else 0),
    )  # fmt: skip


def a_page(*found: OutlierView, **changes: Any) -> OutlierPage:
    made = OutlierPage(
        map_id=MAP, outliers=found, offset=0, next_offset=None, ranked=500, total=2640, judged=7
    )
    return replace(made, **changes)


def a_job(state: str, **changes: Any) -> JobView:
    made = JobView(
        job_id=an_id(f"job {state} {sorted(changes)}"), kind="extract", state=state, step="embed",
        done=50, total=200, rate=12.5, share=0.25, left_s=12.0, message="", error="",
        created_at=NOW - timedelta(hours=2), started_at=NOW - timedelta(hours=2),
        finished_at=None, seconds=61.0,
    )  # fmt: skip
    return replace(made, **changes)


def parts(node: Any) -> Iterator[Any]:
    """Every component below a node, itself first."""
    if isinstance(node, list | tuple):
        for item in node:
            yield from parts(item)
    elif isinstance(node, Component):
        yield node
        yield from parts(getattr(node, "children", None))


def text(node: Any) -> str:
    """The text that a reader sees."""
    if isinstance(node, list | tuple):
        return " ".join(text(item) for item in node)
    if isinstance(node, Component):
        return text(getattr(node, "children", None))
    return "" if node is None else str(node)


def css(node: Any) -> str:
    return str(getattr(node, "className", ""))


def props(node: Any, name: str) -> list[Any]:
    return [getattr(part, name) for part in parts(node) if hasattr(part, name)]


# Routes and frame


@pytest.mark.parametrize("path", [*routes.PAGES, "/clusters/", f"/clusters/{MAP}"])
def test_every_page_has_a_layout_before_its_data(path: str) -> None:
    title, layout = routes.page(path, "?page=2")
    titles = {name for name, _ in routes.PAGES.values()}
    assert title in titles | {"Cluster"}
    assert len(titles) == len(routes.PAGES)
    assert any("skeleton" in str(css) for css in props(layout, "className"))


@pytest.mark.parametrize(
    "path", ["/nope", "/clusters/x", "/clusters/../jobs", "//", "/api", "/" * 99]
)
def test_an_unknown_path_says_so(path: str) -> None:
    title, layout = routes.page(path, None)
    if path.strip("/"):
        assert title == "Not found"
        assert "does not exist" in text(layout)
        assert ids.PATH_EXPLORE in props(layout, "href")
    else:
        assert title == "Explore"


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/", "Explore"),
        (None, "Explore"),
        ("/clusters", "Clusters"),
        ("/clusters/x/", "Clusters"),
        ("/outliers/", "Outliers"),
        ("/decisions", "Decisions"),
    ],
)
def test_navigation_marks_where_one_is(path: str | None, label: str) -> None:
    links = [part for part in parts(shell.navigation(path)) if "nav__link" in css(part)]
    assert [link.href for link in links] == [item.path for item in shell.DESTINATIONS]
    here = [link for link in links if "here" in css(link)]
    assert [text(link).strip() for link in here] == [label]


@pytest.mark.parametrize("item", shell.DESTINATIONS, ids=lambda item: item.label)
def test_more_is_marked_when_one_is_in_its_menu(item: shell.Destination) -> None:
    (more,) = [part for part in parts(shell.navigation(item.path)) if "nav__more" in css(part)]
    assert ("here" in css(more)) == (item in shell.DESTINATIONS[shell.ALWAYS :])
    (menu,) = [part for part in parts(shell.navigation(item.path)) if "nav__menu" in css(part)]
    assert getattr(more, "aria-controls") == menu.id


def test_navigation_marks_nothing_elsewhere() -> None:
    assert not [link for link in parts(shell.navigation("/clustersx")) if "here" in css(link)]


def test_badge_of_jobs() -> None:
    assert shell.job_badge(0) == []
    assert "3 running" in text(shell.job_badge(3))
    assert "Offline" in text(shell.job_badge(0, failed=True))


# States


def test_an_error_names_rule_value_and_fix_but_never_internals() -> None:
    known = states.error(UnavailableError("Cassandra must answer, it did not: start it"))
    assert "does not answer" in text(known)
    assert "Cassandra must answer, it did not: start it." in text(known)
    unknown = text(states.error(RuntimeError("password=hunter2")))
    assert "hunter2" not in unknown
    assert "log" in unknown


def test_an_error_can_be_tried_again() -> None:
    assert [part for part in parts(states.error(NotFoundError("x"))) if hasattr(part, "data-retry")]


def test_message_of_a_conflict_is_its_own_words() -> None:
    assert states.message(ConflictError("version 2 is there")) == "Version 2 is there."


# Clusters


def test_clusters_are_arranged() -> None:
    found = [a_cluster(1, 5, "pipe"), a_cluster(2, 9, "Cable gas"), a_cluster(3, 9, "a Gas joint")]
    by_size = clusters.arrange(found, ClustersState())
    assert [c.cluster for c in by_size] == [2, 3, 1]
    by_name = clusters.arrange(found, ClustersState(sort="name"))
    assert [c.name for c in by_name] == ["a Gas joint", "Cable gas", "pipe"]
    assert [c.cluster for c in clusters.arrange(found, ClustersState(text="GAS joint"))] == [3]


def test_the_summary_counts_noise_and_all() -> None:
    line = text(clusters.summary(a_map(rows=3000), [a_cluster(1), a_cluster(2)]))
    assert "2 clusters" in line
    assert "2,640 of 3,000 images" in line
    assert "2,328 in a cluster, 312 in none" in line
    assert "(12%)" in line
    assert "landmark" not in line


def test_a_map_says_that_images_were_placed_around_landmarks() -> None:
    around = a_map(quality={"landmarks": 2000.0, "placed": 640.0})
    wanted = "640 images placed around 2,000 landmarks"
    assert wanted in text(clusters.summary(around, [a_cluster(1)]))
    assert explore.placed(around) == wanted
    assert explore.placed(replace(around, placed=3)) == f"{wanted}, 3 images newer than the map"
    assert not explore.placed(a_map())


def test_a_card_renames_shows_and_links() -> None:
    card = cards.cluster_card(a_cluster(4, 1234, "Gas"))
    key = str(a_cluster(4).key)
    field = next(part for part in parts(card) if getattr(part, "id", None) == ids.cluster_name(key))
    assert field.value == "Gas"
    store = next(p for p in parts(card) if getattr(p, "id", None) == ids.cluster_version(key))
    assert store.data == {"version": 3, "name": "Gas"}
    assert "1,234 images" in text(card)
    links = props(card, "href")
    assert f"/clusters/{key}" in links
    on_map = next(link for link in links if link.startswith("/?"))
    assert ExploreState.read(on_map.removeprefix("/")).filters[0].values == ("4",)
    assert len([p for p in props(card, "data-src") if p.endswith("/thumbnail")]) == cards.MOSAIC


def test_only_a_page_of_cards_is_drawn() -> None:
    many = [a_cluster(n) for n in range(200)]
    drawn = clusters.listing(a_map(), many, ClustersState(), 60)
    assert (
        len([p for p in parts(drawn) if getattr(p, "className", "") == "card cluster-card"]) == 60
    )


def test_empty_states_of_clusters_say_why() -> None:
    assert "No clusters yet" in text(clusters.listing(None, [], ClustersState()))
    assert "found no clusters" in text(clusters.listing(a_map(), [], ClustersState()))
    assert "“zzz”" in text(clusters.listing(a_map(), [a_cluster(1)], ClustersState(text="zzz")))


def test_a_conflict_shows_both_names_and_the_version() -> None:
    shown = cards.conflict(replace(a_cluster(1, name="Theirs"), version=7), "Mine")
    assert "“Theirs” (version 7)" in text(shown)
    assert "“Mine”" in text(shown)
    assert [p["choice"] for p in props(shown, "id")] == ["theirs", "mine"]


def test_one_cluster() -> None:
    rows = tuple(MapRow(row=n, image_id=an_id(str(n)), listing_id=f"L{n}") for n in range(60))
    values = tuple(
        FacetValue(value=str(n), label=f"kind {n}", count=n, total=20) for n in range(10)
    )
    found = ClusterDetail(
        cluster=a_cluster(1, 20),
        decisions=(
            DecisionView(
                subject="cluster:x", version=1, kind="rename", value="Old name", author="ann",
                reason="", at=NOW,
            ),
        ),
        facets=(
            FacetView(name="attr:kind", label="Kind", kind="category", values=values),
            FacetView(name="cluster", label="Cluster", kind="category", values=values),
        ),
    )  # fmt: skip
    photos = SelectionView(map_id=MAP, count=61, total=2640, rows=rows, offset=0, next_offset=60)
    page = cluster.detail(found, photos)
    assert "Showing 60 of 61 images" in text(page)
    assert "Show 1 more" in text(page)
    assert "kind 9" in text(page)
    assert "45%" in text(page)
    assert "and 3 other values" in text(page)
    assert "kind 0" not in text(page)
    assert "Old name" in text(page)
    assert "ann" in text(page)


# Outliers


def test_an_outlier_says_score_rank_reason_and_distance() -> None:
    card = cards.outlier_card(an_outlier(3), 2640)
    shown = text(card)
    for expected in ("#3", "0.988", "Far from Group 1, at percentile 99.8", "0.432", "0.1%"):
        assert expected in shown
    pressed = [part for part in parts(card) if getattr(part, "aria-pressed", "") == "true"]
    assert pressed == []
    link = next(href for href in props(card, "href"))
    assert ExploreState.read(link.removeprefix("/")).image == an_outlier(3).image_id


@pytest.mark.parametrize(("verdict", "word"), [("outlier", "True outlier"), ("fine", "Fine")])
def test_a_verdict_is_pressed_and_badged(verdict: str, word: str) -> None:
    card = cards.outlier_card(an_outlier(3, verdict), 2640)
    pressed = [part for part in parts(card) if getattr(part, "aria-pressed", "") == "true"]
    assert [text(part).strip() for part in pressed] == [word]
    assert f"outlier-card--{verdict}" in css(card)
    badge = next(p for p in parts(card) if "badge" in getattr(p, "className", ""))
    assert text(badge) == word


def test_keys_of_the_cards_are_the_listed_ones() -> None:
    card = cards.outlier_card(an_outlier(1), 10)
    listed = {key for _, rows in shell.KEYS for combination, _ in rows for key in combination}
    assert set(props(card, "data-key")) == {"o", "f"}
    assert {"O", "F", "U", "?"} <= listed


def test_the_pager_knows_where_it_is() -> None:
    middle = a_page(*(an_outlier(n) for n in range(61, 121)), offset=60, next_offset=120)
    nav = outliers.pager(middle, OutliersState(page=2))
    assert "Showing 61 to 120 of 500, over all 2,640" in text(nav)
    assert props(nav, "href") == ["/outliers", "/outliers?page=3"]
    filtered = outliers.pager(middle, OutliersState(page=2, show="undecided"))
    assert "of 500" not in text(filtered)
    assert props(filtered, "href") == [
        "/outliers?show=undecided",
        "/outliers?show=undecided&page=3",
    ]
    first = outliers.pager(a_page(an_outlier(1)), OutliersState())
    assert props(first, "href") == []


@pytest.mark.parametrize(
    ("page", "state", "expected"),
    [
        (None, OutliersState(), "No outliers yet"),
        (a_page(ranked=0), OutliersState(), "Nothing stands out"),
        (a_page(), OutliersState(show="undecided"), "Everything is judged"),
        (a_page(), OutliersState(show="outlier"), "No true outliers so far"),
        (a_page(), OutliersState(show="fine"), "Nothing was marked as fine so far"),
        (a_page(), OutliersState(page=9), "ends before this page"),
    ],
)
def test_empty_states_of_outliers_say_why(
    page: OutlierPage | None, state: OutliersState, expected: str
) -> None:
    assert expected in text(outliers.gallery(page, state))


# Jobs


def test_a_running_job_says_how_far_how_fast_and_how_long() -> None:
    row = job_row(a_job("running"), NOW)
    shown = text(row).replace("\u00a0", " ")
    for expected in ("Extract", "running", "embed", "50 of 200", "12.5/s", "12 s left", "2 h ago"):
        assert expected in shown
    bar = next(part for part in parts(row) if getattr(part, "role", "") == "progressbar")
    assert getattr(bar, "aria-valuenow") == "25"
    assert ids.job_cancel(str(a_job("running").job_id)) in props(row, "id")


def test_a_failed_job_gives_its_reason_as_text() -> None:
    row = job_row(a_job("failed", error=f"{HOSTILE}: run `sightline ingest` again"), NOW)
    assert HOSTILE in text(row)
    assert "sightline ingest" in [text(p) for p in parts(row) if type(p).__name__ == "Code"]
    assert not [part for part in parts(row) if getattr(part, "role", "") == "progressbar"]
    assert "Cancel" not in text(row)


def test_a_failed_job_can_be_run_again() -> None:
    row = job_row(a_job("failed", error="x", again=True), NOW)
    assert ids.job_again(str(a_job("failed", error="x", again=True).job_id)) in props(row, "id")
    assert "Run again" in text(row)
    assert "Run again" not in text(job_row(a_job("done"), NOW))


def test_a_job_shows_its_steps_and_what_it_cost() -> None:
    steps = (
        JobStepView(step="collect", state="kept", seconds=0.0, rows=1600, cpu_s=0.0),
        JobStepView(step="near_by", state="running", seconds=61.0, rows=20, cpu_s=90.0),
    )
    changes = {"steps": steps, "cpu_s": 91.0, "peak_bytes": 2_100_000_000, "whole_left": True}
    row = job_row(a_job("running", **changes), NOW, opened=True)
    shut = job_row(a_job("running", **changes), NOW)
    assert "Near by" not in text(shut)
    assert "CPU" in text(shut)
    wanted = JobsState(a_job("running", **changes).job_id)
    assert ids.PATH_JOBS + wanted.write() in props(shut, "href")
    assert JobsState.read(wanted.write()) == wanted
    assert ids.PATH_JOBS in props(row, "href")
    shown = text(row).replace("\u00a0", " ")
    for expected in ("Collect", "kept", "1,600", "Near by", "1 min 01 s", "1 min 30 s"):
        assert expected in shown
    assert "CPU 1 min 31 s" in shown
    assert "2.1 GB memory at most" in shown
    assert "left in this step" not in shown
    assert "left in this step" in text(job_row(a_job("running"), NOW))
    assert not [part for part in parts(job_row(a_job("done"), NOW)) if "Table" in str(type(part))]


def test_jobs_are_grouped_and_counted() -> None:
    found = [a_job("done"), a_job("running"), a_job("queued"), a_job("failed")]
    titles = [text(p) for p in parts(jobs.listing(found, NOW)) if type(p).__name__ == "H2"]
    assert titles == ["Running", "Waiting", "History"]
    assert jobs.summary(found) == "1 running, 1 queued, 1 done, 1 failed"
    assert jobs.busy(found)
    assert not jobs.busy([a_job("done"), a_job("cancelled")])
    assert "No jobs yet" in text(jobs.listing([], NOW))


# Searches


def a_search(**changes: Any) -> SearchView:
    made = SearchView(
        query_id=MAP, name="like this", state="done", image_ids=(an_id("asked"),), listing_id=None,
        uploads=(), k=50, exact=True, rows=2640, rows_scanned=2640, seconds=0.0412,
        snapshot_id=MAP, model_id="small", current=True, created_at=NOW, hits_total=1,
        hits=(HitView(rank=1, score=0.98765, listing_id="L1", title="", image_id=an_id("hit")),),
    )  # fmt: skip
    return replace(made, **changes)


def test_an_opened_search_says_how_complete_it_is() -> None:
    line = text(search.opened_summary(a_search())).replace("\u00a0", " ")
    assert "exact" in line
    assert "2,640 of 2,640 images in" in line
    assert "41 ms" in line
    page = text(search.opened(a_search(), NOW))
    assert "0.988" in page
    assert "earlier snapshot" not in page
    assert "earlier snapshot" in text(search.opened(a_search(current=False), NOW))
    assert "Nothing was found" in text(search.opened(a_search(hits=()), NOW))


def test_the_history_links_to_what_was_published() -> None:
    query = QueryView(query_id=MAP, name="", state="running", hits=0, seconds=0.1, created_at=NOW)
    page = search.history([query], NOW)
    assert set(props(page, "href")) == {f"/search?q={MAP}"}
    assert "running" in text(page)
    assert "No searches yet" in text(search.history([], NOW))


def test_a_search_is_told_in_words() -> None:
    columns = (
        ColumnView(
            name="attr:kind", label="Kind", kind="category", keys=("a", "b"), labels=("A", "B")
        ),
        ColumnView(name="attr:built", label="Built", kind="number", scale="date"),
    )
    asked = a_search(
        image_ids=(an_id("a"), an_id("b")), negatives=(an_id("c"),), uploads=("d" * 64,),
        aggregate="mean", best=2, within=MAP, in_stock=True, k=1000,
        selection={
            "polygons": [{"points": [[0, 0], [1, 0], [0, 1]], "mode": "union"}],
            "filters": {"attr:kind": ["b"], "attr:built": {"low": "2024-01-01", "high": None}},
        },
    )  # fmt: skip
    assert words(asked, columns) == [
        "Like 2 images and 1 uploaded picture, unlike 1 image",
        "by the mean of their best 2 photos",
        "in the drawn area",
        "Kind: B",
        "Built from 2024-01-01",
        "within another result",
        "in stock only",
        "top 1,000",
    ]
    assert words(a_search(image_ids=(), listing_id="L")) == ["Like listing L", "top 50"]


def test_an_answer_says_its_stock_and_what_waits() -> None:
    line = text(terms.complete(a_search(rescored=415))).replace("\u00a0", " ")
    assert line.startswith("exact: 2,640 of 2,640 images, 415 rescored, 41 ms")
    assert "wait" not in line
    line = text(terms.complete(a_search(in_stock=True, lag_s=0.43, behind=1, rows_scanned=2640)))
    assert "Stock followed up to 0.4\u00a0s before" in line
    assert "1 change waits for the next snapshot" in line
    assert "3 changes wait for the next" in text(terms.complete(a_search(behind=3)))


def test_a_long_result_has_pages() -> None:
    assert search.pager(a_search(), "") is None
    first = search.pager(a_search(next_after="200,0,0.5,a,b", hits_total=900), "")
    assert props(first, "href") == [f"/search?q={MAP}&after=200,0,0.5,a,b"]
    last = search.pager(a_search(hits_total=900), "x")
    assert props(last, "href") == [f"/search?q={MAP}"]
    assert "1 to 1 of 900" in text(last)


# Text is text


def test_no_layout_lets_markup_through() -> None:
    page = [
        clusters.listing(a_map(), [a_cluster(1, name=HOSTILE)], ClustersState()),
        outliers.gallery(a_page(replace(an_outlier(1), title=HOSTILE)), OutliersState()),
        search.opened(a_search(name=HOSTILE), NOW),
        jobs.listing([a_job("failed", error=HOSTILE)], NOW),
    ]
    for part in parts(page):
        assert type(part).__name__ not in {
            "Markdown",
            "DangerouslySetInnerHTML",
            "Iframe",
            "Script",
        }
        for name in ("href", "data-src", "src"):
            assert str(getattr(part, name, "/")).startswith("/")


# Words


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, ""), (0, "0.0 s"), (-3, "0.0 s"), (0.0412, "41 ms"), (0.0001, "1 ms"),
        (0.9996, "1.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 00 s"),
        (185, "3 min 05 s"), (3599.6, "1 h 00 min"), (7800, "2 h 10 min"),
    ],
)  # fmt: skip
def test_duration(seconds: float | None, expected: str) -> None:
    assert widgets.duration(seconds).replace("\u00a0", " ") == expected


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0, "0%"), (0.0001, "<0.1%"), (0.004, "0.4%"), (0.125, "12%"), (0.5, "50%"),
        (0.996, "99.6%"), (0.99999, "99.9%"), (1, "100%"),
    ],
)  # fmt: skip
def test_percent(share: float, expected: str) -> None:
    assert widgets.percent(share) == expected


@pytest.mark.parametrize(
    ("before", "expected"),
    [
        (timedelta(seconds=-5), "just now"), (timedelta(seconds=59), "just now"),
        (timedelta(minutes=1), "1 min ago"), (timedelta(hours=23.9), "23 h ago"),
        (timedelta(days=2), "2 d ago"),
    ],
)  # fmt: skip
def test_ago(before: timedelta, expected: str) -> None:
    assert widgets.ago(NOW - before, NOW) == expected


def test_prose_marks_code_only_where_quotes_are_paired() -> None:
    assert widgets.prose("a ` b") == ["a ` b"]
    assert [type(p).__name__ for p in widgets.prose("run `x` now")] == ["str", "Code", "str"]
