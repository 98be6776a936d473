"""SteamSHP's form: the text it reads, the token it answers with, both orders, what is too long."""

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from alignlab.errors import BadInput
from alignlab.feedback.specs import judge, pair_judge
from alignlab.feedback.steamshp import SteamSHP
from alignlab.models.which_better import Choice, question
from alignlab.types import Preference, Unscored
from tests.feedback import reward_folders
from tests.feedback.worlds import prompt, response, says

FORM = (
    "POST: Why? Now.\n\n RESPONSE A: So.\n\n RESPONSE B: .\n\n Which response is better? RESPONSE"
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return reward_folders.text_to_text(tmp_path_factory.mktemp("t5") / "model")


def make(spec):
    return judge(str(spec), make_completer=lambda s: says("x"))


class Fixed:
    """Prefers the text with more of the letter x; remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def choices(self, asked):
        self.asked += asked
        return [Choice(0.1 + 0.1 * a.count("x"), 0.1 + 0.1 * b.count("x")) for _, a, b in asked]


def test_the_question_is_in_the_published_form():
    assert question("Why?\nNow.", "So.", ".") == FORM


def test_a_score_is_the_probability_of_a_against_nothing(folder):
    source = make(f"steamshp:{folder}?least_mass=0")
    found = source.rate([(prompt("p", "Why?\nNow."), [response("1", "So.")])], seed=0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    with torch.no_grad():
        tokens = tokenizer(FORM, return_tensors="pt")
        logits = model(**tokens, decoder_input_ids=torch.tensor([[0]])).logits[0, 0]
    wanted = torch.softmax(logits.double(), 0)[tokenizer.convert_tokens_to_ids("A")]
    assert found[0].verdict.value == pytest.approx(float(wanted), abs=1e-6)


def test_a_batch_gives_what_each_gives_alone(folder):
    source = make(f"steamshp:{folder}?least_mass=0")
    texts = ["no", "a longer one", "x"]
    together = source.rate([(prompt(), [response(t, t) for t in texts])], seed=0)
    for text, feedback in zip(texts, together, strict=True):
        (alone,) = source.rate([(prompt(), [response(text, text)])], seed=0)
        assert feedback.verdict.value == pytest.approx(alone.verdict.value, abs=1e-6)


def test_a_response_wins_only_in_both_orders():
    source = SteamSHP(Fixed(), "fixed")
    (found,) = source.compare([(prompt(), response("a", "xx"), response("b", "x"))], seed=0)
    assert found.verdict == Preference(0, (0, 0))
    (found,) = source.compare([(prompt(), response("a", "x"), response("b", "xx"))], seed=0)
    assert found.verdict == Preference(1, (1, 1))
    (found,) = source.compare([(prompt(), response("a", "x"), response("b", "x"))], seed=0)
    assert found.verdict == Preference(None, (None, None))


def test_a_bias_to_one_place_is_a_tie():
    model = Fixed()
    model.choices = lambda asked: [Choice(0.9, 0.1)] * len(asked)
    (found,) = SteamSHP(model, "a").compare([(prompt(), response("a", "1"), response("b", "2"))], 0)
    assert found.verdict == Preference(None, (0, 1))


def test_letters_without_probability_choose_nothing():
    model = Fixed()
    model.choices = lambda asked: [Choice(1e-6, 1e-7)] * len(asked)
    weak = Unscored("the letters hold less than 0.1 of probability")
    source = SteamSHP(model, "a")
    assert source.rate([(prompt(), [response("a", "1")])], 0)[0].verdict == weak
    (found,) = source.compare([(prompt(), response("a", "1"), response("b", "2"))], 0)
    assert found.verdict == weak


def test_a_long_post_is_cut_and_long_responses_are_unscored(folder):
    source = make(f"steamshp:{folder}?max_tokens=120&least_mass=0")
    long_post, short = prompt("p", "why " * 60), response("1", "So.")
    (cut,) = source.rate([(long_post, [short])], seed=0)
    assert 0 <= cut.verdict.value <= 1
    (unscored,) = source.rate([(long_post, [response("2", "so " * 60)])], seed=0)
    assert unscored.verdict == Unscored("the responses alone are longer than 120 tokens")
    (pair,) = source.compare([(long_post, short, response("2", "so " * 60))], seed=0)
    assert isinstance(pair.verdict, Unscored)


def test_it_compares_as_a_judge_of_pairs(folder):
    made = pair_judge(f"steamshp:{folder}", make_completer=lambda s: says("x"))
    assert isinstance(made, SteamSHP)


def test_no_text_to_text_model_is_told(tmp_path):
    for rest, why in (("", "found no folder"), (str(tmp_path), "expected a model folder")):
        with pytest.raises(BadInput, match=why):
            make(f"steamshp:{rest}")
    with pytest.raises(BadInput, match="expected a text-to-text model"):
        make(f"steamshp:{reward_folders.encoder(tmp_path / 'encoder')}")
