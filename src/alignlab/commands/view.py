"""Open the viewer of a folder of runs in the browser, or write it as static files."""

from __future__ import annotations

import socket
import webbrowser
from collections.abc import Callable
from pathlib import Path

import uvicorn

from alignlab.errors import BadInput
from alignlab.viewer.app import application
from alignlab.viewer.bundle import write_bundle
from alignlab.viewer.library import Library


def view(
    folder: str | Path = "runs",
    *,
    port: int = 0,
    browser: bool = True,
    bundle: str | Path | None = None,
    say: Callable[[str], None] = print,
) -> str:
    """Browse runs: results, every answer, judgement and training pair, curves; rate blind.

    Args:
        folder: a run directory, or a folder of them.
        port: port to listen on, on this machine only; 0 uses a free one.
        browser: open the page in the browser.
        bundle: write a static copy into this folder instead of serving.
        say: prints the address.

    Returns:
        The address that was served, or the bundle's first page.

    Raises:
        BadInput: no run in the folder, a port that is taken, or a full folder for the bundle.
    """
    library = Library(Path(folder))
    try:
        if bundle is not None:
            return str(write_bundle(library, Path(bundle)))
        listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise BadInput(f"--port {port}: expected a free port, found {error}") from None
        number = listener.getsockname()[1]
        address = f"http://127.0.0.1:{number}/"
        say(f"{len(library.paths())} runs in {folder} at {address} (Ctrl-C ends)")
        if browser:
            webbrowser.open(address)
        server = uvicorn.Server(
            uvicorn.Config(application(library, number), log_level="error", lifespan="off")
        )
        server.run(sockets=[listener])
        return address
    finally:
        library.close()
