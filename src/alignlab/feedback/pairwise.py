"""Model as judge of pairs, both orders shown (arXiv 2306.05685, section 3.4).

A response wins only if it wins in both orders; verdicts that differ between the orders are a tie.
Where the verdict of either order cannot be read the pair is Unscored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from alignlab.ask_model import Ask, Reply, ask_model
from alignlab.at_once import at_once
from alignlab.configs import build
from alignlab.errors import BadInput
from alignlab.feedback.model_judge import OnceOptions
from alignlab.feedback.prompts import JudgePrompt, judge_prompt
from alignlab.protocols import Completer, MakeCompleter
from alignlab.registry import register
from alignlab.types import Feedback, Preference, Prompt, Response, Sampling, Unscored, Verdict
from alignlab.verdicts import Side, parse_winner

Winner = Literal[0, 1] | None


class PairwiseJudge:
    """Judge that compares two responses with a model, in both orders."""

    def __init__(
        self,
        completer: Completer,
        prompt: JudgePrompt | None = None,
        *,
        sampling: Sampling | None = None,
    ):
        """Set up a judge.

        Args:
            completer: the model that judges.
            prompt: the judge prompt; by default the prompt "pairwise".
            sampling: sampling settings; greedy by default, one sample per order.
        """
        self.sampling = sampling or Sampling(temperature=0, top_p=1, max_tokens=256)
        if self.sampling.n != 1:
            raise BadInput(f"pairwise judge: expected sampling.n of 1, found {self.sampling.n}")
        self.prompt = prompt or judge_prompt("pairwise")
        self.name = f"{completer.name} as judge ({self.prompt.name})"
        self._completer, self.at_once = completer, at_once(completer)

    def compare(
        self, items: Sequence[tuple[Prompt, Response, Response]], seed: int
    ) -> list[Feedback]:
        """Return one feedback per item; `raw` holds the texts of both orders."""
        asks = [
            Ask(f"judge|{x.id}|{y.id}", self.prompt.render_pair(prompt, x, y))
            for prompt, a, b in items
            for x, y in ((a, b), (b, a))
        ]
        found: list[tuple[Reply[Side], ...]] = ask_model(
            self._completer, asks, parse_winner, sampling=self.sampling, seed=seed
        )
        replies = [reply for (reply,) in found]
        return [
            Feedback(
                prompt.id,
                (a.id, b.id),
                self.name,
                _verdict(shown, swapped),
                shown.text,
                (shown.text, swapped.text),
            )
            for (prompt, a, b), shown, swapped in zip(
                items, replies[::2], replies[1::2], strict=True
            )
        ]


def _verdict(shown: Reply[Side], swapped: Reply[Side]) -> Verdict:
    """Return the winner in both orders; orders that disagree are a tie."""
    failed = [r.value for r in (shown, swapped) if isinstance(r.value, Unscored)]
    for one in failed:
        if "call failed" in one.reason:
            return one
    if failed:
        orders = (("first", shown), ("second", swapped))
        unread = " and ".join(order for order, reply in orders if reply.read is None)
        return Unscored(f"no readable verdict in the {unread} order")
    first: dict[Side | None, Winner] = {"a": 0, "b": 1, "tie": None}
    second: dict[Side | None, Winner] = {"a": 1, "b": 0, "tie": None}
    winners = (first[shown.read], second[swapped.read])
    return Preference(winners[0] if winners[0] == winners[1] else None, winners)


@dataclass(frozen=True)
class PairwiseOptions(OnceOptions):
    """Options of `pairwise,`."""

    prompt: str = "pairwise"
    """Comparison prompt, by its file's name in feedback/prompts or by path."""


@register("feedback", "pairwise", options=PairwiseOptions)
def make_pairwise_judge(
    rest: str, *, make_completer: MakeCompleter, options: dict[str, Any]
) -> PairwiseJudge:
    """`pairwise[,temperature=0]:ENGINE`: the better of two, asked in both orders."""
    chosen = build(PairwiseOptions, options)
    prompt = judge_prompt(chosen.prompt)
    return PairwiseJudge(make_completer(rest), prompt, sampling=chosen.sampling())
