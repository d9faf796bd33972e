"""The Dash app on its FastAPI backend: pages, callbacks, REST, assets, in one ASGI server.

`create(settings)` builds it. Pages come from `dashboard.components.shell.layout(services)`; every
module of `dashboard.callbacks` that has `register(app, services)` is registered.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import pkgutil
from typing import TYPE_CHECKING, Any

import dash
from dash.backends._fastapi import FastAPIDashServer, reset_current_request, set_current_request
from fastapi import FastAPI, Request, Response

import dashboard.callbacks
from cql.settings import ROOT, Settings
from dashboard import api
from dashboard.guard import Compression, Guard, policy

if TYPE_CHECKING:
    from dashboard.services import Services

ASSETS = ROOT / "assets"
"""Style sheets, scripts and the map bundle; absolute, so that any working directory will do."""

TITLE = "Sightline"

INDEX = """<!DOCTYPE html>
<html lang="en" data-theme="light">
    <head>
        {%metas%}
        <meta name="theme-color" media="(prefers-color-scheme: light)" content="#f7f8fa">
        <meta name="theme-color" media="(prefers-color-scheme: dark)" content="#0f1318">
        <meta name="color-scheme" content="light dark">
        <title>{%title%}</title>
        <script src="/assets/theme.js"></script>
        {%favicon%}
        {%css%}
    </head>
    <body>
        <noscript>Sightline needs JavaScript: allow it for this address.</noscript>
        {%app_entry%}
        {%config%}
        {%scripts%}
        {%renderer%}
    </body>
</html>"""


class Server(FastAPIDashServer):
    """Dash's FastAPI backend, whose catch-all belongs to one app.

    Dash adds its catch-all at server start for the app created last in the process; here each
    app adds its own, after the API's routes.
    """

    @staticmethod
    def create_app(_name: str = "__main__", config: dict[str, Any] | None = None) -> FastAPI:
        """The FastAPI server, without FastAPI's own docs pages: those load from another host."""
        server = FastAPI(title=TITLE, docs_url=None, redoc_url=None, openapi_url=None)
        for key, value in (config or {}).items():
            setattr(server.state, key, value)
        return server

    def _setup_catchall(self) -> None:
        """Nothing at server start: `_catchall` did it."""


def create(settings: Settings, services: Services | None = None) -> dash.Dash:
    """Build the app; `app.server` is the ASGI application.

    With `services` None it connects to Cassandra by `settings` (UnavailableError when nothing
    answers).
    """
    if services is None:
        from dashboard.services import Services as Real

        services = Real.open(settings)
    app = dash.Dash(
        "dashboard",
        backend=Server,
        assets_folder=str(ASSETS),
        title=TITLE,
        update_title="",
        index_string=INDEX,
        meta_tags=[{"name": "viewport", "content": "width=device-width, initial-scale=1"}],
        serve_locally=True,
        suppress_callback_exceptions=True,
        add_log_handler=False,
        compress=False,
    )
    api.mount(app.server, services)
    _register(app, services)
    shell = importlib.import_module("dashboard.components.shell")
    app.layout = functools.partial(shell.layout, services)
    # Dash does this at the first request for "/", so a first request for a deep link would get a
    # page without style sheets.
    app._setup_server()  # type: ignore[no-untyped-call]  # noqa: SLF001
    _catchall(app)
    app.server.add_middleware(Compression)
    app.server.add_middleware(
        Guard,
        settings=settings,
        content_policy=functools.cache(lambda: policy(list(app.csp_hashes()))),
    )
    return app


def _catchall(app: dash.Dash) -> None:
    """Answer every other GET with this app's index page; the page's router reads the path."""

    async def index(request: Request) -> Response:
        token = set_current_request(request)  # type: ignore[no-untyped-call]
        try:
            return Response(content=app.index(), media_type="text/html")  # type: ignore[no-untyped-call]
        finally:
            reset_current_request(token)  # type: ignore[no-untyped-call]

    app.server.add_api_route("/{path:path}", index, methods=["GET"], include_in_schema=False)


def _register(app: dash.Dash, services: Services) -> None:
    for info in sorted(pkgutil.iter_modules(dashboard.callbacks.__path__), key=lambda m: m.name):
        module = importlib.import_module(f"dashboard.callbacks.{info.name}")
        register = getattr(module, "register", None)
        if inspect.isfunction(register):
            register(app, services)
