"""Budgets of teacher tokens: spent as far as they go, by the mean cost of a pilot."""

import pytest

from alignlab.errors import BadInput
from alignlab.stages.compare import compare, pairs_of_verdicts
from alignlab.stages.teacher_budget import BudgetSettings, TeacherTexts, within_budget
from alignlab.types import Feedback, Preference, Unscored
from tests.stages.making import context, prompt, responses


def bought(tmp_path, tokens, count="all", pilot=2, prompts=20):
    """Ask a teacher that reads 3 words and writes 2 about each prompt."""
    asked = []

    def ask(here, some):
        asked.append((here.run.scope_names[-1], [p.id for p in some]))
        return [p.id for p in some]

    def spent(some, found):
        assert [p.id for p in some] == found
        return TeacherTexts(("one two three",) * len(some), ("yes no",) * len(some))

    settings = BudgetSettings(tokens=tokens, count=count, pilot=pilot)
    every = [prompt(n) for n in range(prompts)]
    here = context(tmp_path)
    return within_budget(here, every, ask, spent, lambda t: len(t.split()), settings), asked


def test_a_budget_is_spent_as_far_as_it_goes(tmp_path):
    found, asked = bought(tmp_path, 54)  # 5 tokens a prompt: 10 prompts and a remainder of 4
    assert found.records == [p.id for p in found.prompts] == [f"p{n}" for n in range(10)]
    assert found.tokens == 50
    assert asked == [("pilot", ["p0", "p1"]), ("rest", [f"p{n}" for n in range(2, 10)])]


def test_written_tokens_alone_may_count(tmp_path):
    found, _ = bought(tmp_path, 20, count="written")
    assert (len(found.prompts), found.tokens) == (10, 20)


def test_prompts_may_run_out_first(tmp_path):
    found, _ = bought(tmp_path, 1000, prompts=7)
    assert (len(found.prompts), found.tokens) == (7, 35)


def test_a_budget_for_the_pilot_alone(tmp_path):
    found, asked = bought(tmp_path, 14)
    assert (len(found.prompts), found.tokens, len(asked)) == (2, 10, 1)
    with pytest.raises(BadInput, match=r"budget\.tokens: expected at least the 10 .* found 9"):
        bought(tmp_path / "less", 9)


def test_winners_of_comparisons_form_pairs(tmp_path):
    verdicts = [Preference(1, (1, 1)), Preference(0, (0, 0)), Preference(None, (0, 1)),
                Unscored("no verdict")]  # fmt: skip
    items = []
    for n in range(4):
        asked = prompt(n)
        items.append((asked, *responses(asked, "a", "b")))

    class Judge:
        name = "judge"

        def compare(self, some, seed):
            known = {f"p{n}": v for n, v in enumerate(verdicts)}
            return [Feedback(p.id, (a.id, b.id), self.name, known[p.id]) for p, a, b in some]

    here = context(tmp_path)
    feedback = compare(here, Judge(), items)
    groups = pairs_of_verdicts(here, items, feedback)
    assert [(g.prompt.id, *(r.text for r in g.responses)) for g in groups] == [
        ("p0", "b", "a"), ("p1", "a", "b"),
    ]  # fmt: skip
    counts = "".join(file.read_text() for file in tmp_path.rglob("counts.jsonl"))
    assert '"a tie": 1' in counts
    assert '"no readable verdict": 1' in counts
    assert '"no verdict": 1' in counts
