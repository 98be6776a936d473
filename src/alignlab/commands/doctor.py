"""Inspect this machine: versions, hardware, and throughput of matrix products."""

from __future__ import annotations

import os
import platform
import shutil
from importlib import metadata
from typing import Any

import torch

from alignlab import machine
from alignlab.files import cache_folder
from alignlab.models.dtypes import (
    LEAST_PARAMETERS,
    device_of,
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
