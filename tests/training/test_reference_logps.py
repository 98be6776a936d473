from __future__ import annotations

import pytest

from alignlab.models.logprobs import response_logprobs
from alignlab.models.scorer import ResponseScorer
from alignlab.training.budget import TokenBudget
from alignlab.training.reference_logps import reference_logps, weights_hash
from tests.models.helpers import random_groups, tiny_lm


def test_computed_once_and_read_back_equal(tmp_path, monkeypatch):
    lm, groups = tiny_lm(), random_groups(4, (2,))
    scorer, file = ResponseScorer(lm.model), tmp_path / "ref.jsonl"
    first = reference_logps(scorer, groups[:3], file, TokenBudget(100))
    expected = [r.sums for r in response_logprobs(lm, groups[:3], token_budget=100)]
    for found, wanted in zip(first, expected, strict=True):
        assert found == pytest.approx(wanted)
    with file.open("a") as stream:
        stream.write('{"group": "half a li')
    # Only the group that is new is computed; the torn line is passed over.
    seen = []
    score = TokenBudget.score
    monkeypatch.setattr(
        TokenBudget,
        "score",
        lambda budget, scorer, new: seen.extend(new) or score(budget, scorer, new),
    )
    again = reference_logps(scorer, groups, file, TokenBudget(100))
    assert again[:3] == first
    assert [g.id for g in seen] == [groups[3].id]


@pytest.mark.parametrize("damage", ["[]", '{"group": 1}', '{"group": "a", "logps": ["x"]}', "{"])
def test_a_damaged_cache_is_computed_again_whole(tmp_path, caplog, damage):
    lm, groups = tiny_lm(), random_groups(2, (2,))
    scorer, file = ResponseScorer(lm.model), tmp_path / "ref.jsonl"
    first = reference_logps(scorer, groups, file, TokenBudget(100))
    kept = file.read_text()
    file.write_text(kept.splitlines(True)[0] + damage + "\n")
    assert reference_logps(scorer, groups, file, TokenBudget(100)) == first
    assert file.read_text() == kept
    assert "damaged; the reference's log-probabilities are computed again" in caplog.text


def test_the_hash_is_of_the_weights_in_memory():
    lm = tiny_lm()
    before = weights_hash(lm.model)
    assert before == weights_hash(tiny_lm().model)
    next(lm.model.parameters()).data[0, 0] += 1e-3
    assert before != weights_hash(lm.model)
