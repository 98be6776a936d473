"""The scripts that compare with published figures and with the `alpaca_eval` package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from alignlab.data.build_records import Origin, ResponseDraft
from alignlab.data.judged_pairs import FIRST, SECOND, TIE, JudgedPair, autoj_pair, pandalm_pair
from alignlab.errors import BadInput
from alignlab.records import to_line
from alignlab.types import Message, Prompt, Response, SampledBy
from tests.conftest import ROOT, shared_path


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"script_{name}", ROOT / f"benchmarks/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


people = script("human_agreement")
refits = script("lc_winrate")


def pair(first: str, second: str, *votes: float) -> JudgedPair:
    return JudgedPair("p", ResponseDraft(first), ResponseDraft(second), votes, Origin("test"))


def test_guesses_by_hand() -> None:
    pairs = [
        pair("longer", "x", FIRST),
        pair("x", "longer", FIRST),
        pair("a", "b", SECOND),
        pair("a", "b", TIE),
    ]
    rows = {row.what: row for row in people.guesses("some", pairs, seed=0)}
    # Right, wrong, half; the human tie counts for agreement alone.
    assert rows["longer wins: accuracy"].value == pytest.approx(0.5)
    assert rows["longer wins: accuracy"].n == 3
    assert rows["longer wins: agreement"].value == pytest.approx(2 / 4)


@pytest.mark.shared
def test_annotators_agree_as_published() -> None:
    file = shared_path("data/pandalm/testset-v1.json")
    rows = people.measured("pandalm", str(file), pandalm_pair, 0)
    known = [row for row in rows if row.published is not None]
    assert len(known) == 6
    for row in known:
        assert row.value == pytest.approx(row.published, abs=5e-3), row.what


@pytest.mark.shared
def test_longer_wins_on_autoj_recounted() -> None:
    file = shared_path("data/autoj/testdata_pairwise.jsonl.gz")
    rows = {row.what: row for row in people.measured("autoj", str(file), autoj_pair, 0)}
    assert rows["longer wins: accuracy"].n == 1392 - 373
    assert 0.68 < rows["longer wins: accuracy"].value < 0.75


@pytest.mark.shared
def test_a_refit_without_the_peer() -> None:
    row = refits.compare(shared_path("data/alpacaeval"), None, refits.QUICK, 1)
    assert (row.models, row.ratio, row.theirs_s) == (4, None, None)
    assert row.ours_s > 0


def test_answers_of_teachers_are_checked_by_hand(tmp_path: Path) -> None:
    prompts = [
        Prompt(str(n), (Message("user", f"{n} + 1 ="),), "t", reference=str(n + 1))
        for n in range(3)
    ]
    answers = [
        Response(f"{n}/r", str(n), text, SampledBy("teacher"))
        for n, text in enumerate(["0 + 1 = 1.", "3", "I do not know."])
    ]
    (tmp_path / "stages/01-propose").mkdir(parents=True)
    (tmp_path / "stages/a/01-demonstrate").mkdir(parents=True)
    (tmp_path / "stages/01-propose/prompts.jsonl").write_text("".join(map(to_line, prompts)))
    file = tmp_path / "stages/a/01-demonstrate/responses.jsonl"
    file.write_text("".join(map(to_line, answers)))
    right_answers = script("teacher_answers").right_answers
    assert right_answers(tmp_path) == {"teacher": [True, False, False]}
    with pytest.raises(BadInput, match="expected a run with answers of a teacher, found none"):
        right_answers(tmp_path / "stages/01-propose")
