"""`alignlab evaluate`: what others produced, measured on the command line."""

import json

import pytest

from alignlab.api.evaluating import evaluate
from alignlab.errors import BadInput
from alignlab.evaluation.annotation_files import WEIGHT_COLUMNS
from tests.conftest import shared_path
from tests.evaluation.benchmarks.test_alpaca_eval import HEADER, published_weights


@pytest.fixture
def annotations(tmp_path):
    path = tmp_path / "annotations.csv"
    path.write_text(HEADER + "m,0,0,10,805,2\nm,1,1,10,805,1\nm,2,2,10,0,1.5\nm,3,3,10,1,\n")
    return path


@pytest.fixture
def scores(tmp_path):
    def write(name, *rows):
        path = tmp_path / f"{name}.jsonl"
        lines = [
            json.dumps({"prompt_id": f"p{i}", "completion": {k: {"score": s} for k, s in row}})
            for i, row in enumerate(rows)
        ]
        path.write_text("\n".join(lines))
        return path

    given = write("mine", [("0", 5), ("1", 1)], [("0", 2), ("1", 4)], [("0", None), ("1", 3)])
    known = write("truth", [("0", 4), ("1", 2)], [("0", 3), ("1", 1)], [("0", 0), ("1", 3)])
    return given, known


def rows_of(ended):
    assert ended.code == 0, ended.err
    return json.loads(ended.out)["rows"]


def test_win_rates_by_hand(alignlab, annotations):
    (row,) = rows_of(alignlab("evaluate", "alpaca_eval", "--annotations", annotations, "--json"))
    assert row == {
        "model": "m",
        "win_rate": 50.0,
        "standard_error": pytest.approx(50 / 3**0.5),
        "n_wins": 1,
        "n_wins_base": 1,
        "n_draws": 1,
        "n_total": 3,
        "n_missing": 1,
        "discrete_win_rate": 50.0,
        "avg_length": 2,
        "lc_win_rate": None,
        "lc_standard_error": None,
    }


def test_length_controlled_by_hand(alignlab, annotations, tmp_path):
    difficulty, weights = tmp_path / "d.csv", tmp_path / "w.csv"
    difficulty.write_text("instruction_id,instruction_difficulty\n0,0\n1,0\n2,0\n3,0\n")
    weights.write_text("," + ",".join(WEIGHT_COLUMNS) + "\nm,0,7,1\n")
    files = ("--annotations", annotations, "--difficulty", difficulty, "--weights", weights)
    (row,) = rows_of(alignlab("evaluate", "alpaca_eval", *files, "--json"))
    assert row["lc_win_rate"] == 50.0
    table = alignlab("evaluate", "alpaca_eval", *files).out
    assert "length-controlled" in table


def test_tables_are_rounded_and_have_intervals(alignlab, annotations, scores):
    table = alignlab("evaluate", "alpaca_eval", "--annotations", annotations).out.splitlines()
    assert table[1].split()[:3] == ["model", "win", "rate"]
    # A standard error of 28.9 points reaches beyond what a rate can be.
    assert " ".join(table[2].split()) == "m 50.0 0.0 to 100.0 50.0 1 1 1 3 1 2"
    assert "length-controlled" not in "".join(table)
    table = alignlab("evaluate", "judge", "--scores", scores[0], "--reference", scores[1]).out
    lines = {line.split()[0]: line.split()[1:] for line in table.splitlines()}
    assert lines["mine"] == ["against", "truth"]
    value, low, to, high, n = lines["pairwise_accuracy"]
    assert (value, to, n) == ("0.5000", "to", "2")
    assert float(low) < 0.5 < float(high)
    assert lines["pairs_wrong"] == ["1", "2"]


def test_judge_rows_by_hand(alignlab, scores):
    files = ("--scores", scores[0], "--reference", scores[1])
    (row,) = rows_of(alignlab("evaluate", "judge", *files, "--json"))
    assert row["model"] == "mine"
    assert (row["pairs_correct"], row["pairs_wrong"], row["pairs_tied"]) == (1, 1, 0)
    assert row["pairwise_accuracy_low"] < row["pairwise_accuracy"] < row["pairwise_accuracy_high"]
    assert row["unscored"] == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("alpaca-eval",), "unknown benchmark 'alpaca-eval'; did you mean 'alpaca_eval'?"),
        (("alpaca_eval",), "--annotations is missing"),
        (("judge", "--reference", "b"), "--scores is missing"),
        (("judge", "--scores", "a"), "--reference is missing"),
        (("judge", "--annotations", "a"), "No such option: --annotations"),
        (("alpaca_eval", "--annotations", "none.csv"), "none.csv: expected a readable file"),
        (("alpaca_eval", "--annotations", "a", "--gamed", "b"), "no effect without difficulty="),
        (("alpaca_eval", "--annotations", "a", "--difficulty-by", "x"), "'--difficulty-by'"),
    ],
)
def test_bad_arguments_are_one_line(alignlab, arguments, says):
    ended = alignlab("evaluate", *arguments)
    assert ended.code == 2
    assert says in ended.line


def test_from_python(annotations, scores):
    (row,) = evaluate("alpaca_eval", annotations=annotations).rows
    assert (row["model"], row["win_rate"]) == ("m", 50.0)
    (row,) = evaluate("judge", scores=scores[0], reference=str(scores[1])).rows
    assert row["model"] == "mine"
    with pytest.raises(BadInput, match="did you mean 'judge_scores'"):
        evaluate("judges")
    with pytest.raises(
        BadInput, match="evaluate judge_scores: missing a required argument: 'reference'"
    ):
        evaluate("judge", scores=scores[0])
    with pytest.raises(BadInput, match="evaluate judge_scores: got an unexpected keyword argument"):
        evaluate("judge", scores=scores[0], reference=scores[1], annotations=annotations)


@pytest.mark.shared
def test_published_annotations(alignlab, tmp_path):
    folder = shared_path("data/alpacaeval")
    expected = json.loads(shared_path("data/expected.json").read_text())["alpacaeval2"]
    files = (
        *("--annotations", folder / "alpacaeval_annotations.csv.gz"),
        *("--difficulty", folder / "instruction_difficulty_recovered.csv"),
        *("--weights", published_weights(tmp_path / "w.csv", expected)),
    )
    command = ("evaluate", "alpaca_eval", *files, "--difficulty-by", "row", "--json")
    rows = {row["model"]: row for row in rows_of(alignlab(*command))}
    assert rows.keys() == expected.keys()
    for model, known in expected.items():
        row, recomputed = rows[model], known["recomputed"]
        for name in ("win_rate", "standard_error", "discrete_win_rate"):
            assert row[name] == pytest.approx(recomputed[name], abs=1e-9), model
        for name in ("n_wins", "n_wins_base", "n_draws", "n_total"):
            assert row[name] == recomputed[name], model
        if published := known.get("published"):
            assert row["avg_length"] == published["avg_length"]
            target = published["length_controlled_winrate"]
            assert row["lc_win_rate"] == pytest.approx(target, abs=1e-4), model


@pytest.mark.shared
def test_a_refit_of_an_original_file(alignlab):
    folder = shared_path("data/alpacaeval")
    expected = json.loads(shared_path("data/expected.json").read_text())["alpacaeval2"]
    files = (
        *("--annotations", folder / "original/falcon-7b-instruct.annotations.json.gz"),
        *("--difficulty", folder / "instruction_difficulty_recovered.csv"),
        *("--gamed", folder / "df_gamed_reconstructed.csv"),
    )
    (row,) = rows_of(alignlab("evaluate", "alpaca_eval", *files, "--json"))
    published = expected["falcon-7b-instruct"]["published"]
    assert row["win_rate"] == pytest.approx(published["win_rate"], abs=1e-9)
    assert row["lc_win_rate"] == pytest.approx(published["length_controlled_winrate"], abs=0.15)


@pytest.mark.shared
def test_a_judge_of_the_reference_files(alignlab):
    folder = shared_path("data/self_reward_eft")
    (scores,) = folder.glob("jmtitan_scores_M1*")
    (reference,) = folder.glob("jmtitan_gbt_scores*")
    files = ("--scores", scores, "--reference", reference)
    (row,) = rows_of(alignlab("evaluate", "judge", *files, "--json"))
    assert row["poster_pairwise_accuracy"] == pytest.approx(0.3825)
    assert row["pairs_correct"] + row["pairs_tied"] + row["pairs_wrong"] == 575


@pytest.mark.shared
def test_preferences_from_tokens(alignlab):
    file = shared_path("data/alpacaeval/original/falcon-7b-instruct.annotations.json.gz")
    command = ("evaluate", "alpaca_eval", "--annotations", file, "--json")
    (stored,), (again,) = (
        rows_of(alignlab(*command, *more)) for more in ((), ("--preferences", "tokens"))
    )
    assert again["win_rate"] == pytest.approx(stored["win_rate"], abs=1e-9)
    assert (again["n_wins"], again["n_draws"]) == (stored["n_wins"], stored["n_draws"]) == (16, 2)
