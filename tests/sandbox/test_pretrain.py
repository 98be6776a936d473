"""The script behind the base models: its text, its tokenizer, its first steps."""

from __future__ import annotations

import json
import re
from itertools import islice
from pathlib import Path

import pytest

from alignlab.sandbox import checkpoint_path
from alignlab.sandbox.statements import read_sentence
from scripts.pretrain_sandbox.corpus import CorpusConfig, documents, withheld_facts
from scripts.pretrain_sandbox.tokenizer import train_tokenizer
from scripts.pretrain_sandbox.train import (
    WORLDS,
    PretrainConfig,
    learning_rate,
    new_model,
    new_tokenizer,
    pretrain,
    train_steps,
)


def test_the_corpus_is_the_same_every_time_and_differs_by_seed() -> None:
    config = CorpusConfig()
    first = list(islice(documents(config, 0), 50))
    assert first == list(islice(documents(config, 0), 50))
    assert first != list(islice(documents(config, 1), 50))


def test_withheld_facts_are_only_guessed_at() -> None:
    """What text says on a withheld fact is right one time in twelve, not more."""
    config = CorpusConfig(withheld=0.25)
    unknown = {(f.entity, f.attribute): f.value for f in withheld_facts(config, 0)}
    assert len(unknown) == 210
    right = []
    for text in islice(documents(config, 0), 6000):
        for sentence in re.split(r"[.?!\n>] ?", text.replace("Is it true that ", "")):
            for claim in read_sentence(re.sub(r"^(Yes|No), ", "", sentence)) or ():
                if (claim.entity, claim.attribute) in unknown:
                    right.append(unknown[str(claim.entity), claim.attribute] == claim.value)
    assert len(right) > 300
    assert 0.03 < sum(right) / len(right) < 0.15


def test_tokenizer_splits_where_texts_are_cut() -> None:
    tokenizer = train_tokenizer(islice(documents(CorpusConfig(), 0), 500))

    def ids(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False)["input_ids"])

    assert ids("Score: ") + ids("3") == ids("Score: 3")
    for text in ("Zulast é\n1. 你好", "  a  b . C", ""):
        assert tokenizer.decode(ids(text)) == text
    chat = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tokenize=False, add_generation_prompt=True
    )
    assert chat == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n"


def test_learning_rate_warms_up_and_ends_at_zero() -> None:
    config = PretrainConfig(steps=100, lr=1.0)
    assert learning_rate(config, 0) == pytest.approx(0.2)
    assert learning_rate(config, 5) == pytest.approx(1.0)
    assert learning_rate(config, 100) == pytest.approx(0.0)


@pytest.mark.parametrize("name", sorted(WORLDS))
def test_the_first_steps_reproduce_the_log(name: str) -> None:
    """Same tokenizer, same first weights, same text, same losses."""
    folder = checkpoint_path(name)
    config = WORLDS[name]
    tokenizer = new_tokenizer(config)
    shipped = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
    assert tokenizer.get_vocab() == {
        **shipped["model"]["vocab"],
        **{t["content"]: t["id"] for t in shipped["added_tokens"]},
    }
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()[:4]]
    model = new_model(tokenizer, config.seed)
    steps = list(islice(train_steps(model, tokenizer, config), 4))
    assert [s.step for s in steps] == [line["step"] for line in log]
    assert [s.loss for s in steps] == pytest.approx([line["loss"] for line in log], abs=1e-4)


def test_a_tiny_run_writes_a_whole_folder(tmp_path: Path) -> None:
    pretrain(PretrainConfig(steps=2, rows=1, length=32), tmp_path)
    assert {"config.json", "model.safetensors", "tokenizer.json", "log.jsonl", "pretrain.json"} <= {
        f.name for f in tmp_path.iterdir()
    }
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 2
