"""Damage in a run is named by file and line, nothing is read from it, and a repair undoes it."""

import json
import logging
import re
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from alignlab.errors import BadInput
from alignlab.files import read_json, write_json
from alignlab.report.run_data import read_run
from alignlab.runs import Run, RunIdentity
from alignlab.types import Count, Usage

WORDS = ("plain", "next\x85line", "line\u2028separator", "é", "last")
"""Texts that `str.splitlines` would cut (github.com/PrimeIntellect-ai/verifiers/pull/1644)."""


def work(path: Path, *, repair: bool = False, word: str = "plain", stop: bool = False) -> Run:
    """Three stages: records, a model, and a count of the records; the second is asked twice."""
    run = Run.start(path, RunIdentity("toy", {"beta": 0.1}, (0,)), repair=repair)
    try:
        run.add_inputs({"data.jsonl": "0" * 64})
        with run.stage("records") as first:
            texts = (word, *WORDS[1:])
            records = [Count("s", text, i) for i, text in enumerate(texts)]
            for unit, some in (("0", records[:3]), ("1", records[3:])):
                if unit not in first.records("numbers", Count).units:
                    first.records("numbers", Count).append(unit, some, Usage(tokens=1))
            if stop:
                raise RuntimeError("killed")
            kept = first.records("numbers", Count).read()
        with run.scope("branch").stage("train") as stage:
            if not stage.done:
                model = stage.path / "model"
                model.mkdir()
                (model / "config.json").write_text("{}\n")
                save_file({"w": torch.arange(8.0)}, model / "model.safetensors")
                stage.write("trained", Count, [Count("t", "steps", 1)])
        with run.stage("results") as last:
            total = sum(len(record.what) for record in kept)
            last.write("totals", Count, [Count("r", "letters", total)])
        run.finish()
    finally:
        run.close()
    return run


def state(path: Path) -> dict[str, object]:
    """Everything of a run that must be the same in every run of the same settings."""
    found: dict[str, object] = {
        str(f.relative_to(path)): f.read_bytes()
        for f in sorted(path.rglob("*"))
        if f.suffix == ".safetensors"
        or f.name in ("numbers.jsonl", "totals.jsonl", "trained.jsonl")
    }
    times = ("created", "sha256", "wall_seconds")
    for own in (path / "manifest.json", path / "stages/01-records/status.json"):
        found[own.name] = {
            k: v
            for k, v in read_json(own).items()
            if k not in (*times, "seconds", "cpu_seconds", "files")
        }
    return {**found, "config.yaml": (path / "config.yaml").read_bytes()}


def _lines(change):
    def harm(file: Path) -> None:
        file.write_bytes(b"".join(change(file.read_bytes().splitlines(keepends=True))))

    return harm


def _raw(change):
    def harm(file: Path) -> None:
        file.write_bytes(change(file.read_bytes()))

    return harm


def remove(file: Path) -> None:
    shutil.rmtree(file) if file.is_dir() else file.unlink()


NUMBERS = "stages/01-records/numbers.jsonl"
WEIGHTS = "stages/branch/01-train/model/model.safetensors"
STATUS = "stages/01-records/status.json"
ALTERED = _lines(lambda s: [s[0], s[1].replace(b'"kept": 1', b'"kept": 9'), *s[2:]])
BROKEN = _lines(lambda s: [s[0], s[1][:9] + b"\n", *s[2:]])
TRUNCATED = _raw(lambda raw: raw[:-4])

STRUCTURAL = {
    "half a line at the end": (NUMBERS, _raw(lambda r: r + b'{"sta'), r", line 6: .*half a line"),
    "half of the last line": (NUMBERS, TRUNCATED, r", line 5: .*half a line"),
    "broken middle line": (NUMBERS, BROKEN, r", line 2: expected JSON"),
    "the last line gone": (NUMBERS, _lines(lambda s: s[:-1]), r", line 5: .*found the end"),
    "a line more": (NUMBERS, _lines(lambda s: [*s, s[0]]), r", line 6: .*another line"),
    "record file gone": (NUMBERS, remove, r": expected .*, found no"),
    "truncated weights": (WEIGHTS, TRUNCATED, r": expected \d+ bytes of weights, found \d+"),
    "empty weights": (WEIGHTS, _raw(lambda raw: b""), r": expected weights .*, found 0 bytes"),
    "model gone": (str(Path(WEIGHTS).parent), remove, r"expected .*, found none"),
    "status no JSON": (STATUS, TRUNCATED, ": expected JSON"),
    "status gone": (STATUS, remove, ": expected .*, found no"),
    "stage gone": (str(Path(STATUS).parent), remove, "status.json: expected .*, found no file"),
    "stage's settings no JSON": ("stages/01-records/config.json", TRUNCATED, ": expected JSON"),
    "commits no JSON": ("stages/01-records/commits.jsonl", BROKEN, ", line 2: expected JSON"),
    "half a commit": ("stages/01-records/commits.jsonl", TRUNCATED, ", line 2: .*half a line"),
    "commits gone": ("stages/01-records/commits.jsonl", remove, ": expected .*, found none"),
    "manifest no JSON": ("manifest.json", TRUNCATED, ": expected JSON"),
    "manifest gone": ("manifest.json", remove, ": expected a JSON file, found none"),
    "config no YAML": ("config.yaml", _raw(lambda raw: b"a: [\n" + raw), ": expected YAML"),
    "config gone": ("config.yaml", remove, ": expected .*, found none"),
    "events: broken line": ("events.jsonl", BROKEN, ", line 2: expected JSON"),
    "events gone": ("events.jsonl", remove, ": expected the run's events, found no file"),
}
"""Found in runs of version 0.1 too, which have no hashes."""

ONLY_BY_HASH = {
    "altered record": (NUMBERS, ALTERED, ", line 2: .*the record that was written, found another"),
    "two lines exchanged": (NUMBERS, _lines(lambda s: [s[1], s[0], *s[2:]]), ", line 1: .*another"),
    "altered weights": (WEIGHTS, _raw(lambda r: r[:-1] + b"\x01"), ": .*found another content"),
    "altered status": (STATUS, _raw(lambda r: r.replace(b'"tokens": 2', b'"tokens": 3')), ": .*an"),
    "altered manifest": ("manifest.json", _raw(lambda r: r.replace(b"toy", b"joy")), ": .*another"),
    "altered settings": ("config.yaml", _raw(lambda r: r.replace(b"0.1", b"0.2")), ": .*another"),
    "records of nobody": (STATUS, lambda f: f.with_name("x.jsonl").write_text("{}\n"), "found one"),
}


def without_hashes(path: Path) -> None:
    """Make a run what version 0.1 left."""
    for file in (path / "manifest.json", *path.rglob("status.json")):
        plain = read_json(file)
        write_json(file, {k: v for k, v in plain.items() if k not in ("sha256", "files")})
    for name, keys in (("commits.jsonl", ["crc32"]), ("events.jsonl", ["manifest", "content"])):
        for file in path.rglob(name):
            rows = [json.loads(line) for line in file.read_text().splitlines()]
            rows = [{k: v for k, v in row.items() if k not in keys} for row in rows]
            rows = [row for row in rows if row.get("event") != "inputs"]
            file.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize("name", [*STRUCTURAL, *ONLY_BY_HASH])
def test_damage_is_told_read_by_nobody_and_repaired(tmp_path, name):
    file, harm, told = {**STRUCTURAL, **ONLY_BY_HASH}[name]
    path = work(tmp_path / "r").path
    whole = state(path)
    harm(path / file)
    damaged = {f: f.read_bytes() for f in path.rglob("*") if f.is_file()}
    for reader in (read_run, work):
        with pytest.raises(BadInput, match=told) as error:
            reader(path)
        assert str(path / Path(file).parent) in str(error.value)
        assert "--repair" in str(error.value)
        assert "\n" not in str(error.value)
    assert damaged == {f: f.read_bytes() for f in path.rglob("*") if f.is_file()}
    work(path, repair=True)
    assert state(path) == whole
    assert read_run(path).finished
    work(path)


@pytest.mark.parametrize("name", STRUCTURAL)
def test_damage_of_an_older_run_is_told_by_its_structure(tmp_path, name):
    file, harm, _ = STRUCTURAL[name]
    path = work(tmp_path / "r").path
    without_hashes(path)
    harm(path / file)
    for reader in (read_run, work):
        with pytest.raises(BadInput, match=re.escape(Path(file).name) + ".*--repair"):
            reader(path)
    work(path, repair=True)
    assert (path / NUMBERS).read_text().count("\n") == 5


def test_an_older_run_is_read_and_resumed(tmp_path):
    path = work(tmp_path / "r").path
    whole = state(path)
    without_hashes(path)
    assert read_run(path).finished
    work(path)
    assert state(path) == whole
    shutil.rmtree(tmp_path / "r")
    with pytest.raises(RuntimeError, match="killed"):
        work(path, stop=True)
    without_hashes(path)
    work(path)
    assert (path / NUMBERS).read_bytes() == whole[NUMBERS]


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (ALTERED, "line 2: .*the record that was written, found another"),
        (BROKEN, "line 2: expected JSON"),
        (_lines(lambda s: s[:3]), "line 4: .*found the end"),
        (remove, "expected .* bytes of records, found no file"),
    ],
)
def test_committed_records_of_a_killed_run_are_held_against_their_checksums(tmp_path, harm, told):
    whole = state(work(tmp_path / "whole").path)
    path = tmp_path / "r"
    with pytest.raises(RuntimeError, match="killed"):
        work(path, stop=True)
    harm(path / NUMBERS)
    for reader in (read_run, work):
        with pytest.raises(BadInput, match=told):
            reader(path)
    work(path, repair=True)
    assert (path / NUMBERS).read_bytes() == whole[NUMBERS]


def test_what_was_made_from_other_records_is_done_again(tmp_path, caplog):
    path = work(tmp_path / "r").path
    trained = read_json(path / "stages/branch/01-train/status.json")
    assert '"kept": 33' in (path / "stages/02-results/totals.jsonl").read_text()
    ALTERED(path / NUMBERS)
    with caplog.at_level(logging.WARNING):
        work(path, repair=True)
    assert "done again" not in caplog.text  # the records came out as they were
    assert read_json(path / "stages/branch/01-train/status.json") == trained
    remove(path / "stages/01-records")
    with caplog.at_level(logging.WARNING):
        work(path, repair=True, word="longer than plain")
    assert "2 later stages were made from" in caplog.text
    assert '"kept": 45' in (path / "stages/02-results/totals.jsonl").read_text()
    assert read_run(path).finished
    work(path, word="longer than plain")


def test_a_kill_while_stages_are_emptied_is_made_good(tmp_path, monkeypatch):
    path = work(tmp_path / "r").path
    remove(path / "stages/01-records")

    def killed(folder: Path) -> None:
        if folder.name == "02-results":
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("alignlab.redo._empty", killed)
        with pytest.raises(KeyboardInterrupt):
            work(path, repair=True, word="longer than plain")
    work(path, word="longer than plain")
    assert '"kept": 45' in (path / "stages/02-results/totals.jsonl").read_text()


def test_checkpoints_of_a_killed_training_must_be_whole(tmp_path):
    """github.com/vllm-project/speculators/pull/739, github.com/bghira/SimpleTuner/issues/2613."""
    path = tmp_path / "r"
    run = Run.start(path, RunIdentity("toy", {}, (0,)))
    stage = run.stage("train").__enter__()
    folder = stage.path / "checkpoint-2"
    folder.mkdir()
    save_file({"w": torch.zeros(8)}, folder / "training_state.safetensors")
    (folder / "training_state.json").write_text('{"step": 2}')
    stage.__exit__(RuntimeError, RuntimeError(), None)
    run.close()
    Run.start(path, RunIdentity("toy", {}, (0,))).close()
    TRUNCATED(folder / "training_state.safetensors")
    with pytest.raises(BadInput, match=r"checkpoint-2/training_state.safetensors: .* bytes"):
        Run.start(path, RunIdentity("toy", {}, (0,)))
    Run.start(path, RunIdentity("toy", {}, (0,)), repair=True).close()
    assert not folder.exists()


def test_a_large_file_that_nobody_wrote_since_is_hashed_on_resume_alone(tmp_path, monkeypatch):
    path = work(tmp_path / "r").path
    monkeypatch.setattr("alignlab.stage_integrity.LARGE", 8)
    read = []
    monkeypatch.setattr(
        "alignlab.stage_integrity.file_digest", lambda f: read.append(f.name) or "other"
    )
    with pytest.raises(BadInput):
        read_run(path)
    assert "model.safetensors" not in read
    with pytest.raises(BadInput):
        work(path)
    assert "model.safetensors" in read
    TRUNCATED(path / WEIGHTS)
    with pytest.raises(BadInput):
        read_run(path)
