from __future__ import annotations

import json

from alignlab.data import check
from alignlab.records import to_dict
from tests.data.conftest import Write


def test_all_bad_records_are_listed(write: Write) -> None:
    good = '{"prompt": "p%d q", "chosen": "good one", "rejected": "bad"}\n'
    path = write(
        good % 0 + '{"prompt": "x"}\n' + "nope\n" + good % 1 + '{"prompt": 3, "chosen": "a", '
        '"rejected": "b"}\n' + good % 1
    )
    report = check(str(path))
    assert not report.ok
    assert report.problems == (
        f"{path}, line 3: expected JSON, found Expecting value at column 1",
        f"{path}, line 2, field 'chosen': expected text, found no such field (fields: prompt)",
        f"{path}, line 5, field 'prompt': expected text, found 3",
    )
    assert report.source == "preference"
    assert report.records == {"groups": 2}
    count = report.counts[-1]
    assert (count.kept, count.dropped) == (2, {"bad record": 3, "duplicate": 1})
    text = str(report)
    assert text.splitlines()[:3] == list(report.problems)
    assert f"{path}: preference, 3 bad records" in text


def test_statistics(write: Write) -> None:
    rows = [
        {"prompt": "one two", "responses": [{"text": "a", "rank": 0}, {"text": "b c", "rank": 1}]},
        {"prompt": "one two", "responses": [{"text": "d", "rank": 0}, {"text": "e", "rank": 1}]},
        {
            "prompt": "one two three four",
            "responses": [{"text": t, "rank": r} for r, t in enumerate("fgh")],
        },
    ]
    report = check(f"groups:{write(rows)}")
    assert report.ok
    assert report.group_sizes == {2: 2, 3: 1}
    assert report.repeated_prompts == 1
    assert report.prompt_words is not None
    assert report.response_words is not None
    assert (report.prompt_words.n, report.prompt_words.median) == (3, 2.0)
    assert (report.response_words.n, report.response_words.longest) == (7, 2)
    assert abs(report.prompt_words.mean - 8 / 3) < 1e-12
    assert "responses per group: 2 of 2, 1 of 3" in str(report)
    json.dumps(to_dict(report))


def test_overlap_sees_through_case_and_space(write: Write) -> None:
    path = write([{"prompt": "Say  Hi", "completion": "a"}], "d/train.jsonl")
    write([{"prompt": "say hi", "completion": "b"}], "d/test.jsonl")
    report = check(str(path.parent))
    assert report.records == {"demonstrations": 1, "test prompts": 1}
    assert report.overlap == 1


def test_what_cannot_be_read_at_all(write: Write) -> None:
    report = check("absent.jsonl")
    assert report.problems == (
        "absent.jsonl: expected a file, a folder or a hub id (ORG/NAME), found nothing there",
    )
    assert "not readable" in str(report)
    nothing = check(str(write("nope\n")))
    assert len(nothing.problems) == 2
    assert not nothing.records


def test_a_source_without_files() -> None:
    report = check("sandbox?ift=4&groups=2&prompts=4&test=4&test_groups=2")
    assert report.ok
    assert report.records["demonstrations"] == 4
