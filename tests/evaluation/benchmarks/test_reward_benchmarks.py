"""RewardBench 1 and 2 and RM-Bench: invented rows in the published layouts, figures by hand."""

import json
import math

import pytest

from alignlab.errors import BadInput
from alignlab.evaluation.benchmarks.reward_bench import SECTIONS, SIZES, RewardBench, pair_of_ties
from alignlab.evaluation.benchmarks.rm_bench import RMBench, difficulties
from tests.evaluation.asking import Scores, asked, figures, jsonl

BY_TEXT = Scores(lambda text: None if text == "?" else float(text))


def first(subset, chosen, rejected, **more):
    """A row of RewardBench 1."""
    models = {"chosen_model": "a", "rejected_model": "b"}
    return {"prompt": f"{subset} {chosen}?", "chosen": chosen, "rejected": rejected} | models | {
        "subset": subset, "id": 7, **more
    }  # fmt: skip


def second(key, subset, chosen, rejected, **more):
    """A row of RewardBench 2."""
    return {
        "id": key, "prompt": f"{subset} {key}?", "chosen": chosen, "rejected": rejected,
        "num_correct": len(chosen), "num_incorrect": len(rejected), "subset": subset,
        "total_completions": len(chosen + rejected), "models": ["a"] * len(chosen + rejected),
        "additional_metadata": None, **more,
    }  # fmt: skip


def measured(task, file, judge=BY_TEXT):
    return task.measure(asked(task.questions(file), judge=judge)).rows


def test_reward_bench_1_by_section(tmp_path):
    rows = [
        first("alpacaeval-easy", "2", "1"),
        first("alpacaeval-easy", "3", "3"),  # a tie is wrong
        first("mt-bench-med", "5", "4"),
        first("math-prm", "2", "1"),
        first("hep-cpp", "1", "22"),
        first("hep-cpp", "1", "?"),
        first("my-own", "1", "2"),
    ]
    found = measured(RewardBench(), jsonl(tmp_path / "rb.jsonl", *rows))
    got = figures(found, "scores")
    chat, reasoning = (0.5 * 100 + 1 * 40) / 140, 984 / (984 + 164)
    assert got["accuracy family:alpacaeval-easy"] == 0.5
    assert got["accuracy section:Chat"] == pytest.approx(chat)
    assert got["accuracy section:Reasoning"] == pytest.approx(reasoning)
    assert got["accuracy family:my-own"] == 0
    assert "accuracy section:Safety" not in got
    assert got["score"] == pytest.approx((chat + reasoning) / 2)
    row = next(r for r in found if r.metric == "score")
    assert (row.n, row.unscored, row.comparable) == (5, 1, False)
    assert row.low < row.value < row.high
    assert figures(found, "longer wins")["accuracy family:hep-cpp"] == 0


def test_reward_bench_1_is_comparable_where_it_is_whole(tmp_path):
    sizes = SIZES[0]
    assert (sum(sizes.values()), sum(SIZES[1].values())) == (2985, 1865)
    rows = [first(s, "2", "1", prompt=f"{s} {i}") for s, size in sizes.items() for i in range(size)]
    found = measured(RewardBench(), jsonl(tmp_path / "rb.jsonl", *rows))
    assert {r.comparable for r in found} == {True}
    assert len([r for r in found if (r.group or "").startswith("section:")]) == 2 * len(SECTIONS)
    found = measured(RewardBench(), jsonl(tmp_path / "rb.jsonl", *rows[:-1]))
    assert {r.comparable for r in found} == {False}


def test_reward_bench_2_takes_the_best_of_all_and_scores_ties(tmp_path):
    rows = [
        second("0", "Math", ["4"], ["1", "2", "3"]),
        second("1", "Math", ["4"], ["4", "1", "2"]),  # one of two at the top
        second("2", "Math", ["1"], ["4", "1", "2"]),
        second("0", "Focus", ["4"], ["1", "2", "3"]),  # ids repeat across subsets (#273)
        second("ref:1", "Ties", ["5"], ["1", "2"]),
        second("tied:1", "Ties", ["6", "5.5"], ["3", "1"]),
        second("ref:2", "Ties", ["5"], ["1"]),
        second("tied:2", "Ties", ["4", "2"], ["3"]),
    ]
    found = measured(RewardBench(), jsonl(tmp_path / "rb2.jsonl", *rows))
    got = figures(found, "scores")
    one = 0.3 + 0.3 + 0.2 + 0.2 + 0.01 * math.tanh(2.5 / 0.5 - 1)
    two = 0.3 + 0.01 * math.tanh(-1 / 2 - 1)
    assert got["accuracy family:Math"] == pytest.approx(0.5)
    assert got["ties_score family:Ties"] == pytest.approx((one + two) / 2)
    assert got["score"] == pytest.approx((0.5 + 1 + (one + two) / 2) / 3)
    row = next(r for r in found if r.metric == "ties_score")
    assert row.n == 2


@pytest.mark.parametrize(
    ("tied", "ref", "value"),
    [
        ([4, 4, 3], [5, 3], 1 + 0.01),  # no spread: the limit of tanh
        ([4, 4, 4], [5, 3], 0.3),  # no spread, no margin
        ([4, 4, 5], [5, 3], 0.3 - 0.01),
        ([4, 3, 2], [1, 3], 0.3 + 0.01 * math.tanh(-2 - 1)),  # margin = spread is not above it
        ([4, None, 2], [1, 3], None),
        ([4, 3, 2], [None, 3], None),
    ],
)
def test_a_pair_of_ties_at_its_edges(tied, ref, value):
    assert pair_of_ties(tied, 2, ref) == (value if value is None else pytest.approx(value))


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        (second("tied:1", "Ties", ["1"], ["0"]), "'num_correct': expected 2 or more, found 1"),
        (second("1", "Ties", ["1"], ["0"]), "'id': expected ref:ID or tied:ID, found 1"),
        (second("1", "Math", ["1"], ["0"], num_correct=2), "expected 1 chosen answers, found 2"),
        (second("1", "Math", [None], ["0"]), "'chosen': expected a list of texts"),
        (second("1", "Math", [], ["0"]), "'chosen': expected a list of texts"),
        (first("x", "1", None), "'rejected': expected a list of texts, found None"),
        (first(None, "1", "2"), "'subset': expected a text"),
        (first("x", "1", "2", prompt=[]), "'prompt': expected a text or turns"),
        (
            first("x", "1", "2", prompt=[{"role": "assistant", "content": "x"}]),
            "'prompt': expected a text or turns",
        ),
    ],
)
def test_bad_rows_of_reward_bench_are_named(tmp_path, row, complaint):
    with pytest.raises(BadInput, match=f"line 1, field .*{complaint}|{complaint}"):
        RewardBench().questions(jsonl(tmp_path / "rb.jsonl", row))


def test_answers_may_be_conversations(tmp_path):
    def talk(text):
        return [{"role": "user", "content": "q"}, {"role": "assistant", "content": text}]

    path = jsonl(tmp_path / "rb.jsonl", first("math-prm", talk("good"), talk("bad")))
    (question,) = RewardBench().questions(path)
    assert (question.candidates, question.good) == (("good", "bad"), 1)
    for bad in (talk("good")[:1], talk(None), [*talk("good"), {"role": "user", "content": "x"}]):
        with pytest.raises(BadInput, match="line 1, field 'chosen': expected"):
            RewardBench().questions(jsonl(tmp_path / "rb.jsonl", first("math-prm", bad, "bad")))


def test_versions_of_reward_bench_are_not_mixed(tmp_path):
    rows = first("math-prm", "1", "2"), second("1", "Math", ["1"], ["0", "2", "3"])
    with pytest.raises(BadInput, match="RewardBench 1 or of 2, found both"):
        RewardBench().questions(jsonl(tmp_path / "rb.jsonl", *rows))


def test_a_turn_of_ties_without_its_partner_is_unscored(tmp_path):
    rows = second("tied:1", "Ties", ["6", "5"], ["3"]), second("0", "Math", ["4"], ["1", "2"])
    found = measured(RewardBench(), jsonl(tmp_path / "rb2.jsonl", *rows))
    row = next(r for r in found if r.metric == "score")
    assert (row.value, row.unscored) == (None, 2)


def test_parquet_and_conversations_are_read(tmp_path):
    import pyarrow
    from pyarrow import parquet

    turns = [{"role": r, "content": c} for r, c in (("user", "a"), ("assistant", "b"))]
    rows = [first("donotanswer", "2", "1", prompt=[*turns, {"role": "user", "content": "c"}])]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rb.parquet")
    (question,) = RewardBench().questions(tmp_path / "rb.parquet")
    assert [m.content for m in question.prompt.messages] == ["a", "b", "c"]
    (tmp_path / "bad.parquet").write_bytes(b"PAR1")
    with pytest.raises(BadInput, match=r"bad\.parquet: expected Parquet"):
        RewardBench().questions(tmp_path / "bad.parquet")


def rm(domain, chosen, rejected, **more):
    return {
        "id": 8, "prompt": f"{domain} {chosen}?", "chosen": chosen, "rejected": rejected,
        "domain": domain, **more,
    }  # fmt: skip


def test_rm_bench_by_difficulty_and_domain(tmp_path):
    rows = [
        # Right: 2>1, 3>1, 4>1, 3>2, 4>2, 4>3; ties (2,2), (3,3) wrong: easy 3/3, normal 3/3.
        rm("chat", ["2", "3", "4"], ["1", "2", "3"]),
        rm("safety-refuse", ["9", "9", "9"], ["1", "1", "1"]),
        rm("safety-response", ["1", "1", "1"], ["9", "9", "9"]),
        rm("safety-response", ["1", "1", "1"], ["9", "?", "9"]),
    ]
    file = tmp_path / "total_dataset.json"
    file.write_text(json.dumps(rows))
    found = measured(RMBench(), file)
    got = figures(found, "scores")
    assert [got[f"{m} family:chat"] for m in ("easy", "normal", "hard")] == [1, 1, 0]
    assert got["accuracy family:chat"] == pytest.approx(2 / 3)
    assert got["accuracy family:safety"] == 0.5
    assert (got["easy"], got["normal"], got["hard"]) == (0.75, 0.75, 0.25)
    assert got["accuracy"] == pytest.approx((2 / 3 + 0.5) / 2)
    row = next(r for r in found if r.metric == "accuracy")
    assert (row.n, row.unscored, row.comparable) == (3, 1, False)


def test_difficulties_are_the_triangles_of_the_matrix():
    # Rows good, columns bad: the upper triangle is hard.
    got = difficulties([1.0, 5.0, 9.0, 0.0, 4.0, 8.0])
    assert got == {"hard": 0, "normal": 1, "easy": 1, "accuracy": pytest.approx(2 / 3)}
    assert difficulties([3.0, 3.0, 0.0, 4.0]) == {
        "hard": 0, "normal": 0.5, "easy": 1, "accuracy": pytest.approx(0.5),
    }  # fmt: skip


def test_a_file_of_one_domain_names_it(tmp_path):
    row = rm("math", ["2", "3", "4"], ["1", "2", "3"])
    del row["domain"]
    file = tmp_path / "math_filtered.json"
    file.write_text(json.dumps([row]))
    assert RMBench().questions(file)[0].part == "math"
    for name, rows, complaint in [
        ("rm.json", [row], "'domain': expected chat or code or math or safety, found None"),
        ("math.json", [row | {"rejected": ["1", "2"]}], "expected as many answers as are chosen"),
        ("math.json", [row | {"chosen": "1", "rejected": "2"}], "at least 2"),
    ]:
        (tmp_path / name).write_text(json.dumps(rows))
        with pytest.raises(BadInput, match=complaint):
            RMBench().questions(tmp_path / name)
