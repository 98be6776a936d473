"""Imitate the best of n responses; repeated over rounds, this is RAFT (arXiv 2304.06767)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from alignlab import seeds
from alignlab.context import RunContext
from alignlab.errors import NothingToLearn
from alignlab.stages.judge import by_prompt, scores
from alignlab.types import Count, Demonstration, Feedback, Prompt, Response


def best_of(
    context: RunContext,
    prompts: Sequence[Prompt],
    responses: Sequence[Response],
    feedback: Sequence[Feedback],
    *,
    least: float | None = None,
    name: str = "best-of-n",
) -> list[Demonstration]:
    """Return the best-scored response to each prompt as a demonstration; break ties at random.

    Args:
        least: lowest score of a demonstration; prompts without one are left out and counted. None:
            the best response whatever its score.

    Raises:
        NothingToLearn: no response has that score.
    """
    with context.run.stage(name) as stage:
        if stage.done:
            return stage.records("demonstrations", Demonstration).read()
        known, seed = scores(feedback), context.seed_for("ties")
        best = [
            Demonstration(prompt, found)
            for prompt, several in by_prompt(prompts, responses)
            if (found := best_scored(several, known, seed)) is not None
        ]
        missing = len(prompts) - len(best)
        dropped = {"no scored response": missing} if missing else {}
        if least is not None and context.recorder is None:  # stand-ins have no scores to go by
            scored = len(best)
            best = [d for d in best if known[d.response.id] >= least]
            if low := scored - len(best):
                dropped[f"no score of at least {least:g}"] = low
            if not best:
                raise NothingToLearn(f"no response has a score of at least {least:g}")
        stage.write("demonstrations", Demonstration, best)
        stage.count([Count(stage.name, "prompts", len(best), dropped)])
        return best


def best_scored(
    responses: Sequence[Response], known: Mapping[str, float], seed: int
) -> Response | None:
    """Return the response with the highest score; None if no response is scored."""
    rated = [r for r in responses if r.id in known]
    return max(rated, key=lambda r: (known[r.id], seeds.derive(seed, r.id)), default=None)
