"""Sample from one model after another by a vLLM process that stays.

vLLM runs as a child (`vllm_child.py`) in an interpreter of its own. A model whose architecture,
shapes and vocabulary are those of the model before replaces its weights, which the child reads from
the safetensors files of the model's folder; for another one the child starts again, which takes
about a minute. Token ids travel; the child reads the tokenizer for stop strings alone.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import AutoConfig

from alignlab.configs import Fraction, NonNegativeInt
from alignlab.errors import BadInput, RunFailed
from alignlab.generation import vllm_child
from alignlab.generation.vllm_process import (
    INTERPRETER,
    VllmProcess,
    VllmProcessOptions,
    interpreter,
    missing_interpreter,
    vllm_version,
)
from alignlab.generation.vllm_requests import (
    DrawnSample,
    SampleSpec,
    ScoredTail,
    ServedModel,
    VllmCompleter,
    served_model,
)
from alignlab.models.adapter_folders import is_adapter
from alignlab.models.load import load, save, tokenizer_of
from alignlab.models.locate import locate
from alignlab.specs import read_options

OWN_GPUS, SHARED_GPUS = 0.9, 0.4
"""Share of a GPU's memory that an engine reserves: alone on it, and where others compute too."""
_WITHOUT_SHAPE = frozenset(
    {
        "bos_token_id", "dtype", "eos_token_id", "pad_token_id", "torch_dtype",
        "transformers_version", "unk_token_id", "use_cache",
    }
)  # fmt: skip
"""Keys of config.json that leave the shapes and the passes of a model as they are."""


@dataclass(frozen=True)
class VllmSamplerOptions(VllmProcessOptions):
    """Options of `hardware.engine`, after `vllm?`."""

    gpu_memory: Fraction = 0.0
    """Share of a GPU's memory reserved by vLLM; 0 is 0.9 on a cluster, whose engines have GPUs of
    their own, and 0.4 on one machine, where the study computes on them too."""
    context: NonNegativeInt = 0
    """Longest prompt with its answer, in tokens; 0 is the model's own."""


def read_study_engine(spec: str) -> VllmSamplerOptions | None:
    """Read the setting `hardware.engine`: `local`, or `vllm[?gpus=2&cache_gib=4&...]`.

    Returns:
        Options of vLLM; None for the local engine.

    Raises:
        BadInput: another engine, an option that is unknown or without effect, or no interpreter
            with vLLM.
    """
    where, (head, _, rest) = "setting hardware.engine", spec.partition("?")
    if head == "local" and not rest:
        return None
    if head == "local":
        raise BadInput(f"{where}: expected no options of the local engine, found {rest!r}")
    if head != "vllm":
        raise BadInput(f"{where}: expected local or vllm, found {head!r}")
    try:
        options = read_options(spec, VllmSamplerOptions).options
    except BadInput as error:
        raise BadInput(f"{where}: {error}") from None
    if why := missing_interpreter(options):
        raise BadInput(f"{where}: {why}; set {INTERPRETER} to the path of one that has vLLM")
    if not vllm_version(interpreter(options.python)):
        python = interpreter(options.python)
        raise BadInput(f"{where}: expected an interpreter with vLLM, found none in {python}")
    return options


def check_devices(options: VllmSamplerOptions, kind: str) -> None:
    """Refuse options without effect on a type of device, "cuda" or "cpu".

    Raises:
        BadInput: an option for GPUs, and there are none.
    """
    if kind == "cpu" and (options.gpus > 1 or options.gpu_memory):
        named = f"gpus={options.gpus}" if options.gpus > 1 else "gpu_memory"
        raise BadInput(f"setting hardware.engine: {named} has no effect on CPUs")


def lasting_engine(spec: str) -> str:
    """Return an engine's spec with the options that change texts beyond rounding."""
    options = read_options(spec, VllmSamplerOptions).options
    return f"vllm?context={options.context}" if options.context else "vllm"


class VllmSampler(VllmCompleter):
    """A `Completer` and `ChoiceScorer` over the model that it was last given.

    Args:
        options: options of `hardware.engine`.
        device: "cpu", "cuda" (all GPUs that this process sees) or "cuda:N" (the N-th share of them,
            of `options.gpus` each).
        threads: threads of vLLM on a CPU.
        log: file for what vLLM prints.
    """

    def __init__(
        self, options: VllmSamplerOptions, *, device: str, threads: int, log: Path
    ) -> None:
        self.name = ""
        self._options, self._device, self._threads, self._log = options, device, threads, log
        self._process: VllmProcess | None = None
        self._shape, self._context, self._versions = "", 0, 0
        self._held: tuple[str, ...] = ()

    def take(self, path: str, *, name: str, dtype: str, chat_template: str | None) -> None:
        """Take the weights of a model, unless they are in place.

        Args:
            path: folder of the model, perhaps of an adapter, which is merged.
            name: name of the engine in records.
            dtype: type of weights and passes.
            chat_template: template instead of the tokenizer's own.

        Raises:
            RunFailed: vLLM does not start or has ended, or does not take the weights.
        """
        self.name = name
        asked = (path, dtype, chat_template or "")
        if asked == self._held and self._process is not None and self._process.is_alive:
            return
        self._held = ()
        with _whole_folder(path, chat_template) as whole:
            model = served_model(path, whole, chat_template=chat_template)
            shape = shape_of(whole, model, dtype)
            if shape != self._shape or self._process is None or not self._process.is_alive:
                self._start(whole, dtype, shape)
            self._update(whole)
        self.model, self._held = replace(model, context=self._context), asked

    def draw(self, samples: Sequence[SampleSpec]) -> list[DrawnSample]:
        """Draw samples, in the order given."""
        settings = [one._asdict() for one in samples]
        prompts = [one.pop("prompt") for one in settings]
        found = self._call("complete", prompts=prompts, settings=settings, end=self.model.end)
        return [DrawnSample(*one) for one in found]

    def score(self, tails: Sequence[ScoredTail]) -> list[Sequence[float]]:
        """Return the log-probability in nats of each of the last tokens."""
        nothing: dict[str, Any] = {"prompts": [], "seeds": [], "limits": [], "end": []}
        found: list[Sequence[float]] = self._call("sample", **nothing, checked=tails)["checked"]
        return found

    def close(self) -> None:
        """End vLLM."""
        self._held = ()
        if self._process is not None:
            process, self._process = self._process, None
            process.close()

    def _start(self, whole: Path, dtype: str, shape: str) -> None:
        """Start vLLM with the architecture of a model."""
        self.close()
        options = self._options
        self._process = VllmProcess(
            interpreter(options.python), log=self._log, environment=self._environment()
        )
        memory = options.gpu_memory or (SHARED_GPUS if ":" in self._device else OWN_GPUS)
        opened = self._call(
            "open",
            engine={
                "model": str(whole),
                "skip_tokenizer_init": False,
                "dtype": dtype,
                "max_model_len": options.context or None,
                "max_num_seqs": options.batch_size,
                "gpu_memory_utilization": memory,
                "tensor_parallel_size": options.gpus,
                "cache_gib": options.cache_gib or None,
            },
            transfer=vllm_child.MEMORY,
        )
        self._call("init_weight_transfer_engine", init_info={"file": ""})
        self._shape, self._context = shape, int(opened["context"])

    def _update(self, whole: Path) -> None:
        """Replace the weights by those of a folder."""
        files = [str(file.absolute()) for file in weight_files(whole)]
        self._call("start_weight_update")
        self._call("update_weights", update_info={"files": files})
        self._call("finish_weight_update")
        self._versions += 1
        self._call("commit", version=self._versions)

    def _call(self, call: str, **arguments: Any) -> Any:
        """Call vLLM; after an error it starts again, as its state is unknown."""
        assert self._process is not None
        try:
            return self._process.call(call, **arguments)
        except RunFailed:
            self.close()
            raise

    def _environment(self) -> dict[str, str]:
        """Return the variables that give vLLM its devices and threads."""
        if self._device == "cpu":  # a vLLM for GPUs must not take one
            return {"OMP_NUM_THREADS": str(self._threads), "CUDA_VISIBLE_DEVICES": ""}
        _, _, number = self._device.partition(":")
        if not number:
            return {}
        share = range(int(number) * self._options.gpus, (int(number) + 1) * self._options.gpus)
        seen = [one for one in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if one]
        return {"CUDA_VISIBLE_DEVICES": ",".join(seen[k] if seen else str(k) for k in share)}


def shape_of(whole: Path, model: ServedModel, dtype: str) -> str:
    """Hash the properties of a model that a running vLLM cannot change."""
    config = AutoConfig.from_pretrained(whole).to_dict()
    kept = {k: v for k, v in config.items() if k not in _WITHOUT_SHAPE and not k.startswith("_")}
    vocabulary = sorted(model.lm.tokenizer.get_vocab().items())
    text = json.dumps([kept, dtype, vocabulary], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a model's folder."""
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return [folder / "model.safetensors"]
    names = json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()
    return [folder / name for name in sorted(set(names))]


@contextmanager
def _whole_folder(path: str, chat_template: str | None) -> Iterator[Path]:
    """Yield a folder with all rows of a model, an adapter merged; one made for it is deleted."""
    folder = locate(path)
    if not is_adapter(folder) and not tokenizer_of(folder, chat_template).added:
        yield folder
        return
    with TemporaryDirectory(prefix="alignlab-merged-") as made:
        yield save(load(path, device="cpu", chat_template=chat_template), Path(made) / "model")
