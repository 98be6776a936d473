"""What the launcher and accelerate's configuration ask for is done, or refused in one line."""

from __future__ import annotations

import pytest

from alignlab.errors import BadInput
from alignlab.training.config import TrainConfig
from alignlab.training.launch import refuse_unmet, sharded


@pytest.fixture
def launch(monkeypatch):
    """As if torchrun had started two processes."""
    for name, value in (("RANK", "0"), ("WORLD_SIZE", "2"), ("MASTER_ADDR", "localhost"),
                        ("MASTER_PORT", "1"), ("LOCAL_WORLD_SIZE", "2")):  # fmt: skip
        monkeypatch.setenv(name, value)


def test_how_processes_share(launch):
    asks = {"ACCELERATE_USE_FSDP": "true"}
    assert not sharded("auto", {})
    assert sharded("auto", asks)
    assert sharded("fsdp", {})
    assert not sharded("data", asks)


def test_one_process_shares_nothing():
    assert not sharded("auto", {"ACCELERATE_USE_FSDP": "true"})
    with pytest.raises(BadInput, match="parallel: fsdp has no effect in one process"):
        sharded("fsdp")


@pytest.mark.parametrize(
    ("environment", "config", "message"),
    [
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, TrainConfig(), "dtype=bfloat16"),
        ({"ACCELERATE_MIXED_PRECISION": "fp16"}, TrainConfig(), "expected no or bf16, found fp16"),
        ({"FSDP_OFFLOAD_PARAMS": "true"}, TrainConfig(), "fsdp_offload_params"),
        ({"FSDP_ACTIVATION_CHECKPOINTING": "true"}, TrainConfig(), "gradient_checkpointing=true"),
        ({"ACCELERATE_MIXED_PRECISION": "bf16"}, TrainConfig(dtype="bfloat16"), ""),
        (
            {"FSDP_ACTIVATION_CHECKPOINTING": "true"},
            TrainConfig(gradient_checkpointing=True),
            "",
        ),
    ],
)
def test_what_accelerate_asks_for_is_done_or_refused(launch, environment, config, message):
    environment = {"ACCELERATE_USE_FSDP": "true"} | environment
    if not message:
        refuse_unmet(config, environment)
        return
    with pytest.raises(BadInput, match=message):
        refuse_unmet(config, environment)


@pytest.mark.parametrize("several", [False, True])
def test_accelerate_that_asks_for_deepspeed_is_refused(several, request):
    if several:
        request.getfixturevalue("launch")
    with pytest.raises(BadInput, match=r"DeepSpeed is not run here; parallel=fsdp \(FSDP2\)"):
        refuse_unmet(TrainConfig(), {"ACCELERATE_USE_DEEPSPEED": "true"})


def test_a_deepspeed_file_is_refused_in_one_line_that_names_what_serves(alignlab, tmp_path):
    ended = alignlab(
        "train", "sft", "--model", "m", "--data", "d", "--out", tmp_path / "o", "deepspeed=ds.json"
    )
    assert ended.code == 2
    assert "setting deepspeed: DeepSpeed is not run here; parallel=fsdp (FSDP2)" in ended.line
    assert not (tmp_path / "o").exists()


def test_commands_that_train_nothing_are_not_for_several_processes(launch, alignlab):
    ended = alignlab("list", "recipes")
    assert ended.code == 2
    assert "expected one process, found 2" in ended.line
