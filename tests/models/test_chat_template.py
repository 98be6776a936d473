from __future__ import annotations

from dataclasses import replace

from alignlab.models.chat_template import encode_prompt, encode_response, end_of_turn, stop_tokens
from alignlab.types import Message
from tests.models.helpers import tiny_lm, tiny_tokenizer

ASK = [Message("system", "Be kind."), Message("user", "Hi")]


def lm_with(template):
    return replace(tiny_lm(), tokenizer=tiny_tokenizer(template))


def test_prompt_ends_where_the_answer_starts():
    lm = tiny_lm()
    text = "".join(lm.tokenizer.convert_ids_to_tokens(encode_prompt(lm, ASK)))
    assert text == (
        "<|im_start|>system\nBe kind.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\n"
    )


def test_prefix_follows_the_prompt_as_tokens_of_its_own():
    lm = tiny_lm()
    prefix = encode_response(lm, "Score: ")[:-1]
    assert encode_prompt(lm, ASK, "Score: ") == encode_prompt(lm, ASK) + prefix


def test_response_ends_the_turn():
    lm = tiny_lm()
    tokens = lm.tokenizer.convert_ids_to_tokens(encode_response(lm, "Yo"))
    assert tokens == ["Y", "o", "<|im_end|>"]
    assert encode_response(lm, "") == [end_of_turn(lm)]
    assert stop_tokens(lm) == {end_of_turn(lm), lm.tokenizer.eos_token_id}


def test_beginning_of_sequence_comes_from_the_template_once():
    lm = lm_with("{{ bos_token }}{% for m in messages %}{{ m.content }}<|im_end|>{% endfor %}")
    ids = encode_prompt(lm, ASK)
    assert ids.count(lm.tokenizer.bos_token_id) == 1
    assert lm.tokenizer.bos_token_id not in encode_response(lm, "Yo")


def test_a_template_without_an_end_of_turn_token_uses_end_of_sequence():
    lm = lm_with("{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}")
    assert end_of_turn(lm) == lm.tokenizer.eos_token_id
