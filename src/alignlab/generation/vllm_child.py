"""Run vLLM for another process, in an interpreter of its own that need not have alignlab.

`vllm_process.py` starts this file and talks to it in JSON lines: requests on the standard input,
one reply each on what was the standard output. Nothing listens on a socket. The process ends with
its parent, whose death closes the standard input.

Weights come by vLLM's weight-transfer interface. The engine registered here, "alignlab-memory",
reads safetensors files: one in memory that both processes share (the trainer's weights), or those
of a model's folder. "nccl" and "ipc" are vLLM's own.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import queue
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MEMORY = "alignlab-memory"
"""Name in vLLM's factory of the transfer by safetensors files."""


def register_memory_transfer() -> None:
    """Register the transfer by safetensors files with vLLM's factory."""
    from safetensors import safe_open
    from vllm.distributed.weight_transfer import WeightTransferEngine, WeightTransferEngineFactory
    from vllm.distributed.weight_transfer.base import (
        WeightTransferInitInfo,
        WeightTransferUpdateInfo,
    )
    from vllm.model_executor.layers.vocab_parallel_embedding import VocabParallelEmbedding
    from vllm.model_executor.model_loader import reload

    @dataclass
    class Init(WeightTransferInitInfo):  # type: ignore[misc]
        file: str

    @dataclass
    class WeightsUpdate(WeightTransferUpdateInfo):  # type: ignore[misc]
        files: tuple[str, ...] = ()

    class MemoryTransfer(WeightTransferEngine):  # type: ignore[misc]
        init_info_cls, update_info_cls = Init, WeightsUpdate

        def init_transfer_engine(self, init_info: Init) -> None:
            self.file = init_info.file  # read where an update names no files

        def start_weight_update(self) -> None:
            reload.initialize_layerwise_reload(self.model)

        def update_weights(self, update_info: dict[str, Any]) -> None:
            # The base class waits for an accelerator here, which a CPU lacks.
            self.receive_weights(self.parse_update_info(update_info))

        def receive_weights(self, update_info: WeightsUpdate) -> None:
            loaded = self.model.load_weights(_weights_in(update_info.files or [self.file]))
            if loaded is not None:
                self._refuse_missing(loaded)

        def finish_weight_update(self) -> None:
            reload.finalize_layerwise_reload(self.model, self.model_config)
            for layer in self.model.modules():
                # A head tied to the embeddings is not loaded itself, and keeps a packed copy of
                # the old weights on a CPU.
                if isinstance(layer, VocabParallelEmbedding):
                    layer.quant_method.process_weights_after_loading(layer)

        def shutdown(self) -> None:
            pass

        def _refuse_missing(self, loaded: set[str]) -> None:
            """Refuse a transfer that left weights of the model as they were."""
            tied = getattr(self.model_config.hf_config, "tie_word_embeddings", False)
            expected = {
                name
                for name, _ in self.model.named_parameters()
                if not (tied and name.endswith("lm_head.weight"))
            }
            if missing := sorted(expected - loaded):
                raise ValueError(f"expected all of the model's weights, {missing[0]} is missing")

    def _weights_in(files: Sequence[str]) -> Iterator[tuple[str, Any]]:
        for path in files:
            with safe_open(path, framework="pt") as file:
                for name in list(file.keys()):
                    yield name, file.get_tensor(name)

    WeightTransferEngineFactory.register_engine(MEMORY, MemoryTransfer)


class EngineServer:
    """vLLM's engine with the calls that a parent makes."""

    def open(self, engine: Mapping[str, Any], transfer: str) -> dict[str, Any]:
        """Start vLLM; return its version, and the longest prompt with its answer in tokens.

        Args:
            engine: arguments of `vllm.LLM`; "cache_gib" is the memory for keys and values in GiB.
            transfer: backend of the weight transfer.
        """
        import vllm
        from vllm.config import WeightTransferConfig
        from vllm.platforms import current_platform

        if not hasattr(vllm.LLM, "start_weight_update"):
            raise ValueError(
                f"expected a vLLM whose weights can be updated (tried: 0.32), found "
                f"{vllm.__version__}"
            )
        if transfer == MEMORY:
            register_memory_transfer()
        # A tokenizer is for stop strings alone.
        arguments = {"skip_tokenizer_init": True, **engine}
        cache = arguments.pop("cache_gib", None)
        if current_platform.is_cpu():
            cache = cache or 1.0
            # Compiled code keeps the packed weights of its compilation; and vLLM cuts prompts that
            # do not fit in a step and turns the generators of their seeds back, which those of a
            # CPU cannot (0.32: "CPU Generator does not use offset").
            arguments |= {"enforce_eager": True, "enable_chunked_prefill": False}
        if cache:
            arguments["kv_cache_memory_bytes"] = int(cache * 2**30)
        self.llm = vllm.LLM(
            **arguments,
            load_format="dummy",  # weights come before the first sample
            generation_config="vllm",
            # Logits as exact as the trainer's log-probabilities.
            hf_overrides={"head_dtype": "float32"},
            weight_transfer_config=WeightTransferConfig(backend=transfer),
            disable_log_stats=True,
        )
        context = int(self.llm.llm_engine.model_config.max_model_len)
        return {"vllm": vllm.__version__, "context": context}

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Connect the worker to the sender of weights."""
        self.llm.init_weight_transfer_engine({"init_info": init_info})

    def start_weight_update(self) -> None:
        """Begin to replace the weights."""
        self.llm.start_weight_update()

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Receive weights."""
        self.llm.update_weights({"update_info": update_info})

    def finish_weight_update(self) -> None:
        """Put the received weights in place."""
        self.llm.finish_weight_update()

    def commit(self, version: int) -> None:
        """Name the weights in place, and forget the keys and values of earlier ones."""
        if not self.llm.reset_prefix_cache():
            raise ValueError("expected an idle engine, whose cache can be emptied; it is not")
        self.llm.update_weight_version(str(version))

    def complete(
        self,
        prompts: Sequence[Sequence[int]],
        settings: Sequence[Mapping[str, Any]],
        end: Sequence[int],
    ) -> list[list[Any]]:
        """Continue each prompt once; return tokens, reason of the end, and log-probability.

        Args:
            prompts: tokens of the prompts.
            settings: arguments of `vllm.SamplingParams`, one for each prompt; those with stop
                strings need a tokenizer.
            end: tokens that end a continuation.
        """
        from vllm import SamplingParams

        asked = [
            SamplingParams(
                **each,
                stop_token_ids=list(end),
                ignore_eos=True,
                logprobs=0,
                detokenize=bool(each.get("stop")),
            )
            for each in settings
        ]
        inputs = [{"prompt_token_ids": list(tokens)} for tokens in prompts]
        found = [each.outputs[0] for each in self.llm.generate(inputs, asked, use_tqdm=False)]
        return [
            [list(one.token_ids), one.finish_reason, float(one.cumulative_logprob)] for one in found
        ]

    def sample(
        self,
        prompts: Sequence[Sequence[int]],
        seeds: Sequence[int],
        limits: Sequence[int],
        end: Sequence[int],
        checked: Sequence[Sequence[Any]],
    ) -> dict[str, Any]:
        """Sample a response to each prompt at temperature 1 from the whole distribution.

        Args:
            prompts: tokens of the prompts.
            seeds: seed of each response.
            limits: most tokens of each response.
            end: tokens that end a response.
            checked: [tokens, number of last tokens] of sequences whose last tokens are scored.
        """
        from vllm import SamplingParams

        def drawing(seed: int, limit: int) -> Any:
            return SamplingParams(
                temperature=1.0,
                max_tokens=limit,
                seed=seed,
                stop_token_ids=list(end),
                ignore_eos=True,
                logprobs=0,
                detokenize=False,
            )

        scoring = SamplingParams(
            temperature=0.0, max_tokens=1, prompt_logprobs=0, ignore_eos=True, detokenize=False
        )
        asked = [*prompts, *(tokens for tokens, _ in checked)]
        settings = [drawing(*each) for each in zip(seeds, limits, strict=True)]
        settings += [scoring] * len(checked)
        inputs = [{"prompt_token_ids": list(tokens)} for tokens in asked]
        found = self.llm.generate(inputs, settings, use_tqdm=False) if inputs else []
        drawn, scored = found[: len(prompts)], found[len(prompts) :]
        return {
            "version": int(self.llm.get_weight_version()),
            "samples": [_sample(answer.outputs[0]) for answer in drawn],
            "checked": [
                _logprobs(tokens[-last:], answer.prompt_logprobs[-last:])
                for (tokens, last), answer in zip(checked, scored, strict=True)
            ],
        }


def _sample(drawn: Any) -> list[list[Any]]:
    tokens = list(drawn.token_ids)
    return [tokens, _logprobs(tokens, drawn.logprobs)]


def _logprobs(tokens: Sequence[int], known: Sequence[Mapping[int, Any]]) -> list[float]:
    """Return the log-probability of each token; nine digits name a float32 exactly."""
    return [float(f"{at[t].logprob:.9g}") for t, at in zip(tokens, known, strict=True)]


CALLS = (
    "open", "init_weight_transfer_engine", "start_weight_update", "update_weights",
    "finish_weight_update", "commit", "complete", "sample",
)  # fmt: skip
"""Methods of the server that a request may name."""


def serve(server: Any, requests: queue.Queue[str], replies: Any) -> None:
    """Answer requests, one after the other; an error is a reply too."""
    while True:
        call, arguments = json.loads(requests.get())
        if call not in CALLS:
            reply = {"error": f"unknown call {call!r}"}
        else:
            try:
                reply = {"result": getattr(server, call)(**arguments)}
            except Exception as error:
                reply = {"error": f"{type(error).__name__}: {error}"}
        replies.write(json.dumps(reply) + "\n")
        replies.flush()


def main(server: Any) -> None:
    """Answer the requests of the process that started this one, until it ends."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print goes to the log
    requests: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in sys.stdin:
            requests.put(line)
        # The parent is gone, also in the middle of a long answer; workers of further GPUs would
        # notice it by themselves, but as much as a minute later.
        for worker in multiprocessing.active_children():
            worker.kill()
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    serve(server, requests, replies)


if __name__ == "__main__":
    main(EngineServer())
elif __name__ == "__mp_main__":  # a worker of several GPUs, which vLLM has spawned
    register_memory_transfer()
