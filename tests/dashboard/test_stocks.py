"""Stock by REST and by command: etags, conflicts, and what is refused at the door."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from cql.errors import ConflictError, InputError, NotFoundError, UnavailableError
from cql.records import Listing, Stock
from cql.settings import Settings
from cql.store import Store
from dashboard import app, cli, commands, stocks
from dashboard.views import StockView
from tests.dashboard.fakes import FakeServices

BASE = "http://127.0.0.1"
STEP = "stock-20260101T000000-0123abcd.csv"


class Shelf(FakeServices):
    """Services whose stock is real, in a real store."""

    store: Store

    def stock(self, listing_id: str) -> StockView:
        return stocks.read(self.store, listing_id)

    def set_stock(self, listing_id: str, inventory: int, *, etag: str) -> StockView:
        return stocks.change(self.store, listing_id, inventory, etag=etag)


@pytest.fixture
def listing(store: Store, request: pytest.FixtureRequest) -> str:
    """A listing without stock, whose id has what ids may have."""
    name = f"a b/ü {request.node.name}"
    store.put_listings([Listing(listing_id=name)])
    return name


@pytest.fixture
def client(store: Store, tmp_path: Path) -> TestClient:
    services = Shelf(Settings(data_dir=tmp_path))
    services.store = store
    built = app.create(services.settings, services)  # type: ignore[arg-type]
    return TestClient(built.server, base_url=BASE, raise_server_exceptions=False)


@pytest.mark.service
def test_stock_is_set_once_for_each_etag(client: TestClient, listing: str) -> None:
    path = f"/api/v1/listings/{listing}/stock"
    assert client.get(path).status_code == 404
    first = client.put(path, json={"inventory": 3}, headers={"if-none-match": "*"})
    assert first.status_code == 201, first.text
    read = client.get(path)
    assert read.json() == first.json()
    assert (read.json()["inventory"], read.json()["listing_id"]) == (3, listing)
    assert read.headers["etag"] == first.headers["etag"] == f'"{read.json()["etag"]}"'
    assert read.headers["cache-control"] == "no-store"
    second = client.put(path, json={"inventory": 2}, headers={"if-match": read.headers["etag"]})
    assert (second.status_code, second.json()["inventory"]) == (200, 2)
    for headers in ({"if-match": first.headers["etag"]}, {"if-none-match": "*"}):
        lost = client.put(path, json={"inventory": 9}, headers=headers)
        assert lost.status_code == 412
        assert lost.headers["etag"] == second.headers["etag"]
        assert set(lost.json()) == {"error", "fix"}
        assert second.json()["etag"] in lost.json()["error"]
        known = first.json()["etag"] if "if-match" in headers else "(none)"
        assert known in lost.json()["error"]
    assert client.get(path).json()["inventory"] == 2


@pytest.mark.service
@pytest.mark.parametrize(
    ("headers", "body", "status", "text"),
    [
        ({}, {"inventory": 1}, 428, "If-Match"),
        ({"if-match": "plain"}, {"inventory": 1}, 400, "'plain'"),
        ({"if-match": "*"}, {"inventory": 1}, 400, "strong ETag"),
        ({"if-match": 'W/"a"'}, {"inventory": 1}, 400, "strong ETag"),
        ({"if-match": '"a", "b"'}, {"inventory": 1}, 400, "one strong ETag"),
        ({"if-none-match": '"a"'}, {"inventory": 1}, 400, "If-None-Match: *"),
        ({"if-match": '"a"', "if-none-match": "*"}, {"inventory": 1}, 400, "one of them"),
        ({"if-match": '"a"'}, {"inventory": 1}, 412, "(none)"),
        ({"if-none-match": "*"}, {"inventory": -1}, 400, "inventory"),
        ({"if-none-match": "*"}, {"inventory": 2**31}, 400, "inventory"),
        ({"if-none-match": "*"}, {}, 400, "inventory"),
    ],
)
def test_a_change_without_its_condition_changes_nothing(
    client: TestClient, listing: str, headers: Any, body: Any, status: int, text: str
) -> None:
    path = f"/api/v1/listings/{listing}/stock"
    response = client.put(path, json=body, headers=headers)
    assert response.status_code == status, response.text
    assert text in response.json()["error"]
    assert response.json()["fix"]
    assert client.get(path).status_code == 404


@pytest.mark.service
def test_a_listing_that_is_not_there_has_no_stock(client: TestClient, store: Store) -> None:
    path = "/api/v1/listings/nobody/stock"
    put = client.put(path, json={"inventory": 1}, headers={"if-none-match": "*"})
    assert (put.status_code, client.get(path).status_code) == (404, 404)
    assert store.stock(["nobody"]) == {}


@pytest.mark.service
def test_without_an_etag_whatever_is_there_is_replaced(
    store: Store, listing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert stocks.change(store, listing, 1, etag=None).inventory == 1
    asked: list[str] = []
    set_stock = store.set_stock

    def overtaken(listing_id: str, inventory: int, *, etag: str) -> Stock:
        asked.append(etag)
        if len(asked) < stocks.TRIES:
            set_stock(listing_id, 50, etag=etag)
        return set_stock(listing_id, inventory, etag=etag)

    monkeypatch.setattr(store, "set_stock", overtaken)
    done = stocks.change(store, listing, 2, etag=None)
    assert len(set(asked)) == stocks.TRIES
    assert stocks.read(store, listing) == done
    monkeypatch.setattr(stocks, "TRIES", 2)
    monkeypatch.setattr(store, "set_stock", lambda *_given, **_named: _conflict())
    with pytest.raises(ConflictError):
        stocks.change(store, listing, 3, etag=None)
    assert stocks.read(store, listing) == done


def _conflict() -> Stock:
    raise ConflictError("always")


@pytest.mark.service
def test_the_commands_read_and_set(
    store: Store, listing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @contextlib.contextmanager
    def opened(_settings: Settings) -> Iterator[Store]:
        yield store

    monkeypatch.setattr(commands, "_store", opened)

    def run(*arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main(["stock", *arguments])
        return int(ended.value.code or 0), *capsys.readouterr()

    code, _, err = run("get", listing)
    assert (code, "no stock yet" in err) == (1, True)
    code, out, _ = run("set", listing, "4", "--json")
    assert code == 0
    etag = json.loads(out)["etag"]
    code, out, _ = run("set", listing, "5", "--etag", etag)
    assert (code, out.split(",")[0]) == (0, "5 in stock")
    code, _, err = run("set", listing, "6", "--etag", etag)
    assert code == 1
    assert etag in err
    code, out, _ = run("get", listing, "--json")
    assert json.loads(out)["inventory"] == 5
    assert run("set", listing, str(2**31))[0] == 2


@pytest.mark.parametrize("name", ["../x.csv", "stock-1.csv", STEP + ".sh", f"a/{STEP}"])
def test_a_report_lies_in_its_folder(tmp_path: Path, name: str) -> None:
    settings = Settings(data_dir=tmp_path)
    assert stocks.report_file(settings, {"file": STEP}) == tmp_path / "reports" / STEP
    with pytest.raises(InputError, match="must be named like"):
        stocks.report_file(settings, {"file": name})


def test_a_report_that_is_elsewhere_says_where(tmp_path: Path) -> None:
    step = stocks.report_step("material")
    path = stocks.report_file(Settings(data_dir=tmp_path), step.parameters)
    with pytest.raises(UnavailableError, match=r"another machine and has reports/stock-"):
        stocks.read_report(path)


@pytest.mark.service
def test_an_unknown_listing_is_named(store: Store) -> None:
    with pytest.raises(NotFoundError, match="'unknown'"):
        stocks.read(store, "unknown")
    with pytest.raises(NotFoundError, match="'unknown'"):
        stocks.change(store, "unknown", 1, etag=None)
