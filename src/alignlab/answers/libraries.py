"""Checks by math-verify, if-verifiable and reasoning-gym; each needs the extra `verify`."""

from __future__ import annotations

import ast
import json
import threading
import warnings
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib import import_module
from typing import Any

from alignlab.errors import BadInput

INSTRUCTIONS, GYM = "instruction_id_list", "gym"
"""Keys by which a reference in JSON names its checker."""


def needs(module: str, what: str) -> Any:
    """Import a module of the extra `verify`.

    Raises:
        BadInput: the module is not installed.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return import_module(module)
    except ImportError as error:
        package = module.partition(".")[0].replace("_", "-")
        raise BadInput(
            f"{what}: needs {package} ({error}); install it with: pip install 'alignlab[verify]'"
        ) from None


def formulas(text: str, what: str = "mathematics") -> list[Any]:
    """Parse the last formula of a text with math-verify; empty where none can be read."""
    timeout = 5 if threading.current_thread() is threading.main_thread() else None
    parsed: list[Any] = needs("math_verify", what).parse(text, parsing_timeout=timeout)
    return parsed


@lru_cache(maxsize=4096)
def formula(text: str) -> list[Any]:
    """Parse a text that is one formula, with or without dollar signs around it."""
    return formulas(text if "$" in text or "\\boxed" in text else f"${text.strip()}$")


def same_formula(reference: Sequence[Any], answer: Sequence[Any]) -> bool:
    """Compare parsed formulas with math-verify, which treats reference and answer differently."""
    timeout = 5 if threading.current_thread() is threading.main_thread() else None
    verify = needs("math_verify", "mathematics").verify
    return bool(verify(list(reference), list(answer), timeout_seconds=timeout))


def structured(reference: str) -> Mapping[str, Any] | None:
    """Return a reference in JSON that names a checker; None for a text."""
    if not reference.lstrip().startswith("{"):
        return None
    try:
        values = json.loads(reference)
    except ValueError:
        return None
    known = isinstance(values, dict) and (GYM in values or INSTRUCTIONS in values)
    return values if known else None


def reference_words(reference: str | None) -> str:
    """Return a reference as people read it: of a structured one, the answer, if it has one."""
    values = structured(reference or "")
    return str((values or {}).get("answer") or reference or "")


def key_of(reference: str) -> str:
    """Return a reference as an answer to imitate; empty for instructions."""
    values = structured(reference)
    return reference if values is None else str(values.get("answer") or "")


def instructions_followed(
    values: Mapping[str, Any], prompt: str, response: str
) -> list[bool] | str:
    """Check the instructions of an IFEval or IFBench record, strictly, one by one.

    Returns:
        A flag per instruction, or the reason why they cannot be checked.
    """
    what = "instructions"
    known: dict[str, Any] = {}
    for kind in ("ifbench", "ifeval"):
        registry = needs(f"if_verifiable.{kind}.instructions_registry", what)
        known |= registry.INSTRUCTION_DICT
    names = list(values[INSTRUCTIONS])
    arguments = list(values.get("kwargs") or []) or [{}] * len(names)
    strange = [name for name in names if name not in known]
    if strange or not names:
        return f"unknown instruction {strange[0]!r}" if strange else "no instruction in reference"
    if not response.strip():
        return [False] * len(names)
    # Without a seed, one text is taken for another language from call to call.
    needs("langdetect", what).DetectorFactory.seed = 0
    results: list[bool] = []
    try:
        for name, given in zip(names, arguments, strict=True):
            checker, some = known[name](name), given or {}
            checker.build_description(**some)
            # Checkers draw an argument that is missing at random.
            for key in checker.get_instruction_args_keys():
                if some.get(key) is None and key != "prompt":
                    return f"instruction {name!r} without its argument {key!r}"
            if "prompt" in (checker.get_instruction_args() or ()):
                checker.build_description(prompt=prompt)
            results.append(bool(checker.check_following(response)))
    except Exception as error:  # checkers raise whatever a bad argument or missing data leads to
        lines = (line.strip("* ") for line in str(error).splitlines())
        return f"if-verifiable: {type(error).__name__}: {next(filter(None, lines), '')}"
    return results


def gym_reference(task: str, entry: Mapping[str, Any]) -> str:
    """Write the reference of a task of reasoning-gym: its answer, and what its checker reads.

    Raises:
        ValueError: the entry holds values that cannot be read back.
    """
    metadata = repr(entry["metadata"])
    ast.literal_eval(metadata)
    answer = entry["answer"]
    return json.dumps({GYM: task, "answer": answer, "metadata": metadata})


def gym_score(values: Mapping[str, Any], prompt: str, answer: str) -> float | str:
    """Score an answer by the checker of its task, 0 to 1, or return why it cannot be scored."""
    task = str(values[GYM])
    try:
        metadata = ast.literal_eval(values["metadata"])
    except (ValueError, SyntaxError, KeyError):
        return "reference without readable metadata"
    score = gym_checker(task)
    entry = {"question": prompt, "answer": values.get("answer"), "metadata": metadata}
    try:
        return float(score(answer=answer, entry=entry))
    except Exception as error:  # checkers raise on answers that they do not expect
        return f"reasoning-gym {task}: {type(error).__name__}: {str(error).splitlines()[:1]}"


@cache
def gym_checker(task: str) -> Any:
    """Return the checker of a task of reasoning-gym.

    Raises:
        BadInput: reasoning-gym is not installed, or has no such task.
    """
    gym = needs("reasoning_gym", f"reference of gym task {task!r}")
    try:
        return gym.get_score_answer_fn(task)
    except ValueError:
        raise BadInput(f"reference of gym task {task!r}: reasoning-gym has no such task") from None
