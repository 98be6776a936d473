"""Learned rewards as feedback sources, on the model's own scale; too long is Unscored.

`reward_model:FOLDER[?max_tokens=512&layout=pair]`: any sequence classifier of one label, or one
trained here. `implicit_reward:POLICY?reference=REF&beta=0.1`: DPO's implicit reward of a policy and
its reference model, beta * (log pi(y|x) - log pi_ref(y|x)) (arXiv 2305.18290, equation 5 without
the term of the prompt: compare responses to one prompt only).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from alignlab.configs import Positive
from alignlab.errors import BadInput
from alignlab.feedback.conversion import feedback_on
from alignlab.protocols import flatten
from alignlab.registry import register
from alignlab.specs import read_options
from alignlab.types import Feedback, Prompt, Response, Score, Unscored

if TYPE_CHECKING:
    from alignlab.models.rewarders import Rewarded

Rewarder = Callable[[Sequence[tuple[Prompt, Response]]], "list[Rewarded]"]
"""Function from prompts with responses to a reward each, or the reason why there is none."""


class RewardSource:
    """Feedback source that scores responses by a model's rewards, without sampling."""

    def __init__(self, rewarder: Rewarder, name: str) -> None:
        self._rewarder = rewarder
        self.name = name

    def rate(self, items: Sequence[tuple[Prompt, Sequence[Response]]], seed: int) -> list[Feedback]:
        """Return one reward per response, on the model's own scale."""
        return feedback_on(items, self.name, map(_verdict, self._rewarder(flatten(items))))


@dataclass(frozen=True)
class RewardModelOptions:
    """Options after `reward_model:FOLDER?`."""

    layout: Literal["auto", "chat", "pair"] = "auto"
    """Input layout: "chat" is the conversation in the model's chat template; "pair" is question and
    answer as a pair of texts, for encoders; "auto" is chat where there is a template."""
    end: Literal["turn", "template"] = "turn"
    """Position of the reward in layout chat: the end-of-turn token, as in models trained here, or
    the last token that the template writes after an answer."""
    max_tokens: int = 0
    """Longest conversation, in tokens; longer ones are Unscored; 0 is the model's context."""
    device: str = "auto"
    """Device: "auto" (the command's own), "cpu", "cuda", "cuda:1", ..."""
    dtype: str = "auto"
    """Type in layout chat: "float32", "bfloat16", or "auto" (the command's own)."""


@register("feedback", "reward_model", options=RewardModelOptions)
def make_reward_model(rest: str) -> RewardSource:
    """`reward_model:FOLDER[?layout=pair&max_tokens=512]`: a sequence classifier's reward."""
    from alignlab.models.rewarders import open_rewarder

    named = read_options(rest, RewardModelOptions)
    folder, chosen = named.name, named.options
    if not folder:
        raise BadInput("reward_model: expected reward_model:FOLDER, found no folder")
    rewarder = open_rewarder(
        folder,
        layout=chosen.layout,
        max_tokens=chosen.max_tokens,
        end=chosen.end,
        device=chosen.device,
        dtype=chosen.dtype,
    )
    return RewardSource(rewarder, f"reward_model:{folder}")


@dataclass(frozen=True)
class ImplicitRewardOptions:
    """Options after `implicit_reward:POLICY?`."""

    reference: str = ""
    """Folder or hub id of the policy's reference model."""
    beta: Positive = 0.1
    """Reward per nat of log-ratio: the policy's own beta."""
    per_token: bool = False
    """Divide by the response's tokens, as in the rewards of IPO and SimPO."""
    device: str = "auto"
    """Device: "auto" (the command's own), "cpu", "cuda", "cuda:1", ..."""
    dtype: str = "auto"
    """Type: "float32", "bfloat16", or "auto" (the command's own)."""


@register("feedback", "implicit_reward", options=ImplicitRewardOptions)
def make_implicit_reward(rest: str) -> RewardSource:
    """`implicit_reward:POLICY?reference=REF[&beta=0.1]`: a DPO-trained policy's implicit reward."""
    from alignlab.models.load import load
    from alignlab.models.rewarders import ImplicitRewarder

    named = read_options(rest, ImplicitRewardOptions)
    policy, chosen = named.name, named.options
    if not policy or not chosen.reference:
        raise BadInput(
            f"implicit_reward: expected implicit_reward:POLICY?reference=REF, found {rest!r}"
        )
    options: dict[str, Any] = {"device": chosen.device, "dtype": chosen.dtype}
    rewarder = ImplicitRewarder(
        load(policy, **options),
        load(chosen.reference, **options),
        chosen.beta,
        chosen.per_token,
    )
    return RewardSource(rewarder, f"implicit_reward:{rest}")


def _verdict(found: Rewarded) -> Score | Unscored:
    return found if isinstance(found, Unscored) else Score(found, (found,))
