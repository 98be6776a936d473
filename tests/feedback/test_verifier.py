"""The verifier as a feedback source: options, references of other checkers, counted reasons."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from alignlab.answers import AnswerOptions, check
from alignlab.answers.libraries import gym_reference, structured
from alignlab.errors import BadInput
from alignlab.feedback.specs import judge, pair_judge
from alignlab.types import Message, Preference, Prompt, Response, SampledBy, Score, Unscored


def prompt(reference: str | None, text: str = "How many?") -> Prompt:
    return Prompt("p", (Message("user", text),), reference=reference)


def response(text: str, finish: Any = "stop", key: str = "r") -> Response:
    return Response(key, "p", text, SampledBy("m"), finish=finish)


def source(spec: str) -> Any:
    return judge(spec, make_completer=lambda spec: None)  # type: ignore[arg-type,return-value]


def verdict(spec: str, text: str, reference: str | None, **kw: Any) -> Any:
    (one,) = source(spec).rate([(prompt(reference), [response(text, **kw)])], 0)
    return one.verdict, one.rationale


def test_scores_and_reasons() -> None:
    assert verdict("verifier", "It is 7.", "7") == (Score(1.0, (1.0,)), "answer: 7")
    assert verdict("verifier", "It is 8.", "7") == (Score(0.0, (0.0,)), "answer: 8")
    assert verdict("verifier", "No idea", "7") == (Score(0.0, (0.0,)), "no answer found")
    assert verdict("verifier,strict=true", "No idea", "7")[0] == Unscored("no answer found")
    for spec in ("verifier", "verifier,strict=true"):
        found = verdict(spec, "It is 7.", None)[0]
        assert found == Unscored("the prompt has no reference answer")


def test_a_response_that_was_cut_off_states_its_answer_only_in_closed_marks() -> None:
    assert (
        verdict("verifier", "So 3 + 4 = 7", "7", finish="length")[1] == "cut off before an answer"
    )
    assert verdict("verifier", "#### 1", "1", finish="length")[1] == "cut off before an answer"
    assert verdict("verifier", "\\boxed{7} and", "7", finish="length")[0] == Score(1.0, (1.0,))
    assert verdict("verifier", "#### 7\nBecause", "7", finish="length")[0] == Score(1.0, (1.0,))


def test_where_the_answer_is_read() -> None:
    assert verdict("verifier,extract=answer", "It is 7.", "7")[1] == "no answer found"
    assert verdict("verifier,extract=boxed", "Answer: 8, \\boxed{7}", "7")[0].value == 1
    assert verdict("verifier,extract=boxed", "Answer: 7", "7")[1] == "no answer found"
    assert verdict("verifier,extract=text", "Answer: 7 eggs", "7")[0].value == 0
    assert verdict("verifier,extract=number", "7 of 9", "9")[0].value == 1
    assert verdict("verifier,extract=choice", "(B)", "B")[0].value == 1
    spec = "verifier,extract=regex:total=(\\d+)"
    assert verdict(spec, "total=6, total=7, rest 8", "7")[0].value == 1
    assert verdict(spec, "sum=7", "7")[1] == "no answer found"


def test_tolerance_is_relative() -> None:
    assert verdict("verifier", "0.333", "1/3")[0].value == 0
    assert verdict("verifier,tolerance=0.01", "0.333", "1/3")[0].value == 1
    assert verdict("verifier,tolerance=0.01", "0.3", "1/3")[0].value == 0


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("verifier,extract=regex", "expected verifier,extract=regex:PATTERN"),
        ("verifier:abc", "expected verifier,extract=regex:PATTERN"),
        ("verifier,extract=regex:(", "expected a pattern"),
        ("verifier,extract=letter", "extract"),
        ("verifier,tolerance=0.1,extract=text", "tolerance: has no effect"),
        ("verifier,tolerance=-1", "tolerance"),
    ],
)
def test_bad_options_are_refused(spec: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        source(spec)


def test_pairs_by_outcome() -> None:
    compares = pair_judge("verifier", make_completer=lambda spec: None)  # type: ignore[arg-type,return-value]
    right, wrong = response("7", key="a"), response("8", key="b")
    items = [(prompt("7"), right, wrong), (prompt("7"), wrong, right), (prompt("7"), wrong, wrong)]
    found = [one.verdict for one in compares.compare(items, 0)]
    assert found == [Preference(0), Preference(1), Preference(None)]


def test_formulas_are_compared_by_math_verify() -> None:
    pytest.importorskip("math_verify")
    options = AnswerOptions(strict=True)
    assert check("So \\boxed{1+x^2}.", "$x^2+1$", "", options).score == 1
    assert check("The answer is $2\\sqrt{2}$", "$\\sqrt{8}$", "", options).score == 1
    assert check("The answer is $2\\sqrt{3}$", "$\\sqrt{8}$", "", options).score == 0
    assert check("\\boxed{(0,1)}", "$(0,1]$", "", options).score == 0
    assert check("I do not know.", "$x^2+1$", "", options).score is None


def test_instructions_are_checked_by_if_verifiable() -> None:
    pytest.importorskip("if_verifiable")
    names = ["punctuation:no_comma", "startend:end_checker"]
    given = {"instruction_id_list": names, "kwargs": [{}, {"end_phrase": "The end."}]}
    reference = json.dumps(given)
    assert check("It rained. The end.", reference, "Tell.").score == 1
    half = check("It rained, hard. The end.", reference, "Tell.")
    assert (half.score, half.reason) == (0, "1 of 2 instructions followed")
    assert check("", reference, "Tell.").score == 0
    for text in ("A `</think>` closes thoughts. The end.", "A '</think>"):
        known = check(text, json.dumps(given | {"kwargs": [{}, {"end_phrase": "The end."}]}))
        assert known.score == float(text.endswith("The end."))
    lacking = json.dumps({"instruction_id_list": ["keywords:frequency"], "kwargs": [{}]})
    found = check("No such word.", lacking, "Write.")
    reason = "instruction 'keywords:frequency' without its argument 'keyword'"
    assert (found.score, found.reason) == (None, reason)
    strange = json.dumps({"instruction_id_list": ["no:such"], "kwargs": [{}]})
    found = check("It rained.", strange, "Tell.")
    assert (found.score, found.reason) == (None, "unknown instruction 'no:such'")


def test_gym_tasks_are_scored_by_their_checkers() -> None:
    gym = pytest.importorskip("reasoning_gym")
    for task in ("chain_sum", "countdown", "arc_agi", "spell_backward"):
        data = gym.create_dataset(task, size=2, seed=1)
        for entry in data:
            reference = gym_reference(task, entry)
            assert structured(reference)
            answer = entry["answer"]
            asked = entry["question"]
            assert check(f"Let me see.\n<answer>{answer}</answer>", reference, asked).score == 1
            wrong = check("<answer>qwerty</answer>", reference, asked)
            assert wrong.score == pytest.approx(data.score_answer("qwerty", entry))
            assert wrong.score < 0.5
    assert check("", reference, asked).reason == "no answer found"


def test_a_missing_package_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "math_verify", None)
    with pytest.raises(BadInput, match=r"needs math-verify .*pip install 'alignlab\[verify\]'"):
        check("\\boxed{x}", "$x^2+1$")


@pytest.mark.parametrize(
    ("response", "score"),
    [
        ("12", 1.0),
        ("7 + 5 = 12.", 1.0),
        ("The answer to this arithmetic problem is 12.", 1.0),
        ("7 + 5 equals **12**.", 1.0),
        ("It makes $12.", 1.0),
        ("<answer>12</answer>", 1.0),
        ("7 + 5 = 12, so that the answer is 13.", 0.0),
        ("12 - 5 = 7", 0.0),
        ("The answer is 5. Then 12.", 0.0),
        ("I do not know.", 0.0),
    ],
)
def test_numbers_of_gym_tasks_are_read_from_sentences(response: str, score: float) -> None:
    pytest.importorskip("reasoning_gym")
    values = {"gym": "chain_sum", "answer": "12", "metadata": "{}"}
    found = check(response, json.dumps(values), "7 + 5 =")
    assert (found.score == 1) == (score == 1)
    cut = check("7 + 5 = 1", json.dumps(values), "7 + 5 =", finish="length")
    assert (cut.score, cut.reason) == (0.0, "cut off before an answer")


def test_markers_alone_are_read_of_gym_tasks_where_asked() -> None:
    pytest.importorskip("reasoning_gym")
    reference = json.dumps({"gym": "chain_sum", "answer": "12", "metadata": "{}"})
    markers = AnswerOptions(extract="answer")
    assert check("7 + 5 = 12.", reference, "7 + 5 =").score == 1
    assert check("7 + 5 = 12.", reference, "7 + 5 =", markers).score != 1
    assert check("So the answer is 12.", reference, "7 + 5 =", markers).score == 1


def test_answers_of_gym_tasks_that_are_no_numbers_are_read_whole() -> None:
    gym = pytest.importorskip("reasoning_gym")
    entry = next(
        e for e in gym.create_dataset("puzzle24", size=20, seed=2) if "/" in str(e["answer"])
    )
    found = check(str(entry["answer"]), gym_reference("puzzle24", entry), entry["question"])
    assert found.score == 1
