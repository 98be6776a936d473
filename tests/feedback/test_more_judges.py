"""Judges with a reference, principles, criteria, sentences; query types by a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from alignlab.errors import BadInput
from alignlab.feedback.criteria import DEFAULT, CriteriaJudge, Criterion, read_criteria
from alignlab.feedback.principles import drawn_principles, read_principles
from alignlab.feedback.query_types import JudgedTypes, query_types
from alignlab.feedback.sentences import SentenceJudge
from alignlab.feedback.specs import judge, rater
from alignlab.types import Score, Unscored
from tests.feedback.worlds import by, prompt, response, says

KNOWN = replace(prompt("p"), reference="It is Lima.")
ITEMS = [(KNOWN, [response("a", "Lima.")]), (prompt("q"), [response("b", "Rome.", of="q")])]


def _made(spec: str, engine):
    return judge(spec, make_completer=lambda rest: engine)


def test_a_reference_is_shown_and_needed() -> None:
    asked: list[str] = []

    def answer(text: str) -> str:
        asked.append(text)
        return "Score: 4"

    first, second = _made("reference,samples=1:x", by(answer)).rate(ITEMS, seed=0)
    assert first.verdict == Score(4.0, (4.0,))
    assert second.verdict == Unscored("the prompt has no reference answer")
    (text,) = asked
    assert "<reference>\nIt is Lima.\n</reference>" in text
    # The same prompt under `llm` asks no more and guesses no less.
    _, second = _made("llm,samples=1,prompt=reference:x", by(answer)).rate(ITEMS, seed=0)
    assert isinstance(second.verdict, Unscored)


def test_nobody_with_a_reference_is_no_call() -> None:
    def never(text: str) -> str:
        raise AssertionError

    (found,) = _made("reference:x", by(never)).rate(ITEMS[1:], seed=0)
    assert isinstance(found.verdict, Unscored)


def test_samples_keep_their_disagreement() -> None:
    found = _made("llm,samples=3:x", says("Score: 1", "Score: 3", "?")).rate(ITEMS, seed=0)
    verdict = found[0].verdict
    assert verdict == Score(2.0, (1.0, 3.0, None))
    assert verdict.spread == pytest.approx(2**0.5)
    assert Score(3.0, (3.0,)).spread is None
    assert Score(3.0).spread is None
    assert Score(3.0, (3.0, 3.0)).spread == 0


def test_principles_are_read_and_drawn(tmp_path: Path) -> None:
    file = tmp_path / "rules.txt"
    file.write_text("# ours\n\n- Be brief.\nBe kind.\nBe right.\n")
    rules = read_principles(file)
    assert rules == ["Be brief.", "Be kind.", "Be right."]
    shown = drawn_principles(rules)(prompt(), 0)
    assert shown == {"principles": "- Be brief.\n- Be kind.\n- Be right."}
    draws = {drawn_principles(rules, 1)(prompt(f"p{i}"), 0)["principles"] for i in range(30)}
    assert draws == {f"- {rule}" for rule in rules}
    assert drawn_principles(rules, 2)(prompt(), 5) == drawn_principles(rules, 2)(prompt(), 5)
    with pytest.raises(BadInput, match="count"):
        drawn_principles(rules, 4)
    with pytest.raises(BadInput, match="found no file"):
        _made("principles:x", says("x"))
    with pytest.raises(BadInput, match="expected a text file"):
        read_principles(tmp_path / "none.txt")

    def follows(text: str) -> str:
        return "Score: 5" if "- Be kind." in text else "Score: 0"

    (found, _) = _made(f"principles,samples=1,file={file}:x", by(follows)).rate(ITEMS, seed=0)
    assert found.verdict == Score(5.0, (5.0,))


def test_criteria_are_weighed_by_hand(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(
        "- {name: short, about: It is short., weight: 3}\n- {name: true, about: It is true.}\n"
    )
    with pytest.raises(BadInput, match="setting name"):
        read_criteria(file)  # YAML reads an unquoted true as no text
    file.write_text(
        "- {name: short, about: It is short., weight: 3}\n- {name: truth, about: It is true.}\n"
    )
    assert read_criteria(file)[1] == Criterion("truth", "It is true.", 1.0)

    def answer(text: str) -> str:
        return "Score: 5" if "It is short." in text else "Score: 1"

    (found, _) = _made(f"criteria,file={file}:x", by(answer)).rate(ITEMS, seed=0)
    assert found.verdict == Score((3 * 5 + 1) / 4, (5.0, 1.0))
    assert found.rationale == "short: 5; truth: 1"

    def half(text: str) -> str:
        return "Score: 5" if "It is short." in text else "hm"

    (found, _) = _made(f"criteria,file={file}:x", by(half)).rate(ITEMS, seed=0)
    assert found.verdict == Unscored("no readable score for truth")
    assert found.raw == ("Score: 5", "hm")


def test_criteria_that_make_no_sense() -> None:
    assert CriteriaJudge(says("Score: 3")).rate(ITEMS, seed=0)[0].verdict.value == 3
    for criteria in ((), (DEFAULT[0], DEFAULT[0]), (Criterion("x", "y", 0.0),)):
        with pytest.raises(BadInput, match="criteria"):
            CriteriaJudge(says("x"), criteria)


def test_relevant_sentences_by_hand() -> None:
    def answer(text: str) -> str | None:
        body = text.split("<sentence>")[1]
        if "silent" in body:
            return None
        return "Relevant: yes" if "Lima" in body else "Relevant: no"

    text = "Lima is big. I like tea. This is silent. Lima is old."
    items = [(prompt(), [response("a", text), response("b", "")])]
    first, second = SentenceJudge(by(answer)).rate(items, seed=0)
    assert first.verdict == Score(2 / 3, (1.0, 0.0, None, 1.0))
    assert first.rationale == "2 of 3 sentences relevant, 1 unread"
    assert second.verdict == Unscored("the response has no sentence")
    none = SentenceJudge(says("maybe")).rate(items, seed=0)[0]
    assert none.verdict == Unscored("no readable verdict on any sentence")


def test_query_types_by_a_model() -> None:
    def answer(text: str) -> str | None:
        return {"o": "Type: open", "c": "**Type:** closed", "?": "both"}.get(
            text.split("<question>\n")[1][0]
        )

    asked = [prompt(k, k) for k in ("o", "c", "?", "x")]
    found = query_types("llm:any", lambda spec: by(answer)).of(asked, seed=0)
    assert found[:2] == ["open", "closed"]
    assert found[2] == Unscored("no readable query type")
    assert "call failed" in found[3].reason
    assert JudgedTypes(by(answer)).of([], seed=0) == []
    with pytest.raises(BadInput, match="types=llm:any"):
        query_types("llm:any")


def test_any_source_rates() -> None:
    (first, second) = rater("pairwise:x", make_completer=lambda rest: says("Better: A")).rate(
        [(prompt(), [response("a", "x"), response("b", "y")])], 0
    )
    assert first.verdict == second.verdict == Score(0.5, (0.5,))
    assert rater("longer", make_completer=says).name == "longer"
