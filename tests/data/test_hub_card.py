"""Folders with a card (README.md) that says which files are the data, and of which split."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from alignlab.data import check, load
from alignlab.errors import BadInput
from alignlab.types import Corpus
from tests.data.conftest import Write

PAIR = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"}


def folder(write: Write, card: str, *names: str) -> Path:
    for name in names:
        write([{**PAIR, "prompt": name}], f"d/{name}")
    return write(card, "d/README.md").parent


def card(*configs: dict[str, Any]) -> str:
    return f"---\nlicense: mit\n{yaml.safe_dump({'configs': list(configs)})}---\n# Data\n"


def asked(corpus: Corpus) -> tuple[list[str], list[str]]:
    return (
        sorted(g.prompt.text for g in corpus.groups),
        sorted(g.prompt.text for g in corpus.test_groups),
    )


@pytest.mark.parametrize(
    ("files", "train", "test"),
    [
        ("a.jsonl", ["a.jsonl"], []),
        (["a.jsonl", "b.jsonl"], ["a.jsonl", "b.jsonl"], []),
        ([{"split": "train", "path": "./a.jsonl"}], ["a.jsonl"], []),
        ([{"split": "train", "path": ["a.*", "s/**"]}], ["a.jsonl", "s/c.jsonl"], []),
        (
            [{"split": "train", "path": "a*"}, {"split": "test", "path": "b*"}],
            ["a.jsonl"],
            ["b.jsonl"],
        ),
        (
            [{"split": "train", "path": "s/*"}, {"split": "evaluation", "path": "a.jsonl"}],
            ["s/c.jsonl"],
            ["a.jsonl"],
        ),
    ],
)
def test_a_card_names_files_and_splits(
    write: Write, files: Any, train: list[str], test: list[str]
) -> None:
    text = card({"config_name": "all", "data_files": files})
    place = folder(write, text, "a.jsonl", "b.jsonl", "s/c.jsonl")
    corpus = load(str(place))
    assert asked(corpus) == (train, test)
    unnamed = 3 - len(train) - len(test)
    dropped = {"not named in README.md": unnamed} if unnamed else {}
    assert corpus.counts[0].dropped == {"not a data file": 1, **dropped}


def test_a_folder_of_a_configuration(write: Write) -> None:
    text = card({"config_name": "x", "data_dir": "s"})
    assert asked(load(str(folder(write, text, "a.jsonl", "s/c.jsonl")))) == (["s/c.jsonl"], [])


def test_several_configurations_need_a_default(write: Write) -> None:
    configs = [{"config_name": n, "data_files": f"{n}/*.jsonl"} for n in ("en", "de")]
    place = folder(write, card(*configs), "en/a.jsonl", "de/b.jsonl")
    with pytest.raises(BadInput, match=r"README\.md, field 'configs': .* found en, de"):
        load(str(place))
    assert not check(str(place)).ok
    write(card(configs[0], {**configs[1], "default": True}), "d/README.md")
    assert asked(load(str(place))) == (["de/b.jsonl"], [])


@pytest.mark.parametrize(
    "text",
    [
        "# Data",
        "---\nlicense: mit\n---\n",
        "---\nconfigs: [\n---\n",
        "---\nconfigs: all\n---\n",
        "---\n- a\n---\n",
        card({"config_name": "x"}),
        card({"config_name": "x", "data_files": "gone/*.parquet"}),
        card({"config_name": "x", "data_files": "/a.jsonl"}),
        card({"config_name": "x", "data_files": [{"split": "train"}]}),
    ],
)
def test_a_card_that_names_no_file_here_changes_nothing(write: Write, text: str) -> None:
    place = folder(write, text, "a.jsonl", "test/b.jsonl")
    assert asked(load(str(place))) == (["a.jsonl"], ["test/b.jsonl"])


@pytest.mark.parametrize(
    "name", ["testing", "evaluation", "held_out", "holdout", "my-evals", "test_prefs", "Val2"]
)
def test_names_of_test_data(write: Write, name: str) -> None:
    place = folder(write, "# Data", "train.jsonl", f"{name}.jsonl")
    assert asked(load(str(place))) == (["train.jsonl"], [f"{name}.jsonl"])


@pytest.mark.parametrize("name", ["latest", "contest", "medieval", "validity", "testament"])
def test_names_that_hold_such_a_word_by_chance(write: Write, name: str) -> None:
    place = folder(write, "# Data", "train.jsonl", f"{name}.jsonl")
    assert asked(load(str(place))) == (sorted([f"{name}.jsonl", "train.jsonl"]), [])


def test_a_column_of_splits(write: Write) -> None:
    splits = ("train", "test", "validation", None)
    rows = [{**PAIR, "prompt": str(split), "split": split} for split in splits]
    assert asked(load(str(write(rows)))) == (["None", "train"], ["test", "validation"])
    assert asked(load(f"{write(rows)}?ignore=split")) == (sorted(map(str, splits)), [])
    assert asked(load(str(write(rows[1:3])))) == (["test", "validation"], [])
    others = [{**row, "split": n} for n, row in enumerate(rows)]
    corpus = load(str(write(others)))
    assert asked(corpus) == (sorted(map(str, splits)), [])
    assert corpus.counts[0].changed == {"field 'split' not read": 4}
