from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from alignlab.errors import BadInput
from alignlab.evaluation.annotation_files import (
    WEIGHT_COLUMNS,
    preference_of_tokens,
    read_annotations,
    read_difficulty,
    recomputed_preference,
    switched,
)
from alignlab.evaluation.benchmarks.alpaca_eval import AlpacaEval
from alignlab.evaluation.metrics import length_controlled as lc
from alignlab.seeds import generator
from tests.conftest import shared_path

HEADER = "model,row,instruction_id,len_1,len_2,preference\n"


def annotations(path: Path, preferences: list[str], model: str = "m") -> Path:
    rows = [f"{model},{i},{i},{10 + i},{20 + i},{p}\n" for i, p in enumerate(preferences)]
    path.write_text(HEADER + "".join(rows))
    return path


def test_figures_by_hand(tmp_path: Path) -> None:
    path = annotations(tmp_path / "a.csv", ["2", "1", "1.5", "", "1.8"])
    (found,) = AlpacaEval().evaluate(path)
    scores = [1, 0, 0.5, 0.8]
    assert found.win_rate == pytest.approx(57.5)
    assert found.standard_error == pytest.approx(100 * np.std(scores, ddof=1) / 2)
    assert (found.n_wins, found.n_wins_base, found.n_draws) == (2, 1, 1)
    assert (found.n_total, found.n_missing) == (4, 1)
    assert found.discrete_win_rate == pytest.approx(62.5)
    assert found.avg_length == (20 + 21 + 22 + 23 + 24) // 805
    assert found.lc_win_rate is None
    rows = {r.metric: r for r in found.rows("base")}
    assert rows["win_rate"].value == pytest.approx(0.575)
    assert (rows["win_rate"].unscored, rows["win_rate"].against) == (1, "base")
    assert rows["win_rate"].high == 1.0


def test_the_benchmarks_own_json_reads_the_same(tmp_path: Path) -> None:
    record = {"output_1": "xx", "output_2": "yyy", "generator_1": "b", "generator_2": "m"}
    records = [{**record, "preference": p} for p in (2.0, 1.0, 0.0, None)]
    path = tmp_path / "annotations.json.gz"
    path.write_bytes(gzip.compress(json.dumps(records).encode()))
    (found,) = AlpacaEval().evaluate(path)
    assert (found.model, found.win_rate, found.n_draws, found.n_missing) == ("m", 50.0, 1, 1)


def test_length_controlled_by_hand_and_by_row(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "m,0,1,5,9,1.4\nm,1,2,5,9,1.6\n")
    difficulty = tmp_path / "d.csv"
    difficulty.write_text("instruction_id,instruction_difficulty\n0,0\n1,1\n2,2\n")
    weights = tmp_path / "w.csv"
    weights.write_text("," + ",".join(WEIGHT_COLUMNS) + "\nm,-1,3,0.5\n")

    def sigmoid(x: float) -> float:
        return 100 / (1 + np.exp(-x))

    (right,) = AlpacaEval(difficulty, weights).evaluate(path)
    assert right.lc_win_rate == pytest.approx((sigmoid(-0.5) + sigmoid(0)) / 2)
    (published,) = AlpacaEval(difficulty, weights, difficulty_by="row").evaluate(path)
    assert published.lc_win_rate == pytest.approx((sigmoid(-1) + sigmoid(-0.5)) / 2)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        (HEADER, "expected at least one record, found none"),
        (HEADER + "m,0,0,1,1,3\n", "line 2, field 'preference': expected a number from 1 to 2"),
        (
            HEADER + "m,0,x,1,1,2\n",
            "field 'instruction_id': expected a finite number, found x",
        ),
        (HEADER + ",0,0,1,1,2\n", "line 2, field 'model': expected a text"),
        ("model,row\nm,0\n", "field 'instruction_id': expected a finite number, found columns"),
    ],
)
def test_bad_csv_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text)
    with pytest.raises(BadInput) as error:
        read_annotations(path)
    assert complaint in str(error.value)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[", "line 1: expected a JSON list"),
        ("{}", "line 1, field 'output_1': expected a string, found None"),
        ("[]", "expected at least one record, found none"),
        ("[1]", "line 1: expected a JSON object, found 1"),
        ('[{"output_1": "a"}]', "line 1, field 'output_2': expected a string, found None"),
    ],
)
def test_bad_json_is_named(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "annotations.json"
    path.write_text(text)
    with pytest.raises(BadInput) as error:
        read_annotations(path)
    assert complaint in str(error.value)


def test_options_without_effect_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "x.csv"
    for options in ({"weights": file}, {"difficulty": file}, {"difficulty_by": "row"}):
        with pytest.raises(BadInput, match="no effect"):
            AlpacaEval(**options)  # type: ignore[arg-type]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.05, 1.0, 20.0, 1000.0]))
def test_the_fit_reaches_the_minimum(seed: int, strength: float) -> None:
    rng = generator("glm", seed)
    own = lc.Preferences(rng.uniform(0, 1, 60), rng.normal(size=60), rng.normal(size=60))
    gamed = lc.Preferences(rng.uniform(0, 1, 40), rng.normal(size=40), rng.normal(size=40))
    rows = lc._stacked(own, gamed)

    def objective(theta: np.ndarray) -> float:
        return float(np.abs(theta).sum()) + strength * rows.at(tuple(theta)).loss

    ours = np.array(lc._minimise(rows, strength, rows.at((0.0, 0.0, 0.0))).theta)
    theirs = minimize(objective, np.zeros(3), method="Nelder-Mead", options={"maxiter": 2000}).x
    assert objective(ours) <= objective(theirs) + 1e-7


def test_a_refit_undoes_what_length_did() -> None:
    rng = generator("length")
    length, difficulty = rng.normal(size=805), rng.normal(size=805)
    truth = 1 / (1 + np.exp(-(0.5 - 2 * np.tanh(length - 1) + 0.7 * difficulty)))
    own = lc.Preferences(truth, length - 1, difficulty)
    gamed_length = rng.normal(size=1610)
    gamed_truth = 1 / (1 + np.exp(2 * np.tanh(gamed_length)))
    gamed = lc.Preferences(gamed_truth, gamed_length, np.zeros(1610))
    weights = lc.fit(own, gamed)
    assert weights.bias == pytest.approx(0.5, abs=0.02)
    assert weights.length == pytest.approx(-2, abs=0.02)
    assert weights.difficulty == pytest.approx(0.7, abs=0.02)
    with pytest.raises(BadInput, match="at least 5 preferences"):
        lc.fit(lc.Preferences(truth[:3], length[:3], difficulty[:3]), gamed)


def published_weights(path: Path, models: dict[str, dict[str, dict[str, float]]]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["", *WEIGHT_COLUMNS])
        for model, known in models.items():
            if weights := known.get("published_glm_weights"):
                names = ("bias", "tanh_std_delta_len", "instruction_difficulty")
                writer.writerow([model, *(repr(weights[name]) for name in names)])
    return path


@pytest.mark.shared
def test_all_models_figures_as_published(tmp_path: Path) -> None:
    folder = shared_path("data/alpacaeval")
    expected = json.loads(shared_path("data/expected.json").read_text())["alpacaeval2"]
    difficulty = folder / "instruction_difficulty_recovered.csv"
    weights = published_weights(tmp_path / "w.csv", expected)
    file = folder / "alpacaeval_annotations.csv.gz"
    found = {r.model: r for r in AlpacaEval(difficulty, weights).evaluate(file)}
    by_row = AlpacaEval(difficulty, weights, difficulty_by="row").evaluate(file)
    rowwise = {r.model: r for r in by_row}
    assert found.keys() == expected.keys()
    for model, known in expected.items():
        ours, recomputed = found[model], known["recomputed"]
        for name in ("win_rate", "standard_error", "discrete_win_rate"):
            assert getattr(ours, name) == pytest.approx(recomputed[name], abs=1e-9), model
        for name in ("n_wins", "n_wins_base", "n_draws", "n_total"):
            assert getattr(ours, name) == recomputed[name], model
        published = known.get("published")
        if published is None:
            assert ours.lc_win_rate is None
            continue
        assert ours.avg_length == published["avg_length"]
        target = published["length_controlled_winrate"]
        assert rowwise[model].lc_win_rate == pytest.approx(target, abs=1e-4)
        if ours.n_total == 805:
            assert ours.lc_win_rate == pytest.approx(target, abs=1e-4)
        if published["lc_standard_error"] is not None:
            error = published["lc_standard_error"]
            assert ours.lc_standard_error == pytest.approx(error, abs=1e-4)


@pytest.mark.shared
def test_all_models_refitted() -> None:
    folder = shared_path("data/alpacaeval")
    expected = json.loads(shared_path("data/expected.json").read_text())["alpacaeval2"]
    bench = AlpacaEval(
        folder / "instruction_difficulty_recovered.csv",
        gamed=folder / "df_gamed_reconstructed.csv",
        difficulty_by="row",
    )
    for found in bench.evaluate(folder / "alpacaeval_annotations.csv.gz"):
        known = expected[found.model]
        refit = known["recomputed"]["lc_cv_with_reconstructed_gamed"]
        assert found.lc_win_rate == pytest.approx(refit, abs=0.15), found.model
        if "published" in known:
            target = known["published"]["length_controlled_winrate"]
            assert found.lc_win_rate == pytest.approx(target, abs=0.15), found.model


@pytest.mark.shared
def test_older_discrete_annotators_with_nulls_and_draws() -> None:
    file = shared_path("data/alpacaeval/alpacaeval_discrete.csv.gz")
    expected = json.loads(shared_path("data/expected.json").read_text())["alpacaeval_discrete"]
    for found in AlpacaEval().evaluate(file):
        known = expected[found.model]
        assert found.win_rate == pytest.approx(known["recomputed"]["win_rate"], abs=1e-9)
        error = known["recomputed"]["standard_error"]
        assert found.standard_error == pytest.approx(error, abs=1e-9)
        assert found.n_missing == known["recomputed"]["n_null"]
        assert found.n_draws == known["published"]["n_draws"]


@pytest.mark.shared
def test_an_original_annotation_file(tmp_path: Path) -> None:
    folder = shared_path("data/alpacaeval")
    expected = json.loads(shared_path("data/expected.json").read_text())["alpacaeval2"]
    weights = published_weights(tmp_path / "w.csv", expected)
    bench = AlpacaEval(folder / "instruction_difficulty_recovered.csv", weights)
    (found,) = bench.evaluate(folder / "original/falcon-7b-instruct.annotations.json.gz")
    published = expected["falcon-7b-instruct"]["published"]
    assert found.win_rate == pytest.approx(published["win_rate"], abs=1e-9)
    assert found.avg_length == published["avg_length"]
    assert found.lc_win_rate == pytest.approx(published["length_controlled_winrate"], abs=1e-4)


ORIGINAL = "original/falcon-7b-instruct.annotations.json.gz"


@pytest.mark.shared
def test_the_original_file_equals_the_table() -> None:
    folder = shared_path("data/alpacaeval")
    (own,) = read_annotations(folder / ORIGINAL).values()
    table = read_annotations(folder / "alpacaeval_annotations.csv.gz")["falcon-7b-instruct"]
    assert len(own) == len(table) == 805
    for one, other in zip(own, table, strict=True):
        assert one.preference == pytest.approx(other.preference, abs=1e-9)
        lengths = (other.length_baseline, other.length_model)
        assert (one.length_baseline, one.length_model) == lengths
    (figures,) = AlpacaEval().evaluate(folder / ORIGINAL)
    by_table = {r.model: r for r in AlpacaEval().evaluate(folder / "alpacaeval_annotations.csv.gz")}
    other = by_table["falcon-7b-instruct"]
    assert figures.win_rate == pytest.approx(other.win_rate, abs=1e-9)
    assert figures.standard_error == pytest.approx(other.standard_error, abs=1e-9)


@pytest.mark.shared
def test_preferences_computed_again_equal_the_stored_ones() -> None:
    file = shared_path("data/alpacaeval") / ORIGINAL
    (stored,) = read_annotations(file).values()
    (again,) = read_annotations(file, "tokens").values()
    for one, other in zip(stored, again, strict=True):
        assert other.preference == pytest.approx(one.preference, abs=1e-9)
    (figures,) = AlpacaEval(preferences="tokens").evaluate(file)
    expected = json.loads(shared_path("data/expected.json").read_text())["alpacaeval2"]
    known = expected["falcon-7b-instruct"]["published"]
    assert figures.win_rate == pytest.approx(known["win_rate"], abs=1e-9)


def test_preference_of_tokens_by_hand() -> None:
    logprobs = {"m": np.log(0.6), "M": np.log(0.2), "The": np.log(0.1)}
    assert preference_of_tokens(logprobs, is_switched=False) == pytest.approx(1.25)
    assert preference_of_tokens(logprobs, is_switched=True) == pytest.approx(1.75)
    assert preference_of_tokens({"M": -0.1}, is_switched=False) == 2
    assert preference_of_tokens({"m": -900.0, "M": -900.0}, is_switched=True) == 1.5
    assert preference_of_tokens({"The": -0.1}, is_switched=False) is None


def test_records_without_a_judgement() -> None:
    record = {"instruction": "i", "output_1": "a", "output_2": "b", "raw_completion": None}
    assert recomputed_preference(record) is None
    assert recomputed_preference({**record, "output_2": "a"}) == 1.5
    # Half of the instructions are shown switched.
    assert 400 < sum(switched(f"instruction {i}") for i in range(1000)) < 600


def test_a_table_holds_no_log_probabilities(tmp_path: Path) -> None:
    path = annotations(tmp_path / "a.csv", ["2"])
    with pytest.raises(BadInput, match=r"expected annotations\.json with log-probabilities"):
        AlpacaEval(preferences="tokens").evaluate(path)


def annotated(tmp_path: Path, *records: dict[str, object]) -> Path:
    path = tmp_path / "annotations.json"
    both = {"generator_1": "base", "generator_2": "mine", "output_1": "aa", "output_2": "bbb"}
    rows = [{"instruction": f"q{i}", **both, **record} for i, record in enumerate(records)]
    path.write_text(json.dumps(rows))
    return path


def test_null_outputs_and_preferences_are_missing(tmp_path: Path) -> None:
    """An annotator that gives up writes null (tatsu-lab/alpaca_eval#340, #300)."""
    path = annotated(
        tmp_path, {"preference": 2.0}, {"preference": None}, {"preference": float("nan")},
        {"preference": None, "output_2": None},
    )  # fmt: skip
    (found,) = AlpacaEval().evaluate(path)
    assert (found.n_total, found.n_missing, found.win_rate) == (1, 3, 100)
    path = annotated(tmp_path, {"preference": 2.0, "output_2": None})
    with pytest.raises(BadInput, match="field 'output_2': expected a string, found None"):
        AlpacaEval().evaluate(path)


def test_annotations_without_log_probabilities_are_refused(tmp_path: Path) -> None:
    """Annotators that rank by function calls store no token (alpaca_eval#447, #223, #417)."""
    raw = {"ordered_models": [{"model": "m", "rank": 1}, {"model": "M", "rank": 2}]}
    path = annotated(tmp_path, {"preference": 2.0, "raw_completion": raw})
    with pytest.raises(BadInput, match="expected the judge's log-probabilities, found none"):
        AlpacaEval(preferences="tokens").evaluate(path)
    top = [{"token": "m", "logprob": -0.1}, {"token": "M", "logprob": None}]
    known = {"logprobs": {"content": [{"token": "m", "top_logprobs": top}]}}
    path = annotated(tmp_path, {"raw_completion": raw}, {"raw_completion": known})
    (found,) = AlpacaEval(preferences="tokens").evaluate(path)
    assert (found.n_total, found.n_missing) == (1, 1)


@pytest.mark.parametrize(
    ("changed", "complaint"),
    [
        ({"generator_1": "other"}, "field 'generator_1': expected 'base', as in the other rows"),
        ({"annotator": "b"}, "field 'annotator': expected 'a', as in the other rows of m"),
        (
            {"generator_1": "m", "generator_2": "base"},
            "field 'generator_1': expected a baseline, which is no model of other rows, found base",
        ),
    ],
)
def test_annotations_of_several_comparisons_are_not_averaged(
    tmp_path: Path, changed: dict[str, str], complaint: str
) -> None:
    plain = {
        "instruction": "i", "output_1": "x", "output_2": "y", "annotator": "a",
        "generator_1": "base", "generator_2": "m", "preference": 2.0,
    }  # fmt: skip
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps([plain, plain | {"generator_2": "n", "generator_1": "base"}]))
    assert list(read_annotations(path)) == ["m", "n"]
    path.write_text(json.dumps([plain | {"generator_1": "m"}, plain | {"generator_2": "n"}]))
    assert list(read_annotations(path)) == ["m", "n"]  # a baseline against itself
    path.write_text(json.dumps([plain, plain | changed]))
    with pytest.raises(BadInput) as error:
        read_annotations(path)
    assert complaint in str(error.value)


def test_an_annotation_twice_is_refused(tmp_path: Path) -> None:
    """Files that were joined twice, or annotated twice, hold each instruction twice."""
    one = {"preference": 2.0, "index": 3}
    path = annotated(tmp_path, one, {**one, "preference": 1.0})
    with pytest.raises(BadInput, match="line 2, field 'index': expected each row of a model once"):
        read_annotations(path)
    same = {"preference": 2.0, "instruction": "q"}
    with pytest.raises(BadInput, match="line 2, field 'instruction': expected each row of a model"):
        read_annotations(annotated(tmp_path, same, same))
    # A set may ask the same question twice.
    assert read_annotations(annotated(tmp_path, same, {**same, "output_2": "another answer"}))
    assert read_annotations(annotated(tmp_path, {**same, "index": 1}, {**same, "index": 2}))


@pytest.mark.parametrize("field", ["generator_1", "generator_2", "annotator", "instruction"])
def test_a_name_or_instruction_is_a_text(tmp_path: Path, field: str) -> None:
    for value in (["m"], {"a": 1}, 5, "\ud83d"):  # the last is half a character
        path = annotated(tmp_path, {"preference": 2.0}, {"preference": 2.0, field: value})
        for source in ("stored", "tokens"):
            with pytest.raises(BadInput, match=f"line 2, field '{field}': expected a text"):
                read_annotations(path, source)  # type: ignore[arg-type]


def test_a_number_too_large_is_refused(tmp_path: Path) -> None:
    for field in ("preference", "index"):
        path = annotated(tmp_path, {"preference": 2.0, field: 10**400})
        with pytest.raises(BadInput, match=f"field '{field}': expected a finite number"):
            read_annotations(path)


@pytest.mark.parametrize("head", ["instruction_id", "index", "", "Unnamed: 0"])
def test_the_published_table_of_difficulties_is_read(tmp_path: Path, head: str) -> None:
    path = tmp_path / "instruction_difficulty.csv"
    path.write_text(f"{head},instruction_difficulty\n0,0.5\n3,-1.5\n")
    assert read_difficulty(path) == {0: 0.5, 3: -1.5}


def test_a_row_of_a_table_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(HEADER + "m,0,0,1,1,2\nn,0,0,1,1,2\nm,0,0,1,1,2\n")
    with pytest.raises(BadInput, match="line 4, field 'row': expected each row of a model once"):
        read_annotations(path)
