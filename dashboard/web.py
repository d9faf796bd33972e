"""A web worker: `python -m dashboard.web --fd N` serves the app on a socket that it was given."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import threading

from cql import garbage
from cql.errors import UnavailableError
from cql.settings import Settings
from cql.wire import follow_parent
from dashboard.connection import await_store
from dashboard.logs import configure

log = logging.getLogger(__name__)


def listen(settings: Settings) -> socket.socket:
    """Bind the dashboard's port; the socket is shared by all web workers."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((settings.host, settings.port))
    except OSError as error:
        found.close()
        raise UnavailableError(
            f"port {settings.port} of {settings.host} must be free, {error.strerror}: "
            "choose another with --port, or 0 for any free one"
        ) from error
    found.listen(512)
    found.set_inheritable(True)
    return found


def main() -> None:
    """Serve until SIGTERM, or until the parent is gone."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fd", type=int, required=True, help="listening socket, inherited")
    arguments = parser.parse_args()
    follow_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    settings = Settings.load()
    configure(settings)
    # Imported while Cassandra starts: on a small machine both take seconds.
    import uvicorn

    from analytics.search import Searcher
    from dashboard import app
    from dashboard.guard import is_loopback
    from dashboard.services import Services

    store = await_store(settings, threading.Event())
    services = Services(settings, store, Searcher(settings, store))
    server = app.create(settings, services).server
    garbage.seldom()
    log.info("web worker %d serves", os.getpid())
    if not is_loopback(settings.host):
        log.warning("host %s is open to others and there is no login", settings.host)
    config = uvicorn.Config(
        server,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=3,
        timeout_keep_alive=30,
    )
    with socket.socket(fileno=arguments.fd) as listening:
        uvicorn.Server(config).run(sockets=[listening])
    services.close()


if __name__ == "__main__":
    main()
