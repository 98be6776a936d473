"""Sheets for annotators: blind, growing, and read back against their key."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from alignlab.data.read import Faults, read_table
from alignlab.data.sheet_answers import SheetAnswers, read_answers
from alignlab.data.sheets import (
    Form,
    Key,
    SheetSettings,
    _harmless,
    key_path,
    make_items,
    read_key,
    write_sheet,
)
from alignlab.errors import BadInput
from alignlab.types import Critique, Message, Prompt, Ranking, Response, SampledBy, Score

PROMPTS = [Prompt(f"p{n}", (Message("user", f"Question {n}?"),)) for n in range(4)]
TEXTS = ("plain", "=1+1", 'two\nlines, and "quotes"', "- a list")


def response(prompt: Prompt, number: int, text: str) -> Response:
    return Response(f"{prompt.id}.{number}", prompt.id, text, SampledBy(f"secret-model-{number}"))


RESPONSES = [response(p, n, text) for p in PROMPTS for n, text in enumerate(TEXTS[:3])]


def sheet(path: Path, form: Form = "numerical", **more: Any) -> Key:
    return write_sheet(path, PROMPTS, RESPONSES, SheetSettings(form, **more)).key


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def fill(
    path: Path, out: Path, answer: Callable[[int, dict[str, str]], Any], column: str = "rating"
) -> Path:
    """A filled copy of a sheet; None leaves a row blank."""
    rows = rows_of(path)
    for number, row in enumerate(rows):
        value = answer(number, row)
        row[column] = "" if value is None else str(value)
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return out


def test_a_sheet_shows_no_writer_and_starts_no_formula(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    key = sheet(path)
    assert "secret" not in path.read_text()
    rows = rows_of(path)
    assert len(rows) == len(key.items) == 12
    assert {row["response"] for row in rows} == {"plain", "'=1+1", 'two\nlines, and "quotes"'}
    assert all(row["item"].isalpha() for row in rows)  # no spreadsheet reads a number or a date
    shown = {(item.item, item.letter) for item in read_key(key_path(path)).items}
    assert {(row["item"], row["letter"]) for row in rows} == shown


def test_order_is_drawn_by_the_seed(tmp_path: Path) -> None:
    def order(seed: int) -> list[str]:
        items, _ = make_items(PROMPTS, RESPONSES, SheetSettings("numerical", seed=seed))
        return [item.response.id for item in items]

    assert order(0) == order(0)
    assert order(0) != order(1)
    assert sorted(order(0)) == sorted(order(1))
    letters = {r.id: set() for r in RESPONSES}
    for seed in range(20):
        for item in make_items(PROMPTS, RESPONSES, SheetSettings("numerical", seed=seed))[0]:
            letters[item.response.id].add(item.letter)
    assert all(seen == {"A", "B", "C"} for seen in letters.values())


@pytest.mark.parametrize("name", ["sheet.csv", "sheet.jsonl"])
def test_a_sheet_grows_and_keeps_what_was_filled_in(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    asked = SheetSettings("numerical")
    first = write_sheet(path, PROMPTS, RESPONSES, asked, limit=2)
    assert (first.added, first.tally.dropped) == (6, {"over the limit": 6})
    if name.endswith(".csv"):
        fill(path, path, lambda number, row: 3)
    else:
        rows = [json.loads(line) | {"rating": 3} for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    again = write_sheet(path, PROMPTS, RESPONSES, asked)
    assert again.added == 6
    assert again.key.items[:6] == first.key.items
    answers = read_answers([path], again.key)
    assert [(a.name, a.answered, a.unanswered) for a in answers.annotators] == [("sheet", 6, 6)]
    before = path.read_bytes()
    assert write_sheet(path, PROMPTS, RESPONSES, asked).added == 0
    assert path.read_bytes() == before


def test_rows_lost_from_a_sheet_come_back(tmp_path: Path) -> None:
    path = tmp_path / "sheet.jsonl"
    key = sheet(path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:5]))  # as a kill between key and sheet leaves it
    assert write_sheet(path, PROMPTS, RESPONSES, key.settings).added == 7
    assert path.read_text().splitlines(keepends=True) == lines


@pytest.mark.parametrize("name", ["sheet.csv", "sheet.jsonl"])
def test_a_renamed_sheet_keeps_its_key(tmp_path: Path, name: str) -> None:
    path, alice = tmp_path / name, tmp_path / f"alice{Path(name).suffix}"
    asked = SheetSettings("numerical")
    first = write_sheet(path, PROMPTS[:2], RESPONSES, asked)
    path.rename(alice)
    again = write_sheet(path, PROMPTS[2:], RESPONSES, asked)
    assert again.key.items[:6] == first.key.items
    assert (len(again.key.items), again.added) == (12, 12)
    read_answers([path, alice], read_key(key_path(path)))
    path.unlink()
    with pytest.raises(BadInput, match="this sheet was made with"):
        sheet(path, seed=1)


def test_other_settings_or_responses_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "sheet.csv"
    sheet(path)
    with pytest.raises(BadInput, match="this sheet was made with"):
        sheet(path, seed=1)
    more = [*RESPONSES, response(PROMPTS[0], 9, "a new one")]
    with pytest.raises(BadInput, match="the same responses as when the sheet was made"):
        write_sheet(path, PROMPTS, more, SheetSettings("numerical"))
    other = tmp_path / "other.csv"
    other.write_text("mine")
    with pytest.raises(BadInput, match="a sheet with its key, found neither"):
        sheet(other)
    with pytest.raises(BadInput, match=r"ending in \.csv or \.jsonl"):
        sheet(tmp_path / "sheet.xlsx")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"form": "text", "low": 1}, "text sheet: 1 has no effect"),
        ({"form": "numerical", "labels": ("a", "b")}, "has no effect"),
        ({"form": "numerical", "low": 5, "high": 5}, "expected above 5"),
        ({"form": "numerical", "high": float("inf")}, "setting high: expected a finite number"),
        ({"form": "numerical", "low": float("nan")}, "setting low: expected a finite number"),
        ({"form": "labels", "labels": ("a", "A ")}, "two different ones"),
        ({"form": "labels", "labels": ("a", "b"), "desirable": ("c",)}, "one of the labels"),
        ({"form": "labels", "high": 3}, "has no effect"),
    ],
)
def test_settings_without_effect_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        SheetSettings(**given)


def test_what_cannot_be_shown_is_counted() -> None:
    only = [response(PROMPTS[0], 0, "alone"), response(PROMPTS[1], 0, " ")]
    items, count = make_items(PROMPTS, only, SheetSettings("ranking"))
    assert items == []
    assert count.dropped == {
        "empty response": 1,
        "a prompt's only response, nothing to rank": 1,
    }


def read(tmp_path: Path, form: Form, answer: Any, **more: Any) -> SheetAnswers:
    path = tmp_path / "sheet.csv"
    key = sheet(path, form, **more)
    return read_answers([fill(path, tmp_path / "anna.csv", answer, key.settings.column)], key)


def test_ratings_come_back(tmp_path: Path) -> None:
    answers = read(tmp_path, "numerical", lambda number, row: 2.5 if number < 3 else None)
    assert [one.verdict for one in answers.feedback] == [Score(2.5)] * 3
    assert {one.source for one in answers.feedback} == {"human:anna"}
    (anna,) = answers.annotators
    assert (anna.answered, anna.unanswered) == (3, 9)


def test_ranks_come_back_whole_prompts_alone(tmp_path: Path) -> None:
    # A and B level, C behind: ranks 1, 1, 3 of a competition are 0, 0, 1.
    ranks = {"A": 1, "B": 1, "C": 3}
    answers = read(tmp_path, "ranking", lambda number, row: ranks[row["letter"]])
    assert [one.verdict for one in answers.feedback] == [Ranking((0, 0, 1))] * 4
    assert all(len(one.response_ids) == 3 for one in answers.feedback)
    (tmp_path / "two").mkdir()
    with pytest.raises(BadInput, match=r"field 'rank': expected a rank of every response.*by anna"):
        read(tmp_path / "two", "ranking", lambda number, row: 1 if row["letter"] != "C" else None)


def test_words_and_labels_come_back(tmp_path: Path) -> None:
    for folder in ("words", "labels"):
        (tmp_path / folder).mkdir()
    said = read(tmp_path / "words", "text", lambda n, row: " Wrong: 1 + 1 is 2. ").feedback
    assert said[0].verdict == Critique("Wrong: 1 + 1 is 2.")
    labels = ("right", "wrong", "rude")
    found = read(
        tmp_path / "labels",
        "labels",
        lambda n, row: ("Right", " WRONG", "rude")[n % 3],
        labels=labels,
    ).feedback
    assert [(one.verdict, one.raw) for one in found[:3]] == [
        (Score(1.0), ("right",)),
        (Score(0.0), ("wrong",)),
        (Score(0.0), ("rude",)),
    ]


@pytest.mark.parametrize(
    ("form", "bad", "says"),
    [
        ("numerical", "6", r"anna.csv, line 2, field 'rating': expected a number from 1 to 5"),
        ("numerical", "good", "line 2, field 'rating': expected a finite number, found 'good'"),
        ("numerical", "nan", "field 'rating': expected a finite number"),
        ("ranking", "4", "field 'rank': expected an integer from 1 to 3"),
        ("ranking", "0", "field 'rank': expected an integer from 1 to 3"),
        ("labels", "fine", "field 'label': expected one of good, bad, found 'fine'"),
    ],
)
def test_a_bad_answer_is_named(tmp_path: Path, form: Form, bad: str, says: str) -> None:
    with pytest.raises(BadInput, match=says):
        read(tmp_path, form, lambda number, row: bad if number == 0 else 1)


def test_unknown_rows_missing_columns_and_contradictions(tmp_path: Path) -> None:
    key = sheet(tmp_path / "sheet.csv")
    item = key.items[0].item

    def filled(rows: Sequence[dict[str, Any]], name: str = "anna.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    with pytest.raises(BadInput, match=r"field 'item': expected a row of sheet\.csv\.key\.jsonl"):
        read_answers([filled([{"item": "nothing", "rating": 1}])], key)
    with pytest.raises(BadInput, match="field 'rating': expected a number from 1 to 5, found no"):
        read_answers([filled([{"item": item, "rank": 1}])], key)
    same = filled([{"item": item, "rating": 3}, {"item": item, "rating": 3.0}])
    assert read_answers([same], key).repeated == 1
    twice = filled([{"item": item, "rating": 3}, {"item": item, "rating": 4}])
    with pytest.raises(BadInput, match=r"line 2, .*anna's answer to \w+ once \(3\.0 in .*line 1"):
        read_answers([twice], key)
    # Two people may differ; whoever signs a row in the file is its annotator.
    signed = [{"item": item, "rating": n, "annotator": who} for n, who in ((3, "eva"), (4, "tom"))]
    assert [a.name for a in read_answers([filled(signed)], key).annotators] == ["eva", "tom"]
    faults = Faults(stop=False)
    mixed = filled([{"item": "nothing", "rating": 1}, {"item": item, "rating": 2}])
    answers = read_answers([mixed], key, faults)
    assert (answers.bad, len(answers.feedback), len(faults.found)) == (1, 1, 1)


@pytest.mark.parametrize("column", ["item", "rating", "prompt", "response"])
def test_answers_torn_from_their_rows_are_refused(tmp_path: Path, column: str) -> None:
    key = sheet(tmp_path / "sheet.csv")
    path = fill(tmp_path / "sheet.csv", tmp_path / "ann.csv", lambda number, row: 1 + number % 5)
    rows = rows_of(path)
    turned = [row[column] for row in reversed(rows)]
    for row, value in zip(rows, turned, strict=True):
        row[column] = value
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = path.rename(tmp_path / "ann.jsonl")
    if column == "rating":  # nothing in the sheet says so
        assert len(read_answers([path], key).feedback) == 12
        return
    with pytest.raises(
        BadInput, match=r"ann.jsonl, line 1, field 'item': expected .*, whose prompt"
    ):
        read_answers([path], key)


def test_texts_that_a_spreadsheet_changed_play_no_part(tmp_path: Path) -> None:
    key = sheet(tmp_path / "sheet.csv")
    path = fill(tmp_path / "sheet.csv", tmp_path / "ann.csv", lambda number, row: 3)
    text = path.read_text().replace("two\nlines, and", "Two lines \u2013 and").replace("plain", "?")
    path.write_text(text)
    assert len(read_answers([path], key).feedback) == 12


def test_a_gzipped_key_is_read_and_a_binary_one_refused(tmp_path: Path) -> None:
    key = sheet(tmp_path / "sheet.csv")
    packed = tmp_path / "key.jsonl.gz"
    packed.write_bytes(gzip.compress(Path(key.path).read_bytes()))
    assert read_key(packed).items == key.items
    for name, content in (("k.jsonl", packed.read_bytes()), ("k.jsonl.gz", b"no gzip")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadInput, match="expected the key of a sheet, found") as error:
            read_key(tmp_path / name)
        assert "\n" not in str(error.value)


def test_a_key_must_be_a_key(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="found no such file"):
        read_key(tmp_path / "absent.key.jsonl")
    wrong = tmp_path / "wrong.key.jsonl"
    wrong.write_text('{"prompt": "Hi"}\n')
    with pytest.raises(BadInput, match="expected the key of a sheet"):
        read_key(wrong)


@settings(max_examples=25, deadline=None)
@example(["0\r"])
@given(st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=4, unique=True))
def test_any_text_survives_a_sheet(tmp_path_factory: Any, texts: list[str]) -> None:
    folder = tmp_path_factory.mktemp("sheet")
    prompt = PROMPTS[0]
    usable = [t for t in texts if t.encode("utf-8", "ignore").decode() == t]
    responses = [response(prompt, n, text) for n, text in enumerate(usable)]
    if not responses:
        return
    for name in ("a.csv", "a.jsonl"):
        made = write_sheet(folder / name, [prompt], responses, SheetSettings("numerical"))
        assert read_answers([folder / name], made.key).annotators == ()
        assert {i.response for i in read_key(key_path(folder / name)).items} == set(responses)
        as_shown = _harmless if name.endswith(".csv") else str
        shown = {
            row.values["item"]: row.values["response"]
            for row in read_table(str(folder / name), Faults()).rows
        }
        assert shown == {i.item: as_shown(i.response.text) for i in made.key.items}
