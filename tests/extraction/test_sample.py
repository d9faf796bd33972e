"""The sample collection: deterministic, truthful, and with texture."""

import csv
import hashlib
import io
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cql.errors import InputError
from extraction import sample
from extraction.rendering import listing as listings
from extraction.rendering import shoot

SMALL = 24


def digest(folder: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            total.update(str(path.relative_to(folder)).encode())
            total.update(path.read_bytes())
    return total.hexdigest()


def table(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def rendered(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, sample.SampleReport]:
    folder = tmp_path_factory.mktemp("sample") / "collection"
    return folder, sample.render(folder, images=SMALL, seed=7, workers=1)


@pytest.fixture(scope="module")
def default() -> listings.Plan:
    return listings.plan(1600, 7)


def test_default_plan_is_large_enough(default: listings.Plan) -> None:
    specs = [default.spec(n) for n in range(default.listings)]
    assert default.listings == 400
    assert int(default.sizes.sum()) == 1600
    assert default.sizes.min() >= 2
    assert len(set(default.sizes.tolist())) > 2
    assert len({spec.listing_id for spec in specs}) == 400
    kinds = Counter(spec.kind for spec in specs)
    assert set(kinds) == set(listings.KINDS)
    assert min(kinds.values()) >= 66
    assert len({spec.district for spec in specs}) == len(listings.DISTRICTS)


def test_planted_truth_of_the_default_plan(default: listings.Plan) -> None:
    assert len(default.outliers) == 32
    assert set(default.outliers.values()) == set(listings.OUTLIERS)
    assert len(default.copies) == 40
    assert {how for _, how, _ in default.copies.values()} == set(listings.COPIES)
    across = 0
    for at, (origin, _, group) in default.copies.items():
        assert at[1] < default.sizes[at[0]]
        assert origin[1] < default.sizes[origin[0]]
        assert at not in default.outliers
        assert origin not in default.outliers
        assert origin not in default.copies
        assert default.groups[origin] == group
        assert default.kinds[at[0]] == default.kinds[origin[0]]
        across += at[0] != origin[0]
    assert across == 20


@pytest.mark.parametrize("images", [1, 2, 5, 100_003])
def test_any_size_is_met_exactly(images: int) -> None:
    layout = listings.plan(images, 3)
    assert int(layout.sizes.sum()) == images
    assert layout.sizes.min() >= 1


def test_report_and_tables_agree(rendered: tuple[Path, sample.SampleReport]) -> None:
    folder, report = rendered
    rows, truth = table(folder / "listings.csv"), table(folder / "truth" / "truth.csv")
    photos = sorted((folder / "photos").rglob("*.jpg"))
    assert report.images == SMALL == len(rows) == len(truth) == len(photos)
    assert report.listings == 6 == len({row["listing_id"] for row in rows})
    assert report.bytes == sum(path.stat().st_size for path in photos)
    assert [row["path"] for row in rows] == [row["path"] for row in truth]
    assert {folder / row["path"] for row in rows} == set(photos)
    assert sum(bool(row["outlier"]) for row in truth) == report.outliers
    assert sum(bool(row["copy"]) for row in truth) == report.duplicates > 0
    assert not list(folder.rglob("*.part"))
    for row in rows:
        assert tuple(row) == sample.COLUMNS
        assert row["path"] == f"photos/{row['listing_id']}/{int(row['pos']):02d}.jpg"
        assert float(row["depth_m"]) > 0.2
        assert int(row["stock"]) >= 0


def test_the_truth_stays_in_its_folder(rendered: tuple[Path, sample.SampleReport]) -> None:
    folder, _ = rendered
    words = [*listings.OUTLIERS, *listings.COPIES, "outlier", "copy-", "duplicate"]
    words += [*listings.KINDS, "kind", "cable", "pipe", "joint"]
    notes = (folder / "listings.csv").read_text(encoding="utf-8").lower()
    assert not [word for word in words if word in notes]
    for path in (folder / "photos").rglob("*.jpg"):
        with Image.open(path) as image:
            exif = dict(image.getexif())
            assert list(exif.values()) == ["Sightline sample renderer: not a photograph"]
            assert "comment" not in image.info


def test_same_seed_same_bytes_for_any_workers(tmp_path: Path) -> None:
    for workers in (1, 2):
        sample.render(tmp_path / str(workers), images=8, seed=7, workers=workers)
    assert digest(tmp_path / "1") == digest(tmp_path / "2")


def test_another_seed_another_collection() -> None:
    plans = [listings.plan(4, seed) for seed in (1, 2)]
    first, second = (shoot.develop(layout, shoot.visit(layout, 0), 0, "") for layout in plans)
    assert first != second


def test_pictures_have_texture_and_colour(rendered: tuple[Path, sample.SampleReport]) -> None:
    folder, _ = rendered
    for row in table(folder / "truth" / "truth.csv"):
        if row["outlier"] or row["copy"]:
            continue
        data = (folder / row["path"]).read_bytes()
        with Image.open(io.BytesIO(data)) as image:
            assert sorted(image.size) == [360, 480]
            pixels = np.asarray(image.convert("RGB"), np.float64)
        tiles = pixels[:360, :360].mean(axis=2).reshape(45, 8, 45, 8).transpose(0, 2, 1, 3)
        assert np.median(tiles.std(axis=(2, 3))) > 2.5
        codes = (pixels // 32).astype(int) @ np.array([64, 8, 1])
        share = np.bincount(codes.ravel(), minlength=512) / codes.size
        entropy = -np.sum(share[share > 0] * np.log2(share[share > 0]))
        assert entropy > 2.0
        assert 15_000 < len(data) < 110_000


def thumb(data: bytes, box: tuple[float, float, float, float] = (0, 0, 1, 1)) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        wide, tall = image.size
        part = image.convert("L").crop(
            (round(box[0] * wide), round(box[1] * tall), round(box[2] * wide), round(box[3] * tall))
        )
        small = np.asarray(part.resize((48, 48), Image.Resampling.BOX), np.float64)
    normal: np.ndarray = (small - small.mean()) / (small.std() + 1e-9)
    return normal


@pytest.mark.parametrize("how", listings.COPIES)
def test_near_duplicates_look_alike_and_differ_in_bytes(how: str) -> None:
    layout = listings.plan(40, 11)
    visits = [shoot.visit(layout, n) for n in range(2)]
    original, stranger = (shoot.develop(layout, visit, 0, "") for visit in visits)
    copy = shoot.altered(original, how, np.random.default_rng(5))
    assert copy != original
    boxes = [(0.0, 0.0, 1.0, 1.0)]
    if how == "cropped":
        steps = np.arange(0.02, 0.085, 0.01)
        boxes = [(a, b, a + 0.9, b + 0.9) for a in steps for b in steps]
    alike = max(float((thumb(original, box) * thumb(copy)).mean()) for box in boxes)
    foreign = float((thumb(original) * thumb(stranger)).mean())
    assert alike > 0.97 > foreign


def test_pictures_of_a_listing_share_their_colours_more_than_strangers() -> None:
    layout = listings.plan(40, 4)
    colours: dict[int, list[np.ndarray]] = defaultdict(list)
    for number in range(4):
        visit = shoot.visit(layout, number)
        for position in range(2):
            with Image.open(io.BytesIO(shoot.develop(layout, visit, position, ""))) as image:
                pixels = np.asarray(image.convert("RGB"), np.float64).reshape(-1, 3) + 1.0
            colours[number].append(np.median(pixels / pixels.sum(axis=1, keepdims=True), axis=0))
    own = [float(np.linalg.norm(a - b)) for a, b in colours.values()]
    other = [
        float(np.linalg.norm(colours[i][0] - colours[j][1]))
        for i in range(4)
        for j in range(4)
        if i != j
    ]
    assert np.mean(own) < np.mean(other)


def test_every_sort_of_outlier_renders() -> None:
    layout = listings.plan(40, 2)
    visit = shoot.visit(layout, 1)
    plain = shoot.develop(layout, visit, 0, "")
    bright = {}
    for sort in listings.OUTLIERS:
        data = shoot.develop(layout, visit, 0, sort)
        assert data != plain
        with Image.open(io.BytesIO(data)) as image:
            bright[sort] = float(np.asarray(image.convert("L")).mean())
    assert bright["dark"] < 30.0
    assert bright["overexposed"] > 200.0


def test_a_lens_is_never_inside_a_wall_of_the_trench() -> None:
    """The third picture of this listing is aimed so flat that its lens would be."""
    layout = listings.plan(1600, 11)
    _, data = shoot.pictures(layout, 384)[2]
    with Image.open(io.BytesIO(data)) as image:
        assert np.asarray(image.convert("L")).std() > 10.0


def test_progress_counts_pictures_and_may_stop(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []

    def stop(step: str, done: int, total: int, message: str = "") -> None:
        seen.append((done, total))
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sample.render(tmp_path / "x", images=8, seed=1, workers=1, progress=stop)
    assert seen[0] == (0, 8)
    assert 0 < seen[1][0] < 8
    assert not (tmp_path / "x" / "listings.csv").exists()


def test_bad_requests_are_refused_with_the_fix(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least 1 picture, got 0"):
        sample.render(tmp_path / "a", images=0)
    with pytest.raises(InputError, match="at least 1 worker"):
        sample.render(tmp_path / "a", images=4, workers=0)
    with pytest.raises(InputError, match="seed must be"):
        sample.render(tmp_path / "a", images=4, seed=-1)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine.txt").write_text("keep")
    with pytest.raises(InputError, match="new or empty folder"):
        sample.render(tmp_path / "b", images=4)
