"""The judge of a study with a teacher is named, and the report says who it is."""

from __future__ import annotations

import json
import shutil

import pytest

from alignlab import progress, registry
from alignlab.commands.check import check
from alignlab.commands.run import assemble, run
from alignlab.errors import BadInput
from alignlab.recipes.judging import engine_of, judge_note, same_model
from alignlab.sandbox import checkpoint_path
from tests.recipes.small import SMALL

UNNAMED = (*SMALL, "preset=small", "hardware.device=cpu")


def config(recipe: str, *settings: str):
    return assemble(registry.get("recipe", recipe), None, [*UNNAMED, *settings], {})


@pytest.mark.parametrize(
    ("recipe", "settings", "teacher"),
    [
        ("teacher_reward", (), "teacher=sandbox:strong"),
        ("teacher_demonstration", ("sample.n=1",), "teacher=sandbox:strong"),
        ("self_refine", ("traces=4",), "teacher=sandbox:strong"),
        ("compare_feedback", ("branches=[sft_strong]",), "strong=sandbox:strong"),
        ("scaling", ("teacher=sandbox:strong",), "teacher=sandbox:strong"),
        ("teacher_critic_grid", (), r"teachers\[0\]=sandbox:weak"),
        ("compare_objectives", ("feedback=llm:sandbox:strong",), "feedback=llm:sandbox:strong"),
    ],
)
def test_a_study_with_a_teacher_names_its_judge(recipe, settings, teacher):
    with pytest.raises(BadInput, match=f"setting measure.judge: expected .*{teacher}.*found none"):
        check(recipe, *UNNAMED, *settings)
    check(recipe, *UNNAMED, *settings, "measure.judge=longer")


@pytest.mark.parametrize(
    ("recipe", "settings"),
    [
        ("self_rewarding", ()),
        ("scaling", ()),
        ("compare_feedback", ("branches=[self_reward_expected,random_judge]",)),
        ("compare_objectives", ()),
        ("compare_objectives", ("feedback=longer",)),
    ],
)
def test_a_study_without_one_is_judged_by_m1_and_says_so(recipe, settings):
    chosen = config(recipe, *settings)
    assert chosen.measuring_judge == "expected,prompt=short_score:self"
    assert chosen.judge_note.startswith("Judged by the study's own M1 (expected,")


def test_the_sandbox_is_judged_by_its_truth():
    chosen = assemble(registry.get("recipe", "compare_feedback"), None, SMALL, {})
    assert chosen.measuring_judge == "sandbox:oracle"
    assert chosen.judge_note == "Judged by sandbox:oracle, which gives the true scores."


def test_an_empty_judge_of_objectives_is_the_critic_or_none():
    empty = ("measure.judge=", "feedback=llm:sandbox:strong")
    critic = config("compare_objectives", *empty)
    assert critic.measuring_judge == "llm:sandbox:strong"
    assert "Judge and feedback are one model" in critic.judge_note
    none = config("compare_objectives", *empty, "groups=data")
    assert (none.measuring_judge, none.judge_note) == ("", "")


@pytest.mark.parametrize(
    ("spec", "engine"),
    [
        ("llm,samples=3:openai:gpt-x@http://h:1/v1?attempts=1", "openai:gpt-x@http://h:1/v1"),
        ("expected:local:./qwen", "local:./qwen"),
        ("reward_model:./rm", "local:./rm"),
        ("expected,prompt=short_score:self", "self"),
        ("sandbox:strong?judge_noise=1", "sandbox:strong"),
        ("openai:gpt-x@http://h/v1", "openai:gpt-x@http://h/v1"),
        ("longer", "longer"),
    ],
)
def test_engines_are_found_in_specs(spec, engine):
    assert engine_of(spec) == engine


def test_one_model_under_two_names(tmp_path):
    folder, copy = checkpoint_path("knows_all"), tmp_path / "copy"
    shutil.copytree(folder, copy)
    link = tmp_path / "link"
    link.symlink_to(folder)
    own = f"local:{folder}"
    assert same_model(own, f"local:{link}")
    assert same_model(own, f"local:{copy}")
    assert same_model(own, "openai:org/Knows_All@http://h/v1")
    assert not same_model(own, "openai:other@http://h/v1")
    assert same_model("openai:gpt-x@http://a/v1", "openai:gpt-x@http://b/v1")
    assert not same_model("longer", "longer")
    assert not same_model("sandbox:strong", "sandbox:weak")
    (copy / "model.safetensors").write_bytes(b"x")
    assert not same_model(own, f"local:{copy}")


def test_the_note_names_who_is_the_judge_too():
    own = str(checkpoint_path("knows_all"))
    teachers = {"strong": f"local:{own}", "weak": "sandbox:weak"}
    note = judge_note(f"expected:local:{own}", teachers, "sandbox:knows_all")
    assert note == (
        f"Judged by expected:local:{own}, 0.00091B parameters. Judge and strong are one model: it "
        "measures what it taught or preferred. Judge and base model are one model: it may prefer "
        "its own habits."
    )
    assert judge_note("longer", teachers, "sandbox:knows_all") == "Judged by longer."
    assert judge_note("metric:chrf", {"feedback": "metric:chrf"}, "sandbox:knows_all") == (
        "Judged by metric:chrf. Judge and feedback are one measure: it measures what it taught or "
        "preferred."
    )
    assert judge_note("metric:chrf", teachers, "sandbox:knows_all") == "Judged by metric:chrf."
    pattern = "verifier,extract=regex:x(.)"
    assert "are one measure" in judge_note(pattern, {"feedback": pattern}, "sandbox:knows_all")
    against_reference = judge_note(f"reference:local:{own}", teachers, "sandbox:knows_all")
    assert "Judge and strong are one model" in against_reference


@pytest.mark.slow
def test_a_run_by_roles_tells_its_judge_and_its_overlap(tmp_path, caplog):
    rounds = tmp_path / "rounds.jsonl"
    world = registry.get("data", "sandbox")("")
    texts = [world.test_prompts[0].text, *(p.text for p in world.prompts[:24])]
    rounds.write_text("".join(json.dumps({"prompt": text}) + "\n" for text in texts))
    progress.use(progress.Silent())
    run(
        "teacher_reward", *SMALL, "propose.n=0", f"prompts={rounds}", "test=sandbox",
        "measure.judge=llm,samples=1,max_tokens=16:sandbox:strong", "measure.truth=",
        f"out={tmp_path / 'run'}",
    )  # fmt: skip
    progress.use(None)
    page = (tmp_path / "run/report.html").read_text()
    assert "Judge and teacher are one model" in page
    assert "same as a held-out prompt 1" in page
    assert "overlap of prompts of rounds.jsonl: same as a held-out prompt 1" in caplog.text
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    assert summary["judge"].startswith("Judged by llm,samples=1")
    counts = json.loads((tmp_path / "run/manifest.json").read_text())["counts"]
    (own,) = [c for c in counts if c["what"] == "prompts of rounds.jsonl"]
    assert own["dropped"]["same as a held-out prompt"] == 1
    assert own["kept"] + sum(own["dropped"].values()) == 25
    asked = (tmp_path / "run/stages/iteration-1").glob("*-propose/prompts.jsonl")
    assert len(next(asked).read_text().splitlines()) == own["kept"]
