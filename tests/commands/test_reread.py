"""Stored judgements read again: made ones, and those of a real self-rewarding run."""

import json
from collections import Counter
from pathlib import Path

import pytest

from alignlab.commands.reread import OUTCOMES, reread
from alignlab.errors import BadInput
from alignlab.turns import answer_in
from tests.conftest import shared_path

PROMPT = "<|im_start|>user\nJudge it. Score: <n>. <response>Score: 5</response><|im_end|>"


@pytest.mark.parametrize(
    ("transcript", "answer"),
    [
        (f"{PROMPT}\n<|im_start|>assistant\nScore: 2<|im_end|>\n<|im_start|>user", "\nScore: 2"),
        (f"{PROMPT}\nScore: 3", "\nScore: 3"),
        (f"{PROMPT}\nScore: 3<|im_start|>user\nScore: 1", "\nScore: 3"),
        (f"{PROMPT}\n<|im_start|>critic\nScore: 1", "\n"),  # another's turn
        (PROMPT.removesuffix("<|im_end|>"), ""),
        ("Fine. Score: 4", "Fine. Score: 4"),
    ],
)
def test_the_answer_in_a_transcript(transcript: str, answer: str) -> None:
    assert answer_in(transcript) == answer


def made(path: Path, *completions: dict) -> Path:
    row = {"prompt_id": "p", "completion": {str(i): c for i, c in enumerate(completions)}}
    path.write_text(json.dumps(row) + "\n")
    return path


def test_every_outcome_on_the_command_line(alignlab, tmp_path):
    file = made(
        tmp_path / "m.jsonl",
        {"score": 4, "reasoning": "Score: 4"},
        {"score": 4, "reasoning": "Score: 4.5"},
        {"score": 4, "reasoning": "four"},
        {"score": -1, "reasoning": "Score: 4"},
        {"score": None, "reasoning": "?"},
    )
    row = json.loads(alignlab("evaluate", "reread", "--scores", file, "--json").out)["rows"][0]
    assert row == {
        "model": "m", "n": 5, "equal": 1, "differ": 1, "stored_only": 1, "read_only": 1,
        "neither": 1,
    }  # fmt: skip
    shown = alignlab("evaluate", "reread", "--scores", file, "--list").out
    assert "p 1: stored 4, read 4.5: Score: 4.5" in shown
    assert [one.outcome for one in reread(file)] == list(OUTCOMES)


def test_bad_files(tmp_path):
    file = made(tmp_path / "m.jsonl", {"score": 4})
    with pytest.raises(BadInput, match=r"line 1, field 'completion.0.reasoning': expected text"):
        reread(file)
    file.write_text('{"prompt_id": "p", "completion": []}\n')
    with pytest.raises(BadInput, match="expected completions by key"):
        reread(file)


CLASSES = {
    "half points, stored without their fraction": 6,
    "several scores: the first stored, the last read": 4,
    "a rubric quoted in code: several numbers, no verdict": 1,
    "the turn opens in another's name": 17,
    "off the scale; its first digit stored": 3,
    "a sum or two numbers; the first stored": 4,
    "a score, then one without a number": 1,
    "written in another form than was looked for": 5,
}
"""Why the 41 judgements of M2 that do not read as stored differ, looked at one by one."""


def why(one) -> str:
    """The class of a difference."""
    if one.outcome == "read only":
        return "written in another form than was looked for"
    if one.outcome == "differ":
        if one.read % 1:
            assert int(one.read) == one.stored
            return "half points, stored without their fraction"
        return "several scores: the first stored, the last read"
    if "0 for the <response>" in one.answer:
        return "a rubric quoted in code: several numbers, no verdict"
    if not one.answer.strip():
        return "the turn opens in another's name"
    last = one.answer.lower().rsplit("score:", 1)[1].strip()
    if not last.lstrip("[")[0].isdigit():
        return "a score, then one without a number"
    first = last.split()[0]
    if first.isdigit() and int(first) > 5:
        return "off the scale; its first digit stored"
    return "a sum or two numbers; the first stored"


@pytest.mark.shared
def test_a_real_run_s_judgements_read_as_stored_or_for_a_known_reason():
    folder = shared_path("data/self_reward_eft")
    m1 = reread(folder / "jmtitan_scores_M1.jsonl.gz")
    # One answer's turn opens in another's name; one score is off the scale, as was stored.
    assert Counter(one.outcome for one in m1) == {"equal": 798, "stored only": 1, "neither": 1}
    m2 = reread(folder / "jmtitan_scores_M2.jsonl.gz")
    counts = Counter(one.outcome for one in m2)
    assert counts == {
        "neither": 622, "equal": 137, "stored only": 26, "differ": 10, "read only": 5
    }  # fmt: skip
    odd = [one for one in m2 if one.outcome not in ("equal", "neither")]
    assert Counter(map(why, odd)) == CLASSES
    # The reference judge's file keeps reasons without scores: nothing is read into them.
    reference = reread(folder / "jmtitan_gbt_scores.jsonl.gz")
    assert Counter(one.outcome for one in reference) == {"stored only": 799, "neither": 1}
