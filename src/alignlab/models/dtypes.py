"""Resolve `dtype=auto`, the type that is fast on this machine and right for the model.

bfloat16 on GPUs that support it and on CPUs whose bfloat16 products are at least 1.5 times as fast
as float32's, which is measured once a machine; float32 elsewhere. Models of fewer than 10 million
parameters stay float32: their products are too small to gain, and rounding shows in them most.
Trainings keep float32 master weights in any type.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import torch

from alignlab import machine
from alignlab.errors import BadInput
from alignlab.files import cache_folder, read_json, write_json
from alignlab.models.adapter_folders import decoder_folder
from alignlab.models.onednn import product
from alignlab.models.weight_files import open_safetensors, read_model_settings

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}
"""Name in configurations -> tensor type."""

LEAST_PARAMETERS = 10_000_000
"""Parameters from which `auto` considers bfloat16."""

LEAST_GAIN = 1.5
"""Throughput of bfloat16 over float32 from which a CPU counts as native in bfloat16."""


_defaults: list[tuple[str, str]] = []


@contextmanager
def by_default(device: str, dtype: str) -> Iterator[None]:
    """Let "auto" mean a command's device and type inside the block, for models named by spec."""
    _defaults.append((device, dtype))
    try:
        yield
    finally:
        _defaults.pop()


def resolve_dtype(dtype: str, device: torch.device, parameters: int) -> str:
    """Return the type that a setting means for a model on a device.

    Args:
        dtype: "auto", or a type's name, which is returned.
        device: device of the model.
        parameters: number of the model's parameters.

    Raises:
        BadInput: an unknown name.
    """
    check_dtype(dtype)
    if dtype == "auto" and _defaults:
        dtype = _defaults[-1][1]
    if dtype != "auto":
        return dtype
    if parameters < LEAST_PARAMETERS:
        return "float32"
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = bfloat16_is_native()
    return "bfloat16" if native else "float32"


def stored_parameters(folder: Path) -> int:
    """Count the parameters in a folder's safetensors files, from their headers.

    A head that is tied to the embeddings counts once, also where the files hold it again. Of an
    adapter's folder, its base model's are counted.
    """
    folder = decoder_folder(folder)
    config = folder / "config.json"
    tied = config.is_file() and read_model_settings(config).get("tie_word_embeddings")
    total = 0
    for file in folder.glob("*.safetensors"):
        with open_safetensors(file) as weights:
            for name in weights.keys():  # noqa: SIM118 - a safetensors file is no mapping
                if not (tied and name == "lm_head.weight"):
                    total += math.prod(weights.get_slice(name).get_shape())
    return total


def check_dtype(dtype: str, setting: str = "dtype") -> None:
    """Refuse a name that is neither "auto" nor a type's.

    Raises:
        BadInput: such a name.
    """
    if dtype not in ("auto", *DTYPES):
        known = ", ".join(("auto", *DTYPES))
        raise BadInput(f"{setting}: expected one of {known}, found {dtype!r}")


def device_of(name: str | torch.device | None) -> torch.device:
    """Return a device by name; "auto" and None are the GPU where there is one, else the CPU.

    Raises:
        BadInput: Apple's mps, which has no float64: log-probabilities are summed in it.
    """
    if name is None or name == "auto":
        name = _defaults[-1][0] if _defaults else "auto"
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        why = str(error).splitlines()[0]
        raise BadInput(f"device: expected auto, cpu or cuda, found {name!r} ({why})") from None
    if device.type == "mps":
        raise BadInput(
            "device: expected auto, cpu or cuda, found 'mps', which has no float64 for sums of "
            "log-probabilities; leave device=auto"
        )
    return device


def find_device(device: str) -> None:
    """Check that the device of a setting exists.

    Raises:
        BadInput: this machine has no such device.
    """
    device_of(device)
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        why = str(error).splitlines()[0]
        raise BadInput(
            f"setting hardware.device: expected a device of this machine, found {device!r} ({why})"
        ) from None


@cache
def bfloat16_is_native() -> bool:
    """Return True where this CPU computes bfloat16 products in hardware, by measurement."""
    measured = throughput()
    return measured["bfloat16"] >= LEAST_GAIN * measured["float32"]


def throughput() -> dict[str, float]:
    """Return GFLOP/s of matrix products on one thread by type, measured once a machine.

    The figures are kept in the user's cache folder, per processor and version of torch.
    """

    def measure() -> dict[str, float]:
        return {
            name: round(max(matrix_gflops(DTYPES[name], 512, multiply=how) for how in multiply), 1)
            for name, multiply in (("float32", (torch.mm, product)), ("bfloat16", (torch.mm,)))
        }

    return once_a_machine(f"{machine.processor()}, torch {torch.__version__}", measure)


def once_a_machine(key: str, measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """Return figures of this machine, measured once and kept in the user's cache folder.

    Args:
        key: name of the figures, with all that they depend on.
        measure: measures them.
    """
    file = cache_folder() / "machine.json"
    known: dict[str, dict[str, float]] = {}
    if file.is_file():
        with suppress(ValueError, OSError):  # a damaged cache is measured again
            known = read_json(file)
    if key not in known:
        known[key] = measure()
        with suppress(OSError):  # measured again by the next process
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, known)
    return known[key]


def matrix_gflops(
    dtype: torch.dtype,
    size: int = 1024,
    repeats: int = 5,
    multiply: Callable[[torch.Tensor, torch.Tensor], torch.Tensor] = torch.mm,
) -> float:
    """Measure the best throughput of a square matrix product on one thread, in GFLOP/s.

    Seconds on the processor are counted, so that other work on the machine does not matter.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        drawn = torch.Generator().manual_seed(0)  # the global state belongs to trainings
        a, b = (torch.randn(size, size, generator=drawn).to(dtype) for _ in range(2))
        multiply(a, b)  # compiles the kernel
        best = min(_seconds(multiply, a, b) for _ in range(repeats))
    finally:
        torch.set_num_threads(threads)
    return 2 * size**3 / best / 1e9


def _seconds(
    multiply: Callable[[torch.Tensor, torch.Tensor], object], a: torch.Tensor, b: torch.Tensor
) -> float:
    began = time.thread_time()
    multiply(a, b)
    return max(time.thread_time() - began, 1e-9)
