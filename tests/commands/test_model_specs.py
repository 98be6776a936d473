"""Every command takes a model as people have it: folder, run, adapter, GGUF file, package."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import alignlab as al
from alignlab import progress
from alignlab.errors import BadInput
from alignlab.models.adapters import LoraConfig, attach
from alignlab.models.load import load, save
from alignlab.run_models import final_model, models_of
from tests.models.gguf_files import tiny_llama, write_gguf
from tests.models.helpers import TEMPLATE, tiny_lm
from tests.models.test_locate import package
from tests.recipes.small import SMALL

QUICK = ("lr=1e-3", "batch_size=2", "threads=1", "device=cpu")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ALIGNLAB_CACHE", str(tmp_path / "cache"))
    progress.use(progress.Silent())
    yield tmp_path
    progress.use(None)


def jsonl(name: str, rows) -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def demonstrations() -> str:
    rows = [{"prompt": f"Say {i}.", "completion": f"{i}"} for i in range(4)]
    return jsonl("sft.jsonl", rows)


def pairs() -> str:
    rows = [{"prompt": f"Say {i}.", "chosen": f"{i}", "rejected": "no"} for i in range(4)]
    return jsonl("pairs.jsonl", rows)


def spec_of(kind: str, tmp_path: Path, monkeypatch) -> str:
    if kind in ("gguf", "package"):
        pytest.importorskip("gguf", reason="pip install 'alignlab[gguf]'")
        if kind == "package":
            package(tmp_path, monkeypatch, {"m.gguf": tiny_llama()})
            return "package:tiny-pack"
        return str(write_gguf(tmp_path / "m.gguf", tiny_llama(), template=TEMPLATE, quantise=True))
    folder = save(tiny_lm(), tmp_path / "base")
    if kind == "folder":
        return str(folder)
    if kind == "adapter":
        lm = attach(load(folder), LoraConfig(r=2), seed=0)
        return str(save(lm, tmp_path / "adapter", adapter_only=True))
    return str(al.train("sft", folder, demonstrations(), *QUICK, out="runs/base").folder)


def asked_judge(ended) -> None:
    """The judge was asked; the prompt of a judge is longer than the tiny models' contexts."""
    assert ended.code == 0 or "scored" in ended.line, ended.err


@pytest.mark.parametrize("kind", ["folder", "adapter", "run", "gguf", "package"])
def test_every_command_takes(kind, alignlab, tmp_path, monkeypatch):
    spec = spec_of(kind, tmp_path, monkeypatch)
    data = demonstrations()
    ended = alignlab("train", "dpo", "--model", spec, "--data", pairs(), "--out", "run", *QUICK)
    assert ended.code == 0, ended.err
    asked = ("generate", "--model", spec, "--prompts", data, "--out", "answers.jsonl")
    ended = alignlab(*asked, "max_tokens=4", "threads=1")
    assert ended.code == 0, ended.err
    rows = [json.loads(line) for line in Path("answers.jsonl").read_text().splitlines()]
    names = {"folder": "base", "adapter": "adapter", "run": "base", "gguf": "m.gguf"}
    assert {row["model"] for row in rows} == {names.get(kind, "package:tiny-pack")}
    judge = ("judge", "--judge", f"expected:local:{spec}", "--responses", data)
    asked_judge(alignlab(*judge, "--out", "judged.jsonl"))
    reward = f"implicit_reward:run?reference={spec}"
    ended = alignlab("reward", "--reward", reward, "--responses", pairs(), "--out", "scored.jsonl")
    assert ended.code == 0, ended.err
    questions = jsonl("q.jsonl", [{"question_id": i, "category": "math", "turns": ["1+1?", "2+2?"]}
                                  for i in range(2)])  # fmt: skip
    bench = (
        "evaluate", "mt_bench", "--data", questions, "--model", f"mine={spec}", "--out", "bench",
        "--judge", f"local:{spec}", "max_tokens=4", "judge_tokens=4",
    )  # fmt: skip
    asked_judge(alignlab(*bench))
    checked = ("check", "self_rewarding", f"model={spec}", "data=sandbox", *SMALL)
    ended = alignlab(*checked, "hardware.device=cpu")
    assert ended.code == 0, ended.err


def test_a_reward_model_by_its_run(alignlab):
    folder = save(tiny_lm(), Path("base"))
    al.train("reward_model", folder, pairs(), *QUICK, out="runs/rm")
    ended = alignlab("reward", "--reward", "reward_model:runs/rm", "--responses", pairs(),
                     "--out", "scored.jsonl")  # fmt: skip
    assert ended.code == 0, ended.err
    ended = alignlab("generate", "--model", "runs/rm", "--prompts", pairs(), "--out", "a.jsonl")
    assert ended.code == 2
    assert "expected a decoder, found a reward model" in ended.line


def test_a_study_ends_with_the_model_that_no_other_was_trained_from():
    study = al.run("self_rewarding", *SMALL, model="sandbox:knows_all", data="sandbox",
                   iterations=2, out="study")  # fmt: skip
    names = [m.name for m in models_of(Path("study"))]
    assert names == ["sft-baseline", "m1", "iteration-1/m2", "iteration-2/m3"]
    last = final_model(Path("study"))
    assert last.parent.name.endswith("-m3")
    assert study.model.path == str(last)
    assert al.load_model("study").facts.path == str(last) == al.load_model(study).facts.path
    assert al.load_model(last.parent).facts.path == str(last)
    events = Path("study/events.jsonl")
    whole = events.read_text()
    events.write_text("".join(whole.splitlines(keepends=True)[:-1]))
    with pytest.raises(BadInput, match=r"not finished; repeat its command, or name one: .*m3"):
        final_model(Path("study"))


def fake_run(root: Path, recipe: str, stages: dict[str, str]) -> Path:
    """A run directory with models of no content; stage -> model that it was trained from."""
    root.mkdir()
    (root / "config.yaml").write_text("")
    (root / "manifest.json").write_text(json.dumps({"recipe": recipe}))
    events = [{"event": "stage", "stage": name} for name in stages] + [{"event": "done"}]
    (root / "events.jsonl").write_text("".join(json.dumps(e) + "\n" for e in events))
    for name, parent in stages.items():
        folder = root / "stages" / name / "model"
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}")
        inputs = {"inputs": {"parent": parent}}
        (folder.parent / "config.json").write_text(json.dumps(inputs))
    return root


@pytest.mark.parametrize(
    ("recipe", "stages", "expected"),
    [
        ("train", {"02-model": "M0"}, "02-model"),
        ("train", {"02-merged": "", "03-model": "merged"}, "03-model"),
        ("train", {"02-merged": ""}, "its training is not finished"),
        ("train", {}, "expected a run with a trained model, found none"),
        ("self_refine", {"02-m1": "M0", "03-m2": "M1", "04-m3": "M2"}, "04-m3"),
        ("compare_feedback", {"02-sft-baseline": "M0", "03-m1": "M0"}, "03-m1"),
        ("compare_feedback", {"02-m1": "M0", "a/03-m2-own": "M1", "b/03-m2-his": "M1"},
         "one final model, found 2; name one: .*a/03-m2-own/model, .*b/03-m2-his/model$"),
        ("self_refine", {"seed-0/02-m1": "M0", "seed-0/03-m2": "M1", "seed-1/02-m1": "M0"},
         "found 2; name one: .*seed-0/03-m2/model, .*seed-1/02-m1/model$"),
        ("scaling", {f"02-x{i}": "M0" for i in range(8)}, "found 8; name one: .* and 2 more$"),
    ],
)  # fmt: skip
def test_final_models(tmp_path, recipe, stages, expected):
    run = fake_run(tmp_path / "run", recipe, stages)
    if expected in stages:
        assert final_model(run) == run / "stages" / expected / "model"
        return
    with pytest.raises(BadInput, match=expected) as caught:
        final_model(run)
    assert "\n" not in str(caught.value)


def test_an_ambiguous_run_is_refused_before_anything_is_written(alignlab, tmp_path):
    run = fake_run(
        tmp_path / "two", "compare_feedback", {"02-m1": "M0", "a/03-x": "M1", "b/03-y": "M1"}
    )
    ended = alignlab("generate", "--model", run, "--prompts", demonstrations(), "--out", "a.jsonl")
    assert ended.code == 2
    assert "expected a run with one final model, found 2; name one" in ended.line
    assert not Path("a.jsonl").exists()
    assert not Path("a.jsonl.run").exists()


def test_a_base_model_is_trained_with_a_named_template_and_then_needs_none(alignlab, tmp_path):
    lm = tiny_lm()
    folder = save(lm, tmp_path / "base")
    (folder / "chat_template.jinja").unlink()
    data = demonstrations()
    command = ("train", "sft", "--model", folder, "--data", data, "--out", "run", *QUICK)
    ended = alignlab(*command)
    assert ended.code == 2
    assert "by name: chatml, plain, zephyr" in ended.line
    assert not Path("run").exists()
    ended = alignlab(*command, "chat_template=zephyr")
    assert ended.code == 0, ended.err
    asked = ("generate", "--model", "run", "--prompts", data, "--out", "a.jsonl", "max_tokens=4")
    assert alignlab(*asked).code == 0
    assert "<|assistant|>" in load("run").tokenizer.chat_template
    judge = f"expected:local:{folder}?chat_template=plain"
    asked_judge(alignlab("judge", "--judge", judge, "--responses", data, "--out", "j.jsonl"))
