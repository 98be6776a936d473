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

OPTIONAL = {
    "hub": "datasets",
    "lm-eval": "lm-eval",
    "quant": "bitsandbytes",
    "relevance": "sentence-transformers",
    "track": "tensorboard",
    "vllm": "vllm",
}
"""Extra of this package -> the distribution that it installs."""


def doctor() -> dict[str, Any]:
    """Report versions, cores, GPUs, free disk, and matrix throughput in GFLOP/s per core."""
    found: dict[str, Any] = {
        "alignlab": metadata.version("alignlab"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": metadata.version("transformers"),
        "processor": f"{platform.machine()}, {os.cpu_count()} cores",
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] or "none",
        "free disk here (GB)": round(shutil.disk_usage(".").free / 1e9, 1),
    }
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        found[f"{name} (GFLOP/s, one thread)"] = round(matrix_gflops(dtype))
    fp32, bf16 = found["float32 (GFLOP/s, one thread)"], found["bfloat16 (GFLOP/s, one thread)"]
    if bf16 < 1.5 * fp32 and not torch.cuda.is_available():
        found["hint"] = "bfloat16 brings little on this processor; dtype=float32 is the better one"
    for extra, name in OPTIONAL.items():
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = f"not installed (pip install 'alignlab[{extra}]')"
    return found


def matrix_gflops(
    dtype: torch.dtype,
    size: int = 1024,
    repeats: int = 5,
    multiply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = torch.mm,
) -> float:
    """Measure the best throughput of a square matrix product on one thread, in GFLOP/s."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        a, b = (torch.randn(size, size).to(dtype) for _ in range(2))
        best = min(_seconds(multiply, a, b) for _ in range(repeats))
    finally:
        torch.set_num_threads(threads)
    return 2 * size**3 / best / 1e9


def machine_gflops(device: str) -> float:
    """Measure the throughput of large matrix products on all cores or the GPU, in GFLOP/s."""
    if device == "cpu":
        return matrix_gflops(torch.float32) * (os.cpu_count() or 1)
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
