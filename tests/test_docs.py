"""Settings, commands, routes, keys and make targets are documented; what the docs name exists."""

import re
import subprocess
from pathlib import Path

import pytest

from cql import settings

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def test_the_reference_is_current() -> None:
    from deploy.reference import PAGE, page

    assert PAGE.read_text(encoding="utf-8") == page(), "run `python -m deploy.reference`"


def test_every_setting_has_help_and_a_row() -> None:
    text = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    for row in settings.table():
        assert len(row["help"]) > 10, row["name"]
        assert f"`{row['variable']}`" in text


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name}: {target}"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_make_targets_and_commands_that_pages_name_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", makefile, flags=re.MULTILINE))
    named = set(re.findall(r"(?:`|^\s{4})make ([a-z][a-z-]*)", text, flags=re.MULTILINE))
    assert named <= targets, f"{page.name} names make targets that do not exist"
    reference = (ROOT / "docs" / "reference.md").read_text(encoding="utf-8")
    groups = {"train", "bench", "stock", "decisions"}
    for command in set(re.findall(r"`sightline ([a-z]+)", text)):
        assert command in groups or f"`sightline {command}`" in reference, command


def test_commits_hold_no_machine_path_and_no_registry_host() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
    ).stdout.decode()
    # Spelled in pieces, so that this file does not hold what it forbids.
    hosts = [
        "py" + "pi.org",
        "python" + "hosted.org",
        "registry." + "npmjs",
        "repo1." + "maven",
        "repo.maven." + "apache",
        "deb." + "debian.org",
    ]
    paths = ["/" + "root/", "/" + "work/"]
    for name in filter(None, listing.split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue
        content = path.read_bytes()
        for text in (*hosts, *paths):
            assert text.encode() not in content, f"{name} holds {text}"
