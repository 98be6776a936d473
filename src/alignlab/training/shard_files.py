"""Save and read shards of named tensors by torch.distributed.checkpoint, as safetensors files.

Each process writes a file of its shards, with their places in the whole tensors. Files are read by
any number of processes, which take the rows of their own shards; plain safetensors files are read
in the same way.
"""

from __future__ import annotations

import shutil
import threading
import warnings
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import async_save
from torch.distributed.tensor import DTensor

from alignlab.training.distributed import DistributedContext


class BackgroundSaves:
    """Saves of a training's shards, one at a time, while its steps go on.

    Args:
        world: processes that hold the shards; each calls every method.
    """

    def __init__(self, world: DistributedContext) -> None:
        self._world = world
        self._pending: Future[Any] | None = None
        self._finish: Callable[[], None] | None = None
        self._lock = threading.Lock()

    @property
    def is_main(self) -> bool:
        """Return True on the main rank, which saves what is not sharded."""
        return self._world.is_main

    def start(
        self, tensors: Mapping[str, Tensor], folder: Path, finish: Callable[[], None]
    ) -> None:
        """Copy tensors to the CPU, and write them into a folder in the background.

        Args:
            tensors: this process's tensors by name; whole ones on the main rank alone.
            folder: folder of the files, emptied first.
            finish: called on the main rank when all processes have written.
        """
        self.settle()
        if self._world.is_main:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        self._world.wait()
        self._finish = finish if self._world.is_main else None
        writer = _Writer(str(folder), save_distributed=True)
        saved: Any = async_save(dict(tensors), storage_writer=writer, process_group=_group())
        self._pending = saved
        saved.add_done_callback(self._finish_whole)

    def settle(self) -> None:
        """Wait for the save under way, if there is one; raise its error."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()
            self._finish_once()

    def _finish_whole(self, saved: Future[Any]) -> None:
        if saved.exception() is None:
            self._finish_once()

    def _finish_once(self) -> None:
        # The thread of the save and a thread that waits for it may both arrive here.
        with self._lock:
            finish, self._finish = self._finish, None
            if finish is not None:
                finish()


def shapes(folder: Path) -> dict[str, torch.Size]:
    """Return the shape of every whole tensor in a folder's files."""
    found: Any = HuggingFaceStorageReader(str(folder)).read_metadata().state_dict_metadata
    return {name: tensor.size for name, tensor in found.items()}


def read(folder: Path, into: Mapping[str, Tensor]) -> None:
    """Read tensors by name from a folder's files, in place; of a shard its own rows alone."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")
        reader = HuggingFaceStorageReader(str(folder))
        load(dict(into), storage_reader=reader, no_dist=True)


class _Writer(HuggingFaceStorageWriter):
    """Writer whose copies are made by hand: DTensors made of parts cannot be deep-copied."""

    def stage(self, state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return copies of the tensors on the CPU, which training does not change."""
        self.per_thread_copy_ahead = 0
        copies: dict[str, Tensor] = {}
        for name, tensor in state_dict.items():
            if isinstance(tensor, DTensor):
                tensor._local_tensor = tensor._local_tensor.to("cpu", copy=True)
                copies[name] = tensor
            else:
                copies[name] = tensor.to("cpu", copy=True)
        return copies


@cache
def _group() -> Any:
    """Return a process group of the saves alone, whose messages mix with no others."""
    return dist.new_group(backend="gloo", timeout=timedelta(days=30))
