"""Rating in the browser: what is shown, what is saved, and who may ask."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from alignlab.commands import annotate as module
from alignlab.commands.annotate import HERE, Desk, annotate, serve
from alignlab.commands.feedback import export, import_
from alignlab.data import load
from alignlab.data.sheets import read_key
from alignlab.errors import BadInput, RunFailed

ROWS = [
    {
        "prompt": f"Q{n}?",
        "responses": [
            {"text": "<b>best</b>", "score": 2, "model": "secret-2"},
            {"text": "worst", "score": 1, "model": "secret-1"},
        ],
    }
    for n in range(2)
]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def desk(data: Path, form: str = "ranking", *overrides: str) -> Desk:
    sheet = data.with_name("anna.jsonl")
    made = export(data, sheet, *overrides, format=form)
    return Desk(sheet, read_key(Path(made.key)))


class Browser:
    """Asks a server as a page would."""

    def __init__(self, port: int) -> None:
        self.port = port

    def __call__(self, path: str, sent: Any = None, **headers: str) -> tuple[int, Any]:
        connection = HTTPConnection(HERE, self.port, timeout=10)
        given = {"Host": f"{HERE}:{self.port}", "Content-Type": "application/json"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        body = sent if sent is None or isinstance(sent, str) else json.dumps(sent)
        connection.request("GET" if sent is None else "POST", path, body, given)
        reply = connection.getresponse()
        content = reply.read().decode()
        connection.close()
        is_json = reply.headers.get_content_type() == "application/json"
        return reply.status, json.loads(content) if is_json else content


@pytest.fixture
def browser(data: Path) -> Iterator[Browser]:
    server = serve(desk(data), 0)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield Browser(server.server_port)
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_whole_sheet_is_rated_and_imported(browser: Browser, data: Path) -> None:
    status, page = browser("/")
    assert status == 200
    assert "<title>alignlab annotate</title>" in page
    _, sheet = browser("/sheet")
    assert "secret" not in json.dumps(sheet)
    assert (sheet["answered"], sheet["total"], sheet["form"]) == (0, 4, "ranking")
    for page in sheet["prompts"]:
        for row in page["rows"]:
            rank = 1 if "best" in row["text"] else 2
            status, said = browser("/answer", {"item": row["item"], "value": rank})
            assert (status, said["value"]) == (200, rank)
            # Saved at once: what a reader of the file sees now.
            assert f'"rank": {rank}' in data.with_name("anna.jsonl").read_text()
    assert said["answered"] == 4
    out = data.with_name("groups.jsonl")
    found = import_(data.with_name("anna.jsonl"), out=out)
    assert found.evaluated.rows[0] == {
        "model": "anna: rows answered",
        "value": 4.0,
        "low": None,
        "high": None,
        "n": 4,
        "unanswered": 0,
    }
    assert all(g.responses[0].text == "<b>best</b>" for g in load(str(out)).groups)


def test_bad_answers_are_refused_and_change_nothing(browser: Browser, data: Path) -> None:
    before = data.with_name("anna.jsonl").read_bytes()
    item = json.loads(before.splitlines()[0])["item"]
    for sent, says in (
        ({"item": item, "value": 3}, "expected an integer from 1 to 2"),
        ({"item": "nothing", "value": 1}, "expected a row of the sheet"),
        ({"value": 1}, "expected a row of the sheet"),
        ([], "expected an object"),
        ("no json", "Expecting value"),
    ):
        status, said = browser("/answer", sent)
        assert (status, says in said["error"]) == (400, True), said
    assert data.with_name("anna.jsonl").read_bytes() == before
    assert browser("/key")[0] == 404
    assert browser("/answer", {"item": item, "value": 1}, Content_Type="text/plain")[0] == 404


def test_other_sites_are_refused(browser: Browser, data: Path) -> None:
    item = json.loads(data.with_name("anna.jsonl").read_text().splitlines()[0])["item"]
    sent = {"item": item, "value": 1}
    assert browser("/answer", sent, Origin="http://evil.example")[0] == 403
    assert browser("/sheet", Host="evil.example")[0] == 403
    assert browser("/answer", sent, Origin=f"http://localhost:{browser.port}")[0] == 200


def test_answers_are_taken_back_and_taken_up_again(data: Path) -> None:
    first = desk(data, "numerical")
    rows = first.shown()["prompts"][0]["rows"]
    assert first.shown()["choices"] == [1, 2, 3, 4, 5]
    first.save(rows[0]["item"], 4)
    first.save(rows[1]["item"], 2)
    assert first.save(rows[1]["item"], None) == {"value": None, "answered": 1}
    again = desk(data, "numerical")
    assert again.answered == 1
    assert [row["value"] for row in again.shown()["prompts"][0]["rows"]] == [4, None]


@pytest.mark.parametrize(
    ("form", "overrides", "choices"),
    [
        ("numerical", ("low=0", "high=0.5"), []),
        ("numerical", ("low=0", "high=100"), []),
        ("text", (), []),
        ("labels", ("labels=[yes it is, not]",), ["yes it is", "not"]),
    ],
)
def test_what_is_offered(
    data: Path, form: str, overrides: tuple[str, ...], choices: list[str]
) -> None:
    assert desk(data, form, *overrides).shown()["choices"] == choices


def test_a_failed_write_is_not_shown_as_saved(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = desk(data)
    item = held.shown()["prompts"][0]["rows"][0]["item"]

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(module, "write_text", full)
    with pytest.raises(OSError, match="No space"):
        held.save(item, 1)
    assert held.answered == 0


def test_the_command(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module.ThreadingHTTPServer, "serve_forever", interrupted)
    said: list[str] = []
    sheet = data.with_name("eva.jsonl")
    assert annotate(data, sheet, format="labels", browser=False, say=said.append) == 0
    assert f"0 of 4 answered; rate at http://{HERE}:" in said[0]
    with pytest.raises(BadInput, match=r"ending in \.jsonl"):
        annotate(data, data.with_name("eva.csv"), format="labels", browser=False)
    with pytest.raises(BadInput, match="--port 70000: expected a free port"):
        annotate(data, sheet, format="labels", port=70000, browser=False, say=said.append)
    other = module.lock(sheet.with_name(f".{sheet.name}.lock"), "busy")
    with pytest.raises(RunFailed, match="another process works on this sheet"):
        annotate(data, sheet, format="labels", browser=False, say=said.append)
    module.os.close(other)


def test_an_open_sheet_is_left_alone(data: Path) -> None:
    sheet = data.with_name("eva.jsonl")
    export(data, sheet, "limit=1", format="labels")
    before = sheet.read_bytes()
    held = module.lock(sheet.with_name(f".{sheet.name}.lock"), "busy")
    with pytest.raises(RunFailed, match="another process works on this sheet"):
        annotate(data, sheet, format="labels", browser=False)
    module.os.close(held)
    assert sheet.read_bytes() == before


def test_a_sheet_in_a_new_folder(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.ThreadingHTTPServer, "serve_forever", lambda self: None)
    sheet = data.parent / "new" / "folder" / "eva.jsonl"
    assert annotate(data, sheet, format="labels", browser=False) == 0
    assert sheet.exists()
