"""Parts of other packages, found by their entry points."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from alignlab import registry
from alignlab.commands.list import list_parts
from alignlab.errors import BadInput
from alignlab.feedback.specs import judge
from alignlab.types import Message, Prompt, Response, SampledBy, Score

SOURCE = '''
from alignlab.feedback.rules import RuleJudge
from alignlab.registry import register


class Vowels(RuleJudge):
    """Judge that counts vowels."""

    name = "vowels"

    def score(self, response, seed):
        return float(sum(response.text.count(v) for v in "aeiou"))


def make_vowels(rest):
    """`vowels`: the number of vowels."""
    return Vowels()


@register("feedback", "registered_vowels")
def make_registered(rest):
    """`registered_vowels`: the number of vowels, registered."""
    return Vowels()
'''


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "vowels_of_others.py").write_text(SOURCE)
    info = tmp_path / "vowels_of_others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: vowels-of-others\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[alignlab.feedback]\nvowels = vowels_of_others:make_vowels\n"
        "registered_vowels = vowels_of_others\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry.index.cache_clear()
    yield info / "entry_points.txt"
    registry.index.cache_clear()
    for name in ("vowels", "registered_vowels"):
        registry._parts.pop(("feedback", name), None)
    sys.modules.pop("vowels_of_others", None)


def rated(spec: str) -> float:
    prompt = Prompt("p", (Message("user", "Hi"),))
    source = judge(spec, make_completer=lambda spec: None)  # type: ignore[arg-type,return-value]
    (one,) = source.rate([(prompt, [Response("r", "p", "a queue", SampledBy("m"))])], 0)
    assert isinstance(one.verdict, Score)
    return one.verdict.value


def test_a_plugins_parts_are_listed_and_used(plugin: Path) -> None:
    listed = list_parts("feedback")
    assert listed["vowels"] == "`vowels`: the number of vowels."
    assert listed["registered_vowels"] == "`registered_vowels`: the number of vowels, registered."
    assert "vowels_of_others" not in sys.modules  # listing imports nothing
    assert rated("vowels") == rated("registered_vowels") == 5


def test_a_plugin_takes_no_name_of_another_part(plugin: Path) -> None:
    plugin.write_text("[alignlab.feedback]\nrandom = vowels_of_others:make_vowels\n")
    registry.index.cache_clear()
    with pytest.raises(BadInput, match="plugin vowels-of-others: expected a new name of feedback"):
        registry.names("feedback")
