"""Exports against what the services say, and ledgers replayed into another collection."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow.parquet as pq
import pytest
from starlette.testclient import TestClient

from analytics.decisions import decided
from cql.errors import InputError
from cql.records import Decision
from dashboard import app, cli, commands, exports
from dashboard.replay import replay
from dashboard.services import Services
from tests.dashboard.memory import MemoryStore, collection
from tests.dashboard.test_deciding import World
from tests.dashboard.test_doubles import key, plant

BASE = "http://127.0.0.1:8050/api/v1"


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Some of each kind of decision, and a name that hurts careless writers."""
    made = World(tmp_path)
    made.merge(0, 1, name='Gas, "small"\nand long')
    made.split(made.images_in(2)[:5], "Joints")
    made.decisions.label(made.images_in(3)[:4], "=valve", author="ann")
    image = made.images_in(4)[0]
    made.services.set_verdict(image, "outlier", author="bob", expected_version=0)
    made.services.undo(f"image:{image}", author="bob", expected_version=1)
    made.services.set_verdict(image, "fine", author="bob", expected_version=2, reason="it is")
    return made


def written(world: World, fmt: str, *, history: bool = False) -> bytes:
    return b"".join(world.services.export(fmt, history=history, version="9"))


def expected(world: World) -> dict[str, tuple[str, str, str, str]]:
    """Label, verdict, cluster and its key of every image, asked one by one."""
    labels = decided.labels(world.store)
    verdicts = decided.verdicts(world.store)
    found = {}
    for image_id in world.store.images:
        view = world.services.image(image_id)
        name = view.cluster_name if view.cluster_key else ""
        found[str(image_id)] = (
            labels.get(image_id, ""), verdicts.get(image_id, ""), name,
            str(view.cluster_key or ""),
        )  # fmt: skip
    return found


def test_csv_and_parquet_hold_what_is_in_force_of_every_image(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "_BLOCK", 7)
    wanted = expected(world)
    rows = list(csv.DictReader(io.StringIO(written(world, "csv").decode(), newline="")))
    path = tmp_path / "decisions.parquet"
    path.write_bytes(written(world, "parquet"))
    table = pq.read_table(path).to_pylist()
    assert pq.ParquetFile(path).num_row_groups == 18
    for held in (rows, table):
        assert {
            row["image_id"]: (row["label"], row["verdict"], row["cluster"], row["cluster_key"])
            for row in held
        } == wanted
        assert {int(row["width"]) for row in held} == {256}
    assert rows == [{name: str(value) for name, value in row.items()} for row in table]
    assert sum(row["verdict"] == "fine" for row in rows) == 1


def test_groups_of_near_duplicates_and_what_was_decided_of_them(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exports, "_BLOCK", 4)
    plant(world.store, (5, 2, 3))
    for number, verdict in enumerate(("duplicate", "distinct")):
        world.services.decide_duplicates(key(number), verdict, author="a", expected_version=0)
    decided_of = {0: "duplicate", 1: "distinct", 2: ""}
    wanted = {
        str(member.image_id): (str(key(member.number)), decided_of[member.number])
        for member in world.store.members_
    }
    assert len(wanted) == 10
    (tmp_path / "d.parquet").write_bytes(written(world, "parquet"))
    coco = json.loads(written(world, "coco"))["images"]
    for held in (
        list(csv.DictReader(io.StringIO(written(world, "csv").decode(), newline=""))),
        pq.read_table(tmp_path / "d.parquet").to_pylist(),
        coco,
    ):
        assert len(held) == 120
        for row in held:
            found = row.get("duplicate_group", ""), row.get("duplicate_verdict", "")
            assert found == wanted.get(row["image_id"], ("", ""))
    assert sum("duplicate_verdict" in row for row in coco) == 7
    world.services.undo(f"duplicates:{key(0)}", author="a", expected_version=1)
    assert sum("duplicate_verdict" in row for row in _images(written(world, "coco"))) == 2


def _images(coco: bytes) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(coco)["images"]
    return found


def test_coco_has_images_categories_and_annotations(world: World) -> None:
    wanted = expected(world)
    found = json.loads(written(world, "coco"))
    assert found["info"]["version"] == "9"
    images = {image["id"]: image for image in found["images"]}
    categories = {each["id"]: each for each in found["categories"]}
    assert len(images) == len(wanted) == 120
    assert len({(c["supercategory"], c["name"]) for c in categories.values()}) == len(categories)
    held: dict[str, dict[str, str]] = {each["image_id"]: {} for each in images.values()}
    for annotation in found["annotations"]:
        category = categories[annotation["category_id"]]
        image = images[annotation["image_id"]]["image_id"]
        held[image][category["supercategory"]] = category["name"]
        assert "bbox" not in annotation
    for image, (label, _, cluster, _) in wanted.items():
        assert held[image].get("label", "") == label
        assert held[image].get("cluster", "") == cluster
    ids = [annotation["id"] for annotation in found["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    assert sum("verdict" in image for image in images.values()) == 1


@pytest.mark.parametrize("fmt", list(exports.FORMATS))
def test_a_ledger_is_replayed_elsewhere_and_only_once(
    world: World, tmp_path: Path, fmt: str
) -> None:
    path = tmp_path / f"ledger.{exports.FORMATS[fmt]}"
    exports.write(path, world.services.export(fmt, history=True))
    held = exports.read_ledger(path)
    assert sorted(held, key=_place) == sorted(world.store.iter_decisions(), key=_place)
    store, searcher = collection(40)
    there: Any = store
    first = replay(there, held, author="eve", source=path.name)
    assert (first.appended, first.known, first.kept) == (len(held), 0, 0)
    again = replay(there, held, author="eve", source=path.name)
    assert (again.appended, again.known, again.kept) == (0, len(held), 0)
    services = Services(world.settings, there, searcher)  # type: ignore[arg-type]
    assert world.sets(services) == world.sets()
    assert {c.name for c in services.clusters()} == {c.name for c in world.services.clusters()}
    assert decided.labels(there) == decided.labels(world.store)
    # Authors, reasons and times are theirs; the replay itself is one line of the history.
    for one in held:
        (copy,) = there.decisions_at([(one.subject, one.version)])
        assert (copy.author, copy.reason, copy.at) == (one.author, one.reason, one.at)
    assert {act.kind for act in services.history.page(limit=9).acts} == {"replay"}


def test_a_worker_that_runs_sees_what_is_replayed(world: World) -> None:
    """Replayed decisions have old times, and are read nevertheless."""
    store, searcher = collection(40)
    there: Any = store
    services = Services(world.settings, there, searcher)  # type: ignore[arg-type]
    assert len(services.clusters()) == 5
    old = [_aged(each) for each in world.store.iter_decisions()]
    replay(there, old, author="eve", source="x")
    assert world.sets(services) == world.sets()


def test_what_was_decided_otherwise_here_stays(world: World) -> None:
    store, _ = collection(40)
    there: Any = store
    image = world.images_in(3)[0]
    there.append_decision(f"label:{image}", "label", "tap", author="eve", expected_version=0)
    held = list(world.store.iter_decisions())
    found = replay(there, held, author="eve", source="x")
    assert found.kept == 1
    assert found.kept_subjects == (f"label:{image}",)
    assert decided.labels(there)[image] == "tap"
    assert found.appended == len(held) - 1


@pytest.mark.parametrize(
    ("subject", "value"),
    [
        ("split:{key}", '{"map": "cut off by a sprea'),
        ("merge:{key}", "no id"),
        ("merge:{key}", "{KEY}"),
        ("label:abc", "tap"),
        ("label:{KEY}", "tap"),
        ("label:{key}", "x" * 81),
        ("image:{key}", "odd"),
        ("cluster:{key}", " \n"),
        ("duplicates:{key}", "maybe:00"),
        ("nothing:{key}", "tap"),
    ],
)
def test_a_decision_that_could_not_be_made_is_not_replayed(subject: str, value: str) -> None:
    own = str(UUID(int=0xABC))
    names = {"{key}": own, "{KEY}": own.upper()}
    for name, text in names.items():
        subject, value = subject.replace(name, text), value.replace(name, text)
    there: Any = MemoryStore()
    good = Decision(
        subject=f"label:{own}", version=1, kind="label", value="tap", author="a", reason="",
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )  # fmt: skip
    with pytest.raises(InputError, match=r"subject|can be made"):
        replay(there, [good, replace(good, subject=subject, value=value)], author="a", source="x")
    assert not list(there.iter_decisions())


def test_clusters_of_one_name_are_two_categories(world: World) -> None:
    keys = [each.key for each in world.services.clusters() if not each.merged][:2]
    for one in keys:
        world.services.rename_cluster(one, "Same", author="a", expected_version=0)
    found = json.loads(written(world, "coco"))
    named = [each for each in found["categories"] if each["name"] == "Same"]
    same = {each["id"]: each["cluster_key"] for each in named}
    assert sorted(same.values()) == sorted(map(str, keys))
    held = Counter(same.get(each["category_id"]) for each in found["annotations"])
    table = csv.DictReader(io.StringIO(written(world, "csv").decode(), newline=""))
    rows = Counter(row["cluster_key"] for row in table)
    assert all(held[str(one)] == rows[str(one)] > 0 for one in keys)


def test_a_part_of_a_ledger_and_a_damaged_file_are_refused(world: World, tmp_path: Path) -> None:
    held = [each for each in world.store.iter_decisions() if each.version != 1]
    there: Any = MemoryStore()
    with pytest.raises(InputError, match="export the whole history"):
        replay(there, held, author="eve", source="x")
    for name, text in (("a.csv", "a,b\n1,2\n"), ("a.json", "{}"), ("a.parquet", "x")):
        (tmp_path / name).write_text(text)
        with pytest.raises(InputError, match="export --history"):
            exports.read_ledger(tmp_path / name)
    with pytest.raises(InputError, match="no file is called"):
        exports.read_ledger(tmp_path / "none.csv")
    with pytest.raises(InputError, match="a format must be one of csv, parquet, coco"):
        exports.checked("xml")


def test_an_empty_collection_is_exported(tmp_path: Path) -> None:
    store: Any = MemoryStore()
    searcher: Any = collection(1)[1]
    services = Services(World(tmp_path).settings, store, searcher)
    assert written_of(services, "csv").decode().count("\n") == 1
    (tmp_path / "x.parquet").write_bytes(written_of(services, "parquet"))
    assert len(pq.read_table(tmp_path / "x.parquet")) == 0
    assert json.loads(written_of(services, "coco"))["images"] == []


def written_of(services: Services, fmt: str) -> bytes:
    return b"".join(services.export(fmt))


def test_an_export_by_rest_is_a_file(world: World) -> None:
    built = app.create(world.settings, world.services)
    with TestClient(built.server, base_url=BASE) as client:
        answer = client.get("/decisions/export", params={"format": "coco"})
        assert answer.headers["content-type"] == "application/json"
        name = answer.headers["content-disposition"]
        assert name.startswith('attachment; filename="sightline-decisions-')
        assert name.endswith('.json"')
        assert len(answer.json()["images"]) == 120
        ledger = client.get("/decisions/export", params={"history": True}).text
        assert len(list(csv.reader(io.StringIO(ledger, newline="")))) == 1 + len(
            list(world.store.iter_decisions())
        )
        assert client.get("/decisions/export", params={"format": "xml"}).status_code == 400


def test_commands_export_and_replay(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    held: list[Any] = [world.store]

    @contextlib.contextmanager
    def opened(_settings: Any) -> Any:
        yield held[0]

    monkeypatch.setattr(commands, "_store", opened)

    def run(*given: str) -> Any:
        with pytest.raises(SystemExit) as ended:
            cli.main([*given, "--json", "--data-dir", str(tmp_path)])
        assert not ended.value.code
        return json.loads(capsys.readouterr().out)

    table, ledger = tmp_path / "d.parquet", tmp_path / "ledger.json"
    assert run("export", str(table))["format"] == "parquet"
    assert pq.read_table(table).num_rows == 120
    assert run("export", str(ledger), "--history")["bytes"] == ledger.stat().st_size
    assert not list(tmp_path.glob(".*draft"))
    held[0] = collection(40)[0]
    decisions = len(list(world.store.iter_decisions()))
    assert run("decisions", "replay", str(ledger))["appended"] == decisions
    assert run("decisions", "replay", str(ledger))["known"] == decisions
    with pytest.raises(InputError, match="the folder of"):
        commands.export(world.settings, tmp_path / "none" / "x.csv", "csv", history=False)


def _place(decision: Any) -> tuple[str, int]:
    return decision.subject, decision.version


def _aged(decision: Any) -> Any:
    from dataclasses import replace as changed

    return changed(decision, at=decision.at.replace(year=2020), batch_id=UUID(int=1))
