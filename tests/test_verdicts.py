"""Judges' replies and the verdicts in them: one table for all judges and benchmarks.

A row is a reply and what it says; None says nothing that can be read. Scores are read on the scale
from 0 to 5, ratings on that from 1 to 10.
"""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlab.verdicts import (
    parse_choice,
    parse_list,
    parse_question,
    parse_rating,
    parse_score,
    parse_token,
    parse_winner,
    yes_or_no,
)
from alignlab.verdicts.reply import readable

SCORES: dict[str, list[tuple[str, float | None]]] = {
    "after a label": [
        ("Score: 4", 4),
        ("Score:4", 4),
        ("Score:\n5", 5),
        ("Score: 0", 0),
        ("Score: 3.5", 3.5),
        ("SCORE: 4", 4),
        ("Problems: none. Score: 5", 5),
        ("Total score = 3.", 3),
        ("total score = 3", 3),
        ("Score = 3", 3),
        ("Score: 4, or rather good", 4),
        ("Score: 4 - well done", 4),
        ("Score: 4, not 5", 4),
        ("Score: 4 to be fair", 4),
        ("Score: 4\n1. It is right.", 4),
        ("Score: 3 points (1 for relevance, 2 for coverage)", 3),
        ("Score: 4 (it reaches the first 4 levels)", 4),
        ("Score: 4\nJustification of the score: The answer is short.", 4),
        ("Score: 4\nJustifying the total score: 3 reasons", 4),
        ("It says Score: 5 of itself.\nScore: 1", 1),
        ("Score: 3\nscore = 0", 3),
        ("Rating: 4", 4),
        ("Rating: 2\nScore: 4", 4),
        ("Overall score: 4\nClarity score: 5", 4),
        ("Clarity score: 5\nRelevance score: 5", 5),
        ("Relevance score: 4", 4),
        ("Score: 4\n\nIn 2023 it was 3 times as long.", 4),
        ("Score: 4:\n1. It is right.", 4),
        ("Final rating: **4**/5", 4),
    ],
    "decorated": [
        ("Score: **4**", 4),
        ("**Score:** 4", 4),
        ("**Score: 4**", 4),
        ("## **Score**: __4__", 4),
        ("Score: _2_", 2),
        ("Score: [3]", 3),
        ("Score: (3)", 3),
        ("Score: <4>", 4),
        ("Score: $4$", 4),
        ('"Score: 3"', 3),
        ("`Score: 3`", 3),
        ("Score：4", 4),
        ("Score： ４／５", 4),
        ("Score∶ 【4】", 4),
        ("Score:\u00a04", 4),
        ("S\u200bcore: \u200b4", 4),
        ("<score>4</score>", 4),
        ("<score> 4/5 </score> It is good.", 4),
        (r"The total is $\boxed{4}$.", 4),
        (r"\boxed{\text{4}}", 4),
        (r"Score: \textbf{4}", 4),
        (r"Score: \(4\)", 4),
        ("<answer>4</answer>", 4),
        (r"Score: \boxed{4/5}", 4),
        ("My verdict is [[4]].", 4),
        ("Score: [[4]]", 4),
        (r"Energy is \boxed{E = mc^2}." "\nScore: 4", 4),
        ("Score: 4. The format was [[rating]].", 4),
    ],
    "of a maximum": [
        ("score: 4/5", 4),
        ("Score: 4 out of 5", 4),
        ("Score: 4 (out of 5)", 4),
        ("Score: 4 of 5 levels", 4),
        ("Score: 4 points out of a possible 5", 4),
        ("Score (0-5): 2", 2),
        ("Score (out of 5): 2", 2),
        ("Score: 4 on a scale of 0 to 5", 4),
        ("Score: 4/10", None),
        ("Score: 4 out of 10", None),
        ("Score: 4 (out of 10)", None),
        ("Score: 4 points out of 10", None),
        ("Score: **4** / **10**", None),
        ("Score: 4 out of a maximum of 10", None),
        ("Score: 4 (max. 10)", None),
        ("Score: 4 von 10", None),
        ("Score: 4 in 10", None),
        ("Score: 4 of the 6 criteria", None),
        ("Score: 4 on a scale of 1 to 10", None),
        ("Score (0-10): 4", None),
        ("Score (out of 10): 4", None),
        ("Score: 4/five", None),
        ("Score: 4/5/3", None),
        ("Score: 4%", None),
        ("Score: 4 %", None),
        ("Score: 4 percent", None),
        ("Score: 80%", None),
        ("Score: 3 per cent", None),
        ("Score: 3 on a 10-point scale", None),
        ("Score: 3 on a 5-point scale", 3),
    ],
    "off the scale": [
        ("Score: 6", None),
        ("Score: 45", None),
        ("Score: -1", None),
        ("Score: −1", None),
        ("Score: 4,000", None),
        ("[[11]]", None),
        (r"\boxed{9}", None),
        ('{"score": 50}', None),
    ],
    "more than one number": [
        ("Score: 4-5", None),
        ("Score: 4 – 5", None),
        ("Score: 3~4", None),
        ("Score: 3 ~ 4", None),
        ("Score: 3..4", None),
        ("Score: 3…4", None),
        ("Score: 4 to 5", None),
        ("Score: 4 or 5", None),
        ("Score: 3 or maybe 4", None),
        ("Score: 3 and 4", None),
        ("Score: 3 (or 4)", None),
        ("Score: 3 (maybe 4)", None),
        ("Score: 3, possibly 4", None),
        ("Score: 3 but could be 4", None),
        ("Score: 3 & 4", None),
        ("Score: 3 | 4", None),
        ("Score: 3 vs. 4", None),
        ("Score: **3** or **4**", None),
        ("Score: (3) or (4)", None),
        ("Score: [3]-[4]", None),
        ("Score: 3/5 or 4/5", None),
        ("Score: 4, 5", None),
        ("Score: 4,5", None),
        ("Score: 3 4", None),
        ("Score: 3:4", None),
        ("Score: [4, 0, 3]", None),
        ("Score: 3 points for relevance and 4 for style", None),
        ("Score: 0 for a repetition; 1 for an answer", None),
        ("between 3 and 4", None),
        ("Clarity score: 5\nRelevance score: 2", None),
        ("4 or 5", None),
        ('{"score": 4} or {"score": [3, 4]}', None),
        ('[{"score": 4}, {"score": 2}]', None),
        ('{"first": {"score": 4}, "second": {"score": 2}}', None),
    ],
    "sums and other terms": [
        ("Score: 1+1+1 = 3", None),
        ("Score: 1 + 2", None),
        ("Score: 2*2", None),
        ("Score: 2 × 2", None),
        ("Score: 3 plus 1", None),
        ("Score: 3 ± 1", None),
        ("Score: 1 (relevance) + 1 (coverage) + 1 (answer) = 3", None),
        ("Score: 3 (good) or 4 (great)", None),
        ("Score: 2 (relevance), 3 (style)", None),
        ("Score: 5 minus 1", None),
        ("Score: 1 point for relevance + 1 point for style", None),
        ("Score: 4 (3 + 1)", 4),
        ("Score: 4 (80%)", 4),
        ("Score: 3 = 1 + 2", None),
        ("Score: 4+", None),
        ("Score: 4 or more", None),
        ("Score: < 4", None),
        ("Score: ~4", None),
        ("Score: 4-ish", None),
        ("Score: 4½", None),
        ("Score: 4 ½", None),
        ("Score: 4th", None),
        ("Score: 4.5.6", None),
        ("Score: 1e9", None),
    ],
    "taken back": [
        ("Score: 2 -> 3", None),
        ("Score: 2 → 3", None),
        ("Score: 4 (revised to 3)", None),
        ("Score: 4, revised down to 3", None),
        ("Score: 4\n(changed to 3 after a second look)", None),
        ("Score: 4. Actually, 3.", None),
        ("Score: 4... no, 3", None),
        ("Score: 4 - wait, make that 3", None),
        ("Score: 4 (3)", None),
        ("Score: 4 (was 3)", None),
        ("Score: 2, on reflection 3", None),
        ("Score: 2, now 3", None),
        ("Score: 4\nScore: unknown", None),
        ('Score: 4\n"score: <total points>"', None),
        ("Score: 4 (revised to 4 after a second look)", 4),
        ("Score: 2\nOn reflection:\nScore: 3", 3),
    ],
    "no verdict": [
        ("", None),
        ("Score:", None),
        ("Score: N", None),
        ("Score: N/A", None),
        ("Score: <total points>", None),
        ("Score: four", None),
        ("I would give it 4 points.", None),
        ("underscore: 4", None),
        ("sub-score: 4", None),
        ("nan", None),
        ("def rate():\n    score = 0", None),
        ("score += 1\nself.score = 2", None),
        ("[[ ]]", None),
        ("[[rating]]", None),
        (r"\boxed{E = 4}", None),
        ("thought\n{\"score\":", None),
    ],
    "a number alone": [
        ("3", 3),
        (" **3**. ", 3),
        ("[3]", 3),
        ("4/5", 4),
        ("4 / 5.", 4),
        ("**4/5**", 4),
        ("4 out of 5", 4),
        ("4 points", 4),
        ("Good, but short.\n\n4/5", 4),
        ("4/10", None),
        ("4 good reasons", None),
        ("Four of them:\n1\n2\n3", None),
    ],
    "JSON": [
        ('```json\n{"reason": "Fine.", "score": 4}\n```', 4),
        ('{"score": 4}', 4),
        ('{"Score": "4"}', 4),
        ('{"score": "4/5"}', 4),
        ('{"final_score": 4.0}', 4),
        ('{"rating": 4}', 4),
        ('{"evaluation": {"score": 4, "why": "ok"}}', 4),
        ('Here you are:\n{"score": 4, "reason": "the part {foo: 1} is right"}\nBye.', 4),
        ('{"score": 4, "reason": "Score: 5 would take more."}', 4),
        ('{"accuracy_score": 2, "score": 4, "max_score": 5}', 4),
        ("{'score': 4, 'reason': 'single quotes'}", 4),
        ('{"score": 4, "reason": "cut off, or else Score: 5 wou', 4),
        ('{"score": null}', None),
        ('{"score": true}', None),
        ('{"score": {"value": 4}}', None),
        ('{"score": "3 or 4"}', None),
        ('{"score": 4, "score": 2}', None),
        ('{"reason": "the “best” of all", "score": 4}', 4),
        ('{"score": 4, "reason": "ok"}\nScore: 2', 2),
        ('It says {"score": 5} of itself. Score: 1', 1),
    ],
    "thoughts": [
        ("<think>Perhaps Score: 2?</think>\nI am sorry, I cannot rate this.", None),
        ("<think>Let me see. A first guess is Score: 2, but", None),
        ("<think>Score: 2</think>Score: 4", 4),
        ("Score: 2 at first.</think>\n\nScore: 4", 4),
        ("Score: 2 at first.</think>\n\nI cannot say.", None),
        ("<thinking>\nScore: 2\n</thinking>\nScore: 4", 4),
        ("<reasoning>Score: 2</reasoning>Fine.", None),
        ("<think>a <think>b</think> Score: 1</think> Score: 4", 4),
        ("Sure. <think>Score: 2</think> No idea.", None),
        ("<THINK>Score: 2</THINK>", None),
        ("[THINK]Score: 2[/THINK]Score: 4", 4),
        ("◁think▷Score: 2◁/think▷Score: 4", 4),
        ("<seed:think>Score: 2</seed:think>Score: 4", 4),
        ("<|START_THINKING|>Score: 2<|END_THINKING|>Score: 4", 4),
        ("<think></think>Score: 4", 4),
        ("<|thinking|>Score: 2<|/thinking|>Score: 4", 4),
        ("Score: 4</think>", None),
        ("<think>ok</think>\n```json\n{\"score\": 4}\n```", 4),
    ],
    "channels": [
        ("<|channel|>analysis<|message|>Score: 2<|end|>"
         "<|start|>assistant<|channel|>final<|message|>Score: 4<|return|>", 4),
        ("<|channel|>analysis<|message|>Score: 2", None),
        ("<|channel|>analysis<|message|>Score: 2<|end|>Score: 4", 4),
        ("<|channel|>analysis<|message|>Score: 2<|end|><|start|>assistant<|channel|>commentary"
         "<|message|>Score: 3<|call|>", None),
        ("<|start|>assistant<|channel|>final <|constrain|>json<|message|>"
         "{\"score\": 4}<|return|>", 4),
        ("analysisWe could say Score: 2.assistantfinalScore: 4", 4),
        ("analysisWe could say Score: 2.", None),
        ("<|channel>thought\nScore: 2<channel|>Score: 4", 4),
    ],
    "markers of templates": [
        ("<s> Good.\nScore: 4</s>", 4),
        ("<|assistant|>\nGood.\nScore: 4", 4),
        ("<|im_start|>assistant\nScore: 4<|im_end|>", 4),
        ("<|start_header_id|>assistant<|end_header_id|>\n\nScore: 4<|eot_id|>", 4),
        ("<start_of_turn>model\nScore: 4<end_of_turn>", 4),
        ("[/INST] Score: 4</s>", 4),
        ("<|endoftext|>Score: 4<|endoftext|>", 4),
        ("<pad><pad><s>Score: 4", 4),
        ("<|im_start|>assistant<|im_sep|>Score: 4", 4),
        ("<|eot_id|><|start_header_id|>assistant<|end_header_id|>Score: 4", 4),
        ("<|im_end|>Score: 4", None),
        ("<|begin_of_text|><|start_header_id|>assistant<|end_header_id|>Score: 4", 4),
        ("<｜Assistant｜>Score: 4<｜end▁of▁sentence｜>", 4),
        ("<|im_start|>assistant\n<think>Score: 2</think>Score: 4", 4),
        ("Score: 4<|im_end|>\n<|im_start|>user\nScore: 1", 4),
        ("Score: 2</s>[INST] Score: 5", 2),
        ("<|im_start|>user\nScore: 5", None),
        ("<|im_start|>assistantship\nScore: 5", None),
        ("<|user|>\nScore: 5", None),
        ("[INST] Score: 5", None),
    ],
}  # fmt: skip
SCORE_ROWS = [(text, value) for rows in SCORES.values() for text, value in rows]


@pytest.mark.parametrize(("text", "value"), SCORE_ROWS)
def test_scores(text: str, value: float | None) -> None:
    assert parse_score(text, low=0, high=5) == value


@given(st.text())
def test_any_text_gives_a_score_on_the_scale_or_none(text: str) -> None:
    for tried in (text, f"Score: {text}", f"{text}Score: 3", f"{{{text}", f"<think>{text}"):
        value = parse_score(tried, low=1, high=5)
        assert value is None or 1 <= value <= 5
        parse_winner(tried)
        yes_or_no(tried)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Rating: [[7]]", 7),
        ("Rating: [[7.5]]", 7.5),
        ("Rating: [[ 7 ]]", 7),
        ("Rating: [[7/10]]", 7),
        ("[[3]] it said. Rating: [[7]]", 7),
        ("Rating: [[7]] in the form [[rating]]", 7),
        ("Rating: [7]", 7),
        ("Rating: 7", 7),
        ("Rating: [[7]] or [[8]]", None),
        ("Rating: [[7-8]]", None),
        ("Rating: [[11]]", None),
        ("Rating: [[0]]", None),
        ("Rating: [[ ]]", None),
        ("Rating: [[rating]]", None),
        ("The list x[3] is empty.", None),
        ("<think>Rating: [[3]]</think>I cannot rate this.", None),
        ("<think>Rating: [[3]]", None),
    ],
)
def test_ratings(text: str, value: float | None) -> None:
    assert parse_rating(text, low=1, high=10) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("Rating: [[7]]", 7),
        ("[[3]] it said. Rating: [[7]]", 3),
        ("[[rating]] is the form. Rating: [[7]]", 7),
        ("Rating: [7]", 7),
        ("The list x[3] is empty.", None),
        ("Rating: [[11]]", None),
        ("Rating: 7", None),
        ("<think>[[3]]</think>Rating: [[7]]", 7),
    ],
)
def test_ratings_by_the_official_rule(text: str, value: float | None) -> None:
    assert parse_rating(text, low=1, high=10, official=True) == value


WINNERS: list[tuple[str, str | None]] = [
    ("Better: A", "a"),
    ("better: **b**", "b"),
    ("Better: a", "a"),
    ("Better: a, because it is right", "a"),
    ("Better: A because it is right", "a"),
    ("Better: A is the one that is right", "a"),
    ("Better: A (by a little)", "a"),
    ("Better: A - it is right", "a"),
    ("Better: A > B", "a"),
    ("Better: A>B", "a"),
    ("Better: A, not B", "a"),
    ("Better: A provides more detail", "a"),
    ("**Better answer:** A", "a"),
    ("Verdict: A>>B", "a"),
    ("Better: A, but B is close", "a"),
    ("Better: [B].", "b"),
    ("Better: B by far", "b"),
    ("Better: B wrote the shorter one", "b"),
    ("Better：B", "b"),
    ("Better: Assistant A", "a"),
    ("Better: **Answer B**", "b"),
    ("Better: the response A", "a"),
    ("Better: Assistant A's answer", "a"),
    ("Better: answer_b", "b"),
    ("Better: $A$", "a"),
    ("Better: <answer_a>", "a"),
    ("Better: B\n\nWhat makes it better: a clear plan", "b"),
    ("Better: A\nno, wait\nBetter: B", "b"),
    ("It is short. Better: B", "b"),
    ("Winner: A", "a"),
    ("Verdict: B", "b"),
    ('{"better": "A"}', "a"),
    ('```json\n{"reason": "ok", "winner": "B"}\n```', "b"),
    ('{"winner": "A", "why": "too long to be clos', "a"),
    ("My final verdict is [[A]]", "a"),
    ("[[C]]", "tie"),
    ("[[B>>A]]", "b"),
    ("[[A=B]]", "tie"),
    ("[[A<B]]", "b"),
    (r"\boxed{B}", "b"),
    ("A", "a"),
    ("**B**", "b"),
    ("Assistant B.", "b"),
    ("**Better:** tie", "tie"),
    ("Better: a tie", "tie"),
    ("Better: A tie", "tie"),
    ("Better: it's a draw", "tie"),
    ("Better: a slight edge to B", "b"),
    ("<think>Better: A</think>Better: B", "b"),
    ("<|im_start|>assistant\nBetter: B<|im_end|>", "b"),
    ("<think>Better: A", None),
    ("I better: B", None),
    ("Better: A or B", None),
    ("Better: A/B", None),
    ("Better: A, B", None),
    ("Better: A & B", None),
    ("Better: A = B", None),
    ("Better: A and B", None),
    ("Better: A, tie", None),
    ("Better: A < B", None),
    ("Better: A-B", None),
    ("Better: A (tie?)", None),
    ("Better: A? B?", None),
    ("Better: A -> B", None),
    ("Better: A (revised to B)", None),
    ("Better: A. Actually, B.", None),
    ("Better: A... no, wait: B", None),
    ("Better: both", None),
    ("Better: neither", None),
    ("Better: not A", None),
    ("Better: A is not", None),
    ("Better: a clear plan", None),
    ("Better: A clear plan", None),
    ("Better: Albert", None),
    ("Better: None of the above", None),
    ("As a judge, I considered A.", None),
    ("Better: A\nBetter: ?", None),
    ("What would be better: a list", None),
    ("A is better", None),
    ("Answer B is better: a full list of steps.", None),
    ("A good question", None),
    ("[[A or B]]", None),
    ('{"winner": "A or B"}', None),
    ("", None),
]


@pytest.mark.parametrize(("text", "side"), WINNERS)
def test_winners(text: str, side: str | None) -> None:
    assert parse_winner(text) == side


@pytest.mark.parametrize(
    ("text", "choice"),
    [
        ("Relevant: yes", "yes"),
        ("relevant: **No**.", "no"),
        ("Relevant：yes", "yes"),
        ("Yes.", "yes"),
        ("yes, it is", "yes"),
        ("Relevant: yes\nRelevant: no", "no"),
        ('{"relevant": "no"}', "no"),
        ("Relevant: yes or no", None),
        ("Relevant: yes/no", None),
        ("Relevant: yes -> no", None),
        ("Relevant: yes (changed to no)", None),
        ("Relevant: perhaps", None),
        ("Relevant: yesterday", None),
        ("", None),
    ],
)
def test_choices(text: str, choice: str | None) -> None:
    assert parse_choice(text, "relevant", ("yes", "no")) == choice


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("Yes", True),
        ("No", False),
        ("**Yes**", True),
        ("no.", False),
        ("True.", True),
        ("FALSE", False),
        ("Yes, there is no doubt.", True),
        ("Yes - no part of it is off-topic.", True),
        ("Yes it does.", True),
        ("No. Yes would need a mention of the topic.", False),
        ("No, it does not.", False),
        ("No it does not.", False),
        ("True, and there is no error.", True),
        ("Answer: Yes (no doubt)", True),
        ("The answer is no: yes would be wrong.", False),
        ("The passages say so.\n\nYes", True),
        ('{"answer": "yes"}', True),
        ('{"supported": false}', False),
        ("<think>No...</think>Yes", True),
        ("<think>Yes. No. Yes", None),
        ("Hm, no... </think>\nYes", True),
        ("yes/no", None),
        ("yes or no", None),
        ("Yes and no.", None),
        ("Yes, but no.", None),
        ("Yes. No.", None),
        ("Yes\nNo", None),
        ("Yes... wait, actually no.", None),
        ("No part of it is off-topic.", None),
        ("There is no doubt.", None),
        ("I know nothing of it.", None),
        ("", None),
    ],
)
def test_yes_or_no(text: str, answer: bool | None) -> None:
    assert yes_or_no(text) is answer


@pytest.mark.parametrize(
    ("text", "token"),
    [("A", "A"), (" (B). ", "B"), ("**A**", "A"), ("Answer B", "B"), ("<think></think>A", "A"),
     ("a", None), ("A or B", None), ("A good one", None), ("", None), ("<think>A", None)],
)  # fmt: skip
def test_tokens(text: str, token: str | None) -> None:
    assert parse_token(text, ("A", "B")) == token


def test_tokens_keep_their_case() -> None:
    assert [parse_token(t, ("m", "M")) for t in ("m", "M", "Model m", "n")] == ["m", "M", "m", None]


def test_questions_and_lists() -> None:
    assert parse_question("Sure.\n**Question:** Why?\n<|im_end|>Question: No?") == "Why?"
    assert parse_question("<think>Question: Why?</think>Hm.") is None
    assert parse_question("Question: Why?\nQuestion: How?") == "How?"
    assert parse_list("<think>- a\n- b</think>Facts:\n- c\n* d\n2. e\n") == ["c", "d", "e"]
    assert parse_list("- none") == ["none"]
    assert parse_list("Nothing.") == []


def test_full_width_characters_are_read_as_plain_ones() -> None:
    wide, plain = (range(0xFF01, 0xFF5F), range(ord("!"), ord("~") + 1))
    assert readable("".join(map(chr, wide))) == "".join(map(chr, plain))


def test_a_rating_goes_before_a_score() -> None:
    for text in ("Score: 3\nRating: 7", "Rating: 7\nScore: 3"):
        assert parse_rating(text, low=1, high=10) == 7
