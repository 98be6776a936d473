"""A refused call leaves nothing behind; an interrupted one leaves what resumes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import alignlab as al
from alignlab import progress
from alignlab.api.folders import Interrupted, writing
from alignlab.errors import BadInput
from alignlab.files import lock
from alignlab.types import CompletionRequest
from tests.api.test_ten_lines import MODEL, pairs
from tests.conftest import ROOT
from tests.recipes.small import SMALL, once

ROWS = pairs(4)


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    progress.use(progress.Silent())
    yield tmp_path
    progress.use(None)


WRONG: list[tuple[str, Callable[[], Any], str]] = [
    ("objective", lambda: al.train("dpoo", MODEL, ROWS, out="o"), "did you mean 'dpo'"),
    ("setting", lambda: al.train("dpo", MODEL, ROWS, out="o", lrr=1), "did you mean 'lr'"),
    ("type", lambda: al.train("dpo", MODEL, ROWS, out="o", lr="fast"), "setting lr"),
    ("option", lambda: al.train({"name": "dpo", "bta": 1}, MODEL, ROWS, out="o"), "objective.beta"),
    ("TRL's name", lambda: al.train("dpo", MODEL, ROWS, learning_rate=1), "did you mean 'lr'"),
    ("no group", lambda: al.train("dpo", MODEL, ROWS, beta=1), "did you mean 'objective.beta'"),
    ("no objective", lambda: al.train(5, MODEL, ROWS), "objective: expected a name, al.DPO"),  # type: ignore[arg-type]
    ("no judge's type", lambda: al.judge(5), "expected a judge or reward"),  # type: ignore[call-overload]
    ("text", lambda: al.judge("longer").rate(["Hi"], "there"), "responses: expected a list"),
    ("texts", lambda: al.judge("longer").rate("Hi", ["there"]), "prompts: expected a list"),
    (
        "no text",
        lambda: al.judge("longer").rate(["Hi"], [5]),
        "responses: entry 1: expected a text",
    ),  # type: ignore[list-item]
    (
        "outputs",
        lambda: al.evaluate("qa", outputs=[{"prompt": "q", "out": "5"}], data=ROWS, out="o"),
        "expected",
    ),
    (
        "judge's samples",
        lambda: al.judge("llm,samples=0:sandbox:strong", ROWS, out="o.jsonl"),
        "1 or more",
    ),
    (
        "least mass",
        lambda: al.judge("expected,least_mass=2:sandbox:strong", ROWS, out="o.jsonl"),
        "setting least_mass: expected at most 1",
    ),
    (
        "seed",
        lambda: al.generate("sandbox:weak", ["Hi"], out="o.jsonl", seed=2**70),
        "setting seed",
    ),
    ("dtype", lambda: al.load_model(MODEL, dtype="float8"), "dtype: expected one of"),
    ("device", lambda: al.load_model(MODEL, device="cuda:99"), "expected a device of this"),
    ("bound", lambda: al.train({"name": "dpo", "label_smoothing": 2}, MODEL, ROWS, out="o"), "0.5"),
    ("model", lambda: al.train("dpo", "./none", ROWS, out="o"), "none"),
    ("adapter", lambda: al.train("dpo", MODEL, ROWS, out="o", adapter="./none"), "none"),
    ("rows", lambda: al.train("dpo", MODEL, [{"prompt": "x"}], out="o"), "prompts alone"),
    ("no rows", lambda: al.train("dpo", MODEL, [], out="o"), "found no row"),
    ("path", lambda: al.train("dpo", MODEL, "none.jsonl", out="o"), "none.jsonl"),
    ("reward", lambda: al.train("rloo", MODEL, ["Hi"], out="o", reward="oracl"), "oracl"),
    ("no reward", lambda: al.train("rloo", MODEL, ["Hi"], out="o"), "reward is missing"),
    ("folders", lambda: al.train("dpo", "./none", ROWS, out="new/deep/o"), "none"),
    ("generate", lambda: al.generate("./none", ["Hi"], out="o/a.jsonl"), "none"),
    ("generate n", lambda: al.generate(MODEL, ["Hi"], out="o.jsonl", n=0), "setting n"),
    ("ending", lambda: al.generate(MODEL, ["Hi"], out="o.txt"), "ending in .jsonl"),
    ("judge", lambda: al.judge("longr", ROWS, out="o.jsonl"), "did you mean 'longer'"),
    ("judge data", lambda: al.judge("longer", ["Hi"], out="o.jsonl"), "responses to judge"),
    ("to", lambda: al.judge("longer", ROWS, out="o.jsonl", to="group"), "setting to"),
    ("engine", lambda: al.judge("llm:local:./none", ROWS, out="o.jsonl"), "none"),
    ("benchmark", lambda: al.evaluate("mt_bnch", MODEL, out="o"), "did you mean 'mt_bench'"),
    ("no judge", lambda: al.evaluate("mt_bench", MODEL, data=ROWS, out="o"), "--judge"),
    ("questions", lambda: al.evaluate("mt_bench", MODEL, data=ROWS, judge="longer", out="o"), ""),
    ("recipe", lambda: al.run("self_rewardin", out="o"), "did you mean 'self_rewarding'"),
    ("run setting", lambda: al.run("self_rewarding", out="o", iteration=1), "'iterations'"),
    ("run nested", lambda: al.run("self_rewarding", "sft.lrr=1", out="o"), "'sft.lr'"),
    (
        "run option",
        lambda: al.run("self_rewarding", out="o", objective={"name": "dpo", "bta": 1}),
        "objective.options.beta",
    ),
    ("run model", lambda: al.run("self_rewarding", model="./none", out="o"), "none"),
    ("run data", lambda: al.run("self_rewarding", data="none.jsonl", out="o"), "none.jsonl"),
    ("run judge", lambda: al.run("compare", "measure.judge=oracl", out="o"), "oracl"),
]


@pytest.mark.parametrize(("call", "says"), [row[1:] for row in WRONG], ids=[r[0] for r in WRONG])
def test_a_refused_call_leaves_nothing(call, says: str, own_folder: Path):
    with pytest.raises(BadInput) as refused:
        call()
    assert says in str(refused.value)
    assert "\n" not in str(refused.value)
    assert list(own_folder.iterdir()) == []


def test_a_file_in_the_place_of_a_run_is_refused(own_folder: Path):
    Path("o").write_text("mine")
    with pytest.raises(BadInput, match="o: expected a run directory or an empty folder"):
        al.train("dpo", MODEL, ROWS, out="o")
    assert Path("o").read_text() == "mine"


def test_a_run_of_another_command_is_refused_before_the_study_is_planned(monkeypatch):
    al.train("dpo", MODEL, ROWS, out="o")
    monkeypatch.setattr("alignlab.commands.run.plan_study", lambda *_, **__: pytest.fail("planned"))
    with pytest.raises(BadInput, match="o: expected a run of self_rewarding, found one of train"):
        al.run("self_rewarding", model=MODEL, data="sandbox", out="o")


def test_the_right_call_with_the_same_out_works():
    with pytest.raises(BadInput):
        al.train("dpo", "./none", ROWS, out="o")
    assert al.train("dpo", MODEL, ROWS, out="o").folder == Path("o")
    with pytest.raises(BadInput):
        al.generate("./none", ["Hi"], out="a.jsonl")
    assert len(al.generate(MODEL, ["Hi"], out="a.jsonl", max_tokens=2)) == 1


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (("train", "dpo", "lrr=1"), ("train", "dpo", "lr=1e-6")),
        (("train", "dpo", "--reward", "longer"), ("train", "dpo")),
        (("train", "dpo", "objective.beta=x"), ("train", "dpo", "objective.beta=1")),
        (("train", "dpo", "--adapter", "x"), ("train", "dpo", "epochs=1")),
    ],
)
def test_a_typo_on_the_command_line_leaves_nothing(alignlab, own_folder, wrong, right):
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    same = ("--model", MODEL, "--data", "pairs.jsonl", "--out", "o")
    assert alignlab(*wrong, *same).code == 2
    assert [f.name for f in own_folder.iterdir()] == ["pairs.jsonl"]
    ended = alignlab(*right, *same)
    assert ended.code == 0, ended.err
    assert Path("o/manifest.json").exists()


def test_an_empty_folder_is_empty_again(own_folder: Path):
    Path("o").mkdir()
    with pytest.raises(BadInput):
        al.train("dpo", "./none", ROWS, out="o")
    assert list(Path("o").iterdir()) == []


def test_the_current_folder_as_a_run(own_folder: Path, monkeypatch: pytest.MonkeyPatch):
    Path("o").mkdir()
    monkeypatch.chdir("o")
    with pytest.raises(BadInput, match="no such folder"):
        al.train("dpo", "./none", ROWS, out=".")
    assert list(own_folder.rglob("*")) == [own_folder / "o"]
    with pytest.raises(BadInput, match="found the current one"):
        al.export(MODEL, ".")
    assert al.train("dpo", MODEL, ROWS, out=".").folder == own_folder / "o"
    with pytest.raises(BadInput, match="expected a folder to write, found the root"):
        al.train("dpo", MODEL, ROWS, out="/")


def test_what_has_cost_something_stays(own_folder: Path):
    stage = own_folder / "o" / "stages" / "01-judge"

    def judge(calls: int) -> None:
        with writing(own_folder / "o"):
            stage.mkdir(parents=True)
            line = {"usage": {"prompt_tokens": 0, "tokens": 0, "calls": calls}}
            (stage / "commits.jsonl").write_text(f"{json.dumps(line)}\n")
            raise BadInput("no response to order")

    for calls, stays in ((0, False), (1, True)):
        with pytest.raises(BadInput):
            judge(calls)
        assert stage.exists() == stays


def test_a_run_that_another_process_began_meanwhile_stays(own_folder: Path):
    place = own_folder / "o"

    def refused(event: str) -> None:
        with writing(place):
            place.mkdir()
            (place / "events.jsonl").write_text(f'{{"time": "", "event": "{event}"}}\n')
            raise BadInput("this run was started with lr=1")

    with pytest.raises(BadInput):
        refused("start")
    assert not place.exists()
    with pytest.raises(BadInput):
        refused("done")
    assert place.exists()
    (place / "events.jsonl").unlink()
    place.rmdir()

    def locked() -> None:
        with writing(place):
            place.mkdir()
            holding.append(lock(place / ".lock", ""))
            raise BadInput("this run was started with lr=1")

    holding: list[int] = []
    with pytest.raises(BadInput):
        locked()
    assert place.exists()
    os.close(holding[0])


def test_a_run_that_is_there_stays_when_a_call_is_refused():
    al.train("sft", MODEL, [{"prompt": "Hi", "completion": "Hello."}], out="o")
    before = sorted(str(f) for f in Path("o").rglob("*"))
    with pytest.raises(BadInput, match="another"):
        al.train("sft", MODEL, [{"prompt": "Hi", "completion": "Hello."}], out="o", lr=0.5)
    assert before == sorted(str(f) for f in Path("o").rglob("*"))


def test_an_interrupted_call_says_what_resumes_it(monkeypatch):
    from alignlab.generation.local import LocalEngine

    plain = LocalEngine.complete
    asked: list[str] = []

    def stopped(self: LocalEngine, requests: list[CompletionRequest]) -> Any:
        if len(asked) == 2:
            raise KeyboardInterrupt
        asked.extend(request.id for request in requests)
        return plain(self, requests)

    monkeypatch.setattr(LocalEngine, "complete", stopped)
    prompts = [f"Say {i}." for i in range(4)]
    with pytest.raises(
        Interrupted, match=r"runs/generate-knows-all/answers.jsonl.run is kept, and"
    ):
        al.generate(MODEL, prompts, chunk=1, max_tokens=2)
    monkeypatch.setattr(LocalEngine, "complete", plain)
    out = "runs/generate-knows-all/answers.jsonl"
    assert len(al.generate(MODEL, prompts, chunk=1, max_tokens=2, out=out)) == 4


def _start(*arguments: str, **how: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "alignlab", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
        **how,
    )


@pytest.mark.slow
def test_ctrl_c_keeps_the_run_and_the_same_command_resumes():
    Path("p.jsonl").write_text("".join(f'{{"prompt": "Say {i}."}}\n' for i in range(16)))
    command = ("generate", "--model", MODEL, "--prompts", "p.jsonl", "--out", "a.jsonl", "chunk=1")
    command += ("max_tokens=4",)
    process = _start(*command)
    commits = Path("a.jsonl.run/stages/01-sample/commits.jsonl")
    deadline = time.monotonic() + 120
    while not (commits.exists() and commits.read_text().count("\n") > 3):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.splitlines()[-1] == (
        "alignlab: stopped; a.jsonl.run is kept, and the same command resumes where it stopped"
    )
    assert "Traceback" not in err + out
    assert not Path("a.jsonl").exists()
    done = commits.read_text().count("\n")
    again = _start(*command)
    out, err = again.communicate(timeout=300)
    assert (again.returncode, out) == (0, "a.jsonl: 16 rows; float32 on cpu\n")
    assert 3 < done < commits.read_text().count("\n") <= 18


@pytest.mark.slow
def test_ctrl_c_in_a_study_stops_all_its_workers_and_the_same_command_resumes():
    command = ("run", "compare_feedback", *once(*SMALL, "hardware.workers=2"), "out=study")
    process = _start(*command, start_new_session=True)
    events, deadline = Path("study/events.jsonl"), time.monotonic() + 300
    while not (events.exists() and "self_reward" in events.read_text()):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)  # a terminal sends it to every process of the command
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert err.splitlines()[-1] == (
        "alignlab: stopped; study is kept, and the same command resumes where it stopped"
    )
    assert "Traceback" not in err + out
    done = set(Path("study").glob("stages/**/status.json"))
    again = _start(*command)
    out, err = again.communicate(timeout=600)
    assert again.returncode == 0, err
    assert len(done) < len(set(Path("study").glob("stages/**/status.json")))
    assert Path("study/report.html").exists()
