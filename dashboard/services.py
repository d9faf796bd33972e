"""Every user action as one method. Pages and the REST API call these and nothing below.

`Services` keeps only caches of immutable things (map tables by id) and a live pointer that is read
again after two seconds, so any number of web workers may run. All methods block, and may be called
from several threads. Errors are `cql.errors`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import numpy as np

from analytics import jobs
from analytics.decisions.decided import DECIDED, RENAME, VERDICT
from analytics.decisions.effective import View
from analytics.identity import packed
from analytics.search import Request, Searcher
from analytics.tiles import MapTable, Selection
from cql.errors import InputError, NotFoundError
from cql.settings import Settings
from cql.store import Store
from dashboard import doubles, exports, ledger, present, stocks
from dashboard.answers import QueryView, SearchView
from dashboard.atlas import TILE_TTL_S, Atlas
from dashboard.changes import Changes, ChangesView, VersionView
from dashboard.classes import Classes
from dashboard.connection import open_store
from dashboard.decisions import Decisions
from dashboard.doubles import DuplicateGroupView, DuplicatePage, GroupDetail
from dashboard.history import History
from dashboard.overview import Overview
from dashboard.photos import Photos
from dashboard.searches import Picture, Searches
from dashboard.sizes import Sizes
from dashboard.teaching import Teaching
from dashboard.views import (
    ClusterDetail,
    ClusterView,
    CollectionView,
    ColumnView,
    DecisionView,
    FacetView,
    GroupView,
    HealthView,
    ImageView,
    JobView,
    ListingView,
    MapRow,
    MapView,
    ModelView,
    OutlierPage,
    PhotoView,
    SelectionView,
    ShareView,
    SizeView,
    StabilityView,
    StockView,
    VerdictView,
)

PAGE_LIMIT = 500
"""Most rows of one page of anything."""
EDITIONS = 64
"""Editions of columns that tiles were asked of, by which a worker knows that it read as late."""


class Services:
    """All that the dashboard does, over one store and one searcher."""

    def __init__(
        self, settings: Settings, store: Store, searcher: Searcher, *, atlas: Atlas | None = None
    ) -> None:
        self.settings = settings
        self._store = store
        self._searcher = searcher
        self._atlas = atlas or Atlas(settings, store)
        self._overview = Overview(store, searcher, self._atlas)
        self._changes = Changes(store, self._atlas)
        self._photos = Photos(settings, store)
        self._searches = Searches(settings, store, searcher, self._photos)
        self.decisions = Decisions(store, searcher, self._atlas)
        self.history = History(store, self._atlas)
        self._sizes = Sizes(settings, store)
        self.classes = Classes(store, searcher, self._atlas)
        self.teaching = Teaching(store, searcher)
        self._editions: tuple[str, ...] = ()

    @classmethod
    def open(cls, settings: Settings) -> Services:
        """Connect. UnavailableError when Cassandra does not answer."""
        store = open_store(settings)
        return cls(settings, store, Searcher(settings, store))

    def close(self) -> None:
        """Close the connections."""
        self._searches.close()
        self._sizes.close()
        self._photos.close()
        self._searcher.close()
        self._store.close()

    # Collection and map

    def collection(self) -> CollectionView:
        """How far the collection is, over all of it."""
        return self._overview.collection()

    def live_map(self) -> MapView | None:
        """The live map, or None while there is none."""
        live = self._atlas.live_id()
        return self.map(live) if live is not None else None

    def map(self, map_id: UUID | None = None) -> MapView:
        """A map by id (None: the live one). NotFoundError."""
        found = self._atlas.version(map_id)
        return present.map_view(
            found,
            live=found.map_id == self._atlas.live_id(),
            placed=self._atlas.late(found.map_id),
        )

    def columns(self, map_id: UUID | None = None) -> tuple[ColumnView, ...]:
        """Columns to colour and filter by; renamed clusters have their new names."""
        return self._columns(*self._atlas.decided(map_id))

    def edition(self, map_id: UUID | None = None) -> str:
        """A text that changes when columns of a map mean something else; equal in every worker."""
        return self.edited_columns(map_id)[0]

    def edited_columns(self, map_id: UUID | None = None) -> tuple[str, tuple[ColumnView, ...]]:
        """`edition` and `columns` of one moment."""
        view, table = self._atlas.decided(map_id)
        columns = self._columns(view, table)
        return present.edition(columns, view.said), columns

    def tile(  # noqa: PLR0917 - place, then what of it
        self,
        z: int,
        x: int,
        y: int,
        column: str = "cluster",
        map_id: UUID | None = None,
        placed: int | None = None,
    ) -> bytes:
        """Tile body, format version 1. InputError for a tile or column that cannot exist.

        `placed`: how many of the images that came later are on it, all where that is None.
        """
        return self._atlas.table(map_id, max_age_s=TILE_TTL_S).tile(z, x, y, column, placed)

    def tile_version(
        self, column: str, map_id: UUID, placed: int | None = None, edition: str = ""
    ) -> tuple[str, bool]:
        """A text that changes when tiles of the column do, and whether they never do.

        `placed`: how many images the caller knows to be placed on the map since it was made;
        `edition`: which columns it knows.
        """
        late = self._atlas.late(map_id)
        if placed is not None and placed > late:
            # Another worker has seen more of them.
            late = self._atlas.late(map_id, max_age_s=0.0)
        decided = column in DECIDED
        if decided and edition and edition not in self._editions:
            # So has of what was decided.
            self._atlas.view(map_id)
            self._editions = (*self._editions[-EDITIONS:], edition)
        base = self._atlas.token(map_id) if decided else str(map_id)
        if placed is None:
            return f"{base}-{late}", False
        return f"{base}-{min(placed, late)}", placed <= late and not decided

    def rows(self, rows: Sequence[int], map_id: UUID | None = None) -> tuple[MapRow, ...]:
        """Ids, titles, places and cluster names of some rows, in the order asked."""
        _limited(len(rows))
        view, table = self._atlas.decided(map_id)
        if max(rows, default=0) >= table.rows:
            # Another worker may have seen images that were placed a moment ago.
            self._atlas.late(map_id, max_age_s=0.0)
            view, table = self._atlas.decided(map_id)
        points = table.describe(np.asarray(list(rows), np.int64))
        titles = self.titles([point.listing_id for point in points])
        names = self._names_by_number(view, table)
        return tuple(
            MapRow(
                row=point.row,
                image_id=point.image_id,
                listing_id=point.listing_id,
                title=titles.get(point.listing_id, ""),
                x=point.x,
                y=point.y,
                cluster_name=names.get(point.cluster, present.NOISE),
            )
            for point in points
        )

    def row_of(self, image_ids: Sequence[UUID], map_id: UUID | None = None) -> dict[UUID, int]:
        """Map rows of images; those that are not on the map are left out."""
        table = self._atlas.table(map_id)
        found = {}
        for image_id in image_ids:
            with contextlib.suppress(NotFoundError):
                found[image_id] = table.row_of(image_id)
        return found

    def select(
        self,
        selection: Selection | Mapping[str, Any] | None,
        *,
        limit: int = 60,
        offset: int = 0,
        map_id: UUID | None = None,
    ) -> SelectionView:
        """Exact count over all rows, and the page of rows that starts at `offset`."""
        _limited(limit)
        if offset < 0:
            raise InputError(f"offset must be at least 0, got {offset}: start at the first row")
        table = self._atlas.table(map_id)
        rows = table.select(_selection(selection))
        page = rows[offset : offset + limit]
        end = offset + len(page)
        pairs = [(int(row), ids) for row, ids in zip(page, table.ids(page), strict=True)]
        return SelectionView(
            map_id=table.version.map_id,
            count=len(rows),
            total=table.rows,
            rows=self._map_rows(pairs),
            offset=offset,
            next_offset=end if end < len(rows) else None,
        )

    def facets(
        self, selection: Selection | Mapping[str, Any] | None, map_id: UUID | None = None
    ) -> tuple[FacetView, ...]:
        """Counts of every column over all rows."""
        return self._facets(*self._atlas.decided(map_id), _selection(selection))

    # Images

    def image(self, image_id: UUID) -> ImageView:
        """Everything known of one image. NotFoundError."""
        image = self._store.image(image_id)
        listing = self._store.listing(image.listing_id)
        row, cluster, ranked = None, None, None
        shares: tuple[ShareView, ...] = ()
        if self._atlas.live_id() is not None:
            view, table = self._atlas.decided(None)
            with contextlib.suppress(NotFoundError):
                row = table.describe(np.array([table.row_of(image_id)], np.int64))[0]
            if row is not None:
                clusters = self._clusters(view, table)
                cluster = next((c for c in clusters if c.cluster == row.cluster), None)
                analysed = self._atlas.clusters(table.version.map_id)
                shares = present.share_views(row, clusters, analysed)
                ranked = self._atlas.ranked(image_id)
        verdict = self.verdicts([image_id])[image_id]
        found = present.image_view(
            image,
            listing,
            row,
            cluster,
            ranked,
            verdict,
            shares,
            self._store.measures(image.listing_id, image_id),
        )
        return replace(found, label=self.decisions.labels_of([image_id])[image_id].label)

    def photo(self, image_id: UUID) -> PhotoView:
        """The photo itself, re-encoded when no browser shows its format."""
        return self._photos.photo(image_id)

    def thumbnail(self, image_id: UUID) -> PhotoView:
        """The small WebP."""
        return self._photos.thumbnail(image_id)

    def listing(self, listing_id: str) -> ListingView:
        """A listing with its photos by position. NotFoundError."""
        return present.listing_view(
            self._store.listing(listing_id), self._store.images_of(listing_id)
        )

    def titles(self, listing_ids: Sequence[str]) -> dict[str, str]:
        """Titles of listings; unknown ids are left out."""
        return self._store.titles_of(listing_ids)

    def stocks(self, listing_ids: Sequence[str]) -> dict[str, int]:
        """How many of each listing are for sale now; listings of unknown stock are left out."""
        found = self._store.stock(sorted(set(listing_ids))) if listing_ids else {}
        return {key: stock.inventory for key, stock in found.items()}

    def stock(self, listing_id: str) -> StockView:
        """Stock of one listing now. NotFoundError where it, or its stock, is not there."""
        return stocks.read(self._store, listing_id)

    def set_stock(self, listing_id: str, inventory: int, *, etag: str) -> StockView:
        """Set the stock if its etag is still `etag` ("": it has none). ConflictError, with both."""
        return stocks.change(self._store, listing_id, inventory, etag=etag)

    # Search

    def search(self, request: Request) -> SearchView:
        """The k listings most like the examples; the first 500 come with the answer."""
        return self._searches.ask(request)

    def search_upload(
        self, pictures: Sequence[Picture], request: Request | None = None
    ) -> SearchView:
        """Search by pictures, embedded by an engine and kept, and by all else of `request`."""
        return self._searches.upload(pictures, request or Request())

    def models(self) -> tuple[ModelView, ...]:
        """Models that can be searched: the default one first, then by name."""
        return tuple(present.model_view(model) for model in self._searches.models())

    def upload(self, digest: str) -> PhotoView:
        """A picture that a query was asked with, by `SearchView.upload`."""
        return self._photos.upload(digest)

    def query(self, query_id: UUID, *, limit: int = 200, after: str = "") -> SearchView:
        """A page of a published query, behind `after`; nothing is computed. NotFoundError."""
        return self._searches.published(query_id, limit=_limited(limit), after=after)

    def asked(self, query_id: UUID) -> Request:
        """What a stored query asked: `search` asks it again on what is live now. NotFoundError."""
        return self._searches.asked(query_id)

    def rename_query(self, query_id: UUID, name: str) -> QueryView:
        """Give a query another name, "" for none. NotFoundError."""
        return self._searches.rename(query_id, name)

    def queries(self, limit: int = 50) -> tuple[QueryView, ...]:
        """Query history, newest first."""
        return self._searches.history(_limited(limit))

    # Clusters and outliers

    def clusters(self, map_id: UUID | None = None) -> tuple[ClusterView, ...]:
        """Clusters as decided: merged, split and renamed; largest first."""
        return self._clusters(*self._atlas.decided(map_id))

    def groups(self, map_id: UUID | None = None) -> tuple[GroupView, ...]:
        """Groups of clusters (level 1) and of groups (level 2), at each level the largest first."""
        total = self._atlas.version(map_id).rows + self._atlas.late(map_id)
        return tuple(present.group_view(group, total) for group in self._atlas.groups(map_id))

    def stability(self, map_id: UUID | None = None) -> StabilityView:
        """What every smallest size of a cluster gives; an engine answers from the kept tree."""
        return self._sizes.stability(self._atlas.resolve(map_id))

    def preview_size(self, size: int, map_id: UUID | None = None) -> SizeView:
        """How many clusters a smallest size gives, and the share of images in none."""
        return self._sizes.preview(self._atlas.resolve(map_id), size)

    def choose_size(self, size: int | None) -> JobView:
        """Queue the job that publishes the live map with clusters of a size; None: what suits it.

        The layout stays, keys are matched, so renames are kept. New images keep to the size.
        """
        return present.job_view(self._sizes.choose(self._atlas.resolve(None), size))

    def cluster(self, key: UUID, map_id: UUID | None = None) -> ClusterDetail:
        """One cluster with what was decided about it and its own facets. NotFoundError.

        `key` may also be of a cluster that was merged into it.
        """
        view, table = self._atlas.decided(map_id)
        known = self._clusters(view, table)
        found = next((c for c in known if c.key == key), None)
        found = found or next((c for c in known if key in c.merged), None)
        if found is None:
            raise NotFoundError(f"this map has no cluster {key}: a newer map may have replaced it")
        history = self._store.decisions(ledger.cluster_subject(found.key))
        return ClusterDetail(
            cluster=found,
            decisions=tuple(ledger.decision_view(decision) for decision in history),
            facets=self._facets(
                view, table, Selection.from_json({"filters": {"cluster": [str(found.cluster)]}})
            ),
        )

    def rename_cluster(
        self, key: UUID, name: str, *, author: str, expected_version: int, reason: str = ""
    ) -> ClusterView:
        """Name a cluster; ConflictError when somebody renamed it after `expected_version`."""
        key = self.cluster(key).cluster.key
        self._store.append_decision(
            ledger.cluster_subject(key),
            RENAME,
            ledger.clean_name(name),
            author=author,
            reason=reason,
            expected_version=expected_version,
        )
        return self.cluster(key).cluster

    def outliers(
        self,
        *,
        limit: int = 60,
        offset: int = 0,
        verdict: str = "all",
        sort: str = "all",
        map_id: UUID | None = None,
    ) -> OutlierPage:
        """The ranking; `verdict` keeps `outlier`, `fine`, `undecided` (nobody judged) or all.

        `sort` keeps bad photos (`photo`), wrong categories (`category`), `rare` things or all.
        """
        view, table = self._atlas.decided(map_id)
        ranking = self._atlas.ranking(table.version.map_id)
        page = ledger.page(
            self._store,
            ranking,
            ledger.judged(self._atlas.standing),
            verdict=verdict,
            sort=sort,
            offset=offset,
            limit=_limited(limit),
        )
        titles = self.titles([outlier.listing_id for _, outlier, _ in page.rows])
        names = self._names_by_number(view, table)
        numbers = _numbers(view, [outlier.image_id for _, outlier, _ in page.rows])
        return OutlierPage(
            map_id=table.version.map_id,
            outliers=tuple(
                present.outlier_view(
                    outlier,
                    rank,
                    title=titles.get(outlier.listing_id, ""),
                    cluster_name=names.get(numbers.get(outlier.image_id, outlier.cluster), ""),
                    verdict=found,
                )
                for rank, outlier, found in page.rows
            ),
            offset=offset,
            next_offset=page.next_offset,
            ranked=len(ranking),
            total=table.version.rows,
            judged=page.judged,
        )

    def set_verdict(
        self,
        image_id: UUID,
        verdict: str,
        *,
        author: str,
        expected_version: int,
        reason: str = "",
    ) -> VerdictView:
        """Mark an image `outlier` or `fine`; ConflictError when somebody judged it meanwhile."""
        ledger.check_verdict(verdict)
        self._store.image(image_id)
        decision = self._store.append_decision(
            ledger.image_subject(image_id),
            VERDICT,
            verdict,
            author=author,
            reason=reason,
            expected_version=expected_version,
        )
        return ledger.verdict_view(image_id, decision)

    def verdicts(self, image_ids: Sequence[UUID]) -> dict[UUID, VerdictView]:
        """The verdict in force of each image."""
        return ledger.verdicts(self._store, image_ids)

    # Near-duplicates

    def duplicates(
        self,
        *,
        limit: int = 40,
        offset: int = 0,
        verdict: str = "all",
        map_id: UUID | None = None,
    ) -> DuplicatePage:
        """Groups of near-duplicates, the largest first.

        `verdict` keeps `duplicate`, `distinct`, `undecided`, `changed` (since decided) or all.
        """
        run, groups = self._atlas.duplicates(map_id)
        return doubles.page(
            self._store,
            self._atlas.standing.read().of(doubles.KIND),
            self._atlas.resolve(map_id),
            run,
            groups,
            verdict=verdict,
            offset=offset,
            limit=_limited(limit),
        )

    def duplicate_group(
        self, key: UUID, *, limit: int = 100, offset: int = 0, map_id: UUID | None = None
    ) -> GroupDetail:
        """One group with a page of its members. NotFoundError."""
        group = doubles.by_key(self._atlas.duplicates(map_id)[1], key)
        return doubles.detail(self._store, group, offset=offset, limit=_limited(limit))

    def decide_duplicates(
        self, key: UUID, verdict: str, *, author: str, expected_version: int, reason: str = ""
    ) -> DuplicateGroupView:
        """Say that a group is `duplicate` or `distinct`; ConflictError when somebody was first."""
        group = doubles.by_key(self._atlas.duplicates(None)[1], key)
        decision = self._store.append_decision(
            doubles.subject(key),
            doubles.KIND,
            doubles.value(verdict, group.digest),
            author=author,
            reason=reason,
            expected_version=expected_version,
        )
        return doubles.view(group, decision)

    def undo(self, subject: str, *, author: str, expected_version: int) -> DecisionView:
        """Step back the newest decision of a subject, or a whole `batch:<id>` (new entries)."""
        return self.decisions.undo(subject, author=author, expected_version=expected_version)

    def export(self, fmt: str, *, history: bool = False, version: str = "") -> Iterator[bytes]:
        """What is in force for every image, or the whole ledger, as a file of `exports.FORMATS`."""
        return exports.stream(self._store, self._atlas, fmt, history=history, version=version)

    # Work

    def versions(self) -> tuple[VersionView, ...]:
        """Maps that are stored, the newest first."""
        return self._changes.versions()

    def changes(
        self, before: UUID | None = None, after: UUID | None = None, *, limit: int = 60
    ) -> ChangesView | None:
        """What changed between two maps (None: the live one, and the one before it).

        None where there is no map before it. NotFoundError.
        """
        return self._changes.read(before, after, limit=_limited(limit))

    def jobs(self, limit: int = 50) -> tuple[JobView, ...]:
        """Jobs, newest first."""
        return tuple(present.job_view(job) for job in self._overview.jobs(_limited(limit)))

    def job(self, job_id: UUID) -> JobView:
        """One job. NotFoundError."""
        return present.job_view(self._store.job(job_id))

    def cancel_job(self, job_id: UUID) -> JobView:
        """Ask a job to stop: at once when queued, else at its next step."""
        self._store.job(job_id)
        self._store.cancel_job(job_id)
        return self.job(job_id)

    def run_again(self, job_id: UUID) -> JobView:
        """Queue a job that failed or was cancelled once more; it continues where that one ended.

        NotFoundError, InputError.
        """
        return present.job_view(jobs.again(self._store, job_id))

    def health(self) -> HealthView:
        """Whether searching works right now, and what is missing."""
        return self._overview.health()

    # Steps shared by the above

    def _clusters(self, view: View, table: MapTable) -> tuple[ClusterView, ...]:
        names = ledger.names(self._store, [each.cluster.cluster_key for each in view.clusters])
        total = table.version.rows + table.rows - table.made
        return tuple(
            present.cluster_view(each, names.get(each.cluster.cluster_key), total)
            for each in view.clusters
        )

    def _names_by_number(self, view: View, table: MapTable) -> dict[int, str]:
        return {cluster.cluster: cluster.name for cluster in self._clusters(view, table)}

    def _columns(self, view: View, table: MapTable) -> tuple[ColumnView, ...]:
        names = self._names_by_number(view, table)
        return tuple(
            present.column_view(column, names if column.name == "cluster" else {})
            for column in table.columns()
        )

    def _facets(self, view: View, table: MapTable, selection: Selection) -> tuple[FacetView, ...]:
        names = self._names_by_number(view, table)
        totals = self._atlas.totals(view, table)
        return tuple(
            present.facet_view(facet, totals[facet.name], names if facet.name == "cluster" else {})
            for facet in table.facets(selection)
        )

    def _map_rows(self, pairs: Sequence[tuple[int, tuple[UUID, str]]]) -> tuple[MapRow, ...]:
        titles = self.titles([listing_id for _, (_, listing_id) in pairs])
        return tuple(
            MapRow(
                row=row,
                image_id=image_id,
                listing_id=listing_id,
                title=titles.get(listing_id, ""),
            )
            for row, (image_id, listing_id) in pairs
        )


def _numbers(view: View, image_ids: Sequence[UUID]) -> dict[UUID, int]:
    """Cluster numbers of images as decided; nothing where the analysis' own still hold."""
    table = view.table
    if table is None or not image_ids:
        return {}
    rows = table.rows_of(packed(image_ids))
    found = zip(image_ids, rows, strict=True)
    return {image: int(table.clusters[row]) for image, row in found if row >= 0}


def _selection(value: Selection | Mapping[str, Any] | None) -> Selection:
    return value if isinstance(value, Selection) else Selection.from_json(value)


def _limited(limit: int) -> int:
    if not 0 <= limit <= PAGE_LIMIT:
        raise InputError(f"a page must have 0 to {PAGE_LIMIT} rows, got {limit}: ask for fewer")
    return limit
