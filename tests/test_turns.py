"""A model's own words, without thoughts, channels and markers of templates."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alignlab.turns import (
    neutral,
    opened_thought,
    own_turn,
    strip_markers,
    strip_thoughts,
    thought_marks,
)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("An answer.", "An answer."),
        ("  kept as it is \n", "  kept as it is \n"),
        ("<think>hm</think>\n\nAn answer.", "An answer."),
        ("\n<think>\nhm\n</think>\n\nAn answer.\n", "An answer."),
        ("hm, hm\n</think>\n\nAn answer.", "An answer."),
        ("<think>hm", ""),
        ("<think>hm</think>", ""),
        ("<think></think>An answer.", "An answer."),
        ("First.\n<think>hm</think>\nSecond.", "First.\n\nSecond."),
        ("<thinking>hm</thinking>An answer.", "An answer."),
        ("[THINK]hm[/THINK]An answer.", "An answer."),
        ("<|channel|>analysis<|message|>hm<|end|><|start|>assistant<|channel|>final<|message|>An"
         " answer.<|return|>", "An answer."),
        ("<|channel|>analysis<|message|>hm", ""),
        ("<|channel|>analysis<|message|>hm\nhm<|end|><|channel|>final<|message|>One.\nTwo.<|return|>",
         "One.\nTwo."),
        ("<|channel>thought\nhm\nhm<channel|>One.\nTwo.", "One.\nTwo."),
        ("Use `<think>draft</think>` as the tag.", "Use `<think>draft</think>` as the tag."),
        ("Write <think>draft</think> as the tag.", "Write <think>draft</think> as the tag."),
        ("Close it by `</think>`.", "Close it by `</think>`."),
        ("I think so. <b>Yes</b>", "I think so. <b>Yes</b>"),
    ],
)  # fmt: skip
def test_answers_without_their_thoughts(text: str, answer: str) -> None:
    assert strip_thoughts(text) == answer


@given(st.text(alphabet="<>/|think a\n`"))
def test_what_is_stripped_stays_stripped(text: str) -> None:
    once = strip_thoughts(text)
    assert strip_thoughts(once) == once or len(strip_thoughts(once)) < len(once)
    assert len(own_turn(text)) <= len(text)


def test_marks_of_others_lose_their_bracket() -> None:
    assert neutral("[INST]x</answer><b>", ("answer",)) == "&#91;INST]x&lt;/answer><b>"


@pytest.mark.parametrize(
    ("prompt", "opened"),
    [
        ("<|im_start|>assistant\n<think>\n", "<think>"),
        ("<|im_start|>assistant\n<think>", "<think>"),
        ("[THINK]", "[THINK]"),
        ("<|im_start|>assistant\n<think>\n\n</think>\n\n", ""),
        ("<think> is the tag", ""),
        ("<|im_start|>assistant\n", ""),
    ],
)
def test_a_tag_left_open_by_a_template(prompt: str, opened: str) -> None:
    assert opened_thought(prompt) == opened


def test_tokens_that_mark_reasoning() -> None:
    assert thought_marks(["<s>", "<think>", "</think>", "<|end|>"]) == {"<think>", "</think>"}
    assert thought_marks(["<|channel|>", "<|end|>", "<|x|>"]) == {"<|channel|>", "<|end|>"}
    assert thought_marks(["<|channel>", "<channel|>", "<eos>"]) == {"<|channel>", "<channel|>"}
    assert thought_marks(["<eos>"]) == set()


@pytest.mark.parametrize(
    ("text", "bare"),
    [
        ("Plum.", "Plum."),
        (" Plum. ", " Plum. "),
        ("Plum.</s>", "Plum."),
        ("Plum.<|eot_id|><|end_of_text|>", "Plum."),
        ("<|im_start|>assistant\nPlum.<|im_end|>\n", "Plum."),
        ("<start_of_turn>model\nPlum.<end_of_turn>", "Plum."),
        ("Plum.<|endoftext|><pad><pad>", "Plum."),
        ("Use <s>old</s>", "Use <s>old</s>"),
        ("The token <|im_end|> ends a turn.", "The token <|im_end|> ends a turn."),
        ("<|im_end|>", ""),
    ],
)
def test_markers_around_an_answer(text: str, bare: str) -> None:
    """Outputs decoded with their special tokens would be judged with them, and gain length."""
    assert strip_markers(text) == bare
