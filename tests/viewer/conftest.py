"""A real browser, where there is one, and a server that it asks."""

from __future__ import annotations

import os
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.testclient import TestClient

from alignlab.viewer.app import application
from alignlab.viewer.library import Library
from tests.viewer.a_run import HOST, build, build_rollouts

CHROMIUM = os.environ.get("ALIGNLAB_CHROMIUM") or shutil.which("chromium")


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """Serve twelve runs, of which eight differ in beta: the address and the folder."""
    folder = tmp_path_factory.mktemp("viewed")
    build(folder / "one", n=24)
    build(folder / "two", done=False)
    build(folder / "bad", hostile=True)
    build_rollouts(folder / "rlhf", lambda step: 5 - 0.1 * step)
    for number in range(8):
        build(folder / f"sweep-{number}", n=4, shift=number + 1)
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    library = Library(folder)
    server = uvicorn.Server(
        uvicorn.Config(application(library, port), log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}", folder
    server.should_exit = True
    thread.join(timeout=10)
    library.close()


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """Start chromium."""
    if not CHROMIUM:
        pytest.skip("needs chromium (in PATH, or its path in ALIGNLAB_CHROMIUM)")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    with sync_api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, site: tuple[str, Path]) -> Iterator[Any]:
    """Open a page that fails the test on a script error, a console message or a request outside."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    messages: list[str] = []
    opened.on("console", lambda m: messages.append(m.text))
    opened.on("pageerror", lambda e: messages.append(str(e)))
    opened.on(
        "request",
        lambda r: None if r.url.startswith(site[0]) else messages.append(f"asks {r.url}"),
    )
    yield opened
    context.close()
    assert messages == []


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("runs")
    build(path / "one")
    build(path / "two", done=False)
    build(path / "bad", hostile=True)
    return path


@pytest.fixture(scope="module")
def library(folder: Path) -> Library:
    return Library(folder)


@pytest.fixture
def client(library: Library) -> TestClient:
    return TestClient(application(library, 8000), base_url=f"http://{HOST}")
