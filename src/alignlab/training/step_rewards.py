"""Place rewards on the tokens of responses as drawn, and arrange rewarded responses as groups."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from itertools import pairwise

from alignlab.errors import RunFailed
from alignlab.models.packed import TokenGroup
from alignlab.training.environment import Reward, Sample, SampledGroup, TokenReward


def total(reward: Reward) -> float | None:
    """Return the sum of a response's rewards; None where it is unscored."""
    return math.fsum(each.value for each in reward) if isinstance(reward, tuple) else reward


def steps_of(reward: Reward) -> int:
    """Count the rewards inside a response; 0 for a score."""
    return len(reward) if isinstance(reward, tuple) else 0


def rewarded_group(
    one: SampledGroup, found: Sequence[Reward], no_end_penalty: float
) -> TokenGroup | None:
    """Return a prompt's rewarded responses as a group; None where no response has a reward.

    Args:
        one: the prompt with its responses.
        found: reward of each response; responses without one are left out.
        no_end_penalty: subtracted at the last token of a response without an end-of-turn token.

    Raises:
        RunFailed: a reward is not finite, or not of a token of its response.
    """
    scored = [
        (s, reward) for s, reward in zip(one.samples, found, strict=True) if reward is not None
    ]
    kept = [
        (sample.tokens, _penalised(sample, reward, 0.0 if sample.ended else no_end_penalty))
        for sample, reward in scored
    ]
    if not kept:
        return None
    for tokens, reward in kept:
        _check(one.prompt.id, len(tokens), reward)
    rewards: tuple[tuple[TokenReward, ...], ...] = ()
    if any(steps_of(reward) for _, reward in kept):
        rewards = tuple(
            r if isinstance(r, tuple) else (TokenReward(len(t) - 1, r),) for t, r in kept
        )
    scores = tuple(math.fsum(e.value for e in r) if isinstance(r, tuple) else r for _, r in kept)
    return TokenGroup(
        one.prompt.id,
        one.prompt_T,
        tuple(tokens for tokens, _ in kept),
        scores,
        rewards=rewards,
        drawn_logps=tuple(s.logprobs for s, _ in scored) if scored[0][0].logprobs else (),
    )


def _penalised(
    sample: Sample, reward: float | tuple[TokenReward, ...], penalty: float
) -> float | tuple[TokenReward, ...]:
    """Subtract a penalty from a score, or from the reward of the last token."""
    if not penalty:
        return reward
    if not isinstance(reward, tuple):
        return reward - penalty
    last, at_last = len(sample.tokens) - 1, 0.0
    if reward and reward[-1].token == last:
        *before, (_, at_last) = reward
        reward = tuple(before)
    return (*reward, TokenReward(last, at_last - penalty))


def _check(prompt: str, tokens: int, reward: float | tuple[TokenReward, ...]) -> None:
    """Refuse rewards that are not finite, not in the order of their tokens, or outside them."""
    values = [each.value for each in reward] if isinstance(reward, tuple) else [reward]
    wrong = next((value for value in values if not math.isfinite(value)), None)
    if wrong is not None:
        raise RunFailed(f"prompt {prompt}: expected a finite score of each response, found {wrong}")
    if not isinstance(reward, tuple):
        return
    places = [each.token for each in reward]
    if (
        not places
        or places[0] < 0
        or places[-1] >= tokens
        or not all(a < b for a, b in pairwise(places))
    ):
        raise RunFailed(
            f"prompt {prompt}: expected rewards of different tokens in order, from 0 to "
            f"{tokens - 1}, found tokens {places}"
        )


def place_steps(
    decode: Callable[[Sequence[int]], str],
    tokens: Sequence[int],
    text: str,
    steps: Sequence[tuple[int, float]],
) -> tuple[TokenReward, ...] | None:
    """Place rewards of parts of a text on the tokens that end them.

    The last part ends with the response, so that its end-of-turn token is rewarded too. Parts that
    end in one token are added up.

    Args:
        decode: function from the first tokens of a response to their text.
        tokens: the response as drawn.
        text: the answer in it, without reasoning.
        steps: (end of a part in characters of the answer, its reward), in order; at least one.

    Returns:
        Rewards in the order of their tokens; None where the answer is not found in the tokens.
    """
    whole = decode(tokens)
    start = whole.rfind(text)
    if start < 0:
        return None

    def holds(end: int) -> Callable[[int], bool]:
        return lambda n: decode(tokens[:n]).startswith(whole[: start + end])

    found: dict[int, float] = {}
    for end, value in steps[:-1]:
        n = bisect_left(range(len(tokens)), True, lo=1, key=holds(end))
        found[n - 1] = found.get(n - 1, 0.0) + value
    last = len(tokens) - 1
    found[last] = found.get(last, 0.0) + steps[-1][1]
    return tuple(TokenReward(token, value) for token, value in sorted(found.items()))
