"""The command line: what it prints, and the exit code it ends with."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from alignlab import cli, registry
from alignlab.errors import BadInput, RunFailed
from tests.conftest import ROOT
from tests.recipes.small import SMALL, once


def test_a_real_process_prints_its_help():
    done = subprocess.run(
        [sys.executable, "-m", "alignlab", "--help"],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, "NO_COLOR": "1"},
    )
    assert (done.returncode, done.stderr) == (0, "")
    for command in ("demo", "run", "check", "report", "compare", "evaluate", "list", "doctor"):
        assert command in done.stdout


@pytest.mark.parametrize(
    "command", ["demo", "run", "check", "report", "compare", "evaluate", "list", "doctor"]
)
def test_every_command_shows_an_example(alignlab, command: str):
    ended = alignlab(command, "--help")
    assert ended.code == 0
    assert f"Example: alignlab {command}" in " ".join(ended.out.split())


def test_list_names_every_recipe_with_its_question(alignlab):
    ended = alignlab("list", "recipes")
    assert ended.code == 0
    names = [line.split()[0] for line in ended.out.splitlines()]
    assert names == registry.names("recipe")
    assert json.loads(alignlab("list", "recipes", "--json").out).keys() == set(names)


@pytest.mark.parametrize("what", ["objectives", "feedback", "engines", "data"])
def test_every_part_has_a_line_about_it(alignlab, what: str):
    parts = json.loads(alignlab("list", what, "--json").out)
    assert parts
    assert all(parts.values()), parts


@pytest.mark.parametrize("recipe", registry.names("recipe"))
def test_every_setting_has_a_sentence(alignlab, recipe: str):
    ended = alignlab("run", recipe, "--options")
    assert ended.code == 0
    for setting in ("model", "sft.lr", "judge.method", "propose.filters.max_similarity"):
        assert f"\n{setting} " in ended.out
    lines = [line.split(None, 1) for line in ended.out.splitlines() if line[:1].isalpha()]
    assert all(len(line) == 2 for line in lines)


def test_run_report_and_compare(alignlab, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALIGNLAB_CACHE", str(tmp_path / "cache"))
    settings = once(*SMALL, "propose.n=8", "sample.max_tokens=16")
    first = alignlab("run", "teacher_demonstration", "out=a", *settings)
    assert first.code == 0
    assert "  against M1 " in first.out
    assert (tmp_path / "a/report.html").as_uri() in first.out
    outcome = json.loads(Path("a/manifest.json").read_text())["outcome"]
    assert outcome["predicted_seconds"] > 0
    assert outcome["peak_gigabytes"] > 0.1
    assert outcome["error"] == pytest.approx(outcome["predicted_seconds"] / outcome["seconds"] - 1)
    page = Path("a/report.html").read_text()
    assert "Plan and outcome" in page
    Path("settings.yaml").write_text("out: b\nseed: 1\n")
    assert "No judge card" not in page  # its judge is the truth
    quiet = ("--config", "settings.yaml", "--quiet", "measure.judge=longer")
    second = alignlab("run", "teacher_demonstration", *quiet, *settings)
    assert (second.code, second.out, second.err) == (0, "b/report.html\n", "")
    assert json.loads(Path("b/summary.json").read_text())["seed"] == 1
    assert "No judge card: whether longer is fit" in Path("b/report.html").read_text()
    Path("a/report.html").unlink()
    assert alignlab("report", "a").out == "report: a/report.html\n"
    assert Path("a/report.html").exists()
    both = alignlab("compare", "a", "b")
    assert both.code == 0
    assert Path(both.out.splitlines()[-1].removeprefix("report: ")).exists()


def test_a_study_that_could_not_be_judged_fails(alignlab, tmp_path):
    mute = "llm,prompt=additive_five_point,samples=1,max_tokens=1:sandbox:weak"
    out = tmp_path / "run"
    settings = once(*SMALL, f"measure.judge={mute}", "measure.truth=", "propose.n=8")
    ended = alignlab("run", "teacher_demonstration", f"out={out}", *settings)
    assert ended.code == 1
    assert "no held-out answer could be judged (no readable score" in ended.err
    assert (out / "report.html").exists()


def test_a_preset_lies_under_the_settings(alignlab, tmp_path):
    ended = alignlab("check", "self_rewarding", "propose.n=7", "--json", f"out={tmp_path / 'r'}")
    plan = json.loads(ended.out)
    assert plan["preset"] == "sandbox"
    assert not (tmp_path / "r").exists()


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (BadInput("data.jsonl, line 3:\n expected this"), 2, "data.jsonl, line 3: expected this"),
        (RunFailed("the budget is spent"), 1, "the budget is spent"),
        (KeyboardInterrupt(), 1, "stopped; the same command resumes where it stopped"),
        (OSError(errno.ENOSPC, "No space left on device", "f"), 2, "f: no space left"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), 2, "the output folder: no space left"),
        (RuntimeError("I/O error: No space left on device (os error 28)"), 2, "no space left on"),
        (RuntimeError("I/O error: File too large (os error 27)"), 2, "cannot be written"),
        (OSError(errno.EFBIG, "File too large", "f"), 2, "f: cannot be written"),
        (PermissionError(errno.EACCES, "Permission denied", "f"), 2, "f: cannot be written"),
        (OSError(errno.EROFS, "Read-only file system", "f"), 2, "f: cannot be written"),
    ],
)
def test_errors_are_one_line_and_a_code(alignlab, monkeypatch, error, code: int, says: str):
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    ended = alignlab("run")
    assert ended.code == code
    assert says in ended.line


def test_our_own_bugs_keep_their_traceback(alignlab, monkeypatch):
    def fail(**_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(ZeroDivisionError):
        alignlab("run")


def test_judges_and_rewards_are_listed_as_sources_of_feedback(alignlab):
    feedback = alignlab("list", "feedback").out
    assert alignlab("list", "rewards").out == alignlab("list", "judges").out == feedback


@pytest.mark.parametrize("words", [("run", "compare_feedback", "out="), ("data", "check", "")])
def test_a_path_that_no_file_can_have_is_refused_in_one_line(alignlab, words):
    ended = alignlab(*words[:-1], words[-1] + "x" * 300)
    assert ended.code == 2
    assert ended.line.endswith("expected a path (file name too long)")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("judge", "--judge", "longer", "--judge", "random", "--responses", "d"), "--judge"),
        (("compare", "a", "b", "--out", "c.html", "--out", "d.html"), "--out"),
    ],
)  # fmt: skip
def test_an_option_given_twice_is_refused(alignlab, tmp_path, monkeypatch, words, says):
    monkeypatch.chdir(tmp_path)
    ended = alignlab(*words)
    assert ended.code == 2
    assert f"{says}: expected one value, found" in ended.line
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("place", ["/proc/none", "/proc/none/below", "file", "file/below"])
@pytest.mark.parametrize(
    "words",
    [
        ("judge", "--judge", "longer", "--responses", "pairs.jsonl", "--out", "{}/x.jsonl"),
        ("data", "convert", "pairs.jsonl", "{}/x.jsonl", "--to", "preference"),
        ("annotations", "export", "pairs.jsonl", "{}/x.csv"),
        ("judge-card", "longer", "--data", "pairs.jsonl", "--out", "{}"),
        ("evaluate", "reward_accuracy", "--data", "pairs.jsonl", "--judge", "longer",
         "--out", "{}"),
        ("run", "alternating", "model=sandbox:knows_all", "data=sandbox", "out={}"),
    ],
    ids=lambda words: words[0],
)  # fmt: skip
def test_a_folder_that_cannot_be_made_is_one_line(alignlab, tmp_path, monkeypatch, words, place):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    pair = {"prompt": "Why?", "chosen": "because", "rejected": "no"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    before = sorted(tmp_path.rglob("*"))
    ended = alignlab(*(word.format(place) for word in words))
    assert ended.code == 2
    folder, kind = ("file", "found a file") if "file" in place else ("/proc/none", "")
    assert ended.line.startswith(f"alignlab: {folder}") or f"/{folder}: " in ended.line
    assert kind in ended.line or "cannot be written" in ended.line
    assert sorted(tmp_path.rglob("*")) == before
