"""Sample rollouts from a vLLM engine whose weights follow a model in training.

vLLM runs as a child process (`vllm_child.py`) in an interpreter of its own. Calls go over its
standard input and output, weights through memory that only the two processes share (a file without
a name, which vanishes with them), or by vLLM's own transfers, NCCL and CUDA IPC. Token ids go in,
token ids and log-probabilities come out; the engine reads no tokenizer and no weight file.
"""

from __future__ import annotations

import json
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

from safetensors.torch import save
from torch import Tensor

from alignlab.configs import Fraction
from alignlab.errors import BadInput
from alignlab.generation import vllm_child
from alignlab.generation.vllm_process import (
    INTERPRETER,
    NO_VLLM,
    VllmProcess,
    VllmProcessOptions,
    interpreter,
    missing_interpreter,
)
from alignlab.models.adapters import base_of, merged_weights
from alignlab.models.load import LanguageModel
from alignlab.specs import read_options


@dataclass(frozen=True)
class VllmRolloutOptions(VllmProcessOptions):
    """Options of a spec, after `vllm?`."""

    transfer: Literal["memory", "nccl", "ipc"] = "memory"
    """Way of the weights: shared memory of this machine, or vLLM's NCCL (other GPUs) or CUDA IPC
    (the trainer's own GPU), for which this interpreter needs vLLM too."""
    devices: str = ""
    """GPUs that the engine sees, as CUDA_VISIBLE_DEVICES; by default the trainer's."""
    gpu_memory: Fraction = 0.4
    """Share of a GPU's memory reserved by vLLM."""


def read_engine(spec: str) -> VllmRolloutOptions:
    """Read the spec of a rollout engine: `vllm[?python=PATH&transfer=nccl&...]`.

    Raises:
        BadInput: another engine, an unknown option, or no interpreter with vLLM.
    """
    named = read_options(spec, VllmRolloutOptions)
    if named.name != "vllm":
        raise BadInput(f"train: engine: expected local or vllm, found {named.name!r}")
    options = named.options
    if why := missing_interpreter(options):
        hint = f"; set {INTERPRETER} or engine=vllm?python=PATH to one that has it"
        raise BadInput(f"train: engine: {why}{hint if why == NO_VLLM else ''}")
    if options.transfer != "memory" and not find_spec("vllm"):
        raise BadInput(
            f"train: engine: {NO_VLLM}; transfer={options.transfer} is vLLM's own, on both sides"
        )
    return options


class SampleRow(NamedTuple):
    """Sample to draw."""

    prompt: Sequence[int]
    seed: int
    limit: int
    """Most tokens of the response."""


class DrawnRow(NamedTuple):
    """Sample with the log-probability in nats of each token."""

    tokens: tuple[int, ...]
    logprobs: tuple[float, ...]


class DrawnRows(NamedTuple):
    """Answer of the engine."""

    version: int
    """Version of the weights that drew the samples."""
    rows: list[DrawnRow]
    checked: list[tuple[float, ...]]
    """Log-probabilities of the sequences that were to be scored."""


class VllmRollouts(VllmProcess):
    """A vLLM process with the weights of a model in training.

    Args:
        lm: model in training, whose architecture the engine takes.
        options: options of the engine's spec.
        dtype: type of the engine's weights and passes, which is that of the trainer's.
        context: longest prompt with its response, in tokens.
        end: tokens that end a response.
        log: file for what vLLM prints.
        command: command line of the process, for tests.

    Raises:
        RunFailed: vLLM does not start.
    """

    def __init__(
        self,
        lm: LanguageModel,
        options: VllmRolloutOptions,
        *,
        dtype: str,
        context: int,
        end: Sequence[int],
        log: Path,
        command: Sequence[str] = (),
    ) -> None:
        self._options, self._end = options, list(end)
        self._memory = os.memfd_create("alignlab-weights")
        self._sender: Any = None
        super().__init__(
            interpreter(options.python),
            log=log,
            environment=_environment(options),
            pass_fds=[self._memory],
            command=command,
        )
        try:
            self._open(lm, dtype, context)
        except BaseException:
            self.close()
            raise

    def update(self, version: int, lm: LanguageModel) -> None:
        """Replace the engine's weights by the model's, an adapter merged.

        Args:
            version: number by which the engine knows these weights.
            lm: the model, whole, in its compute type.
        """
        if self._options.transfer == "memory":
            # `save_file` writes next to the file and renames, which a file without a name forbids.
            with open(self._shared, "wb") as file:
                file.write(save(dict(_named(lm))))
            self.call("start_weight_update")
            self.call("update_weights", update_info={})
            self.call("finish_weight_update")
        else:
            self._sent_by_vllm(lm)
        self.call("commit", version=version)

    def ask(
        self, rows: Sequence[SampleRow], checked: Sequence[tuple[Sequence[int], int]] = ()
    ) -> None:
        """Ask for samples; they are drawn while this process goes on.

        Args:
            rows: samples to draw.
            checked: (tokens, number of last tokens) of sequences whose last tokens are scored.
        """
        self.send(
            "sample",
            prompts=[list(row.prompt) for row in rows],
            seeds=[row.seed for row in rows],
            limits=[row.limit for row in rows],
            end=self._end,
            checked=[[list(tokens), last] for tokens, last in checked],
        )

    def answer(self) -> DrawnRows:
        """Wait for the samples that were asked for."""
        found = self.receive()
        rows = [DrawnRow(tuple(tokens), tuple(logps)) for tokens, logps in found["samples"]]
        return DrawnRows(found["version"], rows, [tuple(logps) for logps in found["checked"]])

    def close(self) -> None:
        """End the process."""
        if self._memory >= 0:
            os.close(self._memory)
            self._memory = -1
        super().close()

    # The four methods by which vLLM's own senders drive an engine (`VLLMWeightSyncClient`).

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Connect the engine to the sender of weights."""
        self.call("init_weight_transfer_engine", init_info=init_info)

    def start_weight_update(self) -> None:
        """Begin to replace the weights."""
        self.call("start_weight_update")

    def update_weights(self, update_info: Any) -> None:
        """Receive weights, by the names and handles in the information."""
        from vllm.distributed.weight_transfer.clients import _json_safe_update_payload

        self.call("update_weights", update_info=_json_safe_update_payload(update_info))

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Put the received weights in place."""
        self.call("finish_weight_update")

    @property
    def _shared(self) -> str:
        """Return the path of the shared memory, valid in this process and its children alone."""
        return f"/proc/self/fd/{self._memory}"

    def _open(self, lm: LanguageModel, dtype: str, context: int) -> None:
        """Start vLLM with the architecture of a model."""
        options = self._options
        memory = options.transfer == "memory"
        with tempfile.TemporaryDirectory(prefix="alignlab-") as folder:  # mode 0700
            base_of(lm.model).config.save_pretrained(folder)
            _name_class(Path(folder) / "config.json", base_of(lm.model))
            self.call(
                "open",
                engine={
                    "model": folder,
                    "dtype": dtype,
                    "max_model_len": context,
                    "max_num_seqs": options.batch_size,
                    "gpu_memory_utilization": options.gpu_memory,
                    "tensor_parallel_size": options.gpus,
                    "cache_gib": options.cache_gib or None,
                },
                transfer=vllm_child.MEMORY if memory else options.transfer,
            )
        if memory:
            self.init_weight_transfer_engine({"file": self._shared})

    def _sent_by_vllm(self, lm: LanguageModel) -> None:
        """Send weights by vLLM's own transfers."""
        from vllm.distributed.weight_transfer import WeightTransferTrainerFactory

        if self._sender is None:
            self._sender = WeightTransferTrainerFactory.trainer_init(
                _sender_settings(self._options), client=self, source=_source(lm)
            )
        self._sender.source = _source(lm)
        self._sender.send_weights()


def _environment(options: VllmRolloutOptions) -> dict[str, str]:
    found = {"CUDA_VISIBLE_DEVICES": options.devices} if options.devices else {}
    if options.transfer == "ipc":  # handles of CUDA are pickled, in the pipe between the two
        found["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"
    return found


def _name_class(file: Path, model: Any) -> None:
    """Write the model's class into its configuration, which vLLM finds its own class by."""
    plain = json.loads(file.read_text(encoding="utf-8"))
    plain["architectures"] = [type(model).__name__]
    file.write_text(json.dumps(plain), encoding="utf-8")


def _named(lm: LanguageModel) -> Iterator[tuple[str, Tensor]]:
    """Yield the weights by the names of their files, on the CPU."""
    for name, weight in merged_weights(lm.model):
        yield name, weight.detach().cpu().contiguous()


def _source(lm: LanguageModel) -> Any:
    """Make the source of weights that vLLM's senders read."""
    from vllm.distributed.weight_transfer import ParamMeta, WeightSource

    class WeightsSource(WeightSource):  # type: ignore[misc]
        def metadata(self) -> list[Any]:
            return [ParamMeta(n, w.dtype, tuple(w.shape)) for n, w in merged_weights(lm.model)]

        def __iter__(self) -> Iterator[tuple[str, Tensor]]:
            return ((name, weight.detach()) for name, weight in merged_weights(lm.model))

    return WeightsSource()


def _sender_settings(options: VllmRolloutOptions) -> Any:
    """Return the settings of vLLM's sender of weights."""
    if options.transfer == "ipc":
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

        return IPCTrainerInitInfo(rank=0)
    from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return NCCLTrainerInitInfo("127.0.0.1", port, 1 + options.gpus, rank=0)
