"""Dash components of the map bundle (dashboard/map, built into assets/map.js)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from dash.development.base_component import Component

NAMESPACE = "sightline_map"
"""`window.sightline_map` holds the React components."""


class _Bundled(Component):
    """A component whose JavaScript comes from the app's own assets folder."""

    _children_props: list[str] = []  # noqa: RUF012  as Dash declares it
    _base_nodes: list[str] = ["children"]  # noqa: RUF012
    _namespace = NAMESPACE
    _names: ClassVar[tuple[str, ...]] = ()

    def __init__(self, **values: Any) -> None:
        self._prop_names = list(self._names)
        self._valid_wildcard_attributes: list[str] = []
        self.available_properties = list(self._names)
        self.available_wildcard_properties: list[str] = []
        super().__init__(**values)  # type: ignore[no-untyped-call]


class Map(_Bundled):
    """The WebGL2 map of one map version.

    In: `api` (base address), `mapId`, `placed` (images placed since it was made), `edition`
    (`Services.edition`; when either changes, columns and tiles are asked for again), `colour`
    (column), `filters` (the selection as JSON), `selected` (row or None), `highlight` (rows),
    `dimmed`, `tool`, `camera`. Out: `hovered`, `clicked` `{row, image_id, additive, at}`,
    `selection` `{polygon, mode, at}` (mode may be `replace`), `legend` `{column, values or None,
    at}`, `cleared`, `camera`, `tool`.
    """

    _type = "Map"
    _names = (
        "id", "api", "mapId", "placed", "edition", "colour", "theme", "filters", "highlight",
        "selected", "dimmed", "tool", "camera", "hovered", "clicked", "selection", "legend",
        "cleared",
    )  # fmt: skip

    def __init__(
        self,
        *,
        id: str,  # noqa: A002  Dash's name
        api: str,
        mapId: str,  # noqa: N803  a JavaScript property
        placed: int = 0,
        edition: str = "",
        colour: str = "cluster",
        filters: Mapping[str, object] | None = None,
        highlight: Sequence[int] = (),
        selected: int | None = None,
        dimmed: bool = False,
        tool: str = "pan",
        camera: Mapping[str, float] | None = None,
        theme: str = "auto",
    ) -> None:
        super().__init__(
            id=id,
            api=api,
            mapId=mapId,
            placed=placed,
            edition=edition,
            colour=colour,
            filters=filters,
            highlight=list(highlight),
            selected=selected,
            dimmed=dimmed,
            tool=tool,
            camera=camera,
            theme=theme,
        )


class Upload(_Bundled):
    """A button, a paste and a drop target that search by a picture.

    Out: `query` `{query_id, at}` once the API has answered; errors are shown by the component.
    """

    _type = "Upload"
    _names = ("id", "api", "label", "query")

    def __init__(
        self,
        *,
        id: str,  # noqa: A002  Dash's name
        api: str,
        label: str = "Search by picture",
    ) -> None:
        super().__init__(id=id, api=api, label=label)
