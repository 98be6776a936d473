from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from alignlab.errors import BadInput
from alignlab.evaluation.judge_files import evaluate_judge_files, read_scores
from tests.conftest import shared_path


def write(path: Path, scores: dict[str, list[float | None]]) -> Path:
    lines = [
        json.dumps(
            {
                "prompt_id": prompt,
                "completion": {str(i): {"content": "x", "score": s} for i, s in enumerate(some)},
            }
        )
        for prompt, some in scores.items()
    ]
    text = "".join(line + "\n" for line in lines)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


def test_rows_are_joined_by_prompt_id_not_by_position(tmp_path: Path) -> None:
    ours = write(tmp_path / "ours.jsonl", {"a": [1, 2], "b": [5, 4]})
    theirs = write(tmp_path / "theirs.jsonl.gz", {"b": [5, 4], "a": [1, 2]})
    rows = {r.metric: r for r in evaluate_judge_files(ours, theirs)}
    assert rows["pairwise_accuracy"].value == 1.0
    assert rows["poster_pairwise_accuracy"].value == 1.0
    assert (rows["spearman"].model, rows["spearman"].against) == ("ours", "theirs")


def test_minus_one_and_null_are_no_scores(tmp_path: Path) -> None:
    path = write(tmp_path / "s.jsonl", {"a": [-1, None, 0, 3.5]})
    found = read_scores(path)["a"].completions
    assert {key: one.score for key, one in found.items()} == {
        "0": None,
        "1": None,
        "2": 0,
        "3": 3.5,
    }


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("{", "s.jsonl, line 2: expected a JSON object"),
        ("[1]", "s.jsonl, line 2: expected a JSON object, found [1]"),
        ('{"completion": {}}', "field 'prompt_id': expected an id, found fields ['completion']"),
        ('{"prompt_id": "a", "completion": {"0": {}}}', "expected each prompt once, found a again"),
        ('{"prompt_id": "b"}', "field 'completion': expected completions by key, found None"),
        ('{"prompt_id": "b", "completion": {"0": 4}}', "field 'completion.0': expected an object"),
        (
            '{"prompt_id": "b", "completion": {"0": {"score": "4"}}}',
            "field 'completion.0.score': expected a number or null, found 4",
        ),
        (
            '{"prompt_id": "b", "completion": {"0": {"score": 1%s}}}' % ("0" * 400),
            "field 'completion.0.score': expected a number or null, found 1000",
        ),
    ],
)
def test_bad_records_name_line_and_field(tmp_path: Path, line: str, complaint: str) -> None:
    path = write(tmp_path / "s.jsonl", {"a": [1, 2]})
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(BadInput) as error:
        read_scores(path)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_files(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected a readable file, found: No such file"):
        read_scores(tmp_path / "none.jsonl")
    empty = tmp_path / "empty.jsonl"
    empty.write_text("\n")
    with pytest.raises(BadInput, match="expected at least one record, found none"):
        read_scores(empty)
    latin = tmp_path / "latin.jsonl"
    latin.write_bytes(b'{"prompt_id": "\xe9"}\n')
    with pytest.raises(BadInput, match="expected UTF-8 text"):
        read_scores(latin)
    fake = tmp_path / "fake.jsonl.gz"
    fake.write_text("{}")
    with pytest.raises(BadInput, match="Not a gzipped file"):
        read_scores(fake)


def test_what_one_file_lacks_is_left_out_and_counted(tmp_path: Path) -> None:
    ours = write(
        tmp_path / "ours.jsonl", {"a": [1, 2, 5], "b": [2, 1], "c": [4, 4], "d": [3, None]}
    )
    theirs = write(
        tmp_path / "theirs.jsonl", {"e": [1, 2], "d": [1, 2], "b": [2, 1, 1], "a": [1, 2]}
    )
    for one, other in ((ours, theirs), (theirs, ours)):
        rows = {r.metric: r for r in evaluate_judge_files(one, other)}
        # Shared: two responses of a (in order), of b (in order) and of d (one unreadable).
        assert (rows["pairwise_accuracy"].value, rows["pairwise_accuracy"].n) == (1.0, 2)
        assert rows["prompts_left_out"].value == 2
        assert rows["completions_left_out"].value == 2
        # Equal: four of six scores, and both of two prompts out of three.
        assert rows["poster_pairwise_accuracy"].value == pytest.approx(4 / 6)
        assert rows["poster_exact_match"].value == pytest.approx(2 / 3)
        assert rows["poster_pairwise_accuracy"].n == 6
    assert rows["unreferenced"].value == 1
    whole = {r.metric for r in evaluate_judge_files(ours, ours)}
    assert not whole & {"prompts_left_out", "completions_left_out"}


def test_ragged_prompts_keep_the_posters_columns(tmp_path: Path) -> None:
    ours = write(tmp_path / "ours.jsonl", {"a": [1, 2, 5], "b": [2, 1]})
    theirs = write(tmp_path / "theirs.jsonl", {"a": [1, 2, 4], "b": [2, 1]})
    rows = {r.metric: r.value for r in evaluate_judge_files(ours, theirs)}
    assert rows["poster_pairwise_accuracy"] == pytest.approx(4 / 5)
    assert rows["poster_exact_match"] == 1 / 2


def scored(path: Path, *rows: tuple[str, str, list[tuple[str, float]]]) -> Path:
    lines = [
        {
            "prompt_id": prompt_id,
            "prompt": prompt,
            "completion": {str(i): {"content": c, "score": s} for i, (c, s) in enumerate(several)},
        }
        for prompt_id, prompt, several in rows
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_completions_under_other_keys_are_joined_by_their_text(tmp_path: Path) -> None:
    ours = scored(tmp_path / "ours.jsonl", ("a", "Why?", [("good", 5), ("bad", 1), ("own", 3)]))
    theirs = scored(tmp_path / "theirs.jsonl", ("a", "Why?", [("bad", 2), ("good", 4)]))
    rows = {r.metric: r for r in evaluate_judge_files(ours, theirs)}
    assert (rows["pairwise_accuracy"].value, rows["pairwise_accuracy"].n) == (1.0, 1)
    assert rows["completions_left_out"].value == 1


def test_one_id_of_two_prompts_is_refused(tmp_path: Path) -> None:
    ours = scored(tmp_path / "ours.jsonl", ("a", "Why?", [("x", 5), ("y", 1)]))
    theirs = scored(tmp_path / "theirs.jsonl", ("a", "How?", [("x", 5), ("y", 1)]))
    with pytest.raises(BadInput, match=r"prompt_id 'a': expected the same prompt as in .*theirs"):
        evaluate_judge_files(ours, theirs)
    other = scored(tmp_path / "other.jsonl", ("b", "Why?", [("x", 5), ("y", 1)]))
    with pytest.raises(
        BadInput, match=r"expected scores of responses in .*other.jsonl, found none"
    ):
        evaluate_judge_files(ours, other)


def test_rows_of_one_prompt_are_one_cluster(tmp_path: Path) -> None:
    pairs = [[("x", 2.0), ("y", 1.0)], [("x", 1.0), ("y", 2.0)], [("x", 3.0), ("y", 1.0)]]
    known = [[("x", 2.0), ("y", 1.0)]] * 3

    def width(copies: int) -> float:
        names = [(f"{i}-{k}", f"Question {i}?", i) for i in range(3) for k in range(copies)]
        ours = scored(tmp_path / "o.jsonl", *((key, text, pairs[i]) for key, text, i in names))
        theirs = scored(tmp_path / "t.jsonl", *((key, text, known[i]) for key, text, i in names))
        found = {r.metric: r for r in evaluate_judge_files(ours, theirs)}["pairwise_accuracy"]
        assert (found.value, found.n) == (pytest.approx(2 / 3), 3 * copies)
        return (found.high or 0) - (found.low or 0)

    assert width(5) == pytest.approx(width(1))


@pytest.mark.shared
@pytest.mark.parametrize("judge", ["M1", "M2"])
def test_the_posters_table_and_the_proper_figures(judge: str) -> None:
    folder = shared_path("data/self_reward_eft")
    expected = json.loads(shared_path("data/expected.json").read_text())["seed000_table2"][judge]
    rows = evaluate_judge_files(
        folder / f"jmtitan_scores_{judge}.jsonl.gz", folder / "jmtitan_gbt_scores.jsonl.gz"
    )
    value = {r.metric: r.value for r in rows}
    n = {r.metric: r.n for r in rows}
    poster, proper = expected["notebook"], expected["proper"]
    for ours, theirs in {
        "poster_pairwise_accuracy": poster["pairwise"],
        "poster_five_best": poster["five"],
        "poster_exact_match": poster["exact"],
        "poster_spearman": poster["spearman"],
        "poster_kendall_tau": poster["tau"],
        "pairs_correct": proper["correct"],
        "pairs_tied": proper["tied"],
        "pairs_wrong": proper["wrong"],
        "pairwise_accuracy": proper["acc_tie0"],
        "pairwise_accuracy_ties_half": proper["acc_tiehalf"],
        "pairwise_accuracy_untied": proper["acc_strict"],
        "five_best": proper["five_best"],
        "five_best_chance": proper["five_best_chance"],
        "exact_match": proper["exact_ranking_all_valid"],
        "spearman": proper["sp_pooled"],
        "kendall_tau": proper["tau_pooled"],
        "spearman_by_prompt": proper["sp_group"],
        "kendall_tau_by_prompt": proper["tau_group"],
    }.items():
        assert value[ours] == (None if theirs is None else pytest.approx(theirs, abs=1e-6)), ours
    published = expected["published"]
    # Every printed digit: the poster has three decimals, half a unit of the last one is rounding.
    for ours, theirs in {
        "poster_pairwise_accuracy": "pairwise",
        "poster_five_best": "five",
        "poster_exact_match": "exact",
        "poster_spearman": "spearman",
        "poster_kendall_tau": "tau",
    }.items():
        assert value[ours] == pytest.approx(published[theirs], abs=5e-4 + 1e-9), ours
    assert n["five_best"] == proper["n5"]
    assert n["spearman"] == proper["n_valid"]
    assert n["spearman_by_prompt"] == proper["groups_defined"]
    assert n["exact_match"] == proper["groups_all_valid"]
    assert rows[0].unscored == {"M1": 1, "M2": 627}[judge]
