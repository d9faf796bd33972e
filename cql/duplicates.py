"""Near-duplicates of a map: how they were looked for, the groups and their members."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from uuid import UUID

from cql import statements as cql
from cql.access import Access, record, values_of
from cql.errors import InputError
from cql.records import DuplicateGroup, DuplicateMember, DuplicateRun

GROUP_BUCKET = 1_000
"""Groups of a map in one partition."""
MEMBER_BUCKET = 10_000
"""Members of groups in one partition."""


class Duplicates:
    """The part of the store about near-duplicates."""

    _access: Access

    def put_duplicates(
        self,
        run: DuplicateRun,
        groups: Iterable[DuplicateGroup],
        members: Iterable[DuplicateMember],
    ) -> int:
        """Write all near-duplicates of a map, in one call; returns how many groups.

        `members` come by group and place, those of group n from row `first` of it on. The run is
        written last: who sees it sees all groups.
        """

        def rows() -> Iterator[tuple[object, ...]]:
            for row, member in enumerate(members):
                yield values_of(
                    member,
                    cql.DUPLICATE_MEMBER_COLUMNS,
                    map_id=run.map_id,
                    bucket=row // MEMBER_BUCKET,
                )

        written = self._access.write(cql.PUT_DUPLICATE_MEMBER, rows())
        if written != run.images:
            raise InputError(f"the run has {run.images} images in groups, got {written}")
        found = self._access.write(
            cql.PUT_DUPLICATE_GROUP,
            (
                values_of(
                    group,
                    cql.DUPLICATE_GROUP_COLUMNS,
                    bucket=group.number // GROUP_BUCKET,
                    images=list(group.images),
                )
                for group in groups
            ),
        )
        self._access.run(cql.PUT_DUPLICATE_RUN, *values_of(run, cql.DUPLICATE_RUN_COLUMNS))
        return found

    def duplicate_run(self, map_id: UUID) -> DuplicateRun | None:
        """How duplicates of a map were looked for; None for a map made before they were."""
        row = self._access.one(cql.DUPLICATE_RUN, map_id)
        return None if row is None else record(DuplicateRun, row)

    def duplicate_groups(self, map_id: UUID) -> list[DuplicateGroup]:
        """All groups of a map, the largest first; empty where none were looked for."""
        run = self.duplicate_run(map_id)
        if run is None:
            return []
        return [
            record(DuplicateGroup, row)
            for bucket in range(-(-run.groups // GROUP_BUCKET))
            for row in self._access.each(cql.DUPLICATE_GROUPS, map_id, bucket)
        ]

    def duplicate_members(
        self, group: DuplicateGroup, *, offset: int = 0, limit: int = 100
    ) -> list[DuplicateMember]:
        """Members of a group from place `offset` on, at most `limit`."""
        if offset < 0 or limit < 1:
            raise InputError(f"members go from 0, at least 1 of them, got {offset} and {limit}")
        found: list[DuplicateMember] = []
        place, last = offset, min(offset + limit, group.size)
        while place < last:
            bucket = (group.first + place) // MEMBER_BUCKET
            rows = list(
                self._access.each(
                    cql.DUPLICATE_MEMBERS_OF,
                    group.map_id,
                    bucket,
                    group.number,
                    place,
                    last - place,
                )
            )
            found += [record(DuplicateMember, row) for row in rows]
            place = (bucket + 1) * MEMBER_BUCKET - group.first
        return found

    def iter_duplicate_members(self, map_id: UUID) -> Iterator[DuplicateMember]:
        """Members of all groups of a map, by group and place."""
        run = self.duplicate_run(map_id)
        for bucket in range(-(-run.images // MEMBER_BUCKET) if run else 0):
            for row in self._access.each(cql.DUPLICATE_MEMBERS, map_id, bucket):
                yield record(DuplicateMember, row)

    def delete_duplicates(self, map_id: UUID) -> None:
        """Remove the near-duplicates of a map, if there are any."""
        run = self.duplicate_run(map_id)
        if run is None:
            return
        groups = range(-(-run.groups // GROUP_BUCKET))
        members = range(-(-run.images // MEMBER_BUCKET))
        self._access.write(cql.DELETE_DUPLICATE_GROUPS, ((map_id, bucket) for bucket in groups))
        self._access.write(cql.DELETE_DUPLICATE_MEMBERS, ((map_id, bucket) for bucket in members))
        self._access.run(cql.DELETE_DUPLICATE_RUN, map_id)
