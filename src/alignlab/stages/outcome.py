"""Build preference pairs of right over wrong responses to one question (arXiv 2404.19733)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from alignlab import seeds
from alignlab.configs import Bounded, Fraction, PositiveInt
from alignlab.context import RunContext
from alignlab.errors import BadInput
from alignlab.stages.judge import by_prompt, scores
from alignlab.types import Count, Feedback, PreferenceGroup, Prompt, Response

ALL_RIGHT, ALL_WRONG = "all responses right", "all responses wrong"
UNSCORED, OUTSIDE = "no response with a readable outcome", "accuracy outside the window"


@dataclass(frozen=True)
class OutcomeSettings(Bounded):
    """Settings of pairs by outcome."""

    most: PositiveInt = 4
    """Maximum number of pairs per question; each takes another right or another wrong response."""
    least_accuracy: Fraction = 0.0
    """Lowest share of right responses of a question to train on (arXiv 2410.16198: 0.25)."""
    most_accuracy: Fraction = 1.0
    """Highest share of right responses of a question to train on (arXiv 2410.16198: 0.85)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.least_accuracy > self.most_accuracy:
            raise BadInput(
                "settings by_outcome.least_accuracy and most_accuracy: expected an interval, found "
                f"{self.least_accuracy} and {self.most_accuracy}"
            )


def outcome_pairs(
    context: RunContext,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    feedback: Sequence[Feedback],
    settings: OutcomeSettings,
    *,
    labels: Literal["outcome", "coin"] = "outcome",
    name: str = "pair",
) -> list[PreferenceGroup]:
    """Pair right responses with wrong ones; questions without both are dropped and counted.

    Equal texts count once in pairs, and every time in a question's accuracy.

    Args:
        feedback: 1 for right responses, 0 for wrong ones.
        labels: "outcome" prefers the right response; "coin", the control, forms as many pairs of
            the same questions from responses drawn without regard to the outcome, the first drawn
            preferred.
    """
    with context.run.stage(name, config=settings, inputs={"labels": labels}) as stage:
        if stage.done:
            return stage.records("groups", PreferenceGroup).read()
        # A dry run scores the first response of a prompt 0 and the others below.
        least = 0.0 if context.recorder else 1.0
        known = {key: value >= least for key, value in scores(feedback).items()}
        source = feedback[0].source if feedback else ""
        seed = context.seed_for("outcome pairs")
        dropped: Counter[str] = Counter()
        groups: list[PreferenceGroup] = []
        asked = by_prompt(prompts, responses)
        if context.recorder and context.recorder.lengths.typical:
            asked = asked[: _mixed(len(asked), len(responses))]
        for prompt, several in asked:
            marked = [(r, known[r.id]) for r in several if r.id in known]
            found = _of_question(prompt, marked, source, settings, seed)
            if isinstance(found, str):
                dropped[found] += 1
            else:
                groups += found
        paired = len({group.id for group in groups})
        if labels == "coin":
            pairs = Counter(group.prompt.id for group in groups)
            seed = context.seed_for("coin")
            groups = [
                pair
                for prompt, several in by_prompt(prompts, responses)
                for pair in _chance_pairs(prompt, several, pairs[prompt.id], seed)
            ]
        stage.write("groups", PreferenceGroup, groups)
        stage.count(
            [Count(stage.name, "questions", paired, dict(dropped)),
             Count(stage.name, "groups", len(groups))]
        )  # fmt: skip
        return groups


def _mixed(questions: int, responses: int) -> int:
    """Return how many questions of a plan have both right and wrong responses.

    Of n responses to a question whose accuracy is unknown (uniform), all are right or all wrong
    with probability 2 / (n + 1).
    """
    n = responses / max(1, questions)
    return max(1, round(questions * (1 - 2 / (n + 1))))


def _of_question(
    prompt: Prompt,
    marked: Sequence[tuple[Response, bool]],
    source: str,
    settings: OutcomeSettings,
    seed: int,
) -> list[PreferenceGroup] | str:
    """Return a question's pairs, or the reason for none."""
    if not marked:
        return UNSCORED
    share = sum(right for _, right in marked) / len(marked)
    if share in (0.0, 1.0):
        return ALL_RIGHT if share else ALL_WRONG
    if not settings.least_accuracy <= share <= settings.most_accuracy:
        return OUTSIDE
    rights, wrongs = (_drawn(marked, right=right, seed=seed) for right in (True, False))
    n = min(settings.most, max(len(rights), len(wrongs)))
    return [
        PreferenceGroup(
            prompt, (rights[i % len(rights)], wrongs[i % len(wrongs)]), (1.0, 0.0), source
        )
        for i in range(n)
    ]


def _drawn(marked: Sequence[tuple[Response, bool]], *, right: bool, seed: int) -> list[Response]:
    """Return the right or the wrong responses of different texts, in random order."""
    texts = {r.text: r for r, is_right in marked if is_right == right}
    return sorted(texts.values(), key=lambda r: seeds.derive(seed, r.id))


def _chance_pairs(
    prompt: Prompt, responses: Sequence[Response], pairs: int, seed: int
) -> list[PreferenceGroup]:
    """Pair responses in random order, each preferred to the next of a different text.

    A text comes early in proportion to how often it was sampled.
    """
    order = sorted(responses, key=lambda r: seeds.derive(seed, r.id))
    drawn = list({r.text: r for r in order}.values())
    return [
        PreferenceGroup(prompt, (drawn[i], drawn[i + 1]), (1.0, 0.0), "coin") for i in range(pairs)
    ]
