"""What the REST API takes and refuses with, as OpenAPI shows it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import Query
from pydantic import BaseModel, ConfigDict, Field

from analytics.learning.concept import EXAMPLES_MAX as TAUGHT_MAX
from analytics.learning.propagation import K_MAX as NEAR_MAX
from analytics.maps.regions import Selection
from analytics.request import BEST_MAX, EXAMPLES_MAX, K_MAX, Request
from cql.errors import InputError
from cql.results import NAME_LIMIT
from dashboard.decisions import IMAGES_MAX, MERGE_MAX
from dashboard.services import PAGE_LIMIT
from dashboard.sizes import LARGEST
from dashboard.stocks import INVENTORY_MAX
from dashboard.terms import MODEL_LIMIT

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
    model: str | None = Field(
        default=None,
        max_length=MODEL_LIMIT,
        description="Whose vectors are searched, by id or name (`GET /models`); without it, those "
        "of the default model.",
    )
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


class SizeBody(_Body):
    """Fewest images of a cluster; null for what suits the number of images."""

    size: int | None = Field(ge=2, le=LARGEST)


class VerdictBody(_Body):
    """The verdict; `expected_version` is the version that the caller saw.

    Of an outlier `outlier` or `fine`, of a group of near-duplicates `duplicate` or `distinct`.
    """

    verdict: str
    expected_version: int = Field(ge=0)
    author: str = Field(default="analyst", min_length=1, max_length=80)
    reason: str = Field(default="", max_length=500)


class UndoBody(_Body):
    """The newest decision of a subject is stepped back, or every one of a `batch:<id>`."""

    subject: str = Field(max_length=120)
    expected_version: int = Field(ge=1)
    author: str = Field(default="analyst", min_length=1, max_length=80)


Author = Annotated[str, Field(min_length=1, max_length=80)]
Reason = Annotated[str, Field(max_length=500)]


class KeysBody(_Body):
    """Clusters of the live map, by key."""

    keys: list[UUID] = Field(min_length=2, max_length=MERGE_MAX)


class MergeBody(KeysBody):
    """Clusters to merge, and the versions that the preview gave."""

    versions: dict[UUID, int] = Field(default={}, description="As of the preview.")
    name: str = Field(default="", description="Without it, the name of the largest.")
    name_version: int = Field(default=0, ge=0, description="As of the preview.")
    state: str = Field(default="", max_length=64, description="As of the preview.")
    author: Author = "analyst"
    reason: Reason = ""


class TrainBody(_Body):
    """How a classifier is trained."""

    seed: int = Field(default=1, ge=0, le=2**31 - 1)


class ExamplesBody(_Body):
    """Images that have a concept, and images that do not."""

    positives: list[UUID] = Field(min_length=1, max_length=TAUGHT_MAX)
    negatives: list[UUID] = Field(default=[], max_length=TAUGHT_MAX)
    seed: int = Field(default=1, ge=0, le=2**31 - 1, description="Draws the weak negatives.")


class ConceptBody(ExamplesBody):
    """A concept to save; `expected_version` is the version that the caller saw, 0 for none."""

    expected_version: int = Field(ge=0)
    author: Author = "analyst"


class ChosenBody(_Body):
    """A selection on a map, or images."""

    selection: SelectionBody = SelectionBody()
    image_ids: list[UUID] = Field(default=[], max_length=IMAGES_MAX)
    map_id: UUID | None = None
    key: UUID | None = Field(
        default=None, description="The cluster; without it, the one that most images are in."
    )

    def chosen(self) -> dict[str, Any]:
        """The arguments of the service."""
        selection = Selection.from_json(self.selection.model_dump())
        if not self.image_ids and not (selection.polygons or selection.filters):
            raise InputError("a selection or image_ids must say what is split off, both are empty")
        return {
            "selection": selection,
            "images": self.image_ids,
            "key": self.key,
            "map_id": self.map_id,
        }


class SplitBody(ChosenBody):
    """What to split off, under which name, and the versions that the preview gave."""

    name: str
    versions: dict[UUID, int] = Field(default={}, description="As of the preview.")
    author: Author = "analyst"
    reason: Reason = ""


class LabelBody(_Body):
    """A label, "" for none, for a selection or for images."""

    label: str
    selection: SelectionBody | None = None
    image_ids: list[UUID] = Field(default=[], max_length=IMAGES_MAX)
    map_id: UUID | None = None
    since: datetime | None = Field(
        default=None, description="When the caller looked: later decisions of others stand."
    )
    author: Author = "analyst"
    reason: Reason = ""


class ImageLabelBody(_Body):
    """A label, "" for none; `expected_version` is the version that the caller saw."""

    label: str
    expected_version: int = Field(ge=0)
    author: Author = "analyst"
    reason: Reason = ""


class SpreadBody(_Body):
    """Images of a preview that get the label."""

    label: str
    image_ids: list[UUID] = Field(min_length=1, max_length=NEAR_MAX)
    k: int = Field(ge=1, le=NEAR_MAX, description="Of the preview.")
    since: datetime | None = Field(default=None, description="`at` of the preview.")
    author: Author = "analyst"
