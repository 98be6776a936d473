"""One side of `rollout_vs_trl.py`: rollout training whose steps are taken when the other waits.

    python benchmarks/rollout_side.py alignlab|trl WORK.json

Both run their own training loop unchanged; a turn is one step: sampling, scoring, and one update.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

from random_llama import prompt_lengths, random_tokens
from random_pairs import as_text
from sides import Turns

LR = 1e-6


@dataclass(frozen=True)
class Work:
    """A comparison, as both sides are told it."""

    model: str
    """Folder of the model and tokenizer."""
    objective: str
    """"grpo" or "rloo"."""
    dtype: str
    vocabulary: int
    prompts: int
    """Prompts of a step."""
    responses: int
    """Responses to each."""
    max_tokens: int
    """Most tokens of a response."""
    kl_coef: float
    """Weight of the KL from the reference; 0 leaves TRL without a reference."""
    steps: int
    trl_batch: int
    """TRL's responses of one forward and backward pass."""
    trl_weights: str
    """Type of TRL's weights: "float32", under autocast in bfloat16, or "bfloat16" pure."""
    seed: int
    file: str = ""
    """Prompts of a real model, a JSON list of texts; empty draws random ones."""
    continuous: bool = False
    """Let TRL sample by transformers' continuous batching."""

    def texts(self) -> list[str]:
        """Prompts of all steps: the file's, or random ones with chat's lengths."""
        if self.file:
            return list(json.loads(Path(self.file).read_text(encoding="utf-8")))
        lengths = prompt_lengths(self.prompts * self.steps, seed=self.seed)
        return [as_text(t) for t in random_tokens(lengths, self.vocabulary, seed=self.seed + 1)]


def worth(tokens: Sequence[int]) -> float:
    """Score of a response: the share of its tokens with even numbers."""
    return sum(token % 2 == 0 for token in tokens) / len(tokens)


def alignlab_side(work: Work) -> None:
    from alignlab.generation.local import LocalEngine
    from alignlab.models.load import LanguageModel, load
    from alignlab.objectives.grpo import GRPO
    from alignlab.objectives.rloo import RLOO
    from alignlab.training.environment import Environment, Sample, SampledGroup
    from alignlab.training.rollout_config import RolloutConfig
    from alignlab.training.rollouts import train_rollouts
    from alignlab.training.trainer_state import TrainingCallbacks
    from alignlab.types import CompletionRequest, Message, Prompt, Sampling

    sampling = Sampling(1.0, 1.0, work.max_tokens, work.responses)
    prompts = [
        Prompt(f"p{i}", (Message("user", text),), "random") for i, text in enumerate(work.texts())
    ]
    turns = Turns()

    def sample(lm: LanguageModel, asked: Sequence[Prompt], seed: int) -> list[SampledGroup]:
        requests = [CompletionRequest(p.id, p.messages, sampling, seed) for p in asked]
        return [
            SampledGroup(
                prompt,
                several[0].prompt,
                tuple(Sample(d.text, d.tokens, d.finish == "stop") for d in several),
            )
            for prompt, several in zip(asked, LocalEngine(lm).draw(requests), strict=True)
        ]

    def score(groups: Sequence[SampledGroup], seed: int) -> list[tuple[float | None, ...]]:
        return [tuple(worth(sample.tokens) for sample in group.samples) for group in groups]

    def on_step(means: Mapping[str, float], step: int, total: int) -> None:
        turns.end(
            reward=means["objective/scores"],
            length=means["completions/mean_length"],
            sampling=means["time/sampling"],
        )
        turns.begin()

    config = RolloutConfig(
        lr=LR,
        batch_size=work.prompts,
        responses=work.responses,
        max_tokens=work.max_tokens,
        adam_beta2=0.999,
        dtype=work.dtype,  # type: ignore[arg-type]
        save_every=0,
        seed=work.seed,
    )
    objective = (GRPO if work.objective == "grpo" else RLOO)(kl_coef=work.kl_coef)
    train_rollouts(
        load(work.model, dtype="float32"),
        objective,
        prompts,
        config,
        Path(work.model).parent / f"ours-{os.getpid()}",
        environment=Environment(sample, score),
        hooks=TrainingCallbacks(None, on_step),
    )


def trl_side(work: Work) -> None:
    import torch
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    disable_progress_bars()
    model = AutoModelForCausalLM.from_pretrained(work.model, dtype=getattr(torch, work.trl_weights))
    turns = Turns()

    def reward(completion_ids, **kwargs):  # type: ignore[no-untyped-def]
        return [worth(tokens) for tokens in completion_ids]

    class Told(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):  # type: ignore[no-untyped-def]
            if "reward" not in logs:
                return
            turns.end(reward=logs["reward"], length=logs["completions/mean_length"])
            turns.begin()

    config, trainer = (
        (GRPOConfig, GRPOTrainer) if work.objective == "grpo" else (RLOOConfig, RLOOTrainer)
    )
    out = Path(work.model).parent / f"trl-{os.getpid()}"
    responses = work.prompts * work.responses
    settings = config(
        output_dir=str(out),
        beta=work.kl_coef,
        learning_rate=LR,
        lr_scheduler_type="constant",
        per_device_train_batch_size=work.trl_batch,
        gradient_accumulation_steps=responses // work.trl_batch,
        num_generations=work.responses,
        max_completion_length=work.max_tokens,
        temperature=1.0,
        gradient_checkpointing=False,
        bf16=work.dtype == "bfloat16" and work.trl_weights == "float32",
        max_steps=work.steps,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        **({"use_transformers_continuous_batching": True} if work.continuous else {}),
        dataloader_pin_memory=False,
        seed=work.seed,
    )
    trainer(
        model=model,
        reward_funcs=reward,
        args=settings,
        processing_class=AutoTokenizer.from_pretrained(work.model),
        train_dataset=Dataset.from_list([{"prompt": _asked(work, t)} for t in work.texts()]),
        callbacks=[Told()],
    ).train()


def _asked(work: Work, text: str) -> str | list[dict[str, str]]:
    """Return a prompt as TRL takes it: a conversation where the model is a real one."""
    return [{"role": "user", "content": text}] if work.file else text + " "


SIDES = {"alignlab": alignlab_side, "trl": trl_side}

if __name__ == "__main__":
    SIDES[sys.argv[1]](Work(**json.loads(Path(sys.argv[2]).read_text())))
