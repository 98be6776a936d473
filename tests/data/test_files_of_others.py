"""Files as spreadsheets, pandas, the hub and the datasets package write them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from alignlab.data import check, load
from alignlab.errors import BadInput
from alignlab.files import csv_reader, read_json, read_text
from tests.data.conftest import Write

PAIR = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"}
LINE = json.dumps(PAIR)
TURNS = {
    "prompt": [{"role": "user", "content": 'Don\'t say "5"'}],
    "chosen": [{"role": "assistant", "content": "4"}],
    "rejected": [{"role": "assistant", "content": "5\n"}],
}


def read(path: Path) -> list[tuple[str, list[str]]]:
    return [(g.prompt.text, [r.text for r in g.responses]) for g in load(str(path)).groups]


@pytest.mark.parametrize(
    ("text", "line", "found"),
    [
        (f"[{LINE}]\n[{LINE}]\n", 2, "the end of the file after its list"),
        (f"[{LINE}] garbage", 1, "the end of the file after its list"),
        (f"[{LINE}]]", 1, "the end of the file after its list"),
        (f"[{LINE}],\n{LINE}", 1, "the end of the file after its list"),
        (f"[]\n[{LINE}]", 2, "the end of the file after its list"),
        (f"[{LINE},\n{LINE[:-1]}", 2, "JSON"),
        (f'[{LINE[:-1]}, "prompt": "Ho"}}]', 1, "JSON, found the key 'prompt' twice"),
    ],
)
def test_text_after_a_list_is_a_bad_record(write: Write, text: str, line: int, found: str) -> None:
    problems = check(str(write(text, "a.json"))).problems
    assert f"a.json, line {line}: expected {found}" in problems[0]


def test_a_key_given_twice_in_a_line(write: Write) -> None:
    problem, *_ = check(str(write(LINE[:-1] + ', "chosen": "x"}\n'))).problems
    assert "expected JSON, found the key 'chosen' twice" in problem


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.json", f"\ufeff[{LINE}]"),
        ("a.jsonl", f"\ufeff{LINE}\n\ufeff{LINE}\n"),
        ("a.csv", "\ufeffprompt,chosen,rejected\nHi,Hello,Go\n"),
        ("a.tsv", "\ufeffprompt\tchosen\trejected\nHi\tHello\tGo\n"),
        ("a.json.gz", f"\ufeff[{LINE}]"),
        ("a.csv", "prompt , chosen, rejected\nHi,Hello,Go\n"),
        ("a.csv", "prompt;chosen;rejected\r\nHi;Hello;Go\r\n"),
        ("a.csv", '"prompt";"chosen";"rejected"\n"Hi";"Hello";"Go"\n'),
        ("a.csv", "sep=;\r\nprompt;chosen;rejected\r\nHi;Hello;Go\r\n"),
        ("a.csv", "prompt\tchosen\trejected\nHi\tHello\tGo\n"),
        ("a.csv", "\n\nprompt,chosen,rejected\n\nHi,Hello,Go\n"),
        ("a.tsv", " prompt\tchosen \trejected\nHi\tHello\tGo\n"),
        ("a.csv", ",prompt,chosen,rejected\n0,Hi,Hello,Go\n"),
    ],
)
def test_spreadsheets_and_windows(write: Write, name: str, text: str) -> None:
    assert read(write(text, name)) == [("Hi", ["Hello", "Go"])]


def test_lines_are_counted_from_the_head_of_the_file(write: Write) -> None:
    path = write("sep=;\nprompt;chosen;rejected\nHi;Hello;Go\nHi;Hello\n", "a.csv")
    (problem,) = check(str(path)).problems
    assert "a.csv, line 4: expected 3 fields (prompt, chosen, rejected), found 2 fields" in problem


def test_columns_of_one_name_are_refused(write: Write) -> None:
    path = write("prompt,chosen,rejected,prompt \nHi,Hello,Go,Ho\n", "a.csv")
    problems = check(str(path)).problems
    assert "two columns of the name 'prompt' (prompt, chosen, rejected, prompt)" in problems[0]


def as_csv(form: Callable[[Any], str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(TURNS)
    writer.writerow([form(value) for value in TURNS.values()])
    return text.getvalue()


@pytest.mark.parametrize(
    "form",
    [
        str,
        json.dumps,
        lambda value: json.dumps(value, indent=1),
        lambda value: " " + json.dumps(value),
        lambda value: "\n" + str(value),
        lambda value: json.dumps(value).replace('"role"', ' "role" '),
        lambda value: str([dict(reversed(turn.items())) for turn in value]),
    ],
)
def test_turns_in_a_cell(write: Write, form: Callable[[Any], str]) -> None:
    assert read(write(as_csv(form), "a.csv")) == [('Don\'t say "5"', ["4", "5\n"])]


@pytest.mark.parametrize(
    "form",
    [
        lambda value: str(value + value).replace("}, {", "}\n {"),  # as numpy shows an array
        lambda value: f"array({value}, dtype=object)",
        lambda value: str(value)[:-2],
        lambda value: json.dumps(value[0]),
    ],
)
def test_turns_in_a_cell_that_cannot_be_read_are_refused(
    write: Write, form: Callable[[Any], str]
) -> None:
    (problem,) = check(str(write(as_csv(form), "a.csv"))).problems
    assert "field 'chosen': expected a list" in problem


@pytest.mark.parametrize("text", ['[{"name": "x"}]', '{"value": 3}', "[1, 2]", "[{'a': 1}]"])
def test_other_json_in_a_text_is_text(write: Write, text: str) -> None:
    assert read(write([{**PAIR, "prompt": text}])) == [(text, ["Hello", "Go"])]


def test_descriptions_beside_the_data(write: Write) -> None:
    write("{}", "d/dataset_infos.json")
    write('{"a": 1}', "d/data/dataset_info.json")
    write('{"a": 1}', "d/data/state.json")
    folder = write("hi", "d/README.md").parent
    pq.write_table(pa.table({k: [v] for k, v in PAIR.items()}), folder / "data/train-0.parquet")
    corpus = load(str(folder))
    assert len(corpus.groups) == 1
    assert corpus.counts[0].dropped == {"not a data file": 4}


def test_folders_of_splits_are_held_out(write: Write) -> None:
    write([PAIR], "d/train/a.jsonl")
    folder = write([{**PAIR, "prompt": "Ho"}], "d/test/a.jsonl").parents[1]
    corpus = load(str(folder))
    assert (len(corpus.groups), len(corpus.test_groups)) == (1, 1)


def test_what_save_to_disk_wrote(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    rows = [{**PAIR, "prompt": f"Hi {n}"} for n in range(6)]
    whole = datasets.Dataset.from_list(rows)
    whole.save_to_disk(tmp_path / "one", num_shards=2)
    assert len(read(tmp_path / "one")) == 6
    whole.select([4, 2]).save_to_disk(tmp_path / "chosen")
    assert [asked for asked, _ in read(tmp_path / "chosen")] == ["Hi 4", "Hi 2"]
    splits = whole.train_test_split(2, seed=1)
    splits.save_to_disk(tmp_path / "splits")
    (tmp_path / "splits/train/cache-1.arrow").write_bytes(b"")
    corpus = load(str(tmp_path / "splits"))
    assert (len(corpus.groups), len(corpus.test_groups)) == (4, 2)


def test_an_arrow_file(tmp_path: Path) -> None:
    """`write_feather` and `new_file` write Arrow's file format, not a stream."""
    table = pa.table({"prompt": ["a"], "chosen": ["b"], "rejected": ["c"]})
    with (
        pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink,
        pa.ipc.new_file(sink, table.schema) as writer,
    ):
        writer.write_table(table)
    assert len(load(str(tmp_path / "a.arrow")).groups) == 1


def test_a_choice_of_rows_and_damage_are_refused(write: Write, tmp_path: Path) -> None:
    folder = write({}.__repr__(), "d/dataset_info.json").parent
    write(b"not arrow", "d/data.arrow")
    assert "expected an Arrow stream" in check(str(folder)).problems[0]
    write('{"_indices_data_files": [{"filename": "i.arrow"}]}', "d/state.json")
    with pytest.raises(BadInput, match=r"state\.json, field '_indices_data_files'"):
        load(str(folder))


def test_texts_without_their_mark(write: Write) -> None:
    for name in ("a.txt", "a.txt.gz"):
        assert read_text(write("\ufeffWie heißt?", name)) == "Wie heißt?"
    assert read_json(write('\ufeff{"a": 1}', "b.json")) == {"a": 1}
    broken = "line 2: expected UTF-8 text, found byte 0xff"
    for raw, says in ((b"a\n\xff", broken), (None, "a readable file")):
        path = write(raw, "c.txt") if raw else Path("none.txt")
        with pytest.raises(BadInput, match=says):
            read_text(path)
    names, records = csv_reader(iter(["sep=;\n", " a ; b\n", "1;2\n"]), ",")
    assert (names, list(records)) == (["a", "b"], [(3, ["1", "2"])])


@pytest.mark.parametrize("key", ["more", "train_2", "unlabelled"])
def test_records_under_a_key_that_is_not_read_are_refused(write: Write, key: str) -> None:
    path = write(json.dumps({"data": [PAIR], key: [PAIR, PAIR]}), "a.json")
    with pytest.raises(BadInput, match=f"field '{key}': expected all records in data, found 2 fu"):
        load(str(path))
    other = write(json.dumps({"data": [PAIR], key: [{"id": 1}], "names": ["a"], "n": []}), "b.json")
    assert len(load(str(other)).groups) == 1


def test_a_blank_around_a_name_is_shown(write: Write) -> None:
    with pytest.raises(BadInput, match="found 'prompt ', completion;"):
        load(str(write([{"prompt ": "a", "completion": "b"}])))
