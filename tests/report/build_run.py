"""A made-up run directory with everything that a report can show."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path

from alignlab.records import to_dict, to_line
from alignlab.seeds import generator
from alignlab.types import (
    Audit,
    Count,
    DisplayedAnswer,
    EvalResult,
    Example,
    Feedback,
    Message,
    Preference,
    Prompt,
    Score,
    StudyDescription,
    Unscored,
)

HOSTILE = '</script><script>document.title="taken"</script><img src=x onerror=alert(1)> & "quotes"'
MODELS = {
    "M1": "M0 tuned on instructions and judgements",
    "M2": "M1 after one round of self-reward",
    "M3": "M2 after another round",
    "teacher reward": "M1, answers judged by a strong teacher, DPO",
    "teacher demonstration": "M1, teacher's answer preferred to its own, DPO",
    "random judge": "M1, DPO on random preferences: the control",
    "length reward": "M1, reinforced for length alone",
}
RATES = {
    "M2": (0.555, 0.52, 0.59),
    "M3": (0.52, 0.48, 0.56),
    "teacher reward": (0.63, 0.592, 0.667),
    "teacher demonstration": (0.629, 0.59, 0.668),
    "random judge": (0.478, 0.441, 0.516),
    "length reward": (0.35, 0.31, 0.39),
}
SCORES = {
    "M1": 3.58,
    "M2": 3.78,
    "M3": 3.76,
    "teacher reward": 3.98,
    "teacher demonstration": 3.99,
    "random judge": 3.51,
    "length reward": 3.08,
}
FAMILIES = ("describe", "tell", "list", "compare", "fact", "check")
SEEDS = (0, 1, 2)


def build_run(path: Path) -> Path:
    """Write the run; returns its directory."""
    path.mkdir(parents=True, exist_ok=True)
    _json(path / "manifest.json", _manifest())
    (path / "config.yaml").write_text(
        "recipe: compare\nmodel: sandbox:knows_all\ndata: sandbox\nseeds: [0, 1, 2]\n"
        "dpo:\n  lr: 0.0001\n  beta: 0.5\n"
    )
    study = StudyDescription(
        "compare",
        "Does feedback from a teacher improve a small model more than its own?",
        "M1",
        MODELS,
    )
    _json(path / "study.json", to_dict(study))
    _events(path / "events.jsonl")
    for seed in SEEDS:
        _seed_stages(path / "stages" / f"seed-{seed}", seed)
    top = path / "stages" / "summary" / "01-evaluate"
    _stage(top, seconds=4.2, calls=0)
    _lines(top / "results.jsonl", results())
    _lines(top / "audit.jsonl", audits())
    _lines(top / "examples.jsonl", examples())
    return path


def results() -> list[EvalResult]:
    """Rows of every kind that the report draws."""
    rows = [
        EvalResult(m, "head_to_head", "win_rate", v, lo, hi, 1188, 12, "M1", None, SEEDS)
        for m, (v, lo, hi) in RATES.items()
    ]
    for model, score in SCORES.items():
        rows.append(_score_row(model, score, None, 1200))
        rows.append(_score_row(model, score + 0.6, "type:closed", 500))
        rows.append(_score_row(model, score - 0.4, "type:open", 700))
        rows += [
            _score_row(model, score + 0.3 * math.cos(i + score), f"family:{name}", 200)
            for i, name in enumerate(FAMILIES)
        ]
    for judge, own, held in (
        ("M1", 0.51, 0.79),
        ("M2", 0.55, 0.81),
        ("teacher", 0.84, 0.93),
        ("random", 0.5, 0.49),
    ):
        for benchmark, accuracy in (("judge_own_samples", own), ("judge_held_out", held)):
            rows += _judge_rows(judge, benchmark, accuracy)
    for model in SCORES:
        rows.append(
            EvalResult(model, "text", "tokens", 31.5, 30.1, 32.8, 1200, 0, None, None, SEEDS)
        )
        rows.append(EvalResult(model, "text", "repetition_4", 0.04, 0.03, 0.05, 1200))
    return rows


def _score_row(model: str, value: float, group: str | None, n: int) -> EvalResult:
    half = 2.4 / math.sqrt(n)
    return EvalResult(
        model, "score", "mean", value, value - half, value + half, n, 0, None, group, SEEDS
    )


def _judge_rows(judge: str, benchmark: str, accuracy: float) -> list[EvalResult]:
    rho = 1.8 * (accuracy - 0.5)
    figures = {
        "pairwise_accuracy": accuracy - 0.06,
        "pairwise_accuracy_ties_half": accuracy,
        "spearman": rho,
        "kendall_tau": rho * 0.85,
    }
    return [
        EvalResult(judge, benchmark, name, v, v - 0.05, v + 0.05, 980, 14, None, None, SEEDS)
        for name, v in figures.items()
    ]


def audits() -> list[Audit]:
    """Rewards that follow the truth by degrees."""
    rng = generator("audits")
    found = []
    for source, follow in (("llm:M1", 0.15), ("expected:M1", 0.5), ("llm:teacher", 0.9)):
        for i in range(300):
            truth = float(rng.integers(0, 6))
            reward = follow * truth + (1 - follow) * float(rng.uniform(0, 5))
            reward = reward if source.startswith("expected") else float(round(reward))
            unread = source == "llm:M1" and i % 20 == 0
            found.append(Audit(f"r{i}", "M1", source, None if unread else reward, truth, f"p{i}"))
    return found


def examples() -> list[Example]:
    """Prompts of several kinds; one of them tries to break the page."""
    found = []
    for i in range(12):
        closed = i % 2 == 1
        family = FAMILIES[i % len(FAMILIES)]
        text = f"Tell me about the town of Velmor ({i})." if i else HOSTILE
        prompt = Prompt(
            f"p{i}",
            (Message("user", text),),
            source=f"sandbox/{family}",
            reference="Velmor lies by the sea." if closed else None,
            query_type="closed" if closed else "open",
        )
        answers = [_answer(prompt, m, i) for m in MODELS]
        found.append(Example(prompt, tuple(answers)))
    return found


def _answer(prompt: Prompt, model: str, i: int) -> DisplayedAnswer:
    text = HOSTILE if i == 0 else f"Velmor lies by the sea. Its people make glass. ({model})"
    if model == "length reward":
        text = "Velmor lies by the sea. " * 9
    ids = (f"{prompt.id}-{model}",)
    oracle = Feedback(
        prompt.id, ids, "oracle", Score(4.0), "about Velmor; one fact of two; nothing false"
    )
    judge = Feedback(prompt.id, ids, "llm:M1", Score(3.5, (3.0, 4.0, None)), "Good answer.")
    pair = Feedback(prompt.id, (*ids, "base"), "pairwise:teacher", Preference(0), "More complete.")
    lost = Feedback(prompt.id, ids, "llm:M2", Unscored("no score found"))
    return DisplayedAnswer(
        model, text if i != 3 else " ", (oracle, judge, pair) if i % 3 else (oracle, lost)
    )


def _seed_stages(scope: Path, seed: int) -> None:
    names = ("seed", "sft-m1", "sample", "judge", "pair", "dpo-m2", "evaluate")
    for number, name in enumerate(names, start=1):
        folder = scope / f"{number:02d}-{name}"
        _stage(folder, seconds=2.0 + 3 * number, calls=400 * (name in ("sample", "judge")))
        if name.startswith(("sft", "dpo")):
            _lines_raw(folder / "metrics.jsonl", _training(name, seed))
        if name == "pair":
            dropped = {"equal scores": 112, "unscored": 9}
            _lines(folder / "counts.jsonl", [Count("pair", "pairs", 279, dropped)])
        if name == "evaluate":
            row = EvalResult("M2", "score", "mean", 3.7 + seed / 10, 3.5, 4.0, 400, 0, None, None)
            _lines(folder / "results.jsonl", [row])


def _training(name: str, seed: int) -> list[dict[str, float]]:
    found = []
    for step in range(1, 61):
        wave = 0.05 * math.sin(step * (seed + 2))
        line = {"step": step, "epoch": step / 20, "loss": 0.4 + 1.6 * math.exp(-step / 15) + wave}
        if name.startswith("dpo"):
            line["rewards/accuracies"] = min(1.0, 0.5 + step / 100 + wave)
            line["rewards/margins"] = step / 30
        found.append(line)
    return found


def _stage(folder: Path, *, seconds: float, calls: int) -> None:
    usage = {"prompt_tokens": calls * 40, "tokens": calls * 37 + 1000, "calls": calls}
    status = {"state": "done", "seconds": seconds, "usage": usage, "records": {}}
    _json(folder / "status.json", status)
    _json(folder / "config.json", {"name": folder.name, "config": None, "inputs": {}})


def _manifest() -> dict[str, object]:
    return {
        "recipe": "compare",
        "command": "alignlab run compare model=sandbox:knows_all data=sandbox seeds=0,1,2",
        "seeds": list(SEEDS),
        "versions": {"alignlab": "0.1.0", "torch": "2.13.0", "transformers": "5.23.0"},
        "machine": {"system": "Linux", "python": "3.11.2"},
        "inputs": {"data.jsonl": {"path": "data.jsonl", "sha256": "0" * 64}},
        "counts": [],
        "created": "2025-01-02T03:04:05.000+00:00",
    }


def _events(path: Path) -> None:
    times = [
        ("03:04:05", {"event": "start"}),
        ("03:05:05", {"event": "stage", "stage": "seed-0/01-seed"}),
        ("04:00:00", {"event": "resume"}),
        ("04:02:30", {"event": "done", "stage": "summary/01-evaluate"}),
        ("04:02:31", {"event": "done"}),
    ]
    _lines_raw(path, [{"time": f"2025-01-02T{t}.000+00:00", **event} for t, event in times])


def _json(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def _lines(path: Path, records: Iterable[object]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(to_line(r) for r in records), encoding="utf-8")


def _lines_raw(path: Path, values: Iterable[dict[str, object]] | list[dict[str, float]]) -> None:
    path.write_text("".join(json.dumps(v) + "\n" for v in values))
