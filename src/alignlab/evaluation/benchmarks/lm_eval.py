"""Tasks of lm-evaluation-harness (GSM8K, MMLU, TruthfulQA and others) on a local model.

The harness prompts and scores; this file starts it and converts its figures to rows. Its data come
from the hub; without a network, a task can be pointed at local rows in the hub's layout
(`files.gsm8k=test.jsonl,train.jsonl`) or at a copy of the hub's data set (`files.mmlu=FOLDER`).
Few-shot figures measure how well a model continues a pattern: a chat model may do worse here than
in a chat.
"""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import yaml

from alignlab.configs import Bounded, NonNegativeInt, PositiveInt
from alignlab.errors import BadInput, RunFailed
from alignlab.evaluation.metrics.intervals import Interval, wilson
from alignlab.evaluation.result_rows import Subject
from alignlab.evaluation.tasks import BenchmarkInputs, Findings, Needs, Question
from alignlab.registry import register
from alignlab.types import EvalResult

NAME = "lm_eval"
GROUP = "alignlab"
NORMAL = 1.96
"""Standard errors of a 95% normal interval."""
SHARES = ("acc", "exact_match", "f1", "mc1", "mc2", "pass")
"""Prefixes of the harness's metrics between 0 and 1."""
OPEN_LLM = "open_llm"
SETS: Mapping[str, Mapping[str, int]] = MappingProxyType(
    {
        OPEN_LLM: {
            "arc_challenge": 25,
            "hellaswag": 10,
            "mmlu": 5,
            "truthfulqa_mc2": 0,
            "winogrande": 5,
            "gsm8k": 5,
        }
    }
)
"""Name -> tasks with their numbers of solved examples; the Open LLM Leaderboard (2023)."""


@register("benchmark", NAME)
@dataclass(frozen=True)
class LmEval(Bounded):
    """Tasks of lm-evaluation-harness by name, gsm8k,mmlu,truthfulqa_mc2 for example."""

    tasks: str = "gsm8k,mmlu,truthfulqa_mc2"
    """Tasks by the harness's names, separated by commas; open_llm is the Open LLM Leaderboard's six
    with its numbers of solved examples."""
    shots: NonNegativeInt | None = None
    """Solved examples shown; by default the task's (or the leaderboard's) own number."""
    items: NonNegativeInt = 0
    """Items taken of each task, the first ones; 0 takes all. A part's figures do not compare."""
    batch_size: PositiveInt = 8
    """Items per batch."""
    chat: bool = False
    """Format the questions with the model's chat template."""
    files: dict[str, str] = field(default_factory=dict)
    """Task -> local JSONL file of its questions, or these and the file of its solved examples with
    a comma between, in the hub's layout; or the folder of a copy of the hub's data set."""

    needs: ClassVar[Needs] = Needs(data="", models="itself")

    def __post_init__(self) -> None:
        super().__post_init__()
        strangers = self.files.keys() - {name for name, _ in self._shown()}
        if strangers:
            raise BadInput(f"files.{min(strangers)}: has no effect: tasks={self.tasks}")
        for name, file in self.files.items():
            for part in _paths(file):
                if not part.exists():
                    raise BadInput(f"files.{name}: {part}: no such file or folder")

    def questions(self, data: None) -> list[Question]:
        """Return no questions: the harness has its own."""
        return []

    def measure(self, inputs: BenchmarkInputs) -> Findings:
        """Run the tasks on every model; answers are stored in the run's cache.

        Raises:
            BadInput: the harness is not installed, or a task or a file is unknown.
            RunFailed: the harness failed (no network for its data, say).
        """
        rows: list[EvalResult] = []
        for name, folder in inputs.models:
            rows += self._rows(name, self._run(name, folder, inputs))
        return Findings(tuple(rows))

    def _shown(self) -> list[tuple[str, int | None]]:
        """List every task with its number of solved examples; None is the task's own number."""
        names = [task.strip() for task in self.tasks.split(",") if task.strip()]
        found: list[tuple[str, int | None]] = []
        for name in names:
            found += SETS[name].items() if name in SETS else [(name, None)]
        return [(name, shots if self.shots is None else self.shots) for name, shots in found]

    def _run(self, name: str, folder: str, inputs: BenchmarkInputs) -> Mapping[str, Any]:
        try:
            import lm_eval
            import torch
            from lm_eval.tasks import TaskManager
        except ImportError:
            raise BadInput(
                "lm_eval: expected lm-evaluation-harness; pip install 'alignlab[lm-eval]'"
            ) from None
        from alignlab.models.load import merged_folder

        cache = None if inputs.cache is None else str(inputs.cache / f"lm-eval-{name}")
        try:
            groups = frozenset(TaskManager().all_groups)
            with tempfile.TemporaryDirectory() as local, merged_folder(folder) as whole:
                found: Mapping[str, Any] | None = lm_eval.simple_evaluate(
                    model="hf",
                    model_args={"pretrained": str(whole), "use_safetensors": True},
                    tasks=[GROUP],
                    task_manager=TaskManager(include_path=self._describe(local, groups)),
                    limit=self.items or None,
                    batch_size=self.batch_size,
                    apply_chat_template=self.chat,
                    device="cuda" if torch.cuda.is_available() else "cpu",
                    use_cache=cache,
                    random_seed=inputs.seed,
                    numpy_random_seed=inputs.seed,
                    torch_random_seed=inputs.seed,
                    fewshot_random_seed=inputs.seed,
                    log_samples=False,
                )
        except (ConnectionError, FileNotFoundError) as error:
            raise BadInput(
                f"lm_eval: a task's data is not here: {_line(error)}; get it from "
                "huggingface.co/datasets (with a network the harness does), or say files.TASK=PATH"
            ) from None
        except (KeyError, ValueError, AssertionError) as error:
            raise BadInput(f"lm_eval: {_line(error)}") from None
        except (OSError, RuntimeError) as error:
            raise RunFailed(f"lm_eval: {_line(error)}") from error
        assert found is not None  # only helper processes of a distributed run get none
        return found

    def _describe(self, folder: str, groups: Collection[str]) -> str:
        """Write a group file of all tasks, each with its number of examples and its local data.

        Args:
            groups: names of the harness's groups of tasks (mmlu), passed as they are.
        """
        members = []
        for name, shots in self._shown():
            member: dict[str, Any] = {"group" if name in groups else "task": name}
            member |= self._local(name)
            members.append(member if shots is None else member | {"num_fewshot": shots})
        described = yaml.safe_dump({"group": GROUP, "task": members})
        (Path(folder) / f"{GROUP}.yaml").write_text(described, encoding="utf-8")
        return folder

    def _local(self, name: str) -> dict[str, Any]:
        """Return the settings of a task that reads local data instead of the hub's."""
        if name not in self.files:
            return {}
        paths = [str(path.resolve()) for path in _paths(self.files[name])]
        if Path(paths[0]).is_dir():
            return {"dataset_path": paths[0]}
        # Each task has its own names of the splits; those that it does not know are left alone.
        splits = dict.fromkeys(("test", "validation"), paths[0])
        splits |= dict.fromkeys(("train", "dev"), paths[1]) if len(paths) > 1 else {}
        return {
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": splits},
        }

    def _rows(self, model: str, found: Mapping[str, Any]) -> list[EvalResult]:
        """Build one row per task, metric and filter, with the harness's own standard error."""
        rows = []
        for task, figures in found["results"].items():
            n = _items(found, task)
            for key, value in figures.items():
                metric, comma, filter_ = key.partition(",")
                if not comma or metric.endswith("_stderr") or not isinstance(value, int | float):
                    continue
                error = figures.get(f"{metric}_stderr,{filter_}")
                label = f"{task} {metric}" + ("" if filter_ == "none" else f" ({filter_})")
                row = Subject(model, NAME).row(label, _interval(metric, float(value), error, n))
                rows.append(replace(row, comparable=False) if self.items else row)
        return rows


def _items(found: Mapping[str, Any], task: str) -> int:
    """Count the items of a task, or of all tasks of a group."""
    parts = [part for part in found.get("group_subtasks", {}).get(task, []) if part != task]
    if parts:
        return sum(_items(found, part) for part in parts)
    return int(found.get("n-samples", {}).get(task, {}).get("effective", 0))


def _paths(files: str) -> list[Path]:
    return [Path(part.strip()) for part in files.split(",")]


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


def _interval(metric: str, value: float, error: Any, n: int) -> Interval:
    """Convert the harness's standard error to a 95% interval, within 0 and 1 for a share."""
    if not isinstance(error, int | float) or isinstance(error, bool) or n == 0:
        return Interval(value, None, None, n)
    if not metric.startswith(SHARES) or not 0 <= value <= 1:
        return Interval(value, value - NORMAL * error, value + NORMAL * error, n)
    # As many trials as the error amounts to; where all items are alike, it shows too little.
    trials = value * (1 - value) / error**2 if error and 0 < value < 1 else n
    between = wilson(value * trials, trials)
    return Interval(value, between.low, between.high, n)
