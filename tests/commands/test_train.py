"""`alignlab train` from data file to model, on a tiny random model."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from alignlab import integrity, progress
from alignlab.commands.train import train
from alignlab.errors import BadInput
from alignlab.models import adapters
from alignlab.models.load import load, save
from alignlab.objectives.dpo import DPO
from alignlab.training.conditioning import load_bins
from alignlab.training.trainer_state import TrainerState
from tests.models.helpers import tiny_lm, tiny_tokenizer
from tests.models.test_chat_template import NO_SYSTEM

QUICK = ("lr=1e-3", "batch_size=4", "log_every=1", "save_every=2", "threads=1", "device=cpu")
WORDS = ["plum", "pear", "fig", "date", "lime", "kiwi", "melon", "grape", "apple", "mango",
         "lemon", "cherry", "peach", "olive", "guava", "papaya"]  # fmt: skip


@pytest.fixture(autouse=True)
def _quiet():
    progress.use(progress.Silent())
    yield
    progress.use(None)


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(save(tiny_lm(scale=2.0), tmp_path_factory.mktemp("models") / "tiny"))


def write(path: Path, rows) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def ranked(word: str, K: int = 2):
    texts = [f"a {word} it is", f"no {word}", "what", "x"][:K]
    answers = [
        {"text": t, "score": float(K - k), "model": f"writer {k}"} for k, t in enumerate(texts)
    ]
    return {"prompt": f"Name a {word}.", "responses": answers}


@pytest.fixture
def pairs(tmp_path) -> str:
    return write(tmp_path / "pairs.jsonl", [ranked(w) for w in WORDS])


def metrics_of(done):
    lines = [json.loads(line) for line in Path(done.metrics).read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]


def test_dpo_from_pairs_with_held_out_groups(model, pairs, tmp_path):
    out = tmp_path / "run"
    done = train(
        "dpo", *QUICK, "objective.beta=0.5", "epochs=10",
        model=model, data=f"{pairs}?test_share=0.3", out=out,
    )  # fmt: skip
    first, *_, last = metrics_of(done)
    assert first["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert last["rewards/accuracies"] == 1
    assert {"rewards/chosen", "rewards/rejected", "rewards/margins", "logps/chosen"} <= last.keys()
    AutoModelForCausalLM.from_pretrained(done.model.path)
    rows = {(r.model, r.metric, r.against): r for r in done.held_out}
    own = rows["model", "accuracy", None]
    assert own.n > 0
    assert own.low <= own.value <= own.high
    # The winner is the longer one, and always of the same writer.
    assert rows["longer wins", "accuracy", None].value == 1
    assert rows["model identity", "accuracy", None].value == 1
    difference = rows["model", "accuracy_difference", "longer wins"]
    assert difference.value == pytest.approx(own.value - 1)
    assert f"model: {done.model.path}" in str(done)
    assert "held-out accuracy, longer wins: 1.000" in str(done)
    # The same call again reads what is there.
    assert train(
        "dpo", *QUICK, "objective.beta=0.5", "epochs=10",
        model=model, data=f"{pairs}?test_share=0.3", out=out,
    ) == done  # fmt: skip


def test_reward_model_from_lists(model, tmp_path):
    data = write(tmp_path / "lists.jsonl", [ranked(w, 4) for w in WORDS])
    done = train(
        "reward_model", *QUICK, "objective.centre=0.01", "epochs=6",
        model=model, data=f"{data}?test_share=0.3", out=tmp_path / "run",
    )  # fmt: skip
    loaded = AutoModelForSequenceClassification.from_pretrained(done.model.path)
    assert loaded.config.num_labels == 1
    assert done.held_out[0].value > 0.9
    with pytest.raises(BadInput, match="found a reward model"):
        train("dpo", *QUICK, model=done.model.path, data=data, out=tmp_path / "x",
              pairs="best_worst")  # fmt: skip


@pytest.mark.parametrize("objective", ["ipo", "hinge", "slic", "orpo", "simpo", "cpo", "rrhf",
                                       "pro", "dpo_pro", "preferred_ft", "kto",
                                       "reward_conditioned"])  # fmt: skip
def test_every_objective_over_groups(objective, model, pairs, tmp_path):
    bins = ("objective.bins=2",) if objective == "reward_conditioned" else ()
    done = train(objective, *QUICK, *bins, model=model, data=f"{pairs}?test_share=0.3",
                 out=tmp_path / "run")  # fmt: skip
    imitates = objective in ("preferred_ft", "reward_conditioned")
    assert bool(done.held_out) != imitates
    assert metrics_of(done)[-1]["loss"] is not None
    if bins:
        assert load_bins(done.model.path).best == "[reward 2 of 2]\n"


def test_sft_kto_and_feedback_from_their_own_columns(model, tmp_path):
    turns = [[{"role": "user", "content": w}, {"role": "assistant", "content": w}] for w in WORDS]
    messages = write(tmp_path / "m.jsonl", [{"messages": t} for t in turns])
    assert train("sft", *QUICK, model=model, data=messages, out=tmp_path / "sft").held_out == ()
    row = [{"prompt": w, "completion": "yes", "label": i % 2 == 0} for i, w in enumerate(WORDS)]
    unpaired = write(tmp_path / "u.jsonl", row)
    kto = train("kto", *QUICK, model=model, data=unpaired, out=tmp_path / "kto")
    assert metrics_of(kto)[0]["loss"] == pytest.approx(0.5, abs=1e-4)
    said = [{"prompt": w, "completion": "yes", "feedback": "brief"} for w in WORDS]
    commented = write(tmp_path / "c.jsonl", said)
    joint = train("joint_feedback", *QUICK, model=model, data=commented, out=tmp_path / "joint")
    assert "logps/feedback" in metrics_of(joint)[0]


def test_adapters_in_and_out(model, pairs, tmp_path):
    lm = adapters.attach(tiny_lm(scale=2.0), adapters.LoraConfig(r=2), seed=1)
    for name, parameter in lm.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    given = save(lm, tmp_path / "adapter", adapter_only=True)
    done = train(
        DPO(beta=0.3), *QUICK, "lora.r=2", "lora.targets=[q_proj]", adapter=str(given),
        model=model, data=pairs, out=tmp_path / "run",
    )  # fmt: skip
    stage = Path(done.model.path).parent
    assert (stage / "adapter" / "adapter_config.json").is_file()
    merged = load_file(tmp_path / "run/stages/02-merged/model/model.safetensors")
    before = load_file(Path(model) / "model.safetensors")
    after = load_file(Path(done.model.path) / "model.safetensors")
    assert any(not torch.equal(merged[name], before[name]) for name in before)
    changed = {name for name in merged if not torch.equal(merged[name], after[name])}
    assert changed
    assert all("q_proj" in name for name in changed)


@pytest.mark.parametrize(
    ("objective", "overrides", "said"),
    [
        ("dop", (), "unknown objective 'dop'; did you mean 'dpo'"),
        ("dpo", ("objective.bta=1",), "unknown setting 'bta'; did you mean 'beta'"),
        ("dpo", ("learning_rate=1",), "unknown setting 'learning_rate'"),
        ("dpo", ("objective.robust=true",), "label_smoothing > 0"),
        ("dpo", ("schedule=constant", "min_lr_ratio=0.5"), "min_lr_ratio: has no effect"),
        ("dpo", ("keep_checkpoints=3", "save_every=0"), "keep_checkpoints: has no effect"),
        ("dpo", ("validate_every=2",), "validate_every: has no effect"),
        ("dpo", ("pairs=all",), "pairs: has no effect"),
        ("dpo", ("token_budget=64",), "longer than the budget"),
        ("dpo", ("lengths.max_response_tokens=3",), "no record is left to train on"),
        ("dpo", ("quant=nf4",), "quant: expected lora with it"),
        ("dpo", ("quant=int3", "lora.r=2"), "setting quant: "),
        ("dpo", ("track=mlflow",), "setting track: "),
        ("dpo", ("deepspeed=ds.json",), "DeepSpeed is not run here; parallel=fsdp"),
        ("dpo", ("lr=-1",), "setting lr: expected above 0, found -1"),
        ("dpo", ("threads=-1",), "setting threads: expected 0 or more"),
        ("dpo", ("objective.beta=0",), "setting beta: expected above 0, found 0"),
        ("dpo", ("save_dtype=int8",), "setting save_dtype: expected input, float32 or bfloat16"),
        ("sft", (), "SFT learns from demonstrations; the data has 16 preference groups"),
        ("reward_conditioned", (), "at most the 2 different scores"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused_with_reasons(objective, overrides, said, model, pairs, tmp_path):
    with pytest.raises(BadInput, match=said):
        train(objective, *overrides, model=model, data=pairs, out=tmp_path / "run")


def test_data_that_does_not_fit_is_refused(model, tmp_path):
    single = write(tmp_path / "s.jsonl", [{"prompt": w, "completion": w} for w in WORDS])
    with pytest.raises(BadInput, match="a group needs 2 responses or more"):
        train("dpo", model=model, data=single, out=tmp_path / "run")
    equal = [{"prompt": w, "chosen": w, "rejected": w} for w in WORDS]
    same = write(tmp_path / "e.jsonl", [*equal, {"prompt": "x", "chosen": "", "rejected": "y"}])
    for objective, reward, wanted in (("dpo", "", "no records"), ("ppo", "longer", "found none")):
        reasons = (
            rf"{wanted} \(dropped: identical responses {len(WORDS)}, empty chosen response 1\)"
        )
        with pytest.raises(BadInput, match=reasons):
            train(objective, model=model, data=same, reward=reward, out=tmp_path / "run")
    lists = write(tmp_path / "l.jsonl", [ranked(w, 3) for w in WORDS])
    with pytest.raises(BadInput, match="DPO expects 2 responses, found 3; choose with pairs="):
        train("dpo", model=model, data=lists, out=tmp_path / "run")
    done = train("dpo", *QUICK, "pairs=all", model=model, data=lists, out=tmp_path / "run")
    assert metrics_of(done)[-1]["step"] == 12  # 16 groups of 3 pairs by 4
    assert any(c.what == "pairs" and c.changed == {"group to pairs": 16} for c in done.counts)
    with pytest.raises(BadInput, match=r"started with lr=0.001, found 0.01"):
        train("dpo", *QUICK, "pairs=all", "lr=0.01", model=model, data=lists, out=tmp_path / "run")


def command(model, data, out):
    settings = (*QUICK, "epochs=12")
    return [sys.executable, "-m", "alignlab", "train", "dpo", "--model", model, "--data", data,
            "--out", str(out), *settings]  # fmt: skip


def test_a_killed_command_resumes_and_ends_the_same(model, pairs, tmp_path):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": env}
    killed = tmp_path / "killed"
    process = subprocess.Popen(command(model, pairs, killed), **quiet)
    deadline = time.monotonic() + 120
    while not list(killed.glob("stages/02-model/checkpoint-*/training_state.json")):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "stages/02-model/model").exists()
    again = subprocess.run(
        command(model, pairs, killed), env=env, capture_output=True, text=True, check=True
    )
    assert f"model: {killed}/stages/02-model/model" in again.stdout
    events = (killed / "events.jsonl").read_text()
    assert '"resume"' in events
    whole = train("dpo", *QUICK, "epochs=12", model=model, data=pairs, out=tmp_path / "whole")
    one = load_file(killed / "stages/02-model/model/model.safetensors")
    other = load_file(Path(whole.model.path) / "model.safetensors")
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert (killed / "stages/02-model/model/config.json").is_file()


class Killed(BaseException):
    pass


@pytest.fixture
def half_trained(model, pairs, tmp_path, monkeypatch) -> Path:
    """A run that was killed after the fifth step, with checkpoints at the second and fourth."""
    done = TrainerState.done

    def dying(state, *given):
        found = done(state, *given)
        if state.progress.step == 5:
            raise Killed
        return found

    with monkeypatch.context() as patch:
        patch.setattr(TrainerState, "done", dying)
        with pytest.raises(Killed):
            train("dpo", *QUICK, "epochs=2", model=model, data=pairs, out=tmp_path / "run")
    return tmp_path / "run"


def test_a_damaged_checkpoint_is_counted_in_the_run(model, pairs, half_trained):
    stage = half_trained / "stages/02-model"
    (stage / "checkpoint-4/training_state.safetensors").unlink()
    unfinished = stage / "model.tmp" / "model.safetensors"  # killed while it was saved
    unfinished.parent.mkdir()
    unfinished.write_bytes(b"half")
    train("dpo", *QUICK, "epochs=2", model=model, data=pairs, out=half_trained)
    counts = json.loads((half_trained / "manifest.json").read_text())["counts"]
    (found,) = [c for c in counts if c["what"] == "checkpoints resumed from"]
    assert found["dropped"] == {"damaged, its steps done again": 1}


def test_without_a_whole_checkpoint_a_run_says_how_to_go_on(model, pairs, half_trained):
    for file in half_trained.glob("stages/02-model/checkpoint-*/training_state.json"):
        file.write_text("{}x")
    again = {"model": model, "data": pairs, "out": half_trained}
    with pytest.raises(BadInput, match=r"checkpoint-4/training_state.json.*--repair computes"):
        train("dpo", *QUICK, "epochs=2", **again)
    with integrity.repairing(True):
        train("dpo", *QUICK, "epochs=2", **again)


def test_metrics_go_to_a_tracker_beside_the_file(model, pairs, tmp_path):
    pytest.importorskip("tensorboard", reason="the extra [track] is not installed")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    done = train("dpo", *QUICK, "track=tensorboard", model=model, data=pairs, out=tmp_path / "run")
    read = EventAccumulator(str(Path(done.metrics).with_name("tracking")))
    read.Reload()
    lines = metrics_of(done)
    for name in ("loss", "rewards/margins", "learning_rate"):
        told = {event.step: event.value for event in read.Scalars(name)}
        assert told == pytest.approx({line["step"]: line[name] for line in lines}, rel=1e-5)
    # Who watches changes no figure: the same run goes on without a tracker.
    assert train("dpo", *QUICK, model=model, data=pairs, out=tmp_path / "run") == done


def test_dropout_runs_plain_batches_and_says_so_once(model, pairs, tmp_path, caplog):
    settings = ("dropout=0.1", "epochs=3")
    with caplog.at_level(logging.WARNING, logger="alignlab"):
        done = train("dpo", *QUICK, *settings, model=model, data=pairs, out=tmp_path / "run")
    said = [r.message for r in caplog.records if "plain per-sequence batches" in r.message]
    assert len(said) == 1
    assert said[0].startswith("plain per-sequence batches: dropout is on; the first batch reads ")
    kept = json.loads((Path(done.model.path).parent / "trained.jsonl").read_text())
    assert kept["plain_because"] == "dropout is on"


@pytest.mark.parametrize("quant", ["nf4", "int8"])
def test_an_adapter_on_quantised_weights(quant, model, pairs, tmp_path):
    pytest.importorskip("bitsandbytes", reason="the extra [quant] is not installed")
    settings = (*QUICK, f"quant={quant}", "lora.r=2", "epochs=8", "objective.beta=0.5")
    data = f"{pairs}?test_share=0.3"
    done = train("dpo", *settings, model=model, data=data, out=tmp_path / "run")
    first, *_, last = metrics_of(done)
    assert first["loss"] == pytest.approx(0.6931, abs=1e-3)
    assert last["loss"] < 0.5
    stage = Path(done.model.path).parent
    assert (stage / "adapter" / "adapter_config.json").is_file()
    whole = AutoModelForCausalLM.from_pretrained(done.model.path)
    assert {p.dtype for p in whole.parameters()} == {torch.float32}
    assert not hasattr(whole.config, "quantization_config")
    before = load_file(Path(model) / "model.safetensors")
    after = load_file(Path(done.model.path) / "model.safetensors")
    assert before.keys() == after.keys()
    # Linear layers carry the rounding; embeddings, norms and the head are as they were.
    for name, value in before.items():
        assert torch.equal(after[name], value) == ("_proj" not in name), name
    with pytest.raises(BadInput, match="made of plain weights"):
        train("reward_model", *settings[:-1], model=model, data=data, out=tmp_path / "rm")


@pytest.fixture(scope="module")
def without_system(tmp_path_factory) -> str:
    lm = replace(tiny_lm(scale=2.0), tokenizer=tiny_tokenizer(NO_SYSTEM))
    path = save(lm, tmp_path_factory.mktemp("models") / "picky", dtype="bfloat16")
    return str(path)


def test_records_that_the_template_refuses_are_named_or_counted(without_system, tmp_path):
    def turns(word, system):
        asked = [{"role": "user", "content": f"Say {word}."}]
        return [*system, *asked, {"role": "assistant", "content": word}]

    system = [{"role": "system", "content": "Be brief."}]
    rows = [{"messages": turns(w, system if i == 3 else [])} for i, w in enumerate(WORDS)]
    data = write(tmp_path / "d.jsonl", rows)
    with pytest.raises(BadInput, match=r"record \w+ \('Say date.'\).*System role not") as caught:
        train("sft", *QUICK, model=without_system, data=data, out=tmp_path / "a")
    assert "\n" not in str(caught.value)
    done = train("sft", *QUICK, model=without_system, data=f"{data}?bad=drop", out=tmp_path / "b")
    assert "refused by the chat template, or holding it already 1" in str(done)
    with pytest.raises(BadInput, match=r"prompt .*System role not supported"):
        train(
            "grpo", *QUICK, "steps=1", model=without_system, data=data, reward="longer",
            out=tmp_path / "c",
        )  # fmt: skip
    done = train(
        "grpo", *QUICK, "steps=1", "max_tokens=4", model=without_system,
        data=f"{data}?bad=drop", reward="longer", out=tmp_path / "d",
    )  # fmt: skip
    assert "refused by the chat template, or holding it already 1" in str(done)


@pytest.mark.parametrize(
    ("objective", "settings", "kept"),
    [
        ("dpo", (), torch.bfloat16),
        ("dpo", ("save_dtype=float32",), torch.float32),
        ("reward_model", (), torch.float32),
    ],
)
def test_the_saved_type_is_the_inputs_unless_asked(
    objective, settings, kept, without_system, pairs, tmp_path
):
    done = train(objective, *QUICK, *settings, model=without_system, data=pairs, out=tmp_path / "r")
    found = load_file(Path(done.model.path) / "model.safetensors")
    assert {value.dtype for value in found.values()} == {kept}


def test_an_adapters_folder_trains_as_a_model(model, pairs, tmp_path):
    lm = adapters.attach(load(model), adapters.LoraConfig(r=2), seed=1)
    for name, parameter in lm.model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    folder = save(lm, tmp_path / "adapter", adapter_only=True)
    done = train("dpo", *QUICK, model=str(folder), data=pairs, out=tmp_path / "run")
    # The reference holds the adapter: the first loss is log 2.
    assert metrics_of(done)[0]["loss"] == pytest.approx(0.6931471805599453, abs=1e-6)
    AutoModelForCausalLM.from_pretrained(done.model.path)
