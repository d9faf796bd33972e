"""What the REST API takes and refuses with, as OpenAPI shows it."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from analytics.regions import Selection
from analytics.request import BEST_MAX, EXAMPLES_MAX, K_MAX, Request
from cql.results import NAME_LIMIT
from dashboard.services import PAGE_LIMIT
from dashboard.stocks import INVENTORY_MAX

Limit = Annotated[int, Query(ge=1, le=PAGE_LIMIT, description="Most rows of the page.")]


class ErrorBody(BaseModel):
    """What every refusal carries."""

    error: str = Field(description="The rule that was broken and the value seen.")
    fix: str = Field(default="", description="What to do about it.")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class SelectionBody(_Body):
    """Polygons in world coordinates, then filters by column."""

    polygons: list[dict[str, Any]] = Field(
        default=[],
        description='`{"points": [[x, y], ...], "mode": "union" | "subtract" | "intersect"}`',
    )
    filters: dict[str, Any] = Field(
        default={},
        description='Column to `["value", ...]` or `{"low": 0.1, "high": null}`; a column of dates '
        'also to `{"low": "2024-01-01", "high": "2024-12-31"}`.',
    )


Aggregate = Literal["max", "mean", "coverage"]


class SearchBody(_Body):
    """Examples for (`image_ids` and the photos of `listing_id`, at least one) and against."""

    image_ids: list[UUID] = Field(
        default=[], max_length=EXAMPLES_MAX, description="Images that hits should be like."
    )
    listing_id: str | None = Field(
        default=None, description="A listing all of whose photos are examples."
    )
    negatives: list[UUID] = Field(
        default=[], max_length=EXAMPLES_MAX, description="Images that hits must not be like."
    )
    aggregate: Aggregate = Field(
        default="max",
        description="A listing scores its best photo (`max`), the mean of its `best` best photos "
        "(`mean`), or the example that it matches worst (`coverage`).",
    )
    best: int = Field(
        default=3, ge=1, le=BEST_MAX, description="Photos of a listing that `mean` takes."
    )
    selection: SelectionBody | None = Field(
        default=None, description="Only images that this selection takes can be found."
    )
    map_id: UUID | None = Field(
        default=None, description="The map that `selection` is about; without it, the live map."
    )
    within: UUID | None = Field(
        default=None, description="A query: only listings that it found can be found."
    )
    in_stock: bool = Field(default=False, description="Only listings that are in stock now.")
    k: int = Field(default=50, ge=1, le=K_MAX, description="Most listings to find.")
    exclude: bool = Field(
        default=True, description="Leave out the listings that the examples belong to."
    )
    name: str = Field(default="", max_length=NAME_LIMIT, description="Name in the history.")

    def request(self) -> Request:
        """The request that this body asks."""
        given = {**dict(self), "selection": None}
        given["image_ids"], given["negatives"] = tuple(self.image_ids), tuple(self.negatives)
        chosen = None if self.selection is None else self.selection.model_dump()
        return Request(**{**given, "selection": Selection.from_json(chosen)})


class NameBody(_Body):
    """Another name; empty for none."""

    name: str = Field(max_length=NAME_LIMIT)


class StockBody(_Body):
    """How many of a listing are for sale from now on."""

    inventory: int = Field(ge=0, le=INVENTORY_MAX)


class RenameBody(_Body):
    """A cluster's new name; `expected_version` is the version that the caller saw."""

    name: str
    expected_version: int = Field(ge=0)
    author: str = Field(default="analyst", min_length=1, max_length=80)
    reason: str = Field(default="", max_length=500)


class VerdictBody(_Body):
    """The verdict; `expected_version` is the version that the caller saw.

    Of an outlier `outlier` or `fine`, of a group of near-duplicates `duplicate` or `distinct`.
    """

    verdict: str
    expected_version: int = Field(ge=0)
    author: str = Field(default="analyst", min_length=1, max_length=80)
    reason: str = Field(default="", max_length=500)


class UndoBody(_Body):
    """The newest decision of a subject is stepped back.

    Subjects are `cluster:<key>`, `image:<id>` and `duplicates:<key>`.
    """

    subject: str = Field(max_length=120)
    expected_version: int = Field(ge=1)
    author: str = Field(default="analyst", min_length=1, max_length=80)
