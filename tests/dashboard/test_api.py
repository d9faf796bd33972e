from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from cql.settings import Settings
from dashboard import app
from tests.dashboard.fakes import IMAGE, MAP, FakeServices

BASE = "http://127.0.0.1"


@pytest.fixture
def services(tmp_path: Path) -> FakeServices:
    return FakeServices(Settings(data_dir=tmp_path, max_image_mb=1))


@pytest.fixture
def client(services: FakeServices) -> TestClient:
    built = app.create(services.settings, services)  # type: ignore[arg-type]
    return TestClient(built.server, base_url=BASE, raise_server_exceptions=False)


def body(response: Any) -> Any:
    return response.json()


def test_health_is_503_with_reasons_until_ready(client: TestClient, services: FakeServices) -> None:
    assert client.get("/api/v1/health").status_code == 200
    services.ready = False
    response = client.get("/api/v1/health")
    assert response.status_code == 503
    assert body(response)["checks"][0]["fix"] == "f"
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("method", "path", "json", "status", "text"),
    [
        ("GET", f"/images/{MAP}/thumbnail", None, 404, "no image is called"),
        ("GET", "/images/not-a-uuid", None, 400, "image_id"),
        ("GET", "/nothing/here", None, 404, "no route"),
        ("GET", "/jobs", None, 500, "failed"),
        ("GET", "/changes?from=x", None, 400, "from"),
        ("GET", f"/changes?from={MAP}&to={MAP}", None, 404, "two maps are needed"),
        ("GET", "/map/tiles/31/0/0", None, 400, "z"),
        ("GET", "/map/rows?rows=1,x", None, 400, "rows"),
        ("POST", "/search", {"image_ids": [str(IMAGE)]}, 400, "k must be"),
        ("POST", "/search", {}, 400, "at least one positive example"),
        ("POST", "/search", {"listing_id": "a", "kk": 3}, 400, "kk"),
        (
            "PUT",
            f"/outliers/{IMAGE}/verdict",
            {"verdict": "fine", "expected_version": 1},
            409,
            "version 1",
        ),
        ("DELETE", "/map", None, 404, "DELETE /api/v1/map"),
    ],
)
def test_errors_have_rule_and_fix(
    client: TestClient, method: str, path: str, json: Any, status: int, text: str
) -> None:
    response = client.request(method, f"/api/v1{path}", json=json)
    assert response.status_code == status, response.text
    assert text in body(response)["error"]
    assert set(body(response)) == {"error", "fix"}


def test_an_unexpected_error_tells_nothing_of_the_inside(client: TestClient) -> None:
    assert "a bug" not in client.get("/api/v1/jobs").text


def test_a_missing_service_is_503_and_may_be_retried(client: TestClient) -> None:
    files = {"file": ("x.jpg", b"\xff\xd8\xff", "image/jpeg")}
    response = client.post("/api/v1/search/upload", files=files)
    assert response.status_code == 503
    assert response.headers["retry-after"]
    assert body(response)["fix"] == "start one"


def test_uploads_are_capped_before_they_reach_the_services(
    client: TestClient, services: FakeServices
) -> None:
    files = {"file": ("x.jpg", b"0" * 2_000_000, "image/jpeg")}
    assert client.post("/api/v1/search/upload", files=files).status_code == 413

    def chunks() -> Any:
        for _ in range(40):
            yield b"0" * 100_000

    headers = {"content-type": "multipart/form-data; boundary=b"}
    response = client.post("/api/v1/search/upload", content=chunks(), headers=headers)
    assert response.status_code in {400, 413}
    assert services.calls == []


def test_thumbnails_never_change(client: TestClient) -> None:
    first = client.get(f"/api/v1/images/{IMAGE}/thumbnail")
    assert first.headers["cache-control"].endswith("immutable")
    assert first.headers["content-type"] == "image/webp"
    again = client.get(
        f"/api/v1/images/{IMAGE}/thumbnail", headers={"if-none-match": first.headers["etag"]}
    )
    assert (again.status_code, again.content) == (304, b"")


def test_tiles_of_a_named_map_never_change_and_those_of_the_live_one_are_asked_again(
    client: TestClient,
) -> None:
    live = client.get("/api/v1/map/tiles/1/0/1?column=cluster")
    tile = f"/api/v1/map/tiles/1/0/1?column=outlier_score&map_id={MAP}"
    named = client.get(f"{tile}&placed=3")
    assert live.content == named.content == b"tile" * 1000
    # Analysts merge, split and label: the tile of a named map may have other clusters tomorrow.
    decided = client.get(f"/api/v1/map/tiles/1/0/1?column=cluster&map_id={MAP}")
    assert decided.headers["cache-control"].endswith("no-cache")
    assert "decided" in decided.headers["etag"]
    assert live.headers["cache-control"].endswith("no-cache")
    assert named.headers["cache-control"].endswith("immutable")
    # More images may be placed on it: who does not say how many there are must ask again.
    for asked in (tile, f"{tile}&placed=2"):
        assert client.get(asked).headers["cache-control"].endswith("no-cache")
    assert named.headers["content-encoding"] == "gzip"
    raw = client.get("/api/v1/map/tiles/1/0/1", headers={"if-none-match": live.headers["etag"]})
    assert raw.status_code == 304


def test_compression_is_real(client: TestClient) -> None:
    with client.stream("GET", "/api/v1/map/tiles/0/0/0") as response:
        packed = b"".join(response.iter_raw())
    assert len(packed) < 200
    assert gzip.decompress(packed) == b"tile" * 1000


def test_labels_stay_text(client: TestClient) -> None:
    response = client.get("/api/v1/map/rows?rows=5,3")
    assert response.headers["content-type"] == "application/json"
    assert [row["row"] for row in body(response)] == [5, 3]
    assert body(response)[0]["listing_id"] == "<b>"
    assert response.headers["x-content-type-options"] == "nosniff"


def test_selection_reaches_the_services_as_json(client: TestClient, services: FakeServices) -> None:
    points = [[0.0, 0.0], [1.0, 0.0], [1.0, 1.0]]
    selection = {"polygons": [{"points": points, "mode": "union"}], "filters": {"attr:a": ["b"]}}
    response = client.post("/api/v1/map/select?limit=5&offset=2", json=selection)
    assert (body(response)["count"], body(response)["total"]) == (7, 9)
    assert services.calls == [("select", selection, {"limit": 5, "offset": 2, "map_id": None})]


def test_the_reference_is_complete_and_loads_nothing_from_elsewhere(client: TestClient) -> None:
    schema = body(client.get("/api/v1/openapi.json"))
    page = client.get("/api/v1/docs").text
    assert len(schema["paths"]) >= 20
    for path, methods in schema["paths"].items():
        assert path.startswith("/api/v1/")
        assert path in page
        for method, route in methods.items():
            assert route.get("description"), f"{method} {path} has no description"
    assert "http://" not in page
    assert "https://" not in page
    assert "<script" not in page
