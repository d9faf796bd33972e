"""Asking all shard hosts for linear scores: the question and the replies as messages."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from analytics.learning.linear import Classified, Found, Linear, Ranked, Want, joined, merge
from cql.errors import IntegrityError
from cql.records import Snapshot
from cql.wire import Message

_LISTS = ("unsure", "best")


class Hosts(Protocol):
    """The part of `analytics.search.Searcher` that is needed."""

    def over_all(
        self, method: str, values: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]
    ) -> tuple[Snapshot, list[Message]]:
        """Ask all hosts of the live snapshot."""

    def snapshot(self) -> Snapshot:
        """The live snapshot."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """What all rows have together, of which snapshot, and up to when changes are taken in."""

    found: Found
    snapshot: Snapshot
    followed_at: datetime | None


def rank(hosts: Hosts, model: Linear, want: Want) -> Answer:
    """Score every row of the collection. InputError, UnavailableError."""
    want.check(len(model.units))
    snapshot, replies = hosts.over_all("linear", *question(model, want))
    found = [read(reply) for reply in replies]
    times = [reply.values["followed_at"] for reply in replies]
    known = times and None not in times
    return Answer(
        merge(found, len(model.units), want),
        snapshot,
        datetime.fromtimestamp(min(times), UTC) if known else None,
    )


def classify(hosts: Hosts, model: Linear) -> tuple[Snapshot, Classified]:
    """Class and surety of every row of the collection. UnavailableError."""
    snapshot, replies = hosts.over_all("classified", _weights(model), {"units": model.units})
    return snapshot, joined(
        [
            Classified(reply.arrays["images"], reply.arrays["classes"], reply.arrays["sureties"])
            for reply in replies
        ]
    )


def sample(hosts: Hosts, count: int, *, seed: int) -> tuple[Snapshot, NDArray[np.float32]]:
    """Read vectors of `count` rows drawn without replacement: float32 (n, D) by row number.

    n is less than `count` where the collection is smaller, or listings of it changed since.
    """
    snapshot = hosts.snapshot()
    rng = np.random.default_rng(seed)
    rows = rng.choice(snapshot.rows, min(count, snapshot.rows), replace=False)
    answered, replies = hosts.over_all("sample", {"rows": np.sort(rows).tolist()}, {})
    order = np.argsort(np.concatenate([reply.arrays["rows"] for reply in replies]))
    vectors = np.concatenate([reply.arrays["vectors"] for reply in replies])[order]
    return answered, np.asarray(vectors, np.float32)


def question(model: Linear, want: Want) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Values and arrays of a question to a host's `linear`."""
    ids = b"".join(sorted(want.without))
    values = {
        "k": want.k,
        "of": want.of,
        "without": base64.b64encode(ids).decode(),
        "threshold": want.threshold,
        **_weights(model),
    }
    return values, {"units": model.units}


def _weights(model: Linear) -> dict[str, Any]:
    """What `model_of` reads of a message's values."""
    return {"norms": model.norms.tolist(), "biases": model.biases.tolist()}


def asked(message: Message, dim: int) -> tuple[Linear, Want]:
    """Read a question. IntegrityError for vectors of another width."""
    values, model = message.values, model_of(message, dim)
    ids = base64.b64decode(values["without"])
    want = Want(
        k=int(values["k"]),
        of=values["of"],
        without=frozenset(ids[at : at + 16] for at in range(0, len(ids), 16)),
        threshold=float(values["threshold"]),
    )
    return model, want


def model_of(message: Message, dim: int) -> Linear:
    """The model that a question is about. IntegrityError for vectors of another width."""
    values, units = message.values, message.arrays["units"]
    if units.ndim != 2 or units.shape[1] != dim:
        raise IntegrityError(
            f"weights must have D={dim}, they have {units.shape}: train on the snapshot's model"
        )
    return Linear(units, np.array(values["norms"]), np.array(values["biases"]))


def reply(found: Found, base: int, followed_at: float | None) -> Message:
    """What a host answers. `base`: rows of its shards as the snapshot has them."""
    values: dict[str, Any] = {"base": base, "rows": found.rows, "followed_at": followed_at}
    arrays: dict[str, NDArray[Any]] = {"counts": found.counts}
    for name, ranked in zip(_LISTS, (found.unsure, found.best), strict=True):
        values[name] = ranked.listings
        arrays[f"{name}.sureties"] = ranked.sureties
        arrays[f"{name}.classes"] = ranked.classes
        arrays[f"{name}.images"] = ranked.images
    return Message(values, arrays)


def whole(found: Classified, base: int) -> Message:
    """What a host answers that is asked for every row."""
    arrays: dict[str, NDArray[Any]] = {
        "images": found.images,
        "classes": found.classes,
        "sureties": found.sureties,
    }
    return Message({"base": base}, arrays)


def read(message: Message) -> Found:
    """What a host answered."""
    unsure, best = (_ranked(message, name) for name in _LISTS)
    return Found(int(message.values["rows"]), message.arrays["counts"], unsure, best)


def _ranked(message: Message, name: str) -> Ranked:
    parts: Sequence[NDArray[Any]] = [
        message.arrays[f"{name}.{part}"] for part in ("sureties", "classes", "images")
    ]
    return Ranked(parts[0], parts[1], parts[2], list(message.values[name]))
