"""Files are replaced whole, locked, and cut back to their last whole line."""

import os

import pytest

from alignlab.errors import RunFailed
from alignlab.files import cut_torn_line, file_digest, lock, read_json, write_json, write_text


def test_a_full_disk_keeps_nothing_of_a_file_half_replaced(tmp_path, monkeypatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("alignlab.files.os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write_json(tmp_path / "a.json", {})
    assert list(tmp_path.iterdir()) == []


def test_what_is_written_is_read_back(tmp_path):
    file = tmp_path / "a.json"
    for value in ({"é": [1, None]}, []):
        write_json(file, value)
        assert read_json(file) == value
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(file, float("nan"))
    assert read_json(file) == []
    assert list(tmp_path.iterdir()) == [file]


def test_a_lock_is_held_until_it_is_closed(tmp_path):
    handle = lock(tmp_path / "lock", "busy")
    with pytest.raises(RunFailed, match="busy"):
        lock(tmp_path / "lock", "busy", patience_s=0)
    os.close(handle)
    os.close(lock(tmp_path / "lock", "busy", patience_s=0))


@pytest.mark.parametrize(
    ("before", "after"), [("", ""), ("a", ""), ("a\n", "a\n"), ("a\nb", "a\n"), ("\n", "\n")]
)
def test_a_torn_line_is_cut_off(tmp_path, before, after):
    file = tmp_path / "lines"
    cut_torn_line(file)
    write_text(file, before)
    cut_torn_line(file)
    assert file.read_text() == after


def test_the_digest_is_sha256(tmp_path):
    write_text(tmp_path / "a", "abc")
    assert file_digest(tmp_path / "a").startswith("ba7816bf8f01cfea")
