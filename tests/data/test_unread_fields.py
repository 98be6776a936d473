"""Fields that change the meaning are honoured or refused; all others are counted by name."""

from __future__ import annotations

from typing import Any

import pytest

from alignlab.data import check, convert, load
from alignlab.errors import BadInput
from tests.data.conftest import Write

ASK, REPLY = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}
CHAT = {"messages": [ASK, REPLY]}
PAIR = {"prompt": "Hi", "chosen": "Hello", "rejected": "Go"}
TOOL = {"type": "function", "function": {"name": "weather"}}
GPT = {"from": "gpt", "value": "Hello"}


def turns(*weights: Any, name: str = "weight") -> dict[str, Any]:
    """Questions and answers 0, 1, ..., the answers weighted; None writes no weight."""
    said: list[dict[str, Any]] = []
    for n, weight in enumerate(weights):
        extra = {} if weight is None else {name: weight}
        said += [
            {"role": "user", "content": f"q{n}"},
            {"role": "assistant", "content": f"a{n}", **extra},
        ]
    return {"messages": said}


@pytest.mark.parametrize(
    ("row", "field"),
    [
        ({**CHAT, "tools": [TOOL]}, "tools"),
        ({**CHAT, "functions": [TOOL]}, "functions"),
        ({**CHAT, "tools": '[{"name": "weather"}]'}, "tools"),
        ({"messages": [ASK, {**REPLY, "tool_calls": [TOOL]}]}, r"messages\[1\].tool_calls"),
        ({"messages": [ASK, {**REPLY, "function_call": TOOL}]}, r"messages\[1\].function_call"),
        ({"messages": [ASK, {**REPLY, "reasoning_content": "hm"}]}, r"messages\[1\].reasoning_co"),
        ({"messages": [ASK, {**REPLY, "thinking": "hm"}]}, r"messages\[1\].thinking"),
        ({"messages": [ASK, {**REPLY, "prefix": True}]}, r"messages\[1\].prefix"),
        ({**CHAT, "images": ["a.png"]}, "images"),
        ({**CHAT, "image": {"bytes": "x", "path": None}}, "image"),
        ({**CHAT, "videos": ["a.mp4"]}, "videos"),
        ({**CHAT, "loss_mask": [0, 1]}, "loss_mask"),
        ({**CHAT, "label": 1}, "label"),
        ({**CHAT, "completion": "Hey"}, "completion"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}, REPLY]}, "type"),
        ({"messages": [ASK, {"role": "tool", "content": "7"}, REPLY]}, "role"),
        ({**PAIR, "kto_tag": True}, "kto_tag"),
        ({**PAIR, "label": False}, "label"),
        ({**PAIR, "label": 0}, "label"),
        ({**PAIR, "rejected_response": "No"}, "rejected_response"),
        ({**PAIR, "images": ["a.png"]}, "images"),
        ({**PAIR, "rejected_images": ["a.png"]}, "rejected_images"),
        ({"prompt": "Hi", "completion": "Hello", "rejected": "Go"}, "rejected"),
        ({"prompt": "Hi", "completion": "Hello", "rejected_completion": "Go"}, "rejected_compl"),
        ({"instruction": "Hi", "output": "Hello", "rejected_output": "Go"}, "rejected_output"),
        ({"instruction": "Hi", "output": "Hello", "images": ["a.png"]}, "images"),
        ({"prompt": "Hi", "completions": [{"model": "a", "completion": "Hello"}]}, "completions"),
        ({"prompt": "Hi", "completions": ["Hello", "Go"]}, "completions"),
        ({"prompt": "Hi", "outputs": ["Hello"]}, "outputs"),
        ({"prompt": "Hi", "generations": ["Hello"]}, "generations"),
        ({"prompt": "Hi", "chosen": "Hello"}, "chosen"),
        # Pairs of layouts that are not known must not become prompts alone.
        ({"prompt": "Hi", "response_a": "Hello", "response_b": "Go", "winner": "b"}, "response_a"),
        ({"prompt": "Hi", "answer_1": "Hello", "answer_2": "Go"}, "answer_1"),
        ({"prompt": "Hi", "Response_left": "Hello"}, "Response_left"),
        ({"messages": [ASK, {**REPLY, "mask": True}]}, r"messages\[1\].mask"),
        ({"messages": [ASK, {**REPLY, "train_detail": [1]}]}, r"messages\[1\].train_detail"),
        ({"conversations": [{"from": "human", "value": "Hi"}, {**GPT, "weight": 0.5}]}, "weight"),
        ({"conversations": [{"from": "human", "value": "Hi"}, GPT], "tools": "[1]"}, "tools"),
        (
            {"prompt": "Hi", "chosen": [{**REPLY, "weight": 0}], "rejected": [REPLY]},
            "chosen': expected an answer to learn",
        ),
        ({"history": "Hi", "human_ref_A": "a", "human_ref_B": "b", "labels": 1,
          "system": "Be brief."}, "system"),
        # A system turn under another name (axolotl pull request 2397, verifiers issue 542).
        ({**PAIR, "system prompt": "Be brief."}, "system prompt"),
        ({**PAIR, "systemPrompt": "Be brief."}, "systemPrompt"),
        ({**PAIR, "instructions": "Be brief."}, "instructions"),
        ({**PAIR, "context": "The shop is shut."}, "context"),
        ({**PAIR, "sample_weight": 0.0}, "sample_weight"),
        ({**PAIR, "weight": "0"}, "weight"),
        ({"prompt": "Hi", "completion": "Go", "is_chosen": False}, "is_chosen"),
        ({"prompt": "Hi", "completion": "Go", "preferred": "false"}, "preferred"),
        ({"prompt": "Hi", "completion": "Go", "thumbs_up": 0}, "thumbs_up"),
    ],
)  # fmt: skip
def test_refused(write: Write, row: dict[str, Any], field: str) -> None:
    path = write([row])
    with pytest.raises(BadInput, match=f"line 1, field '.*{field}"):
        load(str(path))
    (count,) = (c for c in load(f"{path}?bad=drop").counts if c.what == "records")
    assert (count.kept, count.dropped) == (0, {"bad record": 1})


@pytest.mark.parametrize("nothing", [None, [], "", "[]", {}, [None], {"bytes": None}])
@pytest.mark.parametrize("field", ["tools", "images", "rejected_messages"])
def test_a_field_that_holds_nothing_is_no_matter(write: Write, field: str, nothing: Any) -> None:
    row = {**CHAT, field: nothing} if field != "rejected_messages" else {**PAIR, field: nothing}
    assert [c.what for c in load(str(write([row]))).counts] == ["records"]


def test_ignored_on_demand_and_counted(write: Write) -> None:
    said = [ASK, {**REPLY, "reasoning_content": "hm"}]
    path = write([{"messages": said, "tools": [TOOL], "system": "S"}])
    corpus = load(f"{path}?ignore=tools,reasoning_content,system")
    assert len(corpus.demonstrations[0].prompt.messages) == 1
    assert corpus.counts[0].changed == {
        "field 'messages[].reasoning_content' ignored": 1,
        "field 'system' ignored": 1,
        "field 'tools' ignored": 1,
    }


@pytest.mark.parametrize(
    ("weights", "learnt"),
    [
        ((None, None), ["a1"]),
        ((0, 1), ["a1"]),
        ((1, 0), ["a0"]),
        ((1, 1), ["a0", "a1"]),
        ((None, 0), ["a0"]),
        ((False, True), ["a1"]),
        (("0", 1.0), ["a1"]),
        ((0, None, 1), ["a1", "a2"]),
    ],
)
@pytest.mark.parametrize("name", ["weight", "loss", "train", "trainable", "loss_mask"])
def test_weights_decide_what_is_learnt(
    write: Write, name: str, weights: tuple[Any, ...], learnt: list[str]
) -> None:
    corpus = load(str(write([turns(*weights, name=name)])))
    assert [d.response.text for d in corpus.demonstrations] == learnt


def test_weights_are_kept_with_all_turns_too(write: Write) -> None:
    path = write([{"system": "S", **turns(0, 1, None)}])
    found = load(f"{path}?turns=all").demonstrations
    assert [(d.response.text, len(d.prompt.messages)) for d in found] == [("a1", 4), ("a2", 6)]


def test_nothing_to_learn_is_counted(write: Write) -> None:
    (count,) = load(str(write([turns(0, 0)]))).counts
    assert count.dropped == {"no turn to learn (weight 0)": 1}


@pytest.mark.parametrize("weight", [0.5, 2, "half", [1]])
def test_other_weights_are_refused(write: Write, weight: Any) -> None:
    with pytest.raises(BadInput, match=r"field 'messages\[1\].weight': expected true or false"):
        load(str(write([turns(weight)])))


@pytest.mark.parametrize(
    "row",
    [
        CHAT,
        {"conversations": [{"from": "human", "value": "Hi"}, GPT]},
        {"instruction": "Hi", "output": "Hello"},
        {"prompt": "Hi", "completion": "Hello"},
    ],
)
@pytest.mark.parametrize(
    ("tag", "desirable"),
    [({"kto_tag": True}, True), ({"kto_tag": "false"}, False), ({"label": False}, False)],
)
def test_a_label_makes_unpaired_preferences(
    write: Write, row: dict[str, Any], tag: dict[str, Any], desirable: bool
) -> None:
    corpus = load(str(write([{**row, **tag}])))
    assert corpus.demonstrations == ()
    assert [(each.response.text, each.desirable) for each in corpus.labelled] == [
        ("Hello", desirable)
    ]


@pytest.mark.parametrize(
    "rejected",
    [
        {"rejected_response": "Go"},
        {"rejected_messages": [ASK, {"role": "assistant", "content": "Go"}]},
    ],
)
def test_a_rejected_answer_beside_messages_makes_a_pair(
    write: Write, rejected: dict[str, Any]
) -> None:
    (group,) = load(str(write([{**CHAT, **rejected}]))).groups
    assert [r.text for r in group.responses] == ["Hello", "Go"]


def test_other_fields_are_counted_by_name(write: Write) -> None:
    said = [{**ASK, "name": "Ann"}, REPLY]
    rows = [{"messages": said, "id": 7, "weight": 2.0}, {"messages": said, "id": 8}]
    path = write(rows)
    corpus = load(str(path))
    assert corpus.counts[0].what == "rows"
    assert corpus.counts[0].changed == {
        "field 'id' not read": 2,
        "field 'messages[].name' not read": 2,
        "field 'weight' not read": 1,
    }
    assert "changed: field 'id' not read 2; field 'messages[].name'" in str(check(str(path)))
    written = convert(str(path), path.with_name("o.jsonl"), to="messages")
    assert "field 'messages[].name' not read 2" in str(written)


def test_a_context_that_the_prompt_holds_is_no_matter(write: Write) -> None:
    row = {**PAIR, "prompt": "The shop is shut. When does it open?", "context": "The shop is shut."}
    assert len(load(str(write([row]))).groups) == 1


def test_text_labels_and_names_of_models_are_no_matter(write: Write) -> None:
    row = {**PAIR, "label": "safe", "rejected_model": "m", "chosen-rating": 4, "rejected_score": 1}
    assert len(load(str(write([row]))).groups) == 1


def test_ignored_fields_that_no_record_has(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    path = write([{"prompt": "a", "completion": "b", "tools": ["t"]}])
    plain = write([{"prompt": "a", "completion": "b", "note": 1}], "plain.jsonl")
    with pytest.raises(BadInput, match=r"setting ignore: no record has noet \(fields: .*note, pr"):
        load(f"{plain}?ignore=noet")
    assert len(load(f"{path}?ignore=tools,images").demonstrations) == 1
    assert "no record has images" in caplog.text
