"""Keep the viewer to browsers on this machine, and its pages to their own scripts and styles."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.responses import Response as Reply

HERE = ("127.0.0.1", "localhost", "[::1]")
REPORT = (
    "sandbox allow-scripts; default-src 'none'; script-src 'unsafe-inline'; "
    "style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
"""Policy of a run's report: scripts of its own, in an origin of its own, and no request at all."""
_STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)

Handler = Callable[[Request], Awaitable[Reply]]


def guard(port: int) -> Callable[[Request, Handler], Awaitable[Reply]]:
    """Refuse requests under other host names or from other sites, and add security headers."""
    hosts = {f"{name}:{port}" for name in HERE} | (set(HERE) if port == 80 else set())
    origins = {f"http://{host}" for host in hosts}

    async def dispatch(request: Request, follow: Handler) -> Reply:
        origin = request.headers.get("origin")
        if request.headers.get("host") not in hosts or origin not in {None, *origins}:
            return PlainTextResponse("this page is for the machine that it runs on", 403)
        site = request.headers.get("sec-fetch-site", "same-origin")
        if request.method == "POST" and site not in ("same-origin", "none"):
            return PlainTextResponse("expected a request of this page", 403)
        reply = await follow(request)
        reply.headers.setdefault("Content-Security-Policy", policy(""))
        reply.headers["X-Content-Type-Options"] = "nosniff"
        reply.headers["Referrer-Policy"] = "no-referrer"
        reply.headers["Cache-Control"] = "no-store"
        return reply

    return dispatch


def policy(html: str) -> str:
    """Return the Content-Security-Policy of a page: files of this server, styles of the page."""
    hashes = [
        f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for text in _STYLE.findall(html)
    ]
    return "; ".join(
        [
            "default-src 'none'",
            "script-src 'self'",
            " ".join(["style-src 'self'", *hashes]),
            "img-src 'self' data:",
            "connect-src 'self'",
            "form-action 'self'",
            "base-uri 'none'",
            "frame-ancestors 'none'",
        ]
    )
