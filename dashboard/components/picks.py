"""Pictures to choose from, each a box to check."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from dash import dcc, html

from dashboard.components.widgets import picture


def picks(
    id_: str, pictures: Sequence[tuple[UUID, str, str]], *, chosen: bool, label: str
) -> html.Div:
    """Build boxes of (image, title, note); `chosen`: whether they are checked at first."""
    options: list[Any] = [
        {
            "label": html.Span(
                [
                    picture(image_id, alt=title),
                    html.Span(
                        [html.Span(title), html.Span(note, className="hit-score")],
                        className="tile__label",
                    ),
                ],
                className="tile",
                title=title,
            ),
            "value": str(image_id),
        }
        for image_id, title, note in pictures
    ]
    return html.Div(
        dcc.Checklist(
            id=id_,
            options=options,
            value=[option["value"] for option in options] if chosen else [],
            className="picks",
        ),
        role="group",
        **{"aria-label": label},
    )
