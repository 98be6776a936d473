"""Diagnoses of template, pairs and judges, on models and data made to be bad and good."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest

from alignlab.data.sources import load as load_data
from alignlab.diagnosis.judge_chance import judge_chance
from alignlab.diagnosis.leakage import pairs_of
from alignlab.diagnosis.off_policy import off_policy
from alignlab.diagnosis.template_audit import audit, decoded
from alignlab.feedback.rules import LengthJudge, RandomJudge
from alignlab.generation.local import LocalEngine
from alignlab.models.load import LanguageModel, load
from alignlab.sandbox import checkpoint_path
from alignlab.training.token_groups import Prepared, prepare
from alignlab.types import CompletionRequest, Feedback, PreferenceGroup, Sampling, Score, Unscored
from tests.diagnosis.build import pair, prompt, sentence, shown

ASKED = "What is Bebomi like?"


@pytest.fixture(scope="module")
def lm() -> LanguageModel:
    return load(checkpoint_path("knows_all"), device="cpu")


@pytest.fixture(scope="module")
def prompts():
    return load_data("sandbox?test=60&groups=60").test_prompts


def with_template(lm: LanguageModel, template: str) -> LanguageModel:
    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.chat_template = template
    return replace(lm, tokenizer=tokenizer)


def audited(lm: LanguageModel, **lengths) -> tuple[list, Prepared]:
    record = shown(1, "It is a town.", ASKED)
    prepared = prepare(lm, [record], **lengths)
    return audit(lm, *prepared, record.prompt.messages), prepared


def test_a_good_template_shows_what_is_trained(lm):
    (template, records), prepared = audited(lm)
    assert template.level == "ok"
    assert "the last is <|im_end|>, which ends generation too" in template.text
    assert (records.level, records.text) == ("ok", "1 to train on: none dropped or cut")
    assert decoded(lm, prepared.groups[0]) == (
        f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n⟦It is a town.<|im_end|>⟧"
    )


def test_a_template_without_an_end_of_turn_is_found(lm):
    bare = with_template(
        lm, "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )  # fmt: skip
    (template, _), _ = audited(bare)
    assert template.level == "warn"
    assert "the template ends no turn; <|im_end|> is trained as its end" in template.text


def test_a_generation_prompt_that_the_conversation_lacks_is_found(lm):
    written = "assistant\n' }}{% endif"
    other = lm.tokenizer.chat_template.replace(written, "assistant\nThink: ' }}{% endif")
    assert other != lm.tokenizer.chat_template
    (template, _), _ = audited(with_template(lm, other))
    assert template.level == "warn"
    assert (
        template.text == "the prompt for generation is no beginning of the template's conversation"
    )


def test_a_start_written_twice_is_found(lm):
    tokenizer = copy.deepcopy(lm.tokenizer)
    tokenizer.bos_token = "<|im_start|>"
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    (template, _), _ = audited(replace(lm, tokenizer=tokenizer))
    assert (template.level, template.value) == ("warn", 1.0)
    assert template.text == "the prompt begins with <|im_start|> twice"


def test_a_cut_response_and_dropped_records_are_found(lm):
    (template, records), _ = audited(lm, max_response_tokens=3, too_long="cut")
    assert template.level == "warn"
    assert "a response was cut, so that no end of turn is trained in it" in template.text
    assert "response cut 1" in records.text
    good, long = shown(1, "A town.", ASKED), shown(2, "A town. " * 300, ASKED)
    prepared = prepare(lm, [good, long], max_response_tokens=50)
    _, records = audit(lm, *prepared, good.prompt.messages)
    assert (records.level, records.value) == ("warn", 0.5)
    assert records.text == "1 to train on: response too long 1"


def test_own_samples_are_on_policy_and_foreign_texts_are_not(lm, prompts):
    sampling = Sampling(max_tokens=64, n=2)
    requests = [CompletionRequest(p.id, p.messages, sampling, 7) for p in prompts]
    drawn = LocalEngine(lm).complete(requests)
    own = [
        pair(i, *(one.text for one in several), asked=p)
        for i, (p, several) in enumerate(zip(prompts, drawn, strict=True))
        if all(one.text and one.finish == "stop" for one in several)
    ]
    found = off_policy(lm, own, prepare(lm, own).groups, 0)
    assert found.level == "ok"
    assert found.value is not None
    assert found.value < 0.2
    foreign = [pair(i, sentence(i, 12), sentence(i + 1, 9), asked=p) for i, p in enumerate(prompts)]
    found = off_policy(lm, foreign, prepare(lm, foreign).groups, 0)
    assert (found.level, found.value) == ("warn", 1.0)
    assert "100% of 120 responses are less likely than 95% of its samples" in found.text
    few = off_policy(lm, own[:3], prepare(lm, own[:3]).groups, 0)
    assert few.level == "skipped"


def longer_pairs(n: int) -> list[PreferenceGroup]:
    return [pair(i, sentence(i, 12), sentence(i, 5)) for i in range(n)]


def test_a_judge_at_chance_is_told_from_one_that_agrees():
    good = judge_chance("longer", LengthJudge(), longer_pairs(60))
    assert (good.about, good.level, good.value) == ("judge longer", "ok", 1.0)
    # Wilson's interval of 50 of 50: [0.929, 1].
    assert good.text == (
        "agrees with 100% [93, 100] of 50 labelled pairs (0 unread; 'the longer wins' 100%)"
    )
    chance = judge_chance("random", RandomJudge(), longer_pairs(60))
    assert chance.level == "warn"
    assert chance.text.endswith("not told from chance")
    assert judge_chance("longer", LengthJudge(), longer_pairs(9)).level == "skipped"


class Mute:
    name = "mute"

    def __init__(self, every: int) -> None:
        self.every, self.asked = every, 0

    def rate(self, items, seed):
        found = []
        for asked, responses in items:
            self.asked += 1
            read = bool(self.every) and self.asked % self.every == 0
            found += [
                Feedback(asked.id, (r.id,), self.name,
                         Score(float(len(r.text))) if read else Unscored("no score"))
                for r in responses
            ]  # fmt: skip
        return found


def test_a_judge_that_cannot_be_read_is_no_judge():
    assert judge_chance("mute", Mute(0), longer_pairs(20)).text == (
        "no verdict on any of 20 pairs could be read"
    )
    rarely = judge_chance("mute", Mute(4), longer_pairs(40))
    assert (rarely.level, rarely.value) == ("warn", 1.0)
    assert "of 10 labelled pairs (30 unread" in rarely.text


def test_a_slow_judge_stops_after_its_time():
    ticks = iter(range(0, 1000, 70))
    judge = Mute(1)
    found = judge_chance("slow", judge, longer_pairs(50), clock=lambda: float(next(ticks)))
    assert judge.asked == 20  # chunks of ten, 70 seconds each, 120 seconds
    assert "of 20 labelled pairs" in found.text


def test_pairs_of_groups_leave_ties_out():
    tie = replace(pair(1, "a", "b"), scores=(1.0, 1.0))
    assert pairs_of([tie, pair(2, "a", "b")]) == [pair(2, "a", "b")]
    assert prompt(1).text.startswith("What about")
