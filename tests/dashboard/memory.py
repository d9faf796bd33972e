"""A store and a searcher in memory, for tests of pages and API: same methods, no Cassandra.

The map table, the services and the app above them are the real ones.
"""

from __future__ import annotations

import functools
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, TypeVar, cast
from uuid import UUID, uuid4, uuid5

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from PIL import Image as Pictures

from analytics.hosting.pointers import version_of
from analytics.learning import linear, ranking
from analytics.maps.regions import Range, mask
from analytics.search import Neighbours, Request, Result
from cql import codec
from cql.errors import InputError, NotFoundError
from cql.records import (
    NAMESPACE,
    Change,
    Cluster,
    ClusterChange,
    Comparison,
    DuplicateGroup,
    DuplicateMember,
    DuplicateRun,
    Feature,
    Group,
    Hit,
    Image,
    Job,
    Listing,
    MapPoint,
    MapVersion,
    Measures,
    Model,
    NewOutlier,
    Outlier,
    PlacedBatch,
    Query,
    Snapshot,
    Stock,
    Thumbnail,
    image_id_of,
)
from cql.store import Store
from cql.wire import Message
from tests.ledger import MemoryLedger
from tests.placed import MemoryPlaced
from tests.taught import MemoryTaught

T = TypeVar("T")

WHEN = datetime(2026, 11, 1, 12, tzinfo=UTC)


@dataclass
class MemoryStore(MemoryPlaced, MemoryTaught, MemoryLedger):
    """What `Services` reads of a `cql.store.Store`."""

    listings_: dict[str, Listing] = field(default_factory=dict)
    stocks_: dict[str, Stock] = field(default_factory=dict)
    images: dict[UUID, Image] = field(default_factory=dict)
    thumbnails: dict[UUID, bytes] = field(default_factory=dict)
    points_: list[MapPoint] = field(default_factory=list)
    clusters_: list[Cluster] = field(default_factory=list)
    groups_: list[Group] = field(default_factory=list)
    outliers_: list[Outlier] = field(default_factory=list)
    comparisons_: list[Comparison] = field(default_factory=list)
    changes_: list[ClusterChange] = field(default_factory=list)
    new_outliers_: list[NewOutlier] = field(default_factory=list)
    version: MapVersion | None = None
    snapshot_: Snapshot | None = None
    run_: DuplicateRun | None = None
    doubles_: list[DuplicateGroup] = field(default_factory=list)
    members_: list[DuplicateMember] = field(default_factory=list)
    measures_: dict[UUID, Measures] = field(default_factory=dict)
    queries_: dict[UUID, Query] = field(default_factory=dict)
    hits_: dict[UUID, list[Hit]] = field(default_factory=dict)
    jobs_: list[Job] = field(default_factory=list)
    files: int = 0
    models_: list[str] = field(default_factory=list)
    """Models that can be searched beside the default one."""
    vectors_: dict[UUID, NDArray[np.float32]] = field(default_factory=dict)
    log_: list[Change] = field(default_factory=list)

    def close(self) -> None: ...

    def sources(self) -> list[Any]:
        if not self.files:
            return []
        return [SimpleNamespace(source="photos", ready=self.files, failed=0, finished_at=WHEN)]

    def services(self, role: str) -> list[Any]:
        return []

    def live(self, name: str) -> UUID | None:
        if name == "map":
            return self.version.map_id if self.version else None
        if name != "snapshot" and name in self.pointers_:
            return self.pointers_[name]
        return self.live_versions().get(name)

    def live_versions(self) -> dict[str, UUID]:
        if self.snapshot_ is None:
            return {}
        others = {f"snapshot:{name}": uuid5(NAMESPACE, name) for name in self.models_}
        return {"snapshot": self.snapshot_.snapshot_id, **others}

    def snapshot(self, snapshot_id: UUID) -> Snapshot:
        for name in self.models_:
            if uuid5(NAMESPACE, name) == snapshot_id and self.snapshot_ is not None:
                return replace(self.snapshot_, snapshot_id=snapshot_id, model_id=name)
        return _known(self.snapshot_, snapshot_id)

    def model(self, model_id: str) -> Model:
        return Model(
            model_id=model_id,
            name=model_id.partition("@")[0] if "@" in model_id else "sightline-small",
            architecture="fake",
            weights_sha256="",
            transform="",
            dim=4,
        )

    def map(self, map_id: UUID) -> MapVersion:
        if self.version is None or self.version.map_id != map_id:
            raise NotFoundError(f"no map has the id {map_id}")
        return self.version

    def points(self, map_id: UUID, rows: int) -> Iterator[MapPoint]:
        return iter(self.points_)

    def maps(self) -> list[MapVersion]:
        return [self.version] if self.version else []

    def comparisons(self, map_id: UUID) -> list[Comparison]:
        return [each for each in self.comparisons_ if each.map_id == map_id]

    def cluster_changes(self, map_id: UUID, previous: UUID) -> list[ClusterChange]:
        return self.changes_

    def new_outliers(self, map_id: UUID, previous: UUID, *, limit: int) -> list[NewOutlier]:
        return self.new_outliers_[:limit]

    def means(self, map_id: UUID) -> dict[int, bytes]:
        return {}

    def clusters(self, map_id: UUID) -> list[Cluster]:
        return self.clusters_

    def groups(self, map_id: UUID) -> list[Group]:
        return self.groups_

    def put_job(self, job: Job) -> Job:
        self.jobs_.insert(0, job)
        return job

    def outliers(self, map_id: UUID, *, limit: int, page_state: Any = None) -> Any:
        return SimpleNamespace(rows=self.outliers_[:limit], next_page=None)

    def duplicate_run(self, map_id: UUID) -> DuplicateRun | None:
        return self.run_

    def duplicate_groups(self, map_id: UUID) -> list[DuplicateGroup]:
        return self.doubles_

    def duplicate_members(
        self, group: DuplicateGroup, *, offset: int = 0, limit: int = 100
    ) -> list[DuplicateMember]:
        own = [member for member in self.members_ if member.number == group.number]
        return own[offset : offset + limit]

    def iter_duplicate_members(self, map_id: UUID) -> Iterator[DuplicateMember]:
        return iter(list(self.members_))

    def measures(self, listing_id: str, image_id: UUID) -> Measures | None:
        return self.measures_.get(image_id)

    def listing_of(self, image_id: UUID) -> str:
        return self.image(image_id).listing_id

    def listing(self, listing_id: str) -> Listing:
        return _known(self.listings_.get(listing_id), listing_id)

    def titles_of(self, ids: Iterable[str]) -> dict[str, str]:
        return {key: listing.title for key, listing in self.listings(ids).items()}

    def listings(self, ids: Iterable[str]) -> dict[str, Listing]:
        return {key: self.listings_[key] for key in ids if key in self.listings_}

    def stock(self, ids: Iterable[str]) -> dict[str, Stock]:
        return {key: self.stocks_[key] for key in ids if key in self.stocks_}

    def image(self, image_id: UUID) -> Image:
        return _known(self.images.get(image_id), image_id)

    def images_of(self, listing_id: str) -> list[Image]:
        found = [image for image in self.images.values() if image.listing_id == listing_id]
        return sorted(found, key=lambda image: (image.position, image.image_id))

    def owners(self, image_ids: Iterable[UUID]) -> dict[UUID, str]:
        return {each: self.images[each].listing_id for each in image_ids if each in self.images}

    def iter_images(self) -> Iterator[Image]:
        return iter(sorted(self.images.values(), key=lambda image: image.listing_id))

    def features_at(self, keys: Iterable[tuple[str, str, UUID]]) -> list[Feature | None]:
        found: list[Feature | None] = []
        for listing_id, model_id, image_id in keys:
            vector = self.vectors_.get(image_id) if image_id in self.images else None
            raw = b"" if vector is None else vector.astype("<f4").tobytes()
            found.append(
                None if vector is None else Feature(
                    listing_id=listing_id, model_id=model_id, image_id=image_id, vector=raw,
                    dim=len(vector), crc32c=codec.crc32c(raw),
                )
            )  # fmt: skip
        return found

    def features_of(self, listing_id: str, model_id: str) -> list[Feature]:
        images = [image.image_id for image in self.images_of(listing_id)]
        found = self.features_at([(listing_id, model_id, image) for image in images])
        return [each for each in found if each is not None]

    def changes(self, since: datetime, until: datetime) -> Iterator[Change]:
        return iter([each for each in self.log_ if since <= each.at < until])

    def thumbnail(self, image_id: UUID) -> Thumbnail:
        data = _known(self.thumbnails.get(image_id), image_id)
        return Thumbnail(image_id=image_id, webp=data, width=0, height=0)

    def delete_image(self, image_id: UUID) -> None:
        """As the store does: maps, snapshots and published hits keep their rows until the next."""
        self.image(image_id)
        del self.images[image_id], self.thumbnails[image_id]
        self.suggestions_ = {k: s for k, s in self.suggestions_.items() if k[0] != image_id}

    def delete_listing(self, listing_id: str) -> None:
        self.listing(listing_id)
        for image in self.images_of(listing_id):
            self.delete_image(image.image_id)
        del self.listings_[listing_id]

    def query(self, query_id: UUID) -> Query:
        return _known(self.queries_.get(query_id), query_id)

    def hits(self, query_id: UUID, attempt: UUID, *, limit: int, after: Any = None) -> list[Hit]:
        start = 0
        if after is not None:
            place = (-after.score, after.listing_id)
            start = sum((-h.score, h.listing_id) <= place for h in self.hits_[query_id])
        return self.hits_[query_id][start : start + limit]

    def hits_of(self, query: Query, *, limit: int, after: Any = None, read: int = 0) -> list[Hit]:
        found = self.hits(query.query_id, query.attempt or query.query_id, limit=limit, after=after)
        if len(found) != min(limit, query.hits - read):
            raise NotFoundError(f"query {query.query_id} may have expired, search again")
        return found

    def rename_query(self, query_id: UUID, name: str) -> Query:
        if not name.isprintable():
            raise InputError("a query's name must be of printable characters: remove the others")
        self.queries_[query_id] = replace(self.query(query_id), name=name)
        return self.queries_[query_id]

    def queries(self, limit: int) -> list[Query]:
        return list(self.queries_.values())[:limit]

    def jobs(self, limit: int, *, days: int = 30) -> list[Job]:
        return self.jobs_[:limit]


@dataclass
class MemorySearcher:
    """Exact search by the naive loop; `down` fails as an absent host does."""

    store: MemoryStore
    vectors: dict[UUID, NDArray[np.float32]]
    down: Exception | None = None
    behind: int = 0

    def close(self) -> None: ...

    def ready(self) -> bool:
        return self.down is None

    def snapshot(self, model: str | None = None) -> Snapshot:
        default = _known(self.store.snapshot_, "live")
        if model is None or model == default.model_id:
            return default
        return self.store.snapshot(version_of(cast("Store", self.store), model))

    def neighbours(
        self, vectors: NDArray[np.float32], k: int, *, snapshot: Snapshot | None = None
    ) -> Neighbours:
        if self.down is not None:
            raise self.down
        order = sorted(self.vectors, key=lambda image: image.bytes)
        held = np.array([self.vectors[image] for image in order])
        scores = (vectors.astype(np.float64) @ held.T.astype(np.float64)).astype(np.float32)
        rows = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return Neighbours(
            scores=np.take_along_axis(scores, rows, 1),
            rows=rows,
            images=np.array([[list(order[r].bytes) for r in each] for each in rows], np.uint8),
        )

    def over_all(
        self, method: str, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> tuple[Snapshot, list[Message]]:
        """What one host answers: the real scoring over one block in memory."""
        if self.down is not None:
            raise self.down
        own = {point.image_id: point.listing_id for point in self.store.points_}
        own |= {image_id: image.listing_id for image_id, image in self.store.images.items()}
        order = sorted(self.vectors, key=lambda image: (own[image], image.bytes))
        held = np.array([self.vectors[image] for image in order])
        if method == "sample":
            rows = np.array(values["rows"], np.int64)
            return self.snapshot(), [Message({}, {"rows": rows, "vectors": held[rows]})]
        names = [own[image] for image in order]
        starts = [n for n, name in enumerate(names) if n == 0 or names[n - 1] != name]
        block = SimpleNamespace(
            rows=len(held),
            vectors=held,
            file=None,
            images=np.array([list(image.bytes) for image in order], np.uint8),
            offsets=np.array([*starts, len(held)], np.int64),
            listings=pa.array([names[n] for n in starts]),
            gather=lambda rows: held[rows],
        )
        part: Any = SimpleNamespace(blocks=(block,), alive=None)
        if method == "classified":
            scored = ranking.model_of(Message(dict(values), dict(arrays)), held.shape[1])
            every = linear.classified([part], scored)
            return self.snapshot(), [ranking.whole(every, len(held))]
        model, want = ranking.asked(Message(dict(values), dict(arrays)), held.shape[1])
        found = linear.over_parts([part], model, want)
        return self.snapshot(), [ranking.reply(found, len(held), WHEN.timestamp())]

    def search(
        self, request: Request, *, meanwhile: Callable[[Sequence[Hit]], object] | None = None
    ) -> Result:
        request.check()
        map_id = (request.map_id or self.store.live("map")) if request.selects else None
        request = replace(request, map_id=map_id)
        if self.down is not None:
            raise self.down
        photos = [] if request.listing_id is None else self.store.images_of(request.listing_id)
        named = [*request.image_ids, *(photo.image_id for photo in photos)]
        own = {self.store.image(image).listing_id for image in named}
        examples = [self.vectors[image] for image in named]
        examples += [] if request.vectors is None else list(request.vectors)
        against = [self.vectors[self.store.image(image).image_id] for image in request.negatives]
        within = None
        if request.within is not None:
            within = {hit.listing_id for hit in self.store.hits_[self._asked(request.within)]}
        rows: dict[str, list[tuple[UUID, list[float]]]] = {}
        taken = self._taken(request)
        for point in self.store.points_:
            listing, vector = point.listing_id, self.vectors[point.image_id]
            if point.image_id not in taken or (request.exclude and listing in own):
                continue
            if within is not None and listing not in within:
                continue
            stock = self.store.stocks_.get(listing)
            if request.in_stock and (stock is None or not stock.inventory):
                continue
            less = max((float(vector @ each) for each in against), default=0.0)
            scores = [float(vector @ each) - less for each in examples]
            rows.setdefault(listing, []).append((point.image_id, scores))
        ranked = sorted(
            (-_aggregate(own_rows, request), listing, max(own_rows, key=lambda r: max(r[1]))[0])
            for listing, own_rows in rows.items()
        )[: request.k]
        now = datetime.now(UTC)
        hits = tuple(
            Hit(
                score=-score,
                listing_id=listing,
                image_id=image,
                inventory=self.store.stocks_[listing].inventory if request.in_stock else None,
                stock_read_at=now if request.in_stock else None,
            )
            for score, listing, image in ranked
        )
        if meanwhile is not None:
            meanwhile(hits)
        spec = request.spec()
        query = Query(
            query_id=uuid5(NAMESPACE, f"{request.name} {spec}"),
            spec=spec,
            model_id=self.snapshot(request.model).model_id,
            snapshot_id=self.snapshot(request.model).snapshot_id,
            name=request.name,
            state="done",
            attempt=uuid4(),
            hits=len(hits),
            rows=len(self.vectors),
            rows_scanned=len(self.vectors),
            seconds=0.012,
            created_at=now,
        )
        self.store.queries_[query.query_id] = query
        self.store.hits_[query.query_id] = list(hits)
        return Result(
            query=query,
            hits=hits,
            exact=True,
            rows=len(self.vectors),
            rows_scanned=len(self.vectors),
            scanned=len(taken),
            rescored=min(len(taken), 17),
            followed_at=now,
            lag_s=0.4,
            behind=self.behind,
            seconds=0.012,
        )

    def _asked(self, query_id: UUID) -> UUID:
        return self.store.query(query_id).query_id

    def _taken(self, request: Request) -> set[UUID]:
        """Images that the selection takes: by attributes and cluster, and in the polygons."""
        found = set()
        for point in self.store.points_:
            listing = self.store.listings_.get(point.listing_id)  # a map may name deleted ones
            held = listing.attributes if listing else {}
            x, y = np.array([point.x], np.float32), np.array([point.y], np.float32)
            passed = bool(mask(request.selection.polygons, x, y)[0])
            for name, rule in request.selection.filters.items():
                if isinstance(rule, Range):
                    value = float(held.get(name.removeprefix("attr:"), "nan"))
                    passed &= (rule.low is None or value >= rule.low) and (
                        rule.high is None or value <= rule.high
                    )
                else:
                    text = str(point.cluster) if name == "cluster" else held.get(name[5:], "")
                    passed &= text in rule
            if passed:
                found.add(point.image_id)
        return found


def _aggregate(rows: list[tuple[UUID, list[float]]], request: Request) -> float:
    if request.aggregate == "coverage":
        columns = zip(*(scores for _, scores in rows), strict=True)
        return float(min(max(column) for column in columns))
    best = sorted((max(scores) for _, scores in rows), reverse=True)
    kept: list[float] = best[: request.best if request.aggregate == "mean" else 1]
    return float(np.mean(kept))


def _known(value: T | None, key: object) -> T:
    if value is None:
        raise NotFoundError(f"nothing has the id {key}")
    return value


def picture(seed: int, group: int) -> Pictures.Image:
    """A small picture whose colour tells its group and whose stripes tell its seed."""
    rng = np.random.default_rng(seed)
    base = np.array(_TINTS[group % len(_TINTS)], float)
    pixels = np.clip(base + rng.normal(0, 18, (24, 32, 3)), 0, 255).astype(np.uint8)
    return Pictures.fromarray(pixels).resize((256, 192), Pictures.Resampling.BICUBIC)


@functools.cache
def _webp(seed: int, group: int) -> bytes:
    out = io.BytesIO()
    picture(seed, group).save(out, "WEBP", quality=70)
    return out.getvalue()


_TINTS = ((176, 92, 60), (80, 128, 160), (110, 140, 80), (150, 120, 170), (190, 160, 90))


def collection(
    listings: int = 60, *, photos: int = 3, groups: int = 5, seed: int = 3
) -> tuple[MemoryStore, MemorySearcher]:
    """A collection with a map: `listings` x `photos` images in `groups` clusters, some noise."""
    rng = np.random.default_rng(seed)
    store = MemoryStore(files=listings * photos)
    centres = rng.normal(size=(groups, 16))
    places = 0.5 + 0.32 * np.array(
        [(np.cos(a), np.sin(a)) for a in np.linspace(0, 2 * np.pi, groups, endpoint=False)]
    )
    vectors: dict[UUID, NDArray[np.float32]] = {}
    for number in range(listings):
        group = number % groups
        listing_id = f"listing-{number:03d}"
        attributes = {"kind": f"kind {group}", "depth_m": f"{rng.uniform(0.3, 2.5):.2f}"}
        store.listings_[listing_id] = Listing(
            listing_id=listing_id, title=f"Trench {number:03d}", attributes=attributes
        )
        for position in range(photos):
            image_id = image_id_of(listing_id, f"{number}-{position}")
            webp = _webp(number * photos + position, group)
            store.images[image_id] = Image(
                listing_id=listing_id,
                image_id=image_id,
                uri="",
                content_hash=hashlib.sha256(webp).hexdigest(),
                width=256,
                height=192,
                format="WEBP",
                bytes=len(webp),
                position=position,
                added_at=WHEN,
            )
            store.thumbnails[image_id] = webp
            vector = (centres[group] + 0.35 * rng.normal(size=16)).astype(np.float32)
            vectors[image_id] = vector / np.linalg.norm(vector)
            x, y = places[group] + 0.05 * rng.normal(size=2)
            noise = rng.random() < 0.05
            store.points_.append(
                MapPoint(
                    image_id=image_id,
                    listing_id=listing_id,
                    x=float(np.clip(x, 0, 0.999)),
                    y=float(np.clip(y, 0, 0.999)),
                    cluster=-1 if noise else group,
                    membership=0.0 if noise else 0.9,
                    outlier_score=float(rng.uniform(0.9, 1) if noise else rng.uniform(0, 0.9)),
                    knn_distance=float(rng.uniform(0, 1)),
                    glosh=float(rng.uniform(0, 1)),
                )
            )
    finish(store, places)
    store.vectors_ = vectors
    return store, MemorySearcher(store, vectors)


def arrive(store: MemoryStore, count: int) -> list[UUID]:
    """Images that came after the map and were placed on it, in its first cluster."""
    version, (first, *_) = _known(store.version, "map"), store.clusters_
    points = []
    for number in range(count):
        image_id = image_id_of("listing-000", f"late-{len(store.images)}-{number}")
        model = store.images[first.exemplars[0]]
        store.images[image_id] = replace(model, image_id=image_id, listing_id="listing-000")
        store.thumbnails[image_id] = store.thumbnails[model.image_id]
        store.vectors_[image_id] = store.vectors_[model.image_id]
        points.append(
            MapPoint(
                image_id=image_id,
                listing_id="listing-000",
                x=first.x,
                y=first.y,
                cluster=first.cluster,
                membership=0.5,
                outlier_score=0.5,
                knn_distance=0.5,
                glosh=0.0,
            )
        )
    held = store.placed_batches(version.map_id)
    store.append_placed(
        PlacedBatch(
            map_id=version.map_id,
            number=len(held) + 1,
            batch_id=uuid4(),
            first=sum(batch.rows for batch in held),
            rows=count,
            read_to=WHEN,
            placed_at=WHEN,
        ),
        points,
    )
    return [point.image_id for point in points]


def finish(store: MemoryStore, places: Sequence[Any] | NDArray[Any] = ()) -> None:
    """Add snapshot, map version, clusters and outliers to the points."""
    map_id, snapshot_id = uuid5(NAMESPACE, "test map"), uuid5(NAMESPACE, "test snapshot")
    rows = len(store.points_)
    members: dict[int, list[MapPoint]] = {}
    for point in store.points_:
        members.setdefault(point.cluster, []).append(point)
    for number in sorted(set(members) - {-1}):
        points = members[number]
        store.clusters_.append(
            Cluster(
                map_id=map_id,
                cluster=number,
                cluster_key=uuid5(map_id, str(number)),
                size=len(points),
                listings=len({point.listing_id for point in points}),
                name=f"Group {number}",
                exemplars=tuple(point.image_id for point in points[:6]),
                x=float(np.median([point.x for point in points])),
                y=float(np.median([point.y for point in points])),
            )
        )
    ranked = sorted(store.points_, key=lambda p: (-p.outlier_score, p.image_id))
    store.outliers_ = [
        Outlier(
            map_id=map_id,
            score=point.outlier_score,
            image_id=point.image_id,
            listing_id=point.listing_id,
            knn_distance=point.knn_distance,
            glosh=point.glosh,
            cluster=point.cluster,
            reason="Farther from its nearest neighbours than 98% of all images.",
        )
        for point in ranked
    ]
    store.version = MapVersion(
        map_id=map_id,
        model_id="m",
        snapshot_id=snapshot_id,
        rows=rows,
        rows_scored=rows,
        clusters=len(store.clusters_),
        noise=len(members.get(-1, [])),
        seed=1,
        parameters="{}",
        quality={},
        code_version="test",
        created_at=WHEN,
    )
    store.snapshot_ = replace(
        Snapshot(
            snapshot_id=snapshot_id,
            model_id="m",
            rows=rows,
            listings=len(store.listings_),
            dim=16,
            shards=1,
            watermark=WHEN,
            created_at=WHEN,
            code_version="test",
        )
    )
