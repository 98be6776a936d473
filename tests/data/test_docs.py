"""The examples of docs/data.md are read as what they are said to be."""

from __future__ import annotations

import re

import pytest

from alignlab import registry
from alignlab.data import load
from alignlab.data.formats import Format
from tests.conftest import ROOT
from tests.data.conftest import Write


def examples() -> dict[str, str]:
    """Layout -> its example, from the sections that have one."""
    sections = re.split(r"^###? ", (ROOT / "docs" / "data.md").read_text("utf-8"), flags=re.M)
    return {
        section.partition("\n")[0]: section.partition("```jsonl\n")[2].partition("```")[0]
        for section in sections
        if "```jsonl" in section
    }


EXAMPLES = examples()


def test_every_layout_has_an_example() -> None:
    known = {n for n in registry.names("data") if isinstance(registry.get("data", n), Format)}
    assert set(EXAMPLES) == known - {"faireval"}  # a folder, tried in test_benchmark_data


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(write: Write, name: str) -> None:
    assert len(EXAMPLES[name].splitlines()) == 3
    gathered = {"wmt_mqm": 1, "prometheus": 1}
    known_to_differ = {"oasst": 2, "alpacaeval": 2, "self_instruct": 4, **gathered}
    path = write(EXAMPLES[name])
    more = "?test_share=0" if name == "oasst" else ""
    corpus = load(f"{path}{more}")
    assert corpus.name == name
    assert corpus == load(f"{name}:{path}{more}")
    known = sum(
        map(
            len,
            (
                corpus.demonstrations,
                corpus.groups,
                corpus.labelled,
                corpus.commented,
                corpus.prompts,
                corpus.test_groups,
            ),
        )
    )
    assert known == known_to_differ.get(name, 3)
