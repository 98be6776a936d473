"""Write the viewer's pages of some runs as static files that open without a server.

The copy follows every link from the list of runs: rows behind figures, pages of rows, each answer
and judgement, the reports, exported figures and comparisons, up to a number of pages. What needs a
server (search, rating, live updates) is left out.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from html import escape, unescape
from pathlib import Path
from posixpath import relpath
from urllib.parse import quote, unquote, urljoin, urlsplit

from starlette.applications import Starlette

from alignlab.errors import BadInput
from alignlab.files import make_folder
from alignlab.viewer.app import EXPORTS, application
from alignlab.viewer.library import Library
from alignlab.viewer.security import REPORT, policy

MOST = 5_000
"""Maximum number of pages; links to further ones become plain text."""
_HEADER_ALONE = ("form-action", "frame-ancestors")
"""Rules that a page in a file states otherwise, or cannot state."""
_LINK = re.compile(r'<a\b([^>]*?)\shref="([^"]*)"([^>]*)>(.*?)</a>', re.DOTALL)
_FORM = re.compile(r"<form\b.*?</form>", re.DOTALL)
_FILE = re.compile(r"/run/[^/]+/(file/report\.html|export/\w+)")
"""Addresses of files that the bundle holds besides pages."""
_DETAIL = re.compile(r"/run/[^/]+/(answers/\d+/.+|judgements/\d+)")


def write_bundle(library: Library, out: Path) -> Path:
    """Write static pages into a folder; return the first page's path.

    Raises:
        BadInput: the folder is not empty.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise BadInput(f"{out}: expected an empty folder or none")
    library.freeze()
    app = application(library, 80, served=False)
    names = _Names()
    waiting = deque([("/", names.of("/"))])
    while waiting:
        address, name = waiting.popleft()
        html = _FORM.sub("", _page(app, address).decode())

        def linked(found: re.Match[str], here: str = address, name: str = name) -> str:
            before, target, after, text = found.groups()
            full = urljoin(here, unescape(target)).partition("#")[0]
            if target.startswith("#") or not names.takes(full):
                return found.group(0) if target.startswith("#") else text
            is_new = full not in names
            to = names.of(full)
            if _FILE.fullmatch(full):
                if is_new and not _copy_file(app, full, out / to):
                    names.missing.add(full)
                    return text
            elif is_new:
                waiting.append((full, to))
            path = escape(quote(relpath(to, Path(name).parent.as_posix())))
            return f'<a{before} href="{path}"{after}>{text}</a>'

        html = _LINK.sub(linked, html)
        root = relpath(".", Path(name).parent.as_posix())
        html = html.replace('"/static/', f'"{root}/static/').replace(' data-live="', ' data-was="')
        rules = policy(html).replace("'self'", "'self' file:")
        charset = '<meta charset="utf-8">\n'
        html = html.replace(charset, f"{charset}{_meta(rules)}\n", 1)
        _write(out / name, html.encode())
    for static in ("viewer.css", "viewer.js"):
        _write(out / "static" / static, _page(app, f"/static/{static}"))
    return out / "index.html"


def _copy_file(app: Starlette, address: str, path: Path) -> bool:
    """Write a report or exported figures; False where the run has none that can be read."""
    status, content = _get(app, address)
    if status != 200:
        return False
    if path.suffix == ".html":  # may come from elsewhere with its run
        rules = REPORT.removeprefix("sandbox allow-scripts; ")
        content = f"<!DOCTYPE html>\n{_meta(rules)}\n".encode() + content
    _write(path, content)
    return True


def _meta(rules: str) -> str:
    """Return the element with a page's policy; `form-action` is always none without a server."""
    kept = [rule for rule in rules.split("; ") if not rule.startswith(_HEADER_ALONE)]
    content = "; ".join([*kept, "form-action 'none'"])
    return f'<meta http-equiv="Content-Security-Policy" content="{content}">'


def _write(path: Path, content: bytes) -> None:
    make_folder(path.parent)
    path.write_bytes(content)


class _Names:
    """File names of addresses."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self.missing: set[str] = set()
        """Addresses of files that cannot be had."""

    def __contains__(self, address: str) -> bool:
        return self._plain(address) in self._known

    def takes(self, address: str) -> bool:
        """Return whether the bundle holds or can still take a page."""
        path = urlsplit(address).path
        is_page = path in ("/", "/compare") or path.startswith("/run/")
        served = any(part in path for part in ("/file/", "/rate/", "/export/"))
        if not is_page or address in self.missing or (served and not _FILE.fullmatch(path)):
            return False
        return address in self or len(self._known) < MOST

    def of(self, address: str) -> str:
        """Return the file name of an address, relative to the bundle."""
        key = self._plain(address)
        if key not in self._known:
            path = unquote(urlsplit(key).path).strip("/")
            if _FILE.fullmatch(urlsplit(key).path):
                folder, _, form = path.rpartition("/")
                ending = EXPORTS.get(form)
                self._known[key] = f"{folder}/figures.{ending}" if ending else path
                return self._known[key]
            if _DETAIL.fullmatch(urlsplit(key).path):
                folder, _, rest = path.partition("/answers/")
                if rest:
                    path = f"{folder}/answers/{hashlib.sha256(rest.encode()).hexdigest()[:16]}"
            query = urlsplit(key).query
            if query:
                path = f"{path}/rows-{hashlib.sha256(query.encode()).hexdigest()[:12]}".lstrip("/")
            self._known[key] = f"{path}/index.html" if path else "index.html"
        return self._known[key]

    @staticmethod
    def _plain(address: str) -> str:
        """Drop the filter from addresses of single answers: each is written once."""
        parts = urlsplit(address)
        return parts.path if _DETAIL.fullmatch(parts.path) or not parts.query else address


def _page(app: Starlette, address: str) -> bytes:
    """Return the content of a page.

    Raises:
        BadInput: the page cannot be shown.
    """
    status, content = _get(app, address)
    if status != 200:
        raise BadInput(f"{address}: expected a page, found status {status}")
    return content


def _get(app: Starlette, address: str) -> tuple[int, bytes]:
    """Return status and content of an address, as the server would send them."""
    parts = urlsplit(address)
    scope = {
        "type": "http",
        "method": "GET",
        "path": unquote(parts.path),
        "raw_path": parts.path.encode(),
        "query_string": parts.query.encode(),
        "headers": [(b"host", b"127.0.0.1:80")],
    }
    status, content = 0, bytearray()

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, object]) -> None:
        nonlocal status
        if message["type"] == "http.response.start":
            status = int(str(message["status"]))
        else:
            content.extend(message.get("body", b""))  # type: ignore[arg-type]

    # In a thread of its own, since a notebook's thread runs a loop already.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, app(scope, receive, send)).result()  # type: ignore[arg-type]
    return status, bytes(content)
