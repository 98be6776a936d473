"""Damaged runs of single commands: named by file and line, repaired by the same command."""

import json
from pathlib import Path

import pytest

from alignlab.models.load import save
from tests.models.helpers import tiny_lm


def jsonl(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return save(tiny_lm(scale=1.0), tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def command(request, model, tmp_path):
    """A command line and its run directory."""
    pairs = [{"prompt": f"p{i}", "chosen": "word " * (2 + i), "rejected": "word"} for i in range(6)]
    answers = [
        {"prompt": f"p{i}", "completion": "word " * (k + 1)} for i in range(3) for k in range(2)
    ]
    data = jsonl(tmp_path / "pairs.jsonl", *pairs)
    given = jsonl(tmp_path / "given.jsonl", *answers)
    out = tmp_path / "out.jsonl"
    lines = {
        "generate": ["generate", "--model", "sandbox:weak", "--prompts", given, "--out", out],
        "judge": ["judge", "--judge", "longer", "--responses", given, "--out", out],
        "reward": ["reward", "--reward", "random", "--responses", given, "--out", out],
        "train": ["train", "dpo", "--model", model, "--data", data, "--out", tmp_path / "run",
                  "batch_size=3", "epochs=1", "threads=1", "device=cpu", "save_every=0"],
        "evaluate": ["evaluate", "reward_accuracy", "--judge", "longer", "--data", data, "--out",
                     tmp_path / "run"],
        "judge-card": ["judge-card", "--judge", "longer", "--data", data, "--out",
                       tmp_path / "run"],
    }  # fmt: skip
    name = request.param
    is_file = name in ("generate", "judge", "reward")
    return lines[name], (tmp_path / "out.jsonl.run" if is_file else tmp_path / "run")


def cut(run: Path) -> str:
    """Cut the last line of the last finished stage's first file of records."""
    file = [f for f in sorted((run / "stages").rglob("*.jsonl")) if f.name != "commits.jsonl"][-1]
    file.write_bytes(file.read_bytes()[:-5])
    return file.name


def remove(name: str):
    def removed(run: Path) -> str:
        (run / name).unlink()
        return name

    return removed


def alter_manifest(run: Path) -> str:
    file = run / "manifest.json"
    file.write_text(file.read_text().replace('"seeds"', '"seats"'))
    return file.name


def weights(run: Path) -> str:
    files = sorted((run / "stages").rglob("*.safetensors")) or sorted(
        (run / "stages").rglob("status.json")
    )
    files[0].write_bytes(files[0].read_bytes()[:-4])
    return files[0].name


def records_of(run: Path) -> dict[str, bytes]:
    return {
        str(f.relative_to(run)): f.read_bytes()
        for f in run.rglob("*")
        if f.suffix in (".jsonl", ".safetensors")
        and f.name not in ("commits.jsonl", "metrics.jsonl", "events.jsonl")
    }


@pytest.mark.parametrize(
    "command",
    ["generate", "judge", "reward", "train", "evaluate", "judge-card"],
    indirect=True,
)
def test_a_damaged_run_is_told_and_repaired_by_its_command(alignlab, command):
    line, run = command
    ended = alignlab(*line)
    assert ended.code == 0, ended.err
    whole = records_of(run)
    for harm in (cut, remove("config.yaml"), remove("manifest.json"), alter_manifest, weights):
        name = harm(run)
        ended = alignlab(*line)
        assert (ended.code, name in ended.line) == (2, True), (name, ended.err)
        assert "--repair computes what is damaged again" in ended.line
        ended = alignlab(*line, "--repair")
        assert ended.code == 0, (name, ended.err)
        assert records_of(run) == whole
        assert alignlab(*line).code == 0
