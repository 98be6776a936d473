"""Keep a run directory: its identity, its scopes and stages, its events and its manifest.

A run resumes where it was stopped: `alignlab.run_stage` does each unit of work once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from alignlab import integrity
from alignlab.changed_settings import refuse_change
from alignlab.errors import BadInput
from alignlab.files import (
    append_line,
    cut_torn_line,
    exclusively,
    file_digest,
    lock,
    make_folder,
    read_json,
    write_json,
    write_text,
)
from alignlab.leases import NAME as LEASE
from alignlab.leases import Lease
from alignlab.records import to_dict
from alignlab.redo import events, redo_left, seconds_at_work, timestamp
from alignlab.run_identity import RunIdentity as RunIdentity
from alignlab.run_identity import config_text, new_manifest
from alignlab.run_stage import Changed as Changed
from alignlab.run_stage import RecordFile as RecordFile
from alignlab.run_stage import Stage as Stage
from alignlab.types import StudyDescription
from alignlab.whole_files import seal


class Run:
    """A run directory, or a scope inside it (a seed, a branch) with stages of its own."""

    def __init__(self, path: Path, scope: tuple[str, ...] = ()) -> None:
        self.path = path
        self.scope_names = scope
        self._stages = 0
        self._lock: int | None = None
        self.lease: Lease | None = None
        """Hold on the run directory across machines; None in a worker, whose parent has it."""

    @classmethod
    def start(cls, path: Path, identity: RunIdentity, *, repair: bool = False) -> Run:
        """Make the run directory, or take up the run in it where it stopped.

        Args:
            repair: empty damaged stages, so that they are done again.

        Raises:
            BadInput: the folder holds something else, a run with another configuration, or one
                that is damaged.
            RunFailed: another process is working on this run, on this machine or another.
        """
        run = cls(path)
        if path.exists() and not path.is_dir():
            raise BadInput(f"{path}: expected a run directory or an empty folder, found a file")
        begun = path.exists() and not _barely_begun(path)
        if begun and not any((path / name).exists() for name in ("config.yaml", "events.jsonl")):
            raise BadInput(f"{path}: expected a run directory or an empty folder, found a full one")
        make_folder(path / "stages")
        run._lock = lock(path / ".lock", f"{path}: another process is working on this run")
        try:
            os.utime(path / ".lock")
            run.lease = Lease.take(path)
            if begun:
                run._take_up(identity, repair or integrity.repairs())
            else:
                run._begin(identity)
        except BaseException:
            run.close()
            raise
        return run

    def _take_up(self, identity: RunIdentity, repair: bool) -> None:
        """Make sure that the run is the same and whole, or empty what is damaged."""
        path = self.path
        config = config_text(identity)
        redo_left(path)
        # What a run asks is written again by every session.
        found = [d for d in integrity.damages(path) if d.file.name != "study.json"]
        if not repair:
            integrity.raise_first(path, found, identity.recipe)
        known = path / "config.yaml"
        if known in [damage.file for damage in found]:
            write_text(known, config)
        before = yaml.safe_load(known.read_text())
        try:
            refuse_change(path, before, identity.config, identity.settings, identity.given)
        except BadInput:
            # Settings of another command have nothing to do with these.
            refuse_other_recipe(path, identity.recipe)
            raise
        cut_torn_line(path / "events.jsonl")
        if found:
            integrity.repair(path, found, new_manifest(identity))
            self._note_file("config.yaml")
        self.event("resume")

    def _begin(self, identity: RunIdentity) -> None:
        """Write what the run is."""
        config, manifest = config_text(identity), new_manifest(identity)
        write_json(self.path / "manifest.json", seal(manifest))
        write_text(self.path / "config.yaml", config)
        self.event("start", recipe=identity.recipe, manifest=manifest)  # restores a lost one
        self._note_file("config.yaml")

    def close(self) -> None:
        """Let others work on the run."""
        if self.lease is not None:
            self.lease.release()
            self.lease = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def scope(self, name: str) -> Run:
        """Return a part of the run whose stages are numbered and stored apart."""
        part = Run(self.path, (*self.scope_names, name))
        part.lease = self.lease
        return part

    @property
    def stages_folder(self) -> Path:
        """Return the folder of this scope's stages."""
        return self.path.joinpath("stages", *self.scope_names)

    @property
    def opened(self) -> int:
        """Return how many stages of this scope were opened."""
        return self._stages

    def skip(self, stages: int) -> None:
        """Number the next stage after so many, which another process opened."""
        self._stages = stages

    def stage(
        self, name: str, *, config: Any = None, inputs: Mapping[str, str] | None = None
    ) -> Stage:
        """Open the next stage of this scope, to do, to resume or (if done) to read."""
        self._stages += 1
        folder = self.stages_folder / f"{self._stages:02d}-{name}"
        return Stage(self, folder, {"name": name, "config": config, "inputs": inputs or {}})

    def event(self, event: str, **details: Any) -> None:
        """Append one line to events.jsonl."""
        line = json.dumps({"time": timestamp(), "event": event, **details}) + "\n"
        append_line(self.path / "events.jsonl", line)

    def describe(self, study: StudyDescription) -> None:
        """Write what the run asks and compares, for the report."""
        write_json(self.path / "study.json", to_dict(study))
        self._note_file("study.json")

    def _note_file(self, name: str) -> None:
        """Keep the hash of one of the run's own files."""
        files = self.manifest().get("files", {})
        self.change_manifest(files={**files, name: file_digest(self.path / name)})

    def manifest(self) -> dict[str, Any]:
        """Return the manifest."""
        found: dict[str, Any] = read_json(self.path / "manifest.json")
        return found

    def change_manifest(self, **values: Any) -> None:
        """Set values of the manifest."""
        write_json(self.path / "manifest.json", seal({**self.manifest(), **values}))

    def add_inputs(self, files: Mapping[str, str]) -> None:
        """Record the files that the run reads by path and SHA-256.

        Raises:
            BadInput: the run was started with other contents of one of them.
        """
        with exclusively(self.path / "config.yaml"):
            inputs = self.manifest()["inputs"]
            for path, digest in files.items():
                if inputs.setdefault(path, digest) != digest:
                    raise BadInput(f"{path}: changed since this run was started; use another out=")
            if files:
                self.event("inputs", files=dict(files))  # from which a lost manifest is restored
            self.change_manifest(inputs=inputs)

    def note_type(self, model: str, dtype: str, device: str) -> None:
        """Record the type and device that a model computed in, once each."""
        found = f"{dtype} on {device}"
        if self.types().get(model) != found:
            self.event("type", model=model, type=found)

    def types(self) -> dict[str, str]:
        """Return the last type and device of every model that computed on this machine."""
        noted = [e for e in events(self.path) if e.get("event") == "type"]
        return dict(sorted((e["model"], e["type"]) for e in noted))

    def finish(self) -> None:
        """Gather counts, the models' types and the time into the manifest; mark as done.

        The time is that of all sessions, killed ones included.
        """
        files = sorted((self.path / "stages").rglob("counts.jsonl"))
        self.change_manifest(
            counts=[json.loads(line) for f in files for line in f.open()], types=self.types()
        )
        self.event("done")
        self.change_manifest(wall_seconds=round(seconds_at_work(events(self.path)), 1))


def slug(name: str) -> str:
    """Return the file name for a model's name: "M2 (3 samples)" -> "m2-3-samples"."""
    kept = "".join(c if c.isalnum() else " " for c in name.lower())
    return "-".join(kept.split())


def refuse_other_recipe(path: Path, recipe: str) -> None:
    """Refuse a folder that holds a run of another recipe or command.

    Raises:
        BadInput: such a run, by its first event.
    """
    starts = (event for event in events(path) if event.get("event") == "start")
    begun = next((event.get("recipe", "") for event in starts), recipe)
    if begun != recipe:
        raise BadInput(
            f"{path}: expected a run of {recipe}, found one of {begun}; use another out="
        )


def refuse_other_run(path: Path, identity: RunIdentity) -> None:
    """Refuse a folder with a run that a run of this identity could not resume.

    Raises:
        BadInput: a run of another recipe, or with other settings.
    """
    known = path / "config.yaml"
    if known.exists():
        refuse_other_recipe(path, identity.recipe)
        before = yaml.safe_load(known.read_text())
        refuse_change(path, before, identity.config, identity.settings, identity.given)


def _barely_begun(path: Path) -> bool:
    """Return whether a folder holds nothing but what a run killed at its start leaves there."""
    own = {"stages", ".lock", LEASE, "manifest.json", "config.yaml"}
    torn = (".manifest.", ".config.", f"{LEASE}.")
    left = {p.name for p in path.iterdir() if not p.name.startswith(torn)}
    begun = "stages" in left and left <= own and not any((path / "stages").iterdir())
    return begun or not left
