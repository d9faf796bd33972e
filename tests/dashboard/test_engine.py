from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from PIL import Image

from analytics.hosting import merge
from analytics.hosting.merge import Backlog
from analytics.learning import training
from cql.errors import ConflictError, InputError, UnavailableError
from cql.progress import CancelledError, Progress
from cql.records import Model
from cql.settings import Settings
from cql.wire import Message
from dashboard import engine as engine_module
from dashboard.engine import Engine
from extraction.job import ExtractReport
from tests.analytics.conftest import Memory

MODEL = Model(model_id="m@1", name="m", architecture="a", weights_sha256="0", transform="{}", dim=3)


class FakeEmbedder:
    model = MODEL
    transform = SimpleNamespace(detail=224)

    def embed(self, images: list[Image.Image]) -> np.ndarray:
        return np.array([[image.width, image.height, 0] for image in images], np.float64)


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    made = Engine(Settings(data_dir=tmp_path))
    made._store = SimpleNamespace(model=lambda _name: MODEL)  # type: ignore[assignment]
    made._models._loaded["m"] = FakeEmbedder()  # type: ignore[assignment]
    yield made
    made._sandbox.close()


def picture(kind: str = "PNG") -> np.ndarray:
    out = io.BytesIO()
    Image.new("RGB", (5, 4)).save(out, kind)
    return np.frombuffer(out.getvalue(), np.uint8)


def test_embed_decodes_and_answers_with_float32_vectors(engine: Engine) -> None:
    reply = engine._embed(Message({"model_id": "m@1"}, {"image": picture()}))
    vectors = reply.arrays["vectors"]
    assert vectors.dtype == np.float32
    assert vectors.shape == (1, 3)
    assert vectors.tolist() == [[5.0, 4.0, 0.0]]


def test_bytes_that_are_no_picture_are_the_callers_error(engine: Engine) -> None:
    with pytest.raises(InputError, match="must decode"):
        engine._embed(Message({"model_id": "m@1"}, {"image": np.zeros(10, np.uint8)}))


def test_a_model_that_changed_is_a_conflict(engine: Engine) -> None:
    engine._store = SimpleNamespace(  # type: ignore[assignment]
        model=lambda _name: Model(
            model_id="m@0", name="m", architecture="a", weights_sha256="1", transform="{}", dim=3
        )
    )
    with pytest.raises(ConflictError, match=r"m@0.*m@1"):
        engine._embed(Message({"model_id": "m@0"}, {"image": picture()}))


def test_before_the_start_everything_is_unavailable(tmp_path: Path) -> None:
    fresh = Engine(Settings(data_dir=tmp_path))
    with pytest.raises(UnavailableError):
        fresh._embed(Message({"model_id": "m"}, {"image": picture()}))
    with pytest.raises(UnavailableError):
        _ = fresh._open_spark


def test_a_stop_leaves_the_running_job_to_the_next_engine(engine: Engine) -> None:
    seen: list[str] = []

    def handler(_parameters: Mapping[str, Any], progress: Progress) -> None:
        progress("one", 0, 2)
        engine.stop()
        progress("two", 1, 2)

    with pytest.raises(SystemExit):
        engine._stoppable(handler)({}, lambda step, *_: seen.append(step))
    assert seen == ["one"]


def test_a_rendered_sample_is_not_rendered_again(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "listings.csv").write_text("x")
    said: list[str] = []
    parameters = {"folder": str(tmp_path), "images": 10, "seed": 1}
    engine._render(parameters, lambda *call: said.append(call[-1]))
    assert said == ["rendered before"]


def test_every_live_model_is_hosted_whatever_becomes_of_the_others(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    live = {name: SimpleNamespace(model_id=name, snapshot_id=name) for name in ("a", "b", "c")}
    monkeypatch.setattr("dashboard.engine.live_snapshots", lambda _store: live)
    engine._store = SimpleNamespace(live=lambda _name: "a")  # type: ignore[assignment]
    started: list[str] = []
    told: list[Any] = []

    def ready(_timeout: float, *, model_id: str) -> None:
        if model_id == "b":
            raise UnavailableError("hosts must hold the snapshot, they do not")

    engine._hosts = SimpleNamespace(  # type: ignore[assignment]
        start=lambda snapshot: started.append(snapshot.model_id), ready=ready
    )
    beacon: Any = SimpleNamespace(update=lambda **row: told.append(row["snapshot_id"]))
    engine._serve_live(beacon)
    assert started == ["a", "b", "c"]
    assert told == ["a", "a"]


def test_jobs_of_sizes_publish_and_analyses_keep_to_them(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = SimpleNamespace(clusters=7, noise=3, rows_scored=40, rows=40)
    calls: list[Any] = []
    said: list[str] = []

    def resize(_settings: Any, _store: Any, size: int | None, **given: Any) -> Any:
        calls.append((size, given["map_id"]))
        return made

    def analyse(*_: Any, parameters: Any, **__: Any) -> Any:
        calls.append(parameters.min_cluster_size)
        return made

    monkeypatch.setattr("analytics.making.resize.resize", resize)
    monkeypatch.setattr("analytics.analysis.analyse", analyse)
    monkeypatch.setattr(Engine, "_open_spark", None)
    monkeypatch.setattr(Engine, "_model_id", lambda *_: "m@1")
    monkeypatch.setattr("extraction.measures.fill", lambda _store, **_: 0)
    engine._store = SimpleNamespace(live=lambda _name: None)  # type: ignore[assignment]
    map_id = UUID(int=5)
    engine._size({"size": 30, "map_id": str(map_id)}, lambda *call: said.append(call[-1]))
    engine._size({"size": None}, lambda *call: said.append(call[-1]))
    engine._analyse({"cluster_size": 9}, lambda *call: said.append(call[-1]))
    engine._analyse({}, lambda *call: said.append(call[-1]))
    assert calls == [(30, map_id), (None, None), 9, None]
    assert said[0] == "7 clusters, 3 of 40 images in none"


def test_a_classifier_and_arrivals_are_learned_by_jobs(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[tuple[str, str]] = []

    def progress(step: str, done: int, total: int, message: str = "") -> None:
        said.append((step, message))

    made = SimpleNamespace(counts=(3, 4), classes=("a", "b"), labels=2)
    monkeypatch.setattr(training, "classify", lambda *_, seed, progress: made)
    engine._classify({"seed": 7}, progress)
    assert said == [("classify", "7 images in 2 classes from 2 labels")]

    def fail(*_: Any, **__: Any) -> int:
        raise UnavailableError("no store")

    monkeypatch.setattr(training, "judge", fail)
    engine._judge("m@1", progress)  # the step of another job: it does not fail with it

    def cancelled(*_: Any, **__: Any) -> int:
        raise CancelledError("stop")

    monkeypatch.setattr(training, "judge", cancelled)
    with pytest.raises(CancelledError):
        engine._judge("m@1", progress)


class FakeLatecomers:
    """Says what the real one would, one answer a call; the last one again and again."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.calls = list(answers), 0

    def place(self, *, progress: Progress | None = None) -> int:
        self.calls += 1
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, BaseException):
            raise answer
        if progress is not None:
            progress("place", answer, answer)
        return int(answer)


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ExtractReport:
    """What an extraction reports; nothing is extracted."""
    made = ExtractReport(
        model_id="m@1",
        present=4,
        images=3,
        failed=0,
        seconds=3.0,
        decode_s=0.0,
        model_s=0.0,
        write_s=0.0,
        tasks=1,
        device="cpu",
        had=4,
    )
    monkeypatch.setattr("extraction.job.extract", lambda *_, **__: made)
    monkeypatch.setattr(training, "judge", lambda *_, **__: 0)
    monkeypatch.setattr(Engine, "_open_spark", None)
    monkeypatch.setattr(Engine, "_model_id", lambda *_: "m@1")
    return made


@pytest.mark.usefixtures("report")
def test_extraction_ends_with_new_images_on_the_map(engine: Engine) -> None:
    said: list[tuple[str, str]] = []

    def progress(step: str, done: int, total: int, message: str = "") -> None:
        del done, total
        said.append((step, message))

    engine._late = FakeLatecomers(3)  # type: ignore[assignment]
    engine._extract({"model": "m"}, progress)
    assert [step for step, _ in said] == ["place", "extract"]
    assert said[-1][1].endswith("3 placed on the map")
    # Hosts that do not answer are no reason to extract again: it is tried again without the job.
    engine._late = FakeLatecomers(UnavailableError("no hosts"))  # type: ignore[assignment]
    engine._extract({"model": "m"}, progress)
    assert "placed" not in said[-1][1]
    engine._late = FakeLatecomers(CancelledError("stop"))  # type: ignore[assignment]
    with pytest.raises(CancelledError):
        engine._extract({"model": "m"}, progress)


def test_extraction_does_not_fail_where_only_regions_cannot_be_made(
    engine: Engine, report: ExtractReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An older collection whose photos are gone has features all the same."""
    found = replace(report, images=0, present=0, had=5, failed=5)
    monkeypatch.setattr("extraction.job.extract", lambda *_, **__: found)
    engine._late = FakeLatecomers(0)  # type: ignore[assignment]
    said: list[str] = []
    engine._extract({"model": "m"}, lambda *told: said.append(str(told[-1])))
    assert said[-1].startswith("5 images have features, 0 new")
    found = replace(found, had=0)
    with pytest.raises(InputError, match="one photo that can be read"):
        engine._extract({"model": "m"}, lambda *_: None)


def test_images_that_lacked_only_regions_are_not_new(
    engine: Engine, report: ExtractReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = replace(report, present=50, had=350, images=312, regions=300)
    monkeypatch.setattr("extraction.job.extract", lambda *_, **__: found)
    engine._late = FakeLatecomers(12)  # type: ignore[assignment]
    said: list[Any] = []
    engine._extract({"model": "m"}, lambda *told: said.append(told))
    assert said[-1][1:3] == (362, 362)
    text = said[-1][-1]
    assert text.startswith("362 images have features, 12 new, 300 lacked only regions, 104.0 ")
    assert text.endswith("12 placed on the map")


def test_images_are_placed_again_and_again_whatever_goes_wrong(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) > 5

    monkeypatch.setattr(engine._stop, "wait", wait)
    late = FakeLatecomers(0, UnavailableError("no hosts"), 7, ValueError("a bug"), 0)
    engine._late = late  # type: ignore[assignment]
    engine._store = SimpleNamespace(  # type: ignore[assignment]
        live=lambda _name: "a", map=lambda _map: SimpleNamespace(rows=600_000)
    )
    with caplog.at_level("INFO"):
        engine._keep_placing()
    assert late.calls == 5
    look, again = engine_module.PLACE_LOOK_S, engine_module.PLACE_AGAIN_S
    # Once images were placed on a large map it rests for longer.
    assert waits == [look, look, again, 30.0, again, look]
    assert "7 new images were placed on the map" in caplog.text
    assert "not on the map yet: no hosts" in caplog.text
    assert "a bug" in caplog.text


def looks(engine: Engine, monkeypatch: pytest.MonkeyPatch, count: int) -> list[float]:
    """Let the engine look so many times, without a wait; returns the waits that it asked for."""
    waits: list[float] = []

    def wait(seconds: float) -> bool:
        waits.append(seconds)
        return len(waits) > count

    monkeypatch.setattr(engine._stop, "wait", wait)
    return waits


def test_changes_are_folded_in_by_one_job_a_model(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Memory()
    engine._store = store  # type: ignore[assignment]

    def seen(model_id: str, changed: int) -> Backlog:
        return Backlog(model_id=model_id, rows=10, changed=changed, behind=0, age_s=1.0)

    few, many = merge.CHANGED_MIN - 1, merge.CHANGED_MIN
    told = iter([
        [seen("a@1", few), seen("b@1", 0)],
        [seen("a@1", many), seen("b@1", few)],
        [seen("a@1", many), seen("b@1", few)],
        [seen("a@1", many), seen("b@1", many)],
        [],
    ])  # fmt: skip
    queued: list[list[str]] = []

    def backlogs(*_: Any) -> list[Backlog]:
        queued.append([job.parameters for job in store.work.values()])
        return next(told)

    monkeypatch.setattr(merge, "backlogs", backlogs)
    waits = looks(engine, monkeypatch, 5)
    engine._merge()
    a, b = '{"model_id":"a@1"}', '{"model_id":"b@1"}'
    assert queued == [[], [], [a], [a], [a, b]]
    assert {(job.kind, job.state) for job in store.work.values()} == {("snapshot", "queued")}
    assert waits == [engine_module.MERGE_LOOK_S] * 6


def test_nothing_is_folded_in_where_no_snapshot_is_live(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Memory()
    engine._store = store  # type: ignore[assignment]
    waits = looks(engine, monkeypatch, 2)
    engine._merge()
    assert store.work == {}
    assert waits == [engine_module.MERGE_LOOK_S] * 3


def test_folding_in_goes_on_after_an_error_and_a_rest(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = Memory()
    engine._store = store  # type: ignore[assignment]
    due = Backlog(model_id="a@1", rows=10, changed=merge.CHANGED_MIN, behind=0, age_s=1.0)
    told: Iterator[Exception | list[Backlog]] = iter(
        [UnavailableError("Cassandra is away"), ValueError("a bug"), [], [due]]
    )

    def backlogs(*_: Any) -> list[Backlog]:
        answer = next(told)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(merge, "backlogs", backlogs)
    waits = looks(engine, monkeypatch, 4)
    engine._merge()
    look, again = engine_module.MERGE_LOOK_S, merge.AGAIN_S
    assert waits == [look, again, again, look, look]
    assert len(store.work) == 1
    assert "not folded in: Cassandra is away" in caplog.text
    assert "a bug" in caplog.text
