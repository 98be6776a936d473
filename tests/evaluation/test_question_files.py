"""Questions and answers in the layouts that benchmarks publish."""

import pytest

from alignlab.errors import BadInput
from alignlab.evaluation.benchmarks.alpaca_eval_run import AlpacaEvalRun
from alignlab.evaluation.outputs import read_outputs
from alignlab.evaluation.question_files import fastchat_questions, plain_questions
from tests.evaluation.asking import jsonl


def arena(key, answer, **more):
    turns = [{"role": "user", "content": "Q?"}, {"role": "assistant", "content": answer}]
    return {"uid": key, "ans_id": "z", "model": "m", "messages": turns, "tstamp": 1.0, **more}


def fastchat(key, *turns):
    choices = [{"index": 0, "turns": list(turns)}]
    return {"question_id": key, "answer_id": "z", "model_id": "m", "choices": choices}


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        # Arena-Hard's first release, its later layout, and FastChat's two.
        ({"question_id": "x", "turns": [{"content": "Q?"}]}, fastchat("x", {"content": "A"})),
        ({"uid": "x", "category": "c", "prompt": "Q?"}, arena("x", {"answer": "A"})),
        ({"uid": "x", "subcategory": "c", "prompt": "Q?"}, arena("x", "A", metadata={"n": 1})),
        ({"uid": "x", "prompt": "Q?"}, arena("x", {"thought": "A?", "answer": "A"})),
        ({"question_id": "x", "turns": ["Q?"]}, fastchat("x", "A")),
        ({"question_id": "x", "text": "Q?"}, {"question_id": "x", "model_id": "m", "text": "A"}),
    ],
)
def test_published_layouts_of_questions_and_answers(tmp_path, question, answer):
    questions = fastchat_questions(jsonl(tmp_path / "q.jsonl", question), "bench")
    assert questions[0].prompt.text == "Q?"
    found = read_outputs(jsonl(tmp_path / "a.jsonl", answer), questions)
    assert (found.model, found.turns["x"][0].text) == ("m", "A")


@pytest.mark.parametrize(
    ("row", "text"),
    [
        # Instructions with an input are one question (tatsu-lab/alpaca_eval#48).
        ({"instruction": "Add.", "input": "2, 2"}, "Add.\n\n2, 2"),
        ({"instruction": "Add.", "input": " "}, "Add."),
        ({"instruction": "Add.", "input": None}, "Add."),
        ({"prompt": "Say hello.", "input": "x"}, "Say hello."),
        ({"input": "Say hello."}, "Say hello."),
    ],
)
def test_an_input_belongs_to_its_instruction(tmp_path, row, text):
    file = jsonl(tmp_path / "q.jsonl", row)
    assert plain_questions(file, "bench")[0].prompt.text == text
    if "instruction" in row:
        assert AlpacaEvalRun().questions(file)[0].prompt.text == text


@pytest.mark.parametrize(("name", "form"), [("q.jsonl", "{}\n"), ("q.json", "[{}]")])
def test_a_key_given_twice_is_refused(tmp_path, name, form):
    (tmp_path / name).write_text(form.format('{"prompt": "Hi", "id": 1, "prompt": "Ho"}'))
    with pytest.raises(BadInput, match="found the key 'prompt' twice"):
        plain_questions(tmp_path / name, "bench")
