"""What every request passes: host and origin checks, a body limit, security headers, compression.

The dashboard has no login while it binds to loopback, so a web page of another site must not be
able to reach it through the user's browser: neither by a name that resolves to 127.0.0.1 (DNS
rebinding, stopped by the Host check) nor by a form or fetch across sites (stopped by the Origin
check).
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Callable
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cql.settings import Settings

JSON_LIMIT = 4 * 1024 * 1024
"""Most bytes of a request that is not an upload."""

UPLOAD_OVERHEAD = 64 * 1024
"""Bytes that a multipart form may add to the file it carries."""

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})

HEADERS = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), microphone=(), geolocation=(), payment=()",
}


class _TooLargeError(Exception):
    """The body grew past the limit while it was read."""


def is_loopback(host: str) -> bool:
    """Whether an address or name means this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def policy(script_hashes: list[str]) -> str:
    """The content security policy: own scripts only, no frames, no other host.

    Styles stay `unsafe-inline` because Dash's components set style attributes and insert style
    elements of their own.
    """
    return "; ".join(
        (
            "default-src 'self'",
            " ".join(("script-src 'self'", *script_hashes)),
            "style-src 'self' 'unsafe-inline'",
            "img-src 'self' data: blob:",
            "font-src 'self' data:",
            "connect-src 'self'",
            "worker-src 'self' blob:",
            "object-src 'none'",
            "base-uri 'none'",
            "form-action 'self'",
            "frame-ancestors 'none'",
        )
    )


class Guard:
    """ASGI middleware; outermost, so that nothing is answered that it has not passed."""

    def __init__(
        self, app: ASGIApp, *, settings: Settings, content_policy: Callable[[], str]
    ) -> None:
        self.app = app
        self.loopback = is_loopback(settings.host)
        self.hosts = {"127.0.0.1", "localhost", "::1", settings.host}
        self.upload_limit = settings.max_image_mb * 1024 * 1024 + UPLOAD_OVERHEAD
        self.content_policy = content_policy

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Check, then pass on."""
        if scope["type"] not in {"http", "websocket"}:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        refusal = self._refusal(scope, headers)
        if refusal is not None:
            await _refuse(scope, send, *refusal)
            return
        if scope["type"] == "websocket":
            await self.app(scope, receive, send)
            return
        await self._pass(scope, receive, send)

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        limit = self._limit(scope)
        seen = 0
        started = False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            if message["type"] == "http.request":
                seen += len(message.get("body", b""))
                if seen > limit:
                    raise _TooLargeError
            return message

        async def signed(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                headers = MutableHeaders(scope=message)
                for key, value in HEADERS.items():
                    headers.setdefault(key, value)
                headers.setdefault("content-security-policy", self.content_policy())
            await send(message)

        try:
            await self.app(scope, counted, signed)
        except _TooLargeError:
            if not started:
                await _refuse(scope, send, 413, *_too_large(limit))

    def _limit(self, scope: Scope) -> int:
        return self.upload_limit if scope["path"].endswith("/search/upload") else JSON_LIMIT

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str, str] | None:
        host = headers.get("host", "")
        if self.loopback and _hostname(host) not in self.hosts:
            return (
                421,
                f"this server answers for {', '.join(sorted(self.hosts))} only, got host {host!r}",
                "open the address that the command printed",
            )
        if scope["type"] == "websocket" or scope["method"] not in SAFE_METHODS:
            origin = headers.get("origin")
            site = headers.get("sec-fetch-site")
            foreign = urlsplit(origin).netloc != host if origin is not None else False
            if foreign or (origin is None and site not in {None, "same-origin", "none"}):
                return (
                    403,
                    f"a change must come from the dashboard's pages, got origin {origin or site!r}",
                    "send it from the same origin, or from a script without an Origin header",
                )
        declared = headers.get("content-length", "0")
        if scope["type"] == "http" and declared.isdigit() and int(declared) > self._limit(scope):
            return (413, *_too_large(self._limit(scope)))
        return None


class Compression:
    """gzip for text and tiles; pictures are compressed already."""

    def __init__(self, app: ASGIApp) -> None:
        self.plain = app
        self.packed = GZipMiddleware(app, minimum_size=1024, compresslevel=4)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Choose by path: photos, thumbnails and uploads are served as they are."""
        path = scope.get("path", "")
        picture = path.endswith(("/photo", "/thumbnail")) or "/uploads/" in path
        await (self.plain if picture else self.packed)(scope, receive, send)


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _too_large(limit: int) -> tuple[str, str]:
    return (
        f"a request may carry at most {limit:,} bytes",
        "send a smaller picture, or raise max_image_mb",
    )


async def _refuse(scope: Scope, send: Send, status: int, error: str, fix: str) -> None:
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 4003, "reason": error[:100]})
        return
    body = json.dumps({"error": error, "fix": fix}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(key.encode(), value.encode()) for key, value in HEADERS.items()]
    headers += [(b"connection", b"close")] if status == 413 else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
