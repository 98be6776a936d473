"""Every reader of evaluation, each field of its rows replaced by values of other types."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alignlab.errors import BadInput
from alignlab.evaluation.annotation_files import (
    WEIGHT_COLUMNS,
    read_annotations,
    read_difficulty,
    read_gamed,
    read_weights,
)
from alignlab.evaluation.benchmarks.alpaca_eval_run import AlpacaEvalRun
from alignlab.evaluation.benchmarks.arena_hard import ArenaHard, judgement_rows
from alignlab.evaluation.benchmarks.factscore import FActScore
from alignlab.evaluation.benchmarks.mt_bench import OFFICIAL, MTBench
from alignlab.evaluation.benchmarks.relevant_sentences import RelevantSentences
from alignlab.evaluation.benchmarks.reward_bench import RewardBench
from alignlab.evaluation.benchmarks.rm_bench import RMBench
from alignlab.evaluation.benchmarks.super_ni import SuperNI
from alignlab.evaluation.benchmarks.synrel import SynRel
from alignlab.evaluation.benchmarks.tldr import TLDR
from alignlab.evaluation.benchmarks.toxigen import ToxiGen
from alignlab.evaluation.benchmarks.translation import Translation
from alignlab.evaluation.benchmarks.xstest import XSTest
from alignlab.evaluation.choice_tasks import items_of
from alignlab.evaluation.human_comparisons import human_rows
from alignlab.evaluation.judge_files import evaluate_judge_files, read_scores
from alignlab.evaluation.outputs import read_outputs
from alignlab.evaluation.question_files import fastchat_questions, fastchat_references
from alignlab.evaluation.retrieval import read_corpus
from alignlab.evaluation.tasks import Question
from alignlab.records import to_line
from alignlab.types import Message, Prompt
from tests.evaluation.asking import jsonl

HALF = "\ud83d"
"""Half of a character, which JSON may hold and no file of UTF-8."""
VALUES: tuple[Any, ...] = (
    None, 5, -1, 0.5, 10**400, math.nan, True, "x", "", " ", "[", "x\ny", HALF,
    [], ["x"], [None], [5], [[]], [HALF], {}, {"a": 1}, [{}], [{"a": 1}],
)  # fmt: skip
ASKED = [Question(Prompt(str(i), (Message("user", f"q{i}"),))) for i in range(2)]
STYLES = {"prompt": "p", "chosen": ["a", "b"], "rejected": ["c", "d"], "domain": "chat"}
ANNOTATION = {
    "instruction": "i", "output_1": "a", "output_2": "b", "generator_1": "base",
    "generator_2": "m", "annotator": "j", "preference": 1.5, "index": 3,
    "raw_completion": {
        "logprobs": {"content": [{"top_logprobs": [{"token": "m", "logprob": -0.1}]}]}
    },
}  # fmt: skip
GAMES = [{"score": "A>B", "judgment": {}}, {"score": "B>A"}]
COMPLETIONS = {"0": {"content": "c", "score": 4}, "1": {"content": "d", "score": 2}}
SCORED = {"prompt_id": "1", "prompt": "p", "completion": COMPLETIONS}
NI = {
    "Definition": ["Copy."], "Categories": ["Copying"],
    "Positive Examples": [{"input": "i", "output": "o"}],
    "Instances": [{"id": "t-1", "input": "x", "output": ["x"]}],
}  # fmt: skip


OTHERS = [{"subj": s, "paragraphs": [{"title": s, "text": "t"}]} for s in ("a", "b")]


def outputs(path: Path) -> Any:
    return read_outputs(path, ASKED)


CASES: dict[str, tuple[Callable[[Path], Any], dict[str, Any]]] = {
    "alpaca_eval": (
        AlpacaEvalRun().questions, {"instruction": "i", "input": "j", "output": "o", "dataset": "d"}
    ),
    "annotations": (read_annotations, ANNOTATION),
    "annotations by tokens": (lambda path: read_annotations(path, "tokens"), ANNOTATION),
    "difficulty": (read_difficulty, {"index": 0, "instruction_difficulty": 0.5}),
    "weights": (read_weights, {"model": "m", **dict.fromkeys(WEIGHT_COLUMNS, 0.1)}),
    "gamed": (
        read_gamed, {"preference": 0.1, "std_delta_len": 0.2, "instruction_difficulty": 0.3}
    ),
    "arena_hard": (ArenaHard().questions, {"uid": "u", "category": "c", "prompt": "p"}),
    "arena_hard judgements": (
        judgement_rows,
        {"uid": "u", "category": "c", "judge": "j", "model": "m", "baseline": "b", "games": GAMES},
    ),
    "human_eval": (
        human_rows,
        {"model_a": "a", "model_b": "b", "instance_id": 1, "evaluator": "e", "timestamp": "1",
         "preference": "tie", "completion_a_is_acceptable": "yes"},
    ),
    "judge_scores": (read_scores, SCORED),
    "judge_scores joined": (lambda path: evaluate_judge_files(path, path), SCORED),
    "turns": (
        lambda path: fastchat_questions(path, "b"),
        {"question_id": 1, "category": "c", "turns": [{"content": "a"}, {"content": "b"}]},
    ),
    "mt_bench": (MTBench().questions, {"question_id": 1, "category": "math", "turns": ["a", "b"]}),
    "references": (
        fastchat_references, {"question_id": 1, "choices": [{"turns": ["a", "b"]}]}
    ),
    "factscore": (
        lambda path: FActScore(corpus=path).questions(path),
        {"topic": "t", "prompt": "p", "category": "c", "title": "t", "text": "x y"},
    ),
    "corpus": (read_corpus, {"title": "Ann", "text": "Ann lives here."}),
    "relevant_sentences": (RelevantSentences().questions, {"prompt": "p", "id": 1}),
    "reward_bench": (
        RewardBench().questions,
        {"prompt": "p", "chosen": "a", "rejected": "b", "subset": "math-prm", "num_correct": 1},
    ),
    "reward_bench conversations": (
        RewardBench().questions,
        {"prompt": [{"role": "user", "content": "p"}], "subset": "Ties", "id": "ref:1",
         "chosen": [{"role": "assistant", "content": "a"}], "rejected": ["b", "c"]},
    ),
    "rm_bench": (RMBench().questions, STYLES),
    "super_ni": (lambda path: SuperNI().questions(path.with_suffix(".json")), NI),
    "synrel": (
        SynRel().questions,
        {"subj": "s", "prop": "p", "paragraphs": [{"title": "s", "text": "t"}]},
    ),
    "tldr": (TLDR().questions, {"context": "c", "ref_text": "r", "id": 1, "category": "d"}),
    "toxigen": (ToxiGen().questions, {"prompt": "p", "group": "g", "label": "hate"}),
    "translation": (Translation().questions, {"src": "s", "ref": ["r"], "id": "1"}),
    "xstest": (XSTest().questions, {"prompt": "p", "type": "homonyms", "label": "safe"}),
    "arc": (
        lambda path: items_of("arc_easy", path),
        {"id": "1", "question": "q", "answerKey": "A",
         "choices": {"text": ["x", "y"], "label": ["A", "B"]}},
    ),
    "hellaswag": (
        lambda path: items_of("hellaswag", path),
        {"ind": 1, "ctx_a": "a", "ctx_b": "b", "activity_label": "l", "endings": ["c", "d"],
         "label": "1"},
    ),
    "winogrande": (
        lambda path: items_of("winogrande", path),
        {"sentence": "a _ b", "option1": "x", "option2": "y", "answer": "1"},
    ),
    "outputs": (outputs, {"id": 0, "instruction": "q0", "input": "", "output": "a",
                          "generator": "m", "finish": "stop"}),
    "outputs of messages": (
        outputs,
        {"messages": [{"role": "user", "content": "q0"},
                      {"role": "assistant", "content": {"answer": "a"}}]},
    ),
    "outputs of choices": (outputs, {"question_id": 0, "choices": [{"turns": ["a"]}]}),
    "outputs of OpenAI": (
        outputs, {"id": "0", "choices": [{"message": {"content": "a"}, "finish_reason": "stop"}]}
    ),
    "outputs of a run": (outputs, {"prompt_id": "0", "text": "a", "sampler": {"model": "m"}}),
}  # fmt: skip


def places(value: Any, *above: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every value within a record."""
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    for key, one in inner:
        yield (*above, key)
        if isinstance(one, dict | list):
            yield from places(one, *above, key)


def changed(record: dict[str, Any], place: tuple[Any, ...], value: Any) -> dict[str, Any]:
    record = copy.deepcopy(record)
    holder: Any = record
    for key in place[:-1]:
        holder = holder[key]
    holder[place[-1]] = value
    return record


def told(read: Callable[[Path], Any], path: Path, case: str) -> Any:
    """What a reader returns, or the one line by which it refuses."""
    try:
        return read(path)
    except BadInput as error:
        line = str(error)
    except Exception as error:
        pytest.fail(f"{case}: {type(error).__name__}: {error}")
    assert line.isprintable(), case
    return line


@pytest.mark.parametrize("name", CASES)
def test_a_value_of_another_type_is_read_or_refused_in_one_line(tmp_path: Path, name: str) -> None:
    read, record = CASES[name]
    before = OTHERS if name == "synrel" else ()
    path = jsonl(tmp_path / "rows.jsonl", *before, record)
    path.with_suffix(".json").write_text(json.dumps(record))
    read(path)
    for place in places(record):
        for value in VALUES:
            row = changed(record, place, value)
            jsonl(path, *before, row)
            path.with_suffix(".json").write_text(json.dumps(row))
            found = told(read, path, f"{place} = {value!r}")
            if isinstance(found, list) and found and isinstance(found[0], Question):
                for question in found:
                    to_line(question).encode()


@pytest.mark.parametrize("text", ["5", "[5]", '["x"]', "[null]", "null", "[" * 100_000, '{"a": 1}'])
@pytest.mark.parametrize("name", CASES)
def test_files_of_something_else_are_refused_in_one_line(
    tmp_path: Path, name: str, text: str
) -> None:
    read, _ = CASES[name]
    path = tmp_path / "rows.jsonl"
    for file in (path, path.with_suffix(".json")):
        file.write_text(text)
    with pytest.raises(BadInput) as refused:
        read(path)
    assert str(refused.value).isprintable()


@pytest.mark.parametrize("field", ["name", "system_prompt", "prompt_template"])
def test_judge_prompts_are_refused_before_a_model_answers(tmp_path: Path, field: str) -> None:
    data = jsonl(tmp_path / "q.jsonl", {"question_id": 1, "category": "c", "turns": ["a", "b"]})
    rows = [
        {"name": name, "system_prompt": "s", "prompt_template": "{question} {answer}"}
        for name in OFFICIAL.values()
    ]
    prompts = tmp_path / "prompts.jsonl"
    assert MTBench(prompts=jsonl(prompts, *rows)).questions(data)
    for value in (5, True, [], ["x"], {"a": 1}, HALF):
        jsonl(prompts, *rows[:3], {**rows[3], field: value})
        with pytest.raises(BadInput, match=f"line 4, field '{field}': expected a text"):
            MTBench(prompts=prompts).questions(data)
    with pytest.raises(BadInput, match="expected the prompt 'single-v1'"):
        MTBench(prompts=jsonl(prompts, *rows[1:])).questions(data)
    jsonl(prompts, *rows)
    with pytest.raises(BadInput, match="line 5, field 'name': expected each once"):
        MTBench(prompts=jsonl(prompts, *rows, rows[0])).questions(data)


def test_one_key_has_one_row(tmp_path: Path) -> None:
    """Of two figures under one key neither is dropped."""
    for name in ("difficulty", "weights", "references"):
        read, record = CASES[name]
        with pytest.raises(
            BadInput, match=r"line 2, field '.*': expected each once, found .* line 1"
        ):
            read(jsonl(tmp_path / "rows.jsonl", record, record))
