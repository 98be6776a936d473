"""`alignlab train ppo|reinforce|rloo|grpo`: from prompts and a reward to a model."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from alignlab import progress
from alignlab.commands.train import train
from alignlab.errors import BadInput, RunFailed
from alignlab.feedback.rules import LengthJudge
from alignlab.generation import vllm_child
from alignlab.generation.local import Drawn, LocalEngine
from alignlab.models.load import save
from alignlab.records import read_records
from alignlab.stages import rollout
from alignlab.stages.rollout import RolledOut
from alignlab.training.rollout_config import RolloutConfig
from alignlab.types import Message, Prompt
from tests.models.helpers import tiny_lm

QUICK = ("lr=1e-3", "batch_size=4", "responses=3", "max_tokens=6", "steps=3", "save_every=2",
         "threads=1", "device=cpu")  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet():
    progress.use(progress.Silent())
    yield
    progress.use(None)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(save(tiny_lm(scale=1.0), tmp_path_factory.mktemp("models") / "tiny"))


@pytest.fixture
def prompts(tmp_path) -> str:
    path = tmp_path / "prompts.jsonl"
    rows = [{"prompt": f"Name {i}.", "completion": "so"} for i in range(12)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def metrics_of(done):
    lines = [json.loads(line) for line in Path(done.metrics).read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]


@pytest.mark.parametrize("objective", ["ppo", "reinforce", "rloo", "grpo"])
def test_every_objective_by_name(objective, model, prompts, tmp_path):
    given = {"model": model, "data": prompts, "reward": "longer", "out": tmp_path / "run"}
    done = train(objective, *QUICK, **given)
    AutoModelForCausalLM.from_pretrained(done.model.path)
    assert (Path(done.model.path) / "value_head.safetensors").exists() == (objective == "ppo")
    lines = metrics_of(done)
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert all(line["objective/kl"] is not None for line in lines)
    (told,) = read_records(Path(done.model.path).with_name("trained.jsonl"), RolledOut)
    assert (told.steps, told.rollouts, told.unscored) == (3, 36, 0)
    # The same call again reads what is there.
    assert train(objective, *QUICK, **given) == done


def test_equal_scores_teach_nothing_and_say_so(model, prompts, tmp_path):
    reward = tmp_path / "constant.py"
    reward.write_text("def score(response):\n    return 1.0\n")
    given = {"model": model, "data": prompts, "out": tmp_path / "run"}
    done = train("grpo", *QUICK, reward=f"python:{reward}:score", **given)
    assert done.idle
    assert "warning: nothing was learned: the gradient was 0 in every step" in str(done)
    given["out"] = tmp_path / "other"
    assert not train("grpo", *QUICK, reward="longer", **given).idle


def test_the_sandboxs_oracle_and_a_validation(tmp_path):
    done = train(
        "rloo", "lr=3e-4", "batch_size=4", "responses=2", "max_tokens=24", "steps=2",
        "validation=3", "validate_every=1", "threads=1",
        model="sandbox:knows_all", data="sandbox", reward="sandbox:oracle", out=tmp_path / "run",
    )  # fmt: skip
    lines = metrics_of(done)
    assert all(0 <= line["objective/scores"] <= 5 for line in lines)
    (told,) = read_records(Path(done.model.path).with_name("trained.jsonl"), RolledOut)
    assert told.best_step in (1, 2)
    assert 0 <= told.best_value <= 5


def test_a_long_prompt_is_left_out_and_counted(model, tmp_path):
    path = tmp_path / "prompts.jsonl"
    texts = ["short", "short too", "x" * 300]
    path.write_text("".join(json.dumps({"prompt": t, "completion": "so"}) + "\n" for t in texts))
    done = train("grpo", *QUICK, model=model, data=str(path), reward="longer", out=tmp_path / "r")
    found = {c.what: c for c in done.counts}
    assert any(c.dropped == {"prompt too long": 1} and c.kept == 2 for c in done.counts)
    assert found["rollouts"].kept == 3 * 2 * 3
    assert "prompts kept; prompt too long 1" in str(done)


def test_a_judge_that_cannot_be_read_ends_the_run(model, prompts, tmp_path):
    script = tmp_path / "script.jsonl"
    script.write_text(json.dumps({"id": "another", "texts": ["Score: 3"]}) + "\n")
    with pytest.raises(RunFailed, match="none of 12 responses to 4 prompts could be learned from"):
        train("rloo", *QUICK, model=model, data=prompts, out=tmp_path / "run",
              reward=f"llm,samples=1,prompt=short_score:scripted:{script}")  # fmt: skip


def test_reasoning_is_trained_on_and_not_scored(monkeypatch):
    """The reward sees the answers alone; what has none is scored as empty."""
    texts = ["<think>\nplan</think>\nYes.", "<think>\nplan, and", "No.",
             "analysisThe user asks.assistantfinalDone"]  # fmt: skip
    drawn = tuple(Drawn(text, "stop", (1,), (5, 2), (-1.0, -1.0)) for text in texts)
    monkeypatch.setattr(LocalEngine, "__init__", lambda self, lm: None)
    monkeypatch.setattr(LocalEngine, "draw", lambda self, requests: [drawn])
    prompt = Prompt("p", (Message("user", "Sure?"),))
    environment = rollout._environment(LengthJudge(), RolloutConfig(responses=4), None)
    (group,) = environment.sample(None, [prompt], 0)
    assert [sample.text for sample in group.samples] == ["Yes.", "", "No.", "Done"]
    assert [sample.thought for sample in group.samples] == [True, True, False, True]
    assert {sample.tokens for sample in group.samples} == {(5, 2)}
    seen = []
    rate = LengthJudge.rate
    monkeypatch.setattr(LengthJudge, "rate", lambda *a: seen.extend(a[1]) or rate(*a))
    assert environment.reward([group], 0) == [(1.0, 0.0, 1.0, 1.0)]
    assert [response.text for _, several in seen for response in several] == [
        "Yes.", "", "No.", "Done"]  # fmt: skip


def test_reasoning_that_the_template_opens_is_counted(prompts, tmp_path):
    """The tag stands in the prompt, and no response closes it: all of them lack an answer."""
    lm = tiny_lm(scale=1.0)
    lm.tokenizer.chat_template = lm.tokenizer.chat_template.replace(
        "assistant\n{% endif %}", "assistant\n<think>\n{% endif %}"
    )
    model = str(save(lm, tmp_path / "thinks"))
    done = train("grpo", *QUICK, model=model, data=prompts, reward="longer", out=tmp_path / "run")
    (told,) = read_records(Path(done.model.path).with_name("trained.jsonl"), RolledOut)
    assert (told.rollouts, told.thoughts, told.thoughts_alone) == (36, 36, 36)
    lines = metrics_of(done)
    assert [line["completions/thoughts_alone"] for line in lines] == [1, 1, 1]
    assert {line["objective/scores"] for line in lines} == {0}
    assert "thoughts without an answer 36" in str(done)


@pytest.mark.parametrize(
    ("objective", "settings", "reward", "line"),
    [
        ("ppo", (), "", "reward is missing: PPO learns from scores"),
        ("dpo", (), "longer", "reward: has no effect: DPO learns from given responses"),
        ("rloo", ("responses=1",), "longer", "RLOO compares 2 responses"),
        ("rloo", ("objective.clip=0.1",), "longer", "objective.clip: has no effect with updates=1"),
        ("ppo", ("validation=3",), "longer", "validation: expected validate_every with it"),
        ("ppo", ("validate_every=3",), "longer", "validate_every: expected validation with it"),
        ("ppo", ("validation=12", "validate_every=1"), "longer", "fewer than the data's 12"),
        ("ppo", ("min_lr_ratio=0.5",), "longer", "min_lr_ratio: has no effect"),
        ("ppo", ("token_budget=4",), "longer", "max_tokens: expected at most token_budget"),
        ("ppo", ("pairs=all",), "longer", "pairs"),
        ("ppo", (), "longest", "longest"),
        ("grpo", (), "verifier", "expected prompts with reference answers .* found none among 12"),
        ("rloo", (), "verifier,strict=true", "expected prompts with reference answers"),
        ("grpo", ("objective.beta=0.5",), "longer", "beta"),
        ("reinforce", ("updates=2",), "longer", "learns from a rollout once"),
        ("rloo", ("engine=sglang",), "longer", "expected local or vllm, found 'sglang'"),
        ("rloo", ("ahead=1",), "longer", "ahead: has no effect with engine=local"),
    ],
)
def test_what_cannot_work_is_refused(objective, settings, reward, line, model, prompts, tmp_path):
    with pytest.raises(BadInput, match=line):
        train(
            objective, *QUICK, *settings, model=model, data=prompts, reward=reward,
            out=tmp_path / "run",
        )  # fmt: skip


FAKE = f"""
import importlib.util, sys
spec = importlib.util.spec_from_file_location("vllm_child", {vllm_child.__file__!r})
child = importlib.util.module_from_spec(spec)
sys.modules["vllm_child"] = child
spec.loader.exec_module(child)

class Server:
    # Stands for vLLM: the letter of its seed, then the end of the turn.
    def open(self, **given): pass
    def init_weight_transfer_engine(self, **given): pass
    def start_weight_update(self): pass
    def update_weights(self, **given): pass
    def finish_weight_update(self): pass
    def commit(self, version): self.version = version
    def sample(self, prompts, seeds, limits, end, checked):
        return {{"version": self.version, "checked": [[-4.5] * last for _, last in checked],
                "samples": [[[40 + s % 20, end[-1]], [-4.5, -4.5]] for s in seeds]}}

child.main(Server())
"""


def test_an_engine_in_a_process_of_its_own(model, prompts, tmp_path, monkeypatch):
    script = tmp_path / "fake.py"
    script.write_text(FAKE)
    monkeypatch.setattr(vllm_child, "__file__", str(script))
    monkeypatch.setenv("ALIGNLAB_VLLM_PYTHON", sys.executable)
    done = train(
        "rloo", *QUICK, "engine=vllm", "ahead=1", "mismatch_alarm=9", model=model, data=prompts,
        reward="longer", out=tmp_path / "run",
    )  # fmt: skip
    stage = Path(done.metrics).parent
    drawn = [json.loads(x) for x in (stage / "drawn_rollouts.jsonl").read_text().splitlines()]
    texts = {s["text"] for line in drawn if "samples" in line for s in line["samples"]}
    assert len(texts) > 5
    assert {len(text) for text in texts} == {1}  # without the end of the turn
    assert [line["sampler/staleness"] for line in metrics_of(done)] == [0, 1, 1]
    assert [line.get("sampler/alarm") for line in metrics_of(done)] == [0, 0, None]
    (told,) = read_records(stage / "trained.jsonl", RolledOut)
    assert (told.steps, told.rollouts) == (3, 36)


def test_the_command_line(alignlab, model, prompts, tmp_path):
    ended = alignlab("train", "grpo", "--model", model, "--data", prompts, "--reward", "longer",
                     "--out", tmp_path / "run", *QUICK)  # fmt: skip
    assert ended.code == 0
    assert "model: " in ended.out
    ended = alignlab("train", "grpo", "--model", model, "--data", prompts, "--out", tmp_path / "x")
    assert ended.code == 2
    assert "reward is missing" in ended.line
    ended = alignlab("train", "ppo", "--options")
    assert "objective.vf_coef" in ended.out
    assert "responses" in ended.out
