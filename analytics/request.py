"""What to look for: examples for and against, how listings are scored, and which may be found."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from analytics.maps.regions import Selection
from cql import codec
from cql.errors import InputError

K_MAX = 10_000
EXAMPLES_MAX = 256
BEST_MAX = 100
AGGREGATES = ("max", "mean", "coverage")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """What to look for. The positive examples are all that is named: at least one.

    `image_ids`: images of the collection; `listing_id`: all photos of a listing; `vectors`: float32
    (Q, D), unit L2 norm; `negatives`: images that hits must not be like. A row scores its best
    product with a positive, less its best with a negative where there are any. A listing scores its
    best row (`aggregate` max), the mean of its `best` best rows (mean), or the positive that it
    matches worst (coverage: every positive must be matched).

    `selection` (on map `map_id`, None: the live one), `within` (the listings of a published query)
    and `in_stock` say which rows may count: they are applied before ranking. `model`, an id or a
    name that only one has, says whose vectors (None: those of the default one). `exclude` leaves
    the listings of the positives out. `source` is kept in the query's spec: where `vectors` came
    from, such as `upload:<sha256>`.
    """

    image_ids: tuple[UUID, ...] = ()
    listing_id: str | None = None
    vectors: NDArray[np.float32] | None = None
    negatives: tuple[UUID, ...] = ()
    aggregate: str = "max"
    best: int = 3
    selection: Selection = field(default_factory=Selection)
    map_id: UUID | None = None
    within: UUID | None = None
    in_stock: bool = False
    model: str | None = None
    k: int = 50
    exclude: bool = True
    name: str = ""
    source: str = ""

    def check(self) -> None:
        """InputError for a request that breaks a rule, whatever the collection holds."""
        if self.vectors is not None and self.vectors.ndim != 2:
            raise InputError(
                f"vectors must be an array of shape (Q, D), got {self.vectors.shape}: wrap "
                "one vector in a list"
            )
        given = len(self.image_ids) + (self.listing_id is not None)
        given += 0 if self.vectors is None else len(self.vectors)
        if given == 0:
            raise InputError(
                "a search needs at least one positive example, it has none: give images, a listing "
                "or vectors"
            )
        if given + len(self.negatives) > EXAMPLES_MAX:
            raise InputError(
                f"a search takes at most {EXAMPLES_MAX} examples, it has "
                f"{given + len(self.negatives)}: leave some out"
            )
        if not 1 <= self.k <= K_MAX:
            raise InputError(f"k must be from 1 to {K_MAX}, got {self.k}: ask for fewer listings")
        if self.aggregate not in AGGREGATES:
            raise InputError(
                f"aggregate must be one of {', '.join(AGGREGATES)}, got {self.aggregate!r}"
            )
        if not 1 <= self.best <= BEST_MAX:
            raise InputError(f"best must be from 1 to {BEST_MAX}, got {self.best}: lower it")
        both = set(self.image_ids) & set(self.negatives)
        if both:
            raise InputError(
                f"an image is an example for or against, {min(both, key=str)} is both: choose"
            )

    @property
    def selects(self) -> bool:
        """Whether the selection leaves anything out."""
        return bool(self.selection.polygons or self.selection.filters)

    def spec(self) -> str:
        """Canonical JSON of all that decides the result; vectors are kept, so it can run again."""
        spec: dict[str, Any] = {
            "k": self.k,
            "exclude": self.exclude,
            "source": self.source,
            "aggregate": self.aggregate,
        }
        if self.aggregate == "mean":
            spec["best"] = self.best
        if self.image_ids:
            spec["image_ids"] = [str(each) for each in dict.fromkeys(self.image_ids)]
        if self.negatives:
            spec["negatives"] = [str(each) for each in dict.fromkeys(self.negatives)]
        if self.listing_id is not None:
            spec["listing_id"] = self.listing_id
        if self.vectors is not None:
            spec["vectors"] = base64.b64encode(self.vectors.astype("<f4").tobytes()).decode()
            spec["dim"] = int(self.vectors.shape[1])
        if self.selects:
            spec["selection"] = self.selection.to_json()
            spec["map_id"] = str(self.map_id)
        if self.within is not None:
            spec["within"] = str(self.within)
        if self.in_stock:
            spec["in_stock"] = True
        if self.model is not None:
            spec["model"] = self.model
        return json.dumps(spec, sort_keys=True, separators=(",", ":"))

    @classmethod
    def parse(cls, spec: str, *, name: str = "") -> Self:
        """Read `spec` back: `Request.parse(request.spec())` asks the same again."""
        given: Mapping[str, Any] = json.loads(spec)
        vectors = None
        if "vectors" in given:
            flat = np.frombuffer(base64.b64decode(given["vectors"]), "<f4").astype(np.float32)
            vectors = flat.reshape(-1, int(given["dim"]))
        return cls(
            image_ids=tuple(UUID(each) for each in given.get("image_ids", ())),
            listing_id=given.get("listing_id"),
            vectors=vectors,
            negatives=tuple(UUID(each) for each in given.get("negatives", ())),
            aggregate=given.get("aggregate", "max"),
            best=given.get("best", 3),
            selection=Selection.from_json(given.get("selection")),
            map_id=UUID(given["map_id"]) if "map_id" in given else None,
            within=UUID(given["within"]) if "within" in given else None,
            in_stock=given.get("in_stock", False),
            model=given.get("model"),
            k=given["k"],
            exclude=given["exclude"],
            name=name,
            source=given["source"],
        )


def check_examples(vectors: NDArray[Any], dim: int) -> None:
    """InputError unless `vectors` are float32 (Q, dim), finite and of unit L2 norm."""
    if vectors.shape[1:] != (dim,):
        raise InputError(
            f"vectors have the shape {vectors.shape}, the snapshot expects D={dim}: "
            "embed the picture with the snapshot's model"
        )
    codec.check(vectors)
