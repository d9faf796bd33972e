import contextlib
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from cql.settings import Settings
from extraction.decode import DecodeError, decode, inspect
from tests.extraction.pictures import encoded, gradient, photo, png

SETTINGS = Settings()


def distance(one: Image.Image, other: Image.Image) -> float:
    assert one.size == other.size
    return float(np.abs(np.asarray(one, np.int16) - np.asarray(other, np.int16)).mean())


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_each_format_decodes_to_the_same_rgb(name: str) -> None:
    image = decode(encoded(gradient(), name), SETTINGS)
    assert image.mode == "RGB"
    assert distance(image, gradient()) < 8  # GIF has 256 colours
    assert inspect(encoded(gradient(), name), SETTINGS).format == name


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif_orientation_is_undone(name: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(gradient(), name, exif=exif)
    with Image.open(io.BytesIO(data)) as raw:
        expected = ImageOps.exif_transpose(raw).convert("RGB")
    found = decode(data, SETTINGS)
    assert distance(found, expected) == 0
    picture = inspect(data, SETTINGS)
    assert (picture.width, picture.height) == found.size
    assert found.size == ((48, 64) if orientation > 4 else (64, 48))


@pytest.mark.parametrize("value", [0, 9, 65535])
def test_an_orientation_that_does_not_exist_changes_nothing(value: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = value
    assert decode(encoded(gradient(), "PNG", exif=exif), SETTINGS).size == (64, 48)


def test_alpha_lies_on_white() -> None:
    clear = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    clear.putpixel((1, 0), (200, 0, 0, 128))
    found = decode(encoded(clear, "PNG"), SETTINGS)
    assert found.getpixel((0, 0)) == (255, 255, 255)
    assert np.abs(np.array(found.getpixel((1, 0))) - (227, 127, 127)).max() <= 1


def test_a_transparent_palette_entry_lies_on_white() -> None:
    indexed = Image.new("P", (2, 1), 0)
    indexed.putpalette([10, 20, 30, 40, 50, 60])
    indexed.putpixel((1, 0), 1)
    for name in ("PNG", "GIF"):
        found = decode(encoded(indexed, name, transparency=0), SETTINGS)
        assert found.getpixel((0, 0)) == (255, 255, 255)
        assert found.getpixel((1, 0)) == (40, 50, 60)


def test_sixteen_bit_grey_keeps_its_range() -> None:
    values = np.array([[0, 257, 32896, 65535]], np.uint16)
    for name in ("PNG", "TIFF"):
        found = decode(encoded(Image.fromarray(values), name), SETTINGS)
        assert np.asarray(found)[0, :, 0].tolist() == [0, 1, 128, 255]


def test_float_pictures_are_stretched_and_survive_what_is_not_finite() -> None:
    values = np.array([[-1.0, 0.0, 3.0, np.nan, np.inf]], np.float32)
    found = decode(encoded(Image.fromarray(values), "TIFF"), SETTINGS)
    assert np.asarray(found)[0, :, 0].tolist() == [0, 64, 255, 0, 255]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "CMYK", "YCbCr"])
def test_other_colour_modes_become_rgb(mode: str) -> None:
    image = gradient().convert(mode)
    found = decode(encoded(image, "PNG" if mode in {"1", "L", "LA", "P"} else "JPEG"), SETTINGS)
    assert distance(found, image.convert("RGB")) < 6


def test_an_animation_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    for name in ("GIF", "WEBP", "PNG", "TIFF"):
        data = encoded(frames[0], name, save_all=True, append_images=frames[1:])
        assert distance(decode(data, SETTINGS), frames[0]) < 3


def test_content_decides_not_the_claim() -> None:
    with pytest.raises(DecodeError, match="not a picture in a supported format"):
        decode(b"%PDF-1.7 pretending", SETTINGS)
    icon = encoded(gradient(), "ICO")
    with pytest.raises(DecodeError, match="not a picture in a supported format"):
        decode(icon, SETTINGS)


def test_an_empty_file_says_so() -> None:
    with pytest.raises(DecodeError, match="empty"):
        decode(b"", SETTINGS)


@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_file_that_is_cut_short_is_refused(name: str, share: float) -> None:
    data = encoded(gradient(256, 192), name)
    with pytest.raises(DecodeError, match=r"cut short|damaged|no pixel data"):
        decode(data[: int(len(data) * share)], SETTINGS)


def test_too_many_pixels_are_refused_before_any_is_decoded() -> None:
    bomb = png(60_000, 60_000, b"")
    with pytest.raises(DecodeError, match="60000 x 60000 pixels, at most 120000000"):
        decode(bomb, SETTINGS)


def test_the_cap_counts_the_last_pixel() -> None:
    data = encoded(gradient(10, 10), "PNG")
    assert decode(data, Settings(max_image_pixels=100)).size == (10, 10)
    with pytest.raises(DecodeError, match="at most 99"):
        decode(data, Settings(max_image_pixels=99))


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(DecodeError, match="at most 1 are read"):
        decode(b"\0" * (2 << 20), Settings(max_image_mb=1))


@pytest.mark.parametrize("width", [1, 2, 1000])
def test_thumbnails_keep_the_aspect_and_never_grow(width: int) -> None:
    picture = inspect(encoded(gradient(width, 500), "PNG"), Settings(thumbnail_px=64))
    with Image.open(io.BytesIO(picture.webp)) as thumbnail:
        assert thumbnail.format == "WEBP"
        assert thumbnail.size == (picture.thumbnail_width, picture.thumbnail_height)
        assert max(thumbnail.size) == 64
    assert (picture.width, picture.height) == (width, 500)
    small = inspect(encoded(gradient(20, 10), "PNG"), SETTINGS)
    assert (small.thumbnail_width, small.thumbnail_height) == (20, 10)


def test_detail_halves_a_jpeg_but_never_below_what_is_asked() -> None:
    data = photo(width=1600, height=1200)
    assert decode(data, SETTINGS).size == (1600, 1200)
    assert decode(data, SETTINGS, detail=300).size == (400, 300)
    assert decode(data, SETTINGS, detail=301).size == (800, 600)
    assert decode(data, SETTINGS, detail=5000).size == (1600, 1200)
    assert inspect(data, SETTINGS).width == 1600


MUTANTS = [encoded(gradient(12, 9), name) for name in ("JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF")]


@given(st.data())
@hypothesis_settings(max_examples=150, deadline=None)
def test_mutated_files_decode_or_are_refused_and_nothing_else(data: st.DataObject) -> None:
    original = bytearray(data.draw(st.sampled_from(MUTANTS)))
    for _ in range(data.draw(st.integers(1, 12))):
        original[data.draw(st.integers(0, len(original) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(original)))
    small = Settings(max_image_pixels=1_000_000)
    for attempt in (bytes(original), bytes(original[:cut])):
        with contextlib.suppress(DecodeError):
            assert decode(attempt, small).mode == "RGB"


@given(st.binary(max_size=300))
@hypothesis_settings(max_examples=100, deadline=None)
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(DecodeError):
        decode(data, SETTINGS)


@pytest.mark.shared
def test_the_shared_corrupt_pictures_all_have_a_reason(shared_data: Path) -> None:
    corrupt = sorted((shared_data / "bad_images" / "pngsuite").rglob("x*.png"))
    assert len(corrupt) == 14
    for path in corrupt:
        with pytest.raises(DecodeError, match=r".{20}"):
            decode(path.read_bytes(), SETTINGS)


@pytest.mark.shared
def test_the_rest_of_pngsuite_decodes(shared_data: Path) -> None:
    good = [p for p in (shared_data / "bad_images").rglob("*.png") if not p.name.startswith("x")]
    assert len(good) == 161
    for path in good:
        assert decode(path.read_bytes(), SETTINGS).mode == "RGB"


@pytest.mark.shared
@pytest.mark.parametrize("kind", ["Landscape", "Portrait"])
def test_the_shared_exif_photos_are_all_upright(shared_data: Path, kind: str) -> None:
    folder = shared_data / "bad_images" / "exif"
    upright = decode((folder / f"{kind}_1.jpg").read_bytes(), SETTINGS)
    for number in range(9):
        found = decode((folder / f"{kind}_{number}.jpg").read_bytes(), SETTINGS)
        assert found.size == upright.size
        small = [image.resize((60, 60)).convert("L") for image in (found, upright)]
        assert distance(*small) < 12
