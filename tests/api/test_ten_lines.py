"""The lines that a notebook starts with, on models of the sandbox and a control as judge."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import alignlab as al
from alignlab import progress
from tests.conftest import shared_path
from tests.recipes.small import SMALL

JUDGE = "longer"
"""A control that scores any answer; the sandbox's teachers judge their own questions alone."""
MODEL = "sandbox:knows_all"
QUESTIONS = [
    {"question_id": i, "category": "writing", "turns": [f"Write {i} words.", "Again."]}
    for i in (81, 82)
]


def pairs(n: int = 12) -> list[dict[str, str]]:
    """Preference pairs whose chosen side is a sum."""
    return [
        {
            "prompt": f"What is {i}+1?",
            "chosen": f"It is {i + 1}.",
            "rejected": f"It is {i}, surely.",
        }
        for i in range(n)
    ]


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    progress.use(progress.Silent())
    yield tmp_path
    progress.use(None)


def _columns(frame: Any) -> set[str]:
    return set(frame.columns) if hasattr(frame, "columns") else set(frame[0])


def test_the_ten_lines():
    Path("prefs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pairs()))
    data = al.load_data("prefs.jsonl", test_share=0.25)
    model = al.load_model(MODEL)
    run = al.train(al.DPO(beta=0.1), model, data, lr=1e-6)
    judge = al.judge(JUDGE)
    score = al.evaluate(
        "mt_bench", run.model, judge=judge, data=QUESTIONS, temperature=0.0, max_tokens=8
    )
    study = al.run("self_rewarding", *SMALL, model=model, data="sandbox", iterations=1)

    held_out = {row["prompt"] for row in data if row["split"] == "test"}
    assert 0 < len(held_out) < 12
    assert len(data) == 12
    assert {"kept", "dropped"} <= _columns(data.counts.to_frame())
    assert {"step", "loss"} <= _columns(run.metrics.to_frame())
    assert {row["n"] for row in run.held_out} == {len(held_out)}
    assert Path(run.model.path, "config.json").exists()
    assert isinstance(run.model, al.Checkpoint)
    loaded = al.load_model(run)
    for trained, again in ((run.model, loaded), (study.model, al.load_model(study))):
        assert trained.generate(["Hi"], n=2, max_tokens=4).rows == (
            again.generate(["Hi"], n=2, max_tokens=4).rows
        )
    assert "dpo" in {row["model"] for row in score}
    assert score.report is not None
    assert score.report.exists()
    assert {"model", "metric", "value", "low", "high"} <= _columns(study.results.to_frame())
    assert study.report is not None
    assert study.report.parent == study.folder == Path("runs/self_rewarding")
    assert Path(study.model.path, "config.json").exists()
    for result in (data.counts, run, score, study):
        assert result._repr_html_().count("<tr>") >= 2
    assert run.plot().axes
    assert study.plot().axes
    assert str(study.report) in study._repr_html_()
    page = al.report(run.folder if Path(run.folder, "summary.json").exists() else study)
    assert Path(page).exists()


def test_answers_and_log_probabilities_of_a_model():
    model = al.load_model(MODEL)
    answers = model.generate(["Hi"], n=4, max_tokens=6)
    assert [row["prompt"] for row in answers] == ["Hi"] * 4
    again = model.generate([[{"role": "user", "content": "Hi"}]], n=4, max_tokens=6)
    assert [r["completion"] for r in again] == [r["completion"] for r in answers]
    scored = model.logprobs(["Hi", "Hi"], ["Yes.", "No, not at all."])
    assert all(row["logprob"] == pytest.approx(sum(row["tokens"])) for row in scored)
    assert all(row["logprob"] < 0 for row in scored)
    copy = al.load_model(model.save("copy"))
    assert copy.logprobs(["Hi"], ["Yes."])[0]["logprob"] == pytest.approx(scored[0]["logprob"])
    with pytest.raises(al.BadInput, match="expected a list of prompts"):
        model.generate("Hi")
    for wrong in (None, {"a": 1}, [{"role": "x"}], [[]], [[{"role": "user", "content": 1}]]):
        with pytest.raises(al.BadInput, match="expected"):
            model.generate(wrong)
    with pytest.raises(al.BadInput, match="seed: expected a whole number"):
        model.generate(["Hi"], seed="x")
    with pytest.raises(al.BadInput, match="expected a list of texts"):
        model.logprobs(["Hi"], [1])
    kept = Path("notes.txt")
    kept.write_text("mine")
    with pytest.raises(al.BadInput, match="expected an empty folder, a model's or none"):
        model.save(kept)
    assert kept.read_text() == "mine"
    with pytest.raises(al.BadInput, match="a response for each of 2 prompts"):
        model.logprobs(["Hi", "Ho"], ["Yes."])
    with pytest.raises(al.BadInput, match="response 2: expected at most 1024 tokens"):
        model.logprobs(["Hi", "Hi there " * 400], ["Yes.", "Yes."])


def test_empty_responses_are_no_scores():
    assert al.judge("longer").rate(["a", "b"], ["x y", ""]).scores == [2.0, None]
    assert al.judge("longer").rate(["p", "q"], [["x", ""], ["q"]]).scores == [1.0, None, 1.0]


def test_rows_are_outputs_of_a_benchmark():
    questions = [{"prompt": "q1", "reference": "5"}, {"prompt": "q2", "reference": "6"}]
    given = [{"prompt": "q1", "completion": "5"}, {"prompt": "q2", "completion": "7"}]
    assert al.evaluate("qa", outputs=given, data=questions).rows[0]["accuracy"] == 0.5


def test_results_of_each_other_are_taken():
    run = al.train("sft", MODEL, [{"prompt": "Hi", "completion": "Hello."}] * 3)
    drawn = al.generate(run, ["Hi", "What is 2+3?"], n=2, max_tokens=6)
    assert [row["model"] for row in drawn] == ["sft"] * len(drawn)
    assert drawn.path.parent == Path("runs/generate-sft")
    judged = al.judge("longer", drawn)
    assert len(judged.scores) == len(judged.rows) > 0
    assert al.generate(run.model, drawn, max_tokens=4).path != drawn.path
    assert al.load_data(judged).corpus.demonstrations
    further = al.train("sft", run.model, drawn)
    assert further.folder == Path("runs/sft-2")
    assert al.load_model(run).path == run.model.path


def test_a_judge_rates_compares_and_audits():
    judge = al.judge("longer")
    nested = judge.rate(["a", "b"], [["one two", "one"], ["one two three", "one"]])
    assert nested.scores == [2.0, 1.0, 3.0, 1.0]
    flat = judge.rate(["b", "a", "b"], ["one", "one two", "one"])  # a text twice, out of order
    assert flat.scores == [1.0, 2.0, 1.0]
    compared = judge.compare(["a", "b", "c", "d"], ["x y", "x", "x", "x"], ["x", "x y", "x", "x y"])
    assert [row["value"] for row in compared] == [1.0, 0.0, 0.5, 0.0]
    assert compared.note.startswith("win rate of the first 0.375 [")
    card = judge.audit(pairs(), attacked=2, repeated=2)
    assert [row["model"] for row in card][:2] == ["longer", "longer wins"]
    assert card.verdict == "unfit"  # shown on too few pairs
    with pytest.raises(al.BadInput, match="2 prompts and 1 responses"):
        judge.rate(["a", "b"], ["x"])
    with pytest.raises(al.BadInput, match="did you mean 'longer'"):
        al.judge("longr")


def test_a_trained_reward_model_is_a_reward():
    trained = al.train(al.RewardModel(), MODEL, pairs(6))
    scored = al.reward(trained).rate(["What is 3+1?"], [["It is 4.", "It is 3, I say."]])
    assert all(isinstance(score, float) for score in scored.scores)
    with pytest.raises(al.BadInput, match="expected a decoder, found a reward model"):
        trained.model.generate(["Hi"])
    again = al.reward(trained.model, scored)
    assert sorted(again.scores) == pytest.approx(sorted(scored.scores))


@pytest.mark.shared
def test_a_chat_model_learns_pairs_of_a_dataset():
    folder = str(shared_path("models/tinychat-7m"))
    rows = pytest.importorskip("datasets").Dataset.from_list(pairs(4))
    model = al.load_model(folder)
    assert model.facts.parameters > 1_000_000
    run = al.train({"name": "dpo", "beta": 0.3}, model, rows, batch_size=2, out="mine")
    assert run.folder == Path("mine")
    before, after = (
        one.logprobs([rows[0]["prompt"]], [rows[0]["chosen"]])[0]["logprob"]
        for one in (model, run.model)
    )
    assert before != after
    assert [row["model"] for row in al.generate(run, ["Hi"], max_tokens=4)] == ["mine"]
