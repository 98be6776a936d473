"""One side of `train_vs_trl.py`: a training run whose steps are taken when the other side waits.

    python benchmarks/train_side.py alignlab|padded|tiles|flex|trl WORK.json

Both run their own training loop unchanged; a turn is one step with all that the loop does around
it (collating, loss, gradient clipping, optimiser, metrics). The first turn also holds what comes
before the first step: the reference's log-probabilities. `padded` is our loop on padded sequences,
`tiles` and `flex` are it with that attention.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

from random_pairs import as_text, random_groups
from real_pairs import read_groups
from roofline import step_flops
from sides import Turns

from alignlab.models.packed import TokenGroup
from alignlab.training.config import TrainConfig
from alignlab.training.schedule import epoch_order

BETA = 0.1
LR = 1e-5


@dataclass(frozen=True)
class Work:
    """A comparison, as both sides are told it."""

    model: str
    """Folder of the model and tokenizer."""
    data: str
    """Lengths of random tokens, or a file of groups (`real_pairs.write_groups`)."""
    k: int
    dtype: str
    """"float32" or "bfloat16"."""
    vocabulary: int
    prompts: int
    """Groups of one optimiser step."""
    steps: int
    token_budget: int
    """Our tokens of one forward and backward pass."""
    trl_batch: int
    """TRL's pairs of one forward and backward pass."""
    trl_weights: str
    """Type of TRL's weights: "float32", under autocast in bfloat16, or "bfloat16" pure."""
    seed: int
    liger: bool = False
    """Let TRL use Liger's loss."""
    template: str | None = None
    """Template of a model that has none; None for one that has its own."""

    def groups(self) -> list[TokenGroup]:
        if self.data.endswith(".json"):
            return read_groups(Path(self.data))
        count = self.prompts * self.steps
        return random_groups(self.data, count, self.k, self.vocabulary, seed=self.seed)

    def config(self) -> TrainConfig:
        """Our settings, as near to TRL's as they come."""
        return TrainConfig(
            lr=LR,
            schedule="constant",
            batch_size=self.prompts,
            token_budget=self.token_budget,
            adam_beta2=0.999,
            dtype=self.dtype,  # type: ignore[arg-type]
            save_every=0,
            log_every=1,
            seed=self.seed,
        )

    def batches(self) -> list[list[TokenGroup]]:
        """The groups of each step, in the order in which our loop takes them."""
        groups = self.groups()
        return [[groups[i] for i in part] for part in epoch_order(len(groups), self.config(), 0)]


def alignlab_side(work: Work) -> None:
    from alignlab.models.load import load
    from alignlab.objectives.dpo import DPO
    from alignlab.objectives.dpo_pro import DPOPRO
    from alignlab.training.loop import train

    lm = load(work.model, dtype="float32", chat_template=work.template)
    shape = lm.model.config.get_text_config()
    flops = [step_flops(shape, batch) for batch in work.batches()]
    turns = Turns()

    def on_step(means: Mapping[str, float], step: int, total: int) -> None:
        told = {name: means[name] for name in ("loss", "grad_norm", "logps/chosen")}
        turns.end(**told, flops=flops[step - 1])
        turns.begin()

    objective = DPO(beta=BETA) if work.k == 2 else DPOPRO(beta=BETA)
    out = Path(work.model).parent / f"ours-{os.getpid()}"
    train(lm, objective, work.groups(), work.config(), out, on_step=on_step)


def padded_side(work: Work) -> None:
    from alignlab.models.probe import ProbeResult
    from alignlab.models.scorer import ResponseScorer

    ResponseScorer._probe = lambda self: ProbeResult("the benchmark asks for it")  # type: ignore[method-assign]
    alignlab_side(work)


def with_attention(name: str) -> Callable[[Work], None]:
    def side(work: Work) -> None:
        os.environ["ALIGNLAB_ATTENTION"] = name
        alignlab_side(work)

    return side


def trl_side(work: Work) -> None:
    import torch
    from datasets import Dataset, disable_progress_bars
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig, DPOTrainer

    disable_progress_bars()
    model = AutoModelForCausalLM.from_pretrained(work.model, dtype=getattr(torch, work.trl_weights))
    pairs_of_tokens = [
        (g.prompt_T, best, other)
        for batch in work.batches()
        for g in batch
        for best, *others in [g.responses]
        for other in others
    ]
    real = work.data.endswith(".json")
    if real:
        names = ("prompt_ids", "chosen_ids", "rejected_ids")
        rows = [dict(zip(names, map(list, pair), strict=True)) for pair in pairs_of_tokens]
    else:
        rows = [
            {"prompt": as_text(p) + " ", "chosen": as_text(best), "rejected": as_text(other)}
            for p, best, other in pairs_of_tokens
        ]
    turns = Turns()

    class Told(TrainerCallback):
        def on_log(self, args, state, control, logs=None, **kwargs):  # type: ignore[no-untyped-def]
            if "loss" not in logs:
                return
            turns.end(**{name: logs[name] for name in ("loss", "grad_norm", "logps/chosen")})
            turns.begin()

    pairs = work.prompts * (work.k - 1)
    out = Path(work.model).parent / f"trl-{os.getpid()}"
    settings = DPOConfig(
        output_dir=str(out),
        beta=BETA,
        learning_rate=LR,
        lr_scheduler_type="constant",
        per_device_train_batch_size=work.trl_batch,
        gradient_accumulation_steps=pairs // work.trl_batch,
        precompute_ref_log_probs=True,
        precompute_ref_batch_size=work.trl_batch,
        gradient_checkpointing=False,
        bf16=work.dtype == "bfloat16" and work.trl_weights == "float32",
        max_length=None,
        train_sampling_strategy="sequential",
        num_train_epochs=1,
        logging_steps=1,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        use_cpu=not torch.cuda.is_available(),
        use_liger_kernel=work.liger,
        dataloader_pin_memory=False,
        seed=work.seed,
    )

    class Tokenised(DPOTrainer):
        """TRL's trainer on tokens: its own template would add a line's end after the last turn."""

        def _prepare_dataset(self, dataset, *args, **kwargs):  # type: ignore[no-untyped-def]
            return dataset

    trainer = (Tokenised if real else DPOTrainer)(
        model=model,
        args=settings,
        processing_class=AutoTokenizer.from_pretrained(work.model),
        train_dataset=Dataset.from_list(rows),
        callbacks=[Told()],
    )
    trainer.train()


SIDES = {
    "alignlab": alignlab_side,
    "padded": padded_side,
    "tiles": with_attention("tiles"),
    "flex": with_attention("flex"),
    "trl": trl_side,
}

if __name__ == "__main__":
    SIDES[sys.argv[1]](Work(**json.loads(Path(sys.argv[2]).read_text())))
