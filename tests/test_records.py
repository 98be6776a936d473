"""Every noun survives the way to JSON and back."""

from dataclasses import replace

import pytest

from alignlab import seeds, types
from alignlab.errors import BadInput
from alignlab.records import fingerprint, from_line, to_line, whole_records

PROMPT = types.Prompt(
    "p", (types.Message("user", 'Où? \u2028 "q"\n'),), reference="r", query_type="open"
)
RESPONSE = types.Response("r", "p", "text", types.SampledBy("M1", types.Sampling(), 7))
VERDICTS = [
    types.Score(3.5, (3.0, None, 4.0)),
    types.Preference(None, (0, 1)),
    types.Ranking((0, 1, 1)),
    types.Critique("too long"),
    types.Unscored("no score in the answer"),
]


@pytest.mark.parametrize("verdict", VERDICTS)
def test_feedback_keeps_its_verdict(verdict):
    feedback = types.Feedback("p", ("r",), "judge", verdict, "why", ("raw",))
    line = to_line(feedback)
    assert line.count("\n") == 1
    assert from_line(types.Feedback, line) == feedback


@pytest.mark.parametrize(
    "record",
    [
        PROMPT,
        RESPONSE,
        types.Demonstration(PROMPT, RESPONSE, "eft"),
        types.PreferenceGroup(PROMPT, (RESPONSE, RESPONSE), (1.0, 0.0), "human"),
        types.EvalResult("M1", "score", "mean", None, None, None, 0, 3),
        types.Count("s", "w", 1, {"a": 2}),
        types.Example(PROMPT, (types.DisplayedAnswer("M1", "t", ()),)),
        types.Audit("r", "M1", "judge", None, 4.0),
    ],
)
def test_records_round_trip(record):
    assert from_line(type(record), to_line(record)) == record


def test_examples_keep_the_verdicts_inside():
    feedback = types.Feedback("p", ("r",), "judge", types.Score(2.0))
    example = types.Example(PROMPT, (types.DisplayedAnswer("M1", "t", (feedback,)),))
    assert from_line(types.Example, to_line(example)) == example


def test_nan_is_refused():
    with pytest.raises(ValueError, match="JSON compliant"):
        to_line(types.Audit("r", "M1", "judge", float("nan"), 4.0))


def test_fingerprint_ignores_key_order():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_groups_are_checked():
    with pytest.raises(ValueError, match="at least 2"):
        types.PreferenceGroup(PROMPT, (RESPONSE,), (1.0,), "s")
    with pytest.raises(ValueError, match="best first"):
        types.PreferenceGroup(PROMPT, (RESPONSE, RESPONSE), (0.0, 1.0), "s")
    tied = types.PreferenceGroup(PROMPT, (RESPONSE, RESPONSE), (1.0, 1.0), "s")
    assert tied.best_and_worst() is None


def test_seeds_depend_on_every_name():
    assert seeds.derive(0, "a", 1) == seeds.derive(0, "a", 1)
    assert (
        len({seeds.derive(0, "a"), seeds.derive(1, "a"), seeds.derive(0, "b"), seeds.derive("0a")})
        == 4
    )
    assert seeds.generator(1, "x").random() == seeds.generator(1, "x").random()


def test_whole_records_end_before_half_a_line_even_within_a_character(tmp_path):
    wrote = [replace(RESPONSE, text="a\u2028b\x85c"), replace(RESPONSE, id="r2", text="é")]
    lines = "".join(map(to_line, wrote)).encode()
    file = tmp_path / "responses.jsonl"
    for cut in range(len(to_line(wrote[0]).encode()), len(lines)):
        file.write_bytes(lines[:cut])
        assert list(whole_records(file, types.Response)) == wrote[:1]
    file.write_bytes(lines)
    assert list(whole_records(file, types.Response)) == wrote
    assert list(whole_records(tmp_path / "none.jsonl", types.Response)) == []


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_not_finite_are_not_read_back(tmp_path, number):
    path = tmp_path / "scores.jsonl"
    path.write_text(f'{{"value": {number}, "samples": []}}\n')
    with pytest.raises(BadInput, match=f"line 1.*expected a finite number, found {number}"):
        list(whole_records(path, types.Score))
