"""Images placed on the live map: over hosts in this process, against naive loops."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4, uuid5

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics.analysis import analyse
from analytics.making import latecomers
from analytics.making.latecomers import Latecomers, nearest
from analytics.making.resize import resize
from analytics.maps.appended import Tables
from analytics.maps.regions import Selection
from analytics.search import Request, Searcher
from analytics.tiles import MapTable
from cql import codec
from cql.errors import ConflictError, InputError, NotFoundError, UnavailableError
from cql.progress import CancelledError
from cql.records import NAMESPACE, Change, Feature, Listing, MapVersion
from cql.store import Store
from tests.analytics.conftest import MODEL, World
from tests.analytics.test_analysis import QUICK, blobs
from tests.waiting import until

Make = Callable[..., World]


class Scene:
    """A collection with a live map, and images that come."""

    def __init__(self, one: World, *, size: int = 30, cuts: int = 2, host: bool = True) -> None:
        self.one, self.store = one, cast("Store", one.store)
        vectors, labels = blobs(size=size + 4)
        kept = np.arange(len(labels)) % (size + 4) < size
        self.old, self.new = vectors[kept], vectors[~kept]
        self.group = np.array(labels)[~kept]
        one.fill(self.old, [f"l{n // 3:03d}" for n in range(len(self.old))], cuts=cuts)
        if host:
            one.host()
        self.searcher = Searcher(one.settings, self.store)
        self.late = Latecomers(one.settings, self.store, self.searcher)

    @property
    def request(self) -> Request:
        """A search for all that was placed on the map."""
        return Request(
            image_ids=(self.one.images[0],),
            k=200,
            exclude=False,
            selection=Selection((), {"placed": ("1",)}),
        )

    def analyse(self) -> MapVersion:
        return analyse(None, self.one.settings, self.store, model_id=MODEL, parameters=QUICK)

    def come(
        self, vectors: NDArray[np.float32], *, model: str = MODEL, name: str = "new"
    ) -> list[UUID]:
        """New images with features, each of a listing of its own, as the log tells of them."""
        blobs_, crcs = codec.encode(np.ascontiguousarray(vectors, np.float32))
        images = []
        for row, (blob, crc) in enumerate(zip(blobs_, crcs, strict=True)):
            listing = f"{name}-{row:04d}"
            image = uuid5(NAMESPACE, f"{listing}-{model}")
            self.one.store.titles[listing] = Listing(listing_id=listing, attributes={"k": "v"})
            self.one.store.features.setdefault(listing, []).append(
                Feature(
                    listing_id=listing, model_id=model, image_id=image, vector=blob,
                    dim=vectors.shape[1], crc32c=crc,
                )
            )  # fmt: skip
            self.log(listing, image)
            images.append(image)
        return images

    def log(self, listing: str, image: UUID, at: datetime | None = None) -> None:
        self.one.store.log.append(
            Change(
                at=at or datetime.now(UTC), change_id=uuid4(), kind="feature_added",
                listing_id=listing, image_id=image,
            )
        )  # fmt: skip

    def table(self) -> MapTable:
        live = self.one.store.live("map")
        assert live is not None
        return Tables(self.one.settings, self.store).table(live)

    def rows(self, images: Sequence[UUID]) -> NDArray[np.int64]:
        raw = np.frombuffer(b"".join(image.bytes for image in images), np.uint8)
        return self.table().rows_of(raw.reshape(-1, 16))


@pytest.fixture
def scene(world: Make) -> Scene:
    made = Scene(world())
    made.analyse()
    return made


def test_new_images_lie_in_their_clusters_and_nothing_else_moves(scene: Scene) -> None:
    before = scene.table()
    images = scene.come(scene.new)
    said: list[tuple[str, int, int]] = []
    assert scene.late.place(progress=lambda *call: said.append(call[:3])) == len(images)
    assert said[0] == ("place", 0, 12)
    assert said[-1] == ("place", 12, 12)
    table = scene.table()
    assert (table.made, table.rows) == (90, 102)
    for name in ("x", "y", "cluster_number", "membership", "outlier_score", "knn_distance"):
        kept, was = table.held(name), before.held(name)
        assert kept is not None
        assert was is not None
        assert np.array_equal(kept[:90], was), name
    at = scene.rows(images)
    assert sorted(at.tolist()) == list(range(90, 102))
    own = table.rows_of(np.frombuffer(
        b"".join(image.bytes for image in scene.one.images), np.uint8
    ).reshape(-1, 16))  # fmt: skip
    # Naive: the cluster and the knn distance of the brute-force neighbours.
    for row, vector, group in zip(at.tolist(), scene.new, scene.group.tolist(), strict=True):
        gap = np.sqrt(((scene.old.astype(np.float64) - vector) ** 2).sum(axis=1))
        order = np.argsort(gap)
        near = own[order[:10]]
        clusters = table.clusters[near].tolist()
        assert table.clusters[row] == max(set(clusters), key=clusters.count) != -1
        assert table.numbers("knn_distance")[row] == pytest.approx(gap[order[:10]].mean(), 1e-4)
        score = (table.numbers("knn_distance")[:90] <= table.numbers("knn_distance")[row]).mean()
        assert table.numbers("outlier_score")[row] == pytest.approx(max(score, 1 / 90), abs=1e-6)
        mates = own[np.flatnonzero(np.arange(90) // 30 == group)]
        middle, reach = table.placed[mates].mean(axis=0), np.ptp(table.placed[mates], axis=0).max()
        assert np.hypot(*(table.placed[row] - middle)) < 1.5 * reach
    assert np.isnan(table.numbers("trust")[90:]).all()
    assert (table.placed >= 0).all()
    assert (table.placed < 1).all()
    assert scene.late.place() == 0


def test_one_new_image_and_a_copy_of_an_old_one(scene: Scene) -> None:
    (image,) = scene.come(scene.old[[41]])
    assert scene.late.place() == 1
    table = scene.table()
    twin = table.row_of(scene.one.images[41])
    assert np.hypot(*(table.placed[table.row_of(image)] - table.placed[twin])) < 0.01
    assert table.clusters[table.row_of(image)] == table.clusters[twin]


def test_a_copy_of_an_image_that_came_later_lies_at_its_place(scene: Scene) -> None:
    (first,) = scene.come(scene.new[:1], name="first")
    assert scene.late.place() == 1
    (second,) = scene.come(scene.new[:1], name="second")
    assert scene.late.place() == 1
    placed = scene.table().placed[scene.rows([first, second])]
    assert np.array_equal(placed[0], placed[1])


def test_without_a_map_nothing_is_placed_and_the_first_one_has_all(world: Make) -> None:
    scene = Scene(world())
    scene.come(scene.new)
    assert scene.late.place() == 0
    scene.analyse()
    # They came after the snapshot that the map is of.
    assert scene.late.place() == 12
    assert scene.table().rows == 102


def test_features_of_another_model_are_left_alone(scene: Scene) -> None:
    images = scene.come(scene.new, model="other@1")
    assert scene.late.place() == 0
    assert (scene.rows(images) == -1).all()
    assert scene.one.store.placed_ == {}


def test_an_image_that_was_deleted_again_is_not_placed(scene: Scene) -> None:
    images = scene.come(scene.new[:3])
    del scene.one.store.features["new-0001"]
    assert scene.late.place() == 2
    assert (scene.rows(images) >= 0).tolist() == [True, False, True]
    # Deleted after it was placed: the map keeps its row, searches leave it out, as of any image.
    del scene.one.store.features["new-0000"]
    scene.one.store.note("image_deleted", "new-0000")
    assert scene.late.place() == 0
    request = Request(image_ids=(scene.one.images[0],), k=100, exclude=False)

    def seen() -> set[str]:
        return {hit.listing_id for hit in scene.searcher.search(request).hits}

    # Hosts take in the change log a moment later, the image that came before the one that went.
    until(lambda: "new-0002" in seen() and "new-0000" not in seen())


def test_a_new_analysis_forgets_what_was_placed_and_deleted(scene: Scene) -> None:
    old = scene.one.store.live("map")
    images = scene.come(scene.new[:2])
    for listing in ("new-0000", "new-0001"):
        del scene.one.store.titles[listing]  # of which a map's identity would speak
    assert scene.late.place() == 2
    assert scene.analyse().map_id == old  # both are there: nothing new is known
    del scene.one.store.features["new-0000"]
    made = scene.analyse()
    assert made.map_id != old
    assert made.rows == 90
    assert (scene.rows(images) < 0).all()
    assert scene.analyse().map_id == made.map_id
    assert Latecomers(scene.one.settings, scene.store, scene.searcher).place() == 1
    assert (scene.rows(images) >= 0).tolist() == [False, True]


def test_a_damaged_feature_keeps_nobody_else_off_the_map(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    images = scene.come(scene.new[:3])
    (held,) = scene.one.store.features["new-0001"]
    scene.one.store.features["new-0001"] = [replace(held, crc32c=held.crc32c ^ 1)]
    assert scene.late.place() == 2
    assert f"image {images[1]} is not placed" in caplog.text
    assert (scene.rows(images) >= 0).tolist() == [True, False, True]


def test_the_next_map_has_them_as_all_others(scene: Scene) -> None:
    images = scene.come(scene.new)
    scene.late.place()
    one = scene.one
    vectors, owners = np.concatenate([scene.old, scene.new]), one.owners
    held = [*one.images, *images]
    names = [f"new-{row:04d}" for row in range(len(images))]
    one.vectors, one.owners, one.images = vectors, [*owners, *names], held
    one.cut(2)
    first = one.store.live("map")
    until(scene.searcher.ready)
    made = scene.analyse()
    assert made.map_id != first
    assert (made.rows, made.rows_scored) == (102, 102)
    assert scene.late.place() == 0
    table = scene.table()
    assert (table.made, table.rows) == (102, 102)
    assert not np.isnan(table.numbers("trust")).any()


def test_another_size_of_clusters_gets_them_again(scene: Scene) -> None:
    images = scene.come(scene.new)
    scene.late.place()
    made = resize(scene.one.settings, scene.store, 12)
    assert made.watermark is not None
    assert (scene.rows(images) == -1).all()
    assert scene.late.place() == 12
    assert (scene.rows(images) >= 0).all()


def test_searches_by_a_selection_find_what_was_placed(scene: Scene) -> None:
    images = scene.come(scene.new)
    request = scene.request
    scene.late.place()
    wanted = {f"new-{row:04d}" for row in range(len(images))}
    until(lambda: {hit.listing_id for hit in scene.searcher.search(request).hits} == wanted)


def test_a_selection_is_about_the_map_that_is_live_when_it_is_asked(scene: Scene) -> None:
    """That of the query before is taken on trust; what comes of it does not count if it moved."""
    images = scene.come(scene.new)
    request = scene.request
    scene.late.place()
    wanted = {f"new-{row:04d}" for row in range(len(images))}

    def found() -> set[str]:
        try:
            return {hit.listing_id for hit in scene.searcher.search(request).hits}
        except InputError:  # hosts have not seen yet that anything was placed
            return set()

    until(lambda: found() == wanted)
    first = scene.one.store.live("map")
    assert first is not None
    made = resize(scene.one.settings, scene.store, 12)
    assert found() == set()
    scene.late.place()
    until(lambda: found() == wanted)
    for map_id in (first, made.map_id, first):
        scene.one.store.pointers["map"] = map_id
        assert str(map_id) in scene.searcher.search(request).query.spec
        assert found() == wanted


def test_blocks_are_whole_and_a_later_run_goes_on(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(latecomers, "BLOCK", 5)
    images = scene.come(scene.new)

    def stop(step: str, done: int, total: int, message: str = "") -> None:
        del step, total, message
        if done == 5:
            raise CancelledError("stop")

    with pytest.raises(CancelledError):
        scene.late.place(progress=stop)
    assert (scene.rows(images) >= 0).sum() == 5
    # Another engine, which knows nothing of the first.
    other = Latecomers(scene.one.settings, scene.store, scene.searcher)
    assert other.place() == 7
    assert sorted(scene.rows(images).tolist()) == list(range(90, 102))
    batches = scene.one.store.placed_batches(scene.table().version.map_id)
    assert [(batch.first, batch.rows) for batch in batches] == [(0, 5), (5, 5), (10, 2)]
    assert batches[0].read_to == batches[1].read_to < batches[2].read_to
    assert scene.late.place() == other.place() == 0


def test_of_two_engines_one_places_an_image(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    images = scene.come(scene.new)
    other = Latecomers(scene.one.settings, scene.store, scene.searcher)
    append = scene.one.store.append_placed

    def late(batch: Any, points: Any) -> None:
        monkeypatch.setattr(scene.one.store, "append_placed", append)
        assert other.place() == 12
        append(batch, points)

    monkeypatch.setattr(scene.one.store, "append_placed", late)
    assert scene.late.place() == 0
    assert scene.late.place() == 0
    assert sorted(scene.rows(images).tolist()) == list(range(90, 102))
    with pytest.raises(ConflictError):
        append(scene.one.store.placed_batches(scene.table().version.map_id)[0], [])


def test_a_failure_leaves_the_map_as_it_was(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    before = scene.table()
    images = scene.come(scene.new)
    scene.one.close()
    with monkeypatch.context() as impatient:
        settings = scene.one.settings.replace(query_deadline_s=0.5)
        impatient.setattr(scene.searcher, "_settings", settings)
        with pytest.raises(UnavailableError):
            scene.late.place()
    assert scene.table().rows == before.rows
    scene.one.host()
    until(scene.searcher.ready)
    assert scene.late.place() == 12
    assert (scene.rows(images) >= 0).all()


def test_a_map_without_the_space_of_its_clusters_says_so(scene: Scene) -> None:
    live = scene.table().version.map_id
    for path in (scene.one.settings.data_dir / "maps").glob("*.tree.arrow"):
        path.unlink()
    points = scene.one.store.map_points[live]
    scene.one.store.map_points[live] = [replace(point, space=b"") for point in points]
    scene.come(scene.new)
    with pytest.raises(NotFoundError, match="space of its clusters"):
        scene.late.place()
    assert scene.table().rows == 90


def test_an_older_map_says_no_watermark(scene: Scene) -> None:
    one = scene.one
    version = replace(scene.table().version, watermark=None)
    one.store.put_map(version)
    snapshot = one.store.snapshot(version.snapshot_id)
    assert latecomers._begin(scene.store, version) == snapshot.watermark
    # Nor is its snapshot there any more: a day is read again.
    one.store.put_map(replace(version, snapshot_id=uuid4()))
    images = scene.come(scene.new[:3])
    for place, hours in ((-2, 5), (-1, 30)):
        at = version.created_at - timedelta(hours=hours)
        one.store.log[place] = replace(one.store.log[place], at=at)
    assert scene.late.place() == 2
    assert (scene.rows(images) >= 0).tolist() == [True, True, False]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_maps_of_hardly_any_images(world: Make, count: int) -> None:
    one = world()
    vectors, _ = blobs(size=10)
    one.fill(vectors[:count], [f"l{n}" for n in range(count)])
    one.host()
    scene = Scene.__new__(Scene)
    scene.one, scene.store = one, cast("Store", one.store)
    scene.searcher = Searcher(one.settings, scene.store)
    scene.late = Latecomers(one.settings, scene.store, scene.searcher)
    scene.analyse()
    images = scene.come(vectors[count : count + 3])
    assert scene.late.place() == 3
    table = scene.table()
    assert (table.rows, sorted(scene.rows(images).tolist())) == (
        count + 3, list(range(count, count + 3)),
    )  # fmt: skip
    assert np.isfinite(table.placed).all()
    assert set(table.clusters[count:].tolist()) == ({-1} if count == 1 else {0})


def test_more_is_asked_for_where_the_nearest_are_not_on_the_map(world: Make) -> None:
    scene = Scene(world())
    scene.analyse()
    # A new snapshot with 60 images, all alike, which are not on the map.
    one, rng = scene.one, np.random.default_rng(5)
    alike = scene.new[:1] + rng.normal(scale=1e-3, size=(60, scene.new.shape[1]))
    alike = (alike / np.linalg.norm(alike, axis=1, keepdims=True)).astype(np.float32)
    images = scene.come(alike, name="alike")
    one.vectors = np.concatenate([scene.old, alike])
    one.owners = [*one.owners, *(f"alike-{row:04d}" for row in range(60))]
    one.images = [*one.images, *images]
    one.cut(2)
    until(scene.searcher.ready)
    rows, gaps = nearest(scene.searcher, MODEL, alike[:2], scene.table(), 10)
    exact = np.sqrt(((scene.old[None].astype(np.float64) - alike[:2, None]) ** 2).sum(axis=2))
    assert np.allclose(gaps, np.sort(exact, axis=1)[:, :10], atol=1e-4)
    own = [scene.table().row_of(one.images[at]) for at in np.argsort(exact[0])[:10]]
    assert rows[0].tolist() == own
    assert scene.late.place() == 60
