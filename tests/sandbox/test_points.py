"""Truth of single principles in the offline world."""

from __future__ import annotations

import pytest

from alignlab.errors import BadInput
from alignlab.feedback.specs import judge
from alignlab.sandbox.questions import prompt
from alignlab.types import Response, SampledBy
from tests.sandbox.test_sentences import ASKED, TOWN, fact


def score(principle: str, text: str, noise: str = "") -> float:
    source = judge(f"sandbox:points?principle={principle}{noise}", make_completer=lambda name: None)
    (found,) = source.rate([(prompt(ASKED), [Response("r", "p", text, SampledBy("m"))])], 0)
    return found.verdict.value


def test_points_by_hand() -> None:
    four = " ".join(fact(name) for name in ("food", "music", "colour", "animal"))
    assert score("complete", four) == 1
    assert score("complete", fact("food")) == 0
    assert score("nothing false", f"{four} {fact('craft', true=False)}") == 0
    assert score("clear and not repeated", f"{four} {fact('food')}") == 0
    assert score("much of what was asked", fact("food")) == 0
    assert score("about the town", f"I like {TOWN}.") == 0
    assert score("brief", "one two three four") == -0.2


def test_noise_is_of_the_principle_and_the_seed() -> None:
    noisy = [score(name, fact("food"), "&noise=0.5") for name in ("complete", "nothing false")]
    assert noisy[0] == score("complete", fact("food"), "&noise=0.5") != 0
    assert noisy[0] != noisy[1] - 1


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("sandbox:points", "principle"),
        ("sandbox:points?principle=kind", "kind"),
        ("sandbox:oracle?principle=complete", "has no effect"),
        ("sandbox:points?principle=brief&noise=-1", "expected 0 or more"),
        ("sandbox:nothing", "sandbox feedback"),
    ],
)
def test_refusals(spec: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        judge(spec, make_completer=lambda name: None)
