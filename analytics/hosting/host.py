"""One shard host: holds its share of the wanted snapshots, follows the change log, serves scans.

A host reads which snapshots it should hold, one or two of each model, from the live pointers and
registers with a heartbeat what it does hold, so that hosts come back by themselves after a crash.
Shard files that its machine lacks come from other hosts. One that finds a damaged shard, or a
missing one that no host has, says so by heartbeat too.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections.abc import Callable
from typing import Any, Protocol
from uuid import UUID, uuid4, uuid5

import numpy as np
import pyarrow as pa

from analytics import kernels, shards
from analytics.decisions.effective import Views
from analytics.hosting.filters import TABLES, Filters
from analytics.hosting.follow import Follower, Log
from analytics.hosting.holding import Holding, Part
from analytics.hosting.placement import COPIES, DAMAGED, FILES, ROLE
from analytics.hosting.pointers import wanted
from analytics.hosting.shelf import Registry as Shelved
from analytics.hosting.shelf import Shelf, folder
from analytics.learning import linear, ranking
from analytics.maps.appended import Tables, counted
from analytics.maps.regions import Selection
from analytics.scanning import firstpass, scan, sweep
from analytics.scanning.batch import Batch
from analytics.scanning.blocks import Block
from analytics.scanning.codes import encode
from analytics.scanning.components import Components
from analytics.scanning.firstpass import Asked
from analytics.scanning.scan import Ask
from analytics.tiles import MapTable
from cql.errors import IntegrityError, NotFoundError, SightlineError, UnavailableError
from cql.records import NAMESPACE, Service, Shard, Snapshot
from cql.settings import Settings
from cql.wire import Beacon, Message, Server
from cql.wire import Registry as Beating

log = logging.getLogger(__name__)

_POLL_S = 0.5
_RETRY_S = 2.0
_PATIENCE_S = 60.0
"""Seconds in which another host may come up that has a file: longer than Spark needs for it."""

_CATCH_UP_S = 10.0
"""A host that starts takes in what changed for so long at most before it serves."""

_PLACED_S = 1.0
"""What was placed on a map is taken in by filters within this time."""

_COPY_S = 5.0
_SWEEP_S = 3600.0
"""Seconds between two looks at copies that are missing here, and at files that nobody needs."""

_LACKS = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR}
"""What this process or machine lacks for a moment says nothing of a file."""

_CHECK_S = 3600.0
_CHECK_SHARE = 0.01
"""Seconds between two looks at the files of held shards, and the share of time that it takes."""


class Registry(Shelved, Beating, Log, Protocol):
    """The part of the store that a host needs."""

    def live_versions(self) -> dict[str, UUID]:
        """The version that each pointer names."""


class Host:
    """One host: share `index` of `count` of every snapshot that is wanted, served until closed."""

    def __init__(
        self,
        settings: Settings,
        store: Registry,
        *,
        index: int = 0,
        count: int = 1,
        threads: int = 1,
        address: str = "127.0.0.1",
    ) -> None:
        self._settings, self._store = settings, store
        self._index, self._count = index, count
        self._id = uuid4()
        self._held: dict[UUID, Holding] = {}
        self._followers: dict[UUID, Follower] = {}
        self._beacons: dict[UUID, Beacon] = {}
        self._gone: dict[UUID, float] = {}
        self._left: set[UUID] = set()
        self._again: dict[UUID, float] = {}
        self._awaited: dict[UUID, float] = {}
        self._damages: dict[UUID, Beacon] = {}
        self._files: Beacon | None = None
        self._copies: dict[UUID, Beacon] = {}
        self._look = threading.Event()
        self._trust = threading.Lock()
        self._swept = time.monotonic()
        self._shelf = Shelf(settings, store, count=count, service_id=self._service_id(FILES))
        self._batch = Batch(threads)
        self._views = Views(store)  # type: ignore[arg-type]
        self._tables = Tables(settings, store, most=TABLES)  # type: ignore[arg-type]
        self._server = Server(
            settings,
            {
                "scan": self.scan,
                "neighbours": self.neighbours,
                "rows": self.rows,
                "linear": self.linear,
                "classified": self.classified,
                "sample": self.sample,
                "status": self.status,
                "file": self._shelf.read,
            },
            host=address,
        )

    def run(self, stop: threading.Event, *, poll_s: float = _POLL_S) -> None:
        """Follow pointers and log until `stop` is set; a store that fails is asked again."""
        following = threading.Thread(target=self._follow, args=(stop, poll_s), name="follow")
        following.start()
        copying = threading.Thread(target=self._keep_copies, args=(stop,), name="copies")
        copying.start()
        checking = threading.Thread(target=self._keep_checking, args=(stop,), name="checks")
        checking.start()
        while not stop.is_set():
            try:
                self.refresh()
            except SightlineError as error:
                log.warning("host %d: %s", self._index, error)
            stop.wait(poll_s)
        self._look.set()
        following.join()
        copying.join()
        checking.join()

    def refresh(self) -> None:
        """Load the snapshots that are wanted and let go of what nobody wants."""
        if self._files is None and self._count > 1:
            # Before anything is loaded: other hosts may lack what lies here.
            self._files = Beacon(self._store, self._service(FILES, None, (self._index,)))
        named = wanted(self._store.live_versions())
        now = time.monotonic()
        for version in named:
            if version not in self._held and now >= self._again.get(version, 0.0):
                self._load(version)
            elif self._gone.pop(version, None) is not None:
                # It is wanted again before it was let go.
                with self._trust:
                    self._advertise(version)
        for rows in (self._damages, self._copies):
            for version in set(rows) - set(named):
                rows.pop(version).close()
        for version in set(self._held) - set(named):
            if (beacon := self._beacons.pop(version, None)) is not None:
                beacon.close()
            # A query that found this host a moment ago still gets its answer.
            if now - self._gone.setdefault(version, now) > self._settings.query_deadline_s:
                self._followers.pop(version, None)
                self._held.pop(version, None)
                del self._gone[version]
                self._left.add(version)
        # Its row goes when the engine prunes, which may be later.
        self._left -= set(named)
        self._left -= {version for version in self._left if self._shelf.forget(version)}
        if now - self._swept > _SWEEP_S:
            self._swept = now
            self._shelf.sweep()

    def poll(self) -> None:
        """Take in what the change log says of every snapshot held."""
        for version, follower in list(self._followers.items()):
            try:
                follower.poll()
            except SightlineError as error:
                # The others' changes must not wait for this one.
                log.warning("host %d: the change log for %s: %s", self._index, version, error)
            except Exception:
                # What is served must be followed, whatever happened once.
                log.exception("host %d: following snapshot %s failed", self._index, version)

    def check(self, stop: threading.Event | None = None) -> None:
        """Compare the files of held shards with their sums; a snapshot that differs is let go.

        It is loaded again from whole files, or reported as damaged. Ends early when `stop` is set.
        """
        for version, holding in list(self._held.items()):
            for shard in self._store.shards(version):
                if stop is not None and stop.is_set():
                    return
                if version in self._gone or shard.shard not in holding.parts:
                    continue
                try:
                    shards.check_files(folder(self._settings, version), shard)
                except (IntegrityError, OSError) as error:
                    if isinstance(error, OSError) and error.errno in _LACKS:
                        log.warning("host %d: snapshot %s: %s", self._index, version, error)
                        return
                    live = version in wanted(self._store.live_versions())
                    if live and self._held.get(version) is holding:
                        log.error("host %d: snapshot %s: %s", self._index, version, error)  # noqa: TRY400
                        self._distrust(version)
                    # Else nobody wants it any more, and its files may be deleted.
                    break

    def close(self) -> None:
        """Withdraw and stop serving."""
        files = [self._files] if self._files else []
        rows = (self._beacons, self._copies, self._damages)
        for beacon in (*(beacon for each in rows for beacon in each.values()), *files):
            beacon.close()
        self._server.close()
        self._shelf.close()
        self._batch.close()

    def scan(self, message: Message) -> Message:
        """Find the k best listings of some shards.

        Values: snapshot, shards, k, aggregate, best, excluded and within (listing ids, or None),
        selection (JSON) and map (id, or None), in_stock. Arrays: positives, negatives (Q, D).
        """
        values = message.values
        followed_at, behind = self._followed(message)
        holding, parts = self._parts(message)
        positives, negatives = (
            self._examples(message, name, holding) for name in ("positives", "negatives")
        )
        if values["in_stock"] and any(part.stock is None for part in parts):
            raise UnavailableError("stock must be known for this search, it is being read: wait")
        map_id = UUID(values["map"]) if values["map"] else None
        selection = Selection.from_json(values["selection"])
        within = None if values["within"] is None else pa.array(values["within"], pa.string())
        rows: list[Any] = []
        listings: list[Any] = []
        for part in parts:
            rows += part.row_masks(holding.filters, map_id, selection)
            listings += part.listing_masks(
                in_stock=values["in_stock"], within=within, excluded=values["excluded"]
            )
        ask = Ask(
            positives,
            negatives,
            int(values["k"]),
            aggregate=values["aggregate"],
            best=int(values["best"]),
            rows=rows,
            listings=listings,
        )
        try:
            best = self._batch.ask([block for part in parts for block in part.blocks], ask)
        except IntegrityError as error:
            version = holding.snapshot.snapshot_id
            self._distrust(version)
            raise UnavailableError(f"snapshot {version} is checked again: {error}") from error
        return Message(
            {
                "listings": best.ids,
                "base": sum(part.base.rows for part in parts),
                "rows": sum(part.rows for part in parts),
                "scanned": best.scanned,
                "rescored": best.rescored,
                "followed_at": followed_at,
                "behind": behind,
            },
            {"scores": best.scores, "images": best.images},
        )

    def status(self, message: Message) -> Message:
        """Tell how far some shards are from their snapshot: values snapshot, shards."""
        holding, parts = self._parts(message)
        return Message(
            {
                "changed": sum(part.changed for part in parts),
                "behind": holding.behind,
                "age_s": holding.age_s,
            }
        )

    def neighbours(self, message: Message) -> Message:
        """Find the k best images of each query: values snapshot, shards, k."""
        holding, parts = self._parts(message)
        queries = self._examples(message, "queries", holding)
        best = kernels.best_images(
            [part.base for part in parts],
            queries,
            int(message.values["k"]),
            each=self._batch.crew.map,
        )
        for part in parts:
            part.base.release()
        return Message(
            {"base": sum(part.base.rows for part in parts)},
            {"scores": best.scores, "rows": best.rows, "images": best.images},
        )

    def rows(self, message: Message) -> Message:
        """Return stored rows of one shard from `start`: vectors, image ids, listing ids."""
        _, (part,) = self._parts(message)
        block = part.base
        start = int(message.values["start"])
        end = min(block.rows, start + int(message.values["count"]))
        owners = np.searchsorted(block.offsets, np.arange(start, end), side="right") - 1
        first = int(owners[0]) if len(owners) else 0
        last = int(owners[-1]) + 1 if len(owners) else 0
        vectors = np.array(block.vectors[start:end])
        block.release()
        return Message(
            {"listings": block.listings[first:last].to_pylist()},
            {
                "vectors": vectors,
                "images": block.images[start:end],
                "owners": owners - first,
            },
        )

    def linear(self, message: Message) -> Message:
        """Score every row of some shards by a linear model: see `ranking.question`."""
        followed_at, _ = self._followed(message)
        holding, parts = self._parts(message)
        model, want = ranking.asked(message, holding.snapshot.dim)
        found = linear.over_parts(parts, model, want, each=self._batch.crew.map)
        return ranking.reply(found, sum(part.base.rows for part in parts), followed_at)

    def classified(self, message: Message) -> Message:
        """Class and surety of every row of some shards, by a linear model: `ranking.classify`."""
        holding, parts = self._parts(message)
        model = ranking.model_of(message, holding.snapshot.dim)
        found = linear.classified(parts, model, each=self._batch.crew.map)
        return ranking.whole(found, sum(part.base.rows for part in parts))

    def sample(self, message: Message) -> Message:
        """Read some rows of some shards: values snapshot, shards, rows (numbers in the snapshot).

        Those of other shards, and of listings that changed since, are left out. Arrays: rows, and
        vectors (N, D).
        """
        _, parts = self._parts(message)
        wanted = np.unique(np.array(message.values["rows"], np.int64))
        kept, vectors = [], []
        for part in parts:
            block = part.base
            own = wanted[(wanted >= block.base) & (wanted < block.base + block.rows)] - block.base
            own = own if part.alive is None else own[part.alive[own] > 0]
            kept.append(own + block.base)
            vectors.append(block.gather(own))
        return Message(
            {"base": sum(part.base.rows for part in parts)},
            {"rows": np.concatenate(kept), "vectors": np.concatenate(vectors)},
        )

    def _followed(self, message: Message) -> tuple[float | None, int]:
        """Up to when the change log is taken in, and how many listings are behind that.

        Read before the parts are: they may be newer than what is said of them, never older.
        """
        holding = self._held.get(UUID(message.values["snapshot"]))
        if holding is None or holding.followed_at is None:
            return None, 0
        return holding.followed_at.timestamp(), holding.behind

    def _parts(self, message: Message) -> tuple[Holding, list[Part]]:
        version = UUID(message.values["snapshot"])
        holding = self._held.get(version)
        parts = holding.parts if holding else {}
        asked = message.values["shards"]
        if holding is None or not set(asked) <= set(parts):
            raise UnavailableError(
                f"this host must hold shards {asked} of snapshot {version}, it holds "
                f"{sorted(parts)}: look the hosts up again"
            )
        return holding, [parts[number] for number in asked]

    def _examples(self, message: Message, name: str, holding: Holding) -> Any:
        found = message.arrays[name]
        if found.ndim != 2 or found.shape[1] != holding.snapshot.dim:
            raise IntegrityError(
                f"{name} must have D={holding.snapshot.dim}, they have {found.shape}: "
                "embed them with the snapshot's model"
            )
        return found

    def _follow(self, stop: threading.Event, poll_s: float) -> None:
        # Reading the log is several requests: once a second keeps an idle collection quiet.
        while not stop.wait(2 * poll_s):
            self.poll()

    def _keep_copies(self, stop: threading.Event) -> None:
        # A machine that is lost takes its disk with it: others have its shards' files, too.
        if copies_of(self._settings, self._count) < 2:
            return
        while not stop.is_set():
            for version in [held for held in list(self._held) if held not in self._gone]:
                try:
                    whole = self._copy(version)
                    if whole and version not in self._copies:
                        self._copies[version] = Beacon(
                            self._store, self._service(COPIES, version, (self._index,))
                        )
                except (SightlineError, OSError) as error:
                    log.info("host %d: copies of snapshot %s: %s", self._index, version, error)
            self._look.wait(_COPY_S)
            self._look.clear()

    def _keep_checking(self, stop: threading.Event) -> None:
        # What is mapped is the file's own pages: a bit that flips in one is a wrong bound.
        rest = _CHECK_S
        while not stop.wait(rest):
            began = time.monotonic()
            try:
                self.check(stop)
            except SightlineError as error:
                log.warning("host %d: checking its files: %s", self._index, error)
            rest = max(_CHECK_S, (time.monotonic() - began) / _CHECK_SHARE)

    def _copy(self, version: UUID) -> bool:
        """Fetch what this machine should have of a snapshot; whether it has all of that."""
        every = self._store.shards(version)
        whole = True
        for behind in range(copies_of(self._settings, self._count)):
            owner = (self._index - behind) % self._count
            for shard in every[owner :: self._count]:
                whole &= self._shelf.complete(version, shard.files)
        return whole

    def _load(self, version: UUID) -> None:
        try:
            snapshot, every = self._store.snapshot(version), self._store.shards(version)
        except NotFoundError:
            return
        own = [n for n in range(len(every)) if n % self._count == self._index]
        try:
            blocks, names = self._open(snapshot, every, own)
        except (UnavailableError, OSError) as error:
            began = self._awaited.setdefault(version, time.monotonic())
            if time.monotonic() - began > _PATIENCE_S:
                self._report(version, error)
            self._again[version] = time.monotonic() + _RETRY_S / 4
            return
        except IntegrityError as error:
            self._report(version, error)
            # Checking every byte is work: not at each poll, while it waits to be built again.
            self._again[version] = time.monotonic() + _RETRY_S
            return
        warm(snapshot.dim)
        holding = Holding(snapshot, blocks, names, Filters(self._open_table, self._decided))
        follower = Follower(self._store, holding)
        try:
            # What changed since the snapshot was built is part of the first answer.
            follower.catch_up(within_s=_CATCH_UP_S)
        except SightlineError:
            self._again[version] = time.monotonic() + _RETRY_S
            raise
        for kept in (self._gone, self._again, self._awaited):
            kept.pop(version, None)
        if version in self._damages:
            self._damages.pop(version).close()
        with self._trust:
            # A query that comes at once may find that a file cannot be trusted.
            self._held[version] = holding
            self._followers[version] = follower
            self._advertise(version)
        self._look.set()

    def _advertise(self, version: UUID) -> None:
        """Say that this host serves a snapshot that it holds, unless it was distrusted."""
        if version in self._held:
            numbers = tuple(self._held[version].parts)
            self._beacons[version] = Beacon(self._store, self._service(ROLE, version, numbers))

    def _open(
        self, snapshot: Snapshot, every: list[Shard], own: list[int]
    ) -> tuple[list[Block], list[pa.Array]]:
        """Map this host's shards and read the names of all; what is not here is fetched first."""
        version = snapshot.snapshot_id
        for shard in every:
            shards.check_known(shard)  # no copy of another machine would be better
        for number, shard in enumerate(every):
            lists = {name: shard.files[name] for name in shard.files if shards.is_names(name)}
            self._shelf.complete(version, shard.files if number in own else lists)
        path = folder(self._settings, version)
        bases = np.r_[0, np.cumsum([shard.rows for shard in every])].tolist()
        blocks: list[Block] = []

        def opened(number: int) -> Block:
            # Directions of one shard do for all: a query is projected once.
            known = (each.components.directions for each in blocks if each.components is not None)
            return shards.open_block(
                path,
                every[number],
                dim=snapshot.dim,
                base=bases[number],
                like=next(known, None),
            )

        for number in own:
            try:
                block = opened(number)
            except IntegrityError:
                if self._count == 1:
                    raise
                # Another machine may have a copy that is whole.
                self._shelf.complete(version, every[number].files, check=True)
                block = opened(number)
            blocks.append(block)
        names = [shards.open_names(path, shard) for shard in every]
        for block in blocks:
            block.release()  # checking a shard has read all of it
        return blocks, names

    def _open_table(self, map_id: UUID) -> MapTable:
        return self._tables.table(map_id, max_age_s=_PLACED_S)

    def _decided(self, map_id: UUID, table: Callable[[], MapTable]) -> tuple[str, MapTable]:
        opened = table()
        view = self._views.view(
            map_id,
            lambda: opened,
            lambda: counted(self._store.clusters(map_id), opened),  # type: ignore[attr-defined]
            late=opened.rows - opened.made,
        )
        return view.token, view.table or opened

    def _distrust(self, version: UUID) -> None:
        """Serve a snapshot no longer: every byte is checked before it is held again."""
        # Not loaded again before its row is gone: that would be the same one.
        self._again[version] = time.monotonic() + _RETRY_S
        with self._trust:
            beacon = self._beacons.pop(version, None)
            self._held.pop(version, None)
            self._followers.pop(version, None)
        if beacon is not None:
            beacon.close()

    def _report(self, version: UUID, error: Exception) -> None:
        if version not in self._damages:
            log.error("host %d: %s", self._index, error)
            self._damages[version] = Beacon(self._store, self._service(DAMAGED, version, ()))

    def _service(self, role: str, version: UUID | None, numbers: tuple[int, ...]) -> Service:
        return Service(
            role=role,
            service_id=self._service_id(role, version),
            address=self._server.address,
            snapshot_id=version,
            shards=numbers,
            pid=os.getpid(),
        )

    def _service_id(self, role: str, version: UUID | None = None) -> UUID:
        return uuid5(NAMESPACE, f"{role}\0{self._id}\0{version}")


def copies_of(settings: Settings, count: int) -> int:
    """How many of `count` hosts keep the files of a shard."""
    return min(settings.shard_copies, count)


def warm(dim: int) -> None:
    """Scan one row, so that no query waits for the compiler."""
    vector = np.zeros((1, dim), np.float32)
    vector[0, 0] = 1
    block = Block(
        number=0,
        base=0,
        vectors=vector,
        codes=encode(vector),
        offsets=np.array([0, 1], np.int64),
        listings=pa.array([""]),
        images=np.zeros((1, 16), np.uint8),
        components=Components.of(vector, least=1),
    )
    none, every = vector[:0], (np.ones(1, np.uint8),)
    plain = Ask(vector, none, 1)
    for ask in (Ask(vector, vector, 1), plain, Ask(vector, none, 1, rows=every)):
        scan.best_listings([block], [ask])
    scan.best_listings([block], [plain] * sweep.MANY)
    asked = Asked.of(block, vector, np.array([plain.plan(0)], np.int64))
    firstpass.warm(block, asked)
