"""`alignlab generate`, `judge`, `reward`: files that other commands read, resumed, refused."""

import gzip
import json
from collections import Counter
from pathlib import Path
from typing import ClassVar

import pytest

import alignlab as lab_package
from alignlab.context import RunContext
from alignlab.data.sources import load
from alignlab.errors import BadInput
from alignlab.feedback.conversion import ScoreByPairs
from alignlab.feedback.rules import LengthJudge
from alignlab.generation.scripted import ScriptedEngine
from alignlab.measuring import entrants as entrants
from alignlab.stages import judge as judge_stage
from alignlab.types import Preference, Unscored
from tests.feedback.worlds import prompt, response
from tests.generation.tiny import tiny


def jsonl(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rows_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    rows = [{"prompt": f"Say {i}.", "query_type": "closed"} for i in range(5)]
    return jsonl(tmp_path / "prompts.jsonl", *rows)


@pytest.fixture
def answers(tmp_path: Path) -> Path:
    rows = [
        {"prompt": f"p{i}", "completion": "word " * (k + 1), "model": f"m{k}"}
        for i in range(3)
        for k in range(i + 1)
    ]
    return jsonl(tmp_path / "answers.jsonl", *rows)


def test_from_prompts_to_pairs_on_the_command_line(alignlab, prompts, tmp_path):
    out, judged, pairs = (tmp_path / f"{n}.jsonl" for n in ("answers", "judged", "pairs"))
    command = ("generate", "--model", "mine=sandbox:weak", "--prompts", prompts, "--out", out)
    ended = alignlab(*command, "n=3", "seed=1", "--json")
    assert ended.code == 0, ended.err
    assert json.loads(ended.out)["rows"] == 15
    written = rows_of(out)
    assert Counter(row["prompt"] for row in written) == {f"Say {i}.": 3 for i in range(5)}
    assert {row["query_type"] for row in written} == {"closed"}
    # A sandbox teacher answers no such question; scripted answers differ in length.
    ended = alignlab("judge", "--judge", "random", "--responses", out, "--out", judged)
    assert ended.code == 0, ended.err
    scored = rows_of(judged)
    assert all(0 <= row["score"] <= 5 and row["judge"] == "random" for row in scored)
    assert len(load(str(judged)).demonstrations) == len(scored)
    assert alignlab("data", "convert", judged, pairs, "--to", "messages").code == 0


def test_groups_are_ordered_and_train_reads_them(answers, tmp_path):
    out = tmp_path / "groups.jsonl"
    found = lab_package.reward(reward="longer", responses=answers, out=out, to="groups")
    assert len(found.rows) == 2
    assert "prompt with fewer than 2 scored responses 1" in str(found)
    corpus = load(str(out))
    assert [g.scores for g in corpus.groups] == [(2.0, 1.0), (3.0, 2.0, 1.0)]
    assert [r.sampler.model for r in corpus.groups[1].responses] == ["m2", "m1", "m0"]
    assert corpus.groups[0].source == "longer"
    # The same judgements in the other layout: nothing is judged again.
    again = lab_package.reward(reward="longer", responses=answers, out=out, to="scores")
    assert len(again.rows) == 6
    assert [row["score"] for row in rows_of(out)] == [1, 1, 2, 1, 2, 3]


def test_files_of_every_ending(answers, tmp_path):
    for ending in (".jsonl.gz", ".parquet"):
        out = tmp_path / f"scores{ending}"
        lab_package.judge(judge="longer", responses=answers, out=out, limit=2)
        assert len(load(str(out)).demonstrations) == 3
    assert gzip.decompress((tmp_path / "scores.jsonl.gz").read_bytes()).count(b"\n") == 3


class Dying(LengthJudge):
    """Killed at its third chunk; remembers whom it rated."""

    name = "dying"
    rated: ClassVar[list[str]] = []
    dies = True

    def rate(self, items, seed):
        if Dying.dies and len(Dying.rated) >= 3:
            raise KeyboardInterrupt
        Dying.rated += [r.text for _, responses in items for r in responses]
        return super().rate(items, seed)


def test_a_killed_judge_rates_nothing_twice(answers, tmp_path, monkeypatch):
    monkeypatch.setattr(judge_stage, "JUDGE_CHUNK", 1)
    monkeypatch.setattr(RunContext, "rater", lambda context, spec: Dying())
    out = tmp_path / "out.jsonl"
    with pytest.raises(KeyboardInterrupt):
        lab_package.judge(judge="longer", responses=answers, out=out)
    assert not out.exists()
    Dying.dies = False
    lab_package.judge(judge="longer", responses=answers, out=out)
    assert len(Dying.rated) == len(rows_of(out)) == 6
    first = out.read_bytes()
    lab_package.judge(judge="longer", responses=answers, out=out)
    assert (len(Dying.rated), out.read_bytes()) == (6, first)


def test_a_killed_generation_answers_nothing_twice(prompts, tmp_path, monkeypatch):
    asked: list[str] = []

    def answer(request, k):
        if len(asked) == 2 and "killed" not in state:
            state.add("killed")
            raise KeyboardInterrupt
        asked.append(request.messages[-1].content)
        return f"answer to {asked[-1]}" if "3" not in asked[-1] else None

    state: set[str] = set()
    engine = ScriptedEngine(answer, name="mine")
    monkeypatch.setattr(entrants.RunContext, "completer", lambda self, spec: engine)
    given = {"model": "scripted:x", "prompts": prompts, "out": tmp_path / "o.jsonl", "chunk": 1}
    with pytest.raises(KeyboardInterrupt):
        lab_package.generate(**given)
    found = lab_package.generate(**given)
    assert sorted(asked) == [f"Say {i}." for i in range(5)]
    assert (len(found.rows), found.note) == (4, "failed 1")  # a failed answer is no answer


def test_thoughts_are_no_part_of_an_answer_and_counted(prompts, tmp_path, monkeypatch):
    engine = ScriptedEngine(lambda request, k: "<think>hm</think>\n\nYes.", name="mine")
    monkeypatch.setattr(entrants.RunContext, "completer", lambda self, spec: engine)
    given = {"model": "scripted:x", "prompts": prompts, "out": tmp_path / "o.jsonl"}
    assert lab_package.generate(**given).note == "thoughts taken off 5"
    rows = [json.loads(line) for line in (tmp_path / "o.jsonl").open()]
    assert {row["completion"] for row in rows} == {"Yes."}


def test_what_is_unscored_says_why(alignlab, answers, tmp_path):
    out = tmp_path / "judged.jsonl"
    ended = alignlab("judge", "--judge", "sandbox:oracle", "--responses", answers, "--out", out)
    assert ended.code == 1
    assert "no response was scored" in ended.err
    assert "unscored: the question makes no sense in the sandbox 6" in ended.err
    assert all("score" not in row and row["unscored"] for row in rows_of(out))
    groups = alignlab(
        "judge", "--judge", "sandbox:oracle", "--responses", answers,
        "--out", tmp_path / "g.jsonl", "to=groups",
    )  # fmt: skip
    assert groups.code == 2
    assert "expected responses to order, found none" in groups.line


def test_a_judgement_of_nothing_does_not_end_well(alignlab, answers, tmp_path):
    scripted = jsonl(tmp_path / "mute.jsonl", {"id": "nobody", "texts": ["Score: 3"]})
    out = tmp_path / "judged.jsonl"
    ended = alignlab(
        "judge", "--judge", f"llm:scripted:{scripted}", "--responses", answers, "--out", out
    )
    assert ended.code == 1
    assert "no response was scored" in ended.err
    assert "the script has no sample" in ended.err
    assert all(row["unscored"] and row.get("score") is None for row in rows_of(out))


def test_thoughts_are_no_answers(alignlab, prompts, tmp_path):
    replies = {
        "Say 0.": "<think>Let me see.</think>\n\nA river.",
        "Say 1.": "<think>Let me s",
        "Say 2.": "A lake.",
        "Say 3.": "so it is</think>A hill.",
    }
    ids = {p.text: p.id for p in load(str(prompts)).prompts}
    script = [{"id": ids[text], "texts": [reply]} for text, reply in replies.items()]
    scripted, out = jsonl(tmp_path / "script.jsonl", *script), tmp_path / "answers.jsonl"
    command = ("generate", "--prompts", prompts, "--out", out, "--model")
    ended = alignlab(*command, f"scripted:{scripted}")
    assert ended.code == 0, ended.err
    assert "3 rows (failed 1, thoughts taken off 3, without an answer 1)" in ended.out
    assert {row["prompt"]: row["completion"] for row in rows_of(out)} == {
        "Say 0.": "A river.", "Say 2.": "A lake.", "Say 3.": "A hill.",
    }  # fmt: skip
    none = jsonl(tmp_path / "none.jsonl", {"id": "nobody", "texts": []})
    command = ("generate", "--prompts", prompts, "--out", tmp_path / "n.jsonl", "--model")
    ended = alignlab(*command, f"scripted:{none}")
    assert ended.code == 1
    assert "no response was drawn (failed 5)" in ended.err


def test_prompts_without_an_answer_are_counted_and_the_first_says_why(alignlab, tmp_path, caplog):
    rows = [{"prompt": text} for text in ("", "Hi", "Hi there " * 900)]
    asked = tmp_path / "some.jsonl"
    asked.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ("generate", "--model", "sandbox:knows_all", "--prompts", str(asked))
    ended = alignlab(*given, "--out", str(tmp_path / "o.jsonl"), "max_tokens=4")
    assert "1 row (records dropped: empty prompt 1, failed 1)" in ended.out
    assert "no answer to 1 of 2 requests, the first: the prompt fills" in caplog.text
    refused = alignlab(*given, "--out", str(tmp_path / "p.jsonl"), "--config", str(tmp_path))
    assert (refused.code, "expected a file of settings" in refused.line) == (2, True)


def test_a_binary_file_is_no_feedback_of_people(alignlab, answers, tmp_path):
    (tmp_path / "bin.jsonl").write_bytes(bytes(range(128, 256)))
    given = ("reward", "--reward", f"human:{tmp_path}/bin.jsonl", "--responses", str(answers))
    ended = alignlab(*given, "--out", str(tmp_path / "o.jsonl"))
    assert (ended.code, "expected a feedback record" in ended.line) == (2, True)
    assert not (tmp_path / "o.jsonl.run").exists()


def test_critiques_become_comments_that_are_read(answers, tmp_path, monkeypatch):
    texts = iter(["Too short."] * 5 + [""])
    critic = ScriptedEngine(lambda request, k: next(texts), name="critic")
    monkeypatch.setattr(entrants.RunContext, "completer", lambda self, spec: critic)
    out = tmp_path / "judged.jsonl"
    found = lab_package.judge(judge="critique:x:y", responses=answers, out=out)
    assert found.note == "unscored: an empty critique 1"
    assert [row["feedback"] for row in rows_of(out)] == ["Too short."] * 5 + [""]
    corpus = load(str(out))
    assert [c.comment for c in corpus.commented] == ["Too short."] * 5
    assert sum(count.dropped.get("empty feedback", 0) for count in corpus.counts) == 1


def test_a_local_model(prompts, tmp_path):
    from alignlab.models.load import save

    folder = tmp_path / "tiny"
    save(tiny(), folder)
    out = tmp_path / "a.jsonl"
    lab_package.generate(model=str(folder), prompts=prompts, out=out, n=2, max_tokens=6, limit=2)
    rows = rows_of(out)
    assert len(rows) == 4
    assert {row["model"] for row in rows} == {"tiny"}
    assert all(row["tokens"] <= 6 for row in rows)


def test_shares_of_comparisons_by_hand():
    items = [(prompt("p"), [response(k, "w " * n) for k, n in (("a", 3), ("b", 1), ("c", 1))])]
    lone = [(prompt("q"), [response("d", "x", of="q")])]
    found = ScoreByPairs(LengthJudge()).rate([*items, *lone], seed=0)
    # a beats b and c; b and c tie; d has nobody to be compared with.
    assert [f.verdict.value for f in found[:3]] == [1.0, 0.25, 0.25]
    assert found[1].verdict.samples == (0.0, 0.5)
    assert found[3].verdict == Unscored("no other response to compare with")

    class Mute:
        name = "mute"

        def compare(self, items, seed):
            won = LengthJudge().compare(items, seed)
            return [
                f if isinstance(f.verdict, Preference) and "a" not in f.response_ids
                else type(f)(f.prompt_id, f.response_ids, f.source, Unscored("?"))
                for f in won
            ]  # fmt: skip

    silent = ScoreByPairs(Mute()).rate(items, seed=0)
    assert silent[0].verdict == Unscored("no readable comparison")
    assert silent[1].verdict.value == 0.5


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("generate", "--model", "m"), "generate: --prompts is missing"),
        (("judge", "--judge", "longer", "--out", "o.jsonl"), "judge: --responses is missing"),
        (("reward", "--responses", "{a}", "--out", "{o}"), "reward: --reward is missing"),
        (
            ("judge", "--judge", "longr", "--responses", "{a}", "--out", "{o}"),
            "unknown feedback 'longr'; did you mean 'longer'?",
        ),
        (
            ("judge", "--judge", "longer", "--responses", "{p}", "--out", "{o}"),
            "expected responses to judge, found none",
        ),
        (
            ("judge", "--judge", "longer", "--responses", "{a}", "--out", "{a}"),
            "expected a new file, found one that this command did not write",
        ),
        (
            ("judge", "--judge", "longer", "--responses", "{a}", "--out", "out.txt"),
            "expected a file name ending in .jsonl",
        ),
        (
            ("judge", "--judge", "longer", "--responses", "{a}", "--out", "{o}", "too=x"),
            "unknown setting 'too'; did you mean 'to'?",
        ),
        (
            ("generate", "--model", "sandbox:weak", "--prompts", "{p}", "--out", "{o}", "n=0"),
            "setting n: expected 1 or more, found 0",
        ),
    ],
)
def test_bad_input_is_one_line(alignlab, prompts, answers, tmp_path, arguments, says):
    known = {"a": answers, "p": prompts, "o": tmp_path / "out.jsonl"}
    ended = alignlab(*(a.format(**known) for a in arguments))
    assert ended.code == 2
    assert says in ended.line


def test_other_settings_for_the_same_file_are_refused(answers, tmp_path):
    out = tmp_path / "out.jsonl"
    lab_package.judge(judge="longer", responses=answers, out=out)
    with pytest.raises(BadInput, match="started with"):
        lab_package.judge(judge="random", responses=answers, out=out)


@pytest.mark.parametrize("command", ["generate", "judge", "reward"])
def test_help_and_settings(alignlab, command):
    assert f"Example: alignlab {command}" in " ".join(alignlab(command, "--help").out.split())
    assert "seed" in alignlab(command, "--options").out
