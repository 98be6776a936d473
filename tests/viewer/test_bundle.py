"""Bundles: a static copy whose links lead to its own files."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from alignlab.commands.view import view
from alignlab.errors import BadInput
from alignlab.viewer import bundle
from tests.viewer.a_run import build


def test_every_link_of_a_bundle_leads_to_a_file_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle, "MOST", 60)
    build(tmp_path / "runs" / "one")
    said: list[str] = []
    first = view(tmp_path / "runs", bundle=tmp_path / "out", say=said.append)
    assert first == str(tmp_path / "out" / "index.html")
    pages = sorted((tmp_path / "out").rglob("*.html"))
    assert 40 <= len(pages) <= 60
    for page in pages:
        text = page.read_text()
        assert "<form" not in text
        assert "data-live" not in text
        assert "default-src 'none'" in text
        for link in re.findall(r'(?:href|src)="([^"#]+)"', text):
            if not link.startswith("data:"):
                assert (page.parent / unquote(unescape(link))).exists(), (page, link)


REPORT = "<!DOCTYPE html><html><head><title>Report of one</title></head><body>x</body></html>"


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle of a run with a report and ratings, and one without."""
    folder = tmp_path_factory.mktemp("copied")
    one = build(folder / "runs" / "one", n=4)
    (one / "report.html").write_text(REPORT)
    (one / "people").mkdir()
    build(folder / "runs" / "two", n=4, shift=1)
    view(folder / "runs", bundle=folder / "out", say=lambda _: None)
    return folder / "out"


def test_reports_figures_and_comparisons_are_files_of_the_bundle(copied: Path) -> None:
    report = (copied / "run" / "one" / "file" / "report.html").read_text()
    assert report.startswith('<!DOCTYPE html>\n<meta http-equiv="Content-Security-Policy"')
    assert report.endswith(REPORT)
    figures = (copied / "run" / "two" / "export" / "figures.csv").read_text()
    assert figures.startswith("model,benchmark,metric")
    assert "report.html" not in (copied / "run" / "two" / "index.html").read_text()
    compared = [page.read_text() for page in (copied / "compare").rglob("*.html")]
    assert any("Settings that differ" in text and "beta" in text for text in compared)


def test_a_bundle_offers_nothing_that_needs_a_server(copied: Path) -> None:
    for page in copied.rglob("*.html"):
        text = page.read_text()
        assert "Rate these" not in text
        assert 'class="pick"' not in text
    assert ">People</a>" in (copied / "run" / "one" / "index.html").read_text()
    assert "People" not in (copied / "run" / "two" / "index.html").read_text()
    assert "New task" not in (copied / "run" / "one" / "people" / "index.html").read_text()


def test_a_report_that_cannot_be_read_is_no_link(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = build(tmp_path / "runs" / "one", n=4)
    (one / "report.html").write_text(REPORT)
    known = bundle._get
    monkeypatch.setattr(
        bundle, "_get", lambda app, at: (404, b"") if "/file/" in at else known(app, at)
    )
    view(tmp_path / "runs", bundle=tmp_path / "out", say=lambda _: None)
    for page in (tmp_path / "out").rglob("*.html"):
        assert 'report.html"' not in page.read_text()
    assert ">Compare</a>" not in (tmp_path / "out" / "run" / "one" / "index.html").read_text()


def test_every_entry_of_the_navigation_opens_in_a_browser(browser: Any, copied: Path) -> None:
    page = browser.new_page()
    messages: list[str] = []
    page.on("console", lambda m: messages.append(m.text))
    page.on("pageerror", lambda e: messages.append(str(e)))
    page.on(
        "request",
        lambda r: None if r.url.startswith("file://") else messages.append(f"asks {r.url}"),
    )
    start = (copied / "run" / "one" / "index.html").as_uri()
    page.goto(start)
    entries = page.locator("nav[aria-label=Pages] a").all_inner_texts()
    assert entries == [
        "Runs", "Overview", "Answers", "Judgements", "Training data", "Training", "People",
        "Files", "Compare",
    ]  # fmt: skip
    for name in entries:
        page.goto(start)
        page.get_by_role("link", name=name, exact=True).click()
        page.wait_for_load_state()
        assert page.locator("h1").count() == 1, name
    page.get_by_role("link", name="two").click()  # from the list of "Compare"
    assert "Settings that differ" in page.content()
    page.goto(start)
    page.get_by_role("link", name="The report of this run").click()
    assert page.title() == "Report of one"
    page.close()
    assert messages == []


def test_a_full_folder_is_refused(tmp_path: Path) -> None:
    build(tmp_path / "runs" / "one")
    with pytest.raises(BadInput, match="expected an empty folder"):
        view(tmp_path / "runs", bundle=tmp_path / "runs")


def test_a_taken_port_is_refused(tmp_path: Path) -> None:
    import socket

    build(tmp_path / "runs" / "one")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(BadInput, match="--port"):
            view(tmp_path / "runs", port=taken.getsockname()[1], browser=False)
