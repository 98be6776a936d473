"""Prompts with checkable answers: GSM8K, IFEval, and tasks of reasoning-gym."""

from __future__ import annotations

import json
import sys

import pytest

from alignlab.answers import check
from alignlab.data import load
from alignlab.errors import BadInput
from tests.data.conftest import Write

ROW = {"question": "3 and 4?", "answer": "3 + 4 = <<3+4=7>>7\n#### 7"}


def test_gsm8k_is_known_by_its_last_line(write: Write) -> None:
    corpus = load(str(write([ROW])))
    assert corpus.name == "gsm8k"
    (one,) = corpus.demonstrations
    assert one.response.text == one.prompt.reference == "3 + 4 = 7\n#### 7"
    assert one.prompt.query_type == "closed"
    assert corpus.counts[-1].changed == {"calculator annotations <<...>> left out": 1}
    assert check("It is 7.", one.prompt.reference).score == 1


def test_gsm8k_without_a_final_answer_is_refused(write: Write) -> None:
    path = str(write([ROW, {"question": "5?", "answer": "5"}]))
    with pytest.raises(BadInput, match=r"line 2, field 'answer': expected a solution that ends in"):
        load(path)


def test_ifeval(write: Write) -> None:
    row = {
        "key": 1, "prompt": "Write.", "instruction_id_list": ["punctuation:no_comma"],
        "kwargs": [{"num_words": None}],
    }  # fmt: skip
    (asked,) = load(str(write([row]))).prompts
    assert json.loads(asked.reference or "") == {
        "instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}],
    }  # fmt: skip
    with pytest.raises(BadInput, match="field 'kwargs': expected a list of 1 objects"):
        load(str(write([{**row, "kwargs": []}], "b.jsonl")))


def test_gym_items_are_those_of_their_seed() -> None:
    pytest.importorskip("reasoning_gym")
    corpus = load("gym:chain_sum?n=20&seed=3&max_terms=3")
    again = load("gym:chain_sum?n=20&seed=3&max_terms=3")
    assert corpus.prompts == again.prompts
    assert corpus.prompts != load("gym:chain_sum?n=20&seed=4&max_terms=3").prompts
    assert 1 <= len(corpus.prompts) <= 20
    assert sum(c.kept for c in corpus.counts) == len(corpus.prompts)
    one = corpus.prompts[0]
    assert one.source == "gym/chain_sum"
    answer = json.loads(one.reference or "")["answer"]
    assert check(f"<answer>{answer}</answer>", one.reference, one.text).score == 1
    split = load("gym:chain_sum?n=40&seed=3&test_share=0.5")
    assert split.prompts
    assert split.test_prompts
    assert not {p.id for p in split.prompts} & {p.id for p in split.test_prompts}


def test_gym_items_are_demonstrations_answered_by_their_key() -> None:
    pytest.importorskip("reasoning_gym")
    spec = "gym:chain_sum?n=40&seed=3&test_share=0.5&max_terms=2"
    without, some = load(spec), load(f"{spec}&demonstrations=5")
    assert some.test_prompts == without.test_prompts
    assert tuple(d.prompt for d in some.demonstrations) + some.prompts == without.prompts
    assert len(some.demonstrations) == 5
    for one in some.demonstrations:
        assert check(one.response.text, one.prompt.reference, one.prompt.text).score == 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            "gym:chain_sum?n=9&demonstrations=10",
            "expected at least demonstrations=10 training items, found 9",
        ),
        ("gym:chain_sum?demonstrations=-1", "demonstrations"),
        ("gym:game_of_life_halting?n=2&demonstrations=1&grid_size_x=0", "reasoning-gym refuses"),
        ("gym:chain_sun", "unknown gym task 'chain_sun'; did you mean 'chain_sum'"),
        ("gym:chain_sum?terms=3", "unknown setting of gym:chain_sum 'terms'; did you mean"),
        ("gym:chain_sum?n=0", "n"),
        ("gym:chain_sum?min_terms=0", "reasoning-gym refuses these settings"),
        ("gym:composite", "gym:composite: reasoning-gym refuses"),
    ],
)
def test_bad_gym_specs_are_refused(spec: str, message: str) -> None:
    pytest.importorskip("reasoning_gym")
    with pytest.raises(BadInput, match=message):
        load(spec)


def test_gym_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(BadInput, match=r"needs reasoning-gym .*'alignlab\[verify\]'"):
        load("gym:chain_sum?n=1")
