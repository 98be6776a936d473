"""Folders of models that lack a weight, hold another, or were copied in part."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from alignlab.errors import BadInput
from alignlab.models.adapters import LoraConfig, attach
from alignlab.models.facts import model_facts
from alignlab.models.load import load, save
from alignlab.models.weight_files import first_not_finite
from tests.models.helpers import tiny_lm

Tensors = dict[str, Any]
NORM = "model.norm.weight"


def without(tensors: Tensors) -> Tensors:
    return {name: value for name, value in tensors.items() if ".0.mlp." not in name}


def prefixed(tensors: Tensors) -> Tensors:
    return {f"_orig_mod.{name}": value for name, value in tensors.items()}


def cut(tensors: Tensors) -> Tensors:
    return {**tensors, NORM: torch.ones(3)}


def folder(tmp_path: Path, change: Callable[[Tensors], Tensors]) -> Path:
    path = save(tiny_lm(), tmp_path / "m")
    file = path / "model.safetensors"
    save_file(change(load_file(file)), file, metadata={"format": "pt"})
    return path


@pytest.mark.parametrize("deferred", [False, True])
@pytest.mark.parametrize(
    ("change", "line"),
    [
        (without, r"found none for model\.layers\.0\.mlp\.\w+\.weight and 2 more$"),
        (prefixed, r"found none for .* more, and _orig_mod\..* that it has no place for$"),
        (cut, r"expected model\.norm\.weight of shape \(\d+,\), found \(3,\)$"),
    ],
)
def test_a_weight_is_never_made_up(
    tmp_path: Path, change: Callable[[Tensors], Tensors], line: str, deferred: bool
) -> None:
    with pytest.raises(BadInput, match=line):
        load(folder(tmp_path, change), dtype="float32", deferred=deferred)


def test_a_head_that_is_not_tied_has_to_be_there(tmp_path: Path) -> None:
    path = folder(tmp_path, lambda held: {k: v for k, v in held.items() if k != "lm_head.weight"})
    settings = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**settings, "tie_word_embeddings": False}))
    with pytest.raises(BadInput, match=r"found none for lm_head\.weight$"):
        load(path)


def test_a_further_weight_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = folder(tmp_path, lambda held: {**held, "extra.weight": torch.ones(2)})
    with caplog.at_level(logging.WARNING):
        load(path)
    assert "has no place for extra.weight, not read" in caplog.text


@pytest.mark.parametrize("dtype", ["float32", "auto"])
@pytest.mark.parametrize(
    ("name", "content", "line"),
    [
        ("model.safetensors", None, r"m/model\.safetensors: expected a complete safetensors file"),
        (
            "model.safetensors",
            b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 1\n",
            r"m/model\.safetensors: expected the file itself \(git lfs pull\)",
        ),
        ("config.json", b'{"model_type": "llama",', r"m/config\.json: expected JSON, found"),
        ("tokenizer.json", None, r"m/tokenizer\.json: expected JSON, found"),
        ("generation_config.json", b"", r"m/generation_config\.json: expected JSON, found"),
        ("config.json", b"[1]", r"m/config\.json: expected an object, found \[1\]"),
    ],
)
def test_damaged_files_are_one_line(
    tmp_path: Path, name: str, content: bytes | None, line: str, dtype: str
) -> None:
    path = save(tiny_lm(), tmp_path / "m")
    whole = (path / name).read_bytes()
    (path / name).write_bytes(whole[: len(whole) // 2] if content is None else content)
    for read in (lambda: load(path, dtype=dtype), lambda: model_facts(path)):
        with pytest.raises(BadInput, match=line) as caught:
            read()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("way", ["a model", "pickled", "none", "damaged"])
def test_what_is_no_whole_adapter_is_one_line(tmp_path: Path, way: str) -> None:
    base = save(tiny_lm(), tmp_path / "m")
    path = save(attach(tiny_lm(), LoraConfig(r=2), seed=0), tmp_path / "a", adapter_only=True)
    weights = path / "adapter_model.safetensors"
    line = "expected weights in safetensors files, found none"
    if way == "a model":
        path, line = base, r"expected a PEFT adapter, found no adapter_config\.json"
    elif way == "pickled":
        torch.save(load_file(weights), path / "adapter_model.bin")
        weights.unlink()
    elif way == "none":
        weights.unlink()
    else:
        weights.write_bytes(weights.read_bytes()[:200])
        line = r"adapter_model\.safetensors: expected a complete safetensors file"
    with pytest.raises(BadInput, match=line) as caught:
        load(base, adapter=path)
    assert "\n" not in str(caught.value)


def test_weights_that_are_no_numbers_are_named() -> None:
    model = tiny_lm().model
    assert first_not_finite(model) is None
    model.model.norm.weight.data[1] = torch.inf
    assert first_not_finite(model) == NORM
