"""Stock under compare-and-set: one winner for each etag, and a lost answer sells nothing twice."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from cassandra import OperationTimedOut, WriteTimeout, WriteType
from cassandra.connection import ConnectionException
from cassandra.policies import RetryPolicy
from cassandra.protocol import ErrorMessage
from cassandra.query import BoundStatement, SimpleStatement
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as some

from cql import access
from cql.errors import ConflictError, SightlineError, UnavailableError
from cql.records import Stock
from cql.session import Once, close, connect
from cql.settings import Settings
from cql.store import Store

pytestmark = pytest.mark.service

property_test = settings(
    max_examples=15,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
ERRORS = (
    OperationTimedOut("lost"),
    WriteTimeout("lost", write_type=WriteType.CAS),
    ConnectionException("lost"),
    ErrorMessage(0x1700, "the result of the compare-and-set is not known", None),
)
OK, UNSENT, UNANSWERED = "ok", "unsent", "unanswered"


def _nothing() -> None: ...


class Lossy:
    """A session that loses compare-and-sets, before or after they are carried out, as told."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.fates: Iterator[str] = iter(())
        self.errors = itertools.cycle(ERRORS)
        self.after: Callable[[], None] = _nothing
        self._lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)

    def execute(self, query: Any, *given: Any, **named: Any) -> Any:
        if not isinstance(query, BoundStatement) or query.is_idempotent:
            return self._session.execute(query, *given, **named)
        with self._lock:
            fate, error = next(self.fates, OK), next(self.errors)
        if fate == UNSENT:
            raise error
        result = self._session.execute(query, *given, **named)
        if fate == UNANSWERED:
            self.after()
            raise error
        return result


@pytest.fixture(scope="module")
def lossy(settings: Settings) -> Iterator[Lossy]:
    session = connect(settings)
    yield Lossy(session)
    close(session)


@pytest.fixture
def shop(lossy: Lossy, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store whose compare-and-sets may get lost; it asks again at once."""
    monkeypatch.setattr(access, "BACKOFF_S", 0.001)
    yield Store(lossy, settings)
    lossy.fates, lossy.after = iter(()), _nothing


def logged(store: Store, listing_id: str) -> int:
    """Entries of the change log about the stock of a listing."""
    end = datetime.now(UTC) + timedelta(seconds=1)
    found = store.changes(end - timedelta(minutes=10), end)
    return sum(each.kind == "stock" and each.listing_id == listing_id for each in found)


fates = some.lists(some.sampled_from([OK, UNSENT, UNANSWERED]), max_size=12)


@property_test
@given(st=some.lists(some.tuples(some.sampled_from("ncs"), some.integers(0, 9)), max_size=8))
def test_one_after_another_follows_the_model(store: Store, st: list[tuple[str, int]]) -> None:
    """Changes that name no etag, the current one or a stale one, against a plain variable."""
    name, now, stale = f"model-{uuid4()}", None, "stale"
    wins = 0
    for which, inventory in st:
        current = now.etag if now is not None else ""
        named = {"n": "", "c": current, "s": stale}[which]
        if named == current:
            stale = current or stale
            now = store.set_stock(name, inventory, etag=named)
            assert (now.inventory, now.etag not in {named, ""}) == (inventory, True)
            wins += 1
        else:
            with pytest.raises(ConflictError) as lost:
                store.set_stock(name, inventory, etag=named)
            assert (lost.value.expected, lost.value.found) == (named, current)
        assert store.stock([name]).get(name) == now
    assert logged(store, name) == wins


@property_test
@given(rounds=some.lists(some.lists(some.integers(0, 50), min_size=2, max_size=6), max_size=3))
def test_of_rivals_exactly_one_wins_each_etag(store: Store, rounds: list[list[int]]) -> None:
    name, etag = f"rivals-{uuid4()}", ""
    for inventories in rounds:
        gate = threading.Barrier(len(inventories))

        def change(
            inventory: int, etag: str = etag, gate: threading.Barrier = gate
        ) -> Stock | SightlineError:
            gate.wait(30)
            try:
                return store.set_stock(name, inventory, etag=etag)
            except SightlineError as error:
                return error

        with ThreadPoolExecutor(len(inventories)) as pool:
            found = list(pool.map(change, inventories))
        (winner,) = (each for each in found if isinstance(each, Stock))
        assert store.stock([name]) == {name: winner}
        lost = [each for each in found if isinstance(each, ConflictError)]
        assert {each.expected for each in lost} <= {etag}
        assert {each.found for each in lost} <= {winner.etag}
        etag = winner.etag


@property_test
@given(lost=fates, inventories=some.lists(some.integers(0, 9), min_size=1, max_size=4))
def test_alone_a_lost_answer_changes_nothing(
    shop: Store, lossy: Lossy, lost: list[str], inventories: list[int]
) -> None:
    """Without a rival, whatever gets lost, a change is applied once or fails without a trace."""
    name, etag, wins = f"alone-{uuid4()}", "", 0
    lossy.fates = iter(lost)
    for inventory in inventories:
        before = shop.stock([name])
        try:
            now = shop.set_stock(name, inventory, etag=etag)
        except UnavailableError:
            assert shop.stock([name]) == before
            continue
        assert shop.stock([name]) == {name: now}
        etag, wins = now.etag, wins + 1
    assert logged(shop, name) == wins


@property_test
@given(lost=fates, sellers=some.integers(2, 4))
def test_no_piece_is_sold_twice(shop: Store, lossy: Lossy, lost: list[str], sellers: int) -> None:
    """Sellers take one piece each, again on a conflict: it says for sure that none was taken."""
    name, first = f"sold-{uuid4()}", 20
    lossy.fates = iter(())
    shop.set_stock(name, first, etag="")
    lossy.fates = iter(lost)
    gate = threading.Barrier(sellers)

    def sell(_seller: int) -> list[str]:
        gate.wait(30)
        told = []
        for _ in range(3):
            while True:
                known = shop.stock([name])[name]
                try:
                    shop.set_stock(name, known.inventory - 1, etag=known.etag)
                except ConflictError:
                    continue
                except UnavailableError:
                    told.append("unknown")
                else:
                    told.append("sold")
                break
        return told

    with ThreadPoolExecutor(sellers) as pool:
        told = list(itertools.chain.from_iterable(pool.map(sell, range(sellers))))
    gone = first - shop.stock([name])[name].inventory
    assert told.count("sold") <= gone <= len(told)
    if not lost:
        assert told.count("sold") == gone == 3 * sellers


@pytest.mark.parametrize("etag", ["", "there"])
def test_what_was_applied_and_changed_again_is_no_conflict(
    shop: Store, store: Store, lossy: Lossy, etag: str
) -> None:
    """Told "conflict", a seller would take its piece again."""
    name = f"again-{uuid4()}"
    if etag:
        store.load_stock([Stock(listing_id=name, inventory=9, etag=etag)])
    lossy.fates = iter([UNANSWERED])

    def rival() -> None:
        store.set_stock(name, 7, etag=store.stock([name])[name].etag)

    lossy.after = rival
    with pytest.raises(UnavailableError, match="whether yours was applied is not known"):
        shop.set_stock(name, 8, etag=etag)
    assert store.stock([name])[name].inventory == 7


def test_a_compare_and_set_is_not_sent_to_the_next_node(store: Store) -> None:
    policy, error = Once(), ConnectionException("lost")
    for repeatable, wanted in ((True, RetryPolicy.RETRY_NEXT_HOST), (False, RetryPolicy.RETHROW)):
        bound = BoundStatement.__new__(BoundStatement)
        bound.is_idempotent = repeatable
        assert policy.on_request_error(bound, None, error, 0)[0] == wanted
    simple = SimpleStatement("CREATE TABLE IF NOT EXISTS a.b (c int PRIMARY KEY)")
    assert policy.on_request_error(simple, None, error, 0)[0] == RetryPolicy.RETRY_NEXT_HOST
    profile = store._session.cluster.profile_manager.default
    assert isinstance(profile.retry_policy, Once)
