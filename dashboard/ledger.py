"""Names of clusters, verdicts and labels, as the ledger has them; stepping back one act."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from analytics.decisions.decided import LABEL, PREFIXES, RENAME, UNDO, VERDICT, kind_of, subject_of
from analytics.decisions.standing import Standing
from cql.errors import InputError, NotFoundError
from cql.records import Decision, Outlier
from cql.store import Store
from dashboard.acts import ImageLabelView
from dashboard.views import DecisionView, VerdictView

VERDICTS = ("outlier", "fine")
SHOWN = ("all", "undecided", *VERDICTS)
SORTS = ("all", "photo", "category", "rare")
NAME_LIMIT = 120


def cluster_subject(key: UUID) -> str:
    """The ledger's subject of a cluster: its key survives from map to map."""
    return subject_of(RENAME, key)


def image_subject(image_id: UUID) -> str:
    """The ledger's subject of an image."""
    return subject_of(VERDICT, image_id)


def label_subject(image_id: UUID) -> str:
    """The ledger's subject of an image's label."""
    return subject_of(LABEL, image_id)


def one_line(text: str) -> str:
    """The text on one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def clean_name(name: str) -> str:
    """A name as it is stored: one line, no control characters, 1 to 120 characters."""
    text = one_line(name)
    if not text:
        raise InputError(f"a cluster's name must have a visible character, got {name!r}: type one")
    if len(text) > NAME_LIMIT:
        raise InputError(
            f"a cluster's name may have {NAME_LIMIT} characters, got {len(text)}: shorten it"
        )
    return text


def check_verdict(verdict: str) -> None:
    """InputError for what is no verdict on an outlier."""
    if verdict not in VERDICTS:
        raise InputError(f"a verdict must be one of {VERDICTS}, got {verdict[:80]!r}")


def names(store: Store, keys: Iterable[UUID]) -> dict[UUID, tuple[str, int]]:
    """Renames in force: cluster key -> (name, version). An undone rename has an empty name."""
    by_subject = {cluster_subject(key): key for key in keys}
    if not by_subject:
        return {}
    found: Mapping[str, Decision] = store.decisions_of(list(by_subject))
    return {by_subject[s]: (decision.value, decision.version) for s, decision in found.items()}


def verdicts(store: Store, images: Iterable[UUID]) -> dict[UUID, VerdictView]:
    """The verdict in force of each image; images that nobody judged have version 0."""
    by_subject = {image_subject(image): image for image in images}
    found: Mapping[str, Decision] = store.decisions_of(list(by_subject)) if by_subject else {}
    return {image: verdict_view(image, found.get(subject)) for subject, image in by_subject.items()}


def verdict_view(image_id: UUID, decision: Decision | None) -> VerdictView:
    """A ledger row as the verdict that it sets."""
    if decision is None:
        return VerdictView(image_id=image_id)
    return VerdictView(
        image_id=image_id,
        verdict=decision.value,
        version=decision.version,
        author=decision.author,
        reason=decision.reason,
        at=decision.at,
    )


def labels_of(store: Store, images: Iterable[UUID]) -> dict[UUID, ImageLabelView]:
    """The label in force of each image; images that nobody labelled have version 0."""
    by_subject = {label_subject(image): image for image in images}
    found: Mapping[str, Decision] = store.decisions_of(list(by_subject)) if by_subject else {}
    return {image: label_view(image, found.get(subject)) for subject, image in by_subject.items()}


def label_view(image_id: UUID, decision: Decision | None) -> ImageLabelView:
    """A ledger row as the label that it gives."""
    if decision is None:
        return ImageLabelView(image_id=image_id)
    return ImageLabelView(
        image_id=image_id,
        label=decision.value,
        version=decision.version,
        author=decision.author,
        reason=decision.reason,
        at=decision.at,
    )


def undone_value(history: list[Decision]) -> str:
    """The value before the newest act that is not itself undone; history is newest first.

    Each undo steps one act further back, as an editor's undo does.
    """
    stack: list[str] = []
    for decision in reversed(history):
        if decision.kind == UNDO:
            if stack:
                stack.pop()
        else:
            stack.append(decision.value)
    if not stack:
        raise InputError("there must be a decision to undo, this subject has none left")
    stack.pop()
    return stack[-1] if stack else ""


def undo(store: Store, subject: str, *, author: str, expected_version: int) -> DecisionView:
    """Bring the previous value back by a new act. ConflictError when the subject moved on."""
    if not kind_of(subject):
        known = ", ".join(f"{prefix}<id>" for prefix in PREFIXES.values())
        raise InputError(f"a subject must be one of {known}, got {subject[:80]!r}")
    history = list(store.decisions(subject))
    if not history:
        raise NotFoundError(f"nobody decided anything about {subject[:80]}: nothing to undo")
    decision = store.append_decision(
        subject, UNDO, undone_value(history), author=author, expected_version=expected_version
    )
    return decision_view(decision)


def decision_view(decision: Decision) -> DecisionView:
    """A ledger row to show."""
    return DecisionView(
        subject=decision.subject,
        version=decision.version,
        kind=decision.kind,
        value=decision.value,
        author=decision.author,
        reason=decision.reason,
        at=decision.at,
    )


@dataclass(frozen=True, slots=True)
class Page:
    """Rows of a ranking: rank from 1, outlier, verdict. `judged` counts the whole ranking."""

    rows: tuple[tuple[int, Outlier, VerdictView], ...]
    next_offset: int | None
    judged: int


def page(
    store: Store,
    ranking: Sequence[Outlier],
    values: Mapping[UUID, str],
    *,
    verdict: str,
    offset: int,
    limit: int,
    sort: str = "all",
) -> Page:
    """The page at `offset` of those ranked outliers whose verdict, of `values`, and sort pass."""
    if verdict not in SHOWN:
        raise InputError(f"verdict must be one of {SHOWN}, got {verdict!r}")
    if offset < 0:
        raise InputError(f"offset must be at least 0, got {offset}")
    if sort not in SORTS:
        raise InputError(f"sort must be one of {SORTS}, got {sort!r}")
    kept = [
        (rank, outlier)
        for rank, outlier in enumerate(ranking, 1)
        if (verdict == "all" or values.get(outlier.image_id, "undecided") == verdict)
        and sort in {"all", outlier.kind}
    ]
    chosen = kept[offset : offset + limit]
    found = verdicts(store, [outlier.image_id for _, outlier in chosen])
    end = offset + len(chosen)
    return Page(
        tuple((rank, outlier, found[outlier.image_id]) for rank, outlier in chosen),
        end if end < len(kept) else None,
        sum(outlier.image_id in values for outlier in ranking),
    )


def judged(standing: Standing) -> dict[UUID, str]:
    """Images that have a verdict in force."""
    prefix = PREFIXES[VERDICT]
    return {
        UUID(subject.removeprefix(prefix)): decision.value
        for subject, decision in standing.read().of(VERDICT).items()
    }
