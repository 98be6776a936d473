"""An HTTP proxy before any OpenAI-compatible server that breaks a share of the calls.

Which call breaks is decided by a seed, the request's content and how often it came, so it does not
depend on the order of arrival; how, by turns, so that every fault occurs. A broken call never
reaches the server: what the server is asked is what is paid for, and is counted here by the
request's content.
"""

from __future__ import annotations

import http.client
import json
import select
import socket
import struct
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import MappingProxyType
from typing import NamedTuple
from urllib.parse import urlsplit

from alignlab import seeds

FAULTS = (
    "429", "500", "502-page", "timeout", "reset", "hang-up",
    "cut-json", "no-bytes", "no-choices", "empty-text", "latin-1", "no-gzip",
)  # fmt: skip
"""Every way in which a call breaks; all are equally likely."""

WHOLE = {
    "id": "x", "object": "chat.completion", "created": 0, "model": "m",
    "choices": [{"index": 0, "finish_reason": "stop",
                 "message": {"role": "assistant", "content": "Très bien. Score: 5"}}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 7, "total_tokens": 16},
}  # fmt: skip
"""An answer that the server never gave; it must never come through."""

JSON = {"content-type": "application/json"}


@dataclass
class Proxy:
    """What went through."""

    url: str
    upstream: str
    share: float
    """Share of calls that break, 0 to 1."""
    seed: int
    hold_after: int | None = None
    """Calls after which nothing goes through until `release`."""
    passed: int = 0
    """Calls let through to the server."""
    paid: Counter[str] = field(default_factory=Counter)
    """Calls that the server answered, by the content of the request."""
    came: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    keys: set[str] = field(default_factory=set)
    """Authorization headers seen."""
    held: threading.Event = field(default_factory=threading.Event)
    open: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def release(self) -> None:
        """Let calls through again; those that were held and whose client is gone are dropped."""
        self.hold_after = None
        self.open.set()

    def fault(self, content: str) -> str | None:
        """How this call breaks, if it does."""
        with self.lock:
            self.came[content] += 1
            rng = seeds.generator(self.seed, content, self.came[content])
            kind = FAULTS[self.faults.total() % len(FAULTS)] if rng.random() < self.share else None
            if kind:
                self.faults[kind] += 1
            return kind


class Broken(NamedTuple):
    """A reply that is of no use."""

    status: int
    data: bytes
    headers: dict[str, str]


def replies(key: str) -> dict[str, Broken]:
    """Useless replies by fault; errors repeat the key, as servers do."""
    trouble = json.dumps({"error": {"message": f"trouble with {key}"}}).encode()
    silent = {"index": 0, "finish_reason": "stop", "message": {"content": ""}}
    whole = json.dumps(WHOLE).encode()
    return {
        "429": Broken(429, trouble, {"retry-after": "0.01"}),
        "500": Broken(500, trouble, {}),
        "502-page": Broken(502, f"<html>{key}</html>".encode(), {"content-type": "text/html"}),
        "cut-json": Broken(200, whole[:-40], {}),
        "no-bytes": Broken(200, b"", {}),
        "no-choices": Broken(200, json.dumps({**WHOLE, "choices": []}).encode(), {}),
        "empty-text": Broken(200, json.dumps({**WHOLE, "choices": [silent]}).encode(), {}),
        "latin-1": Broken(200, json.dumps(WHOLE, ensure_ascii=False).encode("latin-1"), {}),
        "no-gzip": Broken(200, whole, {"content-encoding": "gzip"}),
    }


@contextmanager
def proxy(
    upstream: str, *, share: float = 0.3, seed: int = 0, hold_after: int | None = None
) -> Iterator[Proxy]:
    """Serve on a free local port what `upstream` (http://HOST:PORT/v1) answers, and faults."""
    behind = urlsplit(upstream)
    state = Proxy("", upstream, share, seed, hold_after)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["content-length"]))
            text = content.decode()
            state.keys.add(self.headers.get("authorization", ""))
            kind = state.fault(text)
            if kind:
                self._break(kind, self.headers.get("authorization", "").removeprefix("Bearer "))
            elif self._may_pass():
                self._pass_on(content, text)

        def _may_pass(self) -> bool:
            """False where the client went away while the call was held."""
            with state.lock:
                if state.hold_after is None or state.passed < state.hold_after:
                    state.passed += 1
                    return True
            state.held.set()
            state.open.wait(120)
            self.close_connection = True
            return False

        def _pass_on(self, content: bytes, text: str) -> None:
            server = http.client.HTTPConnection(behind.netloc, timeout=300)
            try:
                server.request("POST", self.path, content, JSON)
                reply = server.getresponse()
                data = reply.read()
            finally:
                server.close()
            with state.lock:
                state.paid[text] += reply.status == 200
            self._send(reply.status, data)

        def _send(
            self,
            status: int,
            data: bytes,
            headers: Mapping[str, str] = MappingProxyType({}),
            length: int | None = None,
        ) -> None:
            self.send_response(status)
            whole = str(len(data) if length is None else length)
            for name, value in {**JSON, "content-length": whole, **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        def _break(self, kind: str, key: str) -> None:
            if kind in replies(key):
                status, data, headers = replies(key)[kind]
                self._send(status, data, headers)
                return
            self.close_connection = True
            if kind == "timeout":
                # Nothing is sent until the client has gone.
                select.select([self.connection], [], [], 60)
            elif kind == "reset":
                linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                self.connection.close()
            elif kind == "hang-up":
                self._send(200, b'{"id": "x", "cho', length=400)

        def log_message(self, *args: object) -> None:
            del args

        def handle(self) -> None:
            # A killed client leaves its connections.
            try:
                super().handle()
            except (ConnectionError, OSError, ValueError):
                self.close_connection = True

        def finish(self) -> None:
            try:
                super().finish()
            except (ConnectionError, OSError, ValueError):
                self.close_connection = True

    server = _Server(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}{behind.path}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield state
    finally:
        state.release()
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def server_close(self) -> None:
        # Threads of connections that a killed client left are not waited for.
        self.socket.close()
