"""When changes are folded into shards: a new snapshot is built once enough has changed."""

from __future__ import annotations

from dataclasses import dataclass

from analytics.hosting.placement import ROLE, cover
from analytics.hosting.pointers import live_snapshots
from cql.errors import UnavailableError
from cql.store import Store
from cql.wire import Message, Pool

CHANGED_MIN = 5_000
CHANGED_SHARE = 0.1
"""Changed rows, in all and as a share of the snapshot, from which on a scan would feel them."""

AGE_S = 900.0
"""Seconds after which even a single change is folded in."""

_ANSWER_S = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What changed since the live snapshot of a model, over all of its hosts.

    `changed` rows were added or taken out, `behind` listings are not shown yet, and the first
    change came `age_s` seconds ago.
    """

    model_id: str
    rows: int
    changed: int
    behind: int
    age_s: float

    @property
    def due(self) -> bool:
        """Whether a new snapshot should be built."""
        if not self.changed and not self.behind:
            return False
        many = self.changed >= max(CHANGED_MIN, CHANGED_SHARE * self.rows)
        return many or self.behind > 0 or self.age_s >= AGE_S


def backlogs(store: Store, pool: Pool) -> list[Backlog]:
    """Ask the hosts of every live snapshot; one whose hosts do not all answer is left out."""
    found = []
    for snapshot in live_snapshots(store).values():
        plan = cover(store.services(ROLE), snapshot)
        if plan is None:
            continue
        try:
            replies = [
                pool.call(
                    host.address,
                    "status",
                    Message({"snapshot": str(snapshot.snapshot_id), "shards": took}),
                    timeout_s=_ANSWER_S,
                ).values
                for host, took in plan
            ]
        except UnavailableError:
            continue
        found.append(
            Backlog(
                model_id=snapshot.model_id,
                rows=snapshot.rows,
                changed=sum(int(reply["changed"]) for reply in replies),
                behind=sum(int(reply["behind"]) for reply in replies),
                age_s=max((float(reply["age_s"]) for reply in replies), default=0.0),
            )
        )
    return found
