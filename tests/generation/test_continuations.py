"""Log-probabilities of given texts, by hand and against the choices'."""

from __future__ import annotations

import math

import pytest
import torch

from alignlab.errors import BadInput
from alignlab.generation.local import LocalEngine
from alignlab.models.chat_template import encode_prompt, end_of_turn
from tests.generation.tiny import ask, tiny

LONG = "It is the town by the river. " * 4


def _by_hand(lm, condition: list[int], tokens: list[int]) -> float:
    with torch.no_grad():
        logps = lm.model(torch.tensor([condition + tokens])).logits[0].double().log_softmax(-1)
    return sum(float(logps[len(condition) + k - 1, t]) for k, t in enumerate(tokens))


def _ids(lm, text: str) -> list[int]:
    return list(lm.tokenizer(text, add_special_tokens=False)["input_ids"])


@pytest.mark.parametrize("kind", ["llama", "gemma2", "bloom"])
@pytest.mark.parametrize("ended", [False, True])
def test_by_hand(kind: str, ended: bool) -> None:
    lm = tiny(kind, spread=0.2)
    requests = [ask("a", "Hi"), ask("b", "What is the capital of the small country?")]
    texts = [["Hello", LONG], [LONG, "cat", "the mat"]]
    found = LocalEngine(lm).continuation_logprobs(
        requests, texts, end_of_turn=ended, token_budget=150
    )
    end = [end_of_turn(lm)] if ended else []
    for request, several, got in zip(requests, texts, found, strict=True):
        prompt = encode_prompt(lm, request.messages)
        want = [_by_hand(lm, prompt, _ids(lm, text) + end) for text in several]
        assert got == pytest.approx(want, abs=1e-3)


def test_prefix_and_text_meet_in_one_token() -> None:
    lm = tiny()
    request = ask("x", "Hi", prefix="Score: ")
    condition = encode_prompt(lm, request.messages) + _ids(lm, "Score:")
    ((four, words),) = LocalEngine(lm).continuation_logprobs([request], [["4", "4 of the cat"]])
    assert four == pytest.approx(_by_hand(lm, condition, _ids(lm, " 4")), abs=1e-4)
    assert words == pytest.approx(_by_hand(lm, condition, _ids(lm, " 4 of the cat")), abs=1e-4)
    choices = LocalEngine(lm).choice_logprobs([request], ["4", "5"])
    assert four == pytest.approx(choices[0][0], abs=1e-4)


def test_what_does_not_fit_is_nan_and_empty_texts_are_refused() -> None:
    engine = LocalEngine(tiny())
    far, near = engine.continuation_logprobs(
        [ask("a", "cat " * 300), ask("b", "Hi")], [["1", "2"], ["1"]]
    )
    assert all(math.isnan(x) for x in far)
    assert near[0] < 0
    for texts in ([[]], [["", "a"]]):
        with pytest.raises(BadInput, match="'b'"):
            engine.continuation_logprobs([ask("b", "Hi")], texts)
