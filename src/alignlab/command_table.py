"""List the commands of the command line and the functions behind them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from alignlab import source
from alignlab.api import settings as known
from alignlab.api.settings import FILES, Settings
from alignlab.source import Place

BENCHMARK = "NAME"
"""Name in the help of the command that runs any benchmark."""


@dataclass(frozen=True)
class Command:
    """Command and the function behind it."""

    name: str
    """Name of the command, after its group's name if it has one."""
    place: Place
    example: str
    arguments: tuple[str, ...] = ()
    """Positional parameters; others are options."""
    settings: Callable[[Mapping[str, Any]], Settings] | None = None
    """Function that describes the settings for `--options`, by the values given."""
    required: tuple[str, ...] = ()
    """Parameters that only Python may omit."""


def _api(module: str, name: str) -> Place:
    return Place(f"alignlab.api.{module}", name)


def _recipe_or_objective(values: Mapping[str, Any]) -> Settings:
    name = values["recipe"]
    return known.training(name) if known.is_objective(name) else _recipe(values)


def _recipe(values: Mapping[str, Any]) -> Settings:
    given = known.given(values["config"], values["overrides"] or (), {})
    if values["model"]:
        given["model"] = values["model"]
    return known.recipe(values["recipe"], given)


COMMANDS = (
    Command("demo", _api("studies", "demo"), "demo --out runs/demo --seed 0"),
    Command(
        "run", _api("studies", "run"),
        "run self_rewarding model=./my-model data=oasst:trees.jsonl.gz iterations=2 out=runs/mine",
        ("recipe",), _recipe,
    ),
    Command(
        "check", _api("studies", "check"),
        "check compare_feedback model=./my-model strong=openai:gpt-x@URL "
        "measure.judge=llm:openai:gpt-y@URL",
        ("recipe",), _recipe_or_objective,
    ),
    Command(
        "train", _api("training", "train"),
        "train dpo --model ./my-model --data 'pairs.jsonl?test_share=0.1' --out runs/dpo lr=1e-6 "
        "objective.beta=0.3",
        ("objective",), lambda values: known.training(values["objective"]),
    ),
    Command(
        "generate", _api("generating", "generate"),
        "generate --model ./my-model --prompts prompts.jsonl --out answers.jsonl n=4",
        settings=lambda values: known.generation(),
    ),
    Command(
        "judge", _api("judging", "judge"),
        "judge --judge llm,samples=3:openai:gpt-x@URL --responses answers.jsonl "
        "--out judged.jsonl to=groups",
        settings=lambda values: known.judging(values["judge"] or ""), required=("responses",),
    ),
    Command(
        "reward", _api("judging", "reward"),
        "reward --reward reward_model:./my-reward --responses answers.jsonl --out scored.jsonl",
        settings=lambda values: known.judging(values["reward"] or ""), required=("responses",),
    ),
    Command(
        "judge-card", _api("judging", "judge_card"),
        "judge-card pairwise:openai:gpt-4@URL --data people.jsonl --out runs/card n=100",
        ("judge",), lambda values: known.judge_card(),
    ),
    Command(
        "train-classifier", _api("training", "train_classifier"),
        "train-classifier query_types --model minilm --data labelled.jsonl --out types "
        "test=more.jsonl",
        ("what",), lambda values: Settings(source.describe(known.QUERY_TYPES)),
    ),
    Command(
        "export", _api("exporting", "export"), "export runs/dpo my-model --dtype bfloat16",
        ("model", "out"),
    ),
    Command("report", _api("studies", "print_report"), "report runs/demo --csv > demo.csv"),
    Command(
        "compare", _api("studies", "compare"),
        "compare runs/demo runs/idea --map 'M2 self-reward (expected score):M2'",
    ),
    Command("view", Place("alignlab.commands.view", "view"), "view runs --port 8000", ("folder",)),
    Command(
        "annotate", Place("alignlab.commands.annotate", "annotate"),
        "annotate runs/demo anna.jsonl --format ranking limit=50",
        ("source", "out"), lambda values: known.sheet(),
    ),
    Command("list", Place("alignlab.commands.list", "list_parts"), "list recipes", ("what",)),
    Command("doctor", Place("alignlab.commands.doctor", "doctor"), "doctor"),
    Command(
        "data check", _api("data", "check_data"), "data check preferences.jsonl", ("spec",)
    ),
    Command(
        "data convert", _api("data", "convert_data"),
        "data convert oasst:trees.jsonl out.jsonl", ("source", "out"),
    ),
    Command(
        "annotations export", Place("alignlab.commands.feedback", "export"),
        "annotations export answers.jsonl sheet.csv --format ranking limit=100",
        ("source", "out"), lambda values: known.sheet(),
    ),
    Command(
        "annotations import", Place("alignlab.commands.feedback", "import_"),
        "annotations import anna.csv ben.csv --key sheet.csv.key.jsonl --out groups.jsonl",
    ),
    Command(
        "evaluate judge_scores", Place(*FILES["judge_scores"]),
        "evaluate judge_scores --scores M1.jsonl.gz --reference reference.jsonl.gz",
    ),
    Command(
        "evaluate reread", Place(*FILES["reread"]),
        "evaluate reread --scores M1.jsonl.gz --list",
    ),
    Command(
        "evaluate alpaca_eval", Place(*FILES["alpaca_eval"]),
        "evaluate alpaca_eval --annotations annotations.json --difficulty difficulty.csv "
        "--gamed df_gamed.csv",
    ),
    Command(
        "evaluate arena_hard", Place(*FILES["arena_hard"]),
        "evaluate arena_hard --annotations model_judgment/gpt-4.1/my-model.jsonl",
    ),
    Command(
        "evaluate human_eval", Place(*FILES["human_eval"]),
        "evaluate human_eval --annotations eval_annotations.xlsx",
    ),
    Command(
        "evaluate second_judge", Place(*FILES["second_judge"]),
        "evaluate second_judge --run runs/demo --judge reward_model:./rm --out runs/second",
    ),
    Command(
        "evaluate win_rates", Place(*FILES["win_rates"]),
        "evaluate win_rates --run runs/demo --people people.jsonl",
    ),
    Command(
        f"evaluate {BENCHMARK}", _api("evaluating", "evaluate"),
        "evaluate vicuna_bench --data question.jsonl --model ./my-model --baseline "
        "their_answers.jsonl --judge pairwise:openai:gpt-4@URL --out runs/vicuna",
        ("benchmark",), lambda values: known.evaluation(values["benchmark"]),
    ),
)  # fmt: skip
