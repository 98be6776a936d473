"""Judges that ask models: their defaults."""

from importlib import import_module

import pytest

from alignlab.feedback.model_judge import critique_judge
from alignlab.feedback.prompts import judge_prompt
from alignlab.generation.scripted import ScriptedEngine
from tests.defaults import defaults_of

DEFAULTS = {
    "feedback.model_judge": {
        'ModelJudge.__init__(samples)': 3,
        'ModelJudge.__init__(key)': 'judge',
        'ModelJudge.__init__(unread)': 'no readable score in any sample',
        'ModelJudgeOptions.prompt': 'additive_five_point',
        'ModelJudgeOptions.samples': 3,
        'ModelJudgeOptions.temperature': 0.7,
        'ModelJudgeOptions.top_p': 0.9,
        'ModelJudgeOptions.max_tokens': 256,
        'ReferenceOptions.prompt': 'reference',
        'ReferenceOptions.samples': 3,
        'ReferenceOptions.temperature': 0.7,
        'ReferenceOptions.top_p': 0.9,
        'ReferenceOptions.max_tokens': 256,
        'OnceOptions.temperature': 0.0,
        'OnceOptions.max_tokens': 256,
        'CritiqueOptions.prompt': 'critique',
        'CritiqueOptions.temperature': 0.0,
        'CritiqueOptions.max_tokens': 256,
    },
    "feedback.expected_score": {
        'LEAST_MASS': 0.1,
        'ExpectedScoreJudge.__init__(least_mass)': 0.1,
        'ExpectedScoreOptions.prompt': 'additive_five_point',
        'ExpectedScoreOptions.least_mass': 0.1,
    },
    "feedback.pairwise": {
        'PairwiseOptions.prompt': 'pairwise',
        'PairwiseOptions.temperature': 0.0,
        'PairwiseOptions.max_tokens': 256,
    },
}  # fmt: skip
"""Module -> its numbers and defaults; figures depend on each, so that a change is a decision."""


@pytest.mark.parametrize("module", DEFAULTS)
def test_defaults_and_constants_stay_what_they_are(module):
    assert defaults_of(import_module(f"alignlab.{module}")) == DEFAULTS[module]


@pytest.mark.parametrize("name", ["", "reference", "critique"])
def test_a_critic_asks_by_the_prompt_that_it_is_given(name, tmp_path):
    script = tmp_path / "none.jsonl"
    script.write_text('{"id": "x", "texts": ["y"]}\n')
    judge = critique_judge(ScriptedEngine(script), judge_prompt(name) if name else None)
    assert judge.prompt == judge_prompt(name or "critique")
