"""`alignlab check` diagnoses studies and trainings, and fails on warnings if it is strict."""

from __future__ import annotations

import json

import pytest

import alignlab as al
from alignlab.errors import BadInput
from tests.diagnosis.build import sentence
from tests.recipes.small import SMALL


def rows(longer: int, n: int = 60):
    """Pairs whose longer response is chosen in `longer` of `n`."""
    for i in range(n):
        both = [sentence(i, 12), sentence(i + 1, 6)]
        chosen, rejected = both if i < longer else both[::-1]
        yield {"prompt": f"Tell me of {i}", "chosen": chosen, "rejected": rejected}


@pytest.fixture
def data(tmp_path):
    def write(longer: int) -> str:
        file = tmp_path / f"{longer}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in rows(longer)))
        return str(file)

    return write


def levels(checked) -> dict[str, str]:
    return {f.about: f.level for f in checked.value.findings}


def test_a_training_is_diagnosed(data):
    checked = al.check("dpo", model="sandbox:knows_all", data=data(58), sample=12)
    found = levels(checked)
    assert found["length"] == "warn"
    assert found["off-policy"] == "warn"  # the sandbox's model knows no such words
    assert found["template"] == found["labels"] == found["duplicates"] == "ok"
    assert "<|im_start|>assistant\\n⟦" in str(checked)
    assert checked.value.data == "60 preference groups"
    assert len(checked.warnings) == 2
    assert not checked.failed
    assert checked.value.memory.what == "training (one pass)"
    assert "memory    training (one pass): about 0." in str(checked)
    quick = al.check("dpo", model="sandbox:knows_all", data=data(30), sample=0)
    assert quick.value.memory is None
    assert levels(quick) == dict.fromkeys(("length", "format", "labels", "duplicates"), "ok")


def test_demonstrations_have_no_preferences_to_diagnose():
    checked = al.check("sft", model="sandbox:knows_all", data="sandbox?ift=20&groups=0", sample=4)
    assert not levels(checked).keys() & {"length", "format", "labels", "off-policy"}
    assert levels(checked)["template"] == "ok"


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"objective": "dpo", "data": "sandbox"}, "check dpo: --model is missing"),
        ({"objective": "dpo", "model": "sandbox:knows_all"}, "check dpo: --data is missing"),
        ({"objective": "rloo", "model": "m", "data": "d"}, "found one over rollouts"),
        ({"objective": "dpo", "model": "m", "data": "d", "ask": True}, "have no effect"),
        ({"objective": "dpo", "model": "m", "data": "d", "sample": -1}, "expected 0 or more"),
        ({"objective": "dpo", "model": "m", "data": "d", "lr_": 1}, "did you mean 'lr'"),
    ],
)
def test_a_wrong_check_of_a_training_is_refused(given, why):
    name = given.pop("objective")
    with pytest.raises(BadInput, match=why):
        al.check(name, **given)


def test_a_study_is_diagnosed():
    checked = al.check("teacher_reward", *SMALL, sample=10)
    found = levels(checked)
    assert found["judge measure.judge=sandbox:oracle"] == "ok"
    assert found["judge critic sandbox:strong"] in ("ok", "warn")
    assert found["template"] == "ok"
    own = al.check("self_rewarding", *SMALL, "measure.judge=expected:self", sample=10)
    (judge,) = [f for f in own.value.findings if f.about.startswith("judge")]
    assert (judge.level, judge.text) == ("skipped", "M1 is not trained yet")


def test_a_study_measured_by_ones_own_function_is_diagnosed(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("def score(response): return len(response)\n")
    measured = f"measure.judge=python:{file}:score"
    checked = al.check("self_rewarding", *SMALL, measured, sample=4)
    assert f"judge {measured}" in levels(checked)


def test_strict_warnings_end_with_code_1(data, alignlab):
    command = ["check", "dpo", "--model", "sandbox:knows_all", "--sample", "0"]
    fine = alignlab(*command, "--data", data(30), "--strict")
    assert (fine.code, "warn" in fine.out) == (0, False)
    warned = alignlab(*command, "--data", data(58))
    assert (warned.code, "warn    length" in warned.out) == (0, True)
    failed = alignlab(*command, "--data", data(58), "--strict", "--json")
    assert failed.code == 1
    assert json.loads(failed.out)["findings"][0]["level"] == "warn"
