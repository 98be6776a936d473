"""A scripted engine of rollouts: a second tiny model that takes the trainer's weights, or not."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from alignlab.models.adapters import merged_weights
from alignlab.models.logprobs import score_groups
from alignlab.models.packed import TokenGroup
from alignlab.models.scorer import ResponseScorer
from alignlab.training.environment import Checked, EngineDraw, SampledGroup
from alignlab.training.rollout_config import RolloutConfig
from alignlab.types import Prompt
from tests.models.helpers import tiny_lm
from tests.training.playing import sampler


class Follower:
    """Draws by its own copy of the model; `salt` stands for the noise of a restarted engine."""

    def __init__(self, config: RolloutConfig, *, follows: bool = True, salt: int = 0) -> None:
        self._sample, self._follows, self._salt = sampler(config), follows, salt
        self._lm, self._version = tiny_lm(scale=1.0), -1
        self._drawn: list[SampledGroup] | None = None
        self.updates: list[int] = []
        self.asked = 0

    def update(self, version: int, lm) -> None:
        assert self._drawn is None
        self.updates.append(version)
        self._version = version
        if self._follows:
            own = dict(self._lm.model.named_parameters())
            with torch.no_grad():
                for name, weight in merged_weights(lm.model):
                    own[name].copy_(weight)

    def ask(self, prompts: Sequence[Prompt], seed: int, checked: Sequence[Checked]) -> None:
        assert self._drawn is None
        self.asked += 1
        self._drawn = self._sample(self._lm, prompts, seed + self._salt)
        groups = [TokenGroup(str(i), c.prompt_T, (c.tokens,)) for i, c in enumerate(checked)]
        scorer = ResponseScorer(self._lm.model, tokenizer=self._lm.tokenizer)
        scored = score_groups(scorer, groups, 8192) if groups else []
        self._checked = [one.tokens[0] for one in scored]

    def answer(self) -> EngineDraw:
        assert self._drawn is not None
        drawn, self._drawn = self._drawn, None
        return EngineDraw(self._version, drawn, self._checked)
