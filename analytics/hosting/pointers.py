"""Which snapshot of which model is live: pointers in the table `live`.

Every model has a live snapshot of its own, `snapshot:<model id>`, and while hosts load the next one
`hosting:<model id>`. `snapshot` names the default one: of the model that pages and the map are
about. A collection of an older Sightline has the default one alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from cql.errors import ConflictError, InputError, NotFoundError
from cql.records import Model, Snapshot
from cql.store import Store

LIVE = "snapshot"
TARGET = "hosting"


def live_of(model_id: str) -> str:
    """Name of the pointer to a model's live snapshot."""
    return f"{LIVE}:{model_id}"


def target_of(model_id: str) -> str:
    """Name of the pointer to the snapshot of a model that hosts should hold next."""
    return f"{TARGET}:{model_id}"


def wanted(versions: Mapping[str, UUID]) -> list[UUID]:
    """Snapshots that hosts must hold, of all live versions by name: the default one first."""
    named = {
        version: name
        for name, version in sorted(versions.items(), reverse=True)
        if name == LIVE or name.startswith((live_of(""), target_of("")))
    }
    return sorted(named, key=lambda version: (named[version] != LIVE, named[version]))


def live_snapshots(store: Store) -> dict[str, Snapshot]:
    """The live snapshot of every model that has one, by model id; that of the default one first."""
    versions = store.live_versions()
    found: dict[str, Snapshot] = {}
    names = [name for name in versions if name.startswith(live_of(""))]
    for name in (LIVE, *sorted(names)):
        try:
            snapshot = store.snapshot(versions[name]) if name in versions else None
        except NotFoundError:
            continue  # between two snapshots a pointer may name one that was pruned a moment ago
        if snapshot is not None:
            newer = found.get(snapshot.model_id)
            if newer is None or newer.created_at < snapshot.created_at:
                found[snapshot.model_id] = snapshot
    return found


def searchable(store: Store) -> list[Model]:
    """Models that have a live snapshot: that of the default one first, then by name."""
    models = [store.model(model_id) for model_id in live_snapshots(store)]
    return models[:1] + sorted(models[1:], key=lambda model: (model.name, model.model_id))


def version_of(store: Store, text: str) -> UUID:
    """The live snapshot of the model that `text` names: by its id, or a name that only one has.

    InputError for a name of several, NotFoundError where none has a snapshot.
    """
    version = store.live(live_of(text))
    if version is not None:
        return version
    live = live_snapshots(store)
    if text in live:
        return live[text].snapshot_id
    known = [store.model(model_id) for model_id in live]
    found = [model.model_id for model in known if model.name == text]
    if len(found) == 1:
        return live[found[0]].snapshot_id
    if found:
        raise InputError(
            f"a model's name must be that of one, {text!r} is that of {len(found)}: give an id, "
            f"{' or '.join(found)}"
        )
    names = ", ".join(f"{model.name} ({model.model_id})" for model in known) or "none"
    raise NotFoundError(
        f"model {text!r} has no snapshot, those that have one are: {names}: run "
        f"`sightline extract --model {text}`"
    )


def point(store: Store, name: str, version: UUID) -> None:
    """Move a pointer, whatever it names now."""
    for _ in range(5):
        seen = store.live(name)
        if seen == version:
            return
        try:
            store.set_live(name, version, expected=seen)
        except ConflictError:
            continue
        return
    raise ConflictError(f"the pointer {name} must move to {version}: others keep moving it")


def go_live(store: Store, snapshot: Snapshot) -> None:
    """Let searches with the snapshot's model ask it from now on.

    It becomes the default one where there is none yet, or where that is of the same model: of the
    same id, or of the same name, whose weights are then new. What was live of the old weights is
    let go.
    """
    point(store, live_of(snapshot.model_id), snapshot.snapshot_id)
    name = store.model(snapshot.model_id).name
    default = store.live(LIVE)
    if default is None or _name_of(store, default) in {None, name}:
        point(store, LIVE, snapshot.snapshot_id)
    for model_id in live_snapshots(store):
        if model_id != snapshot.model_id and store.model(model_id).name == name:
            _forget(store, model_id)


def make_default(store: Store, model_id: str) -> None:
    """Let pages and searches that name no model ask the live snapshot of this one."""
    version = store.live(live_of(model_id))
    if version is not None:
        point(store, LIVE, version)


def _name_of(store: Store, version: UUID) -> str | None:
    """Name of the model of a snapshot; None where its rows are gone."""
    try:
        return store.model(store.snapshot(version).model_id).name
    except NotFoundError:
        return None


def _forget(store: Store, model_id: str) -> None:
    for name in (live_of(model_id), target_of(model_id)):
        version = store.live(name)
        if version is not None:
            store.drop_live(name, expected=version)
