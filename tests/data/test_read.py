from __future__ import annotations

import gzip
import hashlib
import json
import sys
import types
from io import BytesIO
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignlab.data.hub import HubChoice
from alignlab.data.read import Faults, read_table
from alignlab.errors import BadInput
from tests.data.conftest import Write

ROWS = [{"prompt": "one"}, {"prompt": "zwei ü \u2028 x"}, {"prompt": "three"}]


def read(path: Path | str) -> list[dict[str, object]]:
    return [dict(row.values) for row in read_table(str(path), Faults()).rows]


def complaint(path: Path | str) -> str:
    with pytest.raises(BadInput) as caught:
        read(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.jsonl.gz", "a.JSONL"])
def test_jsonl(write: Write, name: str) -> None:
    path = write(ROWS, name)
    table = read_table(str(path), Faults())
    assert [dict(row.values) for row in table.rows] == ROWS
    assert [row.line for row in table.rows] == [1, 2, 3]
    assert table.files == {str(path): hashlib.sha256(path.read_bytes()).hexdigest()}


def test_jsonl_skips_blank_lines_and_a_byte_order_mark(write: Write) -> None:
    path = write(b'\xef\xbb\xbf{"a": 1}\n\n  \n{"a": 2}\r\n')
    assert [row.line for row in read_table(str(path), Faults()).rows] == [1, 4]


@pytest.mark.parametrize("indent", [None, 2])
def test_json_list_knows_lines(write: Write, indent: int | None) -> None:
    path = write(json.dumps(ROWS, indent=indent), "a.json")
    table = read_table(str(path), Faults())
    assert [dict(row.values) for row in table.rows] == ROWS
    assert [row.line for row in table.rows] == ([1, 1, 1] if indent is None else [2, 5, 8])


def test_json_nested_single_and_one_object_per_line(write: Write) -> None:
    nested = {"version": [1, 2], "data": ROWS, "note": "x"}
    assert read(write(json.dumps(nested), "a.json")) == ROWS
    assert read(write(json.dumps(ROWS[0], indent=1), "b.json")) == ROWS[:1]
    assert read(write("\n".join(map(json.dumps, ROWS)), "c.json")) == ROWS


def test_json_object_of_splits(write: Write) -> None:
    path = write(json.dumps({"train": ROWS[:2], "test": ROWS[2:]}, indent=1), "a.json")
    rows = read_table(str(path), Faults()).rows
    assert [row.held_out for row in rows] == [False, False, True]
    only = write(json.dumps({"test": ROWS}), "b.json")
    assert not any(row.held_out for row in read_table(str(only), Faults()).rows)


def test_csv_and_tsv(write: Write) -> None:
    text = 'prompt,label\n"two\nlines, one comma",1\n\nplain,0\n'
    path = write(text, "a.csv")
    rows = read_table(str(path), Faults()).rows
    assert dict(rows[0].values) == {"prompt": "two\nlines, one comma", "label": "1"}
    assert [row.line for row in rows] == [2, 5]
    assert read(write("a\tb\nx\ty\n", "a.tsv.gz")) == [{"a": "x", "b": "y"}]


def test_csv_holds_long_fields(write: Write) -> None:
    long = "x" * 200_000
    assert read(write(f"a,b\n{long},y\n", "a.csv")) == [{"a": long, "b": "y"}]


def test_parquet_plain_and_zipped(write: Write) -> None:
    buffer = BytesIO()
    rows = [{"prompt": "p", "responses": [{"text": "a", "score": 1.0}]}]
    pq.write_table(pa.Table.from_pylist(rows), buffer)
    assert read(write(buffer.getvalue(), "a.parquet")) == rows
    assert read(write(buffer.getvalue(), "b.parquet.gz")) == rows


def test_folder_reads_every_data_file_and_reports_the_others(write: Write) -> None:
    path = write(ROWS[:1], "d/b.jsonl")
    write(ROWS[1:2], "d/sub/a.json.gz")
    write("not data", "d/README.md")
    write("hidden", "d/.cache/x.jsonl")
    table = read_table(str(path.parent), Faults())
    assert [dict(row.values) for row in table.rows] == ROWS[:2]
    assert [Path(p).name for p in table.ignored] == ["README.md"]
    assert len(table.files) == 2
    assert not any(row.held_out for row in table.rows)


def test_folder_with_train_and_test_files(write: Write) -> None:
    path = write(ROWS[:2], "d/train_clean.jsonl")
    write(ROWS[2:], "d/eval_clean.jsonl")
    rows = read_table(str(path.parent), Faults()).rows
    assert {row.values["prompt"]: row.held_out for row in rows} == {
        "one": False,
        "zwei ü \u2028 x": False,
        "three": True,
    }


def test_val_is_held_out(write: Write) -> None:
    """Files named `val` are validation data, asked for in hiyouga/LlamaFactory issue 2597."""
    path = write(ROWS[:2], "d/train.jsonl")
    write(ROWS[2:], "d/val.jsonl")
    write(ROWS[:1], "d/interval.jsonl")
    rows = read_table(str(path.parent), Faults()).rows
    assert [row.held_out for row in rows] == [False, False, False, True]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet", "a.json"])
def test_a_pointer_of_git_lfs_is_named(write: Write, name: str) -> None:
    """A clone without Git LFS holds pointers (microsoft/OmniParser issue 34)."""
    text = "version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 12\n"
    with pytest.raises(BadInput, match=r"git lfs pull.*, found its LFS pointer"):
        read_table(str(write(text, name)), Faults())


def test_test_in_a_word_is_no_test_file(write: Write) -> None:
    path = write(ROWS[:2], "d/latest.jsonl")
    write(ROWS[2:], "d/more.jsonl")
    assert not any(row.held_out for row in read_table(str(path.parent), Faults()).rows)


def test_complaints_name_file_and_line(write: Write) -> None:
    good = '{"a": 1}\n'
    broken = write(good * 6 + '{"a": \n' + good, "broken.jsonl")
    assert complaint(broken) == (
        f"{broken}, line 7: expected JSON, found Expecting value at column 7"
    )
    assert "line 2: expected an object, found [1]" in complaint(write(good + "[1]\n", "b.jsonl"))
    utf8 = write(good.encode() * 2 + b'{"a": "\xff"}\n', "utf8.jsonl")
    assert complaint(utf8) == f"{utf8}, line 3: expected UTF-8 text, found byte 0xff"
    assert "line 2: expected UTF-8" in complaint(write(b'[{"a": 1},\n{"a": "\xff"}]', "c.json"))
    assert "line 3: expected UTF-8" in complaint(write(b"a,b\n1,2\n3,\xe9\n", "d.csv"))


@pytest.mark.parametrize("name", ["e.jsonl", "e.json", "e.csv", "e.jsonl.gz"])
@pytest.mark.parametrize("content", ["", "\n\n"])
def test_empty_files(write: Write, name: str, content: str) -> None:
    path = write(content, name)
    assert complaint(path) == f"{path}: expected at least one record, found an empty file"


def test_header_alone_and_empty_list_are_empty(write: Write) -> None:
    assert "an empty file" in complaint(write("a,b\n", "h.csv"))
    assert "an empty file" in complaint(write("[]", "l.json"))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ('[{"a": 1},\n{"a": ]', "line 2: expected JSON"),
        ('[{"a": 1}\n{"a": 2}]', "line 2: expected ',' or ']' after a record"),
        ('[{"a": 1}', "expected ',' or ']' after a record, found the end of the file"),
        ("[1, 2]", "line 1: expected an object, found 1"),
        ('{"a": \n', "expected JSON"),
        ("42", "expected a list or an object, found 42"),
    ],
)
def test_bad_json(write: Write, text: str, part: str) -> None:
    assert part in complaint(write(text, "a.json"))


def test_bad_csv_row(write: Write) -> None:
    path = write("a,b\n1,2\n1,2,3\n", "a.csv")
    assert complaint(path) == f"{path}, line 3: expected 2 fields (a, b), found 3 fields"


def test_damaged_archives(write: Write, tmp_path: Path) -> None:
    cut = tmp_path / "cut.jsonl.gz"
    cut.write_bytes(gzip.compress(b'{"a": 1}\n' * 1000)[:40])
    assert "a complete gzip file" in complaint(cut)
    plain = tmp_path / "plain.jsonl.gz"
    plain.write_text('{"a": 1}')
    assert "a complete gzip file" in complaint(plain)
    assert "expected Parquet" in complaint(write(b"no parquet at all", "x.parquet"))


def test_nothing_there_and_unknown_kind(write: Write, tmp_path: Path) -> None:
    assert "found nothing there" in complaint(tmp_path / "absent.jsonl")
    assert "expected a data file" in complaint(write("x", "x.docx"))
    (tmp_path / "empty").mkdir()
    assert "expected data files" in complaint(tmp_path / "empty")


def test_faults_are_collected_when_not_stopping(write: Write) -> None:
    path = write('{"a": 1}\nnope\n{"a": 2}\n[]\n')
    faults = Faults(stop=False)
    assert len(read_table(str(path), faults).rows) == 2
    assert ["line 2" in str(faults.found[0]), "line 4" in str(faults.found[1])] == [True, True]


def test_hub_options_are_refused_for_files(write: Write) -> None:
    with pytest.raises(BadInput, match="are for hub ids, not files"):
        read_table(str(write(ROWS)), Faults(), HubChoice(split="test"))


def test_hub_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install 'alignlab[hub]'" in complaint("someone/some-data")


def test_hub_reads_a_split(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def load_dataset(name: str, config: str | None, **more: object) -> list[dict[str, str]]:
        asked.append((name, config, more))
        if name == "no/such":
            raise FileNotFoundError("Dataset 'no/such' doesn't exist on the Hub\nlong story")
        return [{"prompt": "one"}, {"prompt": "two"}] if name == "some/data" else []

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    choice = HubChoice(split="test", config="en", revision="v1")
    table = read_table("some/data", Faults(), choice)
    assert [row.values["prompt"] for row in table.rows] == ["one", "two"]
    assert asked == [("some/data", "en", {"split": "test", "revision": "v1"})]
    assert len(table.files["some/data"]) == 64
    assert complaint("no/such").endswith("Dataset 'no/such' doesn't exist on the Hub")
    assert "at least one record in split 'train'" in complaint("some/empty")


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (["train-00000-of-00003.jsonl", "train-00002-of-00003.jsonl"], "found 2 (without part 1)"),
        (["data-00000-of-00004.jsonl.gz"], "expected 4 parts, found 1 (without part 1, 2, 3)"),
        (["train-00000-of-00002-0123456789abcdef.jsonl"], "found 1 (without part 1)"),
        (["train-00001-of-00002.jsonl", "train-00002-of-00002.jsonl"], ""),
        (["train-00000-of-00001.jsonl", "test-00000-of-00001.jsonl"], ""),
        (["t-00000-of-00002-0123456789ab.jsonl", "t-00001-of-00002-ba9876543210.jsonl"], ""),
        (["t-00000-of-00001.jsonl", "t-00000-of-00002.jsonl", "t-00001-of-00002.jsonl"], ""),
        (["part-1.jsonl", "part-3.jsonl", "5-of-9.jsonl"], ""),
    ],
)
def test_a_folder_without_one_of_its_parts_is_refused(
    tmp_path: Path, names: list[str], missing: str
) -> None:
    """An interrupted download must not be taken for the whole."""
    for n, name in enumerate(names):
        content = f'{{"a": {n}}}\n'.encode()
        (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    if not missing:
        assert len(read_table(str(tmp_path), Faults()).rows) == len(names)
        return
    with pytest.raises(BadInput) as caught:
        read_table(str(tmp_path), Faults())
    assert missing in str(caught.value)
