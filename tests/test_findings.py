"""The table over seeds: pooled rate, every seed's, and prompts of other data left out."""

import importlib.util

import pytest

from alignlab.errors import BadInput
from alignlab.files import write_json
from alignlab.records import to_dict, to_line
from alignlab.types import Feedback, Message, Preference, Prompt, StudyDescription, Unscored
from tests.conftest import ROOT

spec = importlib.util.spec_from_file_location("findings", ROOT / "benchmarks" / "findings.py")
assert spec is not None
assert spec.loader is not None
findings = importlib.util.module_from_spec(spec)
spec.loader.exec_module(findings)


STUDY = StudyDescription("compare", "?", "M1", {"M1": "", "M2": "how"})


def a_run(path, winners):
    """Winners per seed and prompt: 0 the model, 1 the baseline."""
    write_json(
        path / "study.json",
        to_dict(StudyDescription("compare", "?", "M1", {"M1": "", "M2": "how"})),
    )
    for seed, verdicts in enumerate(winners):
        scope = path / f"stages/seed-{seed}"
        for name in ("01-seed", "09-duel-m2"):
            (scope / name).mkdir(parents=True)
        prompts = [Prompt(f"p{i}", (Message("user", f"text {i}"),)) for i in range(len(verdicts))]
        feedback = [
            Feedback(p.id, ("a", "b"), "judge", Preference(w))
            for p, w in zip(prompts, verdicts, strict=True)
        ]
        (scope / "01-seed/test_prompts.jsonl").write_text("".join(map(to_line, prompts)))
        (scope / "09-duel-m2/feedback.jsonl").write_text("".join(map(to_line, feedback)))


def test_rates_are_pooled_and_shown_by_seed(tmp_path):
    a_run(tmp_path, [[0] * 30 + [1] * 10, [0] * 20 + [1] * 20])
    line = findings.table(tmp_path).splitlines()[2]
    assert line.startswith("| M2 | 0.625 | 0.750 / 0.500 | [")
    assert "| 80 |" in line


def test_prompts_of_other_data_are_left_out(tmp_path):
    (tmp_path / "run").mkdir()
    a_run(tmp_path / "run", [[0] * 30 + [1] * 10, [0] * 20 + [1] * 20])
    other = tmp_path / "other.jsonl"
    other.write_text("".join(f'{{"prompt": "text {i}"}}\n' for i in range(10)))
    found = findings.shared_prompts(tmp_path / "run", f"prompts:{other}?test_share=0.99")
    assert found
    assert found <= {f"p{i}" for i in range(10)}
    line = findings.table(tmp_path / "run", f"prompts:{other}?test_share=0.99").splitlines()[2]
    assert f"| {2 * (40 - len(found))} |" in line


def test_a_run_without_seeds_is_refused(tmp_path):
    a_run(tmp_path, [])
    with pytest.raises(BadInput, match="seeds=2"):
        findings.table(tmp_path)


def test_a_model_without_verdicts_is_shown_as_such(tmp_path):
    a_run(tmp_path, [[0] * 30 + [1] * 10, [0] * 20 + [1] * 20])
    for file in tmp_path.glob("stages/seed-*/09-duel-m2/feedback.jsonl"):
        feedback = Feedback("p0", ("a", "b"), "judge", Unscored("no answer"))
        file.write_text(to_line(feedback))
    assert findings.table(tmp_path).splitlines()[2] == "| M2 | - | - / - | - | 0 | no verdicts |"
