"""DPO's implicit reward, of a trained policy and the reference it was trained from.

`implicit_reward:POLICY?reference=REF&beta=0.1`: beta * (log pi(y|x) - log pi_ref(y|x))
(arXiv 2305.18290, equation 5 without the term of the prompt: compare responses to one prompt only).
"""

from __future__ import annotations

from dataclasses import dataclass

from alignlab.errors import BadInput
from alignlab.feedback.reward_model import RewardSource
from alignlab.registry import register
from alignlab.specs import read_options


@dataclass(frozen=True)
class ImplicitRewardOptions:
    """What may follow the policy."""

    reference: str = ""
    """Folder or hub id of the model that the policy was trained from."""
    beta: float = 0.1
    """The reward's unit per nat: the policy's own beta."""
    per_token: bool = False
    """Divide by the response's tokens, as IPO's and SimPO's rewards are."""
    device: str = "auto"
    """"auto" takes a GPU where there is one; else "cpu", "cuda", "cuda:1", ..."""


@register("feedback", "implicit_reward", options=ImplicitRewardOptions)
def make_implicit_reward(rest: str) -> RewardSource:
    """`implicit_reward:POLICY?reference=REF[&beta=0.1]`: what DPO taught a policy."""
    from alignlab.models.load import load
    from alignlab.models.rewarders import ImplicitRewarder

    named = read_options(rest, ImplicitRewardOptions)
    policy, chosen = named.name, named.options
    if not policy or not chosen.reference:
        raise BadInput(
            f"implicit_reward: expected implicit_reward:POLICY?reference=REF, found {rest!r}"
        )
    if not chosen.beta > 0:
        raise BadInput(f"implicit_reward: beta: expected above 0, found {chosen.beta}")
    rewarder = ImplicitRewarder(
        load(policy, device=chosen.device),
        load(chosen.reference, device=chosen.device),
        chosen.beta,
        chosen.per_token,
    )
    return RewardSource(rewarder, f"implicit_reward:{rest}")
