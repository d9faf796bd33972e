"""Merges and splits replayed over planted clusterings, against naive sets of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

import numpy as np
import pytest
from numpy.typing import NDArray

from analytics.decisions import regroup
from analytics.decisions.decided import subject_of
from analytics.decisions.regroup import Part, Regrouped, Split, part_key
from analytics.hierarchy import keys
from cql.errors import InputError
from cql.records import NAMESPACE, Decision

WHEN = datetime(2026, 1, 1, tzinfo=UTC)
MAP = uuid5(NAMESPACE, "a map")


def image(number: int) -> UUID:
    return uuid5(NAMESPACE, f"image {number}")


def key(name: str) -> UUID:
    return uuid5(NAMESPACE, f"key {name}")


class World:
    """A clustering by hand: names of clusters and the numbers of their images, noise apart."""

    def __init__(self, clusters: Mapping[str, Sequence[int]], noise: Sequence[int] = ()) -> None:
        self.names = list(clusters)
        self.numbers = [n for held in clusters.values() for n in held] + list(noise)
        self.labels = np.array(
            [at for at, held in enumerate(clusters.values()) for _ in held] + [-1] * len(noise),
            np.int64,
        )
        self.row = {image(n): row for row, n in enumerate(self.numbers)}

    def rows_of(self, images: NDArray[np.uint8]) -> NDArray[np.int64]:
        return np.array([self.row.get(UUID(bytes=i.tobytes()), -1) for i in images], np.int64)

    def nearest(
        self, rows: NDArray[np.int64], parts: Sequence[NDArray[np.uint8]]
    ) -> NDArray[np.int64]:
        """By number: the image whose number is nearest."""
        of = {image(n): n for n in range(10_000)}
        held = [[of[UUID(bytes=i.tobytes())] for i in part] for part in parts]
        return np.array(
            [
                min(range(len(held)), key=lambda p: min(abs(self.numbers[r] - n) for n in held[p]))
                for r in rows
            ],
            np.int64,
        )

    def replay(self, *decisions: Decision, nearest: bool = True) -> Regrouped:
        return regroup.regroup(
            [key(name) for name in self.names],
            self.labels,
            decisions,
            rows_of=self.rows_of,
            nearest=self.nearest if nearest else None,
        )

    def sets(self, found: Regrouped) -> dict[UUID, set[int]]:
        """Images of each group, by a loop over rows."""
        out: dict[UUID, set[int]] = {group.key: set() for group in found.groups}
        for row, code in enumerate(found.codes):
            if code >= 0:
                out[found.groups[code].key].add(self.numbers[row])
        assert [len(out[group.key]) for group in found.groups] == [g.rows for g in found.groups]
        return out


def merge(one: str | UUID, into: str | UUID, *, at: int = 0, version: int = 1) -> Decision:
    first, second = (key(each) if isinstance(each, str) else each for each in (one, into))
    return Decision(
        subject=subject_of("merge", first), version=version, kind="merge", value=str(second),
        author="ann", reason="", at=WHEN + timedelta(seconds=at),
    )  # fmt: skip


def split(
    one: str | UUID, rest: Sequence[int], *parts: Sequence[int], known: Sequence[str] = "ABC"
) -> Decision:
    whole = key(one) if isinstance(one, str) else one
    made = [Part(key=whole, name="", images=frozenset(map(image, rest)))]
    for number, held in enumerate(parts, 1):
        made.append(
            Part(
                key=part_key(whole, 1, number),
                name=f"part {number}",
                images=frozenset(map(image, held)),
            )
        )
    value = regroup.write(
        Split(parts=tuple(made), map_id=MAP, known=frozenset(key(name) for name in known))
    )
    return Decision(
        subject=subject_of("split", whole), version=1, kind="split", value=value, author="ann",
        reason="", at=WHEN,
    )  # fmt: skip


def plain() -> World:
    return World({"A": range(10), "B": range(100, 106), "C": range(200, 203)}, noise=[900, 901])


def test_without_decisions_clusters_are_as_they_were() -> None:
    world = plain()
    found = world.replay()
    assert world.sets(found) == {
        key("A"): set(range(10)), key("B"): set(range(100, 106)), key("C"): {200, 201, 202}
    }  # fmt: skip
    assert (found.codes == world.labels).all()
    assert found.waiting == frozenset()


def test_merged_clusters_are_one_and_chains_are_followed() -> None:
    world = plain()
    found = world.replay(merge("A", "B"), merge("B", "C"))
    assert [(group.key, group.units) for group in found.groups] == [
        (key("C"), (key("A"), key("B"), key("C")))
    ]
    assert world.sets(found) == {key("C"): {*range(10), *range(100, 106), 200, 201, 202}}


@pytest.mark.parametrize(("first", "last"), [("A", "B"), ("B", "A")])
def test_a_circle_is_one_cluster_named_by_the_earlier_decision(first: str, last: str) -> None:
    """Two analysts merge two clusters into each other: subjects differ, so neither conflicts."""
    world = plain()
    found = world.replay(merge(first, last, at=1), merge(last, first, at=2), merge("C", "A", at=3))
    (group,) = found.groups
    assert group.key == key(last)
    assert set(group.units) == {key("A"), key("B"), key("C")}


def test_a_cluster_merged_into_itself_stays() -> None:
    world = plain()
    assert world.sets(world.replay(merge("A", "A"))) == world.sets(world.replay())


def test_a_merge_that_was_taken_back_is_no_merge() -> None:
    world = plain()
    undone = Decision(
        subject=subject_of("merge", key("A")), version=2, kind="undo", value="", author="ann",
        reason="", at=WHEN,
    )  # fmt: skip
    assert world.sets(world.replay(undone)) == world.sets(world.replay())


def test_a_merge_waits_for_a_vanished_cluster_and_holds_when_it_is_back() -> None:
    decided = merge("B", "A")
    gone = World({"A": range(10), "C": range(200, 203)})
    found = gone.replay(decided)
    assert found.waiting == {decided.subject}
    assert gone.sets(found) == {key("A"): set(range(10)), key("C"): {200, 201, 202}}
    back = plain()
    found = back.replay(decided)
    assert found.waiting == frozenset()
    assert back.sets(found)[key("A")] == {*range(10), *range(100, 106)}


def test_clusters_merged_into_a_vanished_one_are_still_one() -> None:
    world = World({"A": range(10), "B": range(100, 106)})
    found = world.replay(merge("A", "X"), merge("B", "X"))
    assert [(g.key, g.units) for g in found.groups] == [(key("X"), (key("A"), key("B")))]


def test_a_split_gives_exactly_the_images_that_were_chosen() -> None:
    world = plain()
    decided = split("A", [0, 2, 4, 6, 8], [1, 3, 5], [7, 9])
    found = world.replay(decided)
    one, two = part_key(key("A"), 1, 1), part_key(key("A"), 1, 2)
    assert world.sets(found) == {
        key("A"): {0, 2, 4, 6, 8}, one: {1, 3, 5}, two: {7, 9},
        key("B"): set(range(100, 106)), key("C"): {200, 201, 202},
    }  # fmt: skip
    assert found.names == {one: "part 1", two: "part 2"}
    assert found.origin == {one: key("A"), two: key("A")}


def test_new_images_of_a_split_cluster_go_to_the_nearest_part() -> None:
    decided = split("A", [0, 1, 2, 3], [50, 51, 52, 53])
    world = World({"A": [0, 1, 2, 3, 5, 48, 50, 51, 52, 53, 60]}, noise=[4])
    part = part_key(key("A"), 1, 1)
    assert world.sets(world.replay(decided)) == {
        key("A"): {0, 1, 2, 3, 5}, part: {48, 50, 51, 52, 53, 60}
    }  # fmt: skip
    alone = world.sets(world.replay(decided, nearest=False))
    assert alone == {key("A"): {0, 1, 2, 3, 5, 48, 60}, part: {50, 51, 52, 53}}


def test_a_split_waits_for_a_vanished_cluster_and_holds_when_it_is_back() -> None:
    decided = split("A", [0, 1, 2], [3, 4])
    gone = World({"B": range(100, 106)}, noise=range(5))
    found = gone.replay(decided)
    assert found.waiting == {decided.subject}
    assert gone.sets(found) == {key("B"): set(range(100, 106))}
    back = World({"A": range(5), "B": range(100, 106)})
    assert back.sets(back.replay(decided))[part_key(key("A"), 1, 1)] == {3, 4}


def test_a_new_cluster_that_is_a_part_of_a_split_is_that_part() -> None:
    """The analysis finds by itself what the analyst had split off, and one image more."""
    decided = split("A", range(6), range(20, 26))
    world = World({"A": range(6), "new": range(20, 27)})
    found = world.replay(decided)
    part = part_key(key("A"), 1, 1)
    assert world.sets(found) == {key("A"): set(range(6)), part: set(range(20, 27))}
    assert found.names[part] == "part 1"
    # Even where the rest is noise now; the images that moved elsewhere do not come back.
    world = World({"new": range(20, 27)}, noise=range(6))
    found = world.replay(decided)
    assert world.sets(found) == {part: set(range(20, 27))}
    assert found.waiting == frozenset()


def test_a_cluster_that_was_there_before_is_never_taken_for_a_part() -> None:
    decided = split("A", range(6), range(20, 26))
    world = World({"A": range(6), "B": [*range(20, 26), *range(100, 104)]})
    assert world.sets(world.replay(decided)) == {
        key("A"): set(range(6)), key("B"): {*range(20, 26), *range(100, 104)}
    }  # fmt: skip


def test_a_part_may_be_merged_and_split_again() -> None:
    world = plain()
    part = part_key(key("A"), 1, 1)
    again = split(part, [5, 6], [7, 8, 9])
    found = world.replay(split("A", range(5), range(5, 10)), again, merge(part, "B"))
    assert world.sets(found) == {
        key("A"): set(range(5)),
        key("B"): {5, 6, *range(100, 106)},
        part_key(part, 1, 1): {7, 8, 9},
        key("C"): {200, 201, 202},
    }


def test_decisions_hold_through_many_re_clusterings() -> None:
    """Keys as the analysis carries them on: clusters lose and win images, and are renumbered."""
    rng = np.random.default_rng(5)
    planted = {name: list(range(base, base + 40)) for name, base in zip("ABC", (0, 1000, 2000))}  # noqa: B905
    members = {key(name): frozenset(map(image, held)) for name, held in planted.items()}
    part = part_key(key("A"), 1, 1)
    chosen = list(range(12))
    decisions = [split("A", range(12, 40), chosen), merge("C", "B")]
    for step in range(6):
        shaken = {
            name: sorted(
                {int(n) for n in held if rng.random() > 0.15}
                | {held[0] + 40 + step * 5 + extra for extra in range(5)}
            )
            for name, held in planted.items()
        }
        order = rng.permutation(list("ABC"))
        sets = [frozenset(map(image, shaken[name])) for name in order]
        found = keys.keys(sets, members)
        assert found == [key(name) for name in order]
        world = World({name: shaken[name] for name in order})
        seen = world.sets(world.replay(*decisions))
        assert seen[key("B")] == {*shaken["B"], *shaken["C"]}
        kept = {n for n in shaken["A"] if n in chosen}
        assert kept <= seen[part]
        assert seen[part] | seen[key("A")] == set(shaken["A"])
        assert not {n for n in seen[part] if 12 <= n < 40}


@pytest.mark.parametrize("clusters", [{}, {"A": [0]}], ids=["empty", "one image"])
def test_the_least_worlds(clusters: dict[str, list[int]]) -> None:
    world = World(clusters, noise=[5] if not clusters else [])
    found = world.replay(merge("A", "B"), split("C", [1], [2]))
    assert len(found.groups) == len(clusters)
    assert len(found.codes) == 1


def test_a_split_is_written_and_read() -> None:
    decided = split("A", [1], [2, 3])
    found = regroup.read(decided.value)
    assert [part.images for part in found.parts] == [
        frozenset({image(1)}), frozenset({image(2), image(3)})
    ]  # fmt: skip
    assert regroup.write(found) == decided.value
    with pytest.raises(InputError, match="parts as JSON"):
        regroup.read("{}")
    with pytest.raises(InputError, match="must have an image"):
        split("A", [], [1])
    with pytest.raises(InputError, match="2 to 32 parts"):
        split("A", [1])


def test_a_split_of_too_many_images_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regroup, "IMAGES_MAX", 3)
    with pytest.raises(InputError, match="may have 3 images, got 4"):
        split("A", [1, 2], [3, 4])


def test_anchors_are_few_and_the_same_in_any_order() -> None:
    images = [image(n) for n in range(1000)]
    found = regroup.anchors(images)
    assert found.shape == (256, 16)
    assert (regroup.anchors(images[::-1]) == found).all()
    assert len({row.tobytes() for row in found}) == 256
