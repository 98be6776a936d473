"""Trainings by two processes: the same as by one, killed and resumed, and out of memory."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from glob import glob
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from alignlab.commands.train import train
from alignlab.generation.local import LocalEngine
from alignlab.models.load import load, save
from tests.conftest import ROOT
from tests.models.helpers import tiny_lm
from tests.training.trainings import LONGS, ROLLOUTS, TRAININGS, requests, settings

pytestmark = pytest.mark.slow
LAUNCH = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
PATHS = os.pathsep.join([str(ROOT / "src"), str(ROOT)])
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": PATHS}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """A tiny model, and data of unequal lengths in an odd number of groups."""
    folder = tmp_path_factory.mktemp("inputs")
    save(tiny_lm(scale=2.0), folder / "model")
    rng = np.random.Generator(np.random.Philox(1))

    def words(longest):
        return "".join(chr(c) for c in rng.integers(97, 123, rng.integers(3, longest)))

    pairs, demonstrations, groups = [], [], []
    for i in range(13):
        prompt = f"{words(20)}{i}"
        pairs.append({"prompt": prompt, "chosen": words(30), "rejected": words(30)})
        demonstrations.append({"prompt": prompt, "completion": words(30)})
        answers = [{"text": words(30), "rank": k} for k in range(2 + i % 3)]
        groups.append({"prompt": prompt, "responses": answers})
    for name, rows in (("pairs", pairs), ("demonstrations", demonstrations), ("groups", groups)):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(lines)
    return folder


@pytest.fixture(scope="module")
def runs(inputs, tmp_path_factory):
    """Where two processes have done every training."""
    out = tmp_path_factory.mktemp("runs")
    script = Path(__file__).with_name("several_processes.py")
    done = subprocess.run(
        [*LAUNCH, str(script), str(inputs), str(out)],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=500,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return out


def alone(inputs, out, training, **more):
    """The same training by this process."""
    chosen = settings(training) | more
    data = str(inputs / training.data)
    return train(training.objective, model=str(inputs / "model"), data=data, out=out, **chosen)


def weights_of(run):
    return load_file(glob(f"{run}/stages/*/model/model.safetensors")[0])


def lines_of(run):
    [file] = glob(f"{run}/stages/*/metrics.jsonl")
    lines = [json.loads(line) for line in Path(file).read_text().splitlines()]
    return [{k: v for k, v in line.items() if not k.startswith("time/")} for line in lines]


def assert_close(run, other, atol):
    """All weights are within `atol`, but one of a thousand, which is within ten times as much.

    Adam divides by gradients that are near zero: a CPU that rounds otherwise moves such a weight.
    """
    one, two = weights_of(run), weights_of(other)
    assert one.keys() == two.keys()
    apart = torch.cat([(one[name] - two[name]).abs().flatten() for name in one])
    assert float(apart.max()) <= 10 * atol
    assert float((apart > atol).float().mean()) <= (1e-3 if atol else 0)
    for line, again in zip(lines_of(run), lines_of(other), strict=True):
        shared = {k: v for k, v in again.items() if k != "token_budget"}
        assert line == pytest.approx(shared, rel=max(1e-5, atol * 10), abs=atol * 10)


@pytest.mark.parametrize("name", [*(name for name in TRAININGS if name != "bfloat16"), *ROLLOUTS])
def test_two_processes_train_as_one(inputs, runs, tmp_path, name):
    training = (TRAININGS | ROLLOUTS)[name]
    alone(inputs, tmp_path / "one", training)
    for parallel in training.parallel:
        assert_close(tmp_path / "one", runs / f"{name}-{parallel}", 1e-5)
    before = load_file(inputs / "model" / "model.safetensors")
    after = weights_of(tmp_path / "one")
    assert max(float((after[k] - before[k]).abs().max()) for k in before if k in after) > 1e-4


@pytest.mark.parametrize("parallel", ["data", "fsdp"])
def test_two_processes_train_as_one_in_bfloat16(inputs, runs, tmp_path, parallel):
    """Other micro-batches round otherwise, and Adam divides by gradients that are near zero."""
    alone(inputs, tmp_path / "one", TRAININGS["bfloat16"])
    before = load_file(inputs / "model" / "model.safetensors")
    one, two = weights_of(tmp_path / "one"), weights_of(runs / f"bfloat16-{parallel}")
    moved, apart = (
        sum(float((one[name] - other[name]).abs().sum()) for name in one) for other in (before, two)
    )
    assert apart < 0.01 * moved
    for line, again in zip(
        lines_of(tmp_path / "one"), lines_of(runs / f"bfloat16-{parallel}"), strict=True
    ):
        assert line["loss"] == pytest.approx(again["loss"], rel=1e-2)


def test_results_are_plain_models(runs):
    [folder] = glob(f"{runs}/lora-fsdp/stages/*/adapter")
    assert (Path(folder) / "adapter_config.json").is_file()
    [folder] = glob(f"{runs}/dpo-fsdp/stages/*/model")
    assert load(folder).model(torch.tensor([[5, 6, 7]])).logits.shape == (1, 3, 97)


def test_memory_that_runs_out_in_one_process_lowers_the_budget_of_both(inputs, runs, tmp_path):
    alone(inputs, tmp_path / "one", TRAININGS["dpo"])
    assert_close(tmp_path / "one", runs / "small", 1e-5)
    [kept] = glob(f"{runs}/small/stages/*/token_budget.json")
    assert json.loads(Path(kept).read_text())["token_budget"] < 192
    assert lines_of(runs / "small")[-1]["token_budget"] < 192


def test_what_the_leader_refuses_is_refused_in_all(runs):
    told = [(runs / f"refused-{rank}").read_text() for rank in (0, 1)]
    assert told[0].startswith("nowhere.jsonl: ")
    assert told[0] == told[1]
    assert not (runs / "never").exists()


def test_ppos_values_are_those_of_one_process(inputs, runs, tmp_path):
    alone(inputs, tmp_path / "one", ROLLOUTS["ppo"])
    one, *several = (
        load_file(glob(f"{run}/stages/*/model/value_head.safetensors")[0])
        for run in (tmp_path / "one", runs / "ppo-data", runs / "ppo-fsdp")
    )
    assert float(one["weight"].abs().max()) > 1e-4
    for head in several:
        for name in ("weight", "bias"):
            torch.testing.assert_close(head[name], one[name], rtol=0, atol=1e-5)


@pytest.mark.parametrize("count", [1, 5])
def test_shards_are_sampled_as_the_whole_model_is(inputs, runs, count):
    """Without a whole copy in any process, where one of them may have nothing to draw."""
    lm = load(inputs / "model", dtype="float32", device="cpu")
    whole = [d.tokens for several in LocalEngine(lm).draw(requests(count)) for d in several]
    found = json.loads((runs / f"drawn-{count}.json").read_text())
    assert [tuple(tokens) for tokens in found["tokens"]] == whole
    assert len({len(tokens) for tokens in whole}) == count
    assert sum(found["held"]) == pytest.approx(1)
    assert max(found["held"]) < 0.55


def test_killed_and_resumed_by_two_or_by_one(inputs, runs, tmp_path):
    """Steps go on while a checkpoint is saved; killed in it, the one before it is resumed."""
    out, stalls = tmp_path / "killed", tmp_path / "stalls"
    command = command_of("dpo", inputs, out)
    script = str(Path(__file__).with_name("stalled_save.py"))

    def late():
        return stalls.exists() and lines_written(out) >= 7

    kill_when(late, [*LAUNCH, script, str(stalls), *command])
    [stage] = (Path(file).parent for file in glob(f"{out}/stages/*/metrics.jsonl"))
    assert sorted(path.name for path in stage.glob("checkpoint-*")) == [
        "checkpoint-2", "checkpoint-4", "checkpoint-6.partial",
    ]  # fmt: skip
    assert not (stage / "model").exists()
    resumes(inputs, out, runs, "dpo", command)


@pytest.mark.heavy
def test_ppo_killed_and_resumed_by_two_or_by_one(inputs, runs, tmp_path):
    out = tmp_path / "killed"
    command = command_of("ppo", inputs, out)

    def saved():
        return bool(glob(f"{out}/stages/*/checkpoint-*[0-9]/training_state.json"))

    kill_when(saved, [*LAUNCH, "-m", "alignlab", *command])
    resumes(inputs, out, runs, "ppo", command)


def command_of(name, inputs, out):
    """The arguments of alignlab for a training by shards."""
    long = LONGS[name]
    chosen = settings(long)
    reward = ["--reward", chosen.pop("reward")] if "reward" in chosen else []
    return [
        "train", long.objective, "--model", str(inputs / "model"), *reward,
        "--data", str(inputs / long.data), "--out", str(out),
        *_as_arguments(chosen), "parallel=fsdp",
    ]  # fmt: skip


def lines_written(out):
    return sum(
        len(Path(file).read_text().splitlines()) for file in glob(f"{out}/stages/*/m*.jsonl")
    )


def kill_when(due, command):
    """Start processes, and kill all of them in the midst of their work."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    running = subprocess.Popen(command, env=ENVIRONMENT, start_new_session=True, **quiet)
    try:
        deadline = time.monotonic() + 300
        while not due():
            assert running.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


def resumes(inputs, out, runs, name, command):
    """What was killed ends as a whole run: by two processes bit for bit, by one up to rounding."""
    assert not glob(f"{out}/stages/*/model/config.json")
    by_one, whole = out.with_name("by-one"), runs / f"whole-{name}"
    shutil.copytree(out, by_one)
    again = [*LAUNCH, "-m", "alignlab", *command]
    resumed = subprocess.run(again, env=ENVIRONMENT, capture_output=True, text=True, timeout=500)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert resumed.stdout.count("model: ") == 1
    for file in glob(f"{whole}/stages/*/model/*.safetensors"):
        [other] = glob(f"{out}/stages/*/model/{Path(file).name}")
        one, two = load_file(file), load_file(other)
        assert all(torch.equal(one[key], two[key]) for key in one)
    assert lines_of(whole) == lines_of(out)
    assert '"resume"' in (out / "events.jsonl").read_text()
    alone(inputs, by_one, LONGS[name])
    assert_close(whole, by_one, 1e-5)


def _as_arguments(plain, prefix=""):
    for key, value in plain.items():
        if isinstance(value, dict):
            yield from _as_arguments(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}={value}"
