"""Help, lists, settings and misspelt names import neither models nor numerics."""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap

import pytest

from alignlab import registry
from alignlab.api import settings
from alignlab.command_table import COMMANDS
from tests.conftest import ROOT

QUICK = (
    ["--help"],
    ["train", "--help"],
    *(["list", kind] for kind in ("recipes", "objectives", "feedback", "engines", "benchmarks")),
    ["list", "data"],
    ["run", "self_rewarding", "--options"],
    ["train", "ppo", "--options"],
    ["judge", "--judge", "llm:x", "--options"],
    ["evaluate", "mt_bench", "--options"],
    ["annotations", "export", "x", "--options"],
    ["trian", "dpo"],
    ["run", "self_rewardin"],
    ["check", "self_rewarding", "iteration=1"],
    ["run", "self_rewarding", "objective.options.bta=1"],
    ["train", "dpoo", "--model", "m", "--data", "d"],
    ["train", "dpo", "--model", "m", "--data", "d", "objective.bta=1"],
    ["train", "dpo", "--modle", "m"],
    ["generate", "--model", "m", "--prompts", "p", "max_token=3"],
    ["judge", "--judge", "longr", "--responses", "r"],
    ["evaluate", "mt_bnch", "--model", "m"],
    ["evaluate", "mt_bench", "--model", "m", "limt=3"],
    ["list", "recipe"],
)
SCRIPT = """
    import contextlib, io, json, sys
    from alignlab import cli
    ended = []
    for arguments in json.loads(sys.argv[1]):
        sys.argv[1:] = arguments
        out, err, code = io.StringIO(), io.StringIO(), 0
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                cli.main()
            except SystemExit as end:
                code = end.code
        heavy = {"torch", "transformers", "numpy", "scipy", "pyarrow"} & sys.modules.keys()
        ended.append([code, out.getvalue(), err.getvalue(), sorted(heavy)])
    print(json.dumps(ended))
"""


@pytest.fixture(scope="module")
def ended() -> dict[tuple[str, ...], tuple[int, str, str, list[str]]]:
    """How each command ended, all in one process."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(SCRIPT), json.dumps(QUICK)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return dict(zip(map(tuple, QUICK), map(tuple, json.loads(done.stdout)), strict=True))


@pytest.mark.parametrize("arguments", map(tuple, QUICK), ids=" ".join)
def test_nothing_heavy_is_imported(ended, arguments: tuple[str, ...]):
    code, out, err, heavy = ended[arguments]
    assert heavy == []
    right = "--help" in arguments or "--options" in arguments or arguments[-1] in (
        "recipes", "objectives", "feedback", "engines", "benchmarks", "data",
    )  # fmt: skip
    if right:
        assert (code, err) == (0, "")
        assert out
    else:
        assert code == 2
        assert len(err.splitlines()) == 1
        assert "did you mean" in err.lower() or "possible options" in err.lower()


def test_options_show_true_defaults_and_every_setting(ended):
    shown = ended["run", "self_rewarding", "--options"][1]
    lines = {line.split()[0]: line for line in shown.splitlines() if line[:1].isalpha()}
    assert "preference.lora.r" in lines
    assert lines["preset"].split()[1] == "sandbox"
    assert lines["sft.epochs"].split()[1] == "3"  # the preset's, not the class's
    assert "hub[" not in shown
    assert "'alignlab[track]'" in " ".join(shown.split())  # square brackets are text
    assert "train[:100]" not in shown


def test_options_follow_the_model_and_the_preset(alignlab):
    shown = alignlab("run", "compare", "--options").out
    lines = {line.split()[0]: line.split() for line in shown.splitlines() if line[:1].isalpha()}
    assert lines["expected.method"][1] == "expected"
    assert lines["objective.options"][1] == "{'beta':"
    poster = alignlab("run", "compare", "--options", "preset=poster").out
    known = {line.split()[0]: line.split() for line in poster.splitlines() if line[:1].isalpha()}
    assert known["preset"][1] == "poster"
    assert known["preference.lora"][1].startswith("{")
    paper = alignlab("run", "compare", "--options", "--model", "org/of-the-hub").out
    assert "preset paper" in paper


def test_every_benchmark_listed_can_be_run_and_no_other(alignlab):
    listed = json.loads(alignlab("list", "benchmarks", "--json").out)
    runs = {
        name
        for name in (*registry.names("benchmark"), *listed, "judge_scores", "reread")
        if "unknown benchmark" not in alignlab("evaluate", name, "--model", "m", "limt=1").err
    }
    assert listed.keys() == runs
    assert listed.keys() == settings.benchmarks().keys()
    assert "text" not in listed


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (("feedback", "export", "--help"), "annotations export"),
        (("feedback", "import", "--help"), "annotations import"),
        (("train", "query_types", "--help"), "train-classifier"),
        (("evaluate", "judge", "--help"), "evaluate judge_scores"),
        (("evaluate", "audit", "--help"), "judge-card"),
        (("evaluate", "judge-card", "--help"), "judge-card"),
    ],
)
def test_names_of_the_release_before_are_hidden_aliases(alignlab, old, new):
    ended = alignlab(*old)
    assert ended.code == 0
    assert f"Example: alignlab {new} " in " ".join(ended.out.split())
    listed = alignlab("--help").out
    assert "feedback" not in {line.split()[1] for line in listed.splitlines() if "│" in line[:2]}


@pytest.mark.parametrize("command", [c.name for c in COMMANDS])
def test_every_option_has_a_sentence_and_every_command_an_example(alignlab, command: str):
    name = command.replace("NAME", "mt_bench --model m")
    shown = alignlab(*name.split(), "--help")
    assert shown.code == 0, shown.err
    assert "Example: alignlab " in shown.out
    words = [line.split("│")[1].split() for line in shown.out.splitlines() if "│ --" in line]
    assert words
    assert all(len(line) > 2 for line in words), words


def test_square_brackets_of_help_are_shown(alignlab):
    assert "[NAME=]SPEC" in alignlab("generate", "--help").out
