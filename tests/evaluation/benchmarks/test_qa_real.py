"""`qa` on a real model: its answers are those of a plain loop, and bfloat16 costs no accuracy.

ALIGNLAB_MODELS=FOLDER ALIGNLAB_QUESTIONS=200 pytest -m heavy tests/.../test_qa_real.py -s
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


def plain_loop(lm: Any, text: str) -> tuple[list[int], list[float]]:
    """Decode greedily, a token at a time; return ids and the margin of the best two log-probs."""
    chat = [{"role": "user", "content": text}]
    ids = lm.tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=True)
    step, past = torch.tensor([ids["input_ids"]]), None
    tokens: list[int] = []
    margins: list[float] = []
    ends = lm.model.generation_config.eos_token_id
    ends = set(ends if isinstance(ends, list) else [ends]) | {lm.tokenizer.eos_token_id}
    for _ in range(TOKENS):
        with torch.no_grad():
            out = lm.model(step, past_key_values=past, use_cache=True)
        best = out.logits[0, -1].float().log_softmax(-1).topk(2)
        tokens.append(int(best.indices[0]))
        margins.append(float(best.values[0] - best.values[1]))
        if tokens[-1] in ends:
            break
        step, past = torch.tensor([[tokens[-1]]]), out.past_key_values
    return tokens, margins


@pytest.mark.heavy
@pytest.mark.shared
def test_greedy_answers_are_those_of_a_plain_loop(folder: str, tmp_path: Path) -> None:
    row, answers = run(folder, "float32", tmp_path / "float32")
    lm = load(folder, dtype="float32")
    asked = load_data(f"gsm8k:{shared_path('data/gsm8k') / 'test.jsonl'}").demonstrations
    prompts = {one.prompt.id: one.prompt.text for one in asked}
    same, close = 0, []
    for key, text in answers.items():
        tokens, margins = plain_loop(lm, prompts[key])
        whole = lm.tokenizer.decode(tokens, skip_special_tokens=True)
        if whole.strip() == text.strip():
            same += 1
            continue
        first = next(
            n for n in range(len(tokens))
            if not text.startswith(lm.tokenizer.decode(tokens[: n + 1]).rstrip("\ufffd"))
        )  # fmt: skip
        close.append(margins[first])
    print(f"float32: {same} of {len(answers)} the same; margins elsewhere {close}; {row}")
    assert len(answers) == QUESTIONS
    assert all(margin < 1e-3 for margin in close)


@pytest.mark.heavy
@pytest.mark.shared
def test_bfloat16_is_as_accurate(folder: str, tmp_path: Path) -> None:
    rows = {dtype: run(folder, dtype, tmp_path / dtype)[0] for dtype in ("float32", "bfloat16")}
    print({dtype: (row["accuracy"], row["cut_off"], row["n"]) for dtype, row in rows.items()})
    assert rows["bfloat16"]["accuracy"] == pytest.approx(rows["float32"]["accuracy"], abs=0.03)
