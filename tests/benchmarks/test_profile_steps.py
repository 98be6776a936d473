"""Counts of operations and bytes by hand, classes of operations, and a run of all work."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from alignlab.models.packed import TokenGroup
from tests.benchmarks.running import benchmark
from tests.conftest import ROOT
from tests.generation.tiny import tiny

sys.path.append(str(ROOT / "benchmarks"))
import op_profile
import roofline
from roofline import Needed, Rates

CONFIG = SimpleNamespace(
    hidden_size=4, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1,
    head_dim=3, intermediate_size=5, vocab_size=7,
)  # fmt: skip
# A layer: queries and output 2 * 4 * 6, keys and values 2 * 4 * 3, feed-forward 3 * 4 * 5.
BODY = 2 * (48 + 24 + 60)
HEAD = 4 * 7
ATTENTION = 2 * 4 * 6
"""Operations for a query and a key: 2 layers, two products, 2 heads of 3 numbers."""
STATE = 2 * 2 * 3
"""Numbers of keys and values of a token."""


def test_a_step_by_hand() -> None:
    """A prompt of 2 with responses of 1 and 3 tokens: keys seen 1 + 2, then 3, then 3 + 4 + 5."""
    group = TokenGroup("g", (1, 2), ((3,), (4, 5, 6)))
    forward = 2 * (BODY * 6 + HEAD * 4) + ATTENTION * (3 + 3 + 12)
    assert roofline.pass_flops(CONFIG, [group]) == forward
    assert roofline.step_flops(CONFIG, [group, group]) == 2 * 3 * forward
    scored = roofline.scoring(CONFIG, [group], 3, 2)
    assert scored == Needed(forward, 3 * 2 * (BODY + HEAD))


def test_bytes_of_a_step_by_hand() -> None:
    """Two passes in bfloat16: weights read twice and gradients written; 28 bytes of float32."""
    assert roofline.step_bytes(10, 2, 2) == 10 * (2 * 3 * 2 + 28)


def test_sampling_by_hand() -> None:
    """Prompts of 3 and 2 tokens with samples of 3 and 1, and of 2 tokens.

    Fed are 2 and 0 tokens, and 1: two steps.
    """
    found = roofline.sampling(CONFIG, [(3, [3, 1]), (2, [2])], 2)
    assert found["prompts"] == Needed(
        2 * (BODY * 5 + HEAD * 2) + ATTENTION * (6 + 3), 2 * (BODY + HEAD + STATE * 5)
    )
    seen = (3 + 1) + (3 + 2) + (2 + 1)
    # Prompt 3 is read in two steps, prompt 2 in one; own tokens and the new one: 1, 2, and 1.
    moved = 3 * 2 + 2 * 1 + (1 + 2 + 1)
    assert found["tokens"] == Needed(
        2 * 3 * (BODY + HEAD) + ATTENTION * seen, 2 * (2 * (BODY + HEAD) + STATE * moved)
    )


def test_samples_share_their_prompt() -> None:
    """Four samples read the prompt's keys as often as one, and its weights too."""
    one, four = (roofline.sampling(CONFIG, [(50, [9] * n)], 1)["tokens"] for n in (1, 4))
    assert four.flops == 4 * one.flops
    own = STATE * (8 * 9 / 2)
    assert four.bytes - one.bytes == 3 * own


def test_judging_by_hand() -> None:
    """Rows 1 2 3, 1 2 4 5 and 1 2: tokens 1 2, 3, 4 5 are read once; the last ends within."""
    rows = [(1, 2, 3), (1, 2, 4, 5), (1, 2), (1, 2, 3)]
    seen = 1 + 2 + 3 + (3 + 4)
    assert roofline.judging(CONFIG, rows, 4) == Needed(
        2 * (BODY * 5 + HEAD * 3) + ATTENTION * seen, 4 * (BODY + HEAD)
    )


def test_the_slower_rate_is_the_limit() -> None:
    known = Rates(flops=10.0, bytes=2.0)
    assert Needed(100.0, 4.0).seconds(known) == 10.0
    assert Needed(100.0, 60.0).seconds(known) == 30.0


def test_measured_rates_are_positive() -> None:
    assert roofline.copy_bandwidth() > 1e6


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("aten::mm", "weights"),
        ("mkldnn::_linear_pointwise", "weights"),
        ("aten::bmm", "attention"),
        ("aten::_softmax_backward_data", "softmax"),
        ("aten::mul_", "elementwise"),
        ("aten::silu_backward", "elementwise"),
        ("aten::_foreach_mul_", "elementwise"),
        ("aten::copy_", "copies"),
        ("aten::view", "views"),
        ("aten::searchsorted", "sampling"),
        ("aten::unheard_of", "other"),
    ],
)
def test_classes(name: str, kind: str) -> None:
    assert op_profile.class_of(name) == kind


def test_an_operation_has_one_class() -> None:
    names = [name for several in op_profile.OPERATIONS.values() for name in several.split()]
    assert len(names) == len(set(names))


def event(name: str, us: float, parent: SimpleNamespace | None = None) -> SimpleNamespace:
    return SimpleNamespace(name=name, self_cpu_time_total=us, cpu_parent=parent)


def test_profiles_by_hand() -> None:
    """A softmax counts as sampling within its mark; marks' own time is Python's."""
    part = event(op_profile.PART + "drawing", 5e6)
    choice = event(op_profile.SAMPLING, 7e6, part)
    events = [
        part,
        choice,
        event("aten::_softmax", 1e6, choice),
        event("aten::_softmax", 2e6, part),
        event("aten::mm", 4e6),
        event("aten::unheard_of", 1e6),
    ]
    found = op_profile.profiles(events)
    assert found["whole"].seconds == {"sampling": 1, "softmax": 2, "weights": 4, "other": 1}
    assert found["drawing"].seconds == {"sampling": 1, "softmax": 2}
    assert found["whole"].shares()["weights"] == 0.5
    assert found["whole"].largest_unknown() == {"aten::unheard_of": 0.125}


@pytest.mark.heavy
def test_all_work_at_toy_size(tmp_path: Path) -> None:
    lm = tiny()
    lm.model.config.max_position_embeddings = 8192
    lm.model.save_pretrained(tmp_path / "model")
    lm.tokenizer.save_pretrained(tmp_path / "model")
    answers = [{"model": f"m{k}", "text": f"The cat said {k}.", "rank": k} for k in range(4)]
    rows = [
        {
            "instruction_id": i, "split": "train", "dataset": "toy",
            "prompt": f"What is the town number {i}?", "responses": answers,
        }
        for i in range(8)
    ]  # fmt: skip
    file = tmp_path / "lists.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    ran = benchmark(
        "profile_steps.py", "--folder", str(tmp_path / "model"), "--data", str(file), "--json",
        "--dtype", "float32", "--rounds", "1", "--prompts", "2", "--new-tokens", "6",
    )  # fmt: skip
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = {(row["what"], row["part"]): row for row in json.loads(ran.stdout)}
    assert list(found) == [
        ("dpo", "whole"), ("lists", "whole"),
        ("grpo", "whole"), ("grpo", "sampling"), ("grpo", "scoring"), ("grpo", "training"),
        ("sample", "whole"), ("sample", "prompts"), ("sample", "tokens"), ("judge", "whole"),
    ]  # fmt: skip
    for row in found.values():
        assert 0 < row["limit"] < 1
        assert sum(row["profile"].values()) == pytest.approx(1)
        assert row["profile"]["weights"] > 0
    # The parts of a rollout step are all that it needs.
    parts = [found["grpo", name]["gflop"] for name in ("sampling", "scoring", "training")]
    assert found["grpo", "whole"]["gflop"] == pytest.approx(sum(parts))
    assert found["sample", "whole"]["profile"]["sampling"] > 0
    assert found["judge", "whole"]["profile"]["sampling"] == 0


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    ran = benchmark("profile_steps.py", "--folder", str(tmp_path), "--data", "x.jsonl")
    assert ran.returncode != 0
    assert "--folder: expected the folder of a model" in ran.stderr
