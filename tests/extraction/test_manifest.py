from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cql.errors import InputError
from extraction import manifest, photos
from extraction.photos import Ignored, ReadError


def test_a_path_becomes_a_url_that_fsspec_takes_as_it_stands(tmp_path: Path) -> None:
    odd = tmp_path / "a b%20#?[1].jpg"
    odd.write_bytes(b"x")
    url = photos.url_of(odd)
    assert url == f"file://{odd}"
    assert photos.url_of(url) == url
    assert photos.read(url, limit=10) == b"x"
    assert photos.facts_of(url).bytes == 1
    assert photos.url_of("s3://bucket/photos/") == "s3://bucket/photos"
    assert photos.join("s3://bucket", "a/b.jpg") == "s3://bucket/a/b.jpg"
    assert photos.join(f"file://{tmp_path}", "/abs/b.jpg") == "file:///abs/b.jpg"


def test_another_file_system_is_walked_and_read_the_same_way() -> None:
    import fsspec

    memory = fsspec.filesystem("memory")
    for name in ("walk/b/2.jpg", "walk/b/1.PNG", "walk/top.gif", "walk/.x/3.jpg", "walk/notes.txt"):
        memory.pipe_file(f"/{name}", name.encode())
    ignored = Ignored()
    found = list(photos.walk("memory://walk", ignored))
    assert [item.path for item in found] == ["b/1.PNG", "b/2.jpg", "top.gif"]
    assert (ignored.hidden, ignored.other) == (1, 1)
    assert photos.read(found[0].uri, limit=100) == b"walk/b/1.PNG"
    assert photos.facts_of(found[0].uri) == found[0].facts
    with pytest.raises(ReadError, match="no such file"):
        photos.read("memory://walk/none.jpg", limit=1)
    with pytest.raises(InputError, match="folder that exists"):
        list(photos.walk("memory://elsewhere", Ignored()))
    with pytest.raises(InputError, match="file system"):
        list(photos.walk("nosuch://bucket", Ignored()))


def test_a_read_stops_at_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "big"
    path.write_bytes(bytes(100))
    assert len(photos.read(f"file://{path}", limit=10)) == 11


def test_a_manifest_at_the_top_is_found_by_itself(tmp_path: Path) -> None:
    root = photos.url_of(tmp_path)
    assert manifest.find(root, None) == ""
    (tmp_path / "listings.parquet").write_bytes(b"")
    assert manifest.find(root, None).endswith("listings.parquet")
    (tmp_path / "listings.csv").write_text("")
    assert manifest.find(root, None).endswith("listings.csv")
    assert manifest.find(root, "other.csv").endswith("/other.csv")


def test_parquet_values_become_text(tmp_path: Path) -> None:
    path = tmp_path / "m.parquet"
    columns = {
        "listing_id": ["a", "b"],
        "path": ["1.jpg", "2.jpg"],
        "pos": [3.0, None],
        "depth": [1.5, float("nan")],
        "count": [2.0, 3.0],
        "checked": [True, False],
    }
    pq.write_table(pa.table(columns), path)
    found = manifest.from_manifest(f"file://{tmp_path}", f"file://{path}")
    assert found.listings["a"].attributes == {"depth": "1.5", "count": "2", "checked": "true"}
    assert found.listings["b"].attributes == {"count": "3", "checked": "false"}
    assert [entry.position for entry in found.entries] == [3, 0]


def test_the_same_file_twice_in_a_listing_counts_once(tmp_path: Path) -> None:
    path = tmp_path / "m.csv"
    path.write_text("listing_id,path\na,1.jpg\na,1.jpg\na,./1.jpg\nb,1.jpg\n")
    found = manifest.from_manifest(f"file://{tmp_path}", f"file://{path}")
    assert (len(found.entries), found.repeated) == (2, 2)
    assert found.entries[1].key.endswith("1.jpg#listing=b")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("m.txt", b"", r"\.csv or \.parquet"),
        ("m.parquet", b"no parquet", "Parquet"),
        ("m.csv", b"listing_id,path\n\xff,1.jpg\n", "UTF-8"),
        ("m.csv", b'listing_id,path\n"a,1.jpg\n', "CSV"),
        ("m.csv", b"listing_id,path,pos\na,1.jpg,-1\n", "whole number"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_refused(
    tmp_path: Path, name: str, data: bytes, message: str
) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=message):
        manifest.from_manifest(f"file://{tmp_path}", f"file://{tmp_path}/{name}")
