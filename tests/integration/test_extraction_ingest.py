import io
import os
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from cql.errors import InputError, UnavailableError
from cql.progress import CancelledError
from cql.records import image_id_of
from cql.settings import ROOT, Settings
from cql.store import Store
from extraction.decode import content_hash
from extraction.ingest import ingest
from tests.extraction.pictures import encoded, gradient, photo, png

pytestmark = pytest.mark.service


def tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def images(store: Store, *listings: str) -> dict[str, list[str]]:
    """File names of the images of each listing, in stored order."""
    return {name: [Path(i.uri).name for i in store.images_of(name)] for name in listings}


def writetimes(store: Store, settings: Settings) -> dict[str, list[Any]]:
    """Every row with its write time, of all tables that an ingest writes and that have no log."""
    columns = {
        "images": "image_id, WRITETIME(uri)",
        "thumbnails": "image_id, WRITETIME(webp)",
        "files": "uri, WRITETIME(state)",
        "listings": "listing_id, WRITETIME(title)",
        "image_listing": "image_id, WRITETIME(listing_id)",
        "changes": "change_id, WRITETIME(kind)",
        "stock_level": "listing_id, WRITETIME(inventory)",
    }
    return {
        table: sorted(
            map(tuple, store._session.execute(f"SELECT {what} FROM {settings.keyspace}.{table}")),
            key=str,
        )
        for table, what in columns.items()
    }


def test_a_folder_tree_becomes_listings_with_images_and_thumbnails(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    root = tree(
        tmp_path,
        {
            "pump/a/1.jpg": photo(1),
            "pump/a/2.JPG": photo(2, width=900, height=300),
            "pump/b/1.png": encoded(gradient(), "PNG"),
            "alone.webp": encoded(gradient(seed=9), "WEBP"),
            "pump/notes.txt": b"no picture",
            "pump/.hidden.jpg": photo(3),
            ".git/4.jpg": photo(4),
        },
    )
    steps: list[tuple[str, int, int, str]] = []
    report = ingest(settings, store, root, progress=lambda *args: steps.append(args))
    assert (report.files, report.ready, report.failed, report.images) == (4, 4, 0, 4)
    assert (report.hidden, report.other) == (2, 1)
    assert images(store, "pump/a", "pump/b", "alone.webp") == {
        "pump/a": ["1.jpg", "2.JPG"],
        "pump/b": ["1.png"],
        "alone.webp": ["alone.webp"],
    }
    wide = store.images_of("pump/a")[1]
    assert (wide.width, wide.height, wide.format, wide.position) == (900, 300, "JPEG", 1)
    assert wide.uri == f"file://{root}/pump/a/2.JPG"
    assert wide.image_id == image_id_of(
        "pump/a", content_hash((root / "pump/a/2.JPG").read_bytes())
    )
    thumbnail = store.thumbnail(wide.image_id)
    with Image.open(io.BytesIO(thumbnail.webp)) as small:
        assert small.size == (thumbnail.width, thumbnail.height) == (256, 85)
    assert store.listing("pump/a").title == "a"
    assert steps[-1][:3] == ("ingest", 4, 4)
    assert "files/s" in steps[-1][3]
    assert "s left" in steps[-1][3]


def test_a_second_ingest_writes_nothing_and_reads_no_file(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    root = tree(
        tmp_path, {f"again/{n}/{m}.jpg": photo(10 * n + m) for n in range(3) for m in range(3)}
    )
    tree(tmp_path, {"again/bad.jpg": b"broken"})
    first = ingest(settings, store, root)
    before = writetimes(store, settings)
    for path in root.rglob("*.jpg"):
        path.chmod(0)  # a file that is read again would fail (but not for root)
    second = ingest(settings, store, root)
    assert writetimes(store, settings) == before
    assert (first.images, first.unchanged) == (9, 0)
    assert (second.images, second.unchanged, second.ready, second.failed) == (0, 10, 9, 1)


def test_every_odd_file_has_one_state_with_a_reason(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    root = tree(
        tmp_path,
        {
            "odd/good.jpg": photo(),
            "odd/empty.jpg": b"",
            "odd/text.png": b"I am a text",
            "odd/short.jpg": photo(width=600, height=400)[:2000],
            "odd/bomb.png": png(60_000, 60_000, b""),
            "odd/heic.heic": b"\0\0\0\x18ftypheic",
            "odd/misnamed.gif": photo(5),
            "odd/large.jpg": photo() + bytes(2 << 20),
        },
    )
    (root / "odd/folder.jpg").mkdir()
    (root / "odd/dangling.jpg").symlink_to("nowhere")
    (root / "odd/loop.jpg").symlink_to("loop.jpg")
    os.mkfifo(root / "odd/pipe.jpg")
    raw = os.fsencode(root / "odd") + b"/\xff.jpg"
    with open(raw, "wb") as file:  # noqa: PTH123 - a name that is no text
        file.write(photo(6))
    report = ingest(settings.replace(max_image_mb=1), store, root)
    found = {Path(s.uri).name: (s.state, s.reason) for s in store.files(f"file://{root}")}
    ready = {name for name, (state, _) in found.items() if state == "ready"}
    assert ready == {"good.jpg", "misnamed.gif"}
    expected = {
        "empty.jpg": "empty",
        "text.png": "not a picture",
        "short.jpg": "cut short",
        "bomb.png": "60000 x 60000",
        "heic.heic": "not a picture",
        "large.jpg": "at most 1 are read",
        "folder.jpg": "a folder",
        "dangling.jpg": "no such file",
        "loop.jpg": "cannot be read",
        "pipe.jpg": "not a regular file",
        "\\xff.jpg": "not valid UTF-8",
    }
    assert found.keys() - ready == expected.keys()
    for name, reason in expected.items():
        assert reason in found[name][1], name
    assert (report.files, report.ready, report.failed) == (13, 2, 11)
    assert len(store.images_of("odd")) == 2


def test_identical_bytes_are_one_image_in_a_listing_and_two_in_two(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    data = photo(77)
    names = ["twin/1.jpg", "twin/2.jpg", "twin/3.jpg", "other/1.jpg"]
    root = tree(tmp_path, dict.fromkeys(names, data))
    report = ingest(settings, store, root)
    assert (report.ready, report.images) == (4, 2)
    assert images(store, "twin", "other") == {"twin": ["1.jpg"], "other": ["1.jpg"]}
    ids = {s.uri.removeprefix(f"file://{root}/"): s.image_id for s in store.files(f"file://{root}")}
    assert len({ids[name] for name in names[:3]}) == 1
    assert ids["other/1.jpg"] != ids["twin/1.jpg"]


def test_changed_content_replaces_the_image_and_prune_removes_what_is_gone(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    same = photo(1)
    files = {"move/a.jpg": same, "move/b.jpg": same, "move/c.jpg": photo(2), "move/d.jpg": photo(3)}
    root = tree(tmp_path, files)
    ingest(settings, store, root)
    assert images(store, "move") == {"move": ["a.jpg", "c.jpg", "d.jpg"]}
    tree(root, {"move/a.jpg": photo(4), "move/c.jpg": photo(5, width=80)})
    (root / "move/d.jpg").rename(root / "move/e.jpg")
    report = ingest(settings, store, root)
    # a's former content lives on in b; c's is gone; d's lives on in e.
    assert sorted(images(store, "move")["move"]) == ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]
    assert (report.removed, report.gone) == (1, 1)
    report = ingest(settings, store, root, prune=True)
    assert sorted(images(store, "move")["move"]) == ["a.jpg", "b.jpg", "c.jpg", "e.jpg"]
    assert (report.removed, report.gone) == (0, 1)
    (root / "move/b.jpg").unlink()
    assert ingest(settings, store, root).gone == 1
    assert len(store.images_of("move")) == 4
    report = ingest(settings, store, root, prune=True)
    assert (report.removed, report.gone) == (1, 1)
    assert sorted(images(store, "move")["move"]) == ["a.jpg", "c.jpg", "e.jpg"]
    assert ingest(settings, store, root, prune=True).removed == 0


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_manifest_names_listings_positions_titles_attributes_and_stock(
    store: Store, settings: Settings, tmp_path: Path, kind: str
) -> None:
    root = tree(tmp_path, {f"p/{n}.jpg": photo(200 + n) for n in range(4)})
    one, two = f"{kind}-1", f"{kind}-2"
    rows: dict[str, list[Any]] = {
        "listing_id": [one, one, two, two, two],
        "pos": [2, 1, 0, 1, 2],
        "path": [
            "p/0.jpg",
            "p/1.jpg",
            f"{root}/p/2.jpg",
            f"file://{root}/p/1.jpg",
            "p/missing.jpg",
        ],
        "title": ["Café, 1", "", "Two", "", ""],
        "depth_m": ["0.5", "", "", "", ""],
        "stock": ["7", "", "", "", ""],
    }
    manifest = root / f"listings.{kind}"
    if kind == "csv":
        text = ",".join(rows) + "\n"
        for row in zip(*rows.values(), strict=True):
            text += ",".join(f'"{cell}"' for cell in row) + "\n"
        manifest.write_text("\ufeff" + text, encoding="utf-8")
    else:
        pq.write_table(pa.table(rows), manifest)
    report = ingest(settings, store, root)
    assert (report.kind, report.files, report.ready, report.failed) == ("manifest", 5, 4, 1)
    assert images(store, one, two) == {one: ["1.jpg", "0.jpg"], two: ["2.jpg", "1.jpg"]}
    listing = store.listing(one)
    assert (listing.title, dict(listing.attributes)) == ("Café, 1", {"depth_m": "0.5"})
    assert store.stock([one, two])[one].inventory == 7
    assert two not in store.stock([one, two])
    missing = [s for s in store.files(f"file://{root}") if s.state == "failed"]
    assert [(Path(s.uri).name, s.reason) for s in missing] == [
        ("missing.jpg", "there is no such file")
    ]
    # A file that two listings show has a state for each.
    keys = [s.uri for s in store.files(f"file://{root}") if "1.jpg" in s.uri]
    assert sorted(keys) == [f"file://{root}/p/1.jpg", f"file://{root}/p/1.jpg#listing={two}"]
    before = writetimes(store, settings)
    assert ingest(settings, store, root, manifest=manifest).images == 0
    assert writetimes(store, settings) == before


def test_live_stock_is_never_overwritten_by_an_ingest(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    root = tree(tmp_path, {"1.jpg": photo(400)})
    (root / "listings.csv").write_text("listing_id,path,stock\nlive,1.jpg,5\n")
    ingest(settings, store, root)
    loaded = store.stock(["live"])["live"]
    store.set_stock("live", 2, etag=loaded.etag)
    ingest(settings, store, root)
    assert store.stock(["live"])["live"].inventory == 2


def test_a_manifest_that_breaks_a_rule_writes_nothing(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    root = tree(tmp_path, {"1.jpg": photo(500)})
    before = writetimes(store, settings)
    for text, message in {
        "id,path\nx,1.jpg\n": "lacks listing_id",
        "listing_id,path\nx\n": "line 2",
        "listing_id,path\n,1.jpg\n": "needs listing_id",
        "listing_id,path,stock\nx,1.jpg,many\n": "stock must be a whole number",
        "listing_id,path,path\nx,1.jpg,2.jpg\n": "two 'path'",
        "": "lacks listing_id and path",
    }.items():
        (root / "listings.csv").write_text(text)
        with pytest.raises(InputError, match=message):
            ingest(settings, store, root)
    with pytest.raises(InputError, match="nowhere"):
        ingest(settings, store, root / "nowhere")
    with pytest.raises(InputError, match="no such file"):
        ingest(settings, store, root, manifest=root / "absent.csv")
    assert writetimes(store, settings) == before


def test_a_cancelled_ingest_keeps_what_is_stored_and_continues(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    root = tree(tmp_path, {f"stop/{n:03}.jpg": photo(600 + n) for n in range(200)})

    def stop(step: str, done: int, total: int, message: str = "") -> None:
        if step == "ingest" and done:
            raise CancelledError("asked to stop")

    with pytest.raises(CancelledError):
        ingest(settings, store, root, progress=stop)
    assert ingest(settings, store, root).ready == 200
    assert len(store.images_of("stop")) == 200


def test_an_unreachable_cassandra_is_a_clear_error(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    root = tree(tmp_path, {"gone/1.jpg": photo(700)})
    with Store.open(settings) as broken:
        broken.close()
        with pytest.raises(UnavailableError):
            ingest(settings, broken, root)
    assert ingest(settings, store, root).ready == 1


def test_a_killed_ingest_continues_and_every_image_is_there_once(
    store: Store, settings: Settings, tmp_path: Path
) -> None:
    root = tree(tmp_path, {f"kill/{n % 20:02}/{n:03}.jpg": photo(1000 + n) for n in range(400)})
    script = (
        "import sys\n"
        "from cql.settings import Settings\n"
        "from cql.store import Store\n"
        "from extraction.ingest import ingest\n"
        "settings = Settings.load()\n"
        "def tell(step, done, total, message=''):\n"
        "    print(step, done, flush=True)\n"
        "with Store.open(settings) as store:\n"
        "    ingest(settings, store, sys.argv[1], progress=tell)\n"
    )
    for after in (1, 2, 4):
        with subprocess.Popen(
            [sys.executable, "-c", script, str(root)],
            stdout=subprocess.PIPE,
            env=os.environ | settings.environment(),
            cwd=ROOT,
        ) as child:
            assert child.stdout is not None
            lines = 0
            for line in child.stdout:
                lines += line.startswith(b"ingest")
                if lines > after:
                    child.send_signal(signal.SIGKILL)
                    break
        # Files first: what was on its way to Cassandra may arrive between the two reads.
        states = list(store.files(f"file://{root}"))
        stored = {i.image_id for n in range(20) for i in store.images_of(f"kill/{n:02}")}
        for state in states:
            assert state.state == "ready"
            assert state.image_id in stored  # acknowledged means durable
    report = ingest(settings, store, root)
    assert (report.ready, report.failed) == (400, 0)
    found = [i for n in range(20) for i in store.images_of(f"kill/{n:02}")]
    assert Counter(i.uri for i in found) == Counter(f"file://{p}" for p in root.rglob("*.jpg"))
    expected: set[UUID] = {
        image_id_of(str(p.parent.relative_to(root)), content_hash(p.read_bytes()))
        for p in root.rglob("*.jpg")
    }
    assert {i.image_id for i in found} == expected
    for image in found:
        assert store.thumbnail(image.image_id).webp


@pytest.mark.shared
def test_the_shared_bad_pictures_end_in_one_state_beside_good_ones(
    store: Store, settings: Settings, shared_data: Path
) -> None:
    bad = shared_data / "bad_images"
    report = ingest(settings, store, bad)
    found = {s.uri: s for s in store.files(report.source)}
    names = {p for p in bad.rglob("*") if p.suffix in {".png", ".jpg"}}
    assert {Path(uri.removeprefix("file://")).name for uri in found} == {p.name for p in names}
    failed = {Path(uri).name for uri, state in found.items() if state.state == "failed"}
    assert failed == {p.name for p in names if p.name.startswith("x")}
    assert all(len(s.reason) > 10 for s in found.values() if s.state == "failed")
    assert (report.files, report.ready, report.failed) == (193, 179, 14)
    assert len(store.images_of("exif")) == 18
