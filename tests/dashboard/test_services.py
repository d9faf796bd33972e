"""Services over the real store; the map table and the searcher are fakes where they are not it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid5

import numpy as np
import pytest
from PIL import Image as Pictures

from analytics.hosting.pointers import LIVE, point
from analytics.search import Request, Result
from analytics.tiles import Column, Facet, Row, Selection
from cql.content import Content
from cql.errors import ConflictError, InputError, IntegrityError, NotFoundError, UnavailableError
from cql.records import (
    NAMESPACE,
    Cluster,
    Decision,
    Hit,
    Image,
    Listing,
    MapVersion,
    Outlier,
    Query,
    Snapshot,
    Thumbnail,
    image_id_of,
)
from cql.settings import Settings
from cql.store import Store
from dashboard import ledger
from dashboard.atlas import Atlas
from dashboard.services import Services

MAP = uuid5(NAMESPACE, "test map")
SNAPSHOT = uuid5(NAMESPACE, "test snapshot")
KEY = uuid5(NAMESPACE, "test cluster")
NOW = datetime(2026, 1, 2, tzinfo=UTC)
ROWS = 4


def image_id(row: int) -> UUID:
    return image_id_of(f"listing-{row}", f"{row:064x}")


@dataclass
class FakeTable:
    """Four points in one cluster and one outside of it."""

    version: MapVersion
    rows: int = ROWS
    made: int = ROWS

    def columns(self) -> list[Column]:
        cluster = Column(
            name="cluster", label="Cluster", kind="category", keys=("-1", "0"),
            categories=("No cluster", "automatic"),
        )  # fmt: skip
        return [cluster, Column(name="outlier_score", label="Outlier", kind="number", high=1.0)]

    def tile(self, z: int, x: int, y: int, column: str) -> bytes:
        return f"{z}/{x}/{y}/{column}".encode()

    def select(self, selection: Selection) -> np.ndarray:
        wanted = selection.filters.get("cluster")
        return np.arange(ROWS - 1 if wanted == ("0",) else ROWS, dtype=np.int64)

    def facets(self, selection: Selection) -> list[Facet]:
        inside = len(self.select(selection))
        return [
            Facet(
                name="cluster", label="Cluster", kind="category", keys=("-1", "0"),
                categories=("No cluster", "automatic"), edges=(), counts=(inside - 3, 3),
                missing=0, selected=inside,
            ),
            Facet(
                name="outlier_score", label="Outlier", kind="number", keys=(), categories=(),
                edges=(0.0, 0.5, 1.0), counts=(inside, 0), missing=0, selected=inside,
            ),
        ]  # fmt: skip

    def ids(self, rows: np.ndarray) -> list[tuple[UUID, str]]:
        return [(image_id(int(row)), f"listing-{row}") for row in rows]

    def describe(self, rows: np.ndarray) -> list[Row]:
        return [
            Row(
                row=int(row), image_id=image_id(int(row)), listing_id=f"listing-{row}", x=0.5,
                y=0.5, cluster=0 if row < 3 else -1, membership=1.0, outlier_score=0.25,
                knn_distance=0.1, attributes={},
            )
            for row in rows
        ]  # fmt: skip

    def row_of(self, wanted: UUID) -> int:
        for row in range(ROWS):
            if image_id(row) == wanted:
                return row
        raise NotFoundError("not on the map")


class FakeAtlas(Atlas):
    """The real cache, whose tables are fakes."""

    def _table(self, found: UUID) -> FakeTable:  # type: ignore[override]
        return FakeTable(self._store.map(found))


@dataclass
class FakeSearcher:
    """Publishes one hit through the real store."""

    store: Store
    asked: list[Request] = field(default_factory=list)
    loaded: bool = True

    def search(self, request: Request, *, meanwhile: Callable[[Sequence[Hit]], object]) -> Result:
        self.asked.append(request)
        query = self.store.put_query(
            Query(
                query_id=uuid5(NAMESPACE, f"query {len(self.asked)}"),
                spec=f'{{"k":{request.k},"source":"{request.source}"}}',
                model_id="m", snapshot_id=SNAPSHOT, name=request.name,
            )
        )  # fmt: skip
        hits = (Hit(score=0.5, listing_id="listing-1", image_id=image_id(1)),)
        meanwhile(hits)
        query = self.store.publish(query, uuid5(NAMESPACE, "attempt"), hits)
        return Result(
            query=query, hits=hits, exact=True, rows=4, rows_scanned=4, scanned=4, rescored=1,
            followed_at=None, lag_s=None, behind=0, seconds=0.1,
        )  # fmt: skip

    def ready(self) -> bool:
        return self.loaded

    def snapshot(self, model: str | None = None) -> Snapshot:
        return self.store.snapshot(SNAPSHOT)

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def searcher(store: Store) -> FakeSearcher:
    return FakeSearcher(store)


@pytest.fixture(scope="module")
def services(
    settings: Settings,
    store: Store,
    searcher: FakeSearcher,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Services]:
    fill(store, tmp_path_factory.mktemp("photos"))
    made = Services(settings, store, searcher, atlas=FakeAtlas(settings, store))  # type: ignore[arg-type]
    yield made
    made._photos.close()
    made._searches.close()


def fill(store: Store, folder: Path) -> None:
    store.put_listings(
        Listing(listing_id=f"listing-{row}", title=f"Title {row}", attributes={"kind": "cable"})
        for row in range(ROWS)
    )
    for row, kind in enumerate(("JPEG", "PNG", "TIFF", "JPEG")):
        path = folder / f"{row}.{kind.lower()}"
        Pictures.new("RGB", (8, 6), (row * 40, 10, 10)).save(path, kind)
        if row == 3:
            path.unlink()
        image = Image(
            listing_id=f"listing-{row}", image_id=image_id(row), uri=path.as_uri(),
            content_hash=f"{row:064x}", width=8, height=6, format=kind, bytes=10,
        )  # fmt: skip
        thumbnail = Thumbnail(image_id=image_id(row), webp=b"RIFF....WEBP", width=8, height=6)
        store.put_images([(image, thumbnail)])
    version = MapVersion(
        map_id=MAP, model_id="m", snapshot_id=SNAPSHOT, rows=ROWS, rows_scored=ROWS, clusters=1,
        noise=1, seed=1, parameters="{}", quality={"trust": 0.9}, code_version="t", created_at=NOW,
    )  # fmt: skip
    store.put_clusters(
        [
            Cluster(
                map_id=MAP, cluster=0, cluster_key=KEY, size=3, listings=3, name="automatic",
                exemplars=(image_id(0),), x=0.5, y=0.5,
            )
        ]
    )  # fmt: skip
    store.put_outliers(
        MAP,
        [
            Outlier(
                map_id=MAP, score=1.0 - row / 10, image_id=image_id(row),
                listing_id=f"listing-{row}", knn_distance=0.5, glosh=0.5, cluster=0,
                reason=f"reason {row}",
            )
            for row in range(ROWS)
        ],
    )  # fmt: skip
    store.put_map(version)
    store.set_live("map", MAP, expected=store.live("map"))


@pytest.mark.service
def test_everything_says_n_of_n(services: Services) -> None:
    found = services.map()
    assert (found.rows_scored, found.rows, found.live) == (ROWS, ROWS, True)
    page = services.select({"polygons": [], "filters": {}}, limit=3)
    assert (page.count, page.total, len(page.rows), page.next_offset) == (4, 4, 3, 3)
    last = services.select(None, limit=3, offset=3)
    assert (len(last.rows), last.next_offset) == (1, None)
    assert [row.title for row in (*page.rows, *last.rows)] == [f"Title {i}" for i in range(4)]


@pytest.mark.service
def test_a_map_that_is_not_there_is_not_found(services: Services) -> None:
    with pytest.raises(NotFoundError):
        services.map(UUID(int=1))


@pytest.mark.service
def test_an_image_tells_place_cluster_reason_and_verdict(services: Services) -> None:
    found = services.image(image_id(2))
    assert (found.row, found.cluster_key, found.outlier_reason) == (2, KEY, "reason 2")
    assert (found.title, dict(found.attributes)) == ("Title 2", {"kind": "cable"})
    assert services.image(image_id(3)).cluster_name == "No cluster"
    with pytest.raises(NotFoundError):
        services.image(UUID(int=5))


@pytest.mark.service
def test_photos_come_by_id_and_browsers_can_show_them(services: Services) -> None:
    assert services.photo(image_id(0)).media_type == "image/jpeg"
    assert services.photo(image_id(0)).data[:3] == b"\xff\xd8\xff"
    assert services.photo(image_id(1)).media_type == "image/png"
    converted = services.photo(image_id(2))
    assert (converted.media_type, converted.data[8:12]) == ("image/webp", b"WEBP")
    with pytest.raises(NotFoundError, match="no longer be read"):
        services.photo(image_id(3))


@pytest.mark.service
def test_a_rename_wins_everywhere_and_undo_brings_the_automatic_name_back(
    services: Services,
) -> None:
    assert services.clusters()[0].name == "automatic"
    renamed = services.rename_cluster(KEY, "  My <b>\ncables ", author="a", expected_version=0)
    assert (renamed.name, renamed.renamed, renamed.version) == ("My <b> cables", True, 1)
    assert services.columns()[0].labels[1] == "My <b> cables"
    assert services.facets(None)[0].values[1].label == "My <b> cables"
    assert services.image(image_id(0)).cluster_name == "My <b> cables"
    assert services.outliers().outliers[0].cluster_name == "My <b> cables"
    with pytest.raises(ConflictError, match=r"0.*1"):
        services.rename_cluster(KEY, "late", author="b", expected_version=0)
    services.undo(ledger.cluster_subject(KEY), author="a", expected_version=1)
    back = services.clusters()[0]
    assert (back.name, back.renamed, back.version) == ("automatic", False, 2)
    assert [d.kind for d in services.cluster(KEY).decisions] == ["undo", "rename"]


@pytest.mark.service
def test_verdicts_filter_the_ranking(services: Services) -> None:
    services.set_verdict(image_id(1), "outlier", author="a", expected_version=0)
    services.set_verdict(image_id(2), "fine", author="a", expected_version=0)
    ranks = {
        name: [o.rank for o in services.outliers(verdict=name).outliers]
        for name in ("all", "outlier", "fine", "undecided")
    }
    assert ranks == {"all": [1, 2, 3, 4], "outlier": [2], "fine": [3], "undecided": [1, 4]}
    page = services.outliers(limit=1, offset=1, verdict="undecided")
    assert ([o.rank for o in page.outliers], page.next_offset, page.judged) == ([4], None, 2)
    services.undo(ledger.image_subject(image_id(1)), author="a", expected_version=1)
    assert services.outliers(verdict="outlier").outliers == ()
    with pytest.raises(InputError):
        services.set_verdict(image_id(0), "maybe", author="a", expected_version=0)
    with pytest.raises(InputError):
        services.undo("job:1", author="a", expected_version=1)
    with pytest.raises(NotFoundError):
        services.undo(ledger.image_subject(image_id(3)), author="a", expected_version=0)


@pytest.mark.service
def test_a_published_query_reopens_without_searching(
    services: Services, searcher: FakeSearcher, store: Store
) -> None:
    point(store, LIVE, SNAPSHOT)
    found = services.search(Request(image_ids=(image_id(0),), k=5, name="mine"))
    asked = len(searcher.asked)
    again = services.query(found.query_id)
    # What is known of an answer just computed, and stored nowhere.
    live: dict[str, Any] = dict.fromkeys(("scanned", "rescored", "followed_at", "lag_s", "behind"))
    assert (found.scanned, found.rescored) == (4, 1)
    assert again == replace(found, created_at=again.created_at, **live)
    assert len(searcher.asked) == asked
    assert (again.k, again.name, again.hits[0].title) == (5, "mine", "Title 1")
    assert found.query_id in {query.query_id for query in services.queries()}
    with pytest.raises(NotFoundError):
        services.query(UUID(int=7))


@pytest.mark.service
def test_pages_are_of_one_attempt(services: Services, store: Store) -> None:
    """A search that is asked again between two pages does not change the second."""
    query = Query(
        query_id=uuid5(NAMESPACE, "paged"), spec='{"k":3}', model_id="m", snapshot_id=SNAPSHOT,
    )  # fmt: skip
    first, again = (
        [Hit(score=top - 0.1 * n, listing_id=f"listing-{n}", image_id=image_id(n)) for n in order]
        for top, order in ((0.9, (0, 1, 2)), (0.5, (3, 0)))
    )
    store.publish(query, uuid5(NAMESPACE, "first"), first)
    page = services.query(query.query_id, limit=2)
    assert page.next_after is not None
    store.publish(query, uuid5(NAMESPACE, "again"), again)
    rest = services.query(query.query_id, limit=2, after=page.next_after)
    shown = [(hit.rank, hit.listing_id) for hit in (*page.hits, *rest.hits)]
    assert shown == [(1, "listing-0"), (2, "listing-1"), (3, "listing-2")]
    assert (rest.hits_total, rest.next_after) == (3, None)
    anew = services.query(query.query_id, limit=2)
    assert [hit.listing_id for hit in anew.hits] == ["listing-0", "listing-3"]


@pytest.mark.service
def test_an_upload_needs_an_engine(services: Services, store: Store) -> None:
    snapshot = Snapshot(
        snapshot_id=SNAPSHOT, model_id="m", rows=4, listings=4, dim=2, shards=0, watermark=NOW,
        created_at=NOW, code_version="t",
    )  # fmt: skip
    store.put_snapshot(snapshot, [])
    with pytest.raises(UnavailableError, match="engine"):
        services.search_upload([(b"\xff\xd8\xffdata", "x.jpg")])
    with pytest.raises(InputError, match="empty"):
        services.search_upload([(b"", "")])


@pytest.mark.service
def test_health_names_what_is_missing(
    services: Services, searcher: FakeSearcher, store: Store
) -> None:
    store.set_live("snapshot", SNAPSHOT, expected=store.live("snapshot"))
    assert services.health().ready
    searcher.loaded = False
    found = services.health()
    searcher.loaded = True
    assert not found.ready
    assert [check.name for check in found.checks if not check.ok] == ["snapshot", "engine"]


def test_content_is_kept_under_its_hash(tmp_path: Path) -> None:
    content = Content(Settings(data_dir=tmp_path))
    digest = content.put(b"bytes")
    assert content.put(b"bytes") == digest
    assert content.get(digest) == b"bytes"
    with pytest.raises(NotFoundError):
        content.get("0" * 64)
    for name in ("../../etc/passwd", "0" * 63, "G" * 64, ""):
        with pytest.raises(InputError):
            content.get(name)
    (tmp_path / "content" / digest[:2] / digest).write_bytes(b"other")
    with pytest.raises(IntegrityError):
        content.get(digest)


@pytest.mark.parametrize(
    ("acts", "left"),
    [
        ([("rename", "a")], ""),
        ([("rename", "a"), ("rename", "b")], "a"),
        ([("rename", "a"), ("rename", "b"), ("undo", "a")], ""),
        ([("rename", "a"), ("undo", ""), ("rename", "c")], ""),
        ([("rename", "a"), ("rename", "b"), ("undo", "a"), ("rename", "c")], "a"),
    ],
)
def test_each_undo_goes_one_act_further_back(acts: list[tuple[str, str]], left: str) -> None:
    assert ledger.undone_value(history(acts)) == left


def test_there_is_an_end_to_undo() -> None:
    with pytest.raises(InputError):
        ledger.undone_value(history([("rename", "a"), ("undo", "")]))


def history(acts: list[tuple[str, str]]) -> list[Decision]:
    return [
        Decision(subject="s", version=number, kind=kind, value=value, author="", reason="", at=NOW)
        for number, (kind, value) in reversed(list(enumerate(acts, 1)))
    ]


@pytest.mark.parametrize("name", ["", "   ", "\x00\n", "x" * 121])
def test_names_must_be_visible_and_short(name: str) -> None:
    with pytest.raises(InputError):
        ledger.clean_name(name)
