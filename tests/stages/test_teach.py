"""Teachers that criticise, refine and write prompts: scripted ones, and the sandbox's."""

from __future__ import annotations

import pytest

from alignlab.errors import BadInput
from alignlab.feedback.model_judge import critique_judge
from alignlab.feedback.prompts import judge_prompt
from alignlab.feedback.query_types import JudgedTypes
from alignlab.feedback.sentences import SentenceJudge
from alignlab.feedback.specs import judge
from alignlab.feedback.teachers import Criticised, Instructor, Refiner
from alignlab.sandbox.corpus import SandboxData, build_corpus
from alignlab.sandbox.oracle import Oracle
from alignlab.sandbox.teachers import FAULTLESS, Teacher, TeacherOptions
from alignlab.stages import teach as teach_stage
from alignlab.stages.judge import judge as judge_stage
from alignlab.stages.teach import as_lessons, instruct, refine, with_critiques
from alignlab.types import Completion, Critique, Prompt, Response, Score, Unscored
from tests.feedback.worlds import by, prompt, response, says
from tests.stages.making import context

ITEMS = [(prompt("p"), [response("a", "Lima."), response("b", "Rome.")])]
ERROR = Criticised(prompt("p", "How far is it?"), response("a", "far"), "Says no number.")


def test_critiques_are_words_or_nothing() -> None:
    teacher = judge("critique:x", make_completer=lambda rest: says("Too short.<|im_end|>\nUser:"))
    found = teacher.rate(ITEMS, seed=0)
    assert [f.verdict for f in found] == [Critique("Too short.")] * 2
    empty = critique_judge(says(" \n")).rate(ITEMS, seed=0)
    assert empty[0].verdict == Unscored("an empty critique")
    (failed, _) = critique_judge(says(None)).rate(ITEMS, seed=0)
    assert "call failed" in failed.verdict.reason
    assert critique_judge(says("x")).rate([], seed=0) == []


def test_refinements_see_the_critique_and_carry_their_origin() -> None:
    def answer(text: str) -> str:
        assert "<critique>\nSays no number.\n</critique>" in text
        return " 3 km. "

    (found,) = Refiner(by(answer)).refine([ERROR], seed=4)
    assert isinstance(found, Response)
    assert (found.id, found.prompt_id, found.text) == ("a/refined", "p", "3 km.")
    assert found.sampler.seed == 4
    assert Refiner(says("")).refine([ERROR], 0) == [Unscored("an empty refinement")]
    assert "call failed" in Refiner(says(None)).refine([ERROR], 0)[0].reason


ECHO = "<question>\nHow far is it?\n</question>\n"


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (f"{ECHO}<response>\n3 km.\n</response>", "3 km."),
        ("<response>3 km.</response>\nI mended it.", "3 km."),
        (f"{ECHO}3 km.", "3 km."),
        ("3 km.\n</response>", "3 km."),
        ("3 km.\n</response", "3 km."),
        ("Write <response>x</response> in XML.", "Write <response>x</response> in XML."),
        ("As XML:\n<response>x</response>", "As XML:\n<response>x</response>"),
        ("<b>3 km.</b>", "<b>3 km.</b>"),
    ],
)
def test_tags_of_the_prompt_are_no_part_of_a_refinement(reply: str, text: str) -> None:
    (found,) = Refiner(says(reply)).refine([ERROR], seed=0)
    assert isinstance(found, Response)
    assert found.text == text


def test_a_reply_that_repeats_the_prompt_alone_is_no_refinement_nor_critique() -> None:
    assert Refiner(says(ECHO)).refine([ERROR], 0) == [Unscored("an empty refinement")]
    found = critique_judge(says(f"{ECHO}<response>\nfar\n</response>\nNo number.")).rate(ITEMS, 0)
    assert [f.verdict for f in found] == [Critique("No number.")] * 2
    (alone, _) = critique_judge(says(f"{ECHO}<response>\nfar\n</response>")).rate(ITEMS, 0)
    assert alone.verdict == Unscored("an empty critique")


def test_a_refinement_that_was_cut_off_is_none() -> None:
    class Cut:
        name = "cut"

        def complete(self, requests):
            return [(Completion("3 k", "length", 1, 2),) for _ in requests]

    assert Refiner(Cut()).refine([ERROR], 0) == [Unscored("the refinement was cut off")]


def test_prompts_from_errors_and_from_contrast() -> None:
    asked: list[str] = []

    def answer(text: str) -> str:
        asked.append(text)
        return "It lacks numbers.\n**Question:** How deep is a well?"

    teacher = Instructor(by(answer))
    (found,) = teacher.from_errors([ERROR], seed=0)
    assert isinstance(found, Prompt)
    assert (found.id, found.text) == ("instruct/a", "How deep is a well?")
    good = [(prompt("x", "Who wrote it?"), response("x", "She.")),
            (prompt("y", "How far is Rome?"), response("y", "9 km."))]  # fmt: skip
    teacher.from_contrast([ERROR], good, seed=0)
    assert "9 km." in asked[1]  # the nearest success, not the first
    assert "She." not in asked[1]
    assert teacher.from_contrast([ERROR], [], 0) == [Unscored("no success to contrast with")]
    assert Instructor(says("hm")).from_errors([ERROR], 0) == [Unscored("no readable question")]
    assert teacher.from_errors([], 0) == []


@pytest.fixture(scope="module")
def world_items():
    """Questions of the sandbox with poor answers."""
    corpus = build_corpus(SandboxData())
    return [(g.prompt, [g.responses[-1]]) for g in corpus.groups[:60]]


def test_the_sandbox_s_teacher_criticises_and_refines(tmp_path, world_items) -> None:
    here = context(tmp_path / "run")
    prompts = [p for p, _ in world_items]
    responses = [r for _, some in world_items for r in some]
    strong = Teacher("strong")
    feedback = judge_stage(here, critique_judge(strong), prompts, responses, name="critique")
    assert all(isinstance(f.verdict, Critique) for f in feedback)
    criticised = with_critiques(prompts, responses, feedback)
    better = refine(here, Refiner(strong), criticised)
    assert [r.id for r in better] == [f"{r.id}/refined" for r in responses]

    def mean(rated):
        scores = [f.verdict.value for f in Oracle().rate(rated, 0)]
        return sum(scores) / len(scores)

    refined = [(p, [r]) for p, r in zip(prompts, better, strict=True)]
    assert mean(refined) > mean(world_items) + 1
    named = sum(f.verdict.text != "Nothing needs to change." for f in feedback)
    faulty = sum(f.verdict.value < 5 for f in Oracle().rate(world_items, 0))
    assert 0.7 * faulty <= named <= faulty

    new = instruct(here, Instructor(strong), criticised, known=prompts)
    assert new
    assert not {p.text for p in new} & {p.text for p in prompts}
    assert all(not isinstance(f.verdict, Unscored) for f in Oracle().rate(
        [(p, [response("z", "x", of=p.id)]) for p in new], 0))  # fmt: skip


def test_the_sandbox_s_teacher_heeds_the_critique(world_items) -> None:
    exact = Teacher("strong", TeacherOptions(judge_noise=0))
    asked, (poor,) = next(
        item for item, said in zip(world_items, Oracle().rate(world_items, 0), strict=True)
        if said.verdict.value < 5
    )  # fmt: skip
    for words, faultless in (("critique", FAULTLESS[1]), ("short_critique", FAULTLESS[0])):
        critic = critique_judge(exact, judge_prompt(words))
        (said,) = critic.rate([(asked, [poor])], seed=0)
        assert said.verdict.text != faultless
        prompt_of = judge_prompt(words.replace("critique", "refine"))
        kept, mended = Refiner(exact, prompt_of).refine(
            [Criticised(asked, poor, text) for text in (faultless, said.verdict.text)], seed=0
        )
        assert kept.text == poor.text
        assert mended.text != poor.text


def test_the_sandbox_s_teacher_knows_types_and_sentences() -> None:
    corpus = build_corpus(SandboxData())
    asked = corpus.test_prompts[:40]
    assert JudgedTypes(Teacher("weak")).of(asked, 0) == [p.query_type for p in asked]
    told, chatter = "Its festival is in May.", "I like to sing in the morning."
    one = next(p for p in asked if p.text.startswith("Tell me about"))
    (found,) = SentenceJudge(Teacher("weak")).rate(
        [(one, [response("a", f"{told} {chatter}", of=one.id)])], 0
    )
    assert found.verdict == Score(0.5, (1.0, 0.0))


def test_lessons_are_asked_as_the_teachers_were() -> None:
    critic, refiner = critique_judge(says("x")), Refiner(says("3 km."))
    spared = Criticised(prompt("q", "Who?"), response("b", "She.", of="q"), "Fine.")
    better = refiner.refine([ERROR], 0)
    first, second, third = as_lessons(critic, refiner, [ERROR, spared], better)
    assert [d.task for d in (first, second, third)] == ["critique", "refine", "critique"]
    assert first.prompt.messages == critic.messages(ERROR.prompt, ERROR.response)
    assert (first.response.text, second.response.text) == ("Says no number.", "3 km.")
    assert second.prompt.messages == refiner.messages(ERROR)
    assert second.response.prompt_id == second.prompt.id
    assert len({d.id for d in (first, second, third)}) == 3


def test_a_killed_teacher_resumes_and_counts_what_it_lost(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(teach_stage, "TEACH_CHUNK", 1)
    items = [Criticised(prompt(f"p{i}"), response(f"r{i}", "x", of=f"p{i}"), "?") for i in range(4)]
    asked: list[int] = []

    def answer(text: str) -> str:
        asked.append(1)
        if len(asked) == 3:
            raise KeyboardInterrupt
        return "" if len(asked) == 1 else "better"

    teacher = Refiner(by(answer))
    run = context(tmp_path / "run")
    with pytest.raises(KeyboardInterrupt):
        refine(run, teacher, items)
    run.run.close()
    again = context(tmp_path / "run")
    assert [r.id for r in refine(again, teacher, items)] == [f"r{i}/refined" for i in (1, 2, 3)]
    assert len(asked) == 5
    counts = (tmp_path / "run/stages/01-refine/counts.jsonl").read_text()
    assert '"kept": 3' in counts
    assert '"an empty refinement": 1' in counts


def test_contrast_needs_successes(tmp_path) -> None:
    with pytest.raises(BadInput, match="expected successes"):
        instruct(context(tmp_path / "run"), Instructor(says("x")), [ERROR], how="contrast")
