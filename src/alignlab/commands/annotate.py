"""Serve a page on which an annotator rates responses; every answer is saved at once.

The server listens on this machine only. It shows a sheet's columns (no writer, no score) and writes
into the sheet, which `alignlab annotations import` reads like any other.
"""

from __future__ import annotations

import json
import os
import threading
import webbrowser
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from alignlab.commands.feedback import export
from alignlab.data.read import Faults, read_table
from alignlab.data.sheet_answers import answer_in
from alignlab.data.sheets import Key, read_key
from alignlab.errors import BadInput
from alignlab.files import lock, make_folder, write_text
from alignlab.report.policy import content_security_policy
from alignlab.text import conversation as as_text

HERE = "127.0.0.1"
PAGE = Path(__file__).parent / "pages" / "annotate.html"
MOST_BUTTONS = 11
"""Maximum number of ratings shown as buttons; longer scales are typed."""
_LARGEST = 1_000_000
"""Maximum number of bytes of an answer."""
_SAFE = {
    "Content-Security-Policy": content_security_policy(
        PAGE.read_text(encoding="utf-8"), connect=True
    )
    + "; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Desk:
    """Sheet of one annotator, held in memory and written whole after every answer."""

    def __init__(self, sheet: Path, key: Key) -> None:
        self.sheet, self.key = sheet, key
        self._rows = list(read_table(str(sheet), Faults()).rows)
        self._places = {row.text("item"): place for place, row in enumerate(self._rows)}
        self._lock = threading.Lock()

    @property
    def answered(self) -> int:
        """Return the number of rows with an answer."""
        return sum(answer_in(row, self.key) is not None for row in self._rows)

    def shown(self) -> dict[str, Any]:
        """Return the sheet as the page shows it, prompt by prompt."""
        prompts: dict[str, dict[str, Any]] = {}
        for item in self.key.items:
            page = prompts.setdefault(item.prompt.id, {"text": as_text(item.prompt), "rows": []})
            row = self._rows[self._places[item.item]]
            page["rows"].append(
                {
                    "item": item.item,
                    "letter": item.letter,
                    "text": item.response.text,
                    "value": _plain(answer_in(row, self.key)),
                }
            )
        return {
            "form": self.key.settings.form,
            "expected": self.key.settings.expected,
            "choices": self._choices(),
            "prompts": list(prompts.values()),
            "answered": self.answered,
            "total": len(self.key.items),
        }

    def save(self, item: object, value: object) -> dict[str, Any]:
        """Write one answer into the sheet; None removes it.

        Raises:
            BadInput: no such row, or no such answer.
        """
        if not isinstance(item, str) or item not in self._places:
            raise BadInput(f"{self.sheet}: expected a row of the sheet, found {item!r}")
        with self._lock:
            place = self._places[item]
            before = self._rows[place]
            row = replace(before, values={**before.values, self.key.settings.column: value})
            read = answer_in(row, self.key)
            self._rows[place] = row
            try:
                lines = (json.dumps(dict(r.values), ensure_ascii=False) + "\n" for r in self._rows)
                write_text(self.sheet, "".join(lines))
            except OSError:
                self._rows[place] = before  # what is shown as saved is on the disk
                raise
            return {"value": _plain(read), "answered": self.answered}

    def _choices(self) -> list[Any]:
        """Return the values offered as buttons; empty if answers are typed or ranks."""
        asked = self.key.settings
        if asked.form == "labels":
            return list(asked.choices)
        low, high = asked.scale
        whole = low == int(low) and high == int(high) and high - low < MOST_BUTTONS
        # Ranks are as many as the prompt has responses, which the page counts.
        if asked.form != "numerical" or not whole:
            return []
        return list(range(int(low), int(high) + 1))


def annotate(
    source: str | Path,
    out: str | Path,
    *overrides: str,
    format: str = "numerical",
    port: int = 0,
    browser: bool = True,
    say: Callable[[str], None] = print,
    **settings: Any,
) -> int:
    """Rate responses in the browser, blind; every answer is saved at once.

    Args:
        source: a run directory, or data with responses (FORMAT:PATH or PATH).
        out: the sheet, .jsonl; its name is the annotator's.
        overrides: "key=value" settings of the sheet, as of `annotations export`.
        format: "numerical", "ranking", "text" or "labels".
        port: port to listen on; 0 uses a free one.
        browser: whether to open the page.
        say: prints the address.
        settings: settings by keyword, as in overrides.

    Returns:
        Number of rows with an answer.

    Raises:
        BadInput: an unknown setting or format, nothing to show, or a port that is taken.
        RunFailed: another process holds the sheet.
    """
    sheet = Path(out)
    if sheet.suffix != ".jsonl":
        raise BadInput(f"{sheet}: expected a file name ending in .jsonl")
    make_folder(sheet.parent)
    busy = f"{sheet}: another process works on this sheet"
    held = lock(sheet.with_name(f".{sheet.name}.lock"), busy, patience_s=1.0)
    try:
        written = export(source, sheet, *overrides, format=format, **settings)
        desk = Desk(sheet, read_key(Path(written.key)))
        with serve(desk, port) as server:
            address = f"http://{HERE}:{server.server_port}/"
            progress = f"{sheet}: {desk.answered} of {written.rows} answered"
            say(f"{progress}; rate at {address} (Ctrl-C ends)")
            if browser:
                webbrowser.open(address)
            with suppress(KeyboardInterrupt):  # how this ends; every answer is on the disk
                server.serve_forever()
    finally:
        os.close(held)
    say(f"{sheet}: {desk.answered} of {written.rows} answered")
    return desk.answered


def serve(desk: Desk, port: int) -> ThreadingHTTPServer:
    """Return a server of an annotator's sheet, bound to this machine only.

    Raises:
        BadInput: the port is taken.
    """

    class Handler(_Handler):
        pass

    Handler.desk = desk
    try:
        server = ThreadingHTTPServer((HERE, port), Handler)
    except (OSError, OverflowError) as error:
        raise BadInput(f"--port {port}: expected a free port, found {error}") from None
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    """Request handler of three addresses: the page, the sheet, an answer."""

    desk: Desk

    def do_GET(self) -> None:
        if not self._from_here():
            return
        if self.path == "/":
            self._send(200, PAGE.read_bytes(), "text/html; charset=utf-8")
        elif self.path == "/sheet":
            self._json(200, self.desk.shown())
        else:
            self._json(404, {"error": "no such page"})

    def do_POST(self) -> None:
        if not self._from_here():
            return
        if self.path != "/answer" or self.headers.get_content_type() != "application/json":
            self._json(404, {"error": "no such page"})
            return
        try:
            length = int(self.headers.get("Content-Length", "0"))
            if not 0 < length <= _LARGEST:
                raise BadInput(f"expected an answer of 1 to {_LARGEST} bytes, found {length}")
            try:
                given = json.loads(self.rfile.read(length))
            except RecursionError:
                raise BadInput("expected an object of one level, found deeper nesting") from None
            if not isinstance(given, dict):
                raise BadInput(f"expected an object, found {type(given).__name__}")
            saved = self.desk.save(given.get("item"), given.get("value"))
        except (BadInput, ValueError) as error:
            self._json(400, {"error": str(error)})
        except OSError as error:
            self._json(500, {"error": f"the sheet cannot be written ({error})"})
        else:
            self._json(200, saved)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing, since the terminal belongs to the annotator."""

    def _from_here(self) -> bool:
        """Refuse requests from other sites' pages, under their own or a forged host name."""
        port = self.connection.getsockname()[1]
        own = {f"{name}:{port}" for name in (HERE, "localhost")}
        origin = self.headers.get("Origin")
        if self.headers.get("Host") in own and origin in {None, *(f"http://{n}" for n in own)}:
            return True
        self._json(403, {"error": "this page is for the machine that it runs on"})
        return False

    def _json(self, status: int, value: Mapping[str, Any]) -> None:
        self._send(status, json.dumps(value).encode(), "application/json")

    def _send(self, status: int, content: bytes, kind: str) -> None:
        with suppress(ConnectionError):  # a page that was closed waits for no reply
            self._reply(status, content, kind)

    def _reply(self, status: int, content: bytes, kind: str) -> None:
        self.send_response(status)
        for name, text in {**_SAFE, "Content-Type": kind}.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _plain(value: float | str | None) -> float | int | str | None:
    """Format a whole number without its fraction, for buttons."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
