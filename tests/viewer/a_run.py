"""Build a small run with known outcomes, by the same code as studies."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from alignlab.measuring.overoptimization import Watched
from alignlab.records import to_line
from alignlab.runs import Run, RunIdentity, slug
from alignlab.training.metrics import MetricsFile
from alignlab.training.rollout_samples import FILE, RolloutSample
from alignlab.types import (
    Audit,
    Count,
    EvalResult,
    Feedback,
    Message,
    Preference,
    PreferenceGroup,
    Prompt,
    Response,
    SampledBy,
    Score,
    StudyDescription,
    Unscored,
    Usage,
    Verdict,
)

HOST = "127.0.0.1:8000"
HOSTILE = '<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">'
TWO = "M2 (3 samples)"


def prompt(n: int, text: str = "") -> Prompt:
    """Return a prompt; even ones are open, odd ones closed."""
    kind = "open" if n % 2 == 0 else "closed"
    words = text or f"Question {n}?"
    return Prompt(f"p/{n}", (Message("user", words),), f"test/family_{n % 3}", query_type=kind)


def response(n: int, model: str, text: str, tokens: int = 5, finish: str = "stop") -> Response:
    """Return a model's answer to a prompt."""
    return Response(f"p/{n}/{model}", f"p/{n}", text, SampledBy(model), tokens, finish)  # type: ignore[arg-type]


def said(n: int, models: tuple[str, ...], verdict: Verdict, *raw: str) -> Feedback:
    """Return a verdict on one or two models' answers."""
    ids = tuple(f"p/{n}/{m}" for m in models)
    return Feedback(f"p/{n}", ids, "judge J", verdict, raw[0] if raw else "", raw)


def build(
    path: Path, n: int = 12, hostile: bool = False, done: bool = True, shift: int = 0
) -> Path:
    """Write a run: M2 wins on prompts 0 to n/2, ties on one, is unscored on one, and loses else.

    Args:
        shift: added to the scores of M2 and, a tenth of it, to the setting beta.
    """
    settings = {"beta": 0.1 + shift / 10, "out": str(path)}
    run = Run.start(path, RunIdentity("compare_feedback", settings, (0,)))
    name = HOSTILE if hostile else TWO
    run.describe(
        StudyDescription("compare_feedback", "Which is better?", "M1", {"M1": "SFT", name: "DPO"})
    )
    planned = [{"stage": f"branch/02-{slug(name)}"}, {"stage": "branch/03-answer"}]
    plan = {"model": "here/m1: llama, 1,500,000 parameters", "data": [], "stages": planned}
    run.change_manifest(plan=plan)
    prompts = [prompt(i, HOSTILE if hostile else "") for i in range(n)]
    with run.stage("seed") as stage:
        stage.write("test_prompts", Prompt, prompts)
        stage.count([Count(stage.name, "prompts", n, {"too long" if not hostile else HOSTILE: 2})])
    texts = {i: HOSTILE if hostile else f"unique{i} words of the second" for i in range(n)}
    first = [response(i, "M1", "the first answer", 8) for i in range(n)]
    second = [response(i, name, texts[i], 4 + i, "length" if i == 3 else "stop") for i in range(n)]
    with run.stage("answer-m1") as stage:
        stage.write("responses", Response, first)
    with run.stage("answer-m2") as stage:
        stage.write("responses", Response, second)
    raw = HOSTILE if hostile else "Score: 3"
    with run.stage("score-m2", inputs={"by": "judge J"}) as stage:
        scores = [
            said(i, (name,), Score(float(s), (float(s), 2.0)), raw, "2")
            for i, s in enumerate((i + shift) % 6 for i in range(n))
        ]
        scores[1] = said(1, (name,), Unscored("no score in any sample"), raw)
        stage.write("feedback", Feedback, scores)
    with run.stage("duel-m2") as stage:
        verdicts: list[Feedback] = []
        for i in range(n):
            won = Preference(0) if i < n // 2 else Preference(1)
            verdict: Verdict = Preference(None) if i == n - 1 else won
            if i == n - 2:
                verdict = Unscored("refused")
            verdicts.append(said(i, (name, "M1"), verdict))
        stage.write("feedback", Feedback, verdicts)
    branch = run.scope("branch")
    with branch.stage("pair") as stage:
        groups = [
            PreferenceGroup(prompts[i], (second[i], first[i]), (2.0, 1.0), "judge J")
            for i in range(4)
        ]
        stage.write("groups", PreferenceGroup, groups)
        stage.count([Count(stage.name, "groups", 4, {"equal scores": 3})])
        stage.spend(Usage(100, 10, 5, 0.25))
    # A run that is under way has a training that is not done.
    with suppress(KeyboardInterrupt), branch.stage(slug(name)) as stage:
        stage.records("metrics", dict)
        (stage.path / "metrics.jsonl").write_text(
            '{"step": 1, "loss": 0.7}\n{"step": 2, "loss": 0.5}\n'
        )
        if not done:
            raise KeyboardInterrupt
    if done:
        with run.stage("results") as stage:
            audits = [
                Audit(f"p/{i}/{name}", name, "judge J", float(i % 6), 3.0, f"p/{i}")
                for i in range(n)
            ]
            audits += [
                Audit(f"p/{i}/M1", "M1", "judge J", 1.0, 3.5 if i < 2 else 1.0) for i in range(4)
            ]
            stage.write("audit", Audit, audits)
            stage.write(
                "results",
                EvalResult,
                [EvalResult(name, "head_to_head", "win_rate", 0.59, 0.3, 0.8, n - 1, 1, "M1")],
            )
        run.finish()
    run.close()
    return path


def build_rollouts(path: Path, truth: Callable[[int], float | None], steps: int = 10) -> Path:
    """Write a run that is training a policy: the reward is 0.1 a step, the length 20 tokens."""
    run = Run.start(path, RunIdentity("rlhf", {"beta": 0.2}, (0,)))
    with run.scope("branch").stage("drift-ppo") as stage:
        file = stage.records("watched", Watched)
        for i in range(1, steps + 1):
            file.append(str(i), [Watched(0.1 * i, truth(i), 8)])
    stage = run.scope("branch").stage("ppo").__enter__()  # never left: still under way
    metrics = MetricsFile(stage.path / "metrics.jsonl", 0)
    for i in range(1, steps + 1):
        line = {"objective/scores": 0.1 * i, "objective/kl": 0.2 * i, "objective/entropy": 40.0}
        metrics.write({"step": i, **line, "completions/mean_length": 20.0})
    samples = [
        RolloutSample(
            i, "p/1", "What is it?", f"{HOSTILE} at {i}", None if i == 2 else 0.5, 20, i > 1
        )
        for i in range(1, steps + 1)
    ]
    (stage.path / FILE).write_text("".join(map(to_line, samples)))
    return path
