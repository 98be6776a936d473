"""Measure how far automatic metrics agree with people: BLEU, chrF, ROUGE-L and length.

    python benchmarks/metric_card.py SHARED      # a folder laid out as below; Markdown tables

- `wmt_mqm/mqm_ted_ende.tsv.gz`: experts' error marks on 13 systems' translations, the human
  translation as the reference; by segment and by system;
- `pandalm/testset-v1.json` with `instructions/self_instruct__user_oriented_instructions.jsonl`:
  three annotators' votes, the tasks' authors' outputs as references;
- `llmbar/Processed__MT-Bench.json` with `mtbench/`: experts' votes; GPT-4's references exist for
  mathematics, reasoning and coding alone;
- `llmbar/Processed__FairEval.json` with `prometheus_eval/vicuna_eval.json.gz`: votes, and GPT-4's
  references;
- `finegrained_rlhf/qa_feedback_dev_feedback.json.gz`: preferences on answers from passages, with
  human references.

A pair of responses counts where people prefer one; a metric's tie is half right, chance is 0.5, and
a coin is shown as the control. "Less longer" is the difference from "the longer response wins" on
the same pairs. Kendall's tau-b is the mean over prompts. Intervals resample prompts (95%).
"Detectable" stands where chance lies within the interval: the distance from chance that would be
found with 80% power. Sentence BLEU has sacrebleu's effective order, ROUGE-L no stemming.
"""

from __future__ import annotations

import argparse
import gzip
import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF

sys.path.insert(0, str(Path(__file__).parent))  # tests load this file by its path

from judge_baselines import ordered

from alignlab.data.judged_pairs import JudgedPair, llmbar_pair, pandalm_pair, read_judged_pairs
from alignlab.data.read import Faults, read_table
from alignlab.data.sources import load
from alignlab.data.wmt_mqm import weight
from alignlab.errors import BadInput
from alignlab.evaluation.metrics.correlation import spearman
from alignlab.evaluation.metrics.intervals import (
    Floats,
    Interval,
    bootstrap_ratio,
    percentile_interval,
    resample_counts,
)
from alignlab.evaluation.metrics.judge_quality import ScoredPrompt, judge_quality
from alignlab.evaluation.metrics.power import detectable
from alignlab.rouge import rouge_l
from alignlab.seeds import generator

METRICS = ("BLEU", "chrF", "ROUGE-L", "longer", "coin")
_MARK = re.compile(r"</?v>")
_PROMETHEUS = re.compile(
    r"###The instruction to evaluate:\n(.*?)\n+###Response to evaluate:\n.*?"
    r"\n+###Reference Answer \(Score 5\):\n(.*?)\n+###Score Rubric",
    re.DOTALL,
)


@dataclass(frozen=True)
class Rated:
    """Responses to one prompt, with people's scores and a reference."""

    prompt: str
    texts: tuple[str, ...]
    scores: tuple[float, ...]
    reference: str = ""
    """Good response; empty where there is none."""


def values(metric: str, rated: Sequence[Rated], seed: int) -> list[list[float]]:
    """Return the metric's value of every text."""
    rng = generator(seed, "coin")
    bleu, chrf = BLEU(effective_order=True), CHRF()
    one: Mapping[str, Callable[[str, str], float]] = {
        "BLEU": lambda text, reference: bleu.sentence_score(text, [reference]).score,
        "chrF": lambda text, reference: chrf.sentence_score(text, [reference]).score,
        "ROUGE-L": lambda text, reference: float(rouge_l([text], [[reference]], stemming=False)[0]),
        "longer": lambda text, reference: float(len(text)),
        "coin": lambda text, reference: float(rng.random()),
    }
    return [[one[metric](text, each.reference) for text in each.texts] for each in rated]


def card_line(name: str, metric: str, rated: Sequence[Rated], seed: int) -> str:
    """Return a metric's line in the table of one set."""
    judged, longer = (values(one, rated, seed) for one in (metric, "longer"))
    scored = [
        ScoredPrompt(f"{number}", tuple(of_texts), each.scores, cluster=each.prompt)
        for number, (each, of_texts) in enumerate(zip(rated, judged, strict=True))
    ]
    found = judge_quality(scored, seed=seed)
    right, tau = found.pairwise_accuracy_ties_half, found.kendall_tau_by_prompt
    prompts = [each.prompt for each in rated]
    gains, totals = [], []
    for each, mine, length in zip(rated, judged, longer, strict=True):
        right_mine, right_length = (ordered(each.scores, v)[0] for v in (mine, length))
        gains.append(sum(right_mine) - sum(right_length))
        totals.append(len(right_mine))
    apart = bootstrap_ratio(gains, totals, prompts_N=prompts, seed=seed)
    low, high = right.low or 0.0, right.high or 1.0
    undecided = f"{detectable(1, (high - low) / 3.92):.3f}" if right.covers(0.5) else ""
    cells = (
        name, metric, shown(right), "" if metric == "longer" else shown(apart, signed=True),
        shown(tau, signed=True), f"{found.pairs.total:,}", f"{len(set(prompts)):,}", undecided,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


def shown(figure: Interval, *, signed: bool = False) -> str:
    """Format a figure with its interval."""
    if figure.value is None or figure.low is None or figure.high is None:
        return "-"
    sign = "+" if signed else ""
    return f"{figure.value:{sign}.3f} [{figure.low:{sign}.3f}, {figure.high:{sign}.3f}]"


def card(sets: Mapping[str, Sequence[Rated]], seed: int) -> str:
    """Return the table of all sets; sets without references have the metrics that need none."""
    lines = [
        "| set | metric | pairs ordered as people do | less longer | Kendall's tau by prompt "
        "| pairs | prompts | detectable |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, rated in sets.items():
        metrics = METRICS if all(each.reference for each in rated) else METRICS[3:]
        lines += [card_line(name, metric, rated, seed) for metric in metrics]
    return "\n".join(lines)


def mqm(path: Path) -> dict[tuple[str, str], dict[str, tuple[str, float]]]:
    """Read segment -> system -> (translation, minus the mean weight of a rater's marks).

    Raises:
        BadInput: a bad row, or a segment that not every system translated.
    """
    marks: dict[Any, float] = defaultdict(float)
    texts: dict[Any, str] = {}
    raters: dict[Any, set[str]] = defaultdict(set)
    for row in read_table(str(path), Faults(stop=True)).rows:
        key = (row.text("doc"), str(row.get("seg_id"))), row.text("system")
        marks[key] += weight(row)
        raters[key].add(row.text("rater"))
        texts[key] = _MARK.sub("", row.text("target"))
    found: dict[tuple[str, str], dict[str, tuple[str, float]]] = defaultdict(dict)
    for (segment, system), text in texts.items():
        found[segment][system] = (text, -marks[segment, system] / len(raters[segment, system]))
    systems = {system for by_system in found.values() for system in by_system}
    if any(by_system.keys() != systems for by_system in found.values()):
        raise BadInput(f"{path}: expected every system's translation of every segment")
    return found


def by_segment(segments: Mapping[Any, Mapping[str, tuple[str, float]]]) -> list[Rated]:
    """Return every segment's translations by systems, the human one as the reference."""
    rated = []
    for segment, by_system in segments.items():
        systems = sorted(by_system.keys() - {"ref"})
        texts, scores = zip(*(by_system[system] for system in systems), strict=True)
        rated.append(Rated(" ".join(segment), texts, scores, by_system["ref"][0]))
    return rated


def system_table(rated: Sequence[Rated], seed: int, draws: int = 1000) -> str:
    """Return the table of systems ordered by metrics and by people, segments resampled."""
    human_PS = np.array([each.scores for each in rated])
    counts_DP = np.vstack(
        [np.ones(len(rated)), resample_counts(len(rated), draws, generator(seed, "systems"))]
    )
    human_DS = counts_DP @ human_PS
    lines = [
        "| metric | pairs of systems ordered as people do | Spearman | systems | segments |",
        "|---|---|---|---|---|",
    ]
    for metric in METRICS:
        metric_DS = corpus_scores(metric, rated, counts_DP, seed)
        figures = [
            np.array([of(m, h) for m, h in zip(metric_DS, human_DS, strict=True)])
            for of in (pairs_right, spearman)
        ]
        cells = [
            shown(
                percentile_interval(
                    float(f[0]), f[1:].astype(float), n=len(rated), units=len(rated)
                )
            )
            for f in figures
        ]
        lines.append(f"| {metric} | {' | '.join(cells)} | {human_PS.shape[1]} | {len(rated)} |")
    return "\n".join(lines)


def pairs_right(metric_S: Floats, human_S: Floats) -> float:
    """Return the share of pairs of systems that a metric orders as people do, its ties half."""
    found = [
        (np.sign(metric_S[a] - metric_S[b]) * np.sign(human_S[a] - human_S[b]) + 1) / 2
        for a, b in combinations(range(len(human_S)), 2)
        if human_S[a] != human_S[b]
    ]
    return float(np.mean(found))


def corpus_scores(metric: str, rated: Sequence[Rated], counts_DP: Floats, seed: int) -> Floats:
    """Compute every system's score over resampled segments; shape (D, S).

    BLEU and chrF sum n-gram counts over the corpus; the others are means over segments.
    """
    if metric not in ("BLEU", "chrF"):
        return counts_DP @ np.array(values(metric, rated, seed))
    scorer: Any = BLEU() if metric == "BLEU" else CHRF()
    references = [[each.reference for each in rated]]
    columns = []
    for texts in zip(*(each.texts for each in rated), strict=True):
        stats = np.array(scorer._extract_corpus_statistics(list(texts), references), np.float64)
        columns.append(
            [
                scorer._compute_score_from_stats([int(s) for s in sums]).score
                for sums in counts_DP @ stats
            ]
        )
    return np.array(columns).T


def votes(pairs: Iterable[JudgedPair], references: Mapping[str, str]) -> list[Rated]:
    """Return pairs scored by the majority of votes, with references by prompt."""
    return [
        Rated(
            pair.prompt,
            (pair.first.text, pair.second.text),
            (pair.majority, 1 - pair.majority),
            references.get(tidy(pair.prompt), ""),
        )
        for pair in pairs
    ]


def tidy(text: str) -> str:
    """Return a text with single spaces, so that prompts of two files can be matched."""
    return " ".join(text.split())


def sets_of(shared: Path) -> dict[str, list[Rated]]:
    """Read the sets of votes."""
    tasks = shared / "instructions/self_instruct__user_oriented_instructions.jsonl"
    own = {
        tidy(f"{task['instruction']} {each['input']}"): each["output"]
        for task in map(json.loads, tasks.read_text().splitlines())
        for each in task["instances"]
    }
    asked = {x["question_id"]: tidy(x["turns"][0]) for x in lines(shared, "mtbench_questions")}
    gpt4 = {
        asked[x["question_id"]]: x["choices"][0]["turns"][0]
        for x in lines(shared, "mtbench_reference_gpt4")
    }
    with gzip.open(shared / "prometheus_eval/vicuna_eval.json.gz", "rt") as file:
        matched = [_PROMETHEUS.search(row["instruction"]) for row in json.load(file)]
    vicuna = {tidy(found[1]): found[2] for found in matched if found}
    llmbar = shared / "llmbar"
    panda = votes(read_judged_pairs(str(shared / "pandalm/testset-v1.json"), pandalm_pair), own)
    bench = votes(read_judged_pairs(str(llmbar / "Processed__MT-Bench.json"), llmbar_pair), gpt4)
    fair = votes(read_judged_pairs(str(llmbar / "Processed__FairEval.json"), llmbar_pair), vicuna)
    return {
        "PandaLM": [each for each in panda if each.reference],
        "MT-Bench": [Rated(e.prompt, e.texts, e.scores) for e in bench],
        "MT-Bench, with references": [each for each in bench if each.reference],
        "FairEval": fair,
        "Fine-grained RLHF": answers(shared / "finegrained_rlhf/qa_feedback_dev_feedback.json.gz"),
    }


def lines(shared: Path, name: str) -> list[dict[str, Any]]:
    """Read a compressed file of MT-Bench."""
    with gzip.open(shared / f"mtbench/{name}.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


def answers(path: Path) -> list[Rated]:
    """Read groups of answers to questions, with the human answer of the same row."""
    gold = {
        tidy(row.text("question")): row.text("gold")
        for row in read_table(str(path), Faults(stop=True)).rows
    }
    corpus = load(f"finegrained_rlhf:{path}")
    return [
        Rated(
            group.prompt.text,
            tuple(response.text for response in group.responses),
            group.scores,
            gold[tidy(group.prompt.text)],
        )
        for group in (*corpus.groups, *corpus.test_groups)
    ]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("shared", type=Path, help="folder of the sets")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap and the coin")
    given = parser.parse_args()
    try:
        segments = by_segment(mqm(given.shared / "wmt_mqm/mqm_ted_ende.tsv.gz"))
        sets = {"MQM, segments": segments, **sets_of(given.shared)}
    except BadInput as error:
        parser.exit(2, f"{error}\n")
    print(card(sets, given.seed), system_table(segments, given.seed), sep="\n\n")


if __name__ == "__main__":
    main()
