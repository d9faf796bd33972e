"""What is measured of pictures: each figure against a plain one, copies, degenerate pictures."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Iterator
from typing import Any, cast
from uuid import UUID

import numpy as np
import pytest
from PIL import Image as Pictures
from PIL import ImageEnhance

from cql.errors import NotFoundError
from cql.records import Image, Measures, Thumbnail, image_id_of
from cql.settings import Settings
from cql.store import Store
from extraction import copies, measures
from extraction.decode import inspect
from tests import doubles
from tests.extraction import pictures as files


def grey(values: np.ndarray) -> Pictures.Image:
    return Pictures.fromarray(values.astype(np.uint8)).convert("RGB")


def test_sharpness_is_the_variance_of_the_laplacian() -> None:
    values = np.random.default_rng(1).integers(0, 256, (192, 256))
    found = measures.of_picture(grey(values))
    total = []
    for y in range(0, 192, 7):
        for x in range(0, 256, 5):
            near = [
                values[min(max(y + dy, 0), 191), min(max(x + dx, 0), 255)]
                for dy, dx in ((-1, 0), (1, 0), (0, -1), (0, 1))
            ]
            total.append(int(sum(near)) - 4 * int(values[y, x]))
    assert found.sharpness == pytest.approx(np.var(total), rel=0.1)


def test_light_and_tone() -> None:
    half = np.zeros((100, 256))
    half[:, 128:] = 255
    found = measures.of_picture(grey(half))
    assert found.brightness == pytest.approx(0.5)
    assert found.contrast == pytest.approx(0.5)
    assert found.blank == pytest.approx(0.5)
    assert found.colour == 0.0
    flat = measures.of_picture(Pictures.new("RGB", (256, 100), (200, 30, 30)))
    assert (flat.contrast, flat.sharpness, flat.blank) == (0.0, 0.0, 1.0)
    # Hasler and Suesstrunk: no spread, 0.3 of the mean opponent colours.
    assert flat.colour == pytest.approx(0.3 * math.hypot(170, 115 - 30))


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("sharpness", doubles.blurred),
        ("brightness", lambda image: ImageEnhance.Brightness(image).enhance(0.2)),
        ("contrast", lambda image: ImageEnhance.Contrast(image).enhance(0.3)),
        ("colour", lambda image: image.convert("L").convert("RGB")),
    ],
)
def test_a_spoilt_picture_has_less(name: str, change: Any) -> None:
    for seed in range(5):
        scene = doubles.scene(seed)
        before, after = doubles.figures([scene, change(scene)])
        assert getattr(after, name) < 0.5 * getattr(before, name)


def test_hashes_of_copies_are_close_and_of_others_far() -> None:
    rng = np.random.default_rng(2)
    scenes = [doubles.scene(seed) for seed in range(12)]
    own = doubles.figures(scenes)
    for how in ("resized", "re-encoded", "brightened"):
        altered = doubles.figures([copies.altered(scene, how, rng) for scene in scenes])
        gaps = [(a.phash ^ b.phash) % 2**64 for a, b in zip(own, altered, strict=True)]
        assert max(gap.bit_count() for gap in gaps) <= 10
    others = [((a.phash ^ b.phash) % 2**64).bit_count() for n, a in enumerate(own) for b in own[:n]]
    assert min(others) >= 12


def test_the_orientation_of_the_file_does_not_count() -> None:
    upright = doubles.scene(3)
    turned = upright.transpose(Pictures.Transpose.ROTATE_90)
    exif = Pictures.Exif()
    exif[0x0112] = 6
    data = io.BytesIO()
    turned.save(data, "JPEG", quality=95, exif=exif)
    found = inspect(data.getvalue(), Settings())
    wanted = inspect(files.encoded(upright, "JPEG", quality=95), Settings())
    assert (found.width, found.height) == (wanted.width, wanted.height)
    assert ((found.figures.phash ^ wanted.figures.phash) % 2**64).bit_count() <= 4


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (3, 2)])
def test_tiny_and_narrow_pictures_are_measured(size: tuple[int, int]) -> None:
    found = inspect(files.encoded(Pictures.new("RGB", size, (9, 9, 9)), "PNG"), Settings()).figures
    assert (found.sharpness, found.contrast, found.phash) == (0.0, 0.0, 0)
    assert len(found.signature) == 2304
    assert measures.Figures.of_json(found.to_json()) == found


def test_of_an_animation_the_first_frame_is_measured() -> None:
    first, second = doubles.scene(4), doubles.scene(5)
    data = io.BytesIO()
    first.save(data, "GIF", save_all=True, append_images=[second])
    found = inspect(data.getvalue(), Settings()).figures
    alone = inspect(files.encoded(first, "GIF"), Settings()).figures
    assert found == alone


class Kept:
    """Images with thumbnails, two of them without measures, one without a thumbnail."""

    def __init__(self) -> None:
        self.images = [
            Image(
                listing_id="l", image_id=image_id_of("l", str(n)), uri="", content_hash=str(n),
                width=40 + n, height=30, format="JPEG", bytes=1,
            )
            for n in range(4)
        ]  # fmt: skip
        self.looks: dict[UUID, Measures] = {}

    def iter_images(self) -> Iterator[Image]:
        return iter(self.images)

    def measured(self) -> set[UUID]:
        return set(self.looks)

    def thumbnail(self, image_id: UUID) -> Thumbnail:
        place = [image.image_id for image in self.images].index(image_id)
        if place == 3:
            raise NotFoundError("gone")
        data = b"no picture" if place == 2 else doubles.webp(doubles.scene(place))
        return Thumbnail(image_id=image_id, webp=data, width=1, height=1)

    def put_measures(self, found: Iterable[Measures]) -> int:
        rows = {each.image_id: each for each in found}
        self.looks |= rows
        return len(rows)


def test_images_from_before_are_measured_later_and_equally() -> None:
    kept = Kept()
    store = cast("Store", kept)
    assert measures.fill(store) == 2
    for n in range(2):
        made = kept.looks[kept.images[n].image_id]
        (wanted,) = doubles.figures([doubles.scene(n)])
        assert made == measures.record(kept.images[n], wanted)
        assert made.pixels == (40 + n) * 30
    assert measures.fill(store) == 0


def test_copies_of_stored_pictures_are_made_four_ways() -> None:
    kept = Kept()
    ids = [image.image_id for image in kept.images]
    made = copies.make(cast("Store", kept), ids, None, seed=1)
    assert made.origins.tolist() == [0] * 4 + [1] * 4
    assert len(made.figures) == 8
    assert made.vectors.shape == (8, 0)
    again = copies.make(cast("Store", kept), ids, None, seed=1)
    assert made.figures == again.figures
