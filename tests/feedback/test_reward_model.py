"""Reward models as sources: the classifier's own value, groups or not, and what does not fit."""

import shutil

import pytest
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from alignlab.errors import BadInput
from alignlab.feedback.specs import judge, pair_judge
from alignlab.models.chat_template import encode_prompt, encode_response
from alignlab.models.load import load
from alignlab.types import Message, Prompt, Score, Unscored
from tests.feedback import reward_folders
from tests.feedback.worlds import prompt, response, says
from tests.models.helpers import tiny_lm


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    base = tmp_path_factory.mktemp("rewards")
    made = {"chat": reward_folders.reward_model, "pair": reward_folders.encoder}
    return {name: make(base / name) for name, make in made.items()}


def rate(spec, items):
    return judge(str(spec), make_completer=lambda s: says("x")).rate(items, seed=0)


def items(*texts):
    return [(prompt("p"), [response(str(i), t) for i, t in enumerate(texts)])]


def value(feedback):
    assert isinstance(feedback.verdict, Score)
    return feedback.verdict.value


def test_the_reward_is_the_classifiers_value_at_the_end_of_turn(folders):
    found = rate(f"reward_model:{folders['chat']}", items("yes", "a longer answer"))
    lm = load(folders["chat"], model_class=AutoModelForSequenceClassification)
    for feedback, text in zip(found, ("yes", "a longer answer"), strict=True):
        tokens = encode_prompt(lm, prompt().messages) + encode_response(lm, text)
        with torch.no_grad():
            wanted = float(lm.model(torch.tensor([tokens])).logits[0, 0])
        assert value(feedback) == pytest.approx(wanted, abs=1e-4)


def test_the_end_of_the_template_is_what_it_writes_after_an_answer(folders, tmp_path):
    """Reward models of others are scored at whatever their template writes last."""
    folder = shutil.copytree(folders["chat"], tmp_path / "chat")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = tiny_lm().tokenizer.chat_template  # it ends turns with a line break
    tokenizer.save_pretrained(folder)
    (found,) = rate(f"reward_model:{folder}?end=template", items("yes"))
    lm = load(folder, model_class=AutoModelForSequenceClassification)
    turns = [{"role": "user", "content": prompt().text}, {"role": "assistant", "content": "yes"}]
    tokens = lm.tokenizer(lm.tokenizer.apply_chat_template(turns, tokenize=False))["input_ids"]
    with torch.no_grad():
        wanted = float(lm.model(torch.tensor([tokens])).logits[0, 0])
    assert value(found) == pytest.approx(wanted, abs=1e-4)
    (turn,) = rate(f"reward_model:{folder}", items("yes"))
    assert value(turn) != value(found)


def test_a_pair_of_texts_is_read_as_transformers_reads_it(folders):
    long = "x" * 100
    found = rate(f"reward_model:{folders['pair']}", items("yes", "quite a long answer", "no", long))
    tokenizer = AutoTokenizer.from_pretrained(folders["pair"])
    model = AutoModelForSequenceClassification.from_pretrained(folders["pair"]).eval()
    for feedback, text in zip(found, ("yes", "quite a long answer", "no"), strict=False):
        with torch.no_grad():
            tokens = tokenizer(prompt().text, text, return_tensors="pt")
            wanted = float(model(**tokens).logits[0, 0])
        assert value(feedback) == pytest.approx(wanted, abs=1e-4)
    assert found[3].verdict == Unscored("longer than 64 tokens")


def test_responses_do_not_depend_on_their_company(folders):
    asked = [
        (prompt("p"), [response("1", "one"), response("2", "two, and more of it")]),
        (Prompt("q", (Message("user", "Why?"), Message("assistant", "So."), Message("user", "Hm"))),
         [response("3", "three", of="q")]),
        (prompt("p"), [response("4", "four")]),
    ]  # fmt: skip
    for folder in folders.values():
        spec = f"reward_model:{folder}"
        together = rate(spec, asked)
        alone = [rate(spec, [(p, [r])])[0] for p, several in asked for r in several]
        assert [f.response_ids for f in together] == [("1",), ("2",), ("3",), ("4",)]
        for one, other in zip(together, alone, strict=True):
            assert value(one) == pytest.approx(value(other), abs=1e-4)


def test_what_is_too_long_is_unscored_and_the_rest_is_not(folders):
    found = rate(f"reward_model:{folders['chat']}?max_tokens=80", items("yes", "x" * 90, "no"))
    assert [isinstance(f.verdict, Score) for f in found] == [True, False, True]
    assert found[1].verdict == Unscored("longer than 80 tokens")
    (beyond,) = rate(f"reward_model:{folders['chat']}", items("x" * 300))
    assert beyond.verdict == Unscored("longer than 256 tokens")


def test_it_judges_pairs_by_its_scores(folders):
    made = pair_judge(f"reward_model:{folders['chat']}", make_completer=lambda s: says("x"))
    one, other = response("a", "yes"), response("b", "quite another")
    scores = [value(f) for f in rate(f"reward_model:{folders['chat']}", items("yes", other.text))]
    (verdict,) = made.compare([(prompt(), one, other)], seed=0)
    assert verdict.verdict.winner == int(scores[1] > scores[0])


def test_no_reward_model_is_told_in_one_line(folders, tmp_path):
    for spec, why in (
        ("reward_model:", "expected reward_model:FOLDER"),
        (f"reward_model:{tmp_path}", "expected a model folder"),
        (f"reward_model:{folders['pair']}?layout=chat", "no chat template"),
        (f"reward_model:{folders['pair']}?end=template", "has no effect on a pair"),
        (f"reward_model:{folders['pair']}?length=3", "unknown setting"),
        (f"reward_model:{reward_folders.encoder(tmp_path / 'two', labels=2)}", "found 2 labels"),
        (f"reward_model:{reward_folders.decoder(tmp_path / 'decoder')}", "one label"),
    ):
        with pytest.raises(BadInput, match=why) as error:
            rate(spec, items("yes"))
        assert "\n" not in str(error.value)
