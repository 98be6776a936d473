"""What users get wrong: one clear line on stderr, exit code 2, no traceback, nothing lost."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from alignlab.records import read_records
from alignlab.sandbox import checkpoint_path
from alignlab.types import Feedback, Response, Score, Unscored
from tests.conftest import ROOT
from tests.recipes import kill_resume
from tests.recipes.small import SMALL, once

GOOD = [{"prompt": f"What is {i}?", "completion": f"It is {i}."} for i in range(10)]


def jsonl(path: Path, rows: Sequence[dict[str, str]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def without_completion(path: Path) -> Path:
    return jsonl(path, [*GOOD[:6], {"prompt": "What is 6?"}, *GOOD[7:]])


def broken_utf8(path: Path) -> Path:
    path.write_bytes(json.dumps(GOOD[0]).encode() + b'\n{"prompt": "\xff", "completion": "b"}\n')
    return path


def empty(path: Path) -> Path:
    path.write_text("")
    return path


def absent(path: Path) -> Path:
    return path


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(
    ("make", "says"),
    [
        (empty, "data.jsonl: expected at least one record, found an empty file"),
        (without_completion, "data.jsonl, line 7, field 'completion': expected text, found no"),
        (broken_utf8, "data.jsonl, line 2: expected UTF-8 text, found byte 0xff"),
        (absent, "data.jsonl: expected a file, a folder or a hub id"),
    ],
)
def test_bad_data(alignlab, tmp_path, command: str, make: Callable[[Path], Path], says: str):
    data = make(tmp_path / "data.jsonl")
    ended = alignlab(command, "self_rewarding", f"data={data}", f"out={tmp_path / 'run'}", *SMALL)
    assert ended.code == 2
    assert says in ended.line
    assert str(tmp_path) in ended.line


def test_a_data_check_lists_the_bad_records_and_ends_with_2(alignlab, tmp_path):
    ended = alignlab("data", "check", str(without_completion(tmp_path / "data.jsonl")))
    assert ended.code == 2
    assert "line 7, field 'completion'" in ended.out


@pytest.mark.parametrize("command", ["run", "check"])
@pytest.mark.parametrize(
    ("setting", "says"),
    [
        ("model={tmp}/none", "/none: expected a model folder or a hub id, found no such folder"),
        ("model=local:{tmp}", "expected a model folder or a hub id, found the spec of an engine"),
        ("model=sandbox:knows_al", "unknown sandbox checkpoint 'knows_al'; did you mean"),
        ("model={tmp}/bare", "/bare: the tokenizer has no chat template; choose chat_template="),
        ("chat_template={tmp}/none", "/none: expected chat_template="),
        ("sft.warm_ratio=0.1", "unknown setting 'sft.warm_ratio'; did you mean 'sft.warmup_ratio'"),
        ("sft.epochs=many", "setting sft.epochs: expected a whole number, found 'many'"),
        ("sft.epochs=0", "epochs: expected 1 or more, found 0"),
        ("sft.quant=nf4", "quant: expected lora with it (quantised weights are not trained"),
        ("track=mlflow", "setting track: expected none, tensorboard, wandb or trackio"),
        ("seeds=0", "setting seeds: expected 1 or more, found 0"),
        ("iterations=0", "setting iterations: expected 1 or more, found 0"),
        ("sample.n=0", "setting sample.n: expected 1 or more, found 0"),
        ("corpus.test_prompts=-1", "setting corpus.test_prompts: expected 0 or more, found -1"),
        ("eft.balance=0", "setting eft.balance: expected above 0, found 0"),
        ("pairs.keep=best", "setting pairs.keep: expected best_worst, all or winners"),
        ("preset=tiny", "setting preset: expected auto, sandbox, quick, small"),
        ("objective.name=dop", "unknown objective 'dop'; did you mean 'dpo'?"),
        (
            "objective.options.bta=1",
            "unknown setting 'objective.options.bta'; did you mean 'objective.options.beta'?",
        ),
        (
            "objective.beta=1",
            "unknown setting 'objective.beta'; did you mean 'objective.options.beta'?",
        ),
        ("objective.nam=ipo", "unknown setting 'objective.nam'; did you mean 'objective.name'?"),
        ("loss_type=ipo", "unknown setting 'loss_type'; did you mean 'objective.name'?"),
        ("judge.prompt=short", "unknown judge prompt 'short'; did you mean 'short_score'?"),
        ("measure.judge=sandbox:orcle", "unknown sandbox feedback 'orcle'; did you mean 'oracle'?"),
        ("hardware.device=quantum", "device: expected auto, cpu or cuda, found 'quantum'"),
        ("hardware.dtype=float7", "setting hardware.dtype: expected one of auto, float32"),
        ("sft", "expected key=value, found 'sft'"),
    ],
)
def test_bad_settings(alignlab, tmp_path, command: str, setting: str, says: str):
    bare = shutil.copytree(checkpoint_path("knows_all"), tmp_path / "bare")
    (bare / "chat_template.jinja").unlink()
    ended = alignlab(
        command,
        "self_rewarding",
        *once("preset=sandbox", *SMALL, f"out={tmp_path / 'run'}", setting.format(tmp=tmp_path)),
    )
    assert ended.code == 2
    assert says in ended.line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("run", "self_rewardin"), "unknown recipe 'self_rewardin'; did you mean 'self_rewarding'"),
        (("run",), "Missing argument"),
        (("run", "compare", "--fast"), "No such option"),
        (("train", "dpo", "--lr", "1e-6"), "settings are given without dashes, as lr=VALUE"),
        (("judge", "responses=r", "--judge", "longer"), "judge: expected --responses r, found"),
        (("judge", "--judge", "longer", "--data", "d"), "did you mean --responses?"),
        (("generate", "--model", "m", "--data", "d"), "did you mean --prompts?"),
        (("train", "dpo", "model=m", "data=d"), "train: expected --model m, found model=m"),
        (
            ("train", "dpo", "--model", "m", "--data", "d", "out=x"),
            "train: expected --out x, found out=x",
        ),
        (
            ("train", "dpo", "--model", "m", "--data", "d", "loss_type=ipo"),
            "unknown setting 'loss_type'; did you mean \"the objective's name\"?",
        ),
        (("check", "compare_feedback", "rough=true"), "check: expected --rough, found rough=true"),
        (
            ("check", "compare_feedback", "--model", "sandbox:knows_all", "model=m"),
            "check: expected --model or model=, found both",
        ),
        (
            ("check", "compare_feedback", "sample=20"),
            "setting sample: expected settings by name ({NAME: VALUE}), found 20",
        ),
        (("run", "alternating", "sentences="), "setting sentences: expected a judge of sentences"),
        (
            ("run", "relevance_reward", "rewards=[r3]"),
            "setting rewards: expected REWARD:OBJECTIVE (r3:rloo), found 'r3'",
        ),
        (
            ("run", "relevance_reward", "sources.rm=", "rewards=[rm:rloo]"),
            "setting sources.rm: expected a feedback source, found none",
        ),
        (("run", "compare", "branches=[teacher]"), "unknown branch 'teacher'; did you mean"),
        (("run", "compare", "--config", "none.yaml"), "none.yaml: no such configuration file"),
        (("rum", "compare"), "No such command 'rum'"),
        (("report", "none"), "none: expected a run directory (with manifest.json)"),
        (("compare", "none"), "expected two or more run directories, found 1"),
        (("list", "recipe"), "unknown list 'recipe'; did you mean 'recipes'?"),
        (("evaluate", "judges"), "unknown benchmark 'judges'; did you mean 'judge_scores'?"),
    ],
)
def test_bad_arguments(alignlab, arguments: tuple[str, ...], says: str):
    ended = alignlab(*arguments)
    assert ended.code == 2
    assert says in ended.line


@pytest.mark.parametrize(
    ("teacher", "says"),
    [
        ("openai:gpt-x", "https://api.openai.com/v1: expected a key in OPENAI_API_KEY"),
        ("scripted:/none.jsonl", "/none.jsonl: expected a JSONL file"),
        ("local:/none", "/none: expected a model folder or a hub id, found no such folder"),
        ("strong", "engine 'strong': expected NAME:REST"),
        ("sandbox:stronk", "did you mean 'strong'?"),
    ],
)
def test_teachers_that_cannot_be_made_are_told_before_any_work(
    alignlab, tmp_path, monkeypatch, teacher: str, says: str
):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    out = tmp_path / "run"
    ended = alignlab("run", "teacher_reward", f"teacher={teacher}", f"out={out}", *SMALL)
    assert ended.code == 2
    assert says in ended.line
    assert not out.exists()


def test_expected_scores_need_log_probabilities(alignlab, tmp_path):
    script = jsonl(tmp_path / "said.jsonl", [])
    ended = alignlab(
        "run", "teacher_reward", f"teacher=scripted:{script}", "critic.method=expected", *SMALL
    )
    assert ended.code == 2
    assert "the expected score needs log-probabilities" in ended.line


@pytest.mark.parametrize("command", ["run", "check"])
def test_an_output_folder_below_a_file(alignlab, tmp_path, command: str):
    (tmp_path / "file").write_text("precious")
    for out in (tmp_path / "file", tmp_path / "file" / "deep" / "run"):
        ended = alignlab(command, "self_rewarding", f"out={out}", *SMALL)
        assert ended.code == 2
        assert f"{tmp_path / 'file'}: expected a folder, found a file" in ended.line
    assert (tmp_path / "file").read_text() == "precious"


def test_a_folder_of_other_things_is_left_alone(alignlab, tmp_path):
    (tmp_path / "thesis.tex").write_text("precious")
    ended = alignlab("run", "self_rewarding", f"out={tmp_path}", *SMALL)
    assert ended.code == 2
    assert "expected a run directory or an empty folder, found a full one" in ended.line
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.tex"]


class Disk:
    """A small file system in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir()
        self._mount("-t", "tmpfs", "tmpfs")

    def remount(self, options: str) -> None:
        self._mount("-o", f"remount,{options}")

    def close(self) -> None:
        # Lazily: this process may still have a model's file mapped.
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)

    def _mount(self, *arguments: str) -> None:
        done = subprocess.run(
            ["mount", *arguments, str(self.path)], capture_output=True, text=True, check=False
        )
        if done.returncode:
            pytest.skip(f"mounting a file system failed: {done.stderr.strip()}")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small file system")
    made = Disk(tmp_path / "disk")
    yield made
    made.close()


@pytest.mark.parametrize("command", ["run", "check"])
def test_a_folder_that_cannot_be_written(alignlab, disk: Disk, command: str):
    disk.remount("ro")
    ended = alignlab(command, "self_rewarding", f"out={disk.path / 'run'}", *SMALL)
    assert ended.code == 2
    assert str(disk.path) in ended.line
    assert "cannot" in ended.line


def test_a_full_disk_loses_nothing(alignlab, disk: Disk, tmp_path):
    """It fills up again and again at another place; each time the same command goes on."""
    command = ("run", "self_rewarding", "iterations=1", *SMALL)
    full = 0
    for kilobytes in (40, 400, 4500, 8200, 64_000):
        disk.remount(f"size={kilobytes}k")
        ended = alignlab(*command, f"out={disk.path / 'run'}")
        if ended.code == 0:
            break
        full += 1
        assert ended.code == 2, ended.err
        assert "no space left on the device" in ended.line
    assert ended.code == 0, ended.err
    assert full >= 3
    assert alignlab(*command, f"out={tmp_path / 'run'}").code == 0
    expected = kill_resume.contents(tmp_path / "run")
    assert kill_resume.differences(expected, kill_resume.contents(disk.path / "run")) == ()


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished study of a teacher's judgements, by a real process."""
    out = tmp_path_factory.mktemp("judged") / "run"
    kill_resume.finish(("teacher_reward", *SMALL), out)
    return out


def read(run: Path, name: str, cls: type) -> list:
    """Records of the feedback round's stage of that name."""
    (file,) = run.glob(f"stages/iteration-1/*-{name}")
    return list(read_records(file, cls))


def test_a_run_of_other_settings_is_left_alone(judged, tmp_path):
    """By a real process, as users have it."""
    before = kill_resume.contents(judged)
    done = subprocess.run(
        [
            *(sys.executable, "-m", "alignlab", "run", "teacher_reward"),
            *(*SMALL, "sft.lr=0.1", f"out={judged}"),
        ],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert re.search(r"run was started with sft.lr=[\d.e-]+, found 0.1; use another out=", line)
    assert kill_resume.differences(before, kill_resume.contents(judged)) == ()


def script(judged: Path, path: Path, answer: Callable[[int], str]) -> str:
    """A teacher that says of the i-th response what `answer` gives."""
    responses = read(judged, "sample/responses.jsonl", Response)
    rows = [
        {"id": f"judge|{response.id}", "texts": [answer(i)] * 2}
        for i, response in enumerate(responses)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return f"teacher=scripted:{path}"


def test_a_judge_of_nonsense_ends_the_run_and_keeps_the_records(alignlab, judged, tmp_path):
    teacher = script(judged, tmp_path / "said.jsonl", lambda i: "I rather like it, 4 stars.")
    out = tmp_path / "run"
    ended = alignlab("run", "teacher_reward", teacher, f"out={out}", *SMALL)
    assert ended.code == 1
    assert "left no two responses of which one is better" in ended.line
    feedback = read(out, "judge/feedback.jsonl", Feedback)
    assert len(feedback) == len(read(judged, "judge/feedback.jsonl", Feedback))
    assert {type(f.verdict) for f in feedback} == {Unscored}
    assert all(f.raw == ("I rather like it, 4 stars.",) * 2 for f in feedback)


def test_what_cannot_be_read_is_unscored_and_counted(alignlab, judged, tmp_path):
    def say(i: int) -> str:
        return "No comment." if i % 2 else f"Clear. Score: {i // 2 % 6}"

    out = tmp_path / "run"
    teacher = script(judged, tmp_path / "said.jsonl", say)
    assert alignlab("run", "teacher_reward", teacher, f"out={out}", *SMALL).code == 0
    feedback = read(out, "judge/feedback.jsonl", Feedback)
    for i, f in enumerate(feedback):
        if i % 2:
            assert f.verdict == Unscored("no readable score in any sample")
        else:
            assert f.verdict == Score(float(i // 2 % 6), (float(i // 2 % 6),) * 2)
    counts = json.loads((out / "manifest.json").read_text())["counts"]
    (verdicts,) = [c for c in counts if "iteration-1" in c["stage"] and c["what"] == "verdicts"]
    unscored = len(feedback) // 2
    assert verdicts["kept"] == len(feedback) - unscored
    assert verdicts["dropped"] == {"no readable score in any sample": unscored}
    rows = json.loads((out / "summary.json").read_text())["rows"]
    judge_rows = [r for r in rows if r["model"].startswith("scripted:") and r["unscored"]]
    assert judge_rows
