"""Start a command: merge its settings, and open the run that it writes into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from shutil import rmtree
from typing import Any, TypeVar

import torch

from alignlab import configs
from alignlab.context import Hardware, RunContext
from alignlab.engine_pool import kill_engines, stop_engines
from alignlab.errors import BadInput
from alignlab.models.dtypes import by_default
from alignlab.runs import Run, RunIdentity
from alignlab.training.tracking import Track

T = TypeVar("T")


def setting_layers(
    config: str | Path | None, overrides: Sequence[str], settings: Mapping[str, Any]
) -> list[Mapping[str, Any]]:
    """Return layers of settings in rising order: YAML file, `key=value` overrides, keywords.

    Raises:
        BadInput: an unreadable file, or an override that is not key=value.
    """
    file = [configs.read_yaml(Path(config))] if config else []
    return [*file, configs.parse_overrides(overrides), settings]


def part_of(cls: type[T], settings: Any) -> T:
    """Return the settings of one class out of a record that holds them among others."""
    return cls(**{f.name: getattr(settings, f.name) for f in fields(cls)})  # type: ignore[arg-type]


@contextmanager
def open_run(
    folder: Path,
    identity: RunIdentity,
    hardware: Hardware,
    chat_template: str = "",
    track: Track = "none",
    *,
    repair: bool = False,
) -> Iterator[RunContext]:
    """Open a run directory with the context of its stages; close it at the end.

    Bad input that is found before the first stage of a new run leaves nothing behind.

    Args:
        repair: empty damaged stages, so that they are computed again.

    Raises:
        BadInput: the folder holds a run of another identity, or a damaged one.
    """
    there = folder.is_dir()
    is_new = not there or not any(folder.iterdir())
    run = Run.start(folder, identity, repair=repair)
    refused = False
    try:
        context = RunContext(run, identity.seeds[0], hardware, chat_template or None, track)
        torch.set_num_threads(context.threads)
        with by_default(hardware.device, hardware.dtype):
            yield context
        stop_engines()
    except BaseException as error:
        kill_engines()
        refused = isinstance(error, BadInput) and not any((folder / "stages").glob("*"))
        raise
    finally:
        run.close()
        if is_new and refused:
            rmtree(folder, ignore_errors=True)  # another rank may have removed it
            if there:
                folder.mkdir(exist_ok=True)
