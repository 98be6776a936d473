"""Self-instructed prompts: filtered, topped up, resumed, and as many as asked for."""

import json

import pytest

from alignlab.context import RunContext
from alignlab.data.filters import FilterConfig
from alignlab.errors import BadInput
from alignlab.generation.scripted import ScriptedEngine
from alignlab.meter import metered
from alignlab.runs import Run
from alignlab.sandbox.questions import parse_question
from alignlab.sandbox.teachers import Teacher
from alignlab.stages.propose import ProposalContext, ProposeSettings, propose
from tests.stages.making import context, prompt

EXAMPLES = [prompt(n) for n in range(10)]
SPARE = [prompt(100 + n) for n in range(10)]
MATERIAL = ProposalContext(EXAMPLES, SPARE)
FILTERS = FilterConfig(max_similarity=2.0)


def settings(**changes):
    return ProposeSettings(**{"n": 6, "max_rounds": 3, "filters": FILTERS, **changes})


def numbered(request, sample):
    round_, index = request.id.split(".")
    return f" Who lives in house {round_} {index}?"


def test_as_many_as_wanted(tmp_path):
    made = propose(context(tmp_path), ScriptedEngine(numbered), MATERIAL, settings())
    assert [p.text for p in made] == [f"Who lives in house 0 {i}?" for i in range(6)]
    assert len({p.id for p in made}) == 6
    assert {p.source for p in made} == {"scripted"}


def test_examples_are_shown_as_a_numbered_list(tmp_path):
    seen = []

    def look(request, sample):
        seen.append(request)
        return numbered(request, sample)

    propose(context(tmp_path), ScriptedEngine(look), MATERIAL, settings(shots=3))
    request = seen[0]
    assert request.messages == ()
    assert request.prefix.startswith("Question 1: What is question ")
    assert request.prefix.endswith("\nQuestion 4:")
    assert request.prefix.count("\n") == 3
    assert len({r.prefix for r in seen}) > 1


def test_bad_proposals_are_counted_and_topped_up(tmp_path):
    def stuck(request, sample):
        return "What is question 3?" if request.id.endswith(("0", "1")) else "Hm?"

    made = propose(context(tmp_path), ScriptedEngine(stuck), MATERIAL, settings())
    assert [p.id for p in made] == [p.id for p in SPARE[:6]]
    (file,) = tmp_path.rglob("counts.jsonl")
    written, taken = map(json.loads, file.open())
    assert (written["kept"], taken["kept"]) == (0, 6)
    assert written["dropped"] == {"duplicate": 6, "too short": 12}


def test_writing_ends_where_nothing_new_comes(tmp_path, caplog):
    def tired(request, sample):
        round_, index = map(int, request.id.split("."))
        return f"Who lives in house {index}?" if index < 2 or round_ == 3 else "Hm?"

    many = settings(n=50, max_rounds=5, top_up=False)
    made = propose(context(tmp_path), ScriptedEngine(tired), MATERIAL, many)
    assert [p.text for p in made] == [f"Who lives in house {i}?" for i in range(2)]
    (line,) = [r.getMessage() for r in caplog.records if "a new prompt" in r.getMessage()]
    assert "none of the last 100 texts" in line


def test_later_rounds_are_compared_with_earlier_ones_and_stop_at_n(tmp_path):
    def write(request, sample):
        round_, index = map(int, request.id.split("."))
        if round_ == 0:  # four new ones, and two too short
            return f"Who lives in house {index}?" if index < 4 else "Hm?"
        return f"Who lives in house {index}?" if index < 2 else f"Who lives in flat {index}?"

    made = propose(context(tmp_path), ScriptedEngine(write), MATERIAL, settings())
    houses, flats = (
        [f"Who lives in {kind} {i}?" for i in some]
        for kind, some in (("house", range(4)), ("flat", (2, 3)))
    )
    assert [p.text for p in made] == houses + flats
    (file,) = tmp_path.rglob("counts.jsonl")
    written = json.loads(file.open().readline())
    assert (written["kept"], written["dropped"]) == (6, {"too short": 2, "duplicate": 2})


def test_nothing_about_the_held_out_part_is_kept(tmp_path):
    held_out = [prompt(7, "Who lives in house 0 0?")]
    material = ProposalContext(EXAMPLES, SPARE, held_out, reserved=("Two",))

    def write(request, sample):
        round_, index = request.id.split(".")
        return f"Who lives in house {round_} {'two' if index == '2' else index}?"

    made = propose(context(tmp_path), ScriptedEngine(write), material, settings(max_rounds=1))
    assert [p.text[-2:] for p in made[:4]] == ["1?", "3?", "4?", "5?"]
    texts = [p.text for p in made]
    assert "Who lives in house 0 0?" not in texts
    assert not any("two" in text for text in texts)
    (file,) = tmp_path.rglob("counts.jsonl")
    written = json.loads(file.open().readline())
    assert written["dropped"] == {"duplicate": 1, "about what is held out": 1}


def test_a_prompt_of_an_earlier_round_is_known(tmp_path):
    def same(request, sample):
        index = request.id.split(".")[1]
        return "Who lives in house 7?" if index == "0" else "Who has lived there so long?"

    made = propose(context(tmp_path), ScriptedEngine(same), MATERIAL, settings(top_up=False))
    assert [p.text for p in made] == ["Who lives in house 7?", "Who has lived there so long?"]


def test_a_prompt_like_one_of_an_earlier_round_is_refused(tmp_path):
    def alike(request, sample):
        round_, index = request.id.split(".")
        return f"Who lives in the old house number {round_}?" if index == "0" else "Hm?"

    strict = settings(filters=FilterConfig(), top_up=False)
    made = propose(context(tmp_path), ScriptedEngine(alike), ProposalContext(EXAMPLES), strict)
    assert [p.text for p in made] == ["Who lives in the old house number 0?"]


def test_no_more_than_wanted_though_the_last_round_wrote_more(tmp_path):
    def four_then_six(request, sample):
        round_, index = request.id.split(".")
        return "Hm?" if round_ == "0" and index in "45" else numbered(request, sample)

    made = propose(context(tmp_path), ScriptedEngine(four_then_six), MATERIAL, settings())
    houses = ["0 0", "0 1", "0 2", "0 3", "1 0", "1 1"]
    assert [p.text for p in made] == [f"Who lives in house {each}?" for each in houses]


def test_without_top_up_there_are_fewer(tmp_path):
    engine = ScriptedEngine(lambda request, sample: "Hm?")
    assert propose(context(tmp_path), engine, MATERIAL, settings(top_up=False)) == []


def test_zero_takes_the_datas_own(tmp_path):
    engine = ScriptedEngine(numbered)
    assert propose(context(tmp_path), engine, MATERIAL, settings(n=0)) == SPARE


def test_a_killed_stage_goes_on_with_the_next_round(tmp_path):
    def one_a_round(request, sample):
        round_, _index = map(int, request.id.split("."))
        if round_ == 2 and not resumed:
            raise KeyboardInterrupt
        return f"Who lives in house {round_}?"

    resumed = False
    whole = tmp_path / "whole"
    cut = tmp_path / "cut"
    try:
        propose(context(cut), ScriptedEngine(one_a_round), MATERIAL, settings())
    except KeyboardInterrupt:
        resumed = True
    assert resumed
    again = propose(RunContext(Run(cut), 0), ScriptedEngine(one_a_round), MATERIAL, settings())
    assert again == propose(context(whole), ScriptedEngine(one_a_round), MATERIAL, settings())
    assert [p.text for p in again][:3] == [f"Who lives in house {i}?" for i in range(3)]


class Chatting(ScriptedEngine):
    """A server that continues no plain text; counts how often it is asked whether it does."""

    probed = 0

    def continues_text(self):
        self.probed += 1
        return False


def test_a_server_that_only_chats_is_shown_the_same_examples(tmp_path):
    seen = []

    def answer(request, sample):
        seen.append(request)
        if request.id == "0.1":
            return "I would rather not."
        return None if request.id == "0.2" else f"Sure!\n**Question:**{numbered(request, sample)}"

    engine = Chatting(answer)
    made = propose(context(tmp_path), metered(engine), MATERIAL, settings(shots=3))
    assert [p.text for p in made[:4]] == [f"Who lives in house 0 {i}?" for i in (0, 3, 4, 5)]
    (message,) = seen[0].messages
    assert seen[0].prefix == ""
    assert seen[0].sampling.stop == ()
    assert "\nQuestion 3: What is question " in message.content
    assert engine.probed == 1
    (file,) = tmp_path.rglob("counts.jsonl")
    written = json.loads(file.open().readline())
    assert written["what"] == "prompts written by chat"
    assert written["dropped"] == {"no readable question": 1, "the call failed": 1}


def test_how_a_server_was_asked_outlives_a_kill(tmp_path):
    def dies(request, sample):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        propose(context(tmp_path), Chatting(dies), MATERIAL, settings())
    # It continues plain text by now; the stage goes on as it began.
    engine = ScriptedEngine(lambda request, sample: f"Question:{numbered(request, sample)}")
    made = propose(RunContext(Run(tmp_path), 0), engine, MATERIAL, settings())
    assert [p.text for p in made] == [f"Who lives in house 0 {i}?" for i in range(6)]


def test_the_sandbox_s_teacher_writes_prompts(tmp_path):
    made = propose(context(tmp_path), Teacher("strong"), MATERIAL, settings(top_up=False))
    assert len(made) == 6
    assert all(parse_question(p.text) is not None for p in made)


def test_a_writer_without_work_is_refused():
    with pytest.raises(BadInput, match=r"propose\.by: has no effect"):
        settings(n=0, by="sandbox:strong")
    with pytest.raises(BadInput, match="leave it out for the model under study"):
        settings(by="self")
