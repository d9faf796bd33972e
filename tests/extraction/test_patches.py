"""Features of regions: the same pass, a naive mean of each, codes, and what is written first."""

from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
import torch

from cql import codec
from cql.records import Feature
from cql.records import Patches as Row
from cql.settings import Settings
from extraction import models, patches
from extraction.decode import content_hash
from extraction.features import Photo, Pipeline
from extraction.models import Embedder
from tests.extraction.pictures import gradient, photo

SETTINGS = Settings(cores=1, batch_size=4)
REGIONS = patches.SIDE**2
WIDTH = 48


@pytest.fixture(scope="module")
def small() -> Embedder:
    return models.load("sightline-small", SETTINGS, device="cpu", threads=1)


def test_one_pass_gives_the_features_and_those_of_regions(small: Embedder) -> None:
    pixels = np.stack([small.transform.pixels(gradient(50 + n, 70 - n, seed=n)) for n in range(9)])
    vectors, regions = small.both(pixels)
    np.testing.assert_array_equal(vectors, small.forward(pixels))
    assert regions.shape == (9, REGIONS, WIDTH)
    assert regions.dtype == np.float32
    alone = np.concatenate([small.both(pixels[n : n + 1])[1] for n in range(9)])
    np.testing.assert_allclose(regions, alone, atol=1e-4)


def test_a_region_is_mean_and_deviation_of_its_part_of_the_map() -> None:
    maps = torch.randn(3, 5, 12, 12, generator=torch.Generator().manual_seed(1))
    found = patches.pooled(maps).numpy()
    for image in range(3):
        for row in range(6):
            for column in range(6):
                part = maps[image, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
                naive = torch.cat([part.mean(dim=(1, 2)), part.std(dim=(1, 2), correction=0)])
                np.testing.assert_allclose(found[image, 6 * row + column], naive, atol=1e-5)
    # Of a side that is no multiple of the grid nothing is left out.
    odd = torch.zeros(1, 1, 14, 14)
    for line in range(14):
        odd.zero_()[0, 0, line] = 1.0
        assert patches.pooled(odd).sum() > 0


def test_a_small_thing_changes_its_region_more_than_the_others(small: Embedder) -> None:
    plain = np.full((2, 192, 192, 3), 90, np.uint8)
    plain[1, 34:62, 130:158] = (230, 30, 30)
    _, regions = small.both(plain)
    moved = np.linalg.norm(regions[1] - regions[0], axis=1).reshape(6, 6)
    assert np.unravel_index(moved.argmax(), moved.shape) == (1, 4)


def test_codes_are_off_by_half_a_step_at_most() -> None:
    rng = np.random.default_rng(2)
    regions = rng.normal(scale=3.0, size=(REGIONS, 7)).astype(np.float32)
    codes, scale = patches.encode(regions)
    assert codes.dtype == np.int8
    assert np.abs(codes.astype(int)).max() == 127
    assert np.abs(codes * np.float32(scale) - regions).max() <= scale * 0.5001
    codes, scale = patches.encode(np.zeros((4, 3), np.float32))
    assert scale == 0.0
    assert not codes.any()
    codes, scale = patches.encode(np.array([[np.nan, np.inf, 2.0]], np.float32))
    assert codes.tolist() == [[0, 0, 127]]
    assert scale == pytest.approx(2.0 / 127)


@pytest.mark.parametrize(
    ("name", "has"),
    [
        ("sightline-small", True),
        (f"file:/a.safetensors:{models.TEACHER}", True),
        ("timm:resnet18", False),
        ("file:/a.safetensors:resnet18", False),
    ],
)
def test_which_models_have_regions(name: str, has: bool) -> None:
    assert models.regional(name) is has


def test_patches_are_written_before_features_and_alone_where_these_are_there(
    small: Embedder, tmp_path: Path
) -> None:
    rows = []
    for number in range(6):
        path, data = tmp_path / f"{number}.jpg", photo(number)
        path.write_bytes(data)
        rows.append(Photo("l", uuid4(), path.as_uri(), content_hash(data), whole=number % 2 == 1))
    seen: list[Row | Feature] = []
    tally = Pipeline(small, SETTINGS, seen.extend, patches=seen.extend).run(rows)
    assert (tally.images, tally.failures) == (6, [])
    coded = {each.image_id: each for each in seen if isinstance(each, Row)}
    features = [each.image_id for each in seen if isinstance(each, Feature)]
    assert set(coded) == {row.image_id for row in rows}
    assert sorted(features) == sorted(row.image_id for row in rows if not row.whole)
    order = {(type(each), each.image_id): place for place, each in enumerate(seen)}
    assert all(order[Row, image] < order[Feature, image] for image in features)
    for each in coded.values():
        assert (each.side, each.dim, len(each.codes)) == (patches.SIDE, WIDTH, REGIONS * WIDTH)
        assert each.crc32c == codec.crc32c(each.codes)
        assert each.model_id == small.model.model_id
    # Without a place for them none are made.
    kept: list[Feature] = []
    assert Pipeline(small, SETTINGS, kept.extend).run(rows[:1]).images == 1
    assert len(kept) == 1
