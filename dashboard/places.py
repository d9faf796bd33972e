"""What the addresses of the pages about decisions say, read and written as `dashboard.state`."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from analytics.decisions.decided import PREFIXES
from analytics.learning.propagation import K_MAX
from dashboard.address import pairs_of, single_of, written
from dashboard.history import KINDS
from dashboard.state import ExploreState
from dashboard.terms import Terms

NEAR: Final = 60
"""Images that a label is spread to where the address does not say."""
_SUBJECT = re.compile(rf"(?:{'|'.join(PREFIXES.values())})[0-9A-Za-z-]{{1,80}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionsState:
    """Which kind of acts are listed ("": all), before when, or all versions of one subject."""

    kind: str = ""
    before: datetime | None = None
    subject: str = ""

    @classmethod
    def read(cls, search: str | None) -> DecisionsState:
        """Return the state that the query part of an address names."""
        single = _single(search)
        kind, subject = single.get("kind", ""), single.get("subject", "")
        return cls(
            kind=kind if kind in KINDS else "",
            before=_moment(single.get("before", "")),
            subject=subject if _SUBJECT.fullmatch(subject) else "",
        )

    def write(self) -> str:
        """Return the query part with its `?`; empty for the default state."""
        before = self.before.isoformat(timespec="milliseconds") if self.before else ""
        return _written((("kind", self.kind), ("before", before), ("subject", self.subject)))


@dataclass(frozen=True, slots=True, kw_only=True)
class SpreadState:
    """A label, and to how many images it should spread."""

    label: str = ""
    k: int = NEAR

    @classmethod
    def read(cls, search: str | None) -> SpreadState:
        """Return the state that the query part of an address names."""
        single = _single(search)
        text = single.get("k", "")
        k = int(text) if re.fullmatch(r"[0-9]{1,4}", text) else NEAR
        return cls(label=single.get("label", "")[:200].strip(), k=min(max(k, 1), K_MAX))

    def write(self) -> str:
        """Return the query part with its `?`; empty for the default state."""
        return _written((("label", self.label), ("k", str(self.k) if self.k != NEAR else "")))


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelsState:
    """The class whose images are ranked ("": the least sure of all), and which page, from 1.

    Or the `concept` whose proposals are shown.
    """

    name: str = ""
    page: int = 1
    concept: str = ""

    @classmethod
    def read(cls, search: str | None) -> LabelsState:
        """Return the state that the query part of an address names."""
        single = _single(search)
        text = single.get("page", "")
        page = int(text) if re.fullmatch(r"[0-9]{1,4}", text) else 1
        concept = single.get("concept", "")[:200].strip()
        name = "" if concept else single.get("class", "")[:200].strip()
        return cls(name=name, page=max(page, 1), concept=concept)

    def write(self) -> str:
        """Return the query part with its `?`; empty for the default state."""
        page = str(self.page) if self.page != 1 else ""
        return _written((("class", self.name), ("concept", self.concept), ("page", page)))


@dataclass(frozen=True, slots=True, kw_only=True)
class TeachState:
    """Images that have a concept, and images that do not; none is both."""

    plus: tuple[UUID, ...] = ()
    minus: tuple[UUID, ...] = ()

    @classmethod
    def read(cls, search: str | None) -> TeachState:
        """Return the state that the query part of an address names: keys of a search's terms."""
        terms = Terms.read(pairs_of(search))
        return cls(plus=terms.plus, minus=terms.minus)

    def write(self) -> str:
        """Return the query part with its `?`; empty for the default state."""
        return written(Terms(plus=self.plus, minus=self.minus).pairs())

    def marked(self, image_id: UUID, sign: str) -> TeachState:
        """Make an image an example (`plus`, `minus`), or take it out (`none`)."""
        plus = tuple(each for each in self.plus if each != image_id)
        minus = tuple(each for each in self.minus if each != image_id)
        return TeachState(
            plus=(*plus, image_id) if sign == "plus" else plus,
            minus=(*minus, image_id) if sign == "minus" else minus,
        )


def selection_of(search: str | None) -> ExploreState:
    """The selection that an address of Explore or of the page about a selection names, alone."""
    state = ExploreState.read(search)
    return ExploreState(map_id=state.map_id, polygons=state.polygons, filters=state.filters)


def _single(search: str | None) -> dict[str, str]:
    return {key: value for key, value in single_of(search).items() if value.isprintable()}


def _written(pairs: Iterable[tuple[str, str]]) -> str:
    return written(pair for pair in pairs if pair[1])


def _moment(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
