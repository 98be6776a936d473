"""Let an engine outside the trainer sample the rollouts of a training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from alignlab import seeds
from alignlab.generation.token_text import TokenText
from alignlab.models.chat_template import encode_prompt
from alignlab.models.load import LanguageModel, context_length
from alignlab.training.distributed import DistributedContext
from alignlab.training.environment import Checked, EngineDraw, Sample, SampledGroup
from alignlab.training.rollout_config import RolloutConfig
from alignlab.turns import strip_thoughts
from alignlab.types import Prompt

if TYPE_CHECKING:
    from alignlab.generation.vllm_rollouts import VllmRollouts
    from alignlab.stages.rollout import RolloutLesson

LOG = "rollout_engine.log"
"""File of a stage with what the engine prints."""


def check_engine(config: RolloutConfig) -> None:
    """Refuse an engine that cannot be started.

    Raises:
        BadInput: an unknown engine or option, or no interpreter with vLLM.
    """
    if config.serves:
        # Importing the engine's transfer of weights takes a second that others need not wait for.
        from alignlab.generation.vllm_rollouts import read_engine

        read_engine(config.engine)


@contextmanager
def serving(
    lm: LanguageModel,
    lesson: RolloutLesson,
    config: RolloutConfig,
    out: Path,
    world: DistributedContext,
) -> Iterator[ServedPolicy | None]:
    """Yield the engine of a training on the main rank, while it runs; None without one.

    Raises:
        RunFailed: the engine does not start.
    """
    if not config.serves or not world.is_main:
        yield None
        return
    from alignlab.generation.vllm_rollouts import VllmRollouts, read_engine
    from alignlab.training.trainer_state import with_dtype

    # A response is checked with room for one more token.
    longest = lesson.max_prompt_tokens + config.max_tokens + 1
    context = min(context_length(lm), longest)
    text = TokenText(lm)
    rollouts = VllmRollouts(
        lm,
        read_engine(config.engine),
        dtype=with_dtype(config, lm, world).dtype,
        context=context,
        end=sorted(text.end),
        log=out / LOG,
    )
    try:
        yield ServedPolicy(lm, rollouts, config, context=context)
    finally:
        rollouts.close()


class ServedPolicy:
    """A `RolloutEngine` that asks vLLM for responses to prompts.

    Args:
        lm: model whose tokenizer and template write the prompts.
        rollouts: the engine.
        config: number and length of the responses.
        context: longest prompt with its response, in tokens.
    """

    def __init__(
        self, lm: LanguageModel, rollouts: VllmRollouts, config: RolloutConfig, *, context: int
    ) -> None:
        self._lm, self._rollouts, self._config = lm, rollouts, config
        self._context, self._text = context, TokenText(lm)
        self._prompts: Sequence[Prompt] = ()
        self._prompts_T: list[tuple[int, ...]] = []
        self._fits: list[bool] = []

    def update(self, version: int, lm: LanguageModel) -> None:
        """Replace the engine's weights, and name them by a version."""
        self._rollouts.update(version, lm)

    def ask(self, prompts: Sequence[Prompt], seed: int, checked: Sequence[Checked]) -> None:
        """Ask for responses to prompts, and for log-probabilities of others."""
        from alignlab.generation.vllm_rollouts import SampleRow

        limit = self._config.max_tokens
        self._prompts = prompts
        self._prompts_T = [tuple(encode_prompt(self._lm, p.messages)) for p in prompts]
        rows = [
            SampleRow(prompt_T, seeds.derive(seed, prompt.id, k), limit)
            for prompt, prompt_T in zip(prompts, self._prompts_T, strict=True)
            for k in range(self._config.responses)
        ]
        whole = [((*one.prompt_T, *one.tokens), len(one.tokens)) for one in checked]
        self._fits = [len(tokens) < self._context for tokens, _ in whole]
        self._rollouts.ask(rows, [w for w, fits in zip(whole, self._fits, strict=True) if fits])

    def answer(self) -> EngineDraw:
        """Wait for what was asked for."""
        found = self._rollouts.answer()
        texts = self._text.responses([row.tokens for row in found.rows])
        drawn = iter(zip(found.rows, texts, strict=True))
        groups = []
        for prompt, prompt_T in zip(self._prompts, self._prompts_T, strict=True):
            opened, samples = self._text.opened(prompt_T), []
            for _ in range(self._config.responses):
                row, text = next(drawn)
                ended = row.tokens[-1] in self._text.end
                samples.append(as_sample(opened + text, row.tokens, row.logprobs, ended=ended))
            groups.append(SampledGroup(prompt, prompt_T, tuple(samples)))
        scored = iter(found.checked)
        checked = [next(scored) if fits else () for fits in self._fits]
        return EngineDraw(found.version, groups, checked)


def as_sample(
    text: str, tokens: tuple[int, ...], logprobs: tuple[float, ...], *, ended: bool
) -> Sample:
    """Convert a drawn response; its reasoning is trained on, and not scored."""
    answer = strip_thoughts(text)
    return Sample(answer, tokens, ended, answer != text, logprobs)
