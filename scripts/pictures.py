"""Take the pictures of the documentation: pages of the viewer and the head of a report.

    python scripts/pictures.py RUN [--out docs/images] [--chromium /usr/bin/chromium]

RUN is a run of the sandbox (`alignlab demo --out RUN`): no other text enters the repository. It is
copied first, since the picture of the rating page needs a task. Needs playwright, chromium, Pillow.
"""

from __future__ import annotations

import argparse
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import uvicorn
from PIL import Image
from playwright.sync_api import Browser, Page, sync_playwright

from alignlab.report import write_report
from alignlab.viewer import rating
from alignlab.viewer.app import application
from alignlab.viewer.library import Library

SIZE = {"width": 1120, "height": 700}
HEIGHTS = {"report": 1600, "viewer-overview": 1150}
LARGEST = 150_000
"""Maximum number of bytes of a picture."""


@contextmanager
def served(library: Library) -> Iterator[str]:
    """Serve a library while the block runs; yield its address."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = uvicorn.Server(
        uvicorn.Config(application(library, port), log_level="error", lifespan="off")
    )
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}"
    server.should_exit = True
    thread.join(timeout=10)


def take(browser: Browser, pages: dict[str, str], out: Path) -> None:
    """Write a picture per page.

    Raises:
        SystemExit: a picture is too large.
    """
    opened: Page = browser.new_page(viewport=SIZE, color_scheme="light")  # type: ignore[arg-type]
    for name, address in pages.items():
        opened.goto(address)
        opened.wait_for_load_state("load")
        opened.wait_for_timeout(300)
        picture = out / f"{name}.png"
        opened.set_viewport_size({**SIZE, "height": HEIGHTS.get(name, SIZE["height"])})
        opened.screenshot(path=picture)
        # A page has few colours; a palette halves its picture.
        few = Image.open(picture).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
        few.save(picture, optimize=True)
        size = picture.stat().st_size
        print(f"{picture}: {size:,} bytes")
        if size > LARGEST:
            raise SystemExit(f"{picture}: expected at most {LARGEST:,} bytes")


def addresses(root: str, run: Path, library: Library) -> dict[str, str]:
    """Return the name and address of every picture."""
    key, state = run.name, library.run(run.name)
    best = [model for model in state.study.models if model.startswith("M3")]
    model = best[0] if best else list(state.study.models)[-1]
    index = library.index(key)
    row = index.rows(
        "SELECT seed, prompt FROM answers WHERE model = ? AND outcome = 0 ORDER BY prompt", (model,)
    )[0]
    body: dict[str, Any] = {"form": "pair", "models": [model, state.study.baseline], "number": 20}
    body["instructions"] = "Which answer says more that is true, and nothing that is false?"
    body["filter"] = {"model": model, "outcome": "loss"}
    task = rating.create(library, state, body).name
    pairs = index.one("SELECT max(stage) FROM pairs WHERE stage LIKE '%iteration-2%'")
    inverted = urlencode({"stage": pairs or "", "show": "inverted", "sort": "-gap"})
    lost = urlencode({"model": model, "outcome": "loss"})
    return {
        "report": (run / "report.html").as_uri(),
        "viewer-overview": f"{root}/run/{key}/",
        "viewer": f"{root}/run/{key}/answers?{lost}&flag=shorter",
        "viewer-answer": f"{root}/run/{key}/answers/{row['seed']}/{row['prompt']}?{lost}",
        "viewer-judgements": f"{root}/run/{key}/judgements?kind=score&sort=-error",
        "viewer-data": f"{root}/run/{key}/data?{inverted}",
        "viewer-training": f"{root}/run/{key}/training",
        "viewer-rating": f"{root}/run/{key}/rate/{task}?annotator=anna",
    }


def main() -> None:
    """Copy the run, serve it, and take the pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        run = Path(folder) / "runs" / "demo"
        shutil.copytree(given.run, run)
        write_report(run)
        library = Library(run.parent)
        browser = playwright.chromium.launch(executable_path=given.chromium, args=["--no-sandbox"])
        with served(library) as root:
            take(browser, addresses(root, run, library), given.out)
        browser.close()
        library.close()


if __name__ == "__main__":
    main()
