"""lm-evaluation-harness: what it is told, what is made of its figures, and a run of it."""

import json

import pytest
import yaml

from alignlab.errors import BadInput
from alignlab.evaluation.benchmarks.lm_eval import LmEval
from alignlab.models.load import save
from tests.evaluation.asking import jsonl
from tests.generation.tiny import tiny


def described(tmp_path, bench, groups=()):
    bench._describe(str(tmp_path), groups)
    return yaml.safe_load((tmp_path / "alignlab.yaml").read_text())["task"]


def test_the_leaderboards_tasks_show_its_numbers_of_examples(tmp_path):
    members = described(tmp_path, LmEval(tasks="open_llm"), {"mmlu"})
    shown = {m.get("task") or m.get("group"): m["num_fewshot"] for m in members}
    assert shown == {
        "arc_challenge": 25, "hellaswag": 10, "mmlu": 5, "truthfulqa_mc2": 0, "winogrande": 5,
        "gsm8k": 5,
    }  # fmt: skip
    assert [m for m in members if "group" in m] == [{"group": "mmlu", "num_fewshot": 5}]
    assert described(tmp_path, LmEval(tasks="gsm8k")) == [{"task": "gsm8k"}]
    assert described(tmp_path, LmEval(tasks="gsm8k", shots=0))[0]["num_fewshot"] == 0


def test_local_files_are_offered_under_all_names_of_splits(tmp_path):
    test, train = (jsonl(tmp_path / f"{n}.jsonl", {"x": 1}) for n in ("test", "train"))
    (member,) = described(tmp_path, LmEval(tasks="gsm8k", files={"gsm8k": f"{test},{train}"}))
    files = member["dataset_kwargs"]["data_files"]
    assert files == dict.fromkeys(("test", "validation"), str(test)) | dict.fromkeys(
        ("train", "dev"), str(train)
    )
    assert (member["dataset_path"], member["dataset_name"]) == ("json", None)
    bench = LmEval(tasks="mmlu", files={"mmlu": str(tmp_path)})
    assert described(tmp_path, bench, {"mmlu"}) == [
        {"group": "mmlu", "dataset_path": str(tmp_path)}
    ]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"files": {"hellaswag": "x"}}, "files.hellaswag: has no effect"),
        ({"files": {"gsm8k": "no/such.jsonl"}}, "files.gsm8k: no/such.jsonl: no such file"),
        ({"items": -1}, "items: expected 0 or more, found -1"),
        ({"shots": -1}, "shots: "),
    ],
)
def test_bad_settings(settings, says):
    with pytest.raises(BadInput, match=says):
        LmEval(**settings)


def test_figures_become_rows():
    found = {
        "results": {
            "gsm8k": {"exact_match,strict-match": 0.5, "exact_match_stderr,strict-match": 0.1},
            "mmlu": {"alias": "mmlu", "acc,none": 0.25, "acc_stderr,none": 0.25},
            "arc": {"acc,none": 0.0, "acc_stderr,none": 0.0},
            "wikitext": {"word_perplexity,none": 20.0, "word_perplexity_stderr,none": 1.0},
        },
        "n-samples": {n: {"effective": k} for n, k in (("gsm8k", 26), ("a", 1), ("b", 3))}
        | {"arc": {"effective": 10}, "wikitext": {"effective": 5}},
        "group_subtasks": {"mmlu": ["a", "b"], "gsm8k": ["gsm8k"], "arc": []},
    }
    rows = {r.metric: r for r in LmEval()._rows("m", found)}
    half = rows["gsm8k exact_match (strict-match)"]
    # 0.5 * 0.5 / 0.1^2 = 25 trials: Wilson's bounds are 0.5 -+ 0.1825.
    assert (half.low, half.high) == pytest.approx((0.3175, 0.6825), abs=5e-4)
    assert (half.value, half.n, half.comparable) == (0.5, 26, None)
    assert rows["mmlu acc"].n == 4
    assert 0 <= rows["mmlu acc"].low < 0.25 < rows["mmlu acc"].high <= 1
    assert (rows["arc acc"].low, rows["arc acc"].high) == pytest.approx((0, 0.2775), abs=5e-4)
    perplexity = rows["wikitext word_perplexity"]
    assert (perplexity.low, perplexity.high) == pytest.approx((18.04, 21.96))
    part = LmEval(items=2)._rows("m", found)
    assert {r.comparable for r in part} == {False}  # of a part of the items


@pytest.fixture
def model(tmp_path):
    lm = tiny()
    lm.model.config.max_position_embeddings = 2048  # the harness leaves room for 256 new tokens
    save(lm, tmp_path / "tiny")
    return tmp_path / "tiny"


@pytest.mark.heavy
def test_the_harness_on_local_files(alignlab, model, tmp_path):
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness is not installed ([lm-eval])")
    choices = {"text": ["a", "b"], "label": ["A", "B"]}
    arc = [{"question": "?", "choices": choices, "answerKey": "A"} for _ in range(4)]
    sums = [{"question": f"{i}+1?", "answer": f"#### {i + 1}"} for i in range(6)]
    mmlu = [
        {"question": "?", "subject": "s", "choices": list("wxyz"), "answer": i} for i in range(4)
    ]
    folder = tmp_path / "mmlu"
    folder.mkdir()
    jsonl(folder / "test.jsonl", *mmlu)
    (folder / "README.md").write_text(
        "---\nconfigs:\n- config_name: abstract_algebra\n  data_files:\n"
        "  - split: test\n    path: test.jsonl\n  - split: dev\n    path: test.jsonl\n---\n"
    )
    command = (
        *("evaluate", "lm_eval", "--model", f"mine={model}", "--out", tmp_path / "run", "--json"),
        "tasks=arc_challenge,gsm8k,mmlu_abstract_algebra",
        "shots=1",
        f"files.arc_challenge={jsonl(tmp_path / 'arc.jsonl', *arc)},{tmp_path / 'arc.jsonl'}",
        f"files.gsm8k={jsonl(tmp_path / 'sums.jsonl', *sums)},{tmp_path / 'sums.jsonl'}",
        f"files.mmlu_abstract_algebra={folder}",
    )
    ended = alignlab(*command)
    assert ended.code == 0, ended.err
    (row,) = json.loads(ended.out[ended.out.index('{\n "rows"') :])["rows"]
    assert row["model"] == "mine"
    assert row["gsm8k exact_match (strict-match)"] == 0.0  # a random model
    assert 0 <= row["arc_challenge acc_norm"] <= 1
    assert 0 <= row["mmlu_abstract_algebra acc_low"] <= row["mmlu_abstract_algebra acc_high"] <= 1
    absent = alignlab("evaluate", "lm_eval", "--model", f"mine={model}", "--out", tmp_path / "r2",
                      "tasks=winogrande")  # fmt: skip
    assert absent.code == 2
    assert "alignlab: lm_eval: a task's data is not here" in absent.err  # after a progress bar
    assert "files.TASK=PATH" in absent.err
