"""Settings of a study's hardware: device, precision, and processes."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from alignlab.cluster.session import refuse_address, require_ray
from alignlab.configs import Bounded, NonNegativeInt, PositiveInt
from alignlab.errors import BadInput
from alignlab.generation.vllm_sampler import VllmSamplerOptions, check_devices, read_study_engine
from alignlab.launched import is_launched
from alignlab.leases import is_claimed
from alignlab.models import dtypes
from alignlab.training.launch import Parallel, sharded


@dataclass(frozen=True)
class Hardware(Bounded):
    """Device, precision and parallelism of models."""

    device: str = "auto"
    """Device: "auto" (a GPU if there is one), "cpu", "cuda", "cuda:1", ..."""
    dtype: str = "auto"
    """Type of models that answer and judge: "float32", "bfloat16", or "auto" (bfloat16 from 10
    million parameters on a GPU, or a CPU fast in it; else float32; see `alignlab doctor`)."""
    workers: NonNegativeInt = 0
    """Processes for independent branches; 0 is one per usable core (at most 4), or 1 with a GPU."""
    threads: NonNegativeInt = 0
    """Torch threads per process; 0 shares the usable cores (affinity, a container's quota,
    OMP_NUM_THREADS) among the branches that run at once."""
    parallel: Parallel = "auto"
    """Parallelism of a training under torchrun or accelerate: "data" (full weights on every
    process) or "fsdp" (sharded weights); "auto" follows accelerate's configuration, else data."""
    cluster: str = ""
    """Ray cluster whose nodes run the seeds and branches of a study: HOST:PORT of its head, or
    "auto" (RAY_ADDRESS where it is set, else this machine); needs pip install 'alignlab[ray]'.
    Empty runs processes of this machine; with a cluster, workers is the most tasks at once."""
    engines: PositiveInt = 1
    """Processes that sample from local models, and ask them as judges, at once, a GPU each where
    there are GPUs; with a cluster, its engines, which all tasks share. The texts are those of a
    single one."""
    engine: str = "local"
    """Engine of the study's local models and of local judges: "local", or "vllm", with options
    after "?" (gpus=2 splits each layer over two GPUs; cache_gib, gpu_memory, batch_size, context,
    python). vLLM runs in the interpreter of ALIGNLAB_VLLM_PYTHON, `engines` of it at once; its
    texts are not those of the local engine."""
    processes: PositiveInt = 1
    """Processes of each training on a cluster, a GPU each where there are GPUs; `parallel` says how
    they share it."""

    def __post_init__(self) -> None:
        super().__post_init__()
        dtypes.check_dtype(self.dtype, "setting hardware.dtype")
        if self.cluster:
            refuse_address(self.cluster)
            require_ray()
        elif self.device != "auto":
            dtypes.find_device(self.device)
        self._check_vllm()
        self._check_engines()
        self._check_processes()
        self._check_launch()

    def _check_vllm(self) -> None:
        """Refuse an engine that cannot be started, and its options without effect."""
        options = self.vllm
        if options is None:
            return
        if is_launched() and not is_claimed():
            raise BadInput(
                "setting hardware.engine: expected local where torchrun or accelerate has started "
                f"the processes, found {self.engine!r}; hardware.cluster has engines by vLLM"
            )
        if not self.cluster:
            check_devices(options, self.kind)

    def _check_engines(self) -> None:
        """Refuse more engines than GPUs of this machine, unless a cluster has them."""
        if not self.pools or self.cluster or self.kind == "cpu":
            return
        if ":" in self.device:
            raise BadInput(
                "setting hardware.engines: expected auto or cuda as the device of several "
                f"engines, found {self.device!r}"
            )
        each = self.vllm.gpus if self.vllm else 1
        if self.engines * each > torch.cuda.device_count():
            of = f" of {each} GPUs each" if each > 1 else ""
            raise BadInput(
                f"setting hardware.engines: expected at most {torch.cuda.device_count()}, the GPUs "
                f"of this machine, found {self.engines}{of}"
            )

    def _check_processes(self) -> None:
        """Refuse several processes of a training without a cluster."""
        if self.processes > 1 and not self.cluster:
            raise BadInput(
                "setting hardware.processes: expected hardware.cluster with it; on one machine "
                f"without Ray, torchrun --nproc-per-node {self.processes} starts the processes"
            )

    def _check_launch(self) -> None:
        """Refuse settings that a launch by torchrun or accelerate overrides or forbids."""
        if is_claimed():  # a rank of a cluster's task
            return
        if self.processes == 1:
            sharded(self.parallel)
        if not is_launched():
            return
        if self.cluster:
            raise BadInput(
                "setting hardware.cluster: has no effect here: torchrun or accelerate has started "
                "the processes"
            )
        if self.workers > 1:
            raise BadInput(
                "setting hardware.workers: has no effect here: torchrun or accelerate says how "
                "many processes there are"
            )
        if ":" in self.device:
            raise BadInput(
                f"setting hardware.device: expected auto, cpu or cuda where several processes "
                f"take a device each, found {self.device!r}"
            )

    @property
    def sharded(self) -> bool:
        """True if the weights of a training are sharded over processes."""
        return self.parallel == "fsdp" if self.processes > 1 else sharded(self.parallel)

    @property
    def kind(self) -> str:
        """Type of the device, "cuda" or "cpu"."""
        return dtypes.device_of(self.device).type

    @property
    def vllm(self) -> VllmSamplerOptions | None:
        """Options of vLLM as the engine of local models; None for the local engine."""
        return read_study_engine(self.engine)

    @property
    def pools(self) -> bool:
        """True if local models are sampled in processes of their own."""
        return self.engines > 1 or self.engine != "local"
