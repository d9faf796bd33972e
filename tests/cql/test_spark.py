"""Reading tables by the connector, which hears of new ones a moment late."""

from __future__ import annotations

from typing import Any, Self, cast

import pytest
from pyspark.errors import AnalysisException

from cql import spark as sparks
from cql.settings import Settings


class Late:
    """A session whose connector does not know a table at first."""

    def __init__(self, times: int, message: str = "Couldn't find table features") -> None:
        self.times, self.message, self.asked = times, message, 0

    @property
    def read(self) -> Self:
        return self

    def format(self, _: str) -> Self:
        return self

    def options(self, **_: str) -> Self:
        return self

    def load(self) -> str:
        self.asked += 1
        if self.asked <= self.times:
            raise AnalysisException(self.message)
        return "frame"


def test_a_new_table_is_waited_for() -> None:
    late = Late(2)
    assert cast("Any", sparks.read(cast("Any", late), Settings(), "features")) == "frame"
    assert late.asked == 3


def test_a_table_that_never_comes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sparks, "_HEARD_S", 0.5)
    with pytest.raises(AnalysisException, match="features"):
        sparks.read(cast("Any", Late(1000)), Settings(), "features")


def test_another_error_is_told_at_once() -> None:
    late = Late(1, "cannot resolve the column")
    with pytest.raises(AnalysisException, match="column"):
        sparks.read(cast("Any", late), Settings(), "features")
    assert late.asked == 1
