"""FairEval (arXiv 2305.17926): two models' answers to Vicuna's 80 questions, compared by people.

Reads the authors' folder (github.com/i-Eval/FairEval): `question.jsonl`,
`answer/answer_MODEL.jsonl`, and `review/review_MODEL_MODEL_human.txt` with one label per line in
the order of the questions: a model's name in capitals (CHATGPT is gpt35), or TIE.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from alignlab.data.build_records import Origin, ResponseDraft
from alignlab.data.formats import Format, corpus_of, placed
from alignlab.data.judged_pairs import FIRST, SECOND, TIE, JudgedPair, judged_pair_group
from alignlab.data.options import Options
from alignlab.data.read import Faults, RawTable
from alignlab.data.rows import Row
from alignlab.errors import BadInput, bad_record
from alignlab.files import read_text
from alignlab.registry import register
from alignlab.types import Corpus

NAMES = {"chatgpt": "gpt35"}
"""Label -> model name in file names, where they differ."""


def corpus(self: Format, table: RawTable, options: Any, faults: Faults) -> Corpus:
    """Join the questions, answers and labels of a folder.

    Raises:
        BadInput: a file is missing, or the files do not match.
    """
    files: dict[str, list[Row]] = {}
    for row in table.rows:
        files.setdefault(re.sub(r"\.jsonl?(\.gz)?$", "", Path(row.file).name), []).append(row)
    reviews = [
        Path(p) for p in table.ignored if re.fullmatch(r"review_.+_human\.txt", Path(p).name)
    ]
    if not reviews or "question" not in files:
        raise BadInput(
            f"{table.path}: expected FairEval's folder with question.jsonl, answer/answer_*.jsonl "
            "and review/review_*_human.txt, found no questions or no labels"
        )
    results = []
    for review in reviews:
        pairs = _pairs(review, files)
        results += [
            placed(item, row, options) for pair, row in pairs for item in judged_pair_group(pair)
        ]
    return corpus_of(self.name, results, table, options, faults)


def _pairs(review: Path, files: dict[str, list[Row]]) -> list[tuple[JudgedPair, Row]]:
    named = review.name.removeprefix("review_").removesuffix("_human.txt")
    answers = {name.removeprefix("answer_"): rows for name, rows in files.items()}
    models = [(a, b) for a in answers for b in answers if f"{a}_{b}" == named]
    if not models:
        raise BadInput(
            f"{review}: expected answer files of both models, found {', '.join(answers)}"
        )
    first, second = models[0]
    of_first, of_second = (_by_question(answers[model]) for model in models[0])
    labels = [line.strip() for line in read_text(review).splitlines() if line.strip()]
    questions = files["question"]
    if len(labels) != len(questions):
        expected = f"a label for each of {len(questions)} questions"
        raise bad_record(review, None, None, expected, f"{len(labels)} labels")
    votes = {_plain(first): FIRST, _plain(second): SECOND, "tie": TIE}
    pairs = []
    for number, (question, label) in enumerate(zip(questions, labels, strict=True), start=1):
        vote = votes.get(NAMES.get(_plain(label), _plain(label)))
        if vote is None:
            raise bad_record(review, number, None, f"{first}, {second} or TIE", label)
        key = str(question.get("question_id"))
        if key not in of_first or key not in of_second:
            raise question.bad("question_id", f"a question that {first} and {second} answer")
        texts = of_first[key].text("text"), of_second[key].text("text")
        pair = JudgedPair(
            prompt=question.text("text"),
            first=ResponseDraft(texts[0], model=first),
            second=ResponseDraft(texts[1], model=second),
            votes=(vote,),
            origin=Origin(f"faireval/{question.optional_text('category') or 'unknown'}"),
        )
        pairs.append((pair, question))
    return pairs


def _by_question(rows: list[Row]) -> dict[str, Row]:
    return {str(row.get("question_id")): row for row in rows}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


faireval = register("data", "faireval")(
    Format(
        name="faireval",
        doc="Two models' answers to Vicuna's questions with people's labels: the authors' folder.",
        columns=(),
        options=Options,
        corpus=corpus,
    )
)
