"""Check says what a run takes, and its upper bounds hold for the run itself."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import pytest

from alignlab import progress, registry
from alignlab._old_names import MOVED
from alignlab.commands.check import check
from alignlab.commands.preflight import memory, plan_study, typical_lengths
from alignlab.commands.run import assemble, run
from alignlab.context import RunContext
from alignlab.errors import BadInput
from alignlab.models.facts import ModelFacts, model_facts, parameter_count
from alignlab.models.footprint import _stored
from alignlab.models.load import load
from alignlab.models.memory import (
    TrainingShape,
    adapter_parameters,
    head_bytes,
    layer_parameters,
    process_parts,
    stored_per_position,
    training_bytes,
)
from alignlab.models.stored import stored_bytes
from alignlab.plan import Calls, Plan, Used
from alignlab.recipes.study import StudyConfig
from alignlab.recording import STUDENT, Recorder
from alignlab.sandbox import checkpoint_path
from alignlab.speed import Speed
from alignlab.training.config import TrainConfig
from alignlab.training.rollout_config import RolloutConfig
from alignlab.types import CompletionRequest, Message, Prompt, Sampling
from alignlab.work import Lengths, Trained, apart, largest_step
from tests.recipes.small import SMALL

SPEED = Speed(read=1.0, step=10.0, draw=0.1, train=3.0, update=5.0, load=100.0)


@pytest.fixture(autouse=True)
def _speeds(monkeypatch):
    """Know the speed of every model instead of measuring it."""
    monkeypatch.setattr(
        "alignlab.commands.check.speeds",
        lambda models, context, threads, measure: dict.fromkeys(models, SPEED),
    )


def called(plan: Plan) -> dict[tuple[str, str], Calls]:
    return {(c.what, c.by): replace(c, read=0) for c in plan.calls}


def test_a_self_rewarding_run_by_hand(tmp_path):
    out = tmp_path / "run"
    plan = check("self_rewarding", *SMALL, f"out={out}", "iterations=2", "seeds=3")
    assert not out.exists()
    assert (plan.preset, plan.seeds, plan.resumes) == ("sandbox", 3, False)
    assert list(plan.models) == ["M0", "SFT baseline", "M1", "M2", "M3"]
    assert plan.models["M2"] == "M1 after DPO on its own answers, judged by M1, 2 samples"
    assert plan.data[0] == Used("demonstrations", 24, 300)
    asked = called(plan)
    # 12 prompts, 2 iterations, 3 seeds, in up to 8 rounds of 40 tokens.
    assert asked["prompts", STUDENT] == Calls("prompts", STUDENT, 576, 576 * 40)
    # 12 prompts x 4 answers x 2 iterations and 8 held-out answers of 5 models, of 3 seeds.
    assert asked["answers", STUDENT] == Calls("answers", STUDENT, 408, 408 * 24)
    # 8 held-out answers of 5 models, and the truth about the 96 that were judged.
    assert asked["scores", "sandbox:oracle"].number == (8 * 5 + 96) * 3
    assert asked["scores", "sandbox:oracle"].tokens is None
    assert not any(what == "comparisons" for what, _ in asked)  # the scores decide


def test_the_bounds_hold_for_the_run_itself(tmp_path):
    out = tmp_path / "run"
    settings = (*SMALL, f"out={out}", "eft.targets=human")
    plan = check("teacher_reward", *settings)
    progress.use(progress.Silent())
    run("teacher_reward", *settings)
    progress.use(None)
    spent = {
        file.parent.name.partition("-")[2]: json.loads(file.read_text())["usage"]
        for file in out.glob("stages/**/status.json")
    }
    asked = called(plan)
    answering = [s for name, s in spent.items() if name == "sample" or name.startswith("answer-")]
    answers, judged = asked["answers", STUDENT], asked["judgements", "sandbox:strong"]
    assert sum(s["calls"] for s in answering) == answers.number
    assert sum(s["tokens"] for s in answering) <= answers.tokens
    assert spent["judge"]["calls"] == judged.number
    assert spent["judge"]["tokens"] <= judged.tokens
    assert spent["propose"]["calls"] <= asked["prompts", STUDENT].number
    found = {f.parent.relative_to(out / "stages").as_posix() for f in out.rglob("status.json")}
    planned = {s.stage for s in plan.stages}
    assert planned <= found
    trained = {f.parent.relative_to(out / "stages").as_posix() for f in out.rglob("metrics.jsonl")}
    assert len(trained) == 3
    assert trained <= planned
    assert json.loads((out / "study.json").read_text())["models"] == plan.models
    assert check("teacher_reward", *settings).resumes


@pytest.mark.parametrize("recipe", registry.names("recipe"))
def test_every_recipe_says_what_it_asks_asks_nobody_and_writes_nothing(
    recipe: str, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("alignlab.context.load", lambda *a, **k: pytest.fail("a model is loaded"))
    plan = check(recipe, *SMALL)
    assert list(tmp_path.iterdir()) == []
    assert plan.calls
    assert all(c.number > 0 for c in plan.calls)
    text = str(plan)
    for word in (recipe, "908,928 parameters", "24 of 300 demonstrations", *plan.models):
        assert word in text


def test_branches_left_out_are_not_counted():
    plan = check("compare", *SMALL, "branches=[sft_strong]", "eft.targets=human")
    assert list(plan.models) == ["M0", "M1", "SFT on strong teacher"]
    # Only M1's reasons for the 3 examples of 3 models, 2 samples each.
    assert called(plan)["judgements", STUDENT].number == 18
    assert called(plan)["answers", "sandbox:strong"].number == 12


def test_an_expected_score_costs_one_call_and_no_tokens():
    sampled = called(check("self_rewarding", *SMALL))["judgements", STUDENT]
    expected = called(check("self_rewarding", *SMALL, "judge.method=expected"))
    # The 48 ranked responses are judged twice each for EFT, whatever the method.
    assert expected["judgements", STUDENT].number - 96 == (sampled.number - 96) / 2
    assert expected["judgements", STUDENT].tokens == 96 * 16


def test_facts_come_from_small_files_alone():
    facts = model_facts(checkpoint_path("knows_all"))
    assert (facts.kind, facts.parameters, facts.layers) == ("llama", 908_928, 4)
    assert (facts.hidden, facts.kv_width, facts.context) == (128, 128, 1024)


def test_a_model_without_weights_is_refused(tmp_path):
    for file in checkpoint_path("knows_all").iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(BadInput, match="expected weights in safetensors files, found none"):
        model_facts(tmp_path)


SHAPE = ModelFacts("m", "llama", 10**9, 10, 1000, 500, 32_000, 4096, 3000, 1000)


def test_memory_by_hand():
    half = [f"{kind}.dtype=bfloat16" for kind in ("sft", "preference")]
    config = assemble(registry.get("recipe", "self_rewarding"), None, [*SMALL, *half], {})
    training, sampling, judging = memory(SHAPE, config, judged=100)
    # bfloat16: 8 bytes of masters, copy and file, 14 of gradients and Adam; 40,000 bytes a
    # position and layer (2 x (4 x 3000 + 4 x 1000 + 2 x 1500), 4 x 2 x 1000).
    head = 524 * 32_000 * 2 + 256 * 32_000 * 8 + (1 << 28) + 2 * 32_000 * 1000
    # Of attention each layer keeps 32 MiB; glibc holds a fifth more than a pass takes.
    kept = 10 * (32 << 20)
    assert training.gigabytes == pytest.approx(
        0.45 + 22 + 1.2 * (8192 * (38_000 + 8_000) * 10 + kept + head) / 1e9, rel=1e-3
    )
    # float32: 4 prompts of 1024, 16 samples of 24 tokens, 40,000 bytes a position.
    cache = (4 * 1024 + 16 * 24) * 2 * 10 * 500 * 4
    assert sampling.gigabytes == pytest.approx(0.45 + 4 + (cache + 16 * 32_000 * 12) / 1e9)
    read = 256 * 100 * (4 * (9000 + 4000 + 1000) + 40_000)
    assert judging.gigabytes == pytest.approx(0.45 + 4 + read / 1e9)
    # Groups of 100 tokens, 16 a step, fill a part of the budget.
    sizes = [Trained(0, loop=config.sft, largest=1600, group=100)]
    small = memory(SHAPE, config, 0, sizes)
    assert len(small) == 2
    # The head keeps residuals of 1,600 rows, instead of as many as a limit allows.
    less = (8192 - 1600) * 46_000 * 10 + (1 << 28) - 1600 * 32_000 * 2
    less += kept - 10 * 1600 * 100 * 2
    assert training.gigabytes - small[0].gigabytes == pytest.approx(1.2 * less / 1e9)


def test_a_process_that_samples_holds_copies_and_merged_weights():
    recipe = registry.get("recipe", "self_rewarding")
    small = replace(SHAPE, parameters=10**8, layers=1, hidden=100, vocabulary=10_000)
    plain = ["hardware.dtype=bfloat16"]
    adapted = [*plain, "sft.lora.r=2", "preference.lora.r=2"]
    half, lora = (
        memory(small, assemble(recipe, None, [*SMALL, *s], {}), 0)[1] for s in (plain, adapted)
    )
    # Queries and output 2 * 100 * 1000, keys and values 2 * 100 * 500, the network and two norms
    # 100 * (9000 + 2), the head 10_000 * 100: all are copied, 2 bytes each.
    cache = (4 * 1024 + 16 * 24) * 2 * 500 * 2
    copied = 2 * (2 * 100 * 1500 + 100 * 9002 + 10_000 * 100)
    logits = 16 * 10_000 * 10
    assert half.gigabytes == pytest.approx(0.45 + (2e8 + cache + logits + copied) / 1e9)
    assert lora.gigabytes - half.gigabytes == pytest.approx(0.2)


def test_the_largest_of_many_steps_is_two_standard_deviations_above_the_mean():
    assert largest_step([100] * 64, 16) == 1600
    # Mean 100 and deviation 50: 16 * 100 + 2 * 4 * 50.
    assert largest_step([50, 150] * 32, 16) == 2000
    assert largest_step([], 0) == 0


def test_stored_tensors_are_those_of_a_real_model():
    # SmolLM2-135M, counted by hooks on the tensors that autograd stores: 24,737 bytes a position
    # and layer in bfloat16, 44,781 in float32.
    smollm = ModelFacts("m", "llama", 134_515_008, 30, 576, 192, 49_152, 8192, 1536, 576)
    assert stored_per_position(smollm, 2) == pytest.approx(24_737, rel=0.01)
    assert stored_per_position(smollm, 4) == pytest.approx(44_781, rel=0.01)
    # Measured peak of two steps of 2,048 tokens in bfloat16: 5.24 GB.
    size = training_bytes(
        smollm, weights=8, trainable=134_515_008, positions=2048, width=2, layers=30
    )
    assert size / 1e9 == pytest.approx(5.24, rel=0.15)


@pytest.mark.parametrize("width", [2, 4])
def test_stored_tensors_are_measured_without_weights(width: int):
    path = checkpoint_path("knows_all")
    model = load(path, dtype="bfloat16" if width == 2 else "float32", device="cpu").model
    assert stored_bytes(str(path), width) == pytest.approx(_stored(model), rel=0.01)
    facts = model_facts(path)
    assert stored_per_position(facts, width) == stored_bytes(str(path), width) // facts.layers
    # Without a folder, the shape alone is within a few per cent for this architecture.
    assert stored_per_position(replace(facts, path="m"), width) == pytest.approx(
        stored_per_position(facts, width), rel=0.05
    )
    assert stored_bytes("/nowhere", width) is None


def test_memory_of_a_process_by_hand():
    # 2 layers of 2 * 10 * (10 + 5) + 10 * (3 * 20 + 2) = 920; embeddings and last norm: 160.
    facts = ModelFacts("m", "llama", 2000, 2, 10, 5, 15, 64, 20, 10)
    assert layer_parameters(facts) == 920
    stored = stored_per_position(facts, 2)
    rows = head_bytes(facts, 8, 2)
    whole = process_parts(facts, TrainingShape(2000, 8, 2))
    assert whole == {
        "weights": 2000 * 6,
        "gradients and optimiser": 2000 * 14,
        "gathered weights and gradients": 0,
        "pass": 8 * stored * 2 + rows,
        "libraries": 450_000_000,
        "kept by the allocator": int(0.2 * (2000 * 20 + 16 * stored + rows + 450_000_000)),
    }
    # SmolLM2-135M in two CPU processes, layers recomputed: measured peaks of 2.92 and 2.99 GB.
    smollm = ModelFacts("m", "llama", 134_515_008, 30, 576, 192, 49_152, 8192, 1536, 576)
    two = process_parts(smollm, TrainingShape(134_515_008, 1024, 2, True, 2))
    assert sum(two.values()) / 1e9 == pytest.approx(2.96, rel=0.15)
    four = process_parts(facts, TrainingShape(2000, 8, 2, checkpointing=True, processes=4))
    assert four["weights"] == 2000 * 6 / 4
    assert four["gradients and optimiser"] == 2000 * 14 / 4
    assert four["gathered weights and gradients"] == 2 * (160 + 2 * 920) + 6 * 920
    assert four["pass"] == 8 * (stored + 2 * 10 * 2) + rows
    # Rank 3: 3 * (4 * 10 + 2 * 10 + 2 * 5) of attention, 3 * 3 * (10 + 20) of the network.
    assert adapter_parameters(facts, 3) == 2 * (3 * 70 + 9 * 30)
    adapted = process_parts(facts, TrainingShape(960, 8, 2))
    assert adapted["weights"] == 2000 * 6
    assert adapted["gradients and optimiser"] == 960 * 14
    shared = process_parts(facts, TrainingShape(960, 8, 2, processes=2))
    assert shared["weights"] == (2000 * 2 + 960 * 4) / 2
    nf4 = process_parts(facts, TrainingShape(960, 8, 2, frozen=0.52))
    assert nf4["weights"] == 2000 * 0.52 + 960 * 6


def test_a_configuration_alone_is_planned(alignlab, tmp_path):
    shape = {
        "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": 4096,
        "intermediate_size": 11008, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 32, "vocab_size": 32000, "max_position_embeddings": 4096,
        "tie_word_embeddings": False,
    }  # fmt: skip
    (tmp_path / "7b").mkdir()
    (tmp_path / "7b" / "config.json").write_text(json.dumps(shape))
    row = {"prompt": "a", "chosen": "b", "rejected": "c"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(row) + "\n")
    asked = (
        "check", "dpo", "--model", str(tmp_path / "7b"), "--data", str(tmp_path / "pairs.jsonl"),
        "--sample", "0", "dtype=bfloat16", "gradient_checkpointing=true",
    )  # fmt: skip
    found = [
        alignlab(*asked, "--processes", "1", "lora.r=16"), alignlab(*asked, "--processes", "8")
    ]  # fmt: skip
    for done, size in zip(found, ("about 55 GB", "about 29 GB"), strict=True):
        assert done.code == 0, done.err
        assert "6,738,415,616 parameters, a plan alone: there are no weights" in done.out
        assert size in done.out
    assert "each of 8 processes" in found[1].out
    assert "saving, process 0: about 54 GB" in found[1].out
    refused = alignlab(*asked[:6], "--sample", "1")
    assert refused.code == 2
    quantised = alignlab(*asked, "--processes", "8", "lora.r=16", "quant=nf4")
    assert quantised.code == 2


def test_an_adapter_needs_less_memory(tmp_path):
    facts = model_facts(checkpoint_path("knows_all"))
    recipe = registry.get("recipe", "self_rewarding")
    whole = assemble(recipe, None, SMALL, {})
    adapted = assemble(recipe, None, (*SMALL, "sft.lora.r=2", "preference.lora.r=2"), {})
    assert isinstance(adapted, StudyConfig)
    sizes = [memory(facts, each, judged=0)[0].gigabytes for each in (adapted, whole)]
    assert sizes[0] < sizes[1]


def test_quantised_weights_are_counted_and_their_package_is_looked_for(monkeypatch):
    recipe = registry.get("recipe", "self_rewarding")
    poster = assemble(recipe, None, ["model=org/name", "preset=poster"], {})
    assert (poster.sft.quant, poster.preference.quant) == ("nf4", "nf4")
    plain = replace(poster, sft=replace(poster.sft, quant="none"))
    four, eight = (replace(poster, sft=replace(poster.sft, quant=q)) for q in ("nf4", "int8"))
    sizes = [memory(SHAPE, c, judged=0)[0].gigabytes for c in (plain, eight, four)]
    # 4 (bfloat16, merged next to pages of the file), 1 and 0.52 bytes a parameter.
    assert sizes[0] - sizes[1] == pytest.approx(3)
    assert sizes[1] - sizes[2] == pytest.approx(0.48)
    monkeypatch.setattr("alignlab.models.quant.util.find_spec", lambda name: None)
    with pytest.raises(BadInput, match=r"nf4 needs bitsandbytes"):
        plan_study(recipe, poster)


def test_money_and_time_by_hand():
    prices = "usd_per_million_prompt=10&usd_per_million_completion=100"
    teacher = f"openai:gpt-x@http://127.0.0.1:9/v1?{prices}"
    settings = ["eft.targets=human", f"teacher={teacher}", "corpus.demonstrations=24"]
    recipe = registry.get("recipe", "teacher_demonstration")
    plan = plan_study(
        recipe,
        assemble(recipe, None, [*SMALL, *settings], {}),
        speeds=lambda models, context, threads: dict.fromkeys(models, SPEED),
    )
    (price,) = plan.money
    asked = next(c for c in plan.calls if c.by == teacher)
    # 12 answers of up to 24 tokens to prompts of up to 40 and 8 of the template.
    assert (asked.number, asked.tokens, asked.read) == (12, 288, 576)
    assert price.dollars == pytest.approx((576 * 10 + 288 * 100) / 1e6)
    # One load, 12 prompts of 40 and 8 of the template, 3 chunks of 24 steps, 24 tokens an answer.
    sampled = next(s for s in plan.stages if s.stage.endswith("-sample"))
    assert sampled.most == pytest.approx(100 + 12 * 48 * 1.0 + 3 * 24 * 10.0 + 12 * 24 * 0.1)
    assert sampled.seconds <= sampled.most
    assert plan.time is not None
    assert plan.time.most == pytest.approx(sum(s.most for s in plan.stages))
    assert "up to 0.03 dollars for openai:gpt-x" in str(plan)


def test_disk_by_hand(monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=10**6))
    plan = check("self_rewarding", *SMALL, "iterations=1", "eft.targets=human", "seeds=2")
    drawn = sum(c.tokens for c in plan.calls if c.tokens) // 2
    # Three models in float32 and the texts twice, of two seeds; two checkpoints of 12 bytes.
    size = 2 * (3 * 4 * 908_928 + 2 * 3 * drawn) + 2 * 12 * 908_928
    assert plan.disk_gigabytes == pytest.approx(size / 1e9)
    assert "GB of checkpoints and records, 0 GB free (too little)" in str(plan)


def test_branches_share_the_processes(monkeypatch):
    monkeypatch.setattr("alignlab.machine.cores", lambda: 2)
    settings = [*SMALL, "branches=[sft_strong,random_judge]", "eft.targets=human"]
    alone = check("compare_feedback", *settings)
    two = check("compare_feedback", *settings, "hardware.workers=2")
    assert alone.time is not None
    assert two.time is not None
    assert alone.time.seconds == pytest.approx(sum(s.seconds for s in alone.stages))
    parts = {
        name: sum(s.seconds for s in two.stages if s.stage.startswith(f"{name}/"))
        for name in ("sft_strong", "random_judge")
    }
    assert min(parts.values()) > 0
    assert two.time.seconds == pytest.approx(alone.time.seconds - min(parts.values()))
    monkeypatch.setattr("alignlab.machine.cores", lambda: 1)
    turns = check("compare_feedback", *settings, "hardware.workers=2")
    assert turns.time is not None
    assert turns.time.seconds == pytest.approx(alone.time.seconds)


def test_lengths_of_the_study_s_texts():
    words = [("ab cd", "efg h i"), ("ab", "e")]
    found = typical_lengths(words, lambda text: len(text.split()))
    # 15 characters in 7 tokens; prompts of 2 and 1, answers of 3 and 1.
    assert found == Lengths(15 / 7, 2.0, 1.5)
    assert (found.drawn("answers", 96), found.drawn("answers", 1)) == (2.0, 1)
    assert (found.drawn("prompts", 96), found.drawn("judgements", 32)) == (1.5, 16)
    assert Lengths().drawn("answers", 96) == 96
    assert typical_lengths([], len) == Lengths()


def test_stand_ins_say_nothing_about_the_length_of_answers():
    recorder = Recorder(None, Lengths())
    words = [("ab cd", recorder.text(48)), ("ab", recorder.text(48))]
    found = typical_lengths(words, lambda text: len(text.split()), template=31)
    # 7 characters in 3 tokens of prompts; answers are half as long as allowed.
    assert found == Lengths(7 / 3, 0.0, 1.5, 31)
    assert found.drawn("answers", 48) == 24
    in_template = Recorder(None, found).tokens_of(Prompt("p", (Message("user", "ab cd"),)))
    assert in_template == 3 + 31


def test_a_common_start_of_judge_prompts_is_read_once():
    assert apart(["abcd", "abx", "abcde", "b"]) == ["abcd", "e", "x", "b"]
    assert apart([]) == []
    assert apart([[1, 2, 3], [1, 2], [1, 4]]) == [[1, 2], [3], [4]]
    recorder = Recorder(None, Lengths(characters=1, template=5))
    judge = recorder.completer(f"local:{checkpoint_path('knows_all')}")
    asked = [CompletionRequest(a, (Message("user", f"rubric {a}"),), Sampling(), 0, "=")
             for a in ("aa", "ab")]  # fmt: skip
    with recorder.asking("judgements"):
        judge.choice_logprobs(asked, ["1", "2"])
    (work,) = recorder.work
    # Two prompts of 10 characters in a template of 5; read once: all of one, "b=" of the other.
    assert (work.read, work.compute.read) == (2 * (5 + 10), 5 + 10 + 2)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (["propose.n=0", "prompts=1"], "setting propose.n: expected a prompt of the data for each"),
        (["sample.n=1"], "these settings leave a step without data: M2: the feedback left no two"),
        (["judge.method=expected", "propose.by=nobody:x"], "unknown engine 'nobody'"),
        (["measure.judge=llm:local:/nowhere"], "/nowhere: expected a model folder"),
        (["model=/nowhere"], "/nowhere: expected a model folder"),
    ],
)
def test_a_run_that_could_not_end_is_refused_before_it_is_begun(tmp_path, given, why):
    with pytest.raises(BadInput, match=why):
        run("self_rewarding", *SMALL, *given, f"out={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()


def test_rewards_of_rollouts_are_counted():
    settings = ["branches=[rloo_critic]", "prompts=8", "divergence=0",
                "feedback=llm:sandbox:strong", "rollout={steps: 5, batch_size: 4, responses: 2}",
                "measure={judge: longer, truth: ''}"]  # fmt: skip
    asked = called(check("compare_objectives", *SMALL, *settings))
    # 8 prompts x 4 samples scored 3 times each; 5 steps of 4 prompts x 2 responses likewise.
    assert asked["judgements", "sandbox:strong"].number == 8 * 4 * 3
    assert asked["rewards", "sandbox:strong"].number == 5 * 4 * 2 * 3
    assert asked["rollouts", STUDENT].number == 5 * 4 * 2


def test_old_names_of_recipes_are_found_and_not_listed():
    assert registry.get("recipe", "rl_free") is registry.get("recipe", "compare_objectives")
    assert check("compare", *SMALL).out == "runs/compare"
    assert not {"compare", "rl_free"} & set(registry.names("recipe"))


def test_old_paths_of_modules_import_the_modules_of_today():
    for old, new in MOVED.items():
        assert import_module(old) is import_module(new), old
    assert import_module("alignlab.context").Lab is RunContext
    assert import_module("alignlab.context").__spec__.name == "alignlab.context"


def test_only_the_trainings_of_a_study_have_to_fit():
    found: list[TrainConfig] = []
    recipe = registry.get("recipe", "relevance_reward")
    config = assemble(recipe, None, SMALL, {})
    plan = plan_study(recipe, config, fits=found.append)
    assert config.sft in found
    assert config.preference not in found
    rolled = [loop for loop in found if isinstance(loop, RolloutConfig)]
    assert rolled
    assert plan.memory[0].what == "training (rollouts)"
    assert plan.memory[0].of.endswith("reference")
    # A full training on rollouts holds a copy of the weights as the reference.
    loops = rolled[0], TrainConfig(**vars_of(rolled[0]))
    alone, same = (memory(SHAPE, config, 0, [Trained(0, loop=loop)])[0].gigabytes for loop in loops)
    assert alone - same == pytest.approx(2)


def vars_of(loop: TrainConfig) -> dict[str, Any]:
    """Return the settings that any training has."""
    return {field.name: getattr(loop, field.name) for field in fields(TrainConfig)}


def test_a_training_that_does_not_fit_is_refused_by_its_setting(tmp_path, monkeypatch):
    folder = str(checkpoint_path("knows_all"))
    adapters = [f"{kind}.lora.r=2" for kind in ("sft", "preference")]
    asked = [
        *SMALL,
        *adapters,
        f"model={folder}",
        "data=sandbox",
        "branches=[rloo]",
        "reward=model",
    ]
    free = 8 * parameter_count(folder) + 1000
    monkeypatch.setattr("alignlab.machine.plannable_memory", lambda: free)
    with pytest.raises(BadInput, match=r"^reward_training: memory: expected .* parameters, found"):
        run("compare_objectives", *asked, f"out={tmp_path / 'run'}")
    assert not (tmp_path / "run").exists()
