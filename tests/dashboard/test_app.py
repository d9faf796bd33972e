from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from cql.settings import Settings
from dashboard import app
from dashboard.guard import is_loopback
from tests.dashboard.fakes import FakeServices

BASE = "http://127.0.0.1:8050"


def client(tmp_path: Path, *, host: str = "127.0.0.1", name: str = "one") -> TestClient:
    settings = Settings(data_dir=tmp_path, host=host)
    built = app.create(settings, FakeServices(settings, name=name))  # type: ignore[arg-type]
    return TestClient(built.server, base_url=BASE, raise_server_exceptions=False)


def test_every_page_path_gets_the_index_with_its_style_sheets(tmp_path: Path) -> None:
    # The deep link comes first on purpose: it must not depend on an earlier request for "/".
    with client(tmp_path) as browser:
        for path in ("/clusters", "/", "/outliers?show=fine"):
            response = browser.get(path)
            assert response.status_code == 200
            assert "_dash-config" in response.text
            assert "/assets/tokens.css" in response.text
            assert 'name="viewport"' in response.text
            assert "theme-color" in response.text


def test_nothing_is_loaded_from_another_host(tmp_path: Path) -> None:
    page = client(tmp_path).get("/").text
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert loaded
    assert [url for url in loaded if not url.startswith("/")] == []


def test_two_apps_in_one_process_answer_each_for_itself(tmp_path: Path) -> None:
    first = client(tmp_path / "a", name="first")
    second = client(tmp_path / "b", name="second")
    with first, second:
        for browser, name in ((first, "first"), (second, "second"), (first, "first")):
            assert browser.get("/api/v1/collection").json()["sources"] == [name]
            assert browser.get("/clusters").status_code == 200
            layout = browser.get("/_dash-layout").text
            assert ("a" if name == "first" else "b") in layout
            assert browser.get("/_dash-dependencies").json()
    assert '"children":"a"' in first.get("/_dash-layout").text.replace(" ", "")
    assert '"children":"b"' in second.get("/_dash-layout").text.replace(" ", "")


def test_headers_are_strict_and_scripts_are_ours(tmp_path: Path) -> None:
    response = client(tmp_path).get("/")
    policy = response.headers["content-security-policy"]
    scripts = next(part for part in policy.split("; ") if part.startswith("script-src"))
    assert "unsafe" not in scripts
    assert "'sha256-" in scripts
    assert "frame-ancestors 'none'" in policy
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["x-frame-options"] == "DENY"


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "192.168.0.7:8050"])
def test_a_foreign_name_is_refused_on_loopback(tmp_path: Path, host: str) -> None:
    response = client(tmp_path).get("/api/v1/collection", headers={"host": host})
    assert response.status_code == 421
    assert "fix" in response.json()


@pytest.mark.parametrize("host", ["localhost:8050", "127.0.0.1:9", "[::1]:8050"])
def test_names_of_this_machine_are_served(tmp_path: Path, host: str) -> None:
    assert client(tmp_path).get("/api/v1/health", headers={"host": host}).status_code == 200


def test_another_host_setting_serves_any_name(tmp_path: Path) -> None:
    browser = client(tmp_path, host="0.0.0.0")
    assert browser.get("/api/v1/health", headers={"host": "box.example"}).status_code == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"origin": BASE}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({}, 200),
    ],
)
def test_changes_across_sites_are_refused(
    tmp_path: Path, headers: dict[str, str], status: int
) -> None:
    response = client(tmp_path).post("/api/v1/map/select", json={}, headers=headers)
    assert response.status_code == status, response.text


def test_unknown_api_paths_are_json_not_pages(tmp_path: Path) -> None:
    response = client(tmp_path).get("/api/v2/collection")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/json"


def test_assets_cannot_be_escaped(tmp_path: Path) -> None:
    for path in ("/assets/../pyproject.toml", "/assets/%2e%2e/pyproject.toml"):
        assert "sightline" not in client(tmp_path).get(path).text.partition("<html")[0]


@pytest.mark.parametrize(
    ("host", "local"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("x", False)],
)
def test_loopback(host: str, local: bool) -> None:
    assert is_loopback(host) is local


def test_the_web_app_imports_neither_torch_nor_spark() -> None:
    code = (
        "import sys, dashboard.app, dashboard.services, dashboard.web\n"
        "import importlib, pkgutil, dashboard.callbacks as c, dashboard.pages as p\n"
        "for m in (c, p):\n"
        "    for i in pkgutil.iter_modules(m.__path__):\n"
        "        importlib.import_module(m.__name__ + '.' + i.name)\n"
        "bad = {'torch', 'pyspark', 'timm', 'torchvision', 'umap', 'hdbscan'} & set(sys.modules)\n"
        "assert not bad, bad\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
