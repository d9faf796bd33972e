"""What the REST API takes and refuses with, as OpenAPI shows it."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from dashboard.services import PAGE_LIMIT


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
        default={}, description='Column to `["value", ...]` or `{"low": 0.1, "high": null}`.'
    )


class SearchBody(_Body):
    """Exactly one of `image_ids` and `listing_id`."""

    image_ids: list[UUID] = Field(default=[], max_length=64)
    listing_id: str | None = None
    k: int = Field(default=50, ge=1, le=PAGE_LIMIT)
    name: str = Field(default="", max_length=120)


class RenameBody(_Body):
    """A cluster's new name; `expected_version` is the version that the caller saw."""

    name: str
    expected_version: int = Field(ge=0)
    author: str = Field(default="analyst", min_length=1, max_length=80)
    reason: str = Field(default="", max_length=500)


class VerdictBody(_Body):
    """`outlier` or `fine`; `expected_version` is the version that the caller saw."""

    verdict: str
    expected_version: int = Field(ge=0)
    author: str = Field(default="analyst", min_length=1, max_length=80)
    reason: str = Field(default="", max_length=500)


class UndoBody(_Body):
    """The newest decision of `cluster:<key>` or `image:<id>` is stepped back."""

    subject: str = Field(max_length=120)
    expected_version: int = Field(ge=1)
    author: str = Field(default="analyst", min_length=1, max_length=80)
