"""Training page: samples by step, and alarms, each of which rings and keeps silent."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from alignlab.errors import BadInput
from alignlab.records import to_line
from alignlab.training.rollout_samples import FILE, RolloutSample
from alignlab.viewer import pages
from alignlab.viewer.alarms import of_metrics, of_rewards
from alignlab.viewer.app import application
from alignlab.viewer.library import Library
from tests.viewer.a_run import HOSTILE, build_rollouts
from tests.viewer.a_run import build as build_study

STEPS = 10
HOST = "127.0.0.1:8000"


def shown(path: Path, **query: str) -> dict[str, Any]:
    library = Library(path)
    (key,) = library.paths()
    return pages.training(library, library.run(key), query)


def test_the_samples_of_a_step_come_with_its_figures(tmp_path: Path) -> None:
    path = build_rollouts(tmp_path / "run", lambda i: 1.0)
    last = shown(path)["rollouts"]
    assert (last["step"], last["after"]) == (10, "")
    assert [step for step, _ in last["marks"]] == [1, 3, 5, 8, 10]
    found = shown(path, step="2")["rollouts"]
    assert dict(found["figures"]) == {
        "Reward": "0.2",
        "KL from the reference (nats)": "0.4",
        "Entropy (nats per token)": "2",
        "Response length (tokens)": "20",
    }
    assert [one["response"] for one in found["samples"]] == [f"{HOSTILE} at 2"]
    assert found["before"].endswith("step=1")
    assert shown(path, step="999")["rollouts"]["step"] == 10
    for query in ({"step": "x"}, {"stage": "none"}):
        with pytest.raises(BadInput, match="address: "):
            shown(path, **query)


def test_the_page_shows_samples_curves_and_alarms(tmp_path: Path) -> None:
    path = build_rollouts(tmp_path / "run", lambda i: 5 - 0.1 * i)
    client = TestClient(application(Library(path), 8000), base_url=f"http://{HOST}")
    page = client.get("/run/run/training?step=2").text
    assert "<img" not in page
    text = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))
    assert "the reward rose from 0.20 to 0.90 while the gold score fell from 4.80 to 4.10" in text
    assert "unscored · 20 tokens" in text
    assert "Reward and gold score: branch / ppo" in text
    link = html.unescape(re.findall(r'href="(training\?[^"#]*)#samples">samples', page)[0])
    assert "Step 10 · Reward 1" in client.get(f"/run/run/{link}").text


def test_a_run_without_rollouts_has_no_samples(tmp_path: Path) -> None:
    found = shown(build_study(tmp_path / "run"))
    assert (found["rollouts"], found["alarms"]) == (None, [])
    assert [c["chart"].title for c in found["charts"]] == ["Loss"]


def test_a_validation_score_that_falls_while_the_reward_rises_rings(tmp_path: Path) -> None:
    path = build_rollouts(tmp_path / "run", lambda i: None)
    assert shown(path)["alarms"] == []
    (file,) = path.rglob("metrics.jsonl")
    steps = [json.loads(line) for line in file.read_text().splitlines()]
    file.write_text("".join(json.dumps(s | {"validation": 5 - s["step"]}) + "\n" for s in steps))
    (alarm,) = shown(path)["alarms"]
    assert alarm["text"].endswith("while the validation score fell from 3.00 to -4.00")


def test_samples_of_a_run_under_way_are_followed(tmp_path: Path) -> None:
    path = build_rollouts(tmp_path / "run", lambda i: 1.0)
    library = Library(path)
    assert pages.training(library, library.run("run"), {})["rollouts"]["step"] == 10
    (file,) = path.rglob(FILE)
    with file.open("a") as stream:
        stream.write(to_line(RolloutSample(11, "p/1", "?", "new", 1.0, 3, True)))
        stream.write('{"step": 12')
    found = pages.training(library, library.run("run"), {})["rollouts"]
    assert (found["step"], found["samples"][0]["response"]) == (11, "new")


def lines(**metrics: Callable[[int], float | None]) -> list[dict[str, Any]]:
    """Return ten lines of metrics; names with a double underscore for the slash."""
    return [
        {"step": i, **{k.replace("__", "/"): f(i) for k, f in metrics.items()}}
        for i in range(1, STEPS + 1)
    ]


def rung(steps: list[dict[str, Any]]) -> list[str]:
    return [alarm.kind for alarm in of_metrics("ppo", steps)]


@pytest.mark.parametrize(
    ("kind", "rings", "silent"),
    [
        ("not finite", {"loss": lambda i: None if i == 4 else 1.0}, {"loss": lambda i: 1.0}),
        # means over the last two steps: 9.5 * 1.06 = 10.07, and 9.5 * 1.05 = 9.975
        ("kl", {"objective__kl": lambda i: 1.06 * i}, {"objective__kl": lambda i: 1.05 * i}),
        (
            "entropy",
            {
                "objective__entropy": lambda i: 40.0 if i < 9 else 11.0,
                "completions__mean_length": lambda i: 20.0,
            },
            {  # half as long, and as uncertain per token as before
                "objective__entropy": lambda i: 40.0 if i < 9 else 11.0,
                "completions__mean_length": lambda i: 20.0 if i < 9 else 7.0,
            },
        ),
        (
            "length",
            {"completions__mean_length": lambda i: 20.0 if i < 9 else 40.0},
            {"completions__mean_length": lambda i: 20.0 if i < 9 else 39.0},
        ),
        (
            "length",
            {"completions__mean_length": lambda i: 20.0 if i < 9 else 6.0},
            {"completions__mean_length": lambda i: 20.0 if i < 10 else 1.0},  # one odd step
        ),
        (
            "cut",
            {"completions__clipped_ratio": lambda i: 0.1 if i < 9 else 0.41},
            {"completions__clipped_ratio": lambda i: 0.9},  # as at the beginning
        ),
        (
            "repetition",
            {"completions__repetition": lambda i: 0.05 if i < 9 else 0.26},
            {"completions__repetition": lambda i: 0.05 if i < 9 else 0.24},
        ),
        (
            "sampler",
            {"sampler__alarm": lambda i: float(i == 2), "sampler__mismatch": lambda i: 0.1 * i},
            {"sampler__alarm": lambda i: 0.0, "sampler__mismatch": lambda i: 0.1 * i},
        ),
    ],
    ids=["not finite", "kl", "entropy", "longer", "shorter", "cut", "repetition", "sampler"],
)
def test_alarms_ring_and_keep_silent(kind: str, rings: Any, silent: Any) -> None:
    assert rung(lines(**rings)) == [kind]
    assert rung(lines(**silent)) == []
    if kind != "not finite":
        assert rung(lines(**rings)[-4:]) == []  # too few steps


NOISE = [0.0, 0.3, -0.3, 0.1, -0.2, 0.2, -0.1, 0.3, -0.3, 0.0, 0.1, -0.1]


@pytest.mark.parametrize(
    ("reward", "truth", "rings"),
    [
        (0.2, -0.2, True),
        (0.2, 0.2, False),  # both rise
        (-0.2, -0.2, False),  # both fall
        (0.2, 0.0, False),  # the gold score is noise
        (0.0, -0.2, False),  # the reward is noise
    ],
)
def test_reward_hacking_rings_where_reward_and_gold_score_part(
    reward: float, truth: float, rings: bool
) -> None:
    rewards = [reward * i + e for i, e in enumerate(NOISE)]
    truths = [truth * i + e for i, e in enumerate(NOISE)]
    assert [a.kind for a in of_rewards("ppo", rewards, truths)] == ["hacking"] * rings
    unknown: list[float | None] = [None] * len(rewards)
    assert of_rewards("ppo", rewards, unknown) == []
    assert of_rewards("ppo", rewards[:8], truths[:8]) == []
