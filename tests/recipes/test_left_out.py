"""A branch with nothing to train on is left out and told of; the study goes on."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html import unescape
from pathlib import Path
from types import SimpleNamespace

import pytest

from alignlab import progress
from alignlab.commands.run import run
from alignlab.errors import NothingToLearn
from alignlab.measuring.left_out import in_every_seed, note
from alignlab.measuring.measure import HeldOut, PerPromptMetric, StudyMeasurements
from alignlab.parallel import Branch
from alignlab.recipes import compare_feedback
from alignlab.recipes.branches import run_all
from tests.recipes.reading import rows
from tests.recipes.small import SMALL

REASON = "no pair here"


@pytest.fixture(autouse=True)
def silent():
    progress.use(progress.Silent())
    yield
    progress.use(None)


def nothing(study, given):
    if study.context.recorder:  # settings alone do not tell
        return compare_feedback.sft_strong(study, given)
    raise NothingToLearn(REASON)


def shown(out: Path) -> str:
    """Return the text of a report's answer."""
    html = (out / "report.html").read_text()
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())


def test_other_branches_go_on_and_the_headline_tells(tmp_path, monkeypatch):
    monkeypatch.setitem(compare_feedback.BRANCHES, "random_judge", nothing)
    settings = (*SMALL, "iterations=1", "branches=[sft_strong,random_judge]", f"out={tmp_path}")
    run("compare_feedback", *settings)
    told = f"Left out, as there was nothing to train on: random_judge ({REASON})."
    assert told in shown(tmp_path)
    study = json.loads((tmp_path / "study.json").read_text())
    assert study["left_out"] == told
    assert study["models"].keys() == {"M0", "M1", "SFT on strong teacher"}
    assert {r["model"] for r in rows(tmp_path, metric="win_rate", group=None)} == {
        "M0",
        "SFT on strong teacher",
    }


def test_refinements_that_no_gate_lets_pass_leave_r1(tmp_path):
    (tmp_path / "same.py").write_text("def same(response, prompt, reference):\n    return 1.0\n")
    gate = f"refine.gate=python:{tmp_path / 'same.py'}:same"
    run("self_refine", *SMALL, "traces=8", "refine.keep=better", gate, f"out={tmp_path / 'run'}")
    models = {r["model"] for r in rows(tmp_path / "run", metric="win_rate", group=None)}
    assert models == {"M0", "R1", "R2 on true pairs"}
    told = shown(tmp_path / "run")
    assert "R2 by coin (the feedback left no two responses" in told
    assert "R2 SFT on its refinements (" in told


def failing(study, given=None):
    raise NothingToLearn(REASON)


def of_recipe(keep=True, recorder=None):
    context = SimpleNamespace(recorder=recorder, workers=1, threads_of=lambda n: 1)
    return SimpleNamespace(context=context, config=SimpleNamespace(keep_weights=keep))


def test_a_study_without_any_branch_fails_with_the_reason():
    study = of_recipe()
    with pytest.raises(NothingToLearn, match=REASON):
        run_all(study, [Branch("a", failing, (study,)), Branch("b", failing, (study,))])
    with pytest.raises(NothingToLearn, match=REASON):
        run_all(study, [Branch("a", failing, (study,))], needed=True)


def measured(seed: int, *models: str, left_out: dict[str, str]) -> StudyMeasurements:
    each = dict.fromkeys(models, ())
    values = tuple(PerPromptMetric(m, "b", "x", ("p",), (1.0,), against="M1") for m in models)
    return StudyMeasurements(
        seed, "M1", HeldOut((), ()), each, each, each, (), {}, (), {}, values, left_out=left_out
    )


def test_figures_pool_the_models_of_every_seed():
    whole = [measured(s, "M1", "A", "B", left_out={}) for s in (0, 1)]
    assert in_every_seed(whole) == whole
    assert note(whole) == ""
    some = [whole[0], measured(1, "M1", "A", left_out={"b": REASON})]
    first, second = in_every_seed(some)
    assert second == some[1]
    assert first == replace(measured(0, "M1", "A", left_out={}))
    assert note(some) == (
        f"Left out, as there was nothing to train on: b in 1 of 2 seeds ({REASON}); what its other "
        "seeds gave is not counted."
    )
