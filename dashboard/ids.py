"""Component ids and page paths: one constant each, so that layouts and callbacks agree."""

from __future__ import annotations

from typing import Final

# Paths of the pages.
PATH_EXPLORE: Final = "/"
PATH_SEARCH: Final = "/search"
PATH_CLUSTERS: Final = "/clusters"
PATH_OUTLIERS: Final = "/outliers"
PATH_CHANGES: Final = "/changes"
PATH_DUPLICATES: Final = "/duplicates"
PATH_JOBS: Final = "/jobs"
PATH_DECISIONS: Final = "/decisions"
PATH_DECIDE: Final = "/decide"
PATH_SPREAD: Final = "/spread"
PATH_LABELS: Final = "/labels"
PATH_TEACH: Final = "/teach"

# The frame around every page.
URL: Final = "url"
NAV: Final = "nav"
NAV_MENU: Final = "nav-menu"
PAGE: Final = "page"
TOASTS: Final = "toasts"
THEME: Final = "theme"
THEME_TOGGLE: Final = "theme-toggle"
KEYS_OPEN: Final = "keys-open"
KEYS_DIALOG: Final = "keys-dialog"
UNDO: Final = "undo-stack"
REFRESH: Final = "refresh"
"""Store that changes when a page should ask again: after an undo, or by "Try again"."""
TITLE: Final = "title"
UNDO_KEY: Final = "undo-key"
JOB_BADGE: Final = "job-badge"
JOB_BADGE_TICK: Final = "job-badge-tick"

# Explore.
EXPLORE_ROOT: Final = "explore"
EXPLORE_MAP: Final = "explore-map"
EXPLORE_STATE: Final = "explore-state"
EXPLORE_COLOUR: Final = "explore-colour"
EXPLORE_TOOL: Final = "explore-tool"
EXPLORE_FACETS: Final = "explore-facets"
EXPLORE_FACET: Final = "explore-facet"
EXPLORE_LEGEND: Final = "explore-legend"
EXPLORE_LEGEND_ITEM: Final = "explore-legend-item"
EXPLORE_GALLERY: Final = "explore-gallery"
EXPLORE_GALLERY_PAGE: Final = "explore-gallery-page"
EXPLORE_DETAIL: Final = "explore-detail"
EXPLORE_HITS: Final = "explore-hits"
EXPLORE_HIT: Final = "explore-hit"
EXPLORE_UPLOAD: Final = "explore-upload"
EXPLORE_COUNT: Final = "explore-count"
EXPLORE_CLEAR: Final = "explore-clear"
EXPLORE_TICK: Final = "explore-tick"
EXPLORE_LOOK: Final = "explore-look"
EXPLORE_PLACED: Final = "explore-placed"
EXPLORE_FOCUS: Final = "explore-focus"
EXPLORE_NARROW: Final = "explore-narrow"
EXPLORE_ADDRESS: Final = "explore-address"
EXPLORE_CHIPS: Final = "explore-chips"
EXPLORE_CHIP: Final = "explore-chip"
EXPLORE_RANGE: Final = "explore-range"
EXPLORE_BACK: Final = "explore-back"
EXPLORE_FILTERS: Final = "explore-filters"
EXPLORE_OFFSET: Final = "explore-offset"
EXPLORE_ASK: Final = "explore-ask"
"""Store of what the panel's search is about: ids and parameters."""
EXPLORE_OPTION: Final = "explore-option"
EXPLORE_STOCK: Final = "explore-stock"
EXPLORE_MARK: Final = "explore-mark"
EXPLORE_EXAMPLE: Final = "explore-example"

# Clusters.
CLUSTERS_LIST: Final = "clusters-list"
CLUSTERS_SUMMARY: Final = "clusters-summary"
CLUSTERS_CHART: Final = "clusters-chart"
CLUSTERS_CONTROLS: Final = "clusters-controls"
CLUSTERS_FILTER: Final = "clusters-filter"
CLUSTER_DETAIL: Final = "cluster-detail"
CLUSTERS_SHOWN: Final = "clusters-shown"
"""Store of order and filter of the cards, so that another size alone draws none of them anew."""
CLUSTERS_SIZE: Final = "clusters-size"
CLUSTERS_SIZE_SLIDER: Final = "clusters-size-slider"
CLUSTERS_SIZE_CHART: Final = "clusters-size-chart"
CLUSTERS_SIZE_PREVIEW: Final = "clusters-size-preview"
CLUSTERS_SIZE_USE: Final = "clusters-size-use"
CLUSTERS_MORE: Final = "clusters-more"
CLUSTER_KEY: Final = "cluster-key"
CLUSTER_PHOTOS: Final = "cluster-photos"

# Outliers.
OUTLIERS_LIST: Final = "outliers-list"
OUTLIERS_SUMMARY: Final = "outliers-summary"
OUTLIERS_COUNTS: Final = "outliers-counts"
OUTLIERS_CONTROLS: Final = "outliers-controls"
OUTLIERS_CHART: Final = "outliers-chart"

# Near-duplicates.
DUPLICATES_LIST: Final = "duplicates-list"
DUPLICATES_SUMMARY: Final = "duplicates-summary"
DUPLICATES_COUNTS: Final = "duplicates-counts"
DUPLICATES_CONTROLS: Final = "duplicates-controls"
DUPLICATES_CHART: Final = "duplicates-chart"
DUPLICATES_QUALITY: Final = "duplicates-quality"
DUPLICATES_BASIS: Final = "duplicates-basis"
DUPLICATE_VERDICT: Final = "duplicate-verdict"
DUPLICATE_VERSION: Final = "duplicate-version"

# Jobs.
CHANGES_LIST: Final = "changes-list"
CHANGES_SUMMARY: Final = "changes-summary"
CHANGES_CONTROLS: Final = "changes-controls"
CHANGES_CHART: Final = "changes-chart"

JOBS_LIST: Final = "jobs-list"
JOBS_SUMMARY: Final = "jobs-summary"
JOBS_TICK: Final = "jobs-tick"

# Decisions.
CLUSTERS_MERGE: Final = "clusters-merge"
CLUSTERS_MERGE_ASK: Final = "clusters-merge-ask"
DECISIONS_LIST: Final = "decisions-list"
DECISIONS_CONTROLS: Final = "decisions-controls"
DECISIONS_SIDE: Final = "decisions-side"
DECIDE_BODY: Final = "decide-body"
DECIDE_PICKS: Final = "decide-picks"
DECIDE_FACTS: Final = "decide-facts"
DECIDE_LABEL: Final = "decide-label"
DECIDE_LABEL_DO: Final = "decide-label-do"
DECIDE_SPLIT: Final = "decide-split"
DECIDE_SPLIT_DO: Final = "decide-split-do"
DECIDE_SPLIT_TEXT: Final = "decide-split-text"
DECIDE_SEEN: Final = "decide-seen"
SPREAD_BODY: Final = "spread-body"
SPREAD_PICKS: Final = "spread-picks"
SPREAD_FACTS: Final = "spread-facts"
SPREAD_DO: Final = "spread-do"
SPREAD_SEEN: Final = "spread-seen"

# Search.
SEARCH_RESULT: Final = "search-result"
SEARCH_SUMMARY: Final = "search-summary"


def explore_hit(image_id: str, place: str) -> dict[str, str]:
    """Return the tile that opens one image; `place` tells tiles of the same image apart."""
    return {"type": EXPLORE_HIT, "image": image_id, "place": place}


def explore_facet(column: str, value: str) -> dict[str, str]:
    """Return the button that lets one value of a column pass, or not."""
    return {"type": EXPLORE_FACET, "column": column, "value": value}


def explore_range(column: str, side: str) -> dict[str, str]:
    """Return the field with one bound (`low` or `high`) of a number column."""
    return {"type": EXPLORE_RANGE, "column": column, "side": side}


def explore_chip(kind: str, name: str) -> dict[str, str]:
    """Return the button that removes a `filter` (of the column `name`) or the polygons."""
    return {"type": EXPLORE_CHIP, "kind": kind, "name": name}


def explore_option(name: str, now: str) -> dict[str, str]:
    """Return the choice of one option of the search, which is `now` at present."""
    return {"type": EXPLORE_OPTION, "name": name, "now": now}


def explore_mark(image_id: str, sign: str) -> dict[str, str]:
    """Return the button that makes a hit an example: `plus` or `minus`."""
    return {"type": EXPLORE_MARK, "image": image_id, "sign": sign}


def explore_example(image_id: str) -> dict[str, str]:
    """Return the button that takes an example away."""
    return {"type": EXPLORE_EXAMPLE, "image": image_id}


def query_name(query_id: str) -> dict[str, str]:
    """Return the name field of one query."""
    return {"type": "query-name", "query": query_id}


def query_message(query_id: str) -> dict[str, str]:
    """Return the line under a query's name that says what is wrong with a new one."""
    return {"type": "query-message", "query": query_id}


def query_known(query_id: str) -> dict[str, str]:
    """Return the store with the name that a query has."""
    return {"type": "query-known", "query": query_id}


def query_run(query_id: str) -> dict[str, str]:
    """Return the button that asks a query again."""
    return {"type": "query-run", "query": query_id}


# Labels and teaching.
LABELS_SUMMARY: Final = "labels-summary"
LABELS_CONTROLS: Final = "labels-controls"
LABELS_LIST: Final = "labels-list"
LABELS_SIDE: Final = "labels-side"
LABELS_CHART: Final = "labels-chart"
LABELS_BINS: Final = "labels-bins"
LABELS_TRAIN: Final = "labels-train"
LABELS_NAMES: Final = "labels-names"
TEACH_SUMMARY: Final = "teach-summary"
TEACH_MARKS: Final = "teach-marks"
TEACH_BODY: Final = "teach-body"
TEACH_SIDE: Final = "teach-side"
TEACH_NAME: Final = "teach-name"
TEACH_SAVE: Final = "teach-save"


def cluster_name(key: str) -> dict[str, str]:
    """Return the name field of one cluster; `key` is its cluster key."""
    return {"type": "cluster-name", "key": key}


def cluster_message(key: str) -> dict[str, str]:
    """Return the line under a cluster's name that says what happened to a rename."""
    return {"type": "cluster-message", "key": key}


def cluster_version(key: str) -> dict[str, str]:
    """Return the store with the version of the name that the reader saw."""
    return {"type": "cluster-version", "key": key}


def cluster_choice(key: str, choice: str) -> dict[str, str]:
    """Return the button that settles a conflict of names: `mine` or `theirs`."""
    return {"type": "cluster-choice", "key": key, "choice": choice}


def outlier_card(image_id: str) -> dict[str, str]:
    """Return the card of one ranked outlier."""
    return {"type": "outlier-card", "image": image_id}


def verdict(image_id: str, value: str) -> dict[str, str]:
    """Return the button that gives one image a verdict: `outlier` or `fine`."""
    return {"type": "verdict", "image": image_id, "value": value}


def verdict_badge(image_id: str) -> dict[str, str]:
    """Return the badge with an image's verdict."""
    return {"type": "verdict-badge", "image": image_id}


def verdict_version(image_id: str) -> dict[str, str]:
    """Return the store with the version of the verdict that the reader saw."""
    return {"type": "verdict-version", "image": image_id}


def job_again(job_id: str) -> dict[str, str]:
    """Return the button that runs one job again."""
    return {"type": "job-again", "job": job_id}


def duplicate_row(key: str) -> dict[str, str]:
    """Return the row of one group of near-duplicates; `key` is its group key."""
    return {"type": "duplicate-row", "group": key}


def duplicate_verdict(key: str, value: str) -> dict[str, str]:
    """Return the button that decides on one group: `duplicate` or `distinct`."""
    return {"type": DUPLICATE_VERDICT, "group": key, "value": value}


def duplicate_badge(key: str) -> dict[str, str]:
    """Return the badge with a group's decision."""
    return {"type": "duplicate-badge", "group": key}


def duplicate_version(key: str) -> dict[str, str]:
    """Return the store with the version of the decision that the reader saw."""
    return {"type": DUPLICATE_VERSION, "group": key}


def job_cancel(job_id: str) -> dict[str, str]:
    """Return the button that cancels one job."""
    return {"type": "job-cancel", "job": job_id}


def cluster_pick(key: str) -> dict[str, str]:
    """Return the box that chooses one cluster, to merge it."""
    return {"type": "cluster-pick", "key": key}


def merge_part(part: str) -> dict[str, str]:
    """Return a part of the bar that merges clusters: `name`, `do` or `drop`."""
    return {"type": "clusters-merge-part", "part": part}


def decision_undo(subject: str, version: str) -> dict[str, str]:
    """Return the button that takes an act back."""
    return {"type": "decision-undo", "subject": subject, "version": version}


def review_card(image_id: str) -> dict[str, str]:
    """Return the card of one image whose class is to be confirmed."""
    return {"type": "review-card", "image": image_id}


def review(image_id: str, act: str) -> dict[str, str]:
    """Return the button that takes the predicted class (`accept`) or goes on (`skip`)."""
    return {"type": "review", "image": image_id, "act": act}


def review_text(image_id: str) -> dict[str, str]:
    """Return the field for another label."""
    return {"type": "review-text", "image": image_id}


def review_known(image_id: str) -> dict[str, str]:
    """Return the store with the label that the reader saw, its version, and the predicted class."""
    return {"type": "review-known", "image": image_id}


def review_badge(image_id: str) -> dict[str, str]:
    """Return the badge with an image's label."""
    return {"type": "review-badge", "image": image_id}


def teach_mark(image_id: str, sign: str, place: str) -> dict[str, str]:
    """Return the button that makes an image an example: `plus`, `minus`, or `none` for neither.

    `place` tells buttons of one image apart.
    """
    return {"type": "teach-mark", "image": image_id, "sign": sign, "place": place}
