"""Find damage in a run directory by content, refuse to read it, and repair it.

Repair empties the damaged stages, so that the run's command does them again. Stages are
deterministic, so what follows stays valid; where their content comes out different, `redo_later`
empties what was made from the earlier one.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from alignlab import registry
from alignlab.errors import BadInput
from alignlab.files import file_digest, write_json, write_text
from alignlab.redo import events, last_events, order, redo, stage_name
from alignlab.stage_integrity import Damage, first_fault, stage_damage
from alignlab.whole_files import read_mapping, seal

log = logging.getLogger(__name__)
COMMANDS = ("train", "generate", "judge", "reward")
"""Commands whose runs have their name."""
_repairs: ContextVar[bool] = ContextVar("repairs", default=False)


@contextmanager
def repairing(wanted: bool) -> Iterator[None]:
    """Repair the damaged runs that are opened while it lasts, if this is wanted."""
    token = _repairs.set(wanted or _repairs.get())
    try:
        yield
    finally:
        _repairs.reset(token)


def repairs() -> bool:
    """Return whether damaged runs that are opened now are repaired."""
    return _repairs.get()


def refuse_damage(run: Path, *, hash_large: bool = False) -> None:
    """Refuse to read a damaged run.

    Raises:
        BadInput: the first file that is damaged, its line, and how to recover.
    """
    raise_first(run, list(damages(run, hash_large=hash_large)))


def raise_first(run: Path, found: Sequence[Damage], recipe: str = "") -> None:
    """Raise BadInput for the first damage found, if there is any."""
    if not found:
        return
    if not recipe:
        with suppress(OSError, ValueError, KeyError):
            recipe = json.loads((run / "manifest.json").read_bytes())["recipe"]
    try:
        registry.find("recipe", recipe or "")
        command = "`alignlab run`"
    except BadInput:
        command = f"`alignlab {recipe}`" if recipe in COMMANDS else "the command that made it"
    how = f"{command} with the same settings and --repair computes what is damaged again"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    raise BadInput(f"{found[0]}{more}; {how}")


def damages(run: Path, *, hash_large: bool = True) -> Iterator[Damage]:
    """Yield what is damaged in a run: its own files first, then its stages in their order.

    Args:
        hash_large: read large weight files too, although their time says that nobody wrote them.
    """
    yield from _of_run(run)
    done = last_events(run)
    folders = {stage: run / "stages" / stage for stage in order(run)}
    for own in ("status.json", ".lock"):
        for file in sorted((run / "stages").rglob(own)):
            folders.setdefault(stage_name(run, file.parent), file.parent)
    for stage, folder in folders.items():
        if done.get(stage) == "done" and not (folder / "status.json").exists():
            yield Damage(folder / "status.json", "the status of a finished stage, found no file",
                         stage=stage)  # fmt: skip
            continue
        yield from stage_damage(folder, stage, hash_large)


def repair(run: Path, found: Sequence[Damage], manifest: Mapping[str, Any]) -> None:
    """Empty the damaged stages, and restore the run's own files from its events.

    Args:
        manifest: taken where the events do not hold the run's own, as before 0.2.
    """
    for damage in found:
        log.warning("%s; computed again", damage)
    names = {damage.file.name for damage in found if damage.stage is None}
    known = events(run)
    if "events.jsonl" in names:
        write_text(run / "events.jsonl", "".join(json.dumps(e) + "\n" for e in known))
    if "manifest.json" in names:
        begun: dict[str, Any] = next((e for e in known if e.get("event") == "start"), {})
        inputs = {k: v for e in known if e.get("event") == "inputs" for k, v in e["files"].items()}
        own = {**begun.get("manifest", manifest), "inputs": inputs}
        write_json(run / "manifest.json", seal(own))
    redo(run, dict.fromkeys(damage.stage for damage in found if damage.stage is not None))


def _of_run(run: Path) -> Iterator[Damage]:
    """Yield what is wrong with the files of the run itself."""
    manifest = run / "manifest.json"
    plain, problem = read_mapping(manifest)
    if problem:
        yield Damage(manifest, problem)
    elif "sha256" in plain and seal(plain) != plain:
        yield Damage(manifest, "the manifest that was written, found another content")
    known = plain.get("files", {}) if not problem else {}
    worked = any((run / "stages").rglob("status.json"))
    for name in ("config.yaml", "study.json"):
        file = run / name
        if not file.exists():
            if name in known or (name == "config.yaml" and worked):
                yield Damage(file, "a file of the run, found none")
        elif problem := read_mapping(file)[1]:
            yield Damage(file, problem)
        elif file_digest(file) != known.get(name, file_digest(file)):
            yield Damage(file, "the file that was written, found another content")
    log_file = run / "events.jsonl"
    if not log_file.exists():
        if worked:
            yield Damage(log_file, "the run's events, found no file")
    elif fault := first_fault(log_file, (), finished=False):
        yield Damage(log_file, fault[1], fault[0])
