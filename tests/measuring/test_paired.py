"""Two runs by prompt: the same prompts are found by their words, all else is not compared."""

import pytest

from alignlab.measuring.paired import compare_by_prompt
from alignlab.records import to_line
from alignlab.types import PromptValue


def a_run(path, values, *, model="M2", by="oracle", prefix="p", seeds=(0,)):
    stage = path / "stages" / "summary" / "01-results"
    stage.mkdir(parents=True, exist_ok=True)
    with (stage / "prompt_values.jsonl").open("a") as file:
        for seed in seeds:
            for i, value in enumerate(values):
                file.write(
                    to_line(
                        PromptValue(model, "score", "mean", f"{prefix}{i}", value, by, seed=seed)
                    )
                )
    return path


def test_a_difference_is_paired_and_tested(tmp_path):
    base = [float(i % 5) for i in range(40)]
    a = a_run(tmp_path / "a", base)
    b = a_run(tmp_path / "b", [v + 1 for v in base], seeds=(0, 1))
    (pair,) = compare_by_prompt([("a", a), ("b", b)])
    assert (pair.first, pair.second) == ("b: M2", "a: M2")
    assert pair.value == pair.low == pair.high == 1.0  # every prompt differs by one
    assert pair.p == pair.p_holm
    assert pair.p < 0.001
    assert pair.prompts == 40
    (other,) = compare_by_prompt([("b", b), ("a", a)])
    assert other.value == -1.0


def test_equal_runs_do_not_differ_and_several_tests_are_corrected(tmp_path):
    values = [float(i % 3) for i in range(20)]
    a, b = tmp_path / "a", tmp_path / "b"
    for model, more in (("M1", 0.0), ("M2", 0.5)):
        a_run(a, values, model=model)
        a_run(b, [v + more * (i % 4 != 0) for i, v in enumerate(values)], model=model)
    found = {p.first: p for p in compare_by_prompt([("a", a), ("b", b)])}
    assert (found["b: M1"].value, found["b: M1"].p, found["b: M1"].p_holm) == (0.0, 1.0, 1.0)
    assert found["b: M2"].p_holm == pytest.approx(2 * found["b: M2"].p)


def test_single_models_are_compared_whatever_their_names(tmp_path):
    a = a_run(tmp_path / "a", [1.0, 2.0] * 10, model="base")
    b = a_run(tmp_path / "b", [2.0, 2.0] * 10, model="tuned")
    (pair,) = compare_by_prompt([("a", a), ("b", b)])
    assert (pair.first, pair.second, pair.value) == ("b: tuned", "a: base", 0.5)


@pytest.mark.parametrize("other", [{"by": "another judge"}, {"prefix": "q"}])
def test_other_judges_and_other_prompts_are_not_comparable(tmp_path, other):
    a = a_run(tmp_path / "a", [1.0] * 20)
    b = a_run(tmp_path / "b", [2.0] * 20, **other)
    (pair,) = compare_by_prompt([("a", a), ("b", b)])
    assert pair.value is None
    assert "same judge" in pair.reason


def test_a_run_without_values_says_so(tmp_path):
    a = a_run(tmp_path / "a", [1.0] * 20)
    (tmp_path / "b" / "stages").mkdir(parents=True)
    (pair,) = compare_by_prompt([("a", a), ("b", tmp_path / "b")])
    assert pair.reason == "no values by prompt are kept in b"
