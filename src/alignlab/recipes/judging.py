"""Name the judge that measures a study, and compare it with the study's teachers and models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from alignlab import registry
from alignlab.context import resolve_model
from alignlab.errors import BadInput
from alignlab.files import file_digest
from alignlab.models.facts import model_facts
from alignlab.specs import split

SELF = "self"
AUTO = "auto"
"""Value of `measure.judge` before a judge is named."""
SANDBOX = "sandbox"


def require_named(teachers: Mapping[str, str]) -> None:
    """Refuse the study's own M1 as an unnamed judge where teachers take part.

    Args:
        teachers: setting -> spec of every teacher and critic that is not the study's own model.

    Raises:
        BadInput: there is a teacher.
    """
    if teachers:
        listed = ", ".join(f"{setting}={spec}" for setting, spec in teachers.items())
        raise BadInput(
            f"setting measure.judge: expected the judge that measures a study with a teacher "
            f"({listed}), found none; name one: measure.judge=llm:openai:MODEL@URL, "
            "expected:local:FOLDER, reward_model:FOLDER, longer, or expected:self for the study's "
            "own M1"
        )


MODEL_FREE = ("human", "metric", "python", "verifier")
"""Feedback sources whose spec goes on after a colon and names no model."""


def judge_note(judge: str, teachers: Mapping[str, str], model: str) -> str:
    """Describe a measuring judge in one or two sentences, and who else is the same model.

    Args:
        judge: feedback source that measures the study; empty if none does.
        teachers: setting -> spec of every teacher and critic.
        model: the study's base model.
    """
    if not judge:
        return ""
    own = engine_of(judge)
    if own == SELF:
        return (
            f"Judged by the study's own M1 ({judge}), from which the compared models descend: it "
            "may prefer its own habits."
        )
    note = f"Judged by {judge}{_size(own)}."
    if own.partition(":")[0].partition(",")[0] in MODEL_FREE:
        same, what = [name for name, spec in teachers.items() if spec == judge], "measure"
    else:
        same, what = [n for n, s in teachers.items() if same_model(own, engine_of(s))], "model"
    if same:
        roles = " and ".join(same)
        note += f" Judge and {roles} are one {what}: it measures what it taught or preferred."
    if same_model(own, f"local:{resolve_model(model).path}"):
        note += " Judge and base model are one model: it may prefer its own habits."
    return note


def is_engine(spec: str) -> bool:
    """Return whether a spec names an engine, and no feedback source: `local:M`, not `verifier`."""
    name = spec.partition(":")[0].partition(",")[0]
    return name in registry.names("engine") or name not in registry.names("feedback")


def engine_of(spec: str) -> str:
    """Return the engine in a spec: `llm,samples=3:openai:M@URL?x=1` -> `openai:M@URL`.

    A learned reward or classifier of a folder is a local model; `self` and sources without a model
    stay as they are.
    """
    sources, engines = registry.names("feedback"), registry.names("engine")
    text, learned = spec, False
    while ":" in text:
        name = text.partition(":")[0].partition(",")[0]
        if name in engines or name not in sources or name in MODEL_FREE:
            break
        text, learned = text.partition(":")[2], True
    head = split(text).head
    known = head.partition(":")[0] in engines or head == SELF
    return f"local:{head}" if learned and not known else head


def same_model(one: str, other: str) -> bool:
    """Return whether two engines are one model: by weights, by name, or by folder and name."""
    (kind, name), (kind_, name_) = _identity(one), _identity(other)
    if not name or not name_:
        return False
    if kind == kind_ == "folder":
        return name == name_ or _equal_weights(Path(name), Path(name_))
    return _last(name) == _last(name_)


def _identity(engine: str) -> tuple[str, str]:
    """Return "folder" and its path, "name" and a served model's name, or empty texts."""
    kind, _, rest = engine.partition(":")
    if not rest:
        return "", ""
    if kind in ("local", "vllm"):
        path = Path(rest).expanduser()
        return ("folder", str(path.resolve())) if path.exists() else ("name", rest)
    return "name", f"{kind}:{rest}" if kind == SANDBOX else rest.partition("@")[0]


def _last(name: str) -> str:
    return name.rstrip("/").rpartition("/")[2].casefold().removesuffix(".gguf")


def _equal_weights(one: Path, other: Path) -> bool:
    """Return whether two folders hold the same weight files, by size and then by digest."""
    files, others = (sorted(folder.glob("*.safetensors")) for folder in (one, other))
    if not files or [f.stat().st_size for f in files] != [f.stat().st_size for f in others]:
        return False
    return [file_digest(f) for f in files] == [file_digest(f) for f in others]


def _size(engine: str) -> str:
    """Return ", 0.49B parameters" of a local model, empty for others."""
    kind, name = _identity(engine)
    if kind != "folder":
        return ""
    try:
        parameters = model_facts(name).parameters
    except (BadInput, OSError):
        return ""
    return f", {parameters / 1e9:.2g}B parameters"
