"""How statements run: prepared once, retried where that is safe, bounded, errors in our words."""

from __future__ import annotations

import dataclasses
import random
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial
from itertools import chain, groupby, islice, repeat
from operator import is_
from typing import Any, TypeVar
from uuid import UUID

from cassandra import (
    ConsistencyLevel,
    OperationTimedOut,
    RequestExecutionException,
    Unauthorized,
    Unavailable,
)
from cassandra.cluster import NoHostAvailable, ResultSet, Session
from cassandra.concurrent import execute_concurrent_with_args
from cassandra.connection import ConnectionException
from cassandra.protocol import ErrorMessage
from cassandra.query import (
    UNSET_VALUE,
    BatchStatement,
    BatchType,
    BoundStatement,
    PreparedStatement,
)

from cql.errors import ConflictError, UnavailableError
from cql.session import was_applied
from cql.settings import Settings
from cql.statements import Statement

Row = TypeVar("Row")
Pair = tuple[Statement, Sequence[Any]]
"""A statement and its values."""

TRIES = 5
BACKOFF_S = 0.1
CONCURRENT = 64
"""Most requests that one call keeps in flight."""
CONCURRENT_CAS = 32
"""Most compare-and-sets in flight: each is four rounds between replicas."""
BATCH_ROWS = 500
BATCH_BYTES = 96 * 1024
"""Most rows and bytes of a batch of one partition, which Cassandra does not limit. A row that is
larger by itself is sent alone."""
MIXED_BYTES = 32 * 1024
"""Most bytes of a batch of several partitions. Cassandra refuses those above 50 KiB, unless it is
told otherwise; it counts more than values."""
BULK_ROWS = 200
BULK_CONCURRENT = 8
"""Rows of a batch of `bulk`, and most batches in flight."""
PAGE_ROWS = 2_000
KEYS = 25
"""Partition keys that one request names: more of them load one coordinator for longer."""

_PLAIN = frozenset({str, int, float, bytes, bool, UUID})

TRANSIENT = (RequestExecutionException, OperationTimedOut, NoHostAvailable, ConnectionException)
"""What the driver raises where another try may be answered."""


def now() -> datetime:
    """Now, in UTC, in the milliseconds that Cassandra keeps."""
    moment = datetime.now(UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)


def utc(value: datetime | None) -> datetime | None:
    """A stored time (naive, UTC) as an aware one."""
    return value.replace(tzinfo=UTC) if value is not None and value.tzinfo is None else value


class Access:
    """Runs statements of one collection. Thread-safe."""

    def __init__(self, session: Session, settings: Settings) -> None:
        self._session = session
        self.settings = settings
        self._prepared: dict[Statement, PreparedStatement] = {}
        self._lock = threading.Lock()

    def run(self, statement: Statement, *values: Any) -> ResultSet:
        """Run one statement and return its (paged) rows.

        Raises:
            UnavailableError: no answer, after several tries where the statement is repeatable.
        """
        prepared = self._prepare(statement)
        return self._retried(
            lambda: self._session.execute(prepared.bind(values)),
            tries=TRIES if statement.repeatable else 1,
        )

    def one(self, statement: Statement, *values: Any) -> Any:
        """The first row, None where there is none."""
        return self.run(statement, *values).one()

    def page(
        self, statement: Statement, values: Sequence[Any], *, rows: int, state: bytes | None
    ) -> tuple[list[Any], bytes | None]:
        """At most `rows` rows from `state` on, and the state of the next page."""
        prepared = self._prepare(statement)

        def fetch() -> ResultSet:
            bound = prepared.bind(values)
            bound.fetch_size = rows
            return self._session.execute(bound, paging_state=state)

        found = self._retried(fetch)
        return list(found.current_rows), found.paging_state

    def each(self, statement: Statement, *values: Any, rows: int = PAGE_ROWS) -> Iterator[Any]:
        """All rows, `rows` at a time; a page that fails is asked for again."""
        state: bytes | None = None
        while True:
            found, state = self.page(statement, values, rows=rows, state=state)
            yield from found
            if state is None:
                return

    def many(self, statement: Statement, values: Iterable[Sequence[Any]]) -> list[list[Any]]:
        """Run a repeatable statement for each tuple, some at once; rows of each, in order."""
        prepared = self._prepare(statement)
        todo = [tuple(row) for row in values]
        if len(todo) == 1 and statement.repeatable:
            return [list(self.run(statement, *todo[0]))]
        found: dict[int, list[Any]] = {}
        waiting = list(range(len(todo)))
        for attempt in range(TRIES):
            if not waiting:
                break
            if attempt:
                _pause(attempt)
            results = execute_concurrent_with_args(
                self._session,
                prepared,
                [todo[index] for index in waiting],
                concurrency=CONCURRENT,
                raise_on_first_error=False,
            )
            failed = []
            for index, (success, result) in zip(waiting, results, strict=True):
                if success:
                    found[index] = list(result)
                elif not isinstance(result, (*TRANSIENT, Unauthorized)):
                    raise result
                elif attempt == TRIES - 1 or isinstance(result, Unauthorized):
                    # Without a quorum Cassandra cannot look rights up and says there are none.
                    raise unavailable(result) from result
                else:
                    failed.append(index)
            waiting = failed
        return [found[index] for index in range(len(todo))]

    def keyed(self, statement: Statement, keys: Iterable[Any]) -> list[Any]:
        """Rows of a statement that ends in `key IN ?`, some keys a request, in no order."""
        named = [(block,) for block in blocks(dict.fromkeys(keys), KEYS)]
        return [row for rows in self.many(statement, named) for row in rows]

    def together(self, *parts: Pair | list[Pair]) -> list[list[Any]]:
        """Run repeatable statements at once; the first page of each one's rows when all are done.

        A part is a statement with its values, or a list of such that write: these go as one
        request, an unlogged batch, up to `MIXED_BYTES`.

        Raises:
            UnavailableError: one of them was not carried out, the others may have been.
        """
        requests = [self._requests(part) for part in parts]

        def send() -> list[list[Any]]:
            # All are awaited before the first error is told: a retry must not meet its old self.
            waiting = [[self._session.execute_async(each) for each in part] for part in requests]
            found: list[list[Any]] = []
            failed: list[Exception] = []
            for part in waiting:
                found.append([])
                for each in part:
                    try:
                        found[-1] += each.result().current_rows
                    except Exception as error:  # noqa: BLE001 - raised again below
                        failed.append(error)
            if failed:
                raise failed[0]
            return found

        rows: list[list[Any]] = self._retried(send)
        return rows

    def _requests(self, part: Pair | list[Pair]) -> list[BoundStatement | BatchStatement]:
        pairs = part if isinstance(part, list) else [part]
        bound = [self._prepare(statement).bind(values) for statement, values in pairs]
        if len(bound) == 1:
            return bound
        if _size(value for each in bound for value in each.values) > MIXED_BYTES:
            return bound
        group = BatchStatement(BatchType.UNLOGGED)
        for each in bound:
            group.add(each)
        return [group]

    def write(self, statement: Statement, rows: Iterable[Sequence[Any]]) -> int:
        """Write any number of rows, a bounded number at once; returns how many."""
        written = 0
        for block in blocks(rows, PAGE_ROWS):
            self.many(statement, block)
            written += len(block)
        return written

    def batch(self, statement: Statement, rows: Iterable[Sequence[Any]]) -> int:
        """Write rows of one partition in unlogged batches, bounded in rows and in bytes."""
        prepared = self._prepare(statement)
        written = 0
        for given in blocks(rows, BATCH_ROWS):
            for block in _bounded(_serialised(prepared, given)):
                group = _grouped(prepared, block)
                self._retried(lambda group=group: self._session.execute(group))  # type: ignore[misc]
                written += len(block)
        return written

    def bulk(self, statement: Statement, rows: Iterable[Sequence[Any]], *, key: int) -> int:
        """Write rows in unlogged batches, some at once; returns how many.

        `key`: how many leading values are the partition key. Rows of one partition should follow
        each other: each run of them is cut into batches. An error of `rows` is let through.
        """
        prepared = self._prepare(statement)
        waiting: deque[tuple[BatchStatement, Any]] = deque()
        written = 0
        for _, own in groupby(rows, key=lambda row: row[:key]):
            for block in blocks(own, BULK_ROWS):
                group = _grouped(prepared, _serialised(prepared, block))
                if len(waiting) >= BULK_CONCURRENT:
                    self._settle(*waiting.popleft())
                waiting.append((group, self._session.execute_async(group)))
                written += len(block)
        for group, future in waiting:
            self._settle(group, future)
        return written

    def _settle(self, group: BatchStatement, future: Any) -> None:
        try:
            future.result()
        except Unauthorized as error:
            raise unavailable(error) from error
        except TRANSIENT:
            _pause(1)
            self._retried(lambda: self._session.execute(group))

    def cas(
        self, statement: Statement, values: Sequence[Any], *, settled: Callable[[], bool | None]
    ) -> bool:
        """Compare and set: whether it was applied.

        When the answer is lost, nobody knows; then `settled` reads whether our value is there.
        It says False only where the old value is there, which is worth another try, and None
        where a third one is: ours may have been there before it.

        Raises:
            UnavailableError: not carried out, or nobody can say whether it was.
        """
        prepared = self._prepare(statement)
        for attempt in range(TRIES):
            try:
                return was_applied(self._session.execute(prepared.bind(values)))
            except Unauthorized as error:
                raise unavailable(error) from error
            except Unavailable as error:
                # No replica was asked.
                if attempt == TRIES - 1:
                    raise unavailable(error) from error
                _pause(attempt + 1)
            except (*TRANSIENT, ErrorMessage) as error:
                _pause(attempt + 1)
                found = settled()
                if found:
                    return True
                if found is None:
                    raise UnavailableError(
                        "the answer to a change was lost, and somebody changed the same thing "
                        "since: whether yours was applied is not known; read it again"
                    ) from error
                if attempt == TRIES - 1:
                    raise unavailable(error) from error
        raise AssertionError("unreachable")

    def cas_many(
        self,
        statement: Statement,
        rows: Sequence[Sequence[Any]],
        *,
        settled: Callable[[int], bool | None],
    ) -> list[bool]:
        """Compare and set for each of some rows, many at once: which were applied, in order.

        As `cas`, which takes over where an answer is lost; `settled` takes the row's place.
        """
        prepared = self._prepare(statement)
        results = execute_concurrent_with_args(
            self._session, prepared, rows, concurrency=CONCURRENT_CAS, raise_on_first_error=False
        )
        applied = []
        for at, (success, result) in enumerate(results):
            if success:
                applied.append(was_applied(result))
            elif isinstance(result, (*TRANSIENT, ErrorMessage)):
                done = partial(settled, at)
                applied.append(bool(done()) or self.cas(statement, rows[at], settled=done))
            else:
                raise result
        return applied

    def serial(self, statement: Statement, *values: Any) -> Any:
        """First row as the last compare-and-set left it, finishing one that hangs in between."""
        prepared = self._prepare(statement)

        def fetch() -> ResultSet:
            bound = prepared.bind(values)
            bound.consistency_level = ConsistencyLevel.LOCAL_SERIAL
            return self._session.execute(bound)

        return self._retried(fetch).one()

    def _prepare(self, statement: Statement) -> PreparedStatement:
        found = self._prepared.get(statement)
        if found is None:
            text = statement.text.format(
                keyspace=self.settings.keyspace, results=self.settings.results_keyspace
            )
            with self._lock:
                found = self._prepared.get(statement)
                if found is None:
                    found = self._retried(lambda: self._session.prepare(text))
                    found.is_idempotent = statement.repeatable
                    self._prepared[statement] = found
        return found

    def _retried(self, call: Callable[[], Any], *, tries: int = TRIES) -> Any:
        for attempt in range(tries):
            if attempt:
                _pause(attempt)
            try:
                return call()
            except Unauthorized as error:
                raise unavailable(error) from error
            except TRANSIENT as error:
                if attempt == tries - 1:
                    raise unavailable(error) from error
        raise AssertionError("unreachable")


def record(kind: type[Row], row: Any, **changes: Any) -> Row:
    """A frozen record from a row whose columns are named like its fields; times become aware."""
    values = dict(changes)
    for name, spec in _fields(kind):  # type: ignore[arg-type]
        if name not in values:
            value = getattr(row, name)
            if type(value) in _PLAIN:
                values[name] = value
                continue
            if isinstance(value, datetime):
                value = utc(value)
            elif isinstance(value, list):
                value = tuple(value)
            elif isinstance(value, Mapping):
                value = dict(value)
            if value is None:
                # Cassandra stores no empty collections, and old rows lack new columns.
                value = _missing(spec)
            values[name] = value
    return kind(**values)


def values_of(item: Any, columns: str, **changes: Any) -> tuple[Any, ...]:
    """The fields of a record in the order of `columns`."""
    return tuple(
        changes[name] if name in changes else getattr(item, name) for name in columns.split()
    )


def blocks(items: Iterable[Row], size: int) -> Iterator[list[Row]]:
    """Cut an iterable into lists of at most `size`."""
    source = iter(items)
    while block := list(islice(source, size)):
        yield block


def _grouped(prepared: PreparedStatement, rows: Iterable[Row]) -> BatchStatement:
    """An unlogged batch of rows, each of serialised values."""
    group = BatchStatement(BatchType.UNLOGGED)
    # A batch takes the values of what is added, and the routing key of the first: one will do.
    bound = BoundStatement(prepared)
    for row in rows:
        bound.values = row
        group.add(bound)
    return group


def _serialised(
    prepared: PreparedStatement, rows: Sequence[Sequence[Any]]
) -> list[tuple[Any, ...]]:
    """Rows, every value given, as they are sent: as `prepared.bind` does, in a fifth of its time.

    A value that all rows share is serialised once.
    """
    version = prepared.protocol_version
    columns = []
    for spec, values in zip(prepared.column_metadata, zip(*rows, strict=True), strict=True):
        write, first = spec.type.serialize, values[0]
        shared = all(map(is_, values, repeat(first)))
        made = [
            value if value is None or value is UNSET_VALUE else write(value, version)
            for value in (values[:1] if shared else values)
        ]
        columns.append(made * len(rows) if shared else made)
    return list(zip(*columns, strict=True))


def _bounded(rows: Sequence[tuple[Any, ...]]) -> Iterator[Sequence[tuple[Any, ...]]]:
    """Cut serialised rows into batches of at most `BATCH_BYTES`."""
    first = held = 0
    if _size(chain.from_iterable(rows)) > BATCH_BYTES:
        for at, size in enumerate(map(_size, rows)):
            if at > first and held + size > BATCH_BYTES:
                yield rows[first:at]
                first, held = at, 0
            held += size
    yield rows[first:]


def _size(values: Iterable[Any]) -> int:
    return sum([len(value) for value in values if type(value) is bytes])


def conflict(what: str, expected: object, found: object) -> ConflictError:
    """The error of a lost compare-and-set, with both versions."""
    known, there = ("(none)" if each == "" else each for each in (expected, found))
    return ConflictError(
        f"{what} was expected at version {known}, somebody moved it to {there}: read it again",
        expected=str(expected),
        found=str(found),
    )


@lru_cache
def _fields(kind: type[Any]) -> tuple[tuple[str, dataclasses.Field[Any]], ...]:
    return tuple((spec.name, spec) for spec in dataclasses.fields(kind))


def _missing(spec: dataclasses.Field[Any]) -> Any:
    if spec.default_factory is not dataclasses.MISSING:
        return spec.default_factory()
    if spec.default is not dataclasses.MISSING:
        return spec.default
    text = str(spec.type)
    if text.startswith("tuple"):
        return ()
    return {} if text.startswith("Mapping") else None


def _pause(attempt: int) -> None:
    # The jitter only spreads retries; nothing secret depends on it.
    time.sleep(BACKOFF_S * 2 ** (attempt - 1) * (0.5 + random.random()))  # noqa: S311


def unavailable(error: BaseException) -> UnavailableError:
    """What the driver says, in our words."""
    causes = getattr(error, "errors", None)
    detail = "; ".join(map(str, causes.values())) if isinstance(causes, dict) and causes else error
    return UnavailableError(
        f"Cassandra did not carry out a request ({type(error).__name__}: {detail}): "
        "check that it runs, then try again"
    )
