"""Models, features, patches and stock: what is known about images besides pictures."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from uuid import UUID, uuid4

import numpy as np

from cql import codec
from cql import statements as cql
from cql.access import Access, blocks, conflict, record, values_of
from cql.collection import Collection
from cql.errors import InputError, IntegrityError, NotFoundError
from cql.records import Feature, Model, Patches, Stock

LISTING_BYTES = 100_000_000
"""Most bytes of vectors of one listing: it is one partition of Cassandra and one row group here."""
_MODEL = "model_id name architecture weights_sha256 transform dim"


PATCH_SHAPE = (12, 10)
"""Regions a side, and numbers of each, of patches that are made today: others are made again."""


class Vectors(Collection):
    """The part of the store about models, features, patches and stock."""

    _access: Access

    # Models

    def put_model(self, model: Model) -> None:
        """Write a model; writing it again changes nothing."""
        self._access.run(cql.PUT_MODEL, *values_of(model, _MODEL))

    def model(self, model_id: str) -> Model:
        """One model. NotFoundError."""
        row = self._access.one(cql.MODEL, model_id)
        if row is None:
            raise NotFoundError(f"no model has the id {model_id!r}: extract features with it first")
        return record(Model, row)

    def models(self) -> list[Model]:
        """All models, by id."""
        rows = self._access.each(cql.MODELS)
        return sorted((record(Model, row) for row in rows), key=lambda model: model.model_id)

    # Features

    def put_features(self, features: Iterable[Feature]) -> int:
        """Write feature vectors after checking each; returns how many, when they are durable.

        Their entries in the change log come last: whoever was interrupted writes them again.

        Raises:
            InputError: dim, dtype, CRC-32C or norm are wrong, or a listing gets more than 100 MB.
        """
        written = 0
        for block in blocks(features, 512):
            _check(block)
            self._check_room(block)
            written += self._access.write(
                cql.PUT_FEATURE,
                (
                    values_of(each, cql.FEATURE_COLUMNS, feature_vector=each.vector)
                    for each in block
                ),
            )
            self._log("feature_added", ((each.listing_id, each.image_id) for each in block))
        return written

    def features_of(self, listing_id: str, model_id: str) -> list[Feature]:
        """Features of one listing, by image id; empty where there is none.

        Raises:
            IntegrityError: stored bytes do not match their dim, dtype or CRC-32C.
        """
        features = [
            record(Feature, row, vector=row.feature_vector)
            for row in self._access.each(cql.FEATURES_OF, listing_id, model_id)
        ]
        for dim, group in _by_dim(features).items():
            strange = next((each.dtype for each in group if each.dtype != "float32"), None)
            if strange is not None:
                raise IntegrityError(
                    f"features of listing {listing_id!r} must be float32, one is {strange}: "
                    "extract its images again"
                )
            try:
                codec.decode(
                    [each.vector for each in group], [each.crc32c for each in group], dim=dim
                )
            except IntegrityError as error:
                raise IntegrityError(f"features of listing {listing_id!r}: {error}") from error
        return features

    def features_at(self, keys: Iterable[tuple[str, str, UUID]]) -> list[Feature | None]:
        """Features by (listing, model, image), in order; None where there is none.

        Bytes are not checked: `codec.decode` does that.
        """
        return [
            record(Feature, rows[0], vector=rows[0].feature_vector) if rows else None
            for rows in self._access.many(cql.FEATURE, keys)
        ]

    def _check_room(self, features: list[Feature]) -> None:
        fresh: dict[str, int] = defaultdict(int)
        for feature in features:
            fresh[feature.listing_id] += 4 * feature.dim
        sums = self._access.many(cql.FEATURE_NUMBERS, ((name,) for name in fresh))
        for (name, added), rows in zip(fresh.items(), sums, strict=True):
            stored = 4 * int(rows[0].numbers or 0)
            if stored + added <= LISTING_BYTES:
                continue
            # Only now is it worth reading which rows are merely written again.
            known = {
                (row.model_id, row.image_id): 4 * row.dim
                for row in self._access.each(cql.FEATURE_KEYS, name)
            }
            for feature in features:
                if feature.listing_id == name:
                    known[feature.model_id, feature.image_id] = 4 * feature.dim
            if sum(known.values()) > LISTING_BYTES:
                raise InputError(
                    f"a listing may have {LISTING_BYTES // 1_000_000} MB of vectors, {name!r} "
                    f"would have {sum(known.values()) / 1e6:.1f} MB: split it into listings"
                )

    # Patches

    def put_patches(self, patches: Iterable[Patches]) -> int:
        """Write the features of the regions of images; returns how many, when they are durable.

        They are no change that a host follows: only the next map reads them.

        Raises:
            InputError: size, scale or CRC-32C are wrong.
        """
        return self._access.write(cql.PUT_PATCHES, (_patches_row(each) for each in patches))

    def iter_patches(self, model_id: str) -> Iterator[Patches]:
        """Patches of all images under a model; those of one listing follow each other.

        Raises:
            IntegrityError: stored bytes do not match their size or CRC-32C.
        """
        for row in self._access.each(cql.PATCHES, model_id):
            found = record(Patches, row)
            if _wrong(found):
                raise IntegrityError(
                    f"patches of image {found.image_id} must match their CRC-32C, they do not: "
                    "delete the image and ingest it again"
                )
            yield found

    def patched(self, model_id: str, shape: tuple[int, int] = PATCH_SHAPE) -> int:
        """How many images have patches of a shape under a model."""
        rows = self._access.each(cql.PATCHED, model_id)
        return sum((row.side, row.dim) == shape for row in rows)

    # Stock

    def load_stock(self, stock: Iterable[Stock]) -> int:
        """Bulk-load stock before serving. It never overwrites what `set_stock` wrote."""
        return self._access.write(
            cql.LOAD_STOCK,
            ((each.listing_id, _inventory(each.inventory), each.etag) for each in stock),
        )

    def stock(self, listing_ids: Iterable[str]) -> dict[str, Stock]:
        """Stock of those listings that have any."""
        found = self._access.keyed(cql.STOCK_OF, listing_ids)
        return {row.listing_id: record(Stock, row) for row in found}

    def iter_stock(self) -> Iterator[Stock]:
        """Stock of all listings that have any, page by page, in no particular order."""
        for row in self._access.each(cql.STOCKS):
            yield record(Stock, row)

    def set_stock(self, listing_id: str, inventory: int, *, etag: str) -> Stock:
        """Set the stock if its etag is still `etag` ("" where the listing has no stock yet).

        Returns the stock with its new etag.

        Raises:
            ConflictError: another etag is there, and nothing was set; it names both.
            UnavailableError: also where the answer was lost and the stock has changed since, so
                that nobody can say whether this change was applied before. Read, then decide.
        """
        fresh = Stock(listing_id=listing_id, inventory=_inventory(inventory), etag=uuid4().hex)

        def current() -> str:
            row = self._access.serial(cql.STOCK, listing_id)
            return row.etag if row is not None else ""

        statement, values = cql.SET_STOCK, (inventory, fresh.etag, listing_id, etag)
        if not etag:
            statement, values = cql.ADD_STOCK, (listing_id, inventory, fresh.etag)  # type: ignore[assignment]

        def settled() -> bool | None:
            found = current()
            return True if found == fresh.etag else False if found == etag else None

        if not self._access.cas(statement, values, settled=settled):
            raise conflict(f"stock of {listing_id!r}", etag, current())
        self._log("stock", [(listing_id, None)])
        return fresh


def _check(features: list[Feature]) -> None:
    for dim, group in _by_dim(features).items():
        for each in group:
            if each.dtype != "float32" or len(each.vector) != 4 * dim or dim < 1:
                raise InputError(
                    f"a vector of D={dim} must be float32 of {4 * dim} bytes, image "
                    f"{each.image_id} has {each.dtype} of {len(each.vector)}: extract it again"
                )
        try:
            vectors = codec.decode(
                [each.vector for each in group], [each.crc32c for each in group], dim=dim
            )
        except IntegrityError as error:
            raise InputError(f"these features cannot be stored: {error}") from error
        codec.check(np.asarray(vectors, np.float32))


def _patches_row(each: Patches) -> tuple[object, ...]:
    if _wrong(each):
        raise InputError(
            f"patches of D={each.dim}, {each.side} a side, must be {each.side**2 * each.dim} int8 "
            f"with a finite scale and their CRC-32C, those of image {each.image_id} are not: "
            "extract it again"
        )
    return values_of(each, cql.PATCH_COLUMNS)


def _wrong(each: Patches) -> bool:
    size = each.side * each.side * each.dim
    return (
        min(each.side, each.dim) < 1
        or len(each.codes) != size
        or not 0.0 <= each.scale < math.inf
        or codec.crc32c(each.codes) != each.crc32c
    )


def _by_dim(features: list[Feature]) -> dict[int, list[Feature]]:
    groups: dict[int, list[Feature]] = defaultdict(list)
    for feature in features:
        groups[feature.dim].append(feature)
    return groups


def _inventory(value: int) -> int:
    if value < 0:
        raise InputError(f"an inventory must be at least 0, got {value}")
    return value
