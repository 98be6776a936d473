"""What a hostile run, page or neighbour can reach: nothing."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from alignlab.viewer.app import application
from alignlab.viewer.library import Library
from tests.viewer.a_run import HOST, build

ADDRESSES = ("", "answers", "judgements", "data", "training", "people", "files", "answers/0/p/0")


@pytest.mark.parametrize("page", ADDRESSES)
def test_hostile_text_is_shown_and_never_markup(client: TestClient, page: str) -> None:
    reply = client.get(f"/run/bad/{page}")
    assert reply.status_code == 200
    assert "<script>window" not in reply.text
    assert "<img" not in reply.text
    scripts = re.findall(r"<script[^>]*>", reply.text)
    assert scripts == ['<script src="/static/viewer.js" defer>']


@pytest.mark.parametrize("page", ["/", "/run/one/", "/run/one/answers", "/run/one/training"])
def test_pages_have_a_strict_policy(client: TestClient, page: str) -> None:
    reply = client.get(page)
    rules = reply.headers["content-security-policy"]
    assert "default-src 'none'" in rules
    assert "unsafe" not in rules
    assert "frame-ancestors 'none'" in rules
    assert " style=" not in reply.text
    assert not re.search(r"""(src|href)=["'](https?:)?//""", reply.text)


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "127.0.0.1:81"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
    ],
)
def test_other_hosts_and_origins_are_refused(client: TestClient, headers: dict[str, str]) -> None:
    assert client.get("/run/one/", headers=headers).status_code == 403
    assert client.post("/run/one/people", headers=headers, json={}).status_code == 403


@pytest.mark.parametrize(
    "path",
    ["../../one/manifest.json/../../secret", "%2e%2e/%2e%2e/secret", "/etc/passwd", "stages"],
)
def test_files_outside_the_run_are_not_served(client: TestClient, folder: Path, path: str) -> None:
    (folder / "secret").write_text("secret")
    reply = client.get(f"/run/one/file/{path}")
    assert reply.status_code == 404


def test_a_link_out_of_the_run_is_not_followed(client: TestClient, folder: Path) -> None:
    (folder / "secret").write_text("secret")
    (folder / "one" / "link").symlink_to(folder / "secret")
    try:
        assert client.get("/run/one/file/link").status_code == 404
    finally:
        (folder / "one" / "link").unlink()


def test_a_report_that_came_with_a_run_can_ask_nothing(client: TestClient, folder: Path) -> None:
    (folder / "one" / "report.html").write_text("<script>fetch('http://example.org')</script>")
    policy = client.get("/run/one/file/report.html").headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["frame-ancestors"] == "'none'"
    assert rules["sandbox"] == "allow-scripts"  # an origin of its own
    assert "connect-src" not in rules


def test_links_of_a_folder_with_an_odd_name_lead_to_its_pages(tmp_path: Path) -> None:
    build(tmp_path / 'odd #1? 50% "x"', n=4)
    build(tmp_path / "two", n=4)
    client = TestClient(application(Library(tmp_path), 8000), base_url=f"http://{HOST}")
    waiting, seen = ["/"], {"/"}
    while waiting:
        reply = client.get(waiting.pop())
        assert reply.status_code == 200, reply.url
        for link in re.findall(r'href="(/run/odd[^"]*)"', reply.text):
            if (target := html.unescape(link)) not in seen and len(seen) < 20:
                seen.add(target)
                waiting.append(target)
    pages_of_run = {target.rpartition("/")[2] for target in seen}
    assert pages_of_run >= {"answers", "judgements", "data", "training", "people", "files"}
