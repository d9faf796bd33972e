"""Decisions about clusters and images: merge, split, label, spread a label, undo."""

from __future__ import annotations

from dashboard.grouping import MERGE_MAX, Grouping
from dashboard.labelling import IMAGES_MAX, LABEL_LIMIT, Labelling, clean_label

__all__ = ["IMAGES_MAX", "LABEL_LIMIT", "MERGE_MAX", "Decisions", "clean_label"]


class Decisions(Grouping, Labelling):
    """What analysts decide beside names and verdicts. Thread-safe."""
