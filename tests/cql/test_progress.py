"""Progress between items."""

from __future__ import annotations

import pytest

from cql import progress
from cql.progress import CancelledError, telling


@pytest.mark.parametrize("count", [0, 1, 3, 4, 6, 7])
def test_every_few_items_are_told_before_they_are_given(
    monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(progress, "TOLD", 3)
    heard: list[tuple[object, ...]] = []
    given = []
    for item in telling(range(count), lambda *said: heard.append(said), "step", 9, "reading"):
        given.append(item)
        assert len(given) <= 3 * len(heard)
    assert given == list(range(count))
    assert heard == [("step", number, 9, "reading") for number in range(0, count, 3)]


def test_a_cancel_ends_the_reading() -> None:
    def stop(step: str, done: int, total: int, message: str = "") -> None:
        raise CancelledError("stop")

    rows = iter(range(5))
    with pytest.raises(CancelledError):
        list(telling(rows, stop, "step", 5))
    assert list(rows) == [1, 2, 3, 4]
