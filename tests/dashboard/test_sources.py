from __future__ import annotations

from pathlib import Path

import pytest

from cql.errors import InputError
from cql.settings import Settings
from dashboard import demo, sources


def test_a_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "My photos"
    folder.mkdir()
    monkeypatch.chdir(tmp_path)
    assert sources.folder("My photos") == sources.folder(folder) == str(folder.resolve())
    monkeypatch.setenv("HOME", str(tmp_path))
    assert sources.folder("~/My photos/") == str(folder.resolve())


def test_a_url_stays_as_it_is() -> None:
    assert sources.folder("s3://bucket/Survey 7/") == "s3://bucket/Survey 7"
    assert sources.file("s3://bucket/listings.csv") == "s3://bucket/listings.csv"


@pytest.mark.parametrize("name", ["absent", "", "photo.jpg"])
def test_what_is_no_folder_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=r"photos must be (a folder|named)"):
        sources.folder(name)


def test_a_manifest_must_be_a_file(tmp_path: Path) -> None:
    table = tmp_path / "listings.csv"
    table.write_text("listing_id,path\n")
    given = sources.ingest_parameters(tmp_path, table)
    assert given == {"photos": str(tmp_path.resolve()), "manifest": str(table.resolve())}
    assert sources.ingest_parameters("s3://b/c", None) == {"photos": "s3://b/c"}
    with pytest.raises(InputError, match="a manifest must be a file"):
        sources.ingest_parameters(tmp_path, tmp_path)


def test_the_demo_of_a_url_has_a_collection_of_its_own(tmp_path: Path) -> None:
    folder = demo.folder_of("s3://bucket/Survey 7/")
    assert folder is not None
    assert folder.name.startswith("survey-7-")
    assert folder == demo.folder_of("s3://bucket/Survey 7")
    assert folder != demo.folder_of("s3://other/Survey 7")
    plan = demo.steps(
        Settings(data_dir=tmp_path), photos="s3://b/c", manifest=None, images=1, seed=1
    )
    assert [step.kind for step in plan] == ["ingest", "extract", "snapshot", "analyse"]
    assert plan[0].parameters == {"photos": "s3://b/c"}
