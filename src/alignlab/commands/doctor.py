"""Inspect this machine: versions, hardware, and throughput of matrix products."""

from __future__ import annotations

import os
import platform
import shutil
import time
from collections.abc import Callable
from importlib import metadata
from typing import Any

import torch

from alignlab import machine
from alignlab.files import cache_folder
from alignlab.models.dtypes import (
    LEAST_PARAMETERS,
    device_of,
    matrix_gflops,
    resolve_dtype,
    throughput,
)

OPTIONAL = {
    "hub": "datasets",
    "lm-eval": "lm-eval",
    "quant": "bitsandbytes",
    "ray": "ray",
    "relevance": "sentence-transformers",
    "track": "tensorboard",
    "vllm": "vllm",
}
"""Extra of this package -> the distribution that it installs."""


def doctor() -> dict[str, Any]:
    """Report versions, cores, GPUs, free disk and memory, matrix throughput and types."""
    found: dict[str, Any] = {
        "alignlab": metadata.version("alignlab"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": metadata.version("transformers"),
        "processor": f"{machine.processor()}, {machine.cores()} cores usable of {os.cpu_count()}",
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or "none",
        "free disk here (GB)": round(shutil.disk_usage(".").free / 1e9, 1),
    }
    for name, gflops in throughput().items():
        found[f"{name} (GFLOP/s, one thread)"] = round(gflops)
    found["dtype=auto"] = (
        f"{resolve_dtype('auto', device_of('auto'), LEAST_PARAMETERS)} for models of "
        f"{LEAST_PARAMETERS:,} parameters or more, float32 below; measured once, kept in "
        f"{cache_folder() / 'machine.json'}"
    )
    found["memory free (GB)"] = round(machine.free_memory() / 1e9, 1)
    for extra, name in OPTIONAL.items():
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = f"not installed (pip install 'alignlab[{extra}]')"
    return found


def machine_gflops(device: str) -> float:
    """Measure the throughput of large matrix products on all cores or the GPU, in GFLOP/s."""
    if device == "cpu":
        return matrix_gflops(torch.float32) * machine.cores()
    a, b = (torch.randn(4096, 4096, device=device, dtype=torch.bfloat16) for _ in range(2))

    def multiply(a: torch.Tensor, b: torch.Tensor) -> None:
        torch.mm(a, b)
        torch.cuda.synchronize()

    return 2 * 4096**3 / min(_seconds(multiply, a, b) for _ in range(5)) / 1e9


def _seconds(
    multiply: Callable[[torch.Tensor, torch.Tensor], object], a: torch.Tensor, b: torch.Tensor
) -> float:
    began = time.perf_counter()
    multiply(a, b)
    return time.perf_counter() - began
