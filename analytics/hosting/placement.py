"""Which hosts hold which shards: roles, and a choice that covers a snapshot."""

from __future__ import annotations

from cql.records import Service, Snapshot

ROLE = "host"
DAMAGED = "host-damaged"
FILES = "host-files"
"""Role of a host that serves shard files; the row's only number is its index among the hosts."""
COPIES = "host-copies"
"""Role of a host whose machine has every file of a snapshot that it should have, its own and copies
of other hosts'; the row's only number is its index among the hosts."""


def cover(services: list[Service], snapshot: Snapshot) -> list[tuple[Service, list[int]]] | None:
    """Choose hosts that together hold every shard of a snapshot once, or None.

    Of two that hold one shard the newer takes it.
    """
    left = set(range(snapshot.shards))
    chosen: list[tuple[Service, list[int]]] = []
    held = [service for service in services if service.snapshot_id == snapshot.snapshot_id]
    held.sort(key=lambda s: (s.seen_at.timestamp() if s.seen_at else 0.0, str(s.service_id)))
    for service in reversed(held):
        take = sorted(left & set(service.shards))
        if take:
            chosen.append((service, take))
            left -= set(take)
    return None if left else chosen


def copied(services: list[Service], snapshot: Snapshot, count: int) -> bool:
    """Whether each of `count` hosts says that it has the copies of a snapshot which it should."""
    held = [service for service in services if service.snapshot_id == snapshot.snapshot_id]
    return {index for service in held for index in service.shards} >= set(range(count))
