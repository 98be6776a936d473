from __future__ import annotations

import pytest

from alignlab.data.rows import Row
from alignlab.errors import BadInput


def row(**values: object) -> Row:
    return Row("f.jsonl", 7, values)


def test_complaints_name_file_line_and_field() -> None:
    with pytest.raises(BadInput) as caught:
        row(chosen="x", rejected="y").text("prompt")
    assert str(caught.value) == (
        "f.jsonl, line 7, field 'prompt': expected text, "
        "found no such field (fields: chosen, rejected)"
    )
    with pytest.raises(BadInput, match="expected text, found null"):
        row(prompt=None).text("prompt")
    with pytest.raises(BadInput, match="expected text, found 3"):
        row(prompt=3).text("prompt")


def test_nested_complaints_name_the_place() -> None:
    with pytest.raises(BadInput, match=r"field 'responses\[1\].text': expected text, found 5"):
        row(responses=[{"text": "a"}, {"text": 5}]).rows("responses")[1].text("text")
    with pytest.raises(BadInput, match=r"field 'responses\[0\]': expected an object, found 'a'"):
        row(responses=["a"]).rows("responses")
    with pytest.raises(BadInput, match="expected an object, found no such field"):
        row().row("info")


@pytest.mark.parametrize(("value", "number"), [(1, 1.0), (0.5, 0.5), ("2.5", 2.5), ("-1", -1.0)])
def test_numbers(value: object, number: float) -> None:
    assert row(x=value).number("x") == number


@pytest.mark.parametrize("value", [True, "a", None, float("nan"), float("inf"), "nan", [1]])
def test_not_numbers(value: object) -> None:
    with pytest.raises(BadInput, match="a finite number"):
        row(x=value).number("x")


def test_whole_numbers() -> None:
    assert row(x=1).whole("x", range(2)) == 1
    assert row(x="0").whole("x", range(2)) == 0
    assert row(x=1.0).whole("x", range(2)) == 1
    for value in (2, 0.5, True, None):
        with pytest.raises(BadInput):
            row(x=value).whole("x", range(2))


@pytest.mark.parametrize("value", [True, 1, "true", "True", " 1 "])
def test_true(value: object) -> None:
    assert row(x=value).truth("x") is True


@pytest.mark.parametrize("value", [False, 0, "false", "FALSE", "0"])
def test_false(value: object) -> None:
    assert row(x=value).truth("x") is False


@pytest.mark.parametrize("value", [None, 2, "yes", -1, []])
def test_neither_true_nor_false(value: object) -> None:
    with pytest.raises(BadInput, match="true or false"):
        row(x=value).truth("x")


def test_structures_in_text_as_csv_has_them() -> None:
    assert row(x='["a", "b"]').texts("x") == ["a", "b"]
    assert row(x='{"a": "b"}').row("x").text("a") == "b"
    with pytest.raises(BadInput, match="a list"):
        row(x="[broken").items("x")
    with pytest.raises(BadInput, match="a list of texts"):
        row(x=["a", 1]).texts("x")
