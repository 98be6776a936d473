"""Functions of a user as feedback sources: parameters, batches, errors, files in the manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import alignlab as al
from alignlab.errors import BadInput
from alignlab.feedback.specs import judge, pair_judge
from alignlab.types import Message, Preference, Prompt, Response, SampledBy, Score, Unscored

EXAMPLE = Path(__file__).parents[2] / "examples" / "my_reward.py"
PROMPT = Prompt("p1", (Message("user", "How many?"),), reference="7")


def responses(*texts: str) -> list[Response]:
    return [Response(f"r{n}", "p1", text, SampledBy("m")) for n, text in enumerate(texts)]


def source(spec: str) -> Any:
    return judge(spec, make_completer=lambda spec: None)  # type: ignore[arg-type,return-value]


def written(folder: Path, code: str) -> Path:
    file = folder / "rewards.py"
    file.write_text("from alignlab.types import Unscored\n" + code)
    return file


def rated(file: Path, name: str, *texts: str) -> list[Any]:
    found = source(f"python:{file}:{name}").rate([(PROMPT, responses(*texts))], 0)
    assert [f.response_ids for f in found] == [(f"r{n}",) for n in range(len(texts))]
    return [f.verdict for f in found]


def test_the_example_scores_and_compares() -> None:
    long = "word " * 70 + "7"
    right, wrong, slow = rated(EXAMPLE, "brief_and_right", "It is 7.", "It is 8.", long)
    assert (right, wrong) == (Score(1.0, (1.0,)), Score(0.0, (0.0,)))
    assert slow.value == pytest.approx(1 - 11 / 100)
    no_reference = Prompt("p2", (Message("user", "How many?"),))
    found = source(f"python:{EXAMPLE}:brief_and_right").rate([(no_reference, responses("7"))], 0)
    assert found[0].verdict == Unscored("the prompt has no reference answer")
    compares = pair_judge(f"python:{EXAMPLE}:brief_and_right", make_completer=lambda s: None)  # type: ignore[arg-type,return-value]
    (verdict,) = compares.compare([(PROMPT, *responses("7", "8"))], 0)
    assert verdict.verdict == Preference(0)


def test_a_batched_function_sees_all_responses_at_once() -> None:
    found = rated(EXAMPLE, "shortest_of_batch", "a", "bbb", "cc")
    assert [v.value for v in found] == [1.0, pytest.approx(1 / 3), pytest.approx(2 / 3)]


def test_parameters_are_taken_by_name(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "def a(reference, response, scale=2): return scale * len(reference + response)\n"
        "def b(messages): return len(messages[-1]['content'])\n"
        "def c(responses, references, **rest): return [Unscored('odd'), None][: len(responses)]\n"
        "def d(response): return True\n",
    )
    assert [v.value for v in rated(file, "a", "xx")] == [6]
    assert [v.value for v in rated(file, "b", "xx")] == [9]
    assert rated(file, "c", "x", "y") == [Unscored("odd"), Unscored("the function gave no score")]
    assert [v.value for v in rated(file, "d", "xx")] == [1]


def test_a_function_of_sentences_values_each(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "def right(sentences, reference): return [float(reference in s) for s in sentences]\n"
        "def odd(sentences): return [None, 1.0][: len(sentences)]\n"
        "def few(sentences): return [1.0]\n",
    )
    assert rated(file, "right", "It is 7. Or 8.", "") == [
        Score(0.5, (1.0, 0.0)), Unscored("the function gave no sentence a value"),
    ]  # fmt: skip
    assert rated(file, "odd", "It is 7. Or 8.", "No.") == [
        Score(1.0, (None, 1.0)), Unscored("the function gave no sentence a value"),
    ]  # fmt: skip
    with pytest.raises(BadInput, match=r"expected a list of 2 values, one a sentence, found"):
        rated(file, "few", "It is 7. Or 8.")
    steps = source(f"steps,offset=0:python:{file}:right")
    (found,) = steps.rate([(PROMPT, responses("It is 7. Or 8."))], 0)
    assert [(step.end, step.value) for step in found.steps] == [(8, 1.0), (14, 0.0)]
    with pytest.raises(BadInput, match="expected a judge of sentences"):
        source(f"steps:python:{EXAMPLE}:brief_and_right")


def test_numpy_scores_are_read(tmp_path: Path) -> None:
    file = written(
        tmp_path,
        "import numpy as np\n"
        "def a(response): return np.float32(0.5)\n"
        "def b(responses): return np.array([0.5, 1.0])\n",
    )
    assert [v.value for v in rated(file, "a", "x")] == [0.5]
    assert [v.value for v in rated(file, "b", "x", "y")] == [0.5, 1.0]


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("def f(response): return 1 / 0", r"rewards.py, line 2, f, response r0 to prompt p1: "
         r"expected a score, found ZeroDivisionError: division by zero"),
        ("def f(response): return float('nan')", "expected a finite number.* found nan"),
        ("def f(response): return float('inf')", "expected a finite number.* found inf"),
        ("def f(response): return 10**400", "a finite number.* found an integer of many digits"),
        ("def f(response): return 10**5000", "a finite number.* found an integer of many digits"),
        ("def f(response): return 1e308", "a finite number .float32.* found 1e.308"),
        ("def f(response): import sys; sys.exit(0)", "line 2, f, .* found SystemExit: 0"),
        ("import sys; sys.exit(0)", "line 2: expected a file that can be imported, found System"),
        ("def f(sentences): return [1] * 5000", "a list of 1 values, .* found .{120}$"),
        ("def f(response): return 'good'", "expected a finite number.* found 'good'"),
        ("def f(responses): return [1.0, 2.0]", "expected 1 scores, found 2"),
        ("def f(responses): return 1.0", "expected a list of 1 scores, found float"),
        ("def f(response, answers): return 1", "expected parameters among response, prompt"),
        ("def f(response, prompts): return 1", "expected parameters among response, prompt"),
        ("def f(): return 1", "expected parameters among response, prompt"),
        ("f = 3", "expected a function 'f', found int"),
        ("g = 3", "expected a function 'f', found no such name"),
        ("def f(response)", "rewards.py, line 2: expected a file that can be imported, found Synt"),
        ("import no_such_module", "rewards.py, line 2: .* found ModuleNotFoundError"),
    ],
)  # fmt: skip
def test_errors_are_one_line_with_file_line_and_record(
    tmp_path: Path, code: str, message: str
) -> None:
    with pytest.raises(BadInput, match=message) as error:
        rated(written(tmp_path, code), "f", "x")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("spec", ["python:", "python:a.py", "python:no/such.py:f"])
def test_a_bad_spec_is_refused(spec: str) -> None:
    with pytest.raises(BadInput, match=r"python:FILE.py:FUNCTION|expected a Python file"):
        source(spec)


def test_a_changed_file_is_another_source(tmp_path: Path) -> None:
    file = written(tmp_path, "def f(response): return 1")
    before = source(f"python:{file}:f")
    file.write_text("def f(response): return 2")
    after = source(f"python:{file}:f")
    assert before.name != after.name
    assert [v.value for v in rated(file, "f", "x")] == [2]


def test_a_run_records_the_file_and_refuses_another(tmp_path: Path) -> None:
    file = written(tmp_path, "def f(response): return len(response)")
    rows = [{"prompt": "a", "completion": text} for text in ("x", "xyz")]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "scored.jsonl"
    judged = al.reward(f"python:{file}:f", tmp_path / "a.jsonl", out=out)
    assert [row["score"] for row in judged.rows] == [1, 3]
    manifest = json.loads((tmp_path / "scored.jsonl.run" / "manifest.json").read_text())
    assert len(manifest["inputs"][str(file)]) == 64
    file.write_text("def f(response): return 2")
    with pytest.raises(BadInput, match=r"rewards.py: changed since this run was started"):
        al.reward(f"python:{file}:f", tmp_path / "a.jsonl", out=out)


def test_a_function_is_a_reward(tmp_path: Path) -> None:
    def vowels(response: str) -> float:
        return float(sum(map(response.count, "aeiou")))

    judged = al.judge(vowels).rate(["Hi", "Hi"], ["a queue", "brr"], out=tmp_path / "j.jsonl")
    assert judged.scores == [5, 0]
