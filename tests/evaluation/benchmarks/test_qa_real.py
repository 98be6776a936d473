"""`qa` on a real model: its answers are those of a plain loop, and bfloat16 costs no accuracy.

ALIGNLAB_MODELS=FOLDER ALIGNLAB_QUESTIONS=200 pytest -m heavy tests/.../test_qa_real.py -s

The plain loop draws one token a pass, which takes hours in float32; so all answers are read in one
pass each by the plain model, whose best token must be the answer's at every place, and the loop
itself is run for the first few questions and for answers that this does not settle.
ALIGNLAB_QA_OUT=FOLDER keeps the answers, and goes on from those that are there.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from alignlab.answers import check, reference_kind
from alignlab.api.evaluating import evaluate
from alignlab.data import load as load_data
from alignlab.models.load import load
from tests.conftest import shared_path

MODEL = os.environ.get("ALIGNLAB_QA_MODEL", "qwen2.5-coder-0.5b-instruct")
QUESTIONS = int(os.environ.get("ALIGNLAB_QUESTIONS", "200"))
TOKENS = int(os.environ.get("ALIGNLAB_QA_TOKENS", "256"))
LOOPED = 3
CLOSE = 1e-3
"""Margin of two log-probabilities, in nats, within which either token may come first."""


@pytest.mark.shared
def test_every_reference_of_gsm8k_is_read() -> None:
    read = 0
    for name in ("test.jsonl", "train.jsonl.gz"):
        for one in load_data(str(shared_path("data/gsm8k") / name)).demonstrations:
            reference = one.prompt.reference
            assert reference is not None
            answer = reference.rpartition("#### ")[2]
            assert reference_kind(reference) == "number"
            assert check(f"So it is {answer}.", reference, one.prompt.text).score == 1
            assert check(one.response.text, reference, one.prompt.text).score == 1
            other = f"The answer is {int(answer.replace(',', '')) + 1}."
            assert check(other, reference, one.prompt.text).score == 0
            read += 1
    assert read == 7473 + 1319


@pytest.fixture(scope="module")
def folder() -> str:
    models = os.environ.get("ALIGNLAB_MODELS")
    if not models or not (Path(models) / MODEL).exists():
        pytest.skip(f"needs ALIGNLAB_MODELS with {MODEL}")
    return str(Path(models) / MODEL)


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept = os.environ.get("ALIGNLAB_QA_OUT")
    return Path(kept) if kept else tmp_path_factory.mktemp("qa")


def run(folder: str, dtype: str, out: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the row of `qa`, and question -> answer."""
    data = f"gsm8k:{shared_path('data/gsm8k') / 'test.jsonl'}"
    found = evaluate(
        "qa", f"{dtype}=local:{folder}?dtype={dtype}", data=data, limit=QUESTIONS,
        max_tokens=TOKENS, out=out,
    )  # fmt: skip
    (file,) = out.glob("stages/*/responses.jsonl")
    answers = [json.loads(line) for line in file.read_text().splitlines()]
    return found.rows[0], {a["prompt_id"]: a["text"] for a in answers}


def asked(lm: Any, text: str) -> list[int]:
    """Return the tokens of a question as the chat template asks it."""
    chat = [{"role": "user", "content": text}]
    ids = lm.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
    return list(ids["input_ids"])


def ends_of(lm: Any) -> set[int]:
    ends = lm.model.generation_config.eos_token_id
    return set(ends if isinstance(ends, list) else [ends]) | {lm.tokenizer.eos_token_id}


def first_difference(lm: Any, prompt: str, answer: str) -> float | None:
    """Return the margin of the plain model's best two tokens where its best is not the answer's.

    None: the answer is greedy at every place, its end included.
    """
    before, after = asked(lm, prompt), lm.tokenizer.encode(answer, add_special_tokens=False)
    with torch.no_grad():
        logits = lm.model(torch.tensor([before + after])).logits[0, len(before) - 1 :].float()
    best = logits.log_softmax(-1).topk(2)
    wanted = [{token} for token in after] + [ends_of(lm)] * (len(after) < TOKENS)
    for place, tokens in enumerate(wanted):
        if int(best.indices[place, 0]) not in tokens:
            return float(best.values[place, 0] - best.values[place, 1])
    return None


def plain_loop(lm: Any, text: str) -> tuple[list[int], list[float]]:
    """Decode greedily, a token at a time; return ids and the margin of the best two log-probs."""
    step, past = torch.tensor([asked(lm, text)]), None
    tokens: list[int] = []
    margins: list[float] = []
    for _ in range(TOKENS):
        with torch.no_grad():
            out = lm.model(step, past_key_values=past, use_cache=True)
        best = out.logits[0, -1].float().log_softmax(-1).topk(2)
        tokens.append(int(best.indices[0]))
        margins.append(float(best.values[0] - best.values[1]))
        if tokens[-1] in ends_of(lm):
            break
        step, past = torch.tensor([[tokens[-1]]]), out.past_key_values
    return tokens, margins


def looped_difference(lm: Any, prompt: str, answer: str) -> float | None:
    """Return the margin at the first token of the plain loop that is not the answer's, or None."""
    tokens, margins = plain_loop(lm, prompt)
    if lm.tokenizer.decode(tokens, skip_special_tokens=True).strip() == answer.strip():
        return None
    first = next(
        n for n in range(len(tokens))
        if not answer.startswith(lm.tokenizer.decode(tokens[: n + 1]).rstrip("\ufffd"))
    )  # fmt: skip
    return margins[first]


@pytest.mark.heavy
@pytest.mark.shared
def test_greedy_answers_are_those_of_a_plain_loop(folder: str, out: Path) -> None:
    row, answers = run(folder, "float32", out / "float32")
    lm = load(folder, dtype="float32")
    data = load_data(f"gsm8k:{shared_path('data/gsm8k') / 'test.jsonl'}").demonstrations
    prompts = {one.prompt.id: one.prompt.text for one in data}
    differences: list[float] = []
    looped = 0
    for number, (key, text) in enumerate(answers.items()):
        margin = first_difference(lm, prompts[key], text)
        if number < LOOPED or (margin is not None and margin >= CLOSE):
            looped += 1
            margin = looped_difference(lm, prompts[key], text)
        if margin is not None:
            differences.append(margin)
    same = len(answers) - len(differences)
    print(
        f"float32: {same} of {len(answers)} the same, {looped} of them looped; "
        f"margins elsewhere {differences}; {row}"
    )
    assert len(answers) == QUESTIONS
    assert all(margin < CLOSE for margin in differences)


@pytest.mark.heavy
@pytest.mark.shared
def test_bfloat16_is_as_accurate(folder: str, out: Path) -> None:
    rows = {dtype: run(folder, dtype, out / dtype)[0] for dtype in ("float32", "bfloat16")}
    print({dtype: (row["accuracy"], row["cut_off"], row["n"]) for dtype, row in rows.items()})
    assert rows["bfloat16"]["accuracy"] == pytest.approx(rows["float32"]["accuracy"], abs=0.03)
