"""Shard files on the disk of a machine: where they lie, fetched from other hosts, swept away.

Spark writes a shard on the disk of the machine where its task runs. Hosts serve what lies on
theirs, of any snapshot, by names that its rows hold and no other; a host that lacks a file fetches
it in pieces, checks its sum and renames it into place. `shards_dir` may also be one file system
that all machines share: then nothing is ever missing, and nothing is fetched.
"""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from uuid import UUID

import numpy as np

from analytics.checksum import Checksum, checksum
from analytics.hosting.placement import FILES, ROLE, cover
from analytics.hosting.pointers import live_snapshots, wanted
from cql.errors import IntegrityError, NotFoundError, UnavailableError
from cql.records import Service, Shard, Snapshot
from cql.settings import PREFIX, Settings
from cql.store import Store
from cql.wire import Message, Pool

log = logging.getLogger(__name__)

VARIABLE = f"{PREFIX}SHARDS_DIR"
PIECE = 16 * 2**20
"""Bytes of a file that one call carries."""

PIECE_S = 30.0
ABANDONED_S = 6 * 3600.0
"""Seconds after which files without a row are what a build or a host that died has left."""

_KNOWN = 8
"""Snapshots whose rows are kept."""


class Registry(Protocol):
    """The part of the store that a shelf needs."""

    def snapshot(self, snapshot_id: UUID) -> Snapshot:
        """A snapshot."""

    def shards(self, snapshot_id: UUID) -> list[Shard]:
        """Its shards."""

    def services(self, role: str) -> list[Service]:
        """Live processes of a role."""


def here(settings: Settings) -> Settings:
    """The settings in a Spark task: the `SIGHTLINE_SHARDS_DIR` of a machine of a cluster wins."""
    own = os.environ.get(VARIABLE)
    return settings.replace(shards_dir=own) if own and settings.spark_master else settings


def base(settings: Settings) -> Path:
    """Folder of the shards of all snapshots on this machine."""
    return Path(settings.shards_dir) if settings.shards_dir else settings.data_dir / "shards"


def folder(settings: Settings, snapshot_id: UUID) -> Path:
    """Folder that holds the files of a snapshot on this machine."""
    return base(settings) / str(snapshot_id)


class Shelf:
    """The shard files of one host's machine. Thread-safe.

    `count` hosts share the collection; `service_id` is this one's own row among them.
    """

    def __init__(
        self, settings: Settings, store: Registry, *, count: int, service_id: UUID
    ) -> None:
        self._settings, self._store = settings, store
        self._count, self._id = count, service_id
        self._pool = Pool(settings)
        self._rows: dict[UUID, list[Shard]] = {}

    def close(self) -> None:
        """Close the connections to other hosts."""
        self._pool.close()

    def read(self, message: Message) -> Message:
        """Serve a piece: values snapshot, name, start -> size, and array `data` (uint8).

        NotFoundError for a name that is not one of the snapshot's, and a file that is not here.
        """
        version, name = UUID(message.values["snapshot"]), str(message.values["name"])
        start = int(message.values["start"])
        if not any(name in shard.files for shard in self._shards(version)):
            raise NotFoundError(f"snapshot {version} has no file of this name: {name[:80]!r}")
        try:
            with (folder(self._settings, version) / name).open("rb") as file:
                size = os.fstat(file.fileno()).st_size
                data = os.pread(file.fileno(), PIECE, start)
        except OSError as error:
            raise NotFoundError(f"{name} is not here: {error.strerror}") from error
        return Message({"size": size}, {"data": np.frombuffer(data, np.uint8)})

    def complete(self, version: UUID, files: Mapping[str, str], *, check: bool = False) -> bool:
        """Fetch those files (name to sum) that are missing, or with `check` those that differ.

        What no host has is left missing; whether all are here now. UnavailableError while a host
        that may have one is away.
        """
        path = folder(self._settings, version)
        lacking = {
            name: digest
            for name, digest in files.items()
            if not (path / name).exists() or (check and checksum(path / name) != digest)
        }
        if not lacking or self._count == 1:
            return not lacking
        began = time.monotonic()
        rows = self._store.services(FILES)
        peers = [row for row in rows if row.service_id != self._id]
        away = self._count - len({index for row in rows for index in row.shards})
        fetched = [
            name
            for name, digest in lacking.items()
            if self._fetch(peers, away, version, name, digest)
        ]
        spent = time.monotonic() - began
        log.info("snapshot %s: %d files fetched in %.1f s", version, len(fetched), spent)
        return len(fetched) == len(lacking)

    def forget(self, version: UUID) -> bool:
        """Delete the files of a snapshot whose row is gone, and say so; those of another stay."""
        try:
            self._store.snapshot(version)
        except NotFoundError:
            shutil.rmtree(folder(self._settings, version), ignore_errors=True)
            self._rows.pop(version, None)
            return True
        return False

    def sweep(self) -> None:
        """Delete what was left here long ago by builds and hosts that died."""
        for version, age_s in _lying(self._settings):
            if age_s > ABANDONED_S:
                self.forget(version)

    def _fetch(
        self, peers: Iterable[Service], away: int, version: UUID, name: str, digest: str
    ) -> bool:
        """Whether a host had the file. UnavailableError where one may have it that is away."""
        trouble = f"{away} of {self._count} hosts have not started" if away > 0 else ""
        for peer in peers:
            try:
                self._copy(peer.address, version, name, digest)
            except (NotFoundError, IntegrityError) as error:
                log.debug("%s of %s: %s", name, peer.address, error)
            except UnavailableError as error:
                trouble = str(error)
            else:
                return True
        if trouble:
            raise UnavailableError(f"{name} must come from another host: {trouble}")
        return False

    def _copy(self, address: str, version: UUID, name: str, digest: str) -> None:
        path = folder(self._settings, version) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        draft = path.with_name(f".{name}.{os.getpid()}.{time.time_ns()}")
        seen, start, size = Checksum(), 0, 1
        try:
            with draft.open("wb") as file:
                while start < size:
                    asked = Message({"snapshot": str(version), "name": name, "start": start})
                    reply = self._pool.call(address, "file", asked, timeout_s=PIECE_S)
                    data = reply.arrays["data"].tobytes()
                    size = int(reply.values["size"])
                    if not data:
                        break
                    seen.update(data)
                    file.write(data)
                    start += len(data)
                file.flush()
                os.fsync(file.fileno())
            if seen.hexdigest() != digest:
                raise IntegrityError(f"{name} of {address} has another sum than its row says")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)

    def _shards(self, version: UUID) -> list[Shard]:
        found = self._rows.get(version)
        if found is None:
            found = self._store.shards(version)
            if found:
                if len(self._rows) >= _KNOWN:
                    self._rows.clear()
                self._rows[version] = found
        return found


def is_whole(settings: Settings, store: Store, snapshot: Snapshot) -> bool:
    """Whether the files of a snapshot are there, here or on the disks of hosts that hold it."""
    shards = store.shards(snapshot.snapshot_id)
    path = folder(settings, snapshot.snapshot_id)
    if len(shards) == snapshot.shards and all(
        (path / name).exists() for shard in shards for name in shard.files
    ):
        return True
    return bool(settings.shards_dir) and cover(store.services(ROLE), snapshot) is not None


def numbered(settings: Settings, store: Store, written: Sequence[tuple[str, str]]) -> list[int]:
    """Order in which shards are numbered, by the hosts that live now; see `arrange`."""
    hosts = store.services(FILES) if settings.shards_dir else []
    apart = {machine for _, machine in written} - {_machine_of(host) for host in hosts}
    if hosts and apart:
        log.warning(
            "shards were written by %s, where no host runs to serve them: raise shard_hosts to one "
            "a machine",
            ", ".join(sorted(apart)),
        )
    return arrange(written, hosts, settings.shard_hosts)


def arrange(written: Sequence[tuple[str, str]], hosts: Iterable[Service], count: int) -> list[int]:
    """Order in which shards are numbered, so that hosts hold what lies on their own disk.

    `written`: stem of each shard's files and address of the machine that wrote them. Host i of
    `count` holds the numbers n with n % count == i, so every host gets its share, and first of what
    its machine wrote. Returns indices into `written`; without `hosts` in the order of stems.
    """
    left = sorted(range(len(written)), key=lambda at: written[at][0])
    order: list[int | None] = [None] * len(left)
    living = {index: _machine_of(row) for row in hosts for index in row.shards}
    for number in range(len(order)):
        machine = living.get(number % count)
        own = next((at for at in left if written[at][1] == machine), None)
        if own is not None:
            order[number] = own
            left.remove(own)
    rest = iter(left)
    return [next(rest) if at is None else at for at in order]


def prune(settings: Settings, store: Store) -> None:
    """Forget snapshots older than the live one of their model, with their files on this machine.

    Hosts delete the files on their own disks when they let go of a snapshot.
    """
    live = sorted(live_snapshots(store).values(), key=lambda each: each.created_at)
    named = {each.model_id: store.model(each.model_id).name for each in live}
    newest = {named[each.model_id]: each.created_at for each in live}
    held = set(wanted(store.live_versions()))
    known = store.snapshots()
    for each in known:
        # New weights of a model of the same name have taken over from the old ones.
        name = named.get(each.model_id) or store.model(each.model_id).name
        # Cassandra keeps milliseconds: the live one's own row may look older than it is.
        if each.snapshot_id not in held and name in newest and each.created_at < newest[name]:
            store.delete_snapshot(each.snapshot_id)
            shutil.rmtree(folder(settings, each.snapshot_id), ignore_errors=True)
    rows = {each.snapshot_id for each in known}
    for version, age_s in _lying(settings):
        if version not in rows and age_s > ABANDONED_S:
            shutil.rmtree(folder(settings, version), ignore_errors=True)


def _machine_of(host: Service) -> str:
    """Address of the machine that a host runs on."""
    return urlsplit(host.address).hostname or ""


def _lying(settings: Settings) -> list[tuple[UUID, float]]:
    """Snapshots that have a folder on this machine, and the seconds since it changed."""
    found = []
    path = base(settings)
    for each in sorted(path.iterdir()) if path.exists() else ():
        try:
            found.append((UUID(each.name), time.time() - each.stat().st_mtime))
        except (ValueError, OSError):
            continue  # not ours, or deleted by another host of this machine
    return found
