"""The running demo beside an oracle: what its API answers, and what is stored."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from cql.settings import Settings
from cql.store import Store
from tests import naive

pytestmark = [pytest.mark.browser, pytest.mark.slow]


def post(url: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.load(answer)


def test_searches_of_the_rendered_sample_equal_a_naive_loop(
    app_url: str, demo_folder: Path
) -> None:
    with Store.open(Settings(data_dir=demo_folder / "data")) as store:
        live = store.live("snapshot")
        assert live is not None
        snapshot = store.snapshot(live)
        listings = [listing.listing_id for listing in store.iter_listings()]
        for name in sorted(listings)[:3]:
            example = store.images_of(name)[-1]
            body = {"image_ids": [str(example.image_id)], "k": 15}
            found = post(f"{app_url}/api/v1/search", body)
            wanted = naive.listings_like(store, snapshot.model_id, example, 15)
            assert found["exact"]
            assert found["rows_scanned"] == found["rows"] == snapshot.rows == 240
            hits = found["hits"]
            assert [(hit["listing_id"], hit["image_id"]) for hit in hits] == [
                (listing, image) for listing, image, _ in wanted
            ]
            assert [hit["score"] for hit in hits] == pytest.approx(
                [hit[2] for hit in wanted], abs=1e-5
            )
