"""From an address to a page: its title and its layout before any data came."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from dashboard import ids, state
from dashboard.components import states
from dashboard.pages import (
    changes,
    cluster,
    clusters,
    decide,
    decisions,
    duplicates,
    explore,
    jobs,
    labels,
    outliers,
    spread,
    teach,
)
from dashboard.pages import search as searches

PAGES: Final[dict[str, tuple[str, Callable[[str | None], Any]]]] = {
    ids.PATH_EXPLORE: ("Explore", explore.layout),
    ids.PATH_SEARCH: ("Searches", searches.layout),
    ids.PATH_CLUSTERS: ("Clusters", clusters.layout),
    ids.PATH_OUTLIERS: ("Outliers", outliers.layout),
    ids.PATH_DUPLICATES: ("Duplicates", duplicates.layout),
    ids.PATH_CHANGES: ("Changes", changes.layout),
    ids.PATH_LABELS: ("Labels", labels.layout),
    ids.PATH_TEACH: ("Teach", teach.layout),
    ids.PATH_DECISIONS: ("Decisions", decisions.layout),
    ids.PATH_DECIDE: ("Decide", decide.layout),
    ids.PATH_SPREAD: ("Spread a label", spread.layout),
    ids.PATH_JOBS: ("Jobs", jobs.layout),
}
"""Title and layout of every page by its path; a layout takes the query part of the address."""


def page(pathname: str | None, search: str | None) -> tuple[str, Any]:
    """Return title and layout for an address; an unknown path gets the "does not exist" page."""
    path = (pathname or "").rstrip("/") or "/"
    if path in PAGES:
        title, layout = PAGES[path]
        return title, layout(search)
    key = state.cluster_of(path)
    if key is not None:
        return "Cluster", cluster.layout(key)
    return "Not found", states.not_found()
