"""How Explore searches for what is open: further examples and options, in the page's address."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args
from uuid import UUID

from analytics.maps.regions import Selection
from analytics.request import EXAMPLES_MAX, K_MAX, Request

NEIGHBOURS: Final = 24
"""Listings shown as most similar to an opened picture, unless more are asked for."""

By = Literal["max", "mean", "coverage"]
Scope = Literal["all", "filter", "result"]

EXAMPLES: Final = {"plus": "plus", "minus": "minus", "drop": "dropped"}
"""Keys of an address with one image each, and the fields that they fill."""

OPTIONS: Final = ("by", "scope", "within", "stock", "model", "k")

MODEL_LIMIT: Final = 1_000
"""Characters of a model's id, which may hold a path."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is added to the open picture or search; None leaves an option as it is there.

    `plus` and `minus` are further examples for and against, `dropped` are examples of the open
    search that no longer count. The scope `result` is the listings of the query `within`; `model`
    is an id.
    """

    plus: tuple[UUID, ...] = ()
    minus: tuple[UUID, ...] = ()
    dropped: tuple[UUID, ...] = ()
    by: By | None = None
    scope: Scope | None = None
    within: UUID | None = None
    stock: bool | None = None
    model: str | None = None
    k: int | None = None

    @classmethod
    def read(cls, pairs: Iterable[tuple[str, str]]) -> Terms:
        """Return what the pairs of an address say; what breaks a rule is dropped."""
        examples: dict[str, dict[UUID, None]] = {field: {} for field in EXAMPLES.values()}
        single: dict[str, str] = {}
        for key, value in pairs:
            if key in EXAMPLES:
                image_id = uuid(value)
                taken = any(image_id in known for known in examples.values())
                full = sum(map(len, examples.values())) >= EXAMPLES_MAX
                if image_id is not None and not taken and not full:
                    examples[EXAMPLES[key]][image_id] = None
            else:
                single.setdefault(key, value)
        within = uuid(single.get("within"))
        scope = _one_of(single.get("scope"), get_args(Scope))
        if (scope == "result") != (within is not None):
            scope, within = None, None
        k = single.get("k", "")
        return cls(
            **{field: tuple(known) for field, known in examples.items()},
            by=_one_of(single.get("by"), get_args(By)),
            scope=scope,
            within=within,
            stock={"1": True, "0": False}.get(single.get("stock", "")),
            model=single.get("model", "")[:MODEL_LIMIT] or None,
            k=int(k) if k.isdecimal() and k.isascii() and 1 <= _small(k) <= K_MAX else None,
        )

    def pairs(self) -> list[tuple[str, str]]:
        """Return the pairs of an address; `read(pairs()) == self`."""
        found = [(key, str(each)) for key in EXAMPLES for each in getattr(self, EXAMPLES[key])]
        for key in OPTIONS:
            value = getattr(self, key)
            if value is not None:
                found.append((key, str(int(value)) if isinstance(value, bool) else str(value)))
        return found

    def fresh(self, *, within: bool = True) -> Terms:
        """Return the options without the examples, for another picture or search."""
        kept = replace(self, plus=(), minus=(), dropped=())
        return kept if within or kept.within is None else replace(kept, scope=None, within=None)

    def request(
        self,
        *,
        image: UUID | None,
        base: Request | None,
        selection: Mapping[str, Any],
        map_id: UUID,
    ) -> Request:
        """Return the search for an opened picture, or for a search `base`, on these terms.

        `selection` on the map `map_id` is the page's current filter.
        """
        seed = base or Request(image_ids=() if image is None else (image,), k=NEIGHBOURS)
        left_out = {*self.dropped, *self.minus}
        images = [each for each in (*seed.image_ids, *self.plus) if each not in left_out]
        against = [
            each
            for each in (*seed.negatives, *self.minus)
            if each not in self.dropped and each not in self.plus
        ]
        asked = replace(
            seed,
            image_ids=tuple(dict.fromkeys(images)),
            negatives=tuple(dict.fromkeys(against)),
            aggregate=self.by or seed.aggregate,
            in_stock=seed.in_stock if self.stock is None else self.stock,
            model=self.model or seed.model,
            k=self.k or seed.k,
        )
        if self.scope is None:
            return asked
        chosen = selection if self.scope == "filter" else None
        return replace(
            asked,
            selection=Selection.from_json(chosen),
            map_id=map_id if self.scope == "filter" else None,
            within=self.within,
        )


def uuid(text: str | None) -> UUID | None:
    """The id that a text names in its canonical form, else None."""
    if text is None or len(text) != 36:
        return None
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text.lower() else None


def _one_of(text: str | None, known: tuple[Any, ...]) -> Any:
    return text if text in known else None


def _small(digits: str) -> int:
    return int(digits) if len(digits) <= 6 else 0
