"""The scripted engine, and engines by spec."""

from __future__ import annotations

from pathlib import Path

import pytest

from alignlab.errors import BadInput
from alignlab.generation.engines import completer
from alignlab.generation.scripted import ScriptedEngine, scripted_engine
from tests.generation.tiny import ask, tiny


def test_a_function_answers() -> None:
    engine = ScriptedEngine(lambda request, k: f"{request.id}{k}" if k < 2 else None)
    (answer,) = engine.complete([ask("a", "two words", n=3)])
    assert [c.text for c in answer] == ["a0", "a1", ""]
    assert answer[2].finish == "error"
    assert "sample 2" in answer[2].error
    assert answer[0].prompt_tokens == 2


def test_a_file_answers(tmp_path: Path) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text('{"id": "a", "texts": ["yes", "no"]}\n')
    answer, unknown = completer(f"scripted:{path}").complete([ask("a", "q", n=2), ask("b", "q")])
    assert [c.text for c in answer] == ["yes", "no"]
    assert unknown[0].finish == "error"


@pytest.mark.parametrize(
    ("text", "field"),
    [("{", "line 1"), ('{"texts": []}', "'id'"), ('{"id": "a", "texts": "x"}', "'texts'")],
)
def test_bad_files_are_named(tmp_path: Path, text: str, field: str) -> None:
    path = tmp_path / "s.jsonl"
    path.write_text(text)
    with pytest.raises(BadInput, match=field) as caught:
        scripted_engine(str(path))
    assert "s.jsonl, line 1" in str(caught.value)
    with pytest.raises(BadInput, match="absent"):
        scripted_engine(str(tmp_path / "absent.jsonl"))


def test_local_by_spec(tmp_path: Path) -> None:
    lm = tiny()
    lm.model.save_pretrained(tmp_path / "m")
    lm.tokenizer.save_pretrained(tmp_path / "m")
    engine = completer(f"local:{tmp_path / 'm'}?batch_size=2&name=M1&dtype=float32")
    assert engine.name == "M1"
    assert engine.batch_size == 2
    assert completer(f"local:{tmp_path / 'm'}").name.startswith("local:m@")
    request = ask("a", "Hi", temperature=0, max_tokens=4)
    assert len(engine.complete([request])[0]) == 1


@pytest.mark.parametrize("spec", ["local", "local:", "strong"])
def test_bad_specs(spec: str) -> None:
    with pytest.raises(BadInput):
        completer(spec)
