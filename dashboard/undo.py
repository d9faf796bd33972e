"""The undo stack of one browser tab: decided subjects, oldest first, and their versions.

It is plain JSON, because it lives in a `dcc.Store`. It holds ids and versions only; what a decision
changed is in the ledger.
"""

from __future__ import annotations

from typing import Any, Final

DEPTH: Final = 100
"""Decisions that can be taken back in one tab."""

Stack = dict[str, Any]
"""`{"acts": [[subject, label], ...], "versions": {subject: version}}`."""


def push(stack: Stack | None, subject: str, version: int, label: str) -> Stack:
    """Add a decision that made `version` of `subject`; `label` says what was done."""
    acts = [*_acts(stack), [subject, label]][-DEPTH:]
    kept = {item[0] for item in acts}
    versions = {k: v for k, v in {**_versions(stack), subject: version}.items() if k in kept}
    return {"acts": acts, "versions": versions}


def top(stack: Stack | None) -> tuple[str, int, str] | None:
    """Return subject, version to expect and label of the decision to take back; None when empty."""
    acts = _acts(stack)
    if not acts:
        return None
    subject, label = acts[-1]
    return subject, _versions(stack)[subject], label


def pop(stack: Stack | None, version: int | None) -> Stack:
    """Remove the newest decision; `version` is its subject's now (None: forget the subject)."""
    acts = _acts(stack)
    if not acts:
        return {"acts": [], "versions": {}}
    subject = acts[-1][0]
    rest = [act for act in acts[:-1] if version is not None or act[0] != subject]
    versions = {k: v for k, v in _versions(stack).items() if k in {act[0] for act in rest}}
    if version is not None and subject in versions:
        versions[subject] = version
    return {"acts": rest, "versions": versions}


def _acts(stack: Stack | None) -> list[list[str]]:
    return list((stack or {}).get("acts", []))


def _versions(stack: Stack | None) -> dict[str, int]:
    return dict((stack or {}).get("versions", {}))
