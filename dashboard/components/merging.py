"""The bar that merges chosen clusters: what they would be together, under which name."""

from __future__ import annotations

from typing import Any

from dash import dcc, html

from dashboard import ids
from dashboard.acts import MergeView
from dashboard.components.widgets import aria, plural
from dashboard.ledger import NAME_LIMIT


def hint(chosen: int) -> Any:
    """Build what the bar says before there are two."""
    if not chosen:
        return None
    return html.Div(html.P("Select another cluster to merge them."), className="card merge-bar")


def seen(found: MergeView) -> dict[str, Any]:
    """Return what the reader saw: keys and the versions that a merge expects."""
    return {
        "keys": [str(key) for key in found.keys],
        "versions": {str(key): version for key, version in found.versions.items()},
        "name": found.name,
        "name_version": found.name_version,
        "state": found.state,
    }


def bar(found: MergeView) -> html.Div:
    """Build the preview with the name and the buttons."""
    return html.Div(
        [
            html.P(
                [
                    html.Strong(plural(len(found.keys), "cluster")),
                    f" would be one of {plural(found.images, 'image')},",
                    f" {plural(found.listings, 'listing')}",
                ]
            ),
            html.Div(
                [
                    dcc.Input(
                        id=ids.merge_part("name"),
                        value=found.name,
                        type="text",
                        maxLength=NAME_LIMIT,
                        autoComplete="off",
                        className="field",
                    ),
                    html.Button(
                        "Merge",
                        id=ids.merge_part("do"),
                        className="button button--primary",
                        type="button",
                    ),
                    html.Button(
                        "Cancel",
                        id=ids.merge_part("drop"),
                        className="button button--quiet",
                        type="button",
                    ),
                ],
                className="decide__row",
            ),
        ],
        className="card merge-bar",
        role="group",
        **aria(label="Merge clusters"),
    )
