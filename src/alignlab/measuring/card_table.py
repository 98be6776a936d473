"""Tables of a judge card: data sets with the guesses on the same pairs, biases, and cost."""

from __future__ import annotations

from alignlab.measuring.card_figures import BASE, GUESSES, IDENTITY, LONGER
from alignlab.measuring.judge_card import JudgeCard, SetSummary
from alignlab.types import EvalResult

HEAD = (
    "set", "pairs", "accuracy", "kappa", "agreement", "unread", LONGER, IDENTITY, BASE,
)  # fmt: skip
_POOLED_ROWS = {
    "consistent": "same verdict in both orders",
    "first_wins": "the answer shown first wins",
    "single_order_accuracy": "accuracy by the first order alone",
    "longer_wins": "the longer answer wins, by the judge",
    "longer_wins_by_people": "the longer answer wins, by people",
    "longer_wins_bias": "length bias (difference of the two)",
    "own_side": "its own side wins, by the judge",
    "own_side_by_people": "its own side wins, by people",
    "own_side_bias": "bias for its own side (difference of the two)",
    "accuracy_if_consistent": "accuracy where both orders agree",
    "accuracy_surer_half": "accuracy in the surer half",
    "accuracy_unsure_half": "accuracy in the less sure half",
    "brier": "Brier score (0.25 for a coin)",
    "calibration_error": "calibration error",
    "repeated_alike": "same verdict under another seed",
}


def by_set(card: JudgeCard) -> list[list[str]]:
    """Return a head and a line per set, the pooled sets by people first.

    The columns of the guesses hold accuracy on the same pairs; that of the most common verdict
    holds agreement.
    """
    found = {(r.model, r.metric, r.group): r for r in card.rows}
    people = [s for s in card.sets if s.judged_by == "people"] or card.sets
    pooled = (f"{people[0].judged_by}, pooled", sum(s.pairs for s in people), None)
    lines = [list(HEAD)]
    for label, pairs, group in (pooled, *((_label(s), s.pairs, s.name) for s in card.sets)):
        own = [found.get((card.name, m, group)) for m in ("accuracy", "kappa", "agreement")]
        unread = found.get((card.name, "unreadable", group))
        guesses = [
            found.get((name, metric, group))
            for name, metric in ((LONGER, "accuracy"), (IDENTITY, "accuracy"), (BASE, "agreement"))
        ]
        lines.append([label, str(pairs), *map(shown, own), _value(unread), *map(_whole, guesses)])
    return lines


def pooled_lines(card: JudgeCard) -> list[str]:
    """Return a line per pooled figure (leads, biases, calibration, attacks) and on the cost."""
    mine = [r for r in card.rows if r.model == card.name]
    leads = {metric: f"accuracy above the guess '{name}'" for name, metric in GUESSES.items()}
    lines = []
    for metric, label in (leads | _POOLED_ROWS).items():
        row = next((r for r in mine if r.metric == metric and r.group is None), None)
        if row is not None and row.n:
            lines.append(f"{label}: {shown(row)} (n = {row.n})")
    for row in mine:
        if row.metric == "attack_preferred":
            attack = (row.group or "").removeprefix("attack:")
            where = "preferred to itself without the attack"
            lines.append(f"injection, {attack}: {where} {shown(row)} (n = {row.n})")
    cost = card.cost
    money = "no prices" if cost.usd is None else f"{cost.usd:g} dollars"
    lines.append(
        f"cost of 1,000 pairs: {cost.seconds:,.0f} seconds, {cost.calls:,.0f} calls, "
        f"{cost.prompt_tokens:,.0f} tokens read by generating calls, {cost.tokens:,.0f} tokens "
        f"written, {money}"
    )
    return lines


def notes(card: JudgeCard) -> tuple[str, ...]:
    """State verdict, cautions, absent sets, and parts that were not measured."""
    lines = [f"{card.judge}: {card.verdict}."]
    lines += [f"caution: {one}." for one in card.verdict.cautions]
    if card.absent:
        lines.append(f"absent, not given: {', '.join(card.absent)}.")
    lines += [f"not measured: {one}." for one in card.not_measured]
    return tuple(lines)


def markdown(card: JudgeCard) -> str:
    """Build the card as Markdown: verdict, table of sets, figures."""
    head, *body = ("| " + " | ".join(line) + " |" for line in by_set(card))
    table = "\n".join([head, "|" + "---|" * len(HEAD), *body])
    listed = "\n".join(f"- {line}" for line in pooled_lines(card))
    said = "\n".join(f"- {line}" for line in notes(card)[1:])
    return f"**{notes(card)[0]}**\n\n{said}\n\n{table}\n\n{listed}\n"


def shown(row: EvalResult | None) -> str:
    """Format a figure with its interval."""
    if row is None or row.value is None:
        return "-"
    between = "" if row.low is None else f" [{row.low:.2f}, {row.high:.2f}]"
    return f"{row.value:.2f}{between}"


def _label(one: SetSummary) -> str:
    """Return a set's name, with the model that judged it."""
    return one.name if one.judged_by == "people" else f"{one.name} ({one.judged_by})"


def _whole(row: EvalResult | None) -> str:
    """Format a guess's figure; "-" where it covers a part of the pairs."""
    return "-" if row is None or row.unscored else _value(row)


def _value(row: EvalResult | None) -> str:
    return "-" if row is None or row.value is None else f"{row.value:.2f}"
