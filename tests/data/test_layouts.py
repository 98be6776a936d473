"""Every layout from a small hand-made file, found by its columns and read by its name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from alignlab.data import check, load
from alignlab.errors import BadInput
from alignlab.evaluation.benchmarks.translation import Translation
from alignlab.records import to_dict
from alignlab.types import Corpus, Message
from tests.data.conftest import Write

USER, BOT = "user", "assistant"


def turns(*said: tuple[str, str]) -> list[dict[str, str]]:
    return [{"role": role, "content": content} for role, content in said]


def one(write: Write, row: dict[str, Any], spec: str = "{}", name: str = "a.jsonl") -> Corpus:
    return load(spec.format(write([row], name)))


def texts(corpus: Corpus) -> list[list[str]]:
    return [[response.text for response in group.responses] for group in corpus.groups]


def test_messages(write: Write) -> None:
    said = turns(("system", "Be kind."), (USER, "Hi"), (BOT, "Hello"), (USER, "Bye"), (BOT, "Ciao"))
    corpus = one(write, {"messages": said})
    assert corpus.name == "messages"
    (target,) = corpus.demonstrations
    assert target.prompt.messages[0] == Message("system", "Be kind.")
    assert (target.prompt.text, target.response.text) == ("Bye", "Ciao")
    assert target.response.prompt_id == target.prompt.id
    every = one(write, {"messages": said}, "messages:{}?turns=all").demonstrations
    assert [t.response.text for t in every] == ["Hello", "Ciao"]
    assert len(every[0].prompt.messages) == 2


def test_messages_with_content_parts_and_bad_roles(write: Write) -> None:
    said: list[dict[str, Any]] = turns((USER, "x"), (BOT, "y"))
    said[0]["content"] = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert one(write, {"messages": said}).demonstrations[0].prompt.text == "ab"
    said[1]["role"] = "tool"
    with pytest.raises(BadInput, match=r"line 1, field 'messages\[1\].role': expected one of"):
        one(write, {"messages": said})
    with pytest.raises(BadInput, match="at least one turn"):
        one(write, {"messages": []})


def test_what_has_no_use_is_dropped_by_reason(write: Write) -> None:
    path = write(
        [
            {"messages": turns((USER, "a"))},
            {"messages": turns((USER, "a"), (BOT, "  "))},
            {"messages": turns((USER, " "), (BOT, "b"))},
            {"messages": turns((BOT, "a"), (BOT, "b"))},
            {"messages": turns((USER, "a"), (BOT, "b"))},
            {"messages": turns((USER, "a"), (BOT, "b"))},
        ]
    )
    count = load(str(path)).counts[-1]
    assert (count.stage, count.what, count.kept) == ("data", "records", 1)
    assert count.dropped == {
        "does not end in an assistant turn": 1,
        "empty response": 1,
        "empty prompt": 1,
        "prompt does not end in a user turn": 1,
        "duplicate": 1,
    }


def test_prompt_completion(write: Write) -> None:
    for row in (
        {"prompt": "Hi", "completion": "Hello"},
        {"prompt": turns((USER, "Hi")), "completion": turns((BOT, "Hello"))},
        {"prompt": turns((USER, "Hi")), "completion": "Hello"},
    ):
        corpus = one(write, row)
        (target,) = corpus.demonstrations
        assert (target.prompt.messages, target.response.text) == ((Message(USER, "Hi"),), "Hello")
        assert (corpus.name, target.task) == ("prompt_completion", "ift")
    assert not one(write, {"prompt": "Hi", "completion": turns((USER, "x"))}).demonstrations


def test_prompts(write: Write) -> None:
    row = {"prompt": "Hi", "reference": "Hello", "query_type": "closed", "source": "me"}
    (asked,) = one(write, row).prompts
    assert (asked.text, asked.reference, asked.query_type) == ("Hi", "Hello", "closed")
    assert asked.source == "me"
    (bare,) = one(write, {"prompt": turns((USER, "Hi"))}).prompts
    assert (bare.reference, bare.query_type, bare.source) == (None, None, "prompts")
    assert bare.id == asked.id  # ids come from the text
    with pytest.raises(BadInput, match="field 'query_type': expected open or closed"):
        one(write, {"prompt": "Hi", "query_type": "ajar"})


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Hi", "chosen": "good", "rejected": "bad"},
        {
            "prompt": turns((USER, "Hi")),
            "chosen": turns((BOT, "good")),
            "rejected": turns((BOT, "bad")),
        },
        {
            "chosen": turns((USER, "Hi"), (BOT, "good")),
            "rejected": turns((USER, "Hi"), (BOT, "bad")),
        },
        {  # the prompt in its column and in both dialogues, as binarized UltraFeedback has it
            "prompt": "Hi",
            "chosen": turns((USER, "Hi"), (BOT, "good")),
            "rejected": turns((USER, "Hi"), (BOT, "bad")),
        },
        {"chosen": "Hi good", "rejected": "Hi bad"},
    ],
)
def test_preference_in_every_form(write: Write, row: dict[str, Any]) -> None:
    corpus = one(write, row)
    (group,) = corpus.groups
    assert corpus.name == "preference"
    assert group.prompt.messages == (Message(USER, "Hi"),)
    assert texts(corpus) == [["good", "bad"]]
    assert group.scores == (0.0, -1.0)


def test_preference_implicit_prompt_ends_at_a_word(write: Write) -> None:
    corpus = one(write, {"chosen": "The sky is blue.", "rejected": "The sky is black."})
    assert corpus.groups[0].prompt.text == "The sky is"
    assert texts(corpus) == [["blue.", "black."]]
    assert one(write, {"chosen": "a", "rejected": "b"}).counts[-1].dropped == {"empty prompt": 1}
    assert texts(one(write, {"chosen": "a b c", "rejected": "a b"})) == [["b c", "b"]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"chosen": " "}, "empty chosen response"),
        ({"rejected": ""}, "empty rejected response"),
        ({"chosen": "bad"}, "identical responses"),
        ({"score_chosen": 4, "score_rejected": 4}, "equal scores"),
        ({"score_chosen": 3, "score_rejected": 4}, "scores contradict the choice"),
        # Other tools' names of the scores (argilla/dpo-mix-7k, argilla/distilabel, RLHFlow).
        ({"chosen_rating": 1, "rejected_rating": 5}, "scores contradict the choice"),
        ({"chosen-rating": 4, "rejected-rating": 4}, "equal scores"),
        ({"chosen_score": 1.5, "rejected_score": 2.5}, "scores contradict the choice"),
        ({"prompt": ""}, "empty prompt"),
    ],
)
def test_preference_dropped(write: Write, change: dict[str, Any], reason: str) -> None:
    row = {"prompt": "Hi", "chosen": "good", "rejected": "bad"}
    count = one(write, {**row, **change}).counts[-1]
    assert (count.kept, count.dropped) == (0, {reason: 1})


def test_preference_with_scores_and_other_dialogues(write: Write) -> None:
    row = {"prompt": "Hi", "chosen": "good", "rejected": "bad"}
    scored = {**row, "score_chosen": 8.5, "score_rejected": "3"}
    assert one(write, scored).groups[0].scores == (8.5, 3.0)
    for dialogues, reason in (
        (((USER, "Hi"), (USER, "Ho")), "contexts differ"),
        (((USER, "Ha"), (USER, "Ha")), "prompt differs from the dialogue's"),
    ):
        row = {
            "prompt": "Hi",
            "chosen": turns(dialogues[0], (BOT, "good")),
            "rejected": turns(dialogues[1], (BOT, "bad")),
        }
        assert one(write, row).counts[-1].dropped == {reason: 1}


def test_missing_field_names_line_seven(write: Write) -> None:
    rows: list[dict[str, Any]] = [
        {"prompt": f"p{n}", "chosen": "good", "rejected": "bad"} for n in range(8)
    ]
    del rows[6]["rejected"]
    path = write(rows)
    with pytest.raises(BadInput) as caught:
        load(str(path))
    assert str(caught.value) == (
        f"{path}, line 7, field 'rejected': expected text, "
        "found no such field (fields: prompt, chosen)"
    )
    count = load(f"{path}?bad=drop").counts[-1]
    assert (count.kept, count.dropped) == (7, {"bad record": 1})


@pytest.mark.parametrize(
    ("label", "desirable"), [(True, True), (1, True), (False, False), (0, False)]
)
def test_unpaired(write: Write, label: object, desirable: bool) -> None:
    corpus = one(write, {"prompt": "Hi", "completion": "Hello", "label": label})
    (labelled,) = corpus.labelled
    assert (corpus.name, labelled.desirable, labelled.response.text) == (
        "unpaired",
        desirable,
        "Hello",
    )


def test_unpaired_from_csv_and_contradicting(write: Write) -> None:
    path = write("prompt,completion,label\nHi,Hello,true\nHi,Hello,False\nHi,Hello,1\n", "a.csv")
    corpus = load(str(path))
    assert [each.desirable for each in corpus.labelled] == [True, False]
    assert len({each.id for each in corpus.labelled}) == 2
    assert corpus.counts[-1].dropped == {"duplicate": 1}
    with pytest.raises(BadInput, match="line 2, field 'label': expected true or false"):
        load(str(write("prompt,completion,label\nHi,Hello,maybe\n", "b.csv")))


def test_alpaca(write: Write) -> None:
    corpus = one(write, {"instruction": "Add.", "input": "1, 2", "output": "3"})
    assert corpus.name == "alpaca"
    assert corpus.demonstrations[0].prompt.text == "Add.\n\n1, 2"
    for empty in ("", " ", None):
        corpus = one(write, {"instruction": "Add.", "input": empty, "output": "3"})
        assert corpus.demonstrations[0].prompt.text == "Add."


def test_alpaca_with_history_system_and_ranked_outputs(write: Write) -> None:
    row = {"instruction": "c", "output": ["best", "", "worst"], "system": "s"}
    corpus = one(write, {**row, "history": [["a", "b"]]})
    (group,) = corpus.groups
    assert [(m.role, m.content) for m in group.prompt.messages] == [
        ("system", "s"),
        (USER, "a"),
        (BOT, "b"),
        (USER, "c"),
    ]
    assert (texts(corpus), group.scores) == ([["best", "worst"]], (0.0, -2.0))
    assert corpus.counts[-1].changed == {"empty response left out": 1}
    with pytest.raises(BadInput, match=r"field 'history\[0\]'"):
        one(write, {**row, "history": [["a"]]})


def test_sharegpt(write: Write) -> None:
    said = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]
    (target,) = one(write, {"conversations": said, "system": "s"}).demonstrations
    assert [m.role for m in target.prompt.messages] == ["system", "user"]
    assert target.response.text == "Hello"
    compared = one(
        write,
        {
            "conversations": said[:1],
            "chosen": {"from": "gpt", "value": "good"},
            "rejected": {"from": "gpt", "value": "bad"},
        },
    )
    assert (compared.name, texts(compared)) == ("sharegpt", [["good", "bad"]])


def test_ratings(write: Write) -> None:
    row = {
        "instruction": "Hi",
        "generations": ["so", "best", "unrated", "best"],
        "ratings": [2, 4.5, None, 1],
        "generation_models": ["a", "b", "c", "d"],
    }
    corpus = one(write, row)
    (group,) = corpus.groups
    assert (texts(corpus), group.scores) == ([["best", "so"]], (4.5, 2.0))
    assert [r.sampler.model for r in group.responses] == ["b", "a"]
    assert corpus.counts[-1].changed == {
        "repeated response left out": 1,
        "unrated response left out": 1,
    }
    with pytest.raises(BadInput, match="expected 4 ratings, one per generation, found 3"):
        one(write, {**row, "ratings": [1, 2, 3]})
    with pytest.raises(BadInput, match=r"field 'ratings\[1\]': expected a finite number"):
        one(write, {**row, "ratings": [1, "x", 3, 4]})
    with pytest.raises(BadInput, match="expected 4 names, found 1"):
        one(write, {**row, "generation_models": ["a"]})


def test_groups(write: Write) -> None:
    row = {
        "prompt": "Hi",
        "responses": [{"text": "b", "score": 1}, {"text": "a", "score": 3, "model": "m"}],
        "ordered_by": "judge",
    }
    (group,) = one(write, row).groups
    assert [r.text for r in group.responses] == ["a", "b"]
    assert (group.scores, group.source, group.prompt.source) == ((3.0, 1.0), "judge", "groups")
    assert [r.sampler.model for r in group.responses] == ["m", "unknown"]


def test_groups_by_rank_with_ties(write: Write) -> None:
    answers = [{"text": t, "rank": r} for t, r in (("c", 2), ("a", 0), ("b", 0))]
    (group,) = one(write, {"prompt": "Hi", "responses": answers}).groups
    assert [r.text for r in group.responses] == ["a", "b", "c"]
    assert group.scores == (0.0, 0.0, -2.0)


@pytest.mark.parametrize(
    ("answers", "complaint"),
    [
        ([{"text": "a", "score": 1}, {"text": "b"}], r"responses\[1\].score"),
        ([{"text": "a"}, {"text": "b"}], r"responses\[0\].rank"),
        ([{"score": 1}, {"text": "b", "score": 2}], r"responses\[0\].text"),
        (
            [{"text": "a", "score": 2, "rank": 1}, {"text": "b", "score": 1, "rank": 0}],
            r"responses\[1\].rank",
        ),
    ],
)
def test_bad_groups(write: Write, answers: list[dict[str, Any]], complaint: str) -> None:
    with pytest.raises(BadInput, match=complaint):
        one(write, {"prompt": "Hi", "responses": answers})


def test_groups_of_one_are_dropped(write: Write) -> None:
    corpus = one(write, {"prompt": "Hi", "responses": [{"text": "a", "score": 1}]})
    assert corpus.counts[-1].dropped == {"fewer than two different responses": 1}


def test_hh(write: Write) -> None:
    row = {
        "chosen": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Bye\n\nAssistant: good ",
        "rejected": "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Bye\n\nAssistant: bad",
    }
    corpus = one(write, row)
    assert (corpus.name, texts(corpus)) == ("hh", [["good", "bad"]])
    assert [m.role for m in corpus.groups[0].prompt.messages] == [USER, BOT, USER]
    split = {
        "prompt": "\n\nHuman: Hi\n\nAssistant:",
        "chosen": " good",
        "rejected": " bad",
    }
    assert texts(one(write, split)) == [["good", "bad"]]


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ("\n\nHuman: Hi\n\nAssistant: x\n\nHuman: y\n\nAssistant: z", "contexts differ"),
        ("\n\nHuman: Hi\n\nAssistant: ", "empty chosen response"),
        ("\n\nHuman: Hi\n\nHuman: y", "does not end in an assistant turn"),
        ("\n\nHuman: Hi\n\nAssistant: x\n\nAssistant: z", "contexts differ"),
        ("\n\nHuman: x", "contexts differ"),
    ],
)
def test_hh_dropped(write: Write, chosen: str, reason: str) -> None:
    row = {"chosen": chosen, "rejected": "\n\nHuman: Hi\n\nAssistant: bad"}
    assert one(write, row).counts[-1].dropped == {reason: 1}


def test_hh_without_a_last_answer(write: Write) -> None:
    start = "\n\nHuman: Hi\n\nAssistant: x"
    ends_in_question = {"chosen": start + "\n\nHuman: y", "rejected": start + "\n\nHuman: z"}
    count = one(write, ends_in_question).counts[-1]
    assert count.dropped == {"does not end in an assistant turn": 1}
    flagged = {"chosen": start, "rejected": start + "y", "same_last_context": False}
    assert one(write, flagged).counts[-1].dropped == {"contexts differ": 1}
    twice = {"chosen": start + "\n\nAssistant: y", "rejected": start + "\n\nAssistant: z"}
    count = one(write, twice).counts[-1]
    assert count.dropped == {"prompt does not end in a user turn": 1}


def test_hh_joins_turns_of_one_speaker(write: Write) -> None:
    start = "\n\nHuman: Hi\n\nHuman: You\n\nAssistant: "
    corpus = one(write, {"chosen": start + "good", "rejected": start + "bad"})
    assert corpus.groups[0].prompt.text == "Hi\n\nYou"
    assert corpus.counts[-1].changed == {"consecutive turns of one speaker joined": 1}


def test_hh_by_name_refuses_other_texts(write: Write) -> None:
    with pytest.raises(BadInput, match="field 'chosen': expected a dialogue"):
        one(write, {"chosen": "Hi", "rejected": "Ho"}, "hh:{}")


def completion(text: str, model: str, overall: float, rating: str) -> dict[str, Any]:
    aspects = ("helpfulness", "honesty", "instruction_following", "truthfulness")
    return {
        "response": text,
        "model": model,
        "overall_score": overall,
        "annotations": {aspect: {"Rating": rating, "Rationale": "."} for aspect in aspects},
    }


def test_ultrafeedback(write: Write) -> None:
    mixed = completion("b", "m2", 9.0, "2")
    mixed["annotations"]["helpfulness"]["Rating"] = "5"
    row = {
        "source": "sharegpt",
        "instruction": "Hi",
        "completions": [completion("a", "m1", 7.5, "4"), mixed, completion("c", "m3", 1, "N/A")],
    }
    corpus = one(write, row)
    assert corpus.name == "ultrafeedback"
    assert (texts(corpus), corpus.groups[0].scores) == ([["a", "b"]], (4.0, 2.75))
    assert corpus.groups[0].source == "sharegpt"
    assert corpus.counts[-1].changed == {"unrated response left out": 1}
    overall = one(write, row, "ultrafeedback:{}?score=overall")
    assert overall.groups[0].scores == (9.0, 7.5, 1.0)
    helpful = one(write, row, "ultrafeedback:{}?score=helpfulness")
    assert texts(helpful) == [["b", "a"]]
    given = {**row, "completions": [{**c, "fine-grained_score": 3.5} for c in (mixed,)]}
    assert one(write, given).counts[-1].dropped == {"fewer than two different responses": 1}


def test_ultrafeedback_binarized_by_name(write: Write) -> None:
    row = {"prompt": "Hi", "chosen": "good", "rejected": "bad"}
    assert texts(one(write, row, "ultrafeedback:{}")) == [["good", "bad"]]
    with pytest.raises(BadInput, match="score has no effect on binarized"):
        one(write, row, "ultrafeedback:{}?score=overall")


def test_shp(write: Write) -> None:
    row = {
        "history": "A post?",
        "human_ref_A": "a",
        "human_ref_B": "b",
        "labels": 0,
        "score_A": 2,
        "score_B": 6,
        "score_ratio": 3.0,
    }
    corpus = one(write, row)
    assert (corpus.name, texts(corpus)) == ("shp", [["b", "a"]])
    assert texts(one(write, {**row, "labels": 1})) == [["a", "b"]]
    strict = one(write, row, "shp:{}?min_ratio=4")
    assert strict.counts[-1].dropped == {"vote ratio below min_ratio": 1}
    with pytest.raises(BadInput, match="field 'labels': expected an integer from 0 to 1"):
        one(write, {**row, "labels": 2})


def tldr(choice: int, split: str, confidence: int | None = None) -> dict[str, Any]:
    return {
        "info": {"id": "x", "post": f"Long {split}.", "title": "T", "subreddit": "tifu"},
        "summaries": [{"text": " s0", "policy": "sup1"}, {"text": " s1", "policy": "ref"}],
        "choice": choice,
        "split": split,
        "extra": {"confidence": confidence},
    }


def test_tldr(write: Write) -> None:
    corpus = load(str(write([tldr(1, "train"), tldr(0, "valid1")])))
    (group,), (test_group,) = corpus.groups, corpus.test_groups
    assert group.prompt.text == "SUBREDDIT: r/tifu\nTITLE: T\nPOST: Long train.\nTL;DR:"
    assert [(r.text, r.sampler.model) for r in group.responses] == [("s1", "ref"), ("s0", "sup1")]
    assert [r.text for r in test_group.responses] == ["s0", "s1"]
    assert corpus.test_prompts[0].text == test_group.prompt.text
    assert corpus.counts[-1].dropped == {"held out for testing": 1}


def test_tldr_articles_and_confidence(write: Write) -> None:
    article = {**tldr(0, "train", 7), "info": {"id": "y", "article": "News."}}
    path = write([article, tldr(0, "train", 2), tldr(1, "train")])
    corpus = load(f"tldr:{path}?min_confidence=5")
    assert corpus.groups[0].prompt.text == "Article:\nNews.\n\nTL;DR:"
    assert corpus.counts[-1].dropped == {
        "confidence below min_confidence": 1,
        "no confidence given": 1,
    }
    with pytest.raises(BadInput, match="expected two summaries"):
        one(write, {**tldr(0, "train"), "summaries": []})


def test_alpacafarm(write: Write) -> None:
    row = {"instruction": "Add.", "input": "1", "output_1": "a", "output_2": "b", "preference": 2}
    corpus = one(write, row)
    assert (corpus.name, texts(corpus)) == ("alpacafarm", [["b", "a"]])
    assert corpus.groups[0].prompt.text == "Add.\n\n1"
    assert texts(one(write, {**row, "preference": 1})) == [["a", "b"]]
    none = one(write, {**row, "preference": None})
    assert none.counts[-1].dropped == {"no preference given": 1}
    with pytest.raises(BadInput, match="field 'preference': expected an integer from 1 to 2"):
        one(write, {**row, "preference": 0})


def test_alpacaeval(write: Write) -> None:
    row = {
        "instruction": "Hi",
        "output_1": "base",
        "output_2": "mine",
        "generator_1": "gpt4",
        "generator_2": "m",
        "annotator": "judge",
        "dataset": "koala",
        "preference": 1.75,
    }
    corpus = one(write, row)
    (group,) = corpus.groups
    assert (corpus.name, texts(corpus)) == ("alpacaeval", [["mine", "base"]])
    assert (group.scores, group.source, group.prompt.source) == ((0.75, 0.25), "judge", "koala")
    assert [r.sampler.model for r in group.responses] == ["m", "gpt4"]
    assert texts(one(write, {**row, "preference": 1})) == [["base", "mine"]]
    for preference, reason in ((1.5, "tie"), (None, "no preference given")):
        assert one(write, {**row, "preference": preference}).counts[-1].dropped == {reason: 1}
    with pytest.raises(BadInput, match="a number from 1 to 2"):
        one(write, {**row, "preference": 2.5})


def test_alpacaeval_listwise(write: Write) -> None:
    answers = [{"model": "m", "text": "a", "score": 0.1}, {"model": "n", "text": "b", "score": 0.9}]
    rows = [
        {"instruction_id": n, "split": split, "prompt": f"p{n}", "responses": answers}
        for n, split in enumerate(["train", "test", "train"])
    ]
    corpus = load(str(write(rows)))
    assert corpus.name == "alpacaeval_listwise"
    assert texts(corpus) == [["b", "a"]] * 2
    assert [g.prompt.text for g in corpus.test_groups] == ["p1"]
    with pytest.raises(BadInput, match="expected train or test, found 'dev'"):
        one(write, {**rows[0], "split": "dev"})


def test_pku(write: Write) -> None:
    row = {
        "prompt": "Hi",
        "response_0": "a",
        "response_1": "b",
        "better_response_id": 0,
        "safer_response_id": 1,
        "response_1_source": "m",
    }
    assert texts(one(write, row)) == [["a", "b"]]
    safer = one(write, row, "pku:{}?by=safer")
    assert (texts(safer), safer.groups[0].responses[0].sampler.model) == ([["b", "a"]], "m")


def test_translation(write: Write) -> None:
    row = {"src": "Guten Tag.", "ref": "Hello.", "systems": {"m": "Hi."}}
    corpus = one(write, row, "translation:{}?target_language=Plain English")
    (demonstration,) = corpus.demonstrations
    asked = "Translate this text from German into Plain English. Write the translation alone."
    assert demonstration.prompt.text == f"{asked}\n\nGuten Tag."
    assert demonstration.response.text == "Hello."
    assert load(str(write([row]))).name == "translation"
    (question,) = Translation(target_language="Plain English").questions(write([row]))
    assert question.prompt.text == demonstration.prompt.text
    with pytest.raises(BadInput, match="ref"):
        one(write, {"src": "Guten Tag.", "ref": 3})


@pytest.mark.parametrize(
    ("spec", "row"),
    [
        ("translation:{}", {"src": " \u200b", "ref": "Hello."}),
        ("tldr:{}", {"info": {"post": " ", "title": "A"}, "choice": 0,
                     "summaries": [{"text": "a"}, {"text": "b"}], "split": "train"}),
        ("wmt_mqm:{}?instruction=Translate.", {
            "system": "a", "doc": "d", "seg_id": "1", "rater": "r", "source": "<v></v> ",
            "target": "x", "category": "No-error", "severity": "No-error"}),
    ],
)  # fmt: skip
def test_an_instruction_without_its_text_is_an_empty_prompt(write, spec, row) -> None:
    more = {"wmt_mqm": {**row, "system": "b", "target": "y"}}.get(spec.partition(":")[0], row)
    problems = check(spec.format(write([row, more])))
    dropped = [why for count in problems.counts for why in count.dropped]
    assert "empty prompt" in dropped


def test_self_instruct(write: Write) -> None:
    instances = [{"input": "", "output": "x"}, {"input": "1", "output": "y"}]
    corpus = one(write, {"instruction": "Do.", "instances": instances})
    assert [d.prompt.text for d in corpus.demonstrations] == ["Do.", "Do.\n\n1"]


def test_records_of_a_run_are_read_back_equal(write: Write) -> None:
    answers = [{"text": "b", "score": 1}, {"text": "a", "score": 3, "model": "m"}]
    corpus = one(write, {"prompt": "Hi", "responses": answers, "query_type": "open"})
    target = one(write, {"prompt": "Hi", "completion": "Hello"}).demonstrations[0]
    labelled = one(write, {"prompt": "Hi", "completion": "x", "label": True}).labelled[0]
    asked = one(write, {"prompt": "Hi", "reference": "x"}).prompts[0]
    written = [to_dict(each) for each in (corpus.groups[0], target, labelled, asked)]
    again = load(str(write(written, "records.jsonl")))
    assert again.name == "records"
    assert (again.groups, again.demonstrations) == (corpus.groups, (target,))
    assert (again.labelled, again.prompts) == ((labelled,), (asked,))
    written[0]["scores"] = ["high", 1]
    with pytest.raises(BadInput, match=r"line 1, field 'scores.0'"):
        load(str(write(written, "records.jsonl")))
    broken = json.loads(json.dumps(written[1]))
    broken["extra"] = 1
    with pytest.raises(BadInput, match="expected the fields of a group"):
        load(f"records:{write([broken], 'b.jsonl')}")


def test_group_scores_in_records_must_be_ordered(write: Write) -> None:
    group = one(write, {"prompt": "Hi", "chosen": "a", "rejected": "b"}).groups[0]
    plain = to_dict(group)
    plain["scores"] = [0, 1]
    with pytest.raises(BadInput, match="best first"):
        load(str(write([plain], "records.jsonl")))


def test_labelled_drops_and_bad_answers(write: Write) -> None:
    for row, reason in (
        ({"prompt": "", "completion": "x", "label": 1}, "empty prompt"),
        ({"prompt": "x", "completion": "", "label": 1}, "empty response"),
        (
            {"prompt": "x", "completion": turns((USER, "y")), "label": 1},
            "does not end in an assistant turn",
        ),
    ):
        assert one(write, row).counts[-1].dropped == {reason: 1}


def test_ultrafeedback_without_an_aspect(write: Write) -> None:
    bare = [{"response": t, "annotations": {}} for t in "ab"]
    count = one(write, {"instruction": "Hi", "completions": bare}).counts[-1]
    assert count.dropped == {"fewer than two different responses": 1}
