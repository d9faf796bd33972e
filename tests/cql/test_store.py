"""The store against real Cassandra: what is written is read back, and of two rivals one loses."""

from __future__ import annotations

import json
import struct
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import pytest

from cql import access, codec, vectors
from cql import statements as cql
from cql.access import now, utc
from cql.errors import ConflictError, InputError, IntegrityError, NotFoundError
from cql.progress import CancelledError
from cql.records import (
    Cluster,
    ClusterChange,
    Comparison,
    Feature,
    FileState,
    Group,
    Hit,
    Image,
    Job,
    Listing,
    MapPoint,
    MapVersion,
    Model,
    NewOutlier,
    Outlier,
    Query,
    Service,
    Shard,
    Snapshot,
    Stock,
    Suggestion,
    Thumbnail,
    image_id_of,
)
from cql.store import Store

pytestmark = pytest.mark.service

NOW = datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=UTC)


def an_image(listing_id: str, name: str, position: int = 0) -> tuple[Image, Thumbnail]:
    image_id = image_id_of(listing_id, name)
    image = Image(
        listing_id=listing_id,
        image_id=image_id,
        uri=f"file:///photos/{name}.jpg",
        content_hash=name,
        width=640,
        height=480,
        format="JPEG",
        bytes=12_345,
        position=position,
    )
    return image, Thumbnail(image_id=image_id, webp=b"RIFF" + name.encode(), width=256, height=192)


def some_features(listing_id: str, model_id: str, ids: list[UUID], seed: int = 1) -> list[Feature]:
    rows = np.random.default_rng(seed).normal(size=(len(ids), 8)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    blobs, crcs = codec.encode(rows)
    return [
        Feature(
            listing_id=listing_id,
            model_id=model_id,
            image_id=image_id,
            vector=blob,
            dim=8,
            crc32c=crc,
        )
        for image_id, blob, crc in zip(ids, blobs, crcs, strict=True)
    ]


def race(count: int, act: Callable[[int], Any]) -> list[Any]:
    """Results of `act(0..count-1)`, all let go at once; a ConflictError counts as its result."""
    gate = threading.Barrier(count)

    def one(number: int) -> Any:
        gate.wait(30)
        try:
            return act(number)
        except ConflictError as error:
            return error

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


def winners(results: list[Any]) -> list[Any]:
    return [result for result in results if not isinstance(result, ConflictError)]


# Listings, images, files


def test_listings_come_back_as_written(store: Store) -> None:
    rows = [
        Listing(listing_id="l-1", title="Cable <b>7</b>", attributes={"kind": "cable", "é": ""}),
        Listing(listing_id="l-2"),
    ]
    assert store.put_listings(rows) == 2
    assert store.listing("l-1") == rows[0]
    assert store.listings(["l-2", "none", "l-1", "l-2"]) == {row.listing_id: row for row in rows}
    assert {row.listing_id for row in store.iter_listings()} >= {"l-1", "l-2"}
    with pytest.raises(NotFoundError, match="'none'"):
        store.listing("none")
    with pytest.raises(InputError, match="empty"):
        store.put_listings([Listing(listing_id="")])


def test_images_come_back_in_order_and_keep_their_first_time(store: Store) -> None:
    pairs = [an_image("i-1", f"p{n}", position=2 - n) for n in range(3)]
    assert store.put_images(pairs) == 3
    found = store.images_of("i-1")
    assert [image.position for image in found] == [0, 1, 2]
    first = store.image(pairs[0][0].image_id)
    assert first.added_at is not None
    assert replace(first, added_at=None) == pairs[0][0]
    assert store.thumbnail(first.image_id) == pairs[0][1]
    store.put_image(*pairs[0])
    assert store.image(first.image_id) == first
    assert len(store.images_of("i-1")) == 3
    assert store.images_of("nothing") == []


def test_a_thumbnail_of_another_image_is_refused(store: Store) -> None:
    image, _ = an_image("i-2", "a")
    _, other = an_image("i-2", "b")
    with pytest.raises(InputError, match=str(other.image_id)):
        store.put_image(image, other)
    with pytest.raises(NotFoundError):
        store.image(image.image_id)


def test_delete_image_removes_it_everywhere(store: Store) -> None:
    pairs = [an_image("d-1", name) for name in "ab"]
    store.put_images(pairs)
    gone, kept = (image.image_id for image, _ in pairs)
    for model_id in ("m1", "m2"):
        store.put_features(some_features("d-1", model_id, [gone, kept]))
    name = f"crack {uuid4()}"
    lines = [
        Suggestion(image_id=image, listing_id="d-1", name=name, version=1, margin=0.5, at=now())
        for image in (gone, kept)
    ]
    assert store.put_suggestions(lines) == 2
    store.delete_image(gone)
    assert store.suggestions(gone) == []
    assert store.suggested(name, limit=9) == lines[1:]
    day = int(lines[1].at.strftime("%Y%m%d"))
    listed = store._access.many(cql.SUGGESTIONS_OF_DAY, [(name, day)])
    assert [row.image_id for rows in listed for row in rows] == [kept]
    for read in (store.image, store.thumbnail, store.delete_image):
        with pytest.raises(NotFoundError):
            read(gone)
    assert [image.image_id for image in store.images_of("d-1")] == [kept]
    for model_id in ("m1", "m2"):
        assert [f.image_id for f in store.features_of("d-1", model_id)] == [kept]


def test_an_interrupted_delete_can_be_repeated(store: Store) -> None:
    image, thumbnail = an_image("d-2", "a")
    store.put_image(image, thumbnail)
    store._access.run(cql.DELETE_IMAGE, "d-2", image.image_id)
    store.delete_image(image.image_id)
    with pytest.raises(NotFoundError):
        store.thumbnail(image.image_id)


def test_delete_listing_removes_it_everywhere_but_keeps_decisions(store: Store) -> None:
    pairs = [an_image("d-3", name) for name in "ab"]
    store.put_listings([Listing(listing_id="d-3")])
    store.put_images(pairs)
    ids = [image.image_id for image, _ in pairs]
    store.put_features(some_features("d-3", "m1", ids))
    store.set_stock("d-3", 5, etag="")
    subject = f"image:{ids[0]}"
    store.append_decision(subject, "verdict", "outlier", author="ann", expected_version=0)
    line = Suggestion(
        image_id=ids[1], listing_id="d-3", name="crack", version=1, margin=0.5, at=now()
    )
    store.put_suggestions([line])
    store.delete_listing("d-3")
    assert store.suggestions(ids[1]) == []
    with pytest.raises(NotFoundError):
        store.listing("d-3")
    with pytest.raises(NotFoundError):
        store.delete_listing("d-3")
    for image_id in ids:
        with pytest.raises(NotFoundError):
            store.thumbnail(image_id)
    assert store.images_of("d-3") == []
    assert store.features_of("d-3", "m1") == []
    assert store.stock(["d-3"]) == {}
    assert len(store.decisions(subject)) == 1


def test_the_change_log_tells_what_happened_in_order(store: Store) -> None:
    start = datetime.now(UTC) - timedelta(milliseconds=5)
    image, thumbnail = an_image("c-1", "a")
    store.put_listings([Listing(listing_id="c-1")])
    store.put_image(image, thumbnail)
    store.put_features(some_features("c-1", "m1", [image.image_id]))
    store.set_stock("c-1", 1, etag="")
    store.delete_image(image.image_id)
    end = datetime.now(UTC) + timedelta(milliseconds=5)
    found = [change for change in store.changes(start, end) if change.listing_id == "c-1"]
    assert [change.kind for change in found] == [
        "listing_changed",
        "image_added",
        "feature_added",
        "stock",
        "image_deleted",
    ]
    assert [change.image_id for change in found] == [
        None,
        *[image.image_id] * 2,
        None,
        image.image_id,
    ]
    assert all(start <= change.at < end for change in found)
    assert list(store.changes(end, end + timedelta(hours=1))) == []
    assert list(store.changes(end, start)) == []
    with pytest.raises(InputError, match="time zone"):
        list(store.changes(datetime(2026, 1, 1), end))  # noqa: DTZ001 - the point of the test


def test_files_and_sources_come_back(store: Store) -> None:
    states = [
        FileState(source="/photos", uri=f"{n}.jpg", state="ready", image_id=uuid4(), mtime_ns=n)
        for n in range(200)
    ]
    bad = FileState(source="/photos", uri="bad.jpg", state="failed", reason="cut off")
    store.put_files([*states, bad])
    store.put_files([replace(states[0], source="/other")])
    assert {state.uri: state for state in store.files("/photos")} == {
        state.uri: state for state in [*states, bad]
    }
    store.put_source(source="/photos", kind="folder", manifest="", files=201, ready=200, failed=1)
    (source,) = store.sources()
    assert (source.source, source.files, source.ready, source.failed) == ("/photos", 201, 200, 1)
    assert source.finished_at is not None
    assert source.finished_at.tzinfo is not None


# Models, features, stock


def test_models_come_back(store: Store) -> None:
    model = Model(
        model_id="m-1",
        name="small",
        architecture="net",
        weights_sha256="ab",
        transform="224",
        dim=8,
    )
    store.put_model(model)
    store.put_model(model)
    assert store.model("m-1") == model
    assert model in store.models()
    with pytest.raises(NotFoundError, match="'m-2'"):
        store.model("m-2")


def test_features_come_back_bit_by_bit(store: Store) -> None:
    ids = sorted((uuid4() for _ in range(700)), key=lambda each: each.bytes)
    rows = some_features("f-1", "m1", ids)
    assert store.put_features(rows) == 700
    store.put_features(some_features("f-1", "m2", ids[:1]))
    assert store.features_of("f-1", "m1") == sorted(rows, key=lambda each: each.image_id.bytes)
    assert store.features_of("f-1", "m3") == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vector": struct.pack("<8f", *[1.0] * 8)}, "CRC"),
        ({"crc32c": 1}, "CRC"),
        ({"dim": 9}, "D=9"),
        ({"dim": 0, "vector": b""}, "D=0"),
        ({"dtype": "float64"}, "float64"),
    ],
)
def test_a_damaged_feature_is_refused(store: Store, change: dict[str, Any], message: str) -> None:
    (row,) = some_features("f-2", "m1", [uuid4()])
    with pytest.raises(InputError, match=message):
        store.put_features([replace(row, **change)])
    assert store.features_of("f-2", "m1") == []


@pytest.mark.parametrize("values", [[2.0] + [0.0] * 7, [float("nan")] * 8, [float("inf")] * 8])
def test_a_vector_without_unit_norm_is_refused(store: Store, values: list[float]) -> None:
    (row,) = some_features("f-3", "m1", [uuid4()])
    blob = struct.pack("<8f", *values)
    with pytest.raises(InputError, match="unit L2 norm"):
        store.put_features([replace(row, vector=blob, crc32c=codec.crc32c(blob))])


def test_a_damaged_stored_feature_is_not_answered_from(store: Store) -> None:
    (row,) = some_features("f-4", "m1", [uuid4()])
    blob = bytes([row.vector[0] ^ 1]) + row.vector[1:]
    store._access.run(cql.PUT_FEATURE, "f-4", "m1", row.image_id, blob, 8, "float32", row.crc32c)
    with pytest.raises(IntegrityError, match="'f-4'"):
        store.features_of("f-4", "m1")


def test_a_listing_has_room_for_100_mb_of_vectors(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vectors, "LISTING_BYTES", 4 * 8 * 10)
    ids = [uuid4() for _ in range(11)]
    rows = some_features("f-5", "m1", ids)
    store.put_features(rows[:10])
    store.put_features(rows[:10])  # written again, it needs no more room
    with pytest.raises(InputError, match="'f-5' would have"):
        store.put_features(rows[10:])
    assert len(store.features_of("f-5", "m1")) == 10


def test_stock_loads_below_what_was_set(store: Store) -> None:
    store.load_stock([Stock(listing_id="s-1", inventory=3, etag="a")])
    assert store.stock(["s-1", "s-0"]) == {"s-1": Stock(listing_id="s-1", inventory=3, etag="a")}
    changed = store.set_stock("s-1", 2, etag="a")
    store.load_stock([Stock(listing_id="s-1", inventory=9, etag="b")])
    assert store.stock(["s-1"]) == {"s-1": changed}
    with pytest.raises(ConflictError, match=r"a, somebody moved it to " + changed.etag):
        store.set_stock("s-1", 1, etag="a")
    with pytest.raises(ConflictError, match="none"):
        store.set_stock("s-2", 1, etag="a")
    with pytest.raises(InputError, match="-1"):
        store.set_stock("s-1", -1, etag=changed.etag)


def test_all_stock_is_read_page_by_page(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [Stock(listing_id=f"all-{n}", inventory=n % 3, etag=f"e{n}") for n in range(250)]
    store.load_stock(rows)
    monkeypatch.setattr(access, "PAGE_ROWS", 7)
    found = [each for each in store.iter_stock() if each.listing_id.startswith("all-")]
    assert sorted(found, key=lambda each: int(each.listing_id[4:])) == rows
    wanted = [each.listing_id for each in rows]
    assert store.stock(wanted) == {each.listing_id: each for each in rows}


def test_of_racing_stock_changes_one_wins_each_round(store: Store) -> None:
    etag = store.set_stock("s-3", 0, etag="").etag
    for _ in range(3):

        def change(number: int, etag: str = etag) -> Stock:
            return store.set_stock("s-3", number, etag=etag)

        results = race(6, change)
        (winner,) = winners(results)
        assert store.stock(["s-3"])["s-3"] == winner
        etag = winner.etag


# Versions, decisions, jobs, processes


def a_snapshot() -> tuple[Snapshot, list[Shard]]:
    snapshot = Snapshot(
        snapshot_id=uuid4(),
        model_id="m1",
        rows=10,
        listings=4,
        dim=8,
        shards=2,
        watermark=NOW,
        created_at=NOW,
        code_version="1",
        fingerprint="f",
    )
    shards = [
        Shard(
            snapshot_id=snapshot.snapshot_id,
            shard=number,
            rows=5,
            listings=2,
            first_listing="a",
            last_listing="b",
            files={"x": "1"},
        )
        for number in range(2)
    ]
    return snapshot, shards


def test_snapshots_come_back_with_their_shards(store: Store) -> None:
    snapshot, shards = a_snapshot()
    with pytest.raises(InputError, match="2 shards, got 1"):
        store.put_snapshot(snapshot, shards[:1])
    store.put_snapshot(snapshot, shards)
    assert store.snapshot(snapshot.snapshot_id) == snapshot
    assert store.shards(snapshot.snapshot_id) == shards
    store.delete_snapshot(snapshot.snapshot_id)
    assert store.shards(snapshot.snapshot_id) == []
    with pytest.raises(NotFoundError):
        store.snapshot(snapshot.snapshot_id)


def test_of_racing_live_versions_one_wins(store: Store) -> None:
    assert store.live("race") is None
    expected = None
    for _ in range(3):
        versions = [uuid4() for _ in range(6)]

        def move(
            number: int, versions: list[UUID] = versions, expected: UUID | None = expected
        ) -> UUID:
            store.set_live("race", versions[number], expected=expected)
            return versions[number]

        (winner,) = winners(race(6, move))
        assert store.live("race") == winner
        expected = winner
    stale = uuid4()
    with pytest.raises(ConflictError, match=f"{stale}, somebody moved it to {expected}"):
        store.set_live("race", uuid4(), expected=stale)


def test_decisions_are_a_ledger(store: Store) -> None:
    first = store.append_decision("cluster:1", "rename", "pipes", author="ann", expected_version=0)
    second = store.append_decision(
        "cluster:1", "rename", "cables", author="bob", reason="they are", expected_version=1
    )
    assert (first.version, second.version) == (1, 2)
    assert store.decisions("cluster:1") == [second, first]
    store.append_decision("cluster:2", "rename", "x", author="ann", expected_version=0)
    assert store.decisions_of(["cluster:1", "cluster:9"]) == {"cluster:1": second}
    subjects = [decision.subject for decision in store.iter_decisions()]
    assert subjects.count("cluster:1") == 2
    assert subjects.count("cluster:2") == 1
    for expected in (1, 5):
        with pytest.raises(ConflictError, match=f"version {expected}, somebody moved it to 2"):
            store.append_decision(
                "cluster:1", "rename", "y", author="ann", expected_version=expected
            )


def test_of_racing_decisions_one_wins(store: Store) -> None:
    def decide(number: int) -> Any:
        return store.append_decision(
            "cluster:race", "rename", str(number), author="ann", expected_version=0
        )

    (winner,) = winners(race(8, decide))
    assert store.decisions("cluster:race") == [winner]


def a_job(**changes: Any) -> Job:
    job = Job(job_id=uuid4(), kind="ingest", parameters="{}", state="queued")
    return replace(job, **changes)


def test_jobs_come_newest_first(store: Store) -> None:
    jobs = [
        store.put_job(a_job(created_at=datetime.now(UTC) - timedelta(days=days)))
        for days in (40, 0, 5)
    ]
    wanted = [jobs[1].job_id, jobs[2].job_id, jobs[0].job_id]
    assert [job.job_id for job in store.jobs(100) if job.job_id in wanted] == wanted
    assert len(store.jobs(1)) == 1
    # Today and so many less one before, and no more.
    few = {each.job_id for each in store.jobs(100, days=5)}
    assert few & set(wanted) == {wanted[0]}
    few = {each.job_id for each in store.jobs(100, days=6)}
    assert few & set(wanted) == set(wanted[:2])
    assert store.job(wanted[0]).state == "queued"
    with pytest.raises(NotFoundError):
        store.job(uuid4())


def test_of_racing_engines_one_claims_a_job(store: Store) -> None:
    job = store.put_job(a_job())
    owners = [uuid4() for _ in range(8)]
    claims = race(8, lambda number: store.claim_job(job.job_id, owners[number]))
    assert sum(claims) == 1
    owner = owners[claims.index(True)]
    assert store.job(job.job_id).owner == owner
    assert store.put_job(job).state == "queued"  # queued once more, the claim stands
    assert store.job(job.job_id).state == "running"

    store.update_job(job.job_id, owner, step="decode", done=3, total=9)
    store.update_job(job.job_id, owner, done=4, rate=2.5)
    found = store.job(job.job_id)
    assert (found.step, found.done, found.total, found.rate) == ("decode", 4, 9, 2.5)
    assert (found.steps, found.cpu_s, found.peak_bytes, found.left_s) == ("", 0.0, 0, None)
    went = {"steps": "[]", "worked_s": 2.0, "cpu_s": 1.5, "peak_bytes": 2**40, "left_s": 9.0}
    store.update_job(job.job_id, owner, **went)
    store.update_job(job.job_id, owner, done=5)
    found = store.job(job.job_id)
    assert {name: getattr(found, name) for name in went} == went
    store.update_job(job.job_id, owner, left_s=None)
    assert store.job(job.job_id).left_s is None
    with pytest.raises(InputError, match="sped"):
        store.update_job(job.job_id, owner, sped=1)
    with pytest.raises(ConflictError, match="running for"):
        store.update_job(job.job_id, uuid4(), done=5)
    store.finish_job(job.job_id, owner, "done")
    store.finish_job(job.job_id, owner, "done")
    assert store.job(job.job_id).finished_at is not None
    with pytest.raises(ConflictError, match="it is done"):
        store.update_job(job.job_id, owner, done=5)
    assert store.cancel_job(job.job_id) is False
    with pytest.raises(InputError, match="gone"):
        store.finish_job(job.job_id, owner, "gone")


def test_a_cancelled_job_tells_its_owner(store: Store) -> None:
    job, owner = store.put_job(a_job()), uuid4()
    assert store.claim_job(job.job_id, owner)
    assert store.cancel_job(job.job_id) is True
    with pytest.raises(CancelledError):
        store.update_job(job.job_id, owner, done=1)
    store.finish_job(job.job_id, owner, "cancelled")
    with pytest.raises(CancelledError):
        store.finish_job(job.job_id, owner, "done")
    assert store.claim_job(job.job_id, uuid4()) is False
    with pytest.raises(NotFoundError):
        store.cancel_job(uuid4())


def test_a_silent_owner_loses_its_job_to_one(store: Store) -> None:
    job, owner = store.put_job(a_job()), uuid4()
    assert store.claim_job(job.job_id, owner)
    assert store.claim_job(job.job_id, uuid4(), stale_s=60) is False
    heirs = [uuid4() for _ in range(4)]
    claims = race(4, lambda number: store.claim_job(job.job_id, heirs[number], stale_s=0.0))
    # With no patience at all an heir may lose the job to the next one, but never to two.
    assert any(claims)
    holder = store.job(job.job_id).owner
    assert holder in heirs
    with pytest.raises(ConflictError):
        store.update_job(job.job_id, owner, done=1)


def test_services_vanish_when_they_stop(store: Store) -> None:
    host = Service(role="host", service_id=uuid4(), address="x:1", shards=(0, 2), pid=7)
    store.heartbeat(host, 60)
    brief = replace(host, service_id=uuid4())
    store.heartbeat(brief, 1)
    found = {service.service_id: service for service in store.services("host")}
    assert replace(found[host.service_id], seen_at=None) == host
    threading.Event().wait(2.1)
    assert [service.service_id for service in store.services("host")] == [host.service_id]
    store.withdraw("host", host.service_id)
    assert store.services("host") == []


# Maps and results


def a_map(rows: int) -> MapVersion:
    return MapVersion(
        map_id=uuid4(),
        model_id="m1",
        snapshot_id=uuid4(),
        rows=rows,
        rows_scored=rows,
        clusters=2,
        noise=1,
        seed=1,
        parameters="{}",
        quality={"recall": 0.5},
        code_version="1",
        created_at=NOW,
    )


def f32(value: float) -> float:
    return float(np.float32(value))


def test_maps_come_back_and_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cql.results.POINT_BUCKET", 50)
    version = a_map(120)
    points = [
        MapPoint(
            image_id=uuid4(),
            listing_id="l",
            x=f32(n / 120),
            y=0.5,
            cluster=n % 3 - 1,
            membership=0.25,
            outlier_score=0.5,
            knn_distance=1.5,
            glosh=0.0,
            soft_clusters=(1, 0)[: n % 3],
            soft_shares=(0.5, 0.25)[: n % 3],
            space=np.arange(n % 2 * 10, dtype="<f4").tobytes(),
        )
        for n in range(120)
    ]
    clusters = [
        Cluster(
            map_id=version.map_id,
            cluster=number,
            cluster_key=uuid4(),
            size=40,
            listings=1,
            name="pipes",
            exemplars=tuple(uuid4() for _ in range(number)),
            x=0.5,
            y=0.5,
            family=(None, 0)[number],
        )
        for number in range(2)
    ]
    groups = [
        Group(
            map_id=version.map_id,
            level=level,
            number=number,
            group_key=uuid4(),
            size=40,
            listings=1,
            clusters=2,
            name="pipes",
            parent=(0, None)[level - 1],
        )
        for level, number in ((1, 0), (1, 1), (2, 0))
    ]
    assert store.put_points(version.map_id, iter(points)) == 120
    store.put_clusters(clusters)
    assert store.put_groups(groups) == 3
    store.put_map(version)
    assert store.map(version.map_id) == version
    assert version in store.maps()
    found = list(store.points(version.map_id, 120))
    assert {point.image_id: point for point in found} == {point.image_id: point for point in points}
    assert store.clusters(version.map_id) == clusters
    assert store.groups(version.map_id) == groups
    store.delete_map(version.map_id)
    assert list(store.points(version.map_id, 120)) == []
    assert store.clusters(version.map_id) == []
    assert store.groups(version.map_id) == []
    with pytest.raises(NotFoundError):
        store.delete_map(version.map_id)
    with pytest.raises(InputError, match=r"x of image .* nan"):
        store.put_points(version.map_id, [replace(points[0], x=float("nan"))])


@pytest.mark.parametrize("count", [0, 1, 7, 250])
def test_outliers_come_in_rank_order_page_by_page(store: Store, count: int) -> None:
    map_id = uuid4()
    rows = [
        Outlier(
            map_id=map_id,
            score=f32((n % 40) / 40),
            image_id=uuid4(),
            listing_id="l",
            knn_distance=1.0,
            glosh=0.5,
            cluster=0,
            reason="far",
        )
        for n in range(count)
    ]
    assert store.put_outliers(map_id, iter(rows)) == count
    wanted = sorted(rows, key=lambda each: (-each.score, each.image_id.bytes))
    for limit in (1 if count < 10 else 9, 40, 1000):
        found: list[Outlier] = []
        state = None
        while True:
            page = store.outliers(map_id, limit=limit, page_state=state)
            assert len(page.rows) <= limit
            found += page.rows
            state = page.next_page
            if state is None:
                break
        assert found == wanted
    with pytest.raises(InputError, match="no page"):
        store.outliers(map_id, limit=5, page_state="x:y")


def test_a_comparison_comes_back_and_goes(store: Store) -> None:
    map_id, previous = uuid4(), uuid4()
    pair: dict[str, Any] = {"map_id": map_id, "previous": previous}
    summary = Comparison(
        **pair, rows_before=9, rows_after=12, added=4, removed=1, outliers=2, seed=1, created_at=NOW
    )
    changes = [
        ClusterChange(
            **pair, number=number, kind="kept", cluster_key=uuid4(), name="pipes", before=5,
            after=7, joined=3, added=2, departed=1, removed=1, parts="[]", exemplars=(uuid4(),),
            shift=0.25 if number else None, q=0.5 if number else None,
        )
        for number in range(2)
    ]  # fmt: skip
    odd = [
        NewOutlier(
            **pair, rank=rank, image_id=uuid4(), listing_id="l", score=1.0,
            score_before=0.25 if rank else None,
        )
        for rank in range(2)
    ]  # fmt: skip
    store.put_means(map_id, {0: b"abcd", 3: b"efgh"})
    store.put_comparison(summary, iter(changes), iter(odd))
    assert store.comparisons(map_id) == [summary]
    assert store.cluster_changes(map_id, previous) == changes
    assert store.new_outliers(map_id, previous, limit=9) == odd
    assert store.new_outliers(map_id, previous, limit=1) == odd[:1]
    assert store.means(map_id) == {0: b"abcd", 3: b"efgh"}
    store.delete_comparisons(map_id)
    assert store.comparisons(map_id) == []
    assert store.cluster_changes(map_id, previous) == []
    assert store.new_outliers(map_id, previous, limit=9) == []
    assert store.means(map_id) == {}


def a_query() -> Query:
    return Query(query_id=uuid4(), spec="{}", model_id="m1", snapshot_id=uuid4(), rows=9)


@pytest.mark.parametrize("size", [10, 32_000, 60_000, 2_000_000])
def test_a_query_may_have_many_examples(store: Store, size: int) -> None:
    """The vectors of some photos are more than Cassandra takes in a batch of two partitions."""
    asked = replace(a_query(), spec=json.dumps({"vectors": "v" * size}))
    query = store.put_query(asked)
    assert store.query(query.query_id) == query
    done = store.publish(query, uuid4(), [Hit(score=1.0, listing_id="l", image_id=uuid4())])
    assert store.query(query.query_id) == done
    assert done in store.queries()


def test_hits_come_back_in_clustering_order(store: Store) -> None:
    query = store.put_query(a_query())
    rng = np.random.default_rng(3)
    hits = [
        Hit(score=f32(rng.integers(-5, 5) / 7), listing_id=f"l{n:04}", image_id=uuid4())
        for n in range(1300)
    ]
    attempt = uuid4()
    done = store.publish(query, attempt, iter(hits))
    assert (done.state, done.attempt, done.hits) == ("done", attempt, 1300)
    assert store.query(query.query_id) == done
    wanted = sorted(hits, key=lambda hit: (-hit.score, hit.listing_id))
    assert store.hits(query.query_id, attempt, limit=5000) == wanted
    assert store.hits(query.query_id, attempt, limit=10) == wanted[:10]
    assert store.hits(query.query_id, attempt, limit=0) == []
    paged: list[Hit] = []
    while page := store.hits(query.query_id, attempt, limit=97, after=paged[-1] if paged else None):
        paged += page
    assert paged == wanted


def test_hits_of_long_ids_are_written_in_several_batches(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ids of 30 kB: 60 rows are fewer than a batch may have, and more bytes than it may."""
    sizes: list[int] = []
    grouped = access._grouped

    def counted(prepared: Any, rows: Any) -> Any:
        sizes.append(len(rows))
        return grouped(prepared, rows)

    monkeypatch.setattr(access, "_grouped", counted)
    query = store.put_query(a_query())
    hits = [
        Hit(score=f32(-n), listing_id=f"{n:03}".ljust(30_000, "x"), image_id=uuid4())
        for n in range(60)
    ]
    done = store.publish(query, attempt := uuid4(), hits)
    assert done.hits == 60
    assert store.hits(query.query_id, attempt, limit=100) == hits
    assert sizes == [access.BATCH_BYTES // 30_000] * 20


def test_hits_keep_what_was_read_about_stock(store: Store) -> None:
    query = store.put_query(a_query())
    hits = [
        Hit(score=3.0, listing_id="a", image_id=uuid4(), inventory=0, stock_read_at=NOW),
        Hit(score=2.0, listing_id="b", image_id=uuid4(), stock_read_at=NOW),
        Hit(score=1.0, listing_id="c", image_id=uuid4()),
    ]
    store.publish(query, attempt := uuid4(), hits)
    assert store.hits(query.query_id, attempt, limit=9) == hits
    assert store.hits(query.query_id, attempt, limit=9, after=hits[0]) == hits[1:]


def test_what_is_published_is_read_back_in_cassandras_order(store: Store) -> None:
    """Ties by listing, in the order of bytes; a missing row is missing; a score of -0 is 0."""
    names = ["b", "a", "é", "z", "\U0001f600", "\uffff"]
    hits = [
        Hit(score=score, listing_id=f"{name}{score:g}", image_id=uuid4(), inventory=stock)
        for score, stock in ((0.5, None), (-0.0, 3), (2.0, 0))
        for name in names
    ]
    wanted = sorted(hits, key=lambda hit: (-hit.score, hit.listing_id.encode()))
    query, attempt = a_query(), uuid4()
    done, seen = store.publish_and_read(query, attempt, hits, limit=100)
    assert seen == wanted == store.hits(query.query_id, attempt, limit=100)
    assert store.query(query.query_id) == done
    assert store.queries(1)[0].query_id == query.query_id
    assert store.publish_and_read(query, uuid4(), hits, limit=4)[1] == wanted[:4]
    assert store.publish_and_read(query, uuid4(), [], limit=4)[1] == []
    again, few = store.publish_and_read(query, other := uuid4(), hits[:2], limit=9)
    assert (again.attempt, again.hits, len(few)) == (other, 2, 2)


def test_a_query_gets_another_name_until_it_expires(store: Store) -> None:
    query = store.put_query(replace(a_query(), name="trucks"))
    other = store.put_query(a_query())
    done = store.publish(query, uuid4(), [])
    renamed = store.rename_query(query.query_id, "red trucks, été")
    assert renamed == replace(done, name="red trucks, été")
    assert store.query(query.query_id) == renamed
    assert store.query(other.query_id) == other
    days = store._session.execute(
        f"SELECT query_id, created_at, name, TTL(name) AS ttl FROM "
        f"{store.settings.results_keyspace}.queries_by_day"
    )
    (row,) = [row for row in days if row.query_id == query.query_id]
    assert (row.name, utc(row.created_at)) == (renamed.name, query.created_at)
    assert 0 < row.ttl < store.settings.query_ttl_days * 86_400
    assert store.rename_query(query.query_id, "").name == ""
    assert store.rename_query(query.query_id, "x" * 120).name == "x" * 120


def test_a_name_leaves_with_its_query(store: Store) -> None:
    query = store.put_query(a_query())
    results = store.settings.results_keyspace
    columns = "query_id, spec, model_id, snapshot_id, name, created_at"
    store._session.execute(
        f"INSERT INTO {results}.queries ({columns}) VALUES (%s, '{{}}', 'm', %s, '', %s) "
        "USING TTL 8",
        (short := uuid4(), uuid4(), query.created_at),
    )
    store.rename_query(short, "soon gone")
    assert store.query(short).name == "soon gone"
    deadline = time.monotonic() + 60
    while (row := store._access.one(cql.QUERY, short)) is not None:
        assert row.spec is not None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    with pytest.raises(NotFoundError):
        store.rename_query(short, "again")


@pytest.mark.parametrize("name", ["x" * 121, "a\x00b", "two\nlines", "\u202etxt"])
def test_a_query_name_is_short_and_printable(store: Store, name: str) -> None:
    query = store.put_query(a_query())
    with pytest.raises(InputError, match="a query's name"):
        store.rename_query(query.query_id, name)
    assert store.query(query.query_id) == query
    with pytest.raises(NotFoundError):
        store.rename_query(uuid4(), "none")


def test_a_reader_sees_all_hits_of_an_attempt_or_none(store: Store) -> None:
    query = store.put_query(a_query())
    seen: list[int] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            now = store.query(query.query_id)
            if now.attempt is not None:
                seen.append(len(store.hits_of(now, limit=5000)) - now.hits)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for count in (1500, 0, 900):
            hits = [Hit(score=1.0, listing_id=f"l{n}", image_id=uuid4()) for n in range(count)]
            store.publish(query, uuid4(), hits)
    finally:
        stop.set()
        reader.join()
    assert set(seen) <= {0}


@pytest.mark.parametrize("limit", [10, 1300, 5000])
@pytest.mark.parametrize("lost", [0, 700, 1299])
def test_a_result_of_which_hits_were_lost_is_gone_for_readers(
    store: Store, limit: int, lost: int
) -> None:
    """As after a restart of Cassandra, which keeps what it had flushed and forgets the rest."""
    hits = [Hit(score=f32(-n), listing_id=f"l{n:04}", image_id=uuid4()) for n in range(1300)]
    done = store.publish(a_query(), uuid4(), hits)
    assert store.hits_of(done, limit=limit) == hits[:limit]
    later = store.hits_of(done, limit=limit, after=hits[1199], read=1200)
    assert later == hits[1200 : 1200 + limit]
    assert store.hits_of(done, limit=limit, after=hits[1299], read=1300) == []
    store._session.execute(
        f"DELETE FROM {store.settings.results_keyspace}.query_results WHERE query_id = %s AND "
        "attempt = %s AND score = %s AND listing_id = %s",
        (done.query_id, done.attempt, hits[lost].score, hits[lost].listing_id),
    )
    with pytest.raises(NotFoundError, match=r"1300 hits.*may have expired, search again"):
        store.hits_of(done, limit=limit)
    store._session.execute(
        f"DELETE FROM {store.settings.results_keyspace}.query_results WHERE query_id = %s AND "
        "attempt = %s",
        (done.query_id, done.attempt),
    )
    with pytest.raises(NotFoundError, match="search again"):
        store.hits_of(done, limit=limit)


def test_an_empty_result_is_whole_and_a_query_that_runs_has_none(store: Store) -> None:
    running = store.put_query(a_query())
    assert store.hits_of(running, limit=9) == []
    done = store.publish(running, uuid4(), [])
    assert store.hits_of(done, limit=9) == []
    assert store.hits_of(done, limit=0) == []


@pytest.mark.parametrize("score", [float("nan"), float("inf")])
def test_a_score_that_is_no_number_is_refused(store: Store, score: float) -> None:
    query = store.put_query(a_query())
    with pytest.raises(InputError, match="finite"):
        store.publish(query, uuid4(), [Hit(score=score, listing_id="l", image_id=uuid4())])
    assert store.query(query.query_id).attempt is None


def test_a_listing_is_one_hit(store: Store) -> None:
    hits = [Hit(score=1.0, listing_id="l", image_id=uuid4()) for _ in range(2)]
    with pytest.raises(InputError, match="2 hits of 1"):
        store.publish(store.put_query(a_query()), uuid4(), hits)


def test_queries_come_newest_first_once_each(store: Store) -> None:
    queries = [store.put_query(replace(a_query(), created_at=NOW.replace(year=NOW.year - 1)))] + [
        store.put_query(a_query()) for _ in range(3)
    ]
    store.publish(queries[1], uuid4(), [])
    found = [query.query_id for query in store.queries(1000)]
    assert len(found) == len(set(found))
    recent = [query.query_id for query in queries[1:]]
    assert sorted(found.index(each) for each in recent) == list(range(3))
    with pytest.raises(NotFoundError):
        store.query(uuid4())
