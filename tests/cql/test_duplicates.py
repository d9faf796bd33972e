"""Measures and near-duplicates in real Cassandra: written, read in pages, deleted."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID, uuid4

import pytest

from cql import duplicates
from cql.errors import InputError
from cql.records import (
    DuplicateGroup,
    DuplicateMember,
    DuplicateRun,
    Image,
    MapVersion,
    Measures,
    Outlier,
    image_id_of,
)
from cql.store import Store
from tests.cql.test_store import NOW, an_image

pytestmark = pytest.mark.service


def measured(image: Image) -> Measures:
    return Measures(
        listing_id=image.listing_id, image_id=image.image_id, sharpness=412.5, brightness=0.5,
        contrast=0.25, blank=0.125, colour=30.0, pixels=3_000_000_000, phash=-(2**63),
        signature=bytes(range(256)) * 9,
    )  # fmt: skip


def test_measures_are_written_with_their_image_and_deleted_with_it(store: Store) -> None:
    pairs = [an_image("m-1", name) for name in "ab"]
    looks = [measured(image) for image, _ in pairs]
    store.put_images(pairs, looks[:1])
    first, second = (image for image, _ in pairs)
    assert store.measures("m-1", first.image_id) == looks[0]
    assert store.measures("m-1", second.image_id) is None
    assert first.image_id in store.measured()
    assert second.image_id not in store.measured()
    assert store.put_measures(looks[1:]) == 1
    assert set(store.iter_measures()) >= set(looks)
    store.delete_image(first.image_id)
    assert store.measures("m-1", first.image_id) is None
    assert store.measures("m-1", second.image_id) == looks[1]
    with pytest.raises(InputError, match="must be finite"):
        store.put_measures([replace(looks[1], contrast=float("nan"))])


def planted(map_id: UUID, sizes: list[int]) -> tuple[
    DuplicateRun, list[DuplicateGroup], list[DuplicateMember]
]:  # fmt: skip
    groups: list[DuplicateGroup] = []
    members: list[DuplicateMember] = []
    for number, size in enumerate(sizes):
        own = [image_id_of(f"{map_id}-{number}", str(place)) for place in range(size)]
        groups.append(
            DuplicateGroup(
                map_id=map_id, number=number, group_key=uuid4(), digest="0" * 12, size=size,
                listings=1, least=0.5, first=len(members), images=tuple(own[:3]),
            )
        )  # fmt: skip
        members += [
            DuplicateMember(
                number=number, place=place, image_id=image, listing_id=str(number),
                tied=own[place - 1] if place else None, alike=0.75, bits=place, cosine=0.5,
            )
            for place, image in enumerate(own)
        ]  # fmt: skip
    run = DuplicateRun(
        map_id=map_id, rows=99, measured=98, candidates=500, groups=len(groups),
        images=len(members), threshold=0.9, basis="copies", curve="[]",
    )  # fmt: skip
    return run, groups, members


def test_groups_and_members_are_read_in_order_and_in_pages(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(duplicates, "MEMBER_BUCKET", 4)
    monkeypatch.setattr(duplicates, "GROUP_BUCKET", 2)
    map_id = uuid4()
    run, groups, members = planted(map_id, [7, 3, 2])
    assert store.duplicate_run(map_id) is None
    assert store.duplicate_groups(map_id) == []
    assert list(store.iter_duplicate_members(map_id)) == []
    assert store.put_duplicates(run, groups, members) == 3
    assert store.duplicate_run(map_id) == run
    assert store.duplicate_groups(map_id) == groups
    assert list(store.iter_duplicate_members(map_id)) == members
    assert store.duplicate_members(groups[0], offset=2, limit=4) == members[2:6]
    assert store.duplicate_members(groups[1]) == members[7:10]
    assert store.duplicate_members(groups[1], offset=3) == []
    with pytest.raises(InputError, match="images in groups"):
        store.put_duplicates(replace(run, images=5, map_id=uuid4()), groups, members)


def test_a_map_takes_its_duplicates_and_outlier_kinds_with_it(store: Store) -> None:
    map_id = uuid4()
    store.put_duplicates(*planted(map_id, [2]))
    odd = Outlier(
        map_id=map_id, score=1.0, image_id=uuid4(), listing_id="o", knn_distance=0.5, glosh=0.25,
        cluster=-1, reason="Dark", kind="photo", lof=1.5, evidence='{"dark": 0.001}',
    )  # fmt: skip
    store.put_outliers(map_id, [odd])
    assert store.outliers(map_id, limit=1).rows == (odd,)
    store.put_map(
        MapVersion(
            map_id=map_id, model_id="m", snapshot_id=uuid4(), rows=1, rows_scored=1, clusters=0,
            noise=1, seed=1, parameters="{}", quality={}, code_version="t", created_at=NOW,
        )
    )  # fmt: skip
    store.delete_map(map_id)
    assert store.duplicate_run(map_id) is None
    assert store.duplicate_groups(map_id) == []
    assert store.outliers(map_id, limit=1).rows == ()
