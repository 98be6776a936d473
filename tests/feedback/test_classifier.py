"""A text classifier as a feedback source, on tiny random models."""

import math

import pytest
import torch
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification

from alignlab.errors import BadInput
from alignlab.feedback.classifier import ClassifierSource
from alignlab.feedback.specs import judge
from alignlab.types import Message, Prompt, Response, SampledBy, Score, Unscored
from tests.generation.tiny import GATED, tokenizer

PROMPT = Prompt("p", (Message("user", "?"),))
TEXTS = ("The cat sat.", "Score: 3 Score: 4 and a longer text", "")


def save_classifier(folder, names=("fine", "toxic"), problem="single_label_classification"):
    """Write a random classifier with the given labels to a folder."""
    tok = tokenizer()
    torch.manual_seed(5)
    config = LlamaConfig(
        **GATED,
        num_labels=len(names),
        id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
        problem_type=problem,
        pad_token_id=tok.pad_token_id,
    )
    model = LlamaForSequenceClassification(config)
    model.save_pretrained(folder)
    tok.save_pretrained(folder)
    return model.eval()


def rate(spec):
    responses = [Response(f"r{i}", "p", t, SampledBy("m")) for i, t in enumerate(TEXTS)]
    source = judge(spec, make_completer=lambda spec: None)
    return [f.verdict for f in source.rate([(PROMPT, responses)], 0)]


def logits(folder, model, text):
    ids = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.no_grad():
        return model(**ids).logits[0]


def test_a_label_of_several_that_exclude_each_other(tmp_path):
    model = save_classifier(tmp_path)
    last, first = rate(f"classifier:{tmp_path}"), rate(f"classifier:{tmp_path}?label=fine")
    for text, toxic, fine in zip(TEXTS[:2], last, first, strict=False):
        expected = float(logits(tmp_path, model, text).softmax(-1)[1])
        assert toxic.value == pytest.approx(expected, abs=1e-5)
        assert toxic.value + fine.value == pytest.approx(1, abs=1e-5)
    assert isinstance(last[2], Unscored)


def test_labels_that_can_hold_at_once(tmp_path):
    model = save_classifier(tmp_path, ("a", "b", "c"), "multi_label_classification")
    found = rate(f"classifier:{tmp_path}?label=1&batch_size=1")
    expected = 1 / (1 + math.exp(-float(logits(tmp_path, model, TEXTS[0])[1])))
    assert isinstance(found[0], Score)
    assert found[0].value == pytest.approx(expected, abs=1e-5)


def test_bad_specs(tmp_path):
    save_classifier(tmp_path)
    with pytest.raises(BadInput, match=r"expected a label of \['fine', 'toxic'\], found 'rude'"):
        rate(f"classifier:{tmp_path}?label=rude")
    with pytest.raises(BadInput, match="found no folder"):
        rate("classifier:")
    with pytest.raises(BadInput, match="expected a text classifier"):
        rate(f"classifier:{tmp_path / 'none'}")


def test_a_probability_that_is_no_number_is_unscored():
    source = ClassifierSource(lambda texts: [math.nan, 0.5][: len(texts)], "broken")
    responses = [Response(f"r{i}", "p", t, SampledBy("m")) for i, t in enumerate(TEXTS)]
    found = [f.verdict for f in source.rate([(PROMPT, responses)], 0)]
    assert found == [Unscored("the score is not finite"), Score(0.5), Unscored("an empty response")]
