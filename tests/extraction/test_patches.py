"""Features of regions: a naive loop, codes, and what is written first."""

import math
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

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


@pytest.fixture(scope="module")
def small() -> Embedder:
    return models.load("sightline-small", SETTINGS, device="cpu", threads=1)


def naive(picture: Image.Image) -> NDArray[np.float64]:
    """Features of regions, number by number, in float64."""
    side = 24
    size = side * patches.SIDE
    pixels = np.asarray(picture.resize((size, size), Image.Resampling.BILINEAR), np.float64)
    red, green, blue = np.moveaxis(pixels / 255 + 0.02, 2, 0)
    light = np.log(0.3 * red + 0.59 * green + 0.11 * blue)
    half = sum(light[y::2, x::2] for y in (0, 1) for x in (0, 1)) / 4
    found = []
    for top in range(0, size, side):
        for left in range(0, size, side):
            own = []
            for plane in (light, np.log(red / green), np.log(blue / green)):
                part = plane[top : top + side, left : left + side]
                own += [part.mean(), math.log(part.std() + 0.02)]
            for step, plane in ((1, light), (2, half)):
                xx = yy = xy = 0.0
                last, count = len(plane) - 1, (side // step) ** 2
                for y in range(top // step, (top + side) // step):
                    for x in range(left // step, (left + side) // step):
                        across = (plane[y, x + 1] - plane[y, x - 1]) / 2 if 0 < x < last else 0.0
                        down = (plane[y + 1, x] - plane[y - 1, x]) / 2 if 0 < y < last else 0.0
                        xx, yy = xx + across**2 / count, yy + down**2 / count
                        xy += across * down / count
                own.append(math.log(math.sqrt(xx + yy) + 0.003))
                own.append(math.sqrt((xx - yy) ** 2 + 4 * xy**2) / (xx + yy + 1e-5))
            found.append(own)
    return np.array(found)


@pytest.mark.parametrize("size", [(288, 288), (517, 230), (100, 901), (1, 1)])
def test_regions_equal_a_naive_loop(size: tuple[int, int]) -> None:
    picture = gradient(*size, seed=3)
    found = patches.regions(picture)
    assert found.shape == (REGIONS, patches.DIM)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, naive(picture), atol=2e-3)


@pytest.mark.parametrize("tone", [(0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255)])
def test_a_picture_of_one_tone_has_finite_features_that_are_alike(tone: tuple[int, ...]) -> None:
    found = patches.regions(Image.new("RGB", (64, 48), tone))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found, np.broadcast_to(found[0], found.shape), atol=1e-6)


def test_a_small_thing_changes_its_region_more_than_the_others() -> None:
    pixels = np.full((360, 480, 3), 90, np.uint8)
    plain = patches.regions(Image.fromarray(pixels))
    pixels[34:56, 322:356] = (230, 30, 30)
    moved = np.linalg.norm(patches.regions(Image.fromarray(pixels)) - plain, axis=1)
    assert np.unravel_index(moved.argmax(), (patches.SIDE, patches.SIDE)) == (1, 8)


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
    assert (tally.images, tally.regions, tally.failures) == (6, 3, [])
    coded = {each.image_id: each for each in seen if isinstance(each, Row)}
    features = [each.image_id for each in seen if isinstance(each, Feature)]
    assert set(coded) == {row.image_id for row in rows}
    assert sorted(features) == sorted(row.image_id for row in rows if not row.whole)
    order = {(type(each), each.image_id): place for place, each in enumerate(seen)}
    assert all(order[Row, image] < order[Feature, image] for image in features)
    for each in coded.values():
        assert (each.side, each.dim, len(each.codes)) == (
            patches.SIDE,
            patches.DIM,
            REGIONS * patches.DIM,
        )
        assert each.crc32c == codec.crc32c(each.codes)
        assert each.model_id == small.model.model_id
    # Without a place for them none are made.
    kept: list[Feature] = []
    assert Pipeline(small, SETTINGS, kept.extend).run(rows[:1]).images == 1
    assert len(kept) == 1
