"""Merge, split, label, spread, undo and history over a collection in memory, with the real map."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4, uuid5

import numpy as np
import pytest
from starlette.testclient import TestClient

from analytics.decisions import decided
from analytics.maps.regions import Selection
from cql.errors import ConflictError, InputError, NotFoundError
from cql.records import NAMESPACE
from cql.settings import Settings
from dashboard import app, doubles
from dashboard.decisions import Decisions
from dashboard.services import Services
from tests.dashboard.memory import MemorySearcher, MemoryStore, collection

BASE = "http://127.0.0.1:8050/api/v1"


class World:
    """Services over a store in memory; `other` is a second web worker."""

    def __init__(self, folder: Path) -> None:
        self.store, self.searcher = collection(40)
        self.settings = Settings(data_dir=folder)
        self.services = self.worker()
        self.other = self.worker()

    def worker(self) -> Services:
        searcher: Any = self.searcher
        store: Any = self.store
        return Services(self.settings, store, searcher)

    @property
    def decisions(self) -> Decisions:
        return self.services.decisions

    def key(self, number: int) -> UUID:
        return self.store.clusters_[number].cluster_key

    def images_in(self, number: int) -> list[UUID]:
        return [p.image_id for p in self.store.points_ if p.cluster == number]

    def sets(self, services: Services | None = None) -> dict[UUID, set[UUID]]:
        """Images of each cluster, by asking for all of them."""
        asked = services or self.services
        found = {}
        for cluster in asked.clusters():
            page = asked.select({"filters": {"cluster": [str(cluster.cluster)]}}, limit=500)
            assert page.count == cluster.size
            found[cluster.key] = {row.image_id for row in page.rows}
        return found

    def merge(self, *numbers: int, name: str = "", author: str = "ann") -> Any:
        keys = [self.key(number) for number in numbers]
        seen = self.decisions.merge_preview(keys)
        return self.decisions.merge(
            keys, author=author, versions=seen.versions, name=name,
            name_version=seen.name_version,
        )  # fmt: skip

    def split(self, images: list[UUID], name: str = "Part", key: UUID | None = None) -> Any:
        seen = self.decisions.split_preview(Selection(), images=images, key=key)
        return self.decisions.split(
            Selection(), images=images, key=key, name=name, author="ann", versions=seen.versions
        )

    def new_map(self, turn: Callable[[Any], Any], *, name: str = "next") -> None:
        """Analyse again: every point is turned into another, clusters keep their keys."""
        map_id = uuid5(NAMESPACE, name)
        self.store.points_ = [turn(point) for point in self.store.points_]
        assert self.store.version is not None
        rows = len(self.store.points_)
        self.store.version = replace(self.store.version, map_id=map_id, rows=rows, rows_scored=rows)
        held: dict[int, list[Any]] = {}
        for point in self.store.points_:
            held.setdefault(point.cluster, []).append(point)
        self.store.clusters_ = [
            replace(
                cluster, map_id=map_id, size=len(held[cluster.cluster]),
                exemplars=tuple(p.image_id for p in held[cluster.cluster][:6]),
            )
            for cluster in self.store.clusters_
            if cluster.cluster in held
        ]  # fmt: skip
        self.services, self.other = self.worker(), self.worker()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def client(world: World) -> Iterator[TestClient]:
    with TestClient(app.create(world.settings, world.services).server, base_url=BASE) as made:
        yield made


def test_merged_clusters_are_one_everywhere(world: World) -> None:
    plain = world.sets()
    seen = world.decisions.merge_preview([world.key(1), world.key(0)])
    both = plain[world.key(0)] | plain[world.key(1)]
    assert seen.images == len(both)
    assert seen.listings == len({world.store.images[image].listing_id for image in both})
    done = world.merge(0, 1, name="Gas")
    found = world.sets()
    assert found == {
        seen.into: both, **{key: plain[key] for key in plain if key not in seen.keys}
    }  # fmt: skip
    cluster = world.services.clusters()[0]
    assert (cluster.name, cluster.size, cluster.listings) == ("Gas", len(both), seen.listings)
    assert set(cluster.exemplars) <= both
    (merged,) = cluster.merged
    # The other worker, the page of the merged cluster, colours, facets, details and hovers.
    assert world.sets(world.other) == found
    assert world.services.cluster(merged).cluster == cluster
    column = next(c for c in world.services.columns() if c.name == "cluster")
    assert dict(zip(column.keys, column.labels, strict=True))[str(cluster.cluster)] == "Gas"
    facet = next(f for f in world.services.facets(None) if f.name == "cluster")
    assert sorted(v.count for v in facet.values) == sorted(
        [*map(len, found.values()), 120 - sum(map(len, found.values()))]
    )
    assert all(value.value and value.count == value.total for value in facet.values)
    image = next(iter(plain[merged]))
    assert world.services.image(image).cluster_name == "Gas"
    assert world.services.rows([world.services.row_of([image])[image]])[0].cluster_name == "Gas"
    ranked = {o.image_id: o.cluster_name for o in world.services.outliers(limit=120).outliers}
    assert {ranked[each] for each in both} == {"Gas"}
    world.services.undo(done.subject, author="ann", expected_version=1)
    assert world.sets() == plain
    assert {c.name for c in world.services.clusters()} == {f"Group {n}" for n in range(5)}


def test_shares_of_merged_clusters_add_up(world: World) -> None:
    point = world.store.points_[0]
    world.store.points_[0] = replace(
        point, soft_clusters=(2, 0, 1), soft_shares=(0.375, 0.25, 0.25)
    )
    before = world.services.image(point.image_id).shares
    assert [(each.key, each.share) for each in before] == [
        (world.key(2), 0.375), (world.key(0), 0.25), (world.key(1), 0.25),
    ]  # fmt: skip
    world.merge(0, 1, name="Gas")
    (cluster,) = [each for each in world.services.clusters() if each.merged]
    after = world.services.image(point.image_id).shares
    assert [(each.key, each.name, each.share) for each in after] == [
        (cluster.key, "Gas", 0.5), (world.key(2), before[0].name, 0.375),
    ]  # fmt: skip
    world.split(world.images_in(2)[:5], "Joints")
    assert {each.key: each.share for each in world.services.image(point.image_id).shares} == {
        cluster.key: 0.5, world.key(2): 0.375,
    }  # fmt: skip


def test_merged_and_split_clusters_stay_in_their_group(world: World) -> None:
    world.store.clusters_ = [
        replace(cluster, family=number % 2) for number, cluster in enumerate(world.store.clusters_)
    ]
    families = {each.cluster_key: each.family for each in world.store.clusters_}
    world.merge(0, 1)
    world.split(world.images_in(3)[:6], "Joints")
    shown = {each.key: each for each in world.services.clusters()}
    (part,) = [each for each in shown.values() if each.origin is not None]
    assert (part.origin, part.group) == (world.key(3), 1)
    assert all(each.group == families[each.key] for each in shown.values() if each != part)
    # A part of a part is in the group of the cluster that it came from.
    again = world.split(world.images_in(3)[:2], "Small", key=part.key)
    found = {each.name: each for each in world.services.clusters()}["Small"]
    assert found.group == 1, again


def test_tiles_say_the_same_after_a_merge_as_columns_do(world: World) -> None:
    before = world.services.tile_version("cluster", world.services.map().map_id)
    other = world.services.tile_version("membership", world.services.map().map_id)
    world.merge(0, 1)
    world.services = world.worker()
    assert world.services.tile_version("cluster", world.services.map().map_id) != before
    assert world.services.tile_version("membership", world.services.map().map_id) == other
    body = world.services.tile(0, 0, 0)
    count = int.from_bytes(body[4:8], "little")
    rows = np.frombuffer(body, "<u4", count, 16 + 8 * count)
    codes = np.frombuffer(body, "<f4", count, 16 + 12 * count).astype(int)
    column = next(c for c in world.services.columns() if c.name == "cluster")
    described = world.services.rows([int(row) for row in rows[:200]])
    for code, row in zip(codes, described, strict=False):
        assert column.labels[code] == row.cluster_name
        assert column.keys[code]
    # Codes of clusters that nobody touched stay, so an older tile still tells the truth.
    assert [column.keys[n] for n in (2, 3, 4)] == ["2", "3", "4"]


@pytest.mark.parametrize("kind", ["rename", "verdict", "label", "merge", "split", "duplicates"])
def test_of_two_who_decide_at_once_one_sees_both_versions(world: World, kind: str) -> None:
    image, keys = world.images_in(0)[0], [world.key(0), world.key(1)]
    merging = world.decisions.merge_preview(keys)
    chosen = world.images_in(2)[:5]
    splitting = world.decisions.split_preview(Selection(), images=chosen)
    workers = {"ann": world.services, "bob": world.other}
    verdicts = {"ann": "outlier", "bob": "fine"}
    barrier = threading.Barrier(2)

    def decide(name: str) -> Any:
        services = workers[name]
        acts: dict[str, Callable[[], Any]] = {
            "rename": lambda: services.rename_cluster(
                keys[0], f"of {name}", author=name, expected_version=0
            ),
            "verdict": lambda: services.set_verdict(
                image, verdicts[name], author=name, expected_version=0
            ),
            "label": lambda: services.decisions.set_label(
                image, f"of {name}", author=name, expected_version=0
            ),
            "merge": lambda: services.decisions.merge(
                keys, author=name, versions=merging.versions, name=f"of {name}"
            ),
            "split": lambda: services.decisions.split(
                Selection(), images=chosen, name=f"of {name}", author=name,
                versions=splitting.versions,
            ),
            "duplicates": lambda: world.store.append_decision(
                "duplicates:group", "duplicates", f"of {name}", author=name, expected_version=0
            ),
        }  # fmt: skip
        barrier.wait()
        try:
            return acts[kind]()
        except ConflictError as error:
            return error

    with ThreadPoolExecutor(2) as pool:
        done = dict(zip(workers, pool.map(decide, workers), strict=True))
    (loser,) = [name for name, each in done.items() if isinstance(each, ConflictError)]
    winner = "bob" if loser == "ann" else "ann"
    error = done[loser]
    assert (error.expected, error.found) == ("0", "1")
    assert f"by {winner}); yours was " in str(error)
    assert f" by {loser}: read it again" in str(error)
    # What the winner decided stands, whole, and nothing of the loser's.
    authors = {each.author for each in world.store.iter_decisions()}
    assert authors == {winner}


def test_a_merge_is_made_whole_or_not_at_all(world: World) -> None:
    world.merge(2, 3, author="ann")
    with pytest.raises(ConflictError, match=r"“.*” by ann\); yours was “.*” by bob"):
        world.decisions._together(  # as of a preview before ann's
            [
                *_wanted(world, 4, world.key(0)),
                *_wanted(world, 3, world.key(2)),
            ],
            kind="merge", author="bob", reason="",
        )  # fmt: skip
    # What stood beside the conflict was taken back.
    assert world.key(4) in world.sets()


def _wanted(world: World, number: int, into: UUID) -> list[Any]:
    from cql.ledger import Wanted

    subject = decided.subject_of("merge", world.key(number))
    return [Wanted(subject=subject, kind="merge", value=str(into), expected_version=0)]


@pytest.mark.parametrize("at", ["before", "during"])
@pytest.mark.parametrize("act", ["merge into", "merge away", "split"])
def test_a_merge_is_of_what_its_preview_showed(
    world: World, monkeypatch: pytest.MonkeyPatch, act: str, at: str
) -> None:
    """Ann merges 1 into 0 while bob decides about 0: their decisions have other subjects."""
    bob = world.other.decisions
    keys = sorted([world.key(0), world.key(1)], key=lambda key: -len(world.sets()[key]))
    seen = world.decisions.merge_preview(keys)
    wanted: dict[UUID, set[UUID]] = {}

    def decide() -> None:
        one_act()
        wanted.update(world.sets(world.other))

    def one_act() -> None:
        if act == "split":
            images = sorted(world.sets(world.other)[keys[0]])[:3]
            found = bob.split_preview(Selection(), images=images)
            bob.split(Selection(), images=images, name="Apart", author="bob",
                      versions=found.versions)  # fmt: skip
            return
        others = [seen.into, world.key(4 if act == "merge into" else 2)]
        merging = bob.merge_preview(others)
        bob.merge(others, author="bob", versions=merging.versions, state=merging.state)

    if at == "during":
        real = world.decisions._together

        def late(*given: Any, **named: Any) -> Any:
            decide()
            return real(*given, **named)

        monkeypatch.setattr(world.decisions, "_together", late)
    else:
        decide()
    with pytest.raises(ConflictError, match=r"by bob.*read it again"):
        world.decisions.merge(keys, author="ann", versions=seen.versions, state=seen.state)
    # What bob decided stands, and nothing of ann's is in force.
    assert wanted
    assert world.sets(world.other) == wanted
    assert all(not {keys[0], keys[1]} <= set(each.merged) | {each.key}
               for each in world.services.clusters())  # fmt: skip
    authors = {each.author for each in decided_in_force(world)}
    assert authors == {"bob"}


def decided_in_force(world: World) -> list[Any]:
    newest: dict[str, Any] = {}
    for each in sorted(world.store.iter_decisions(), key=lambda one: one.version):
        newest[each.subject] = each
    return [each for each in newest.values() if each.value]


def test_a_split_is_exact_named_and_undone(world: World) -> None:
    plain = world.sets()
    chosen = world.images_in(2)[:7]
    seen = world.decisions.split_preview(Selection(), images=[*chosen, world.images_in(0)[0]])
    assert (seen.key, seen.images, seen.outside) == (world.key(2), 7, 1)
    assert seen.rest == len(plain[world.key(2)]) - 7
    done = world.split(chosen, "Joints")
    found = world.sets()
    (part,) = set(found) - set(plain)
    assert found == {**plain, part: set(chosen), world.key(2): plain[world.key(2)] - set(chosen)}
    cluster = world.services.cluster(part).cluster
    assert (cluster.name, cluster.origin, cluster.size) == ("Joints", world.key(2), 7)
    assert set(cluster.exemplars) <= set(chosen)
    renamed = world.services.rename_cluster(part, "Gas", author="ann", expected_version=0)
    assert renamed.name == "Gas"
    # A part is split again, and the rest of its cluster too; then it is merged elsewhere.
    world.split(chosen[:2], "Small", key=part)
    world.split(world.images_in(2)[7:9], "Other", key=world.key(2))
    sizes = {c.name: c.size for c in world.services.clusters()}
    assert (sizes["Gas"], sizes["Small"], sizes["Other"]) == (5, 2, 2)
    keys = [part, world.key(0)]
    preview = world.decisions.merge_preview(keys)
    world.decisions.merge(keys, author="ann", versions=preview.versions)
    assert world.sets()[world.key(0)] == plain[world.key(0)] | set(chosen[2:])
    with pytest.raises(InputError, match="some of a cluster's"):
        world.split(world.images_in(3), "All")
    with pytest.raises(ConflictError):  # an older preview
        world.decisions.split(
            Selection(), images=world.images_in(2)[10:12], key=world.key(2), name="x",
            author="bob", versions=seen.versions,
        )  # fmt: skip
    assert done.appended == 1


def test_a_lasso_is_split_off_and_undone(world: World) -> None:
    plain = world.sets()
    points = [p for p in world.store.points_ if p.cluster == 1]
    x, y = float(np.mean([p.x for p in points])), 0.0
    box = {"points": [[x, y], [1.0, y], [1.0, 1.0], [x, 1.0]], "mode": "union"}
    selection = Selection.from_json({"polygons": [box]})
    inside = {p.image_id for p in points if p.x > x}
    seen = world.decisions.split_preview(selection, key=world.key(1))
    assert seen.images == len(inside)
    done = world.decisions.split(
        selection, key=world.key(1), name="Right", author="ann", versions=seen.versions
    )
    assert inside in world.sets().values()
    world.services.undo(done.subject, author="ann", expected_version=1)
    assert world.sets() == plain


def test_merges_splits_names_and_labels_hold_on_a_new_map_with_new_images(world: World) -> None:
    chosen = world.images_in(2)[:8]
    world.split(chosen, "Joints")
    world.merge(0, 1, name="Gas")
    world.services.rename_cluster(world.key(3), "Kept", author="ann", expected_version=0)
    world.decisions.label(chosen[:3], "valve", author="ann")
    old = world.sets()
    part = next(key for key, images in old.items() if images == set(chosen))
    # New images: twins of a split-off image and of one that stayed, and places all different.
    rest = min(old[world.key(2)])
    twins = {uuid4(): chosen[0], uuid4(): rest}
    for twin, of in twins.items():
        point = next(p for p in world.store.points_ if p.image_id == of)
        world.store.points_.append(replace(point, image_id=twin))
        world.store.images[twin] = replace(world.store.images[of], image_id=twin)
        world.searcher.vectors[twin] = world.searcher.vectors[of]
    world.new_map(lambda p: replace(p, x=p.y, y=p.x, cluster=-1 if p.cluster < 0 else p.cluster))
    new, back = list(twins)
    found = world.sets()
    assert found[part] == {*chosen, new}
    assert found[world.key(2)] == old[world.key(2)] | {back}
    names = {c.key: c.name for c in world.services.clusters()}
    assert names[part] == "Joints"
    assert names[world.key(3)] == "Kept"
    assert "Gas" in names.values()
    column = next(c for c in world.services.columns() if c.name == "label")
    assert column.keys == ("valve",)
    labelled = world.services.select({"filters": {"label": ["valve"]}})
    assert {row.image_id for row in labelled.rows} == set(chosen[:3])


def test_a_decision_waits_for_its_cluster_and_comes_back(world: World) -> None:
    world.merge(3, 4)
    merged = world.sets()
    source = next(key for key in (world.key(3), world.key(4)) if key not in merged)
    number = next(c.cluster for c in world.store.clusters_ if c.cluster_key == source)
    points, clusters, version = (
        list(world.store.points_), list(world.store.clusters_), world.store.version,
    )  # fmt: skip
    world.new_map(lambda p: replace(p, cluster=-1 if p.cluster == number else p.cluster))
    assert source not in world.sets()
    (act,) = world.services.history.page(limit=5).acts
    assert act.state == "waiting"
    world.store.points_, world.store.clusters_, world.store.version = points, clusters, version
    world.services = world.worker()
    assert world.sets() == merged
    assert world.services.history.page(limit=5).acts[0].state == "in force"


def test_labels_are_counted_changed_and_undone(world: World) -> None:
    images = world.images_in(0)[:6]
    done = world.decisions.label(images, " gas\tjoint ", author="ann", reason="seen")
    assert (done.appended, done.unchanged, done.conflicts) == (6, 0, ())
    again = world.decisions.label([*images, world.images_in(1)[0]], "gas joint", author="bob")
    assert (again.appended, again.unchanged) == (1, 6)
    world.decisions.label(images[:1], "valve", author="bob")
    assert [(v.label, v.images) for v in world.decisions.labels()] == [
        ("gas joint", 6), ("valve", 1)
    ]  # fmt: skip
    assert decided.labels(world.store) == {
        images[0]: "valve", **dict.fromkeys([*images[1:], world.images_in(1)[0]], "gas joint")
    }  # fmt: skip
    # Only what nobody changed since is stepped back.
    world.services.undo(done.subject, author="ann", expected_version=1)
    assert decided.labels(world.store) == {
        images[0]: "valve", world.images_in(1)[0]: "gas joint"
    }  # fmt: skip
    with pytest.raises(NotFoundError, match="nothing to undo"):
        world.services.undo(done.subject, author="ann", expected_version=1)
    assert world.other.decisions.labels() == world.decisions.labels()


def test_what_others_labelled_since_the_preview_is_a_conflict(world: World) -> None:
    images = world.images_in(0)[:3]
    looked = datetime.now(UTC) - timedelta(seconds=1)
    world.decisions.label(images[:1], "theirs", author="bob")
    done = world.decisions.label(images, "mine", author="ann", since=looked)
    assert done.appended == 2
    (conflict,) = done.conflicts
    assert "“theirs” by bob (version 1)" in conflict
    assert "“mine” by ann" in conflict
    assert decided.labels(world.store)[images[0]] == "theirs"
    with pytest.raises(ConflictError, match=r"“theirs” by bob\); yours was “x” by ann"):
        world.decisions.set_label(images[0], "x", author="ann", expected_version=0)


def test_labels_of_nothing_of_too_much_and_of_long_texts_are_refused(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(NotFoundError, match="none of these images"):
        world.decisions.label([uuid4()], "x", author="ann")
    with pytest.raises(InputError, match="80 characters, got 81"):
        world.decisions.label(world.images_in(0), "x" * 81, author="ann")
    monkeypatch.setattr("dashboard.labelling.IMAGES_MAX", 5)
    with pytest.raises(InputError, match="at most 5 images, got 120"):
        world.decisions.selected(Selection())


def test_a_label_spreads_to_the_nearest_over_all_images(world: World) -> None:
    seeds = world.images_in(0)[:3]
    world.decisions.label(seeds, "gas", author="ann")
    gone = world.images_in(0)[5]
    listing = world.store.images[gone].listing_id
    del world.store.images[gone]
    found = world.decisions.spread_preview("gas", 10)
    assert (found.seeds, found.seeds_used, found.rows) == (3, 3, 120)
    vectors = world.searcher.vectors
    best = {
        image: max(float(np.float32(vectors[image] @ vectors[seed])) for seed in seeds)
        for image in vectors
        if image not in seeds and image != gone
    }
    ranked = sorted(best, key=lambda image: (-best[image], image.bytes))[:10]
    assert [near.image_id for near in found.near] == ranked
    for near in found.near:
        assert near.score == pytest.approx(best[near.image_id], abs=1e-6)
        assert near.title.startswith("Trench")
        assert near.seed in seeds
    assert listing
    kept = ranked[:4] + ranked[5:]
    done = world.decisions.spread("gas", kept, k=10, author="ann", since=found.at)
    assert done.appended == 9
    made = world.store.decisions(f"label:{kept[0]}")[0]
    assert made.reason == "propagated from 3 images, k=10"
    assert set(decided.labels(world.store)) == {*seeds, *kept}
    # The next round starts from all of them, and the one that was left out is offered again.
    following = world.decisions.spread_preview("gas", 10)
    assert following.seeds == 12
    assert ranked[4] in [near.image_id for near in following.near]
    world.services.undo(done.subject, author="ann", expected_version=1)
    assert set(decided.labels(world.store)) == set(seeds)


@pytest.mark.parametrize("k", [0, 501])
def test_a_spread_has_its_limits(world: World, k: int) -> None:
    with pytest.raises(InputError, match="k must be from 1 to 500"):
        world.decisions.spread_preview("gas", k)


def test_a_label_that_is_everywhere_spreads_to_the_rest_alone(world: World) -> None:
    images = list(world.store.images)
    world.decisions.label(images[:-2], "gas", author="ann")
    found = world.decisions.spread_preview("gas", 50)
    assert {near.image_id for near in found.near} == set(images[-2:])
    with pytest.raises(NotFoundError, match="no image has the label"):
        world.decisions.spread_preview("other", 5)


def test_the_history_says_what_was_done_newest_first(world: World) -> None:
    world.services.rename_cluster(world.key(0), "Gas", author="ann", expected_version=0)
    image = world.images_in(1)[0]
    world.services.set_verdict(image, "outlier", author="bob", expected_version=0, reason="odd")
    world.decisions.label(world.images_in(1)[:20], "pipe", author="ann")
    world.merge(0, 1)
    done = world.split(world.images_in(2)[:4], "Joints")
    world.services.undo(done.subject, author="eve", expected_version=1)
    acts = world.services.history.page(limit=10).acts
    into = "Group 1" if world.key(0) not in world.sets() else "Gas"
    other = "Gas" if into == "Group 1" else "Group 1"
    assert [(act.author, act.what, act.count, act.state) for act in acts] == [
        ("eve", "Undone: “Group 2” is not split", 1, "in force"),
        ("ann", "Split 4 images off “Group 2” as “Joints”", 1, "replaced"),
        ("ann", f"Merged “{other}” into “{into}”", 1, "in force"),
        ("ann", "Labelled 20 images “pipe”", 20, "in force"),
        ("bob", "Marked 1 image as a true outlier", 1, "in force"),
        ("ann", "Named “Gas”", 1, "in force"),
    ]
    assert [act.undoable for act in acts] == [False, False, True, True, True, True]
    assert acts[4].images == (image,)
    assert acts[4].reason == "odd"
    assert len(acts[3].images) == 12
    labels = world.services.history.page(limit=10, kind="label").acts
    assert [act.what for act in labels] == ["Labelled 20 images “pipe”"]
    # Page by page, and what a page undoes is what it shows.
    seen: list[str] = []
    before = None
    while True:
        page = world.services.history.page(limit=2, before=before)
        seen += [act.what for act in page.acts]
        before = page.next_before
        if before is None:
            break
    assert len(set(seen)) >= 5
    for act in acts[2:]:
        world.services.undo(act.subject, author="eve", expected_version=act.newest)
    assert decided.labels(world.store) == {}
    assert world.services.verdicts([image])[image].verdict == ""
    assert {c.name for c in world.services.clusters()} == {f"Group {n}" for n in range(5)}


def test_the_history_says_what_was_decided_of_duplicates(world: World) -> None:
    subject = doubles.subject(uuid4())
    value = doubles.value("distinct", "0123abcd")
    world.store.append_decision(subject, doubles.KIND, value, author="ann", expected_version=0)
    assert world.services.history.page(limit=1).acts[0].what == "Duplicates: distinct"
    world.services.undo(subject, author="ann", expected_version=1)
    assert world.services.history.page(limit=1).acts[0].what == "Undone: duplicates: nothing"


def test_both_versions_of_a_subject_are_shown(world: World) -> None:
    subject = f"cluster:{world.key(0)}"
    for version, (name, author) in enumerate((("Gas", "ann"), ("Water", "bob"))):
        world.services.rename_cluster(world.key(0), name, author=author, expected_version=version)
    acts = world.services.history.page(limit=5, subject=subject).acts
    assert [(act.version, act.author, act.what) for act in acts] == [
        (2, "bob", "Named “Water”"), (1, "ann", "Named “Gas”"),
    ]  # fmt: skip
    with pytest.raises(InputError, match="a subject must be one of"):
        world.services.history.page(limit=5, subject="x")
    with pytest.raises(InputError, match="a kind must be one of"):
        world.services.history.page(limit=5, kind="x")


def test_the_api_does_all_of_it(world: World, client: TestClient) -> None:
    keys = [str(world.key(0)), str(world.key(1))]
    seen = client.post("/clusters/merge/preview", json={"keys": keys}).json()
    body = {"keys": keys, "versions": seen["versions"], "name": "Gas", "author": "ann"}
    done = client.post("/clusters/merge", json=body)
    assert done.status_code == 200, done.text
    assert client.get("/clusters").json()[0]["name"] == "Gas"
    late = client.post("/clusters/merge", json={**body, "author": "bob"})
    assert late.status_code == 409
    assert "by ann); yours was “Gas” by bob" in late.json()["error"]
    chosen = [str(image) for image in world.images_in(2)[:3]]
    seen = client.post("/clusters/split/preview", json={"image_ids": chosen}).json()
    split = {"image_ids": chosen, "name": "Joints", "versions": seen["versions"]}
    assert client.post("/clusters/split", json=split).json()["appended"] == 1
    conflict = client.post("/clusters/split", json={**split, "author": "bob"})
    assert conflict.status_code == 409
    assert "by analyst); yours was “Joints” by bob" in conflict.json()["error"]
    assert client.post("/clusters/split", json={"name": "x"}).status_code == 400
    label = {"label": "gas", "selection": {"filters": {"cluster": ["3"]}}}
    assert client.post("/labels", json=label).json()["appended"] == len(world.images_in(3))
    assert client.post("/labels", json={"label": "x"}).status_code == 400
    assert client.get("/labels").json() == [{"label": "gas", "images": len(world.images_in(3))}]
    near = client.get("/labels/spread", params={"label": "gas", "k": 4}).json()
    assert len(near["near"]) == 4
    spread = {
        "label": "gas", "k": 4, "since": near["at"],
        "image_ids": [each["image_id"] for each in near["near"]],
    }  # fmt: skip
    assert client.post("/labels/spread", json=spread).json()["appended"] == 4
    one = f"/images/{chosen[0]}/label"
    assert client.get(one).json()["version"] == 0
    put = {"label": "valve", "expected_version": 0, "author": "ann"}
    assert client.put(one, json=put).json()["label"] == "valve"
    refused = client.put(one, json={**put, "label": "tap", "author": "bob"})
    assert refused.status_code == 409
    assert "“valve” by ann" in refused.json()["error"]
    assert "“tap” by bob" in refused.json()["error"]
    acts = client.get("/decisions", params={"kind": "label"}).json()["acts"]
    assert [act["count"] for act in acts] == [1, 4, len(world.images_in(3))]
    undo = {"subject": acts[1]["subject"], "expected_version": acts[1]["newest"]}
    assert client.post("/decisions/undo", json=undo).status_code == 200
    assert client.get("/decisions", params={"kind": "x"}).status_code == 400


def test_an_empty_collection_has_no_decisions(tmp_path: Path) -> None:
    store: Any = MemoryStore()
    searcher: Any = MemorySearcher(store, {})
    services = Services(Settings(data_dir=tmp_path), store, searcher)
    assert services.decisions.labels() == ()
    assert services.history.page(limit=5).acts == ()
    with pytest.raises(NotFoundError, match="no map is live"):
        services.decisions.merge_preview([uuid4(), uuid4()])
