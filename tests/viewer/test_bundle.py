"""Bundles: a static copy whose links lead to its own files."""

from __future__ import annotations

import re
from html import unescape
from pathlib import Path
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
