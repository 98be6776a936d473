"""Claims by hand: differences by seed, verdicts, and what is refused."""

import importlib.util
import json
import re

import pytest

from alignlab.errors import BadInput
from alignlab.files import read_json, write_json
from alignlab.records import to_line
from alignlab.types import Feedback, Message, Preference, Prompt, Score, Unscored
from tests.conftest import ROOT

spec = importlib.util.spec_from_file_location("claims", ROOT / "benchmarks" / "claims.py")
assert spec is not None
assert spec.loader is not None
claims = importlib.util.module_from_spec(spec)
spec.loader.exec_module(claims)


def write(run, of, model, seed, verdicts):
    folder = run / f"stages/seed-{seed}/09-{of}-{model}"
    folder.mkdir(parents=True)
    feedback = [Feedback(f"p{i}", (f"{model}/{i}",), "judge", v) for i, v in enumerate(verdicts)]
    (folder / "feedback.jsonl").write_text("".join(map(to_line, feedback)))


def cells(run, claim, of="score"):
    return [cell.strip() for cell in claims.line([run], claim, of).strip("|").split("|")]


def test_a_claim_is_held_failed_or_undecided(tmp_path):
    better = [Score(4.0)] * 30 + [Score(2.0)] * 10
    for seed in (0, 1):
        write(tmp_path, "score", "m2", seed, better)
        write(tmp_path, "score", "m1", seed, [Score(2.0)] * 40)
        write(tmp_path, "score", "m3", seed, [Score(1.0 + 2 * (i % 2)) for i in range(40)])
    claim, apart, each, _, prompts, _, verdict = cells(tmp_path, "M2 > M1")
    assert (claim, apart, each, prompts, verdict) == (
        "M2 > M1", "+1.500", "+1.500 / +1.500", "40", "held",
    )  # fmt: skip
    assert cells(tmp_path, "M1 > M2")[-1] == "failed"
    # Spread sqrt(40 / 39) over 40 prompts and none over seeds: (1.960 + 0.842) / sqrt(39).
    assert cells(tmp_path, "M3 > M1")[-2:] == ["0.449", "undecided"]


def test_a_study_of_one_seed_keeps_its_stages_without_a_folder_of_the_seed(tmp_path):
    for model, value in (("m2", 3.0), ("m1", 2.0)):
        folder = tmp_path / f"stages/critics/09-faults-{model}"
        folder.mkdir(parents=True)
        feedback = [Feedback(f"p{i}", (f"r{i}",), "j", Score(value)) for i in range(3)]
        (folder / "feedback.jsonl").write_text("".join(map(to_line, feedback)))
    assert cells(tmp_path, "M2 > M1", "faults")[1:3] == ["+1.000", "+1.000"]


def test_answers_without_a_verdict_on_either_side_are_left_out(tmp_path):
    for seed in (0, 1):
        write(
            tmp_path, "satisfied", "m2", seed, [Score(1.0), Unscored("?"), Score(1.0), Score(1.0)]
        )
        write(
            tmp_path, "satisfied", "m1", seed, [Score(0.0), Score(1.0), Unscored("?"), Score(1.0)]
        )
    found = cells(tmp_path, "M2 > M1", "satisfied")
    assert (found[1], found[4]) == ("+0.500", "2")  # prompts 0 and 3: 1 and 0


def test_preferences_are_against_one_half(tmp_path):
    for seed in (0, 1):
        verdicts = [Preference(0)] * 6 + [Preference(None)] * 2 + [Preference(1)] * 2
        write(tmp_path, "preferred", "m2", seed, verdicts)
    assert cells(tmp_path, "M2 > M1", "preferred")[1] == "+0.200"  # 0.7 against 0.5


def test_a_duel_with_the_baseline_is_against_one_half(tmp_path):
    models = ("M1", "M2", "teacher")
    runs = [kept(tmp_path / n, {m: {"0": [1.0, 2.0]} for m in models}) for n in "ab"]
    for run in runs:
        duels = {"outcomes": {"M2": {"0": "1="}}}
        win_rate = {
            "model": "M2", "benchmark": "head_to_head", "metric": "win_rate", "against": "M1",
            "group": None, "value": 0.75, "low": None, "high": None, "n": 2, "unscored": 0,
            "seeds": [0],
        }  # fmt: skip
        write_json(run / "summary.json", {"rows": [win_rate]})
        write_json(run / "values.json", read_json(run / "values.json") | duels)
    assert claims.line(runs, "M2 > M1", "duel").split(" | ")[1] == "+0.250"
    for claim, model in (("M1 > M2", "M1"), ("M2 > teacher", "teacher")):
        with pytest.raises(BadInput, match=f"expected one of M2, found '{model}'"):
            claims.line(runs, claim, "duel")
    full = tmp_path / "run"
    write(full, "duel", "m2", 0, [Preference(0), Preference(None)])
    study(full, "M1", "M2")
    assert claims.line([full], "M2 > M1", "duel").split(" | ")[1] == "+0.250"


def test_what_cannot_be_tested_is_refused(tmp_path):
    with pytest.raises(BadInput, match="expected MODEL > MODEL"):
        claims.line([tmp_path], "M2 beats M1", "score")
    with pytest.raises(BadInput, match="expected verdicts score on M2"):
        claims.line([tmp_path], "M2 > M1", "score")
    for model in ("m1", "m2"):
        write(tmp_path, "score", model, 0, [Score(1.0)])
    with pytest.raises(BadInput, match="expected 2 prompts or more"):
        claims.line([tmp_path], "M2 > M1", "score")


def kept(folder, scores):
    folder.mkdir()
    values = {"prompts": ["p0", "p1"], "left_out": [], "scores": scores, "outcomes": {}}
    write_json(folder / "values.json", values)
    return folder


def test_seeds_of_kept_runs_are_pooled(tmp_path):
    runs = [
        kept(tmp_path / "a", {"M2": {"0": [3.0, 2.0]}, "M1": {"0": [1.0, 2.0]}}),
        kept(tmp_path / "b", {"M2": {"0": [4.0, None]}, "M1": {"0": [1.0, 2.0]}}),
    ]
    found = claims.line(runs, "M2 > M1", "score").split(" | ")
    assert found[1:3] == ["+1.667", "+1.000 / +3.000"]
    duels = {"outcomes": {"M2": {"0": "1?"}, "M3": {"0": "=0"}}}
    write_json(runs[0] / "values.json", read_json(runs[0] / "values.json") | duels)
    assert claims.values(runs[:1], "M2", "duel") == {("0/0", "p0"): 1.0}
    assert claims.values(runs[:1], "M3", "duel") == {("0/0", "p0"): 0.5, ("0/0", "p1"): 0.0}
    with pytest.raises(BadInput, match="kept folders hold no other, found faults"):
        claims.line(runs, "M2 > M1", "faults")
    other = tmp_path / "c"
    kept(other, {"M2": {"0": [4.0, 3.0]}, "M1": {"0": [1.0, 2.0]}})
    write_json(other / "values.json", read_json(other / "values.json") | {"prompts": ["q0", "q1"]})
    with pytest.raises(BadInput, match="expected the prompts of"):
        claims.line([runs[0], other], "M2 > M1", "score")


def study(run, *models):
    write_json(run / "study.json", {"models": dict.fromkeys(models, ""), "baseline": models[0]})


def test_names_are_those_of_the_study(tmp_path):
    for model in ("m1", "m2"):
        write(tmp_path, "score", model, 0, [Score(1.0), Score(2.0)])
        write(tmp_path, "preferred", model, 0, [Preference(0), Preference(1)])
    study(tmp_path, "M1", "M2", "M3")
    assert cells(tmp_path, "M2 > M1")[1] == "+0.000"
    for claim in ("m2 > M1", "M2 > m1"):
        with pytest.raises(BadInput, match="field 'models': expected one of M1, M2, M3, found 'm"):
            claims.line([tmp_path], claim, "score")
    for claim in ("M2 > M2", "M2 > m2"):
        with pytest.raises(BadInput, match="expected two models, found one"):
            claims.line([tmp_path], claim, "score")
    with pytest.raises(BadInput, match="field 'baseline': expected M1 in the claim, found 'M3'"):
        claims.line([tmp_path], "M2 > M3", "preferred")
    folder = kept(tmp_path / "kept", {"M2": {"0": [3.0, 2.0]}, "M1": {"0": [1.0, 2.0]}})
    with pytest.raises(BadInput, match="field 'scores': expected one of M2, M1, found 'm2'"):
        claims.line([folder], "m2 > M1", "score")


@pytest.mark.parametrize("of", ["*", "sco?e", "", "Score"])
def test_verdicts_are_named_not_matched(tmp_path, of):
    write(tmp_path, "score", "m2", 0, [Score(1.0), Score(2.0)])
    with pytest.raises(BadInput, match="--of: expected the name of verdicts"):
        claims.line([tmp_path], "M2 > M1", of)


def test_no_verdict_hides_another(tmp_path):
    for model in ("m1", "m2"):
        write(tmp_path, "score", model, 0, [Score(1.0), Score(2.0)])
        write(tmp_path, "second-score", model, 0, [Score(5.0), Score(5.0)])
    assert cells(tmp_path, "M2 > M1")[1] == "+0.000"
    again = tmp_path / "stages/seed-0/12-score-m2"
    again.mkdir()
    first = tmp_path / "stages/seed-0/09-score-m2/feedback.jsonl"
    (again / "feedback.jsonl").write_text(first.read_text())
    with pytest.raises(BadInput, match="12-score-m2: expected one stage of this name, found"):
        claims.line([tmp_path], "M2 > M1", "score")
    (again / "feedback.jsonl").unlink()
    first.write_text(first.read_text() * 2)
    with pytest.raises(BadInput, match="line 3, field 'prompt_id': expected one verdict for each"):
        claims.line([tmp_path], "M2 > M1", "score")
    first.write_text('{"prompt_id": "p0"}\n')
    with pytest.raises(BadInput, match=r"feedback\.jsonl, line 1.*expected"):
        claims.line([tmp_path], "M2 > M1", "score")


def test_a_run_is_pooled_once(tmp_path):
    with pytest.raises(BadInput, match="expected different runs, found this one twice"):
        claims.table([tmp_path, tmp_path / "."], ["M2 > M1"], "score")
    with pytest.raises(BadInput, match="expected the folder of a run, found none"):
        claims.table([tmp_path / "none"], ["M2 > M1"], "score")


def test_prompts_that_a_kept_run_leaves_out_do_not_count(tmp_path):
    run = kept(tmp_path / "a", {"M2": {"0": [3.0, 2.0]}, "M1": {"0": [1.0, 2.0]}})
    write_json(run / "values.json", read_json(run / "values.json") | {"left_out": ["p1"]})
    with pytest.raises(BadInput, match="expected 2 prompts or more that both answered"):
        claims.line([run], "M2 > M1", "score")


def test_prompts_of_other_data_are_left_out(tmp_path):
    run = tmp_path / "run"
    write(run, "score", "m2", 0, [Score(4.0), Score(4.0), Score(2.0), Score(2.0)])
    write(run, "score", "m1", 0, [Score(2.0)] * 4)
    prompts = [Prompt(f"p{i}", (Message("user", f"text {i}"),)) for i in range(4)]
    (run / "stages/01-seed").mkdir()
    (run / "stages/01-seed/test_prompts.jsonl").write_text("".join(map(to_line, prompts)))
    pairs = [{"prompt": f"text {i}", "chosen": "a", "rejected": "b"} for i in (0, 7)]
    learned = tmp_path / "learned.jsonl"
    learned.write_text("".join(f"{json.dumps(pair)}\n" for pair in pairs))
    line = claims.table([run], ["M2 > M1"], "score", str(learned)).splitlines()[-1]
    assert line.startswith("| M2 > M1 | +0.667 | +0.667 |")  # without p0: 2, 0 and 0
    assert "| 3 |" in line


def test_the_commands_of_the_pages_name_models_of_their_runs():
    found = 0
    for page in (ROOT / "docs").rglob("*.md"):
        text = page.read_text().replace("\\\n", " ")
        for run, rest in re.findall(r"benchmarks/claims\.py (docs/runs/\S+) ([^`\n]+)", text):
            for claim in re.findall(r'"([^"]+ > [^"]+)"', rest):
                if "TEACHER" not in claim:
                    claims.line([ROOT / run], claim, "score")
                    found += 1
    assert found > 10
