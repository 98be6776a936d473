"""Define the page's names and number formats for metrics, models and parts of a benchmark."""

from __future__ import annotations

import re
from collections.abc import Iterable

from alignlab.types import EvalResult

METRICS = {
    "win_rate": "Win rate",
    "win_rate_p": "p of the win rate",
    "win_rate_p_holm": "p, adjusted (Holm)",
    "win_rate_corrected": "Win rate, corrected by people",
    "lc_win_rate": "Length-controlled win rate",
    "discrete_win_rate": "Discrete win rate",
    "avg_length": "Average length (characters)",
    "wins": "Wins",
    "ties": "Ties",
    "losses": "Losses",
    "mean": "Mean score",
    "pairwise_accuracy": "Pairwise accuracy (ties wrong)",
    "pairwise_accuracy_ties_half": "Pairwise accuracy (ties half)",
    "pairwise_accuracy_untied": "Pairwise accuracy (untied pairs)",
    "five_best": "5-best",
    "five_best_chance": "5-best by chance",
    "spearman": "Spearman",
    "spearman_by_prompt": "Spearman by prompt",
    "kendall_tau": "Kendall tau-b",
    "kendall_tau_by_prompt": "Kendall tau-b by prompt",
    "pairs_correct": "Pairs correct",
    "pairs_tied": "Pairs tied",
    "pairs_wrong": "Pairs wrong",
    "tokens": "Tokens",
    "words": "Words",
    "repetition_4": "4-gram repetition",
    "distinct_2": "Distinct bigrams",
    "self_bleu": "Self-BLEU",
    "repeated_share": "With a sentence twice",
    "question_share": "Ending with a question",
    "different_share": "Different answers",
    "empty_share": "Empty",
    "cut_share": "Cut off",
    "turn_1": "First turn",
    "turn_2": "Second turn",
    "style_controlled_win_rate": "Style-controlled win rate",
    "style_weight_length": "Weight of length",
    "style_weight_headers": "Weight of headers",
    "style_weight_bold": "Weight of bold",
    "style_weight_lists": "Weight of lists",
    "toxic_share": "Toxic",
    "toxicity": "Mean toxicity",
    "rouge_l": "ROUGE-L",
    "exact_match": "Exact match",
    "bleu": "BLEU",
    "chrf": "chrF",
    "accuracy": "Accuracy",
    "accuracy_change": "Change of accuracy",
    "score_change": "Change of score",
    "share": "Share",
    "share_change": "Change of the share",
    "preferred": "Preferred by the AI judge",
    "attack_success": "Attacks that succeed",
    "mended": "Attacks that gave a pair",
    "accuracy_ties_half": "Accuracy (ties half)",
    "section_mean": "Mean over sections",
    "agreement": "Agreement",
    "brier": "Brier score",
    "calibration_error": "Calibration error",
    "consistent": "Same verdict in both orders",
    "first_wins": "Shown first wins",
    "longer_wins": "Longer wins",
    "longer_wins_by_people": "Longer wins, by people",
    "longer_wins_bias": "Bias for length",
    "own_side": "Own side wins",
    "own_side_by_people": "Own side wins, by people",
    "own_side_bias": "Bias for its own side",
    "attack_wins": "Attacked response wins",
    "repeated_alike": "Same verdict when asked again",
    "spearman_with_length": "Spearman with length",
    "unreadable": "Unreadable",
    "factscore": "FActScore",
    "factscore_penalised": "FActScore, penalised",
    "facts": "Facts per answer",
    "unread_sentences": "Unread sentences",
    "thoughts_removed": "Answers without their thoughts",
    "template_tokens_removed": "Answers without a template's tokens",
    "relevant_ratio": "Relevant sentences per answer",
    "relevant_share": "Relevant sentences",
    "sentence_value": "Mean value of a sentence",
    "sentences": "Sentences per answer",
    "change": "Change of score",
    "recall": "Recall of closed answers",
    "recall_change": "Change of recall",
    "recall_change_p_holm": "p of the change, adjusted (Holm)",
    "per_doubling": "Gain per doubling",
    "r_squared": "R squared",
    "predicted_largest": "Largest size, predicted from the others",
    "largest_minus_predicted": "Largest size, measured minus predicted",
    "loss": "Loss",
    "rewards/accuracies": "Preference accuracy on the training pairs",
    "rewards/margins": "Reward margin",
    "grad_norm": "Gradient norm",
    "objective/scores": "Reward",
    "objective/kl": "KL from the reference (nats)",
    "objective/entropy_per_token": "Entropy (nats per token)",
    "completions/mean_length": "Response length (tokens)",
    "completions/repetition": "Repeated 4-grams within a response",
    "completions/clipped_ratio": "Responses cut off",
    "validation": "Validation score",
    "validation/scored": "Validation answers with a score",
}
SHARES = frozenset(
    {
        "win_rate",
        "win_rate_corrected",
        "lc_win_rate",
        "discrete_win_rate",
        "wins",
        "ties",
        "losses",
        "pairwise_accuracy",
        "pairwise_accuracy_ties_half",
        "pairwise_accuracy_untied",
        "five_best",
        "five_best_chance",
        "exact_match",
        "repetition_4",
        "distinct_2",
        "repeated_share",
        "question_share",
        "different_share",
        "empty_share",
        "cut_share",
        "style_controlled_win_rate",
        "toxic_share",
        "toxicity",
        "rouge_l",
        "accuracy",
        "share",
        "share_change",
        "preferred",
        "attack_success",
        "mended",
        "accuracy_ties_half",
        "section_mean",
        "agreement",
        "consistent",
        "first_wins",
        "longer_wins",
        "longer_wins_by_people",
        "own_side",
        "own_side_by_people",
        "attack_wins",
        "repeated_alike",
        "unreadable",
        "factscore",
        "factscore_penalised",
        "relevant_ratio",
        "relevant_share",
        "recall",
        "rank_consistency",
    }
)
"""Metrics between 0 and 1 that are formatted as percentages."""
POINTS = frozenset({"accuracy_change", "recall_change", "longer_wins_bias", "own_side_bias"})
"""Differences of shares, which are formatted in percentage points."""
EXPLAINED = {
    "IFT": "instruction fine-tuning, on prompts with answers",
    "EFT": "evaluation fine-tuning, on prompts that ask for a judgement",
    "SFT": "supervised fine-tuning",
    "DPO": "direct preference optimisation, on pairs of a chosen and a rejected answer",
    "expected score": "mean of all scores, each weighted by the judge's probability of it",
    "NLL": "negative log-likelihood of the chosen answer, added to the loss",
}
"""Words of models' descriptions that a newcomer may not know, and their meanings."""
BENCHMARKS = {
    "people": "Ratings by people",
    "head_to_head": "Head to head",
    "score": "Score",
    "judge_own_samples": "Own samples",
    "judge_held_out": "Held-out responses",
    "text": "Texts",
    "alpaca_eval": "AlpacaEval 2.0",
    "mt_bench": "MT-Bench",
    "vicuna_bench": "Vicuna-Bench",
    "arena_hard": "Arena-Hard",
    "synrel": "SynRel",
    "toxigen": "ToxiGen",
    "xstest": "XSTest",
    "super_ni": "SuperNI",
    "tldr": "TL;DR",
    "closed_questions": "Closed questions",
    "qa": "Held-out questions",
    "training_questions": "Training questions, sampled answers",
    "audit": "Audit of the judge",
    "judge_card": "Judge card",
    "judge_checks": "The judge, on these answers",
    "lm_eval": "lm-evaluation-harness",
    "scaling": "Scaling",
    "sentences": "Sentences",
    "principles": "Gold score by principle",
    "instructability": "Reward models, by the principle shown",
    "self_rewards": "Self-rewards by round",
    "demonstrations": "The demonstrations themselves",
    "satisfied": "Answers that satisfy",
    "right": "Right answers to closed questions",
    "harmful": "Harmful answers",
    "ai_preference": "The AI judge's preference over the baseline",
    "red_team": "Red team",
    "routing": "Routing by query type",
    "divergence": "Divergence from the reference",
    "tuning": "Search of the learning rate",
}


def metric(name: str) -> str:
    """Return the name of a metric."""
    return METRICS.get(name, name.replace("_", " "))


def benchmark(name: str) -> str:
    """Return the name of a benchmark."""
    words = name.replace("_", " ")
    return BENCHMARKS.get(name, words[:1].upper() + words[1:])


def group(name: str | None) -> str:
    """Return the name of a benchmark part: `type:open` is "open-ended"."""
    if name is None:
        return "all"
    kind, colon, value = name.partition(":")
    if not colon:
        return name
    return f"{value}-ended" if kind == "type" else value.replace("_", " ")


P_VALUES = ("_p", "_p_holm", "p-value")
"""Ends of the names of p-values, which are never shown as 0."""


def number(value: float | None, metric_name: str) -> str:
    """Format a figure: a percentage, percentage points, a count, or two to three digits."""
    if value is None:
        return "–"
    if metric_name in POINTS:
        return points(value)
    if metric_name in SHARES:
        return f"{100 * value:.1f}%"
    if metric_name.endswith(P_VALUES) and value < 0.0005:
        return "under 0.001"
    if abs(value) >= 100 or metric_name.startswith("pairs_"):
        return f"{value:,.0f}"
    text = f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"
    return text.replace("-", "−")


def points(difference: float) -> str:
    """Format a difference of shares in percentage points, with its sign."""
    rounded = round(100 * difference, 1)
    return f"{rounded:+.1f} pp".replace("-", "−") if rounded else "0.0 pp"


def between(low: float, high: float, metric_name: str) -> str:
    """Format an interval with its unit once."""
    first, last = number(low, metric_name), number(high, metric_name)
    return f"{first.removesuffix('%').removesuffix(' pp')} to {last}"


def explained(texts: Iterable[str]) -> list[tuple[str, str]]:
    """Return the words of `EXPLAINED` that some texts use, with their meanings."""
    found = " ".join(texts)
    return [
        (word, meaning)
        for word, meaning in EXPLAINED.items()
        if re.search(rf"\b{re.escape(word)}\b", found)
    ]


def bounds(row: EvalResult) -> str:
    """Format an interval; empty if there is none."""
    if row.low is None or row.high is None:
        return ""
    return between(row.low, row.high, row.metric)


def duration(seconds: float) -> str:
    """Format seconds in units that suit their size."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"
