"""A study killed again and again ends with the bytes of one that was left alone, as does one on
two workers.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.recipes import kill_resume
from tests.recipes.small import SMALL

pytestmark = pytest.mark.slow

COMMAND = ("compare_feedback", *SMALL, *kill_resume.FINE, "preference.epochs=2")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study, never interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    kill_resume.finish(COMMAND, out)
    return out


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.heavy)])
def test_a_study_killed_again_and_again_equals_one_left_alone(whole, tmp_path, kills):
    outcome = kill_resume.kill_and_compare(whole, tmp_path / "run", COMMAND, kills=kills, seed=1)
    assert outcome.differences == ()
    # The last instants may fall behind the end of a session that was resumed near its end.
    assert outcome.kills >= 0.6 * kills
    assert outcome.compared > 100


def test_two_workers_write_what_one_writes(whole, tmp_path):
    out = tmp_path / "run"
    kill_resume.finish((*COMMAND, "hardware.workers=2"), out)
    expected, found = kill_resume.contents(whole), kill_resume.contents(out)
    assert kill_resume.differences(expected, found) == ()


def test_of_two_processes_at_once_one_works_and_one_is_refused(whole, tmp_path):
    two = kill_resume.two_at_once(whole, tmp_path / "run", COMMAND)
    assert two.differences == ()
    assert two.codes in ((0, 1), (0, 0))  # the second may find it finished
    if two.codes == (0, 1):
        assert two.refused.endswith("run: another process is working on this run")


def test_a_difference_is_found(whole):
    expected = kill_resume.contents(whole)
    (weights, *_) = [name for name in expected if name.endswith("model.safetensors")]
    found = {**expected, weights: b"", "stages/more.jsonl": b""}
    del found["study.json"]
    assert set(kill_resume.differences(expected, found)) == {
        weights,
        "stages/more.jsonl",
        "study.json",
    }


def test_instants_are_spread_over_the_run(whole):
    found = kill_resume.instants(whole / "events.jsonl", kills=10, seed=3)
    assert found == kill_resume.instants(whole / "events.jsonl", kills=10, seed=3)
    assert [i.events for i in found] == sorted(i.events for i in found)
    assert len({i.events for i in found}) > 7
