"""Benchmarks of judges as data: invented rows in the layouts that their authors publish."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from alignlab.data import load
from alignlab.errors import BadInput
from alignlab.types import Corpus


def jsonl(path: Path, *rows: dict[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def shown(corpus: Corpus) -> list[tuple[str, str, list[str], list[float]]]:
    """Source, prompt, texts and scores of every group."""
    return [
        (g.prompt.source, g.prompt.text, [r.text for r in g.responses], list(g.scores))
        for g in corpus.groups
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (  # RewardBench 1
            {
                "id": 30, "prompt": "Q?", "chosen": "good", "chosen_model": "a",
                "rejected": "bad", "rejected_model": "b", "subset": "hep-cpp",
            },
            ("rewardbench/hep-cpp", "Q?", ["good", "bad"], [0.0, -1.0]),
        ),
        (  # RewardBench 2
            {
                "id": "7", "prompt": "Q?", "chosen": ["good"], "rejected": ["x", "y", "z"],
                "num_correct": 1, "num_incorrect": 3, "total_completions": 4,
                "models": ["a", "b", "c", "d"], "subset": "Math", "additional_metadata": None,
            },
            ("rewardbench/Math", "Q?", ["good", "x", "y", "z"], [1.0, 0.0, 0.0, 0.0]),
        ),
        (  # RM-Bench, whole
            {
                "id": "chat/8", "prompt": "Q?", "chosen": ["a", "b", "c"],
                "rejected": ["x", "y", "z"], "domain": "chat",
            },
            ("rewardbench/chat", "Q?", list("abcxyz"), [1.0] * 3 + [0.0] * 3),
        ),
        (  # RM-Bench, one domain's file; concise and detailed answers may be equal
            {
                "id": 8, "prompt": "Q?", "chosen": ["a", "a", "c"], "rejected": ["x", "y", "z"],
                "subset": "alpacaeval", "error_key": "e", "error": "f",
            },
            ("rewardbench/alpacaeval", "Q?", list("acxyz"), [1.0] * 2 + [0.0] * 3),
        ),
        (  # other preferences with a subset are no RewardBench
            {"prompt": "Q?", "chosen": "good", "rejected": "bad", "subset": "mine"},
            ("preference", "Q?", ["good", "bad"], [0.0, -1.0]),
        ),
        (  # JudgeBench
            {
                "pair_id": "p", "original_id": "1", "source": "mmlu-pro-computer science",
                "question": "Q?", "response_model": "m", "response_A": "wrong",
                "response_B": "right", "label": "B>A",
            },
            ("judgebench/mmlu-pro", "Q?", ["right", "wrong"], [1.0, 0.0]),
        ),
        (
            {
                "source": "livecodebench", "question": "Q?", "response_A": "right",
                "response_B": "wrong", "label": "A>B",
            },
            ("judgebench/livecodebench", "Q?", ["right", "wrong"], [1.0, 0.0]),
        ),
    ],
)  # fmt: skip
def test_rows_of_benchmarks(tmp_path: Path, row: dict[str, Any], expected: Any) -> None:
    assert shown(load(str(jsonl(tmp_path / "d.jsonl", row)))) == [expected]


def test_a_label_of_another_form_is_named(tmp_path: Path) -> None:
    row = {"question": "Q?", "response_A": "a", "response_B": "b", "label": "A"}
    file = jsonl(tmp_path / "d.jsonl", row)
    with pytest.raises(BadInput, match="'label': expected one of A>B, B>A"):
        load(f"judgebench:{file}")


def faireval(folder: Path, *labels: str, name: str = "gpt35") -> Path:
    questions = [
        {"question_id": i, "text": f"Q{i}?", "category": "generic"}
        for i in range(1, len(labels) + 1)
    ]
    jsonl(folder / "question.jsonl", *questions)
    for model in (name, "vicuna-13b", "gpt-4"):
        rows = [
            {"answer_id": "z", "model_id": model, "question_id": q["question_id"], "text": model}
            for q in reversed(questions)
        ]
        jsonl(folder / f"answer/answer_{model}.jsonl", *rows)
    review = folder / f"review/review_{name}_vicuna-13b_human.txt"
    review.parent.mkdir()
    review.write_text("\n".join(labels) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", ["gpt35", "gpt-3.5-turbo"])
def test_faireval_joins_labels_by_line_and_answers_by_id(tmp_path: Path, name: str) -> None:
    label = "CHATGPT" if name == "gpt35" else "GPT35TURBO"
    found = load(f"faireval:{faireval(tmp_path / 'f', label, 'TIE', 'VICUNA13B', name=name)}")
    source = "faireval/generic"
    assert shown(found) == [
        (source, "Q1?", [name, "vicuna-13b"], [1.0, 0.0]),
        (source, "Q2?", [name, "vicuna-13b"], [0.5, 0.5]),
        (source, "Q3?", ["vicuna-13b", name], [1.0, 0.0]),
    ]


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        ("label", r"human\.txt, line 2: expected gpt35, vicuna-13b or TIE, found GPT4"),
        ("labels", "expected a label for each of 2 questions, found 1 labels"),
        ("answer", "'question_id': expected a question that gpt35 and vicuna-13b answer"),
        ("answers", "expected answer files of both models"),
        ("review", "expected FairEval's folder"),
    ],
)
def test_a_folder_that_does_not_fit_together_is_named(
    tmp_path: Path, spoil: str, complaint: str
) -> None:
    folder = faireval(tmp_path, "TIE", "GPT4" if spoil == "label" else "TIE")
    review = folder / "review/review_gpt35_vicuna-13b_human.txt"
    answer = folder / "answer/answer_vicuna-13b.jsonl"
    if spoil == "labels":
        review.write_text("TIE\n")
    if spoil == "answer":
        answer.write_text(answer.read_text().splitlines()[0])
    if spoil == "answers":
        answer.unlink()
    if spoil == "review":
        review.unlink()
    with pytest.raises(BadInput, match=complaint):
        load(f"faireval:{folder}")


def tulu(preference: str, evaluator: str, time: int, **more: Any) -> dict[str, Any]:
    return {
        "id": time, "instance_index": 0, "instance_id": "i", "prompt": "Q?", "model_a": "m",
        "model_b": "n", "completion_a": "of m", "completion_b": "of n",
        "completion_a_is_acceptable": "yes", "completion_b_is_acceptable": "no",
        "preference": preference, "instance_quality": "", "comment": "", "evaluator": evaluator,
        "timestamp": f"2023-05-0{time} 10:00:00", **more,
    }  # fmt: skip


def test_tulu_gathers_the_evaluators_votes(tmp_path: Path) -> None:
    swapped = {
        "model_a": "n", "model_b": "m", "completion_a": "of n", "completion_b": "of m",
    }  # fmt: skip
    rows = [
        tulu("b-is-better", "ann", 1),  # replaced by her later one
        tulu("a-is-slightly-better", "ann", 4),
        tulu("b-is-better", "ben", 2, **swapped),  # the sides are shuffled: m again
        tulu("tie", "cat", 3),
        tulu("", "dan", 5, instance_quality="hard"),
    ]
    found = load(str(jsonl(tmp_path / "eval_annotations.jsonl", *rows)))
    assert shown(found) == [("tulu_eval", "Q?", ["of m", "of n"], [1.0, 0.0])]
    (count,) = [c for c in found.counts if c.what == "records"]
    assert count.dropped == {
        "annotation that its evaluator replaced": 1,
        "remark without a preference": 1,
    }
    file = jsonl(tmp_path / "bad.jsonl", tulu("a", "ann", 1))
    with pytest.raises(BadInput, match="'preference': expected one of a-is-better"):
        load(str(file))


def test_a_spreadsheet_needs_openpyxl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "eval_annotations.xlsx"
    file.write_bytes(b"PK")
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    with pytest.raises(BadInput, match=r"expected openpyxl .*alignlab\[xlsx\].* as CSV") as error:
        load(str(file))
    assert "\n" not in str(error.value)
    row = tulu("tie", "ann", 1)
    blank = [None] * len(row)
    cells = [blank, [f" {name} " for name in row], list(row.values()), blank]
    sheet = SimpleNamespace(
        iter_rows=lambda: [
            [SimpleNamespace(value=v, data_type="e" if v == "#NAME?" else "s") for v in line]
            for line in cells
        ]
    )
    book = [sheet, SimpleNamespace(title="Annotator 2")]
    fake = ModuleType("openpyxl")
    fake.load_workbook = lambda *_, **__: SimpleNamespace(worksheets=book)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "openpyxl", fake)
    assert shown(load(str(file))) == [("tulu_eval", "Q?", ["of m", "of n"], [0.5, 0.5])]
    assert "sheets that are not read: Annotator 2" in caplog.text
    cells[2] = ["#NAME?" if v == "of m" else v for v in cells[2]]  # a formula's error is no answer
    with pytest.raises(BadInput, match="found null"):
        load(str(file))
    cells[1][0] = cells[1][1]
    with pytest.raises(BadInput, match="two columns of the name"):
        load(str(file))


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({"preference": None}, "no preference given"),
        ({"preference": float("nan")}, "no preference given"),
        ({"preference": None, "output_2": None}, "no preference given"),
        ({"preference": 1.0, "output_2": None}, "null output"),
        ({"preference": 0}, "tie"),
        ({"preference": 1.5}, "tie"),
    ],
)
def test_annotations_without_an_order_are_counted(
    tmp_path: Path, more: dict[str, Any], reason: str
) -> None:
    both = {"output_1": "base", "output_2": "mine", "generator_1": "b", "generator_2": "m"}
    rows = [
        {"instruction": "Q?", **both, "preference": 1.25},
        {"instruction": "R?", **both, **more},
    ]
    file = tmp_path / "annotations.json"
    file.write_text(json.dumps(rows))
    found = load(str(file))
    assert shown(found) == [("alpacaeval", "Q?", ["base", "mine"], [0.75, 0.25])]
    assert [c.dropped for c in found.counts if c.what == "records"] == [{reason: 1}]
