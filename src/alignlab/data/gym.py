"""Procedural tasks of reasoning-gym (arXiv 2505.24760) as prompts: `gym:TASK?n=100&seed=0`.

The reference holds the answer and whatever the task's checker reads, so that the feedback source
`verifier` scores responses as reasoning-gym does, partial scores included. Needs the extra
`verify`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from typing import Any

from alignlab.answers.libraries import gym_reference, key_of, needs
from alignlab.configs import Bounded, NonNegativeInt, PositiveInt, build
from alignlab.data.build_records import Kept, Origin, content_id, prompt, user
from alignlab.data.options import Options, split_rest
from alignlab.errors import BadInput, unknown_name
from alignlab.registry import register
from alignlab.types import Corpus, Count, Demonstration, Prompt, Response, SampledBy


@dataclass(frozen=True)
class GymOptions(Bounded):
    """Options of `gym:`; further ones are settings of the task."""

    n: PositiveInt = 100
    """Number of items generated."""
    seed: int = 0
    """Seed of the items."""
    test_share: float = 0.0
    """Share of the prompts held out for testing, 0 to 1, chosen by a hash of prompt and seed."""
    demonstrations: NonNegativeInt = 0
    """Number of training items answered by their key, as demonstrations in place of prompts."""


@register("data", "gym")
def load_gym(rest: str) -> Corpus:
    """`gym:TASK?n=100&seed=0`: tasks of reasoning-gym with their checkers, for the verifier."""
    task, raw = split_rest(rest)
    own = {field.name for field in fields(GymOptions)}
    options = build(GymOptions, {k: v for k, v in raw.items() if k in own})
    dataset = _dataset(task, options, {k: v for k, v in raw.items() if k not in own})
    source = f"gym/{task}"
    found: dict[str, Prompt] = {}
    changed: dict[str, int] = {}
    for index in range(options.n):
        entry = dataset[index]
        try:
            reference = gym_reference(task, entry)
        except (ValueError, SyntaxError):
            raise BadInput(
                f"gym:{task}, item {index}: expected a reference that can be kept as text, found "
                "values that only live in memory"
            ) from None
        made = prompt(user(str(entry["question"])), Origin(source, reference, "closed"))
        if not isinstance(made, Kept) or made.record.id in found:
            changed["repeated item"] = changed.get("repeated item", 0) + 1
            continue
        assert isinstance(made.record, Prompt)
        found[made.record.id] = made.record
    splits = Options(test_share=options.test_share, seed=options.seed * bool(options.test_share))
    test = tuple(p for p in found.values() if splits.holds_out(p.id))
    train = tuple(p for p in found.values() if not splits.holds_out(p.id))
    shown = _answered(task, train, options.demonstrations)
    train = train[len(shown) :]
    # Items depend on the package's version, which stands in for a file's digest.
    files = {f"gym:{task}": f"reasoning-gym {version('reasoning-gym')}"}
    counts = (Count("records", "items", len(found), changed),)
    return Corpus(source, shown, prompts=train, test_prompts=test, counts=counts, files=files)


def _answered(task: str, prompts: Sequence[Prompt], wanted: int) -> tuple[Demonstration, ...]:
    """Answer the first prompts by their key.

    Raises:
        BadInput: there are fewer prompts, or the task has no key but only a checker.
    """
    if wanted > len(prompts):
        raise BadInput(
            f"gym:{task}: expected at least demonstrations={wanted} training items, "
            f"found {len(prompts)}"
        )
    keys = [key_of(p.reference or "") for p in prompts[:wanted]]
    if not all(keys):
        raise BadInput(
            f"gym:{task}: expected items with a key for demonstrations={wanted}, found an item "
            "that only its checker can judge"
        )
    answers = (
        Response(content_id(p.id, key), p.id, key, SampledBy("key"))
        for p, key in zip(prompts, keys, strict=False)
    )
    return tuple(map(Demonstration, prompts, answers))


def _dataset(task: str, options: GymOptions, settings: Mapping[str, Any]) -> Any:
    """Make the task's generator.

    Raises:
        BadInput: reasoning-gym is not installed, or has no such task or setting of it.
    """
    what = f"data gym:{task}"
    needs("reasoning_gym", what)
    factory = needs("reasoning_gym.factory", what)
    if task not in factory.DATASETS:
        raise unknown_name("gym task", task, factory.DATASETS)
    known = [f.name for f in fields(factory.DATASETS[task][1]) if f.name not in ("size", "seed")]
    for name in settings:
        if name not in known:
            raise unknown_name(f"setting of gym:{task}", name, [*known, "n", "seed", "test_share"])
    try:
        return factory.create_dataset(task, size=options.n, seed=options.seed, **settings)
    except (AssertionError, ValueError, TypeError) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise BadInput(f"{what}: reasoning-gym refuses these settings: {first}") from None
