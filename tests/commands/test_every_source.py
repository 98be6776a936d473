"""Every feedback source of `alignlab list feedback` rates responses through `alignlab judge`, shows
its options, and is described in docs/feedback.md."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from alignlab import registry
from alignlab.commands._support.prompts_and_responses import responses_of
from alignlab.data.sources import load
from alignlab.errors import BadInput
from alignlab.models.load import save
from alignlab.records import to_line
from alignlab.sandbox.answers import LEVELS, write_answer
from alignlab.sandbox.questions import parse_question
from alignlab.seeds import generator
from alignlab.types import Feedback, Score
from tests.conftest import ROOT
from tests.feedback import reward_folders
from tests.feedback.test_classifier import save_classifier
from tests.generation.tiny import tiny

STRONG = "sandbox:strong"
SOURCES = {
    "classifier": "classifier:{dir}/toxic?label=toxic",
    "criteria": f"criteria:{STRONG}",
    "critique": f"critique:{STRONG}",
    "at_least": "at_least,score=5:longer",
    "ensemble": f"ensemble,normalise=prompt:longer|llm:{STRONG}",
    "expected": "expected,prompt=short_score,least_mass=0:local:{dir}/chat",
    "graded": f"graded:{STRONG}",
    "human": "human:{dir}/people.jsonl",
    "implicit_reward": "implicit_reward:{dir}/chat?reference={dir}/other",
    "llm": f"llm,prompt=single_1_10:{STRONG}",
    "longer": "longer",
    "metric": "metric:chrf",
    "pairwise": f"pairwise:{STRONG}",
    "principled": "principled,file={dir}/rules.txt:reward_model:{dir}/reward",
    "principles": "principles,file={dir}/rules.txt,count=1:" + STRONG,
    "python": "python:{dir}/rewards.py:words",
    "r3": "r3:tfidf",
    "random": "random",
    "reference": f"reference:{STRONG}",
    "relevance": "relevance:tfidf",
    "reward_model": "reward_model:{dir}/reward",
    "routed": f"routed:closed=longer|open=llm:{STRONG}",
    "sandbox": "sandbox:oracle",
    "sentences": f"sentences:{STRONG}",
    "steamshp": "steamshp:{dir}/t5?least_mass=0",
    "steps": f"steps,total=mean:graded:{STRONG}",
    "verifier": "verifier,extract=text",
}


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A poor and a good answer to each of three questions of the sandbox."""
    rows = []
    for prompt in load("sandbox").test_prompts[:3]:
        question = parse_question(prompt.text)
        assert question is not None
        for level in ("web", "ideal"):
            draw = generator(level, prompt.id)
            text = write_answer(draw, prompt.text, question, LEVELS[level])
            rows.append({"prompt": prompt.text, "completion": text, "reference": "It is so.",
                         "query_type": prompt.query_type})  # fmt: skip
    file = tmp_path_factory.mktemp("answers") / "answers.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, answers: Path) -> Path:
    """What the sources are made of."""
    made = tmp_path_factory.mktemp("parts")
    save(tiny(), made / "chat")
    save(tiny(spread=0.2), made / "other")
    reward_folders.reward_model(made / "reward")
    reward_folders.text_to_text(made / "t5")
    save_classifier(made / "toxic")
    (made / "rewards.py").write_text("def words(response): return len(response.split())\n")
    (made / "rules.txt").write_text("Be brief.\nBe right.\n")
    said = [
        Feedback(r.prompt_id, (r.id,), "anna", Score(float(k), (float(k),)))
        for k, r in enumerate(responses_of(load(str(answers))).responses)
    ]
    (made / "people.jsonl").write_text("".join(to_line(f) for f in said))
    return made


def test_all_sources_are_tried() -> None:
    assert sorted(SOURCES) == registry.names("feedback")


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_rates_through_the_command(alignlab, answers, folder, tmp_path, name) -> None:
    out = tmp_path / "judged.jsonl"
    spec = SOURCES[name].format(dir=folder)
    ended = alignlab("judge", "--judge", spec, "--responses", answers, "--out", out)
    assert ended.code == 0, ended.err
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 6
    if name == "critique":
        assert all(row["feedback"] for row in rows)
        return
    # Every response is either scored or says why it is not.
    assert all(isinstance(r.get("score"), float) != bool(r.get("unscored")) for r in rows), rows
    scored = [row["score"] for row in rows if "score" in row]
    assert scored, ended.out
    if name in ("sandbox", "llm", "reference", "criteria", "pairwise", "ensemble"):
        pairs = list(zip(scored[::2], scored[1::2], strict=True))
        assert all(good >= bad for bad, good in pairs)
        assert name != "sandbox" or any(good > bad for bad, good in pairs)


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_says_what_it_takes(alignlab, name) -> None:
    shown = alignlab("judge", "--options", "--judge", SOURCES[name]).out
    assert f"`{name}" in shown
    options = registry.options("feedback", name)
    assert options is None or f"Options of {name}, after" in shown


def test_every_source_is_in_the_documentation() -> None:
    page = (ROOT / "docs" / "feedback.md").read_text()
    cells = " ".join(line.split("|")[1] for line in page.splitlines() if line.startswith("| `"))
    assert [name for name in SOURCES if not re.search(rf"`{name}[`:,?]", cells)] == []


def test_options_of_an_unknown_source(alignlab) -> None:
    ended = alignlab("judge", "--options", "--judge", "llmm:x")
    assert ended.code == 2
    assert "did you mean 'llm'" in ended.line
    with pytest.raises(BadInput):
        registry.options("feedback", "llmm")
