"""FActScore: the share of a text's facts that a local corpus supports (arXiv 2305.14251).

A judge splits each sentence of the answer into facts and checks every fact against passages that
TF-IDF finds in the corpus (those of the topic's own page, where there is one). A true fact that the
corpus does not hold counts as unsupported, and answers with few facts score well: the penalised
figure, times exp(1 - 10/facts) below 10 facts, and the number of facts come with it. Facts without
a readable verdict are left out of the share and counted. Judge, corpus and prompts are not the
authors': figures are not comparable with theirs.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from alignlab.ask_model import Ask, Reply, ask_model
from alignlab.configs import Bounded, PositiveInt
from alignlab.errors import BadInput
from alignlab.evaluation.question_files import single
from alignlab.evaluation.retrieval import PassageIndex, read_corpus, read_passages
from alignlab.evaluation.task_files import read_rows
from alignlab.evaluation.task_rows import Measure, QuestionValue, not_comparable, one_row
from alignlab.evaluation.tasks import (
    BenchmarkInputs,
    Findings,
    Needs,
    Question,
    model_judge,
    subject,
)
from alignlab.evaluation.templates import own_template
from alignlab.registry import register
from alignlab.text import sentences
from alignlab.types import EvalResult, Feedback, Response, Sampling, Score, Unscored, Verdict
from alignlab.verdicts import parse_list, yes_or_no

NAME = "factscore"
ENOUGH = 10
"""Facts below which an answer is penalised for its brevity (gamma)."""
TOPICS = ("topic", "entity", "subj")


class StatedFact(NamedTuple):
    """Fact that an answer states."""

    response: Response
    topic: str
    text: str


@register("benchmark", NAME)
@dataclass(frozen=True)
class FActScore(Bounded):
    """Share of an answer's atomic facts that a local corpus supports."""

    corpus: Path | None = None
    """File of rows `title`, `text` against which facts are checked; required."""
    passages: PositiveInt = 5
    """Passages shown with each fact."""

    needs: ClassVar[Needs] = Needs(
        data="rows of `topic` (and, if wanted, `prompt`), for example the entities of FActScore "
        "(github.com/shmsw25/FActScore); with corpus=FILE of rows `title`, `text`",
        judges=("model",),
        sampling=Sampling(temperature=0.7, top_p=0.9, max_tokens=512),
    )

    def questions(self, data: Path) -> list[Question]:
        """Read one question per topic; the topic is the prompt's reference.

        Raises:
            BadInput: a bad row, no corpus, or a bad one.
        """
        if self.corpus is None or not self.corpus.is_file():
            raise BadInput(
                f"factscore: expected corpus=FILE of rows `title` and `text`, found {self.corpus}"
            )
        read_passages(self.corpus)  # before a model answers
        found = []
        for number, row in enumerate(read_rows(data)):
            topic = row.text(*TOPICS)
            text = row.maybe("prompt") or f"Tell me a bio of {topic}."
            found.append(single(row, NAME, text, key=str(number), references=(topic,)))
        return found

    def measure(self, inputs: BenchmarkInputs) -> Findings:
        """Split every answer into facts and check them."""
        assert self.corpus is not None  # questions() refuses that
        corpus = read_corpus(self.corpus)
        rows: list[EvalResult] = []
        judgements: list[Feedback] = []
        for answers, answered in inputs.by_model():
            facts, unread = _facts(inputs, answered)
            checked = self._checked(inputs, corpus, facts)
            name = model_judge(inputs).name
            judged = [_feedback(name, responses[-1], facts, checked) for _, responses in answered]
            rows += _rows(inputs, answers.model, judged, facts)
            lost = sum(reply.read is None for reply in checked)
            about = subject(inputs, answers.model, NAME)
            rows.append(about.count("unread_sentences", float(unread), len(judged)))
            rows.append(about.count("unread_facts", float(lost), len(facts)))
            judgements += judged
        return Findings(not_comparable(rows), tuple(judgements))

    def _checked(
        self, inputs: BenchmarkInputs, corpus: PassageIndex, facts: Sequence[StatedFact]
    ) -> list[Reply[bool]]:
        template = own_template("verify_fact")
        asks = []
        for number, fact in enumerate(facts):
            near = corpus.find(f"{fact.topic} {fact.text}", self.passages, title=fact.topic)
            shown = "\n\n".join(f"{p.title}: {p.text}" for p in near)
            messages = template.fill(passages=shown, fact=fact.text)
            asks.append(Ask(f"{fact.response.id}|fact {number}", messages))
        sampling = Sampling(0.0, 1.0, 16)
        found = ask_model(model_judge(inputs), asks, yes_or_no, sampling=sampling, seed=inputs.seed)
        return [reply for (reply,) in found]


class Facts(NamedTuple):
    """Facts of all answers."""

    facts: list[StatedFact]
    unread: int
    """Number of sentences that the judge did not split readably."""


def _facts(
    inputs: BenchmarkInputs, answered: Sequence[tuple[Question, tuple[Response, ...]]]
) -> Facts:
    """Ask the judge to split every sentence of every answer into facts."""
    template = own_template("facts")
    parts = [
        (responses[-1], q.references[0], sentence)
        for q, responses in answered
        for sentence in sentences(responses[-1].text)
    ]
    asks = [
        Ask(f"{response.id}|sentence {number}", template.fill(topic=topic, sentence=sentence))
        for number, (response, topic, sentence) in enumerate(parts)
    ]
    sampling = Sampling(0.0, 1.0, 256)
    replies = ask_model(model_judge(inputs), asks, parse_list, sampling=sampling, seed=inputs.seed)
    found: list[StatedFact] = []
    unread = 0
    for (response, topic, _), (reply,) in zip(parts, replies, strict=True):
        listed = reply.read or []
        unread += not listed
        found += [
            StatedFact(response, topic, one) for one in listed if one and one.lower() != "none"
        ]
    return Facts(found, unread)


def _feedback(
    judge: str, response: Response, facts: Sequence[StatedFact], checked: Sequence[Reply[bool]]
) -> Feedback:
    """Build one answer's feedback: the share of supported facts among those with a verdict."""
    own = [(f, r) for f, r in zip(facts, checked, strict=True) if f.response.id == response.id]
    read = [(f, reply.read) for f, reply in own]
    known = tuple(float(supported) for _, supported in read if supported is not None)
    verdict: Verdict
    if known:
        verdict = Score(sum(known) / len(known), known)
    else:
        verdict = Unscored("no fact was checked" if own else "an answer without facts")
    words = {True: "supported", False: "not supported", None: "unread"}
    rationale = "\n".join(f"{words[supported]}: {f.text}" for f, supported in read)
    raw = tuple(reply.text for _, reply in own)
    return Feedback(response.prompt_id, (response.id,), judge, verdict, rationale, raw)


def penalised(share: float, facts: int) -> float:
    """Lower a share of supported facts for fewer than 10 facts (arXiv 2305.14251, section 3)."""
    return share * math.exp(1 - ENOUGH / facts) if facts < ENOUGH else share


def _rows(
    inputs: BenchmarkInputs, model: str, judged: Sequence[Feedback], facts: Sequence[StatedFact]
) -> list[EvalResult]:
    stated = Counter(fact.response.prompt_id for fact in facts)
    scores = {f.prompt_id: f.verdict for f in judged if isinstance(f.verdict, Score)}
    plain, short, number = [], [], []
    for question in inputs.questions:
        score = scores.get(question.id)
        known = None if score is None else stated[question.id]
        plain.append(QuestionValue(question.id, None if score is None else score.value))
        less = None if score is None or not known else penalised(score.value, known)
        short.append(QuestionValue(question.id, less))
        number.append(QuestionValue(question.id, None if known is None else float(known)))
    about, seed, prompts = subject(inputs, model, NAME), inputs.seed, inputs.prompts
    return [
        one_row(about, Measure("factscore", is_share=True), plain, prompts, seed=seed),
        one_row(about, Measure("factscore_penalised", is_share=True), short, prompts, seed=seed),
        one_row(about, Measure("facts"), number, prompts, seed=seed),
    ]
