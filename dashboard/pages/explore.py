"""Explore: the map, facets to its left, details or gallery to its right."""

from __future__ import annotations

from typing import Any

from dash import dcc, html

from dashboard import ids
from dashboard.components import facets, states
from dashboard.components.map import Map, Upload
from dashboard.components.widgets import API, aria, around, icon, plural
from dashboard.state import ExploreState
from dashboard.views import CollectionView, ColumnView, MapView

TICK_MS = 4_000
"""How often the page looks whether the first map is there."""

LOOK_MS = 10_000
"""How often it looks whether images were placed on the map, or its columns decided anew."""

GROUPS = (
    ("cluster", "group", "label", "predicted", "confidence", "outlier_score"),
    ("membership", "knn_distance"),
)


def layout(_search: str | None = None) -> html.Div:
    """Build the page before any data came; `callbacks.explore` fills it from the address."""
    return html.Div(
        [
            dcc.Interval(id=ids.EXPLORE_TICK, interval=TICK_MS),
            html.Div(_skeleton(), id=ids.EXPLORE_ROOT, className="explore-root"),
        ],
        className="explore-page",
    )


def waiting(collection: CollectionView) -> html.Div:
    """Build what the page says while there is no map."""
    jobs = dcc.Link("See the jobs", href=ids.PATH_JOBS, className="button button--primary")
    if collection.state == "empty":
        return states.empty(
            "No photos yet",
            "Ingest a folder with `sightline ingest DIR`, or start `make demo PHOTOS=DIR`. "
            "The map appears here as soon as it is computed.",
            picture="empty",
            action=jobs,
        )
    return states.empty(
        "The map is being computed",
        f"{collection.files_ready:,} photos are in. Features, clusters and outliers come next; "
        "this page shows the map as soon as it is there.",
        picture="map",
        action=jobs,
    )


def body(
    state: ExploreState, version: MapView, columns: tuple[ColumnView, ...], edition: str = ""
) -> html.Div:
    """Build the page for one map version and one edition of its columns."""
    colour = coloured(state.colour, columns)
    return html.Div(
        [
            dcc.Store(id=ids.EXPLORE_STATE, data=state.write()),
            dcc.Store(id=ids.EXPLORE_FOCUS),
            dcc.Store(id=ids.EXPLORE_ASK),
            dcc.Store(id=ids.EXPLORE_NARROW),
            dcc.Store(id=ids.EXPLORE_ADDRESS),
            dcc.Interval(id=ids.EXPLORE_LOOK, interval=LOOK_MS),
            html.Aside(
                [
                    html.Div(html.H2("Filters", className="panel__title"), className="panel__head"),
                    html.Div(states.rows_skeleton(3), id=ids.EXPLORE_FACETS, className="facets"),
                ],
                className="explore__facets",
                **aria(label="Filters"),
            ),
            html.Section(
                [
                    _toolbar(colour, columns, version),
                    html.Div(facets.chips(state, columns), id=ids.EXPLORE_CHIPS, className="chips"),
                    html.Div(_map(state, version, colour, edition), className="explore__canvas"),
                ],
                className="explore__map",
                **aria(label="Map"),
            ),
            html.Div(_tabs(), className="explore__tabs"),
            html.Aside(
                [
                    html.Div(id=ids.EXPLORE_DETAIL),
                    html.Div(id=ids.EXPLORE_HITS),
                    html.Div(_tiles(), id=ids.EXPLORE_GALLERY),
                ],
                className="explore__panel",
                **aria(label="Pictures", live="polite"),
            ),
        ],
        className="explore",
    )


def coloured(wished: str, columns: tuple[ColumnView, ...]) -> str:
    """The column to colour by: the wished one, clusters where it is not there."""
    return wished if any(column.name == wished for column in columns) else "cluster"


def options(columns: tuple[ColumnView, ...]) -> list[dict[str, Any]]:
    """Return the choices of "Colour by": clusters, decisions, attributes, the other scores."""
    first, last = GROUPS
    by_name = {column.name: column for column in columns}
    middle = [c.name for c in columns if c.name not in (*first, *last)]
    names = [name for name in (*first, *middle, *last) if name in by_name]
    return [{"label": by_name[name].label, "value": name} for name in names]


def placed(version: MapView) -> str:
    """What the page says of images that were placed on the map; nothing where none were.

    Around its landmarks when it was made, or since they came.
    """
    said = []
    if laid := around(version.quality):
        said.append(laid)
    if version.placed:
        said.append(f"{plural(version.placed, 'image')} newer than the map")
    return ", ".join(said)


def _toolbar(colour: str, columns: tuple[ColumnView, ...], version: MapView) -> html.Div:
    return html.Div(
        [
            html.Button(
                [icon("filter"), html.Span("Filters")],
                id=ids.EXPLORE_FILTERS,
                className="button explore__toggle",
                type="button",
                title="Show or hide the filters",
                **{"data-toggle": "facets", **aria(expanded="true")},
            ),
            html.Label(
                [
                    html.Span("Colour by", className="explore__label"),
                    dcc.Dropdown(
                        id=ids.EXPLORE_COLOUR,
                        options=options(columns),
                        value=colour,
                        clearable=False,
                        searchable=len(columns) > 8,
                        className="explore__colour",
                    ),
                ],
                className="explore__field",
            ),
            html.Div(
                placed(version),
                id=ids.EXPLORE_PLACED,
                className="explore__gap explore__placed",
                role="status",
                title="Placed on the map since it was made",
            ),
            Upload(id=ids.EXPLORE_UPLOAD, api=API),
        ],
        className="explore__toolbar",
    )


def _tabs() -> list[html.Button]:
    tabs = (("panel", "Pictures"), ("facets", "Filters"))
    return [
        html.Button(
            label,
            className="segments__item segments__item--here" if tab == "panel" else "segments__item",
            type="button",
            **{"data-tab": tab, **aria(pressed="true" if tab == "panel" else "false")},
        )
        for tab, label in tabs
    ]


def _map(state: ExploreState, version: MapView, colour: str, edition: str) -> Map:
    camera = state.camera
    return Map(
        id=ids.EXPLORE_MAP,
        api=API,
        mapId=str(version.map_id),
        placed=version.placed,
        edition=edition,
        colour=colour,
        filters=state.selection(),
        camera={"x": camera.x, "y": camera.y, "zoom": camera.zoom} if camera else None,
    )


def _tiles() -> html.Div:
    return states.tiles_skeleton(12, "tiles tiles--small")


def _skeleton() -> html.Div:
    return html.Div(
        [
            html.Div(states.rows_skeleton(4), className="explore__facets"),
            html.Div(html.Div(className="bone explore__bone"), className="explore__map"),
            html.Div(states.tiles_skeleton(12, "tiles tiles--small"), className="explore__panel"),
        ],
        className="explore",
        **aria(hidden="true"),
    )
